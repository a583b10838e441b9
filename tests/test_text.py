"""Bases that read texts: tokens and encoders as transformers has them, transfer, words weighed."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import texts
from hypothesis import given
from hypothesis import strategies as st
from parity_text.make import MINILM_TEXTS

import tl_jax
from tl_jax.base import attribution, predict, tokenizer
from tl_jax.base.load import from_state_dict, load_base
from tl_jax.data.preprocessing import minus_one_to_one
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.errors import UserError
from tl_jax.models import bert

NONE = TextPreprocessing("", 8)
MIXUP = {"augment": "mixup"}
ANSWERS = json.loads((texts.PARITY / "transformers-wordpiece.json").read_text("utf-8"))


@pytest.mark.parametrize("case", ["lower", "cased"])
def test_tokens_are_those_of_transformers(case, tmp_path):
    described = texts.vocabulary(tmp_path, ANSWERS["words"], lower=case == "lower")
    tokens = TextPreprocessing(described, 512)(ANSWERS["texts"])
    assert tokens.dtype == np.int32 and tokens.shape[1] == 16
    found = [row[: np.flatnonzero(row)[-1] + 1].tolist() for row in tokens]
    assert found == ANSWERS[case]


def test_texts_of_another_domain_are_padded_to_run_beside_longer_ones():
    prepare, short = texts.base().preprocessing.resized(64), texts.task()
    long = dataclasses.replace(short, texts=tuple(" ".join([text] * 12) for text in short.texts))
    tokens = prepare.of_task(long)[1].arrays["tokens"]
    read = prepare.of_task(short)[1]
    padded = prepare.padded(read, tokens.shape[1])
    count = read.arrays["tokens"].shape[1]
    assert count < tokens.shape[1] == padded.arrays["tokens"].shape[1]
    np.testing.assert_array_equal(padded.arrays["tokens"][:, :count], read.arrays["tokens"])
    assert (padded.arrays["tokens"][:, count:] == prepare.pad).all()
    assert padded.fingerprint != read.fingerprint and prepare.padded(read, 1) is read


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_every_layer_gives_what_transformers_gives(name):
    arrays = np.load(texts.PARITY / "transformers-encoders.npz")
    size, front = texts.SIZES[name], f"{name}/weights/"
    chain = bert.encoder(size, 2).cut("pool")
    rules = bert.names_of(size)
    state = {k.removeprefix(front): arrays[k] for k in arrays.files if k.startswith(front)}
    variables = converted(state, rules, chain)
    taps = chain.apply(variables, arrays["tokens"], taps=chain.names).taps
    for number, layer in enumerate(("embed", "block1", "block2")):
        np.testing.assert_allclose(taps[layer], arrays[f"{name}/hidden{number}"], atol=2e-5)
    real = (arrays["tokens"] != 0).sum(1)[:, None]
    mean = arrays[f"{name}/hidden2"].sum(1) / real
    np.testing.assert_allclose(taps["pool"], mean, atol=2e-5)


@pytest.mark.slow
def test_minilm_gives_what_transformers_gives():
    """With its real weights, fetched out of their package."""
    arrays, base = np.load(texts.PARITY / "transformers-minilm.npz"), load_base("minilm_l6")
    tokens = base.preprocessing(MINILM_TEXTS)
    np.testing.assert_allclose(np.asarray(base(tokens))[:, ::8], arrays["pool"], atol=5e-6)
    for number, layer in enumerate(base.layers[:-1]):
        found = np.asarray(base(tokens, layer=layer))[:, :4, ::48]
        np.testing.assert_allclose(found, arrays[f"hidden{number}"], atol=5e-6)


def converted(state, rules, chain):
    from tl_jax.weights import convert

    example = jax.ShapeDtypeStruct((1, 8), np.int32)
    return convert.fill(convert.find(state, rules, keras=False), chain.shapes(example)[0])


def test_a_file_of_transformers_is_loaded_and_ends_at_its_pool():
    arrays = np.load(texts.PARITY / "transformers-encoders.npz")
    front, expects = "bert/weights/", texts.base().preprocessing
    state = {k.removeprefix(front): arrays[k] for k in arrays.files if k.startswith(front)}
    base = from_state_dict(
        "bert_of_tests", {f"bert.{name}": a for name, a in state.items()}, preprocessing=expects
    )
    assert base.layers[-1] == "pool" and base.preprocessing is expects
    del state["encoder.layer.1.output.dense.bias"]
    with pytest.raises(UserError, match="lacks params/block2/narrow/bias"):
        from_state_dict("bert_of_tests", state, preprocessing=expects)


@given(st.lists(st.integers(1, 18), min_size=1, max_size=6), st.integers(0, 2))
def test_padding_changes_nothing(tokens, more):
    row = [2, *tokens][:6]
    pooled, _ = answered(np.int32([row + [0] * (6 + more - len(row))]))
    longer, block = answered(np.int32([row + [0] * (8 - len(row))]))
    np.testing.assert_allclose(pooled, longer, atol=1e-5)
    assert not np.asarray(block)[:, len(row) :].any()


@jax.jit
def answered(tokens):
    base = texts.base().cut("pool")
    applied = base.chain.apply(base.variables, tokens, taps=("block2",))
    return applied.output, applied.taps["block2"]


def test_a_long_text_is_cut_where_its_tokens_end(tmp_path):
    expects = dataclasses.replace(texts.base().preprocessing, size=6)
    long = "good bad " * 500_000
    assert expects(long).tolist() == expects("good bad good bad good").tolist()
    assert expects("x" * 3_000_000).tolist()[0][:3] == [2, 1, 3]  # a word too long is unknown
    assert expects("good").shape == (1, 6) and len(expects(["good"] * 3)) == 3


def test_a_base_of_texts_is_saved_whole(tmp_path):
    base = texts.base().with_head(3)
    base.save(tmp_path / "model.safetensors")
    again = load_base(tmp_path / "model.safetensors")
    assert again.preprocessing == base.preprocessing
    said = ["the film was good", "dull"]
    np.testing.assert_array_equal(again.predict(said), base.predict(said))
    np.testing.assert_allclose(base.predict(said).sum(1), 1, rtol=1e-5)


def run(tmp_path, **settings):
    phases = {"train_head": {"epochs": 2, "learning_rate": 3e-2}, "tune": {"epochs": 2}}
    return tl_jax.transfer(
        texts.base(), texts.task(), batch_size=8, dropout=0.0, **phases, **settings
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    return run(folder, plan="head_then_fine_tune", from_layer="block2", cache=folder / "cache",
               workdir=folder / "run")  # fmt: skip


def test_frozen_layers_run_once_and_change_nothing(finished, tmp_path):
    phases = finished.result["plan"]["phases"]
    assert [phase["prefix"] for phase in phases] == ["pool", "block1"]
    streamed = run(tmp_path, plan="head_then_fine_tune", from_layer="block2", cache=None)
    for ours, theirs in zip(streamed.history, finished.history, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)


def test_its_report_shows_the_words_of_mistakes(finished):
    wrong = round((1 - finished.test["accuracy"]) * 12)
    page = finished.report.read_text("utf-8")
    assert wrong and page.count('<p class="text">') == wrong
    assert "8 tokens" in page and "cannot be opened" not in page
    assert finished.result["base"]["preprocessing"]["size"] == 8
    assert len(json.dumps(finished.result)) < 40_000  # without the vocabulary


def test_words_of_a_linear_base_sum_up_to_its_logit():
    base = texts.base().cut("embed").with_head(2)
    text = "It was   very good, not xyz"
    found = attribution.word_weights(base, text, 1)
    assert "".join(word for word, _ in found) == text
    tokens = base.preprocessing(text)
    logit = np.asarray(base(tokens))[0, 1] - base.variables["params"]["head"]["Dense_0"]["bias"][1]
    vectors = np.asarray(base(tokens, layer="embed"))[0]
    kernel = np.asarray(base.variables["params"]["head"]["Dense_0"]["kernel"])[:, 1]
    ends = (vectors[[0, 7]] @ kernel).sum() / 8  # of [CLS] and [SEP], which are no words
    assert sum(weight for _, weight in found) == pytest.approx(logit - ends, abs=1e-5)


@pytest.mark.slow
def test_lines_are_answered(finished, tmp_path):
    (tmp_path / "lines.txt").write_text("the film was good\n\n  dull \n", encoding="utf-8-sig")
    answers = list(predict.of_lines(finished.base, tmp_path / "lines.txt"))
    assert [text for text, _ in answers] == ["the film was good", "dull"]
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    for name, why in (("latin.txt", "not UTF-8"), ("none.txt", "no such file")):
        with pytest.raises(UserError, match=why):
            list(predict.of_lines(finished.base, tmp_path / name))


def test_layers_are_probed(tmp_path):
    table = tl_jax.probe(texts.base(), texts.task(), cache=tmp_path)
    assert [row.layer for row in table.rows] == ["embed", "block1", "block2", "pool"]
    assert {row.dimensions for row in table.rows} == {16}


def test_what_is_no_vocabulary_is_refused(tmp_path):
    for name, content, why in (
        ("tokenizer.json", b"[1]", "no settings"),
        ("tokenizer.json", b"{", "not JSON"),
        ("tokenizer.json", b"\xff", "not UTF-8"),
        ("vocab.txt", b"the\na\n", r"has no \[PAD\] and no \[UNK\]"),
    ):
        folder = tmp_path / why.split()[-1].strip("[]\\")
        folder.mkdir()
        (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=why):
            tokenizer.beside(folder / "model.safetensors", NONE)
    assert tokenizer.beside(tmp_path / "model.safetensors", NONE) == NONE
    with pytest.raises(UserError, match="cannot be read"):
        TextPreprocessing('{"version": "1.0"}', 8)("good")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda base: base.resized(9), "9 tokens, and there are 8 positions"),
        (lambda base: base.resized(crop=0.5), "not cropped"),
        (lambda base: base.with_channels(1), "no channels"),
        (lambda base: base(np.zeros((1, 8), np.float32)), "takes the numbers of tokens"),
        (lambda base: base.preprocessing([]), "no texts"),
        (lambda base: base.preprocessing([3]), "takes a string"),
        (lambda base: load_base("awd_lstm_small", "random:0").preprocessing("a"), "no tokenizer"),
        (lambda base: tl_jax.transfer(base, tl_jax.load_task("digits")), "'digits' has none"),
        (lambda base: tl_jax.transfer(base, texts.task(), plan="full", test_views="flips"),
         "test_views=flips are of images"),
        (lambda base: tl_jax.transfer(base, texts.task(), plan="full", tune=MIXUP), "of images"),
        (lambda base: tl_jax.probe(load_base("alexnet_small", "random:0"), texts.task()),
         "no images, but texts"),
        (lambda base: base.of_images, "reads texts"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(wrong, why):
    with pytest.raises(UserError, match=why):
        wrong(texts.base())


def test_prepared_otherwise_is_refused(tmp_path):
    from tl_jax.data.expects import require_same

    ours = texts.base().preprocessing
    require_same(task=ours, base=ours)
    other = dataclasses.replace(ours, tokenizer=texts.vocabulary(tmp_path, ANSWERS["words"]))
    with pytest.raises(UserError, match="tokenizer: '[0-9a-f]{16}', not '[0-9a-f]{16}'"):
        require_same(task=other, base=ours)
    with pytest.raises(UserError, match="otherwise"):
        require_same(task=minus_one_to_one(8), base=ours)
