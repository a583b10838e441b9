"""Captions: metrics, the search, tables of them, and a captioner from its task to its page."""

import dataclasses
import functools
import itertools
import json
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import programs
import pytest
import small
import texts as texts_of_tests
from absl import flags
from absl.testing import flagsaver

import tl_jax
from experiments import cli, predict
from tl_jax import interrupt
from tl_jax.chain import heads
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known, Layer
from tl_jax.chain.telling import Marks, told
from tl_jax.data.tasks import load_task, stamps
from tl_jax.data.texts import captions as texts
from tl_jax.describe import tables
from tl_jax.errors import UserError
from tl_jax.runs import pose
from tl_jax.runs import settings as runs_settings
from tl_jax.runs.wording import with_vectors
from tl_jax.serving import server, stablehlo
from tl_jax.stats import captions as stats
from tl_jax.stats import pairs
from tl_jax.train.objectives import Contrastive

GOLDEN = json.loads(pathlib.Path(__file__).with_name("captions_golden.json").read_text())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{len(case['told'])} images")
def test_bleu_and_cider_are_those_of_cocos_own_code(case):
    refs = case["references"]
    counts = [stats.bleu_counts(*pair) for pair in zip(case["told"], refs, strict=True)]
    found = stats.bleu(np.sum(counts, 0))
    np.testing.assert_allclose(found, case["bleu"], rtol=1e-6)
    if case["nltk"]:
        np.testing.assert_allclose(found, case["nltk"], rtol=1e-6)
    each = stats.cider_d(case["told"], refs)
    np.testing.assert_allclose(each, case["cider_of_each"], rtol=1e-9, atol=1e-12)
    assert each.mean() == pytest.approx(case["cider"])
    told_ = stats.evaluate(case["told"], refs)
    assert told_["cider"] == pytest.approx(case["cider"]) and told_["bleu4"] == found[3]


def test_captions_by_hand():
    """One word of two is right, and the caption is as long as the nearer reference."""
    counts = stats.bleu_counts(["a", "a"], [["a", "b"], ["b", "a", "b"]])
    np.testing.assert_array_equal(counts, [1, 0, 0, 0, 2, 1, 0, 0, 2, 2])
    assert stats.bleu(counts)[:2] == [0.5, 0.0]
    same = [["a", "red", "cat", "sits"], ["the", "big", "dog", "runs"]]
    found = stats.evaluate(same, [[own] for own in same])
    assert found["bleu4"] == 1 and found["exact_captions"] == 1
    assert found["cider"] == pytest.approx(10)  # every cosine is 1
    nothing = stats.evaluate([[], ["a"]], [[["a"]], [["b"]]])
    assert nothing["bleu1"] == nothing["cider"] == nothing["exact_captions"] == 0


def test_ranks_by_hand():
    cosines = np.array([[0.9, 0.5, 0.1], [0.2, 0.2, 0.2], [0.1, 0.3, 0.2]])
    right = np.eye(3, dtype=bool)
    np.testing.assert_array_equal(pairs.ranks(cosines, right), [1, 3, 2])
    found = pairs.recalls(pairs.ranks(cosines, right), at=(1, 2))
    assert found == {"recall_at_1": 1 / 3, "recall_at_2": 2 / 3, "median_rank": 2}


def test_chance_is_what_random_orders_have():
    rng = np.random.default_rng(0)
    same = rng.integers(0, 6, (12, 1))
    _, _, right = pairs.laid_out(np.zeros((12, 2)), np.zeros((12, 1, 2)), same)
    drawn = [pairs.recalls(pairs.ranks(rng.random((12, 12)), right)) for _ in range(300)]
    for k, value in pairs.chance(right).items():
        assert np.mean([one[k] for one in drawn]) == pytest.approx(value, abs=0.04)


VOCABULARY = 5  # none, begin, end, and two words
MARKS = Marks(texts.BEGIN, texts.END, ())


NETWORK = Network((Layer("below", small.GlobalPool(), ("image",)),)).with_layers(
    *heads.make("show_and_tell(features=6)", VOCABULARY)
)


def large_weights(seed):
    """Those of a captioner that is sure of itself."""
    variables = NETWORK.init(seed, {"image": jax.ShapeDtypeStruct((1, 1, 1, 3), jnp.float32)})
    params = jax.tree.map(lambda a: 4 * np.asarray(a), variables["params"])
    bias = np.random.default_rng(seed).normal(size=VOCABULARY) * 2
    params["head"]["dense"]["bias"] = bias.astype(np.float32)
    return params


@functools.partial(jax.jit, static_argnames=("beam", "steps", "length"))
def search(params, images, **how):
    return told(Net(NETWORK, params, {}), {"image": images}, marks=MARKS, **how)


@jax.jit
def logits_of(params, images, words):
    known = Known({"image": images, "words": words})
    return Net(NETWORK, params, {})(known, "head", train=False)[:, 1:]


def log_p_of(params, images, words):
    """The log-probability of each caption (N, T), read whole and not step by step."""
    rows = np.concatenate([np.full((len(words), 1), texts.BEGIN), words[:, :-1]], 1)[:, None]
    logits = np.asarray(logits_of(params, images, np.int32(rows)))
    logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found = np.take_along_axis(logits, words[..., None], 2)[..., 0]
    return np.where(words > 0, found, 0).sum(1)


def every_caption(steps):
    """All that can be told in so many steps: words 3 and 4, then the end if there is room."""
    found = []
    for length in range(steps + 1):
        for words in itertools.product((3, 4), repeat=length):
            ended = [*words, texts.END][:steps]
            found.append(ended + [0] * (steps - len(ended)))
    return np.array(sorted({tuple(row) for row in found}))


@pytest.mark.parametrize("length", [0.0, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_wide_beam_finds_the_best_of_all_captions(seed, length):
    params, steps = large_weights(seed), 3
    images = np.random.default_rng(seed).normal(size=(4, 1, 1, 3)).astype(np.float32)
    found = search(params, images, beam=20, steps=steps, length=length)
    every = every_caption(steps)
    for row, image in enumerate(images):
        values = log_p_of(params, np.repeat(image[None], len(every), 0), every)
        best = (values / (every > 0).sum(1) ** length).argmax()
        np.testing.assert_array_equal(found.words[row], every[best])
        assert float(found.log_p[row]) == pytest.approx(values[best], abs=1e-4)


def test_a_beam_of_one_takes_the_likeliest_word_each_time():
    params, images = large_weights(3), np.random.default_rng(0).normal(size=(5, 1, 1, 3))
    images = images.astype(np.float32)
    found = search(params, images, steps=4, beam=1, length=0.0)
    wider = search(params, images, steps=4, beam=3, length=0.0)
    assert (np.asarray(wider.log_p) >= np.asarray(found.log_p) - 1e-5).all()
    for row, image in enumerate(images):
        words = np.zeros((1, 4), int)
        for step in range(4):
            options = np.repeat(words, VOCABULARY - 2, 0)
            options[:, step] = range(2, VOCABULARY)
            values = log_p_of(params, np.repeat(image[None], len(options), 0), options)
            words = options[values.argmax()][None]
            if words[0, step] == texts.END:
                break
        np.testing.assert_array_equal(found.words[row], words[0])


def table(folder, rows, name="captions.csv"):
    (folder / "in").mkdir(exist_ok=True)
    for number in range(8):
        shade = PIL.Image.new("RGB", (9, 9), (20 * number, 90, 200 - 20 * number))
        shade.save(folder / "in" / f"{number}.png")
    path = folder / name
    path.write_text("image,caption\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


ROWS = [f"in/{n}.png,A {colour} cat." for n, colour in enumerate("red blue red green".split())] + [
    "in/4.png,The dog!", "in/5.png,A tree", "in/6.png,two trees", "in/7.png,a house",
    "in/7.png,The big house",
]  # fmt: skip


def test_a_table_of_captions(tmp_path):
    task = load_task(f"captions:{table(tmp_path, ROWS)}", val=0.2, test=0.2, least=1)
    assert task.captions[7] == ("a house", "The big house") and len(task.ids) == 8
    assert task.asks == "captions" and task.words.shape == (8, 2, 5)
    train = {word for row in task.splits["train"] for c in task.captions[row]
             for word in c.lower().strip(".!").split()}  # fmt: skip
    assert set(task.classes) == {*texts.SPECIALS, *train}
    for row, own in enumerate(task.words[:, 0]):
        said = [w if w in train else "<unknown>" for w in
                task.captions[row][0].lower().strip(".!").split()]  # fmt: skip
        assert [task.classes[n] for n in own if n > 2] == said
        assert own[0] == texts.BEGIN and own[len(said) + 1] == texts.END
    assert (task.words[0, 1] == 0).all()  # it has one caption
    assert task.same[0, 0] == task.same[2, 0] != task.same[1, 0] and task.same[0, 1] == -1


@pytest.mark.parametrize("seed", range(6))
def test_images_with_the_same_caption_are_in_one_split(tmp_path, seed):
    task = load_task(f"captions:{table(tmp_path, ROWS)}", seed=seed, val=0.2, test=0.2)
    of = {int(row): split for split, rows in task.splits.items() for row in rows}
    assert of[0] == of[2]


@pytest.mark.parametrize("seed", range(5))
def test_images_with_the_same_caption_stay_together_beside_a_split_that_is_given(tmp_path, seed):
    parts = ["train", "train", "train", "test", *["train"] * 5]
    path = table(tmp_path, [f"{row},{part}" for row, part in zip(ROWS, parts, strict=True)])
    path.write_text(path.read_text().replace("image,caption", "image,caption,part"))
    task = load_task(f"captions:{path}", split="part", seed=seed, val=0.3)
    of = {int(row): split for split, rows in task.splits.items() for row in rows}
    assert of[3] == "test" and of[0] == of[2]
    assert len(task.splits["val"])


def test_given_splits_stay_and_shared_captions_are_said(tmp_path, caplog):
    rows = [f"{row},{split}" for row, split in zip(
        ROWS, ("test", "train", "train", "val", *["train"] * 5), strict=True)]  # fmt: skip
    path = table(tmp_path, rows)
    path.write_text(path.read_text().replace("image,caption", "image,caption,part"))
    task = load_task(f"captions:{path}", split="part")
    assert task.splits["test"].tolist() == [0] and task.splits["val"].tolist() == [3]
    assert "1 of 1 images of test have a caption that an image of train has" in caplog.text


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (ROWS, {"caption": "captoin"}, "did you mean 'caption'.*say caption="),
        ([*ROWS, "in/9.png,a cat"], {}, "1 of 9 files .* are not readable images"),
        ([*ROWS, "in/3.png, . "], {}, "line 11: the caption of 'in/3.png' has no words"),
        ([*ROWS, ",a cat"], {}, "line 11 names no image"),
        ([], {}, "has no rows"),
        (ROWS[:2], {}, "has 2 images, and three splits need three"),
        (ROWS, {"shared": "aprt"}, "did you mean 'apart'"),
        (ROWS, {"per_class": 3}, "no budget of captions"),
        (ROWS, {"longest": 0}, "longest="),
        (ROWS, {"tile": 8}, "tile= takes none for captions"),
        (ROWS, {"folds": 3}, "asks for captions"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(tmp_path, rows, options, said):
    with pytest.raises(UserError, match=said) as error:
        load_task(f"captions:{table(tmp_path, rows)}", **options)
    assert "\n" not in str(error.value)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    path = table(tmp_path, ROWS)
    path.write_bytes(path.read_bytes() + "in/3.png,ein Bär\n".encode("latin-1"))
    with pytest.raises(UserError, match="line 11, byte 15: 0xe4 is no UTF-8"):
        load_task(f"captions:{path}")


def test_stamps_have_captions_in_their_languages(tmp_path, monkeypatch):
    monkeypatch.setattr(stamps, "fetched", lambda *source, member: tmp_path)
    for number, name in enumerate(("cat", "dog", "owl", "pig", "silent")):
        (tmp_path / name).mkdir()
        PIL.Image.new("RGBA", (5, 5), (9, 40 * number, 9, 200)).save(tmp_path / name / "a.png")
        text = f"A {name}.\nde.utf8=Ein {name}.\n" + "pt_BR.utf8=Um coelho.\n" * (number < 3)
        (tmp_path / name / "a.txt").write_text(text)
    (tmp_path / "silent" / "a.txt").unlink()
    (tmp_path / "drawn.svg").write_text("<svg/>")
    (tmp_path / "drawn.txt").write_text("A drawing.\n")
    task = load_task("packaged:stamps_captions", val=0.25, test=0.25, least=1)
    assert task.ids == ("cat/a.png", "dog/a.png", "owl/a.png", "pig/a.png")
    assert task.captions[3] == ("A pig.",) and task.image(0).mode == "RGB"
    assert load_task("packaged:stamps_captions", language="de").captions[0] == ("Ein cat.",)
    with pytest.raises(UserError, match="whole groups cannot be divided|has 1 groups"):
        load_task("packaged:stamps_captions", language="pt_BR")  # the same caption three times
    mixed = load_task("packaged:stamps_captions", language="pt_BR", shared="mixed")
    assert len(mixed.ids) == 3
    with pytest.raises(UserError, match="language 'fr'; .*de"):
        load_task("packaged:stamps_captions", language="fr")


def test_a_task_that_would_take_too_much_memory_is_refused(monkeypatch):
    monkeypatch.setattr(texts, "MOST_NUMBERS", 20)
    with pytest.raises(UserError, match="2 images with up to 3 captions of 2 words take too much"):
        texts.numbered([[("a", "b")], [("a",)] * 3], (*texts.SPECIALS, "a"), longest=5)


def test_long_captions_are_cut_and_have_no_end():
    words = (*texts.SPECIALS, "a", "b")
    found = texts.numbered([[("a", "b", "c", "a")], [("b",)]], words, longest=3)
    np.testing.assert_array_equal(found[:, 0], [[1, 4, 5, 3, 0], [1, 5, 2, 0, 0]])
    assert texts.told(found[0, 0, 1:], words) == ("a", "b", "<unknown>")


SETTINGS = {
    "head": "show_and_tell(features=16)", "objective": "captions(beam=2)", "plan": "head_only",
    "train_head": {"epochs": 3, "learning_rate": 3e-2}, "dropout": 0.0, "batch_size": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def base():
    return tl_jax.load_base("efficientnet_lite0", "random:0").resized(32).cut("stage1_block1")


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """A captioner of 60 small pictures of digits."""
    folder = tmp_path_factory.mktemp("captions")
    task = load_task("told_digits", count=60, size=32, shared="mixed")
    found = base.transfer(task, workdir=folder / "run", cache=folder / "cache", **SETTINGS)
    return found, task


def test_a_captioner_learns_and_tells_what_its_result_says(run):
    found, task = run
    rows = found.history
    assert rows[-1]["val_loss"] < rows[0]["val_loss"] < np.log(len(task.classes))
    again = tl_jax.load_base(found.workdir)
    assert again.classes == task.classes and not again.classifies
    test = task.splits["test"]
    told_ = again.captions([task.open(row) for row in test])
    said = [one.text.split() for one in told_]
    references = [[texts.words_in(task.captions[row][0])] for row in test]
    assert stats.evaluate(said, references)["cider"] == pytest.approx(found.test["cider"])
    greedy = again.captions(task.open(int(test[0])), beam=1)
    assert len(greedy) == 1 and greedy[0].log_p <= told_[0].log_p + 1e-4
    page = found.report.read_text(encoding="utf-8")
    assert "What it tells" in page and task.captions[int(test[0])][0] in page
    assert f"{found.test['bleu1'] * 100:.1f} %" in page
    card = (found.workdir / "card.md").read_text()
    assert "tags: [transfer-learning, jax, image-to-text]" in card and "base.captions(" in card


def test_frozen_features_are_stored_and_the_base_stays_as_it_was(run, base):
    found, _ = run
    (phase,) = found.result["plan"]["phases"]
    assert phase["prefix"] == "stage1_block1"
    for name in base.layers:
        for kind in ("params", "batch_stats"):
            jax.tree.map(
                np.testing.assert_array_equal,
                base.variables[kind].get(name, {}),
                found.base.variables[kind].get(name, {}),
            )


@pytest.mark.slow
def test_a_captioner_that_was_killed_resumes_to_the_same(run, base, tmp_path):
    found, task = run
    settings_ = {**SETTINGS, "cache": None}
    with programs.signal_after_epoch(signal.SIGTERM, phase="head", epoch=2), interrupt.caught():
        with pytest.raises(interrupt.Interrupted):
            base.transfer(task, workdir=tmp_path / "run", **settings_)
    resumed = base.transfer(task, workdir=tmp_path / "run", **settings_)
    for row, whole in zip(resumed.history, found.history, strict=True):
        assert row["val_loss"] == pytest.approx(whole["val_loss"], rel=1e-4)
    assert len(resumed.history) == 3


def test_predict_prints_captions(run, tmp_path, capsys):
    found, task = run
    task.open(0).save(tmp_path / "a.png")
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(run=str(found.workdir), json=False):
        assert cli.status(predict.main, ["predict", str(tmp_path / "a.png")]) == 0
    path, caption, log_p = capsys.readouterr().out.rstrip("\n").split("\t")
    (own,) = found.base.captions(str(tmp_path / "a.png"))
    assert (path, caption) == (f"{tmp_path}/a.png", own.text)
    assert float(log_p) == pytest.approx(own.log_p, abs=0.006)
    with flagsaver.flagsaver(run=str(found.workdir), json=True):
        cli.status(predict.main, ["predict", str(tmp_path / "a.png")])
    assert json.loads(capsys.readouterr().out)["caption"] == own.text


def test_what_is_of_classifiers_refuses_a_captioner_in_one_line(run, base, tmp_path):
    found, task = run
    refused = [
        lambda: found.base.predict(task.open(0)),
        lambda: stablehlo.export(found.base, tmp_path / "a.stablehlo"),
        lambda: server.Server(found.base, "127.0.0.1", 0),
    ]
    for call in refused:
        with pytest.raises(UserError, match="ends at 'head': it has no classifier"):
            call()
    with pytest.raises(UserError, match="tells no captions: transfer it to a task of captions"):
        base.captions(task.open(0))
    assert "head_lstm" in tables.of_base(found.base).text
    assert found.base.with_head(3).predict(task.open(0)).shape == (1, 3)  # it is a base again


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": "linear"}, "head=show_and_tell"),
        ({"objective": "cross_entropy"}, "head=show_and_tell.* reads captions: take objective="),
        ({"objective": "contrastive"}, "head=pair"),
        ({"objective": "captions(beam=0)"}, "beam="),
        ({"head": "kept"}, "trains a new head"),
        ({"words_from": "efficientnet_lite0"}, "asks for a base that reads texts"),
        ({"head": "pair", "objective": "contrastive(encoder='minilm_l6')"}, "pair.text=384"),
        ({"head": "pair(text=8)", "objective": "contrastive"}, "head=pair.."),
        ({"test_views": "flip"}, "test_views=flip takes a mean"),
    ],
)
def test_what_does_not_go_together_is_refused(base, changes, said, monkeypatch):
    monkeypatch.setattr(pose, "with_vectors", lambda task, encoder: task)
    monkeypatch.setattr(pose, "load_base", lambda name: texts_of_tests.base())
    task = load_task("told_digits", count=40, size=32, shared="mixed")
    with pytest.raises(UserError, match=said) as error:
        base.transfer(task, cache=None, **{**SETTINGS, **changes})
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="asks for captions, and CrossEntropy is for"):
        base.transfer(task, cache=None)


def test_words_begin_with_vectors_of_a_file(base, tmp_path):
    rows = {"red": np.arange(16.0), "seven": -np.ones(16)}
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(f"{w} " + " ".join(map(str, v)) for w, v in rows.items()) + "\n")
    task = load_task("told_digits", count=40, size=32, shared="mixed")
    own, options = runs_settings.divided({**SETTINGS, "words_from": str(path)})
    posed = pose.posed(base, task, own, options)
    table = np.asarray(posed.variables["params"]["head_embed"]["table"])
    fresh = pose.posed(base, task, *runs_settings.divided(SETTINGS)).variables
    same = (table == fresh["params"]["head_embed"]["table"]).all(1)
    assert {task.classes[row] for row in np.flatnonzero(~same)} == {"red", "seven"}
    red = table[task.classes.index("red")]
    np.testing.assert_allclose(red / red[1], np.arange(16.0), rtol=1e-5)
    with pytest.raises(UserError, match="vectors of 16 numbers.*take features=16 in head="):
        narrow = {**SETTINGS, "words_from": str(path), "head": "show_and_tell(features=8)"}
        pose.posed(base, task, *runs_settings.divided(narrow))


def test_the_contrast_is_that_of_each_way_by_hand():
    """Two images and texts, of which the cosines are 1 and 0; then a pair that only pads."""
    unit = np.eye(3, dtype=np.float32)
    predictions = {"image": unit, "text": unit[:, None], "scale": np.full(3, 2.0)}
    batch = {"same": np.array([[0], [1], [5]]), "real": np.array([1.0, 1.0, 0.0])}
    term = Contrastive().score(predictions, batch)["loss"]
    assert float(term.sum / term.weight) == pytest.approx(np.log1p(np.exp(-2.0)), rel=1e-5)
    batch["same"] = np.array([[0], [0], [5]])  # the same text: both are right for both images
    term = Contrastive().score(predictions, batch)["loss"]
    want = -np.mean(np.log(np.exp([2.0, 0.0]) / np.exp([2.0, 0.0]).sum()))
    assert float(term.sum / term.weight) == pytest.approx(want, rel=1e-5)


@pytest.mark.slow
def test_pairs_are_learnt_and_shown(base, tmp_path):
    task = load_task("told_digits", count=60, size=32, shared="mixed")
    settings_ = {**SETTINGS, "head": "pair(features=16)", "objective": "contrastive"}
    found = base.transfer(task, workdir=tmp_path, cache=None, **settings_)
    assert found.history[-1]["train_loss"] < found.history[0]["train_loss"]
    assert {"image_recall_at_1", "text_median_rank"} <= found.test.keys()
    page = found.report.read_text(encoding="utf-8")
    assert "Images for a text" in page and "right at rank" in page


def test_an_encoders_vectors_of_captions_are_handed_in(base):
    task = load_task("told_digits", count=40, size=32, shared="mixed")
    two = dataclasses.replace(
        task, captions=(("the film", "a film"), *task.captions[1:]),
        truth={**task.truth, "same": np.pad(task.same, ((0, 0), (0, 1)), constant_values=-1)},
    )  # fmt: skip
    two.truth["same"][0, 1] = 99
    encoder = texts_of_tests.base()
    vectors = with_vectors(two, encoder).arrays["texts"]
    assert vectors.shape == (40, 2, 16) and not vectors[1:, 1].any()
    want = encoder.features(encoder.preprocessing(["the film", "a film"]))
    np.testing.assert_allclose(vectors[0], want, rtol=1e-4, atol=1e-5)
