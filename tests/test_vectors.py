"""Vectors of words: objectives, gradients and counts against loops, autodiff and gensim."""

import json
import logging
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import planted
import pytest

from tl_jax.errors import UserError
from tl_jax.vectors import corpus as corpora
from tl_jax.vectors import fasttext, glove, learn, skip_gram
from tl_jax.vectors.corpus import Corpus

ROOT = pathlib.Path(__file__).parent.parent
GENSIM = json.loads(
    (pathlib.Path(__file__).parent / "parity_text" / "gensim-words.json").read_text("utf-8")
)
TEXTS = ["b a a b ; A !", "", "c a b d", "a", "b b c"]
QUICK = {
    "skip_gram": {"dim": 8, "window": 2, "rate": 0.1, "epochs": 6, "sample": 0.0},
    "fasttext": {"dim": 8, "window": 2, "rate": 0.1, "epochs": 6, "sample": 0.0, "buckets": 500},
    "glove": {"dim": 8, "window": 2, "epochs": 40},
}


def corpus(least=1):
    return corpora.of_texts(TEXTS, least=least)


def test_words_are_numbered_by_frequency_and_rare_ones_are_gone():
    whole = corpus()
    assert dict(zip(whole.words, whole.counts.tolist(), strict=True)) == {
        "a": 5, "b": 5, ";": 1, "!": 1, "c": 2, "d": 1,
    }  # fmt: skip
    few = corpus(least=2)
    assert few.words == ("b", "a", "c")
    assert [few.words[n] for n in few.tokens] == "b a a b a c a b a b b c".split()
    assert few.texts.tolist() == [0] * 5 + [2] * 3 + [3] + [4] * 3
    assert corpora.of_texts(TEXTS, least=1, most=2).words == ("b", "a")
    with pytest.raises(UserError, match="have 0 words that occur 9 times: take least=1"):
        corpus(least=9)


def test_draws_follow_counts_to_the_power_of_three_quarters():
    counts, rng = np.array([1000, 100, 10, 1]), np.random.default_rng(0)
    found = np.bincount(corpora.drawn(counts, (400, 500), rng).ravel(), minlength=4) / 200_000
    expected = counts**0.75 / (counts**0.75).sum()
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(expected / 200_000).max())


def test_frequent_words_are_left_out_as_in_the_code_of_word2vec():
    """Of a word with share 0.9 at t = 0.1 the share (sqrt(9) + 1) / 9 = 4 / 9 stays."""
    tokens = np.repeat(np.int32([0, 1]), [90_000, 10_000])
    whole = Corpus(("a", "b"), np.array([90_000, 10_000]), tokens, np.zeros_like(tokens))
    kept = np.bincount(corpora.subsampled(whole, 0.1, np.random.default_rng(0)).tokens)
    assert kept[0] / 90_000 == pytest.approx(4 / 9, abs=0.01) and kept[1] == 10_000
    assert corpora.subsampled(whole, 0.0, np.random.default_rng(0)) is whole


def test_stretches_have_the_pairs_that_a_loop_finds():
    whole, window, size = corpus(), 2, 4
    tokens, texts = corpora.blocks(whole, size, window)
    rng = np.random.default_rng(0)
    reach = rng.integers(1, window + 1, (len(tokens), size))
    batch = skip_gram.Batch(tokens, texts, reach, None, None)
    found = []
    for stretch, centre, other in np.argwhere(np.asarray(jax.jit(skip_gram.near)(batch))):
        found.append((tokens[stretch, window + centre], tokens[stretch, other]))
    expected = []
    for place, far in enumerate(reach.ravel()[: len(whole.tokens)]):
        for other in range(max(0, place - far), min(len(whole.tokens), place + far + 1)):
            if other != place and whole.texts[place] == whole.texts[other]:
                expected.append((whole.tokens[place], whole.tokens[other]))
    assert found == expected


def test_the_loss_is_that_of_the_paper_by_hand():
    """One pair, two draws that count as three: log s(u v) + 3/2 (log s(-n1 v) + log s(-n2 v))."""
    v, u = np.float32([[[1, 2]]]), np.float32([[[0.5, -1], [1, 0], [-1, 0.25]]])
    labels, weights = skip_gram.weighted(np.float32([[[1]]]), 2, 3)
    found = jax.jit(skip_gram.loss)(v, u, labels, weights)

    def log_s(x):
        return -np.log1p(np.exp(-x))

    expected = -(log_s(-1.5) + 1.5 * (log_s(-1.0) + log_s(0.5)))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_gradients_and_curvatures_are_those_of_autodiff_and_differences():
    rng = np.random.default_rng(0)
    given = rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 5, 3))
    weights, scores = rng.random((2, 2, 5)), np.einsum("bld,bwd->blw", *given)
    labels = (scores > 0).astype(float)
    wrong = jax.jit(skip_gram.slopes)(*given, 1 - labels, weights)[2]
    np.testing.assert_allclose(wrong, weights / 4, rtol=1e-6)  # the greatest on the way
    *by, curve = jax.jit(skip_gram.slopes)(*given, labels, weights)
    for found, expected in zip(by, jax.jit(jax.grad(skip_gram.loss, (0, 1)))(
        *given, labels, weights), strict=True):  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    def loss(arrays):
        scores = np.einsum("bld,bwd->blw", *arrays)
        return (weights * (np.log1p(np.exp(scores)) - labels * scores)).sum()

    for axis, second in enumerate((curve, np.swapaxes(curve, 1, 2))):
        ways = rng.normal(size=given[axis].shape)
        found = skip_gram.bent(ways, given[1 - axis], second)
        for place in np.ndindex(found.shape):
            way = np.zeros_like(given[axis])
            way[place] = ways[place] / np.linalg.norm(ways[place])
            values = []
            for far in (-1e-3, 0, 1e-3):
                arrays = list(given)
                arrays[axis] = given[axis] + far * way
                values.append(float(loss(arrays)))
            bent = (values[0] - 2 * values[1] + values[2]) / 1e-6
            assert found[place] == pytest.approx(bent, rel=1e-3, abs=1e-4)


def test_rows_that_come_twice_add_up_and_do_not_overshoot():
    table, rows = jnp.float32([[1], [2], [3]]), np.array([0, 2, 2])
    gradients, bends = np.float32([[1], [2], [3]]), np.float32([9, 4, 6])
    given = table, rows, table[rows], gradients, 0.1
    plain = skip_gram.moved(*given, lambda moves: 0 * bends)
    np.testing.assert_allclose(plain, [[0.9], [2], [2.5]], rtol=1e-6)
    damped = skip_gram.moved(*given, lambda moves: bends)
    one, both = (1 - np.exp(-0.9)) / 0.9, 1 - np.exp(-1)
    np.testing.assert_allclose(damped, [[1 - 0.1 * one], [2], [3 - 0.5 * both]], rtol=1e-6)


@pytest.mark.parametrize("name", learn.METHODS)
def test_planted_topics_are_found(name, tmp_path):
    whole = corpora.of_texts(planted.texts(), least=1)
    vectors, losses = learn.learnt(
        learn.method(name, QUICK[name]), whole, seed=0, folder=tmp_path / "kept"
    )
    assert losses[-1] < losses[0]
    assert vectors.rows.shape == (16, 8) and planted.apart(vectors.words, vectors.rows)
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("name", ["skip_gram", "glove"])
def test_it_goes_on_after_the_last_whole_epoch(name, tmp_path, monkeypatch):
    whole = corpora.of_texts(planted.texts()[:20], least=1)
    how = learn.method(name, QUICK[name] | {"epochs": 3})
    expected, losses = learn.learnt(how, whole, seed=1, folder=tmp_path / "whole")
    epoch, done = type(how).epoch, []

    def twice(self, *given):
        done.append(given[3])
        if len(done) == 3:
            raise KeyboardInterrupt
        return epoch(self, *given)

    monkeypatch.setattr(type(how), "epoch", twice)
    with pytest.raises(KeyboardInterrupt):
        learn.learnt(how, whole, seed=1, folder=tmp_path / "kept")
    found, again = learn.learnt(how, whole, seed=1, folder=tmp_path / "kept")
    assert done == [0, 1, 2, 2] and again == losses
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_a_vocabulary_of_a_few_words_does_not_diverge(tmp_path):
    """Each is in every stretch many times: sums of plain gradients would overshoot."""
    whole = corpora.of_texts(["a b a c b a"] * 400, least=1)
    settings = QUICK["skip_gram"] | {"rate": 0.5}
    vectors, losses = learn.learnt(
        learn.method("skip_gram", settings), whole, seed=0, folder=tmp_path
    )
    assert np.abs(vectors.rows).max() < 20 and max(losses) < 5


def test_co_occurrences_are_those_of_a_loop(monkeypatch):
    whole = corpus()
    expected = np.zeros((6, 6))
    for left, right in np.ndindex(len(whole.tokens), len(whole.tokens)):
        far = abs(left - right)
        if 0 < far <= 3 and whole.texts[left] == whole.texts[right]:
            expected[whole.tokens[left], whole.tokens[right]] += 1 / far
    np.testing.assert_allclose(glove.counted(whole, 3).toarray(), expected)
    monkeypatch.setattr(glove, "CHUNK", 4)
    np.testing.assert_allclose(glove.counted(whole, 3).toarray(), expected)


def test_a_step_of_glove_by_hand():
    """Different words: as its code does, with eta in AdaGrad's sums; clipped at 100 a part."""
    rng, rate = np.random.default_rng(0), 0.05
    tables = {name: np.stack([rng.normal(size=(3, 3)), np.ones((3, 3))], 1).astype(np.float32)
              for name in ("centre", "context")}  # fmt: skip
    pairs = np.int32([[0, 2]]), np.int32([[1, 0]])
    logs, weights = np.float32([[0.3, 500.0]]), np.float32([[0.5, 1.0]])
    moved, found = glove.steps(jax.tree.map(jnp.asarray, tables), (*pairs, logs, weights), rate)
    expected, total = {name: table.astype(float).copy() for name, table in tables.items()}, 0.0
    for i, j, log, f in zip(*(part[0] for part in (*pairs, logs, weights)), strict=True):
        w, c = (tables[n][k, 0].astype(float) for n, k in (("centre", i), ("context", j)))
        diff = w[:2] @ c[:2] + w[2] + c[2] - log
        total += 0.5 * f * diff**2
        for name, row, by in (("centre", i, [*c[:2], 1]), ("context", j, [*w[:2], 1])):
            step = rate * np.clip(f * diff * np.array(by), -100, 100)
            expected[name][row, 0] -= step  # the sums are 1 before
            expected[name][row, 1] += step**2
    for name in tables:
        np.testing.assert_allclose(moved[name], expected[name], rtol=1e-4)
    assert float(found[0]) == pytest.approx(total, rel=1e-5)


def test_ngrams_and_their_hashes_are_those_of_fasttext():
    for word, grams in GENSIM["ngrams"].items():
        assert sorted(fasttext.ngrams(word, 3, 6)) == sorted(grams)
    assert fasttext.fnv("") == 2166136261 and fasttext.fnv("a") == 0xE40C292C  # FNV's own page
    assert {gram: fasttext.fnv(gram) for gram in GENSIM["hashes"]} == GENSIM["hashes"]


def test_a_word_is_the_mean_of_its_parts_in_a_step_and_in_the_end():
    words = ("where", "here", "a")
    parts = fasttext.parts_of(words, least=3, most=4, buckets=50)
    table = np.random.default_rng(0).normal(size=(parts.count, 4)).astype(np.float32)
    ends = parts.bounds
    expected = [table[parts.rows[a:b]].mean(0) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    np.testing.assert_allclose(fasttext.means(parts, table), expected, rtol=1e-5)
    assert parts.rows[ends[:-1]].tolist() == [0, 1, 2]  # each has a row of its own
    shared = {*parts.rows[: ends[1]]} & {*parts.rows[ends[1] : ends[2]]}
    assert len(shared) >= len({*fasttext.ngrams("where", 3, 4)} & {*fasttext.ngrams("here", 3, 4)})
    centres = np.int32([[[0, 2], [1, 1]]])
    own = fasttext.flat(parts, centres)
    batch = skip_gram.Batch(None, None, centres[0], None, None, own)
    own = batch._replace(parts=tuple(part[0] for part in batch.parts))
    _, means = skip_gram._inputs(table, own, centres[0])
    np.testing.assert_allclose(means, np.array(expected)[centres[0]], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("skipgram", {}, "unknown method 'skipgram'; did you mean 'skip_gram'"),
        ("skip_gram", {"windw": 3}, "'windw'; did you mean 'window'"),
        ("fasttext", {"least": 7, "most": 6}, "fasttext.least=7 is more than most=6"),
        ("glove", {"rate": float("inf")}, "glove.rate= takes a number above 0"),
        ("glove", {"dim": 0}, "glove.dim= takes a whole number"),
        ("glove", {"rate": -1.0}, "glove.rate= takes a number above 0"),
        ("fasttext", {"buckets": "many"}, "buckets= takes a whole number"),
    ],
)
def test_settings_that_are_none_are_refused(name, settings, why):
    with pytest.raises(UserError, match=why):
        learn.method(name, settings)


def test_a_sample_of_no_words_is_refused(tmp_path):
    how = learn.method("skip_gram", QUICK["skip_gram"] | {"sample": 1e-15})
    with pytest.raises(UserError, match="sample=1e-15 leaves out all words"):
        learn.learnt(how, corpus(), seed=0, folder=tmp_path)


def test_a_config_is_read_without_jax():
    code = "import sys, configs.words_small as c; c.get_config(); print('jax' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout == "False\n", ended.stderr


def test_a_resumed_run_says_so(tmp_path, caplog):
    whole = corpora.of_texts(planted.texts()[:20], least=1)
    how = learn.method("glove", QUICK["glove"] | {"epochs": 1})
    learn._keep(tmp_path, how.begin(whole, None, 0), [0.5])
    with caplog.at_level(logging.INFO):
        assert learn.learnt(how, whole, seed=0, folder=tmp_path)[1] == [0.5]
    assert "going on after epoch 1" in caplog.text
