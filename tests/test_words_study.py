"""Vectors of words from a command: learnt, judged beside gensim, and under a classifier."""

import json
import pathlib

import numpy as np
import planted
import pytest
import texts
from test_report import Page

import tl_jax
from experiments import cli, config_flag, words
from tl_jax.base.load import load_base
from tl_jax.errors import UserError
from tl_jax.runs.config import load_config
from tl_jax.vectors import judge
from tl_jax.weights import vectors_file
from tl_jax.weights.vectors_file import Vectors

GENSIM = json.loads(
    (pathlib.Path(__file__).parent / "parity_text" / "gensim-words.json").read_text("utf-8")
)
PLANTED = "\n\n".join(planted.texts())


def learnt(workdir, **changes):
    """The exit status of such a study in this process, and its result."""
    config, found = load_config("configs/words_small.py"), {}
    path = workdir.parent / "planted.txt"
    path.write_text(PLANTED)
    small = {"task.name": f"plain:{path}", "least": 1, "maps": (), "cache": ""}
    small |= {"method": "glove", "glove.dim": 8, "glove.window": 2, "glove.epochs": 30}
    config.update_from_flattened_dict(small | changes)

    def main(argv):
        with config_flag.naming_flags(config):
            found.update(config_flag.run("words", config, workdir, "words"))

    return cli.status(main, []), found


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("words") / "run"
    status, result = learnt(workdir)
    assert status == 0
    return workdir, result


def test_it_writes_vectors_and_a_page(done):
    workdir, result = done
    found = vectors_file.read(workdir / "vectors.txt")
    assert planted.apart(found.words, found.rows)
    page = Page((workdir / "report.html").read_text())
    assert "Words of planted" in page.text and "GloVe" in page.text
    for word, near in result["neighbours"].items():
        assert near[0][0] in page.text and all(other[:3] == word[:3] for other, _ in near)
    assert result["words"] == 16 and len(result["losses"]) == 30
    assert not (workdir / "checkpoints").exists()
    assert learnt(workdir)[0] == 0 and learnt(workdir, least=2)[0] == 2  # of another config


def test_a_map_shows_the_words(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tl_jax.studies.words.study.METHODS", {"tsne": lambda rows, seed: rows[:, :2]}
    )
    assert learnt(tmp_path / "run", maps=("tsne",), shown=("SeaA", "hilla"))[0] == 0
    assert ">hilla</text>" in (tmp_path / "run" / "tsne.svg").read_text()
    rows = (tmp_path / "run" / "points.csv").read_text().splitlines()
    assert rows[0] == "word,t-SNE x,t-SNE y" and len(rows) == 17


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"method": "glov"}, "unknown method 'glov'; did you mean 'glove'"),
        ({"glove.window": 0}, "window= takes a whole number"),
        ({"maps": ("pca",)}, "unknown map 'pca'"),
        ({"task.name": "digits"}, "the task 'digits' has none"),
        ({"shown": ("seaaa",)}, "the word 'seaaa' has no vector: it is not among 16; did you mean"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, capsys, changes, why):
    assert learnt(tmp_path / "run", **changes)[0] == 2
    assert why in capsys.readouterr().err


def space():
    return judge.Space(Vectors(tuple(GENSIM["words"]), np.float32(GENSIM["rows"])))


def file(tmp_path, what, lines):
    path = tmp_path / what
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_similarity_is_that_of_gensim(tmp_path):
    found = judge.similarity(space(), file(tmp_path, "pairs.tsv", GENSIM["pairs"]))
    assert found.spearman == pytest.approx(GENSIM["spearman"], abs=1e-6)
    assert 100 * found.missing / 60 == pytest.approx(GENSIM["missing_percent"])
    assert found.pairs + found.missing == 60 and found.low < found.spearman < found.high


def test_comments_may_stand_before_the_names_of_columns(tmp_path):
    lines = ["# people's judgements", "first\tsecond\tscore", *GENSIM["pairs"]]
    found = judge.similarity(space(), file(tmp_path, "pairs.tsv", lines))
    assert found.spearman == pytest.approx(GENSIM["spearman"], abs=1e-6)


def test_analogies_are_those_of_gensim(tmp_path):
    found = judge.analogies(space(), file(tmp_path, "questions.txt", GENSIM["questions"]))
    for name, (right, wrong) in GENSIM["sections"].items():
        section = found.get(name) or judge.totals(found)["all"]
        assert (section.correct, section.asked) == (right, right + wrong)
    totals = judge.totals(found)
    assert totals["semantic"] == found["capital"] and totals["syntactic"] == found["gram1-plural"]
    few = judge.analogies(space(), tmp_path / "questions.txt", most=4)
    assert sum(section.asked for section in few.values()) == 0


def test_neighbours_are_those_of_gensim():
    for word, near in GENSIM["neighbours"].items():
        found = space().neighbours(word, 5)
        assert [other for other, _ in found] == [other for other, _ in near]
        np.testing.assert_allclose([c for _, c in found], [c for _, c in near], rtol=1e-5)


def test_the_interval_of_a_correlation_by_hand():
    """WordSim-353 at 0.5: tanh(atanh(0.5) -+ 1.96 sqrt(1.125 / 350))."""
    low, high = judge.of_spearman(0.5, 353)
    assert (low, high) == (pytest.approx(0.4121, abs=1e-4), pytest.approx(0.5786, abs=1e-4))
    assert np.isnan(judge.of_spearman(0.5, 3)).all()


SCORES = [("ba", "ke", 1), ("li", "no", 2), ("su", "ba", 3), ("ke", "no", 5)]


@pytest.mark.parametrize(
    "lines",
    [
        [f"{a}f\t{b}g\t{s}" for a, b, s in SCORES],
        ["Word 1,Word 2,Human (mean)", *(f"{a}f,{b}g,{s}" for a, b, s in SCORES)],
        ["# a remark", "", *(f"{a}f  {b}g {s}.0" for a, b, s in SCORES)],
        ["word1\tword2\tPOS\tSimLex999\tmore", *(f"{a}f\t{b}g\tN\t{s}\t9" for a, b, s in SCORES)],
    ],
    ids=["tabs", "commas", "spaces", "simlex"],
)  # fmt: skip
def test_every_form_of_pairs_is_read(tmp_path, lines):
    found = list(judge._pairs(file(tmp_path, "pairs", lines)))
    assert found == [(f"{a}f", f"{b}g", s) for a, b, s in SCORES]


@pytest.mark.parametrize(
    ("judged", "lines", "why"),
    [
        (judge.similarity, ["baf keg"], "line 1, has no two words and a number"),
        (judge.similarity, ["baf keg 1", "baf keg x"], "line 2: 'x' is no number"),
        (judge.similarity, ["x y 1"] * 3, "0 of its pairs have vectors, and 3 are needed"),
        (judge.analogies, [": a", "baf keg lif"], "line 2: a question is four words"),
        (judge.analogies, ["baf keg lif nof"], "below a line ': section'"),
        (judge.analogies, [": a"], "has no questions"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, judged, lines, why):
    with pytest.raises(UserError, match=why):
        judged(space(), file(tmp_path, "file", lines))
    with pytest.raises(UserError, match="is no file of pairs or questions"):
        judged(space(), tmp_path / "none")


def test_the_program_judges_a_run(done, tmp_path, capsys):
    pairs = [f"seaa sea{n} 9" for n in "bcd"] + [f"seaa hill{n} 1" for n in "bcd"]
    path = file(tmp_path, "pairs.txt", [*pairs, "seaa zebra 3"])
    given = {"vectors": str(done[0]), "near": ["seaa"], "similarity": str(path)}
    flags = words.flags.FLAGS
    flags(["words", *(f"--{k}={','.join(v) if k == 'near' else v}" for k, v in given.items())])
    try:
        words.main(["words"])
        lines = capsys.readouterr().out.splitlines()
    finally:
        flags.unparse_flags()
    assert lines[0].startswith("seaa: sea")
    assert "over 6 pairs; 1 pairs with a word that has no vector are left out" in lines[1]
    assert 0.8 < float(lines[1].split()[1]) < 1


def test_a_base_of_vectors_reads_words_and_leaves_others_out(done):
    base = load_base("word_vectors", done[0] / "vectors.txt")
    found = vectors_file.read(done[0] / "vectors.txt")
    row = dict(zip(found.words, found.rows, strict=True))
    tokens = base.preprocessing(["SEAA hillb, zebra seaa", "zebra!", "hillh"])
    assert base.layers == ("embed", "pool") and base.architecture.features == 8
    expected = [(2 * row["seaa"] + row["hillb"]) / 3, 0 * row["seaa"], row["hillh"]]
    np.testing.assert_allclose(base.features(tokens), expected, rtol=1e-5, atol=1e-7)


def test_capitals_matter_where_the_file_has_them(tmp_path):
    path = tmp_path / "vectors.vec"
    vectors_file.write(path, Vectors(("US", "us"), np.float32([[1, 0], [0, 1]])))
    base = load_base("word_vectors", path)
    np.testing.assert_array_equal(base.preprocessing(["us US Us"])[0, :3], [2, 1, 0])


def test_it_becomes_a_classifier_and_is_saved(tmp_path):
    own = sorted({word for text in texts.task().texts for word in text.split()})
    rows = np.random.default_rng(0).normal(size=(len(own), 5)).astype(np.float32)
    vectors_file.write(tmp_path / "vectors.txt", Vectors(tuple(own), rows))
    base = load_base("word_vectors", tmp_path / "vectors.txt").resized(16)
    run = tl_jax.transfer(
        base, texts.task(), plan="full", cache=tmp_path, batch_size=8,
        tune={"epochs": 3, "learning_rate": 0.1},
    )  # fmt: skip
    assert run.result["test"]["accuracy"] > 0.8
    table = run.base.variables["params"]["embed"]["table"]
    assert (table[0] == 0).all() and (
        table[1:] != base.variables["params"]["embed"]["table"][1:]
    ).any()
    run.base.save(tmp_path / "model.safetensors")
    again = load_base(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(["very good"]), run.base.predict(["very good"]))
