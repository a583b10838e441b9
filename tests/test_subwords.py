"""Subwords: those that are learned here, and SentencePiece's own files against its library."""

import dataclasses
import json
import pathlib
import random

import numpy as np
import pytest
import texts
from test_language_runs import config

import tl_jax
from tl_jax.base import attribution, generation, pieces, tokenizer
from tl_jax.base.load import load_base
from tl_jax.data.expects import require_same
from tl_jax.data.tasks.plain import python_help
from tl_jax.data.texts import subwords
from tl_jax.data.texts.preprocessing import FASTAI, SUBWORDS, TextPreprocessing, of_subwords
from tl_jax.data.texts.rules import SPECIALS, apply_rules
from tl_jax.errors import UserError
from tl_jax.models import awd_lstm
from tl_jax.models.awd_lstm import Shape
from tl_jax.runs import language, subject

KINDS = tuple(subwords.MODELS)
FILES = pathlib.Path(__file__).parent / "sentencepiece"
ANSWERS = json.loads((FILES / "answers.json").read_text("utf-8"))  # what the library gives
HELP = python_help(seed=0).texts[:8]
NONE = TextPreprocessing("", 8)


@pytest.fixture(scope="module", params=KINDS)
def expects(request):
    return of_subwords(HELP, kind=request.param, most=300, least=1, size=64)


def test_the_same_texts_give_the_same_pieces(expects):
    kind = json.loads(expects.tokenizer)["model"]["type"].lower()
    for order in (HELP, HELP[::-1]):
        again = subwords.trained(order, kind=kind, most=300, least=1)
        assert again == expects.tokenizer
    words = expects.words()
    assert words[:9] == SPECIALS and len(words) == 300 == len(set(words))


def test_pieces_joined_are_the_text(expects):
    words = expects.words()
    for text in HELP[:5]:
        (row,) = expects.rows([text])
        found = generation.whole([words[number] for number in row])
        assert "xxunk" not in found and found == apply_rules(text).split()


def test_special_tokens_keep_their_numbers_and_unknown_letters_have_one(expects):
    words = expects.words()
    (row,) = expects.rows(["The OK ccc 日本"])
    assert [words[number] for number in row if number < 9] == [
        "xxbos", "xxmaj", "xxup", "xxrep", "xxunk",
    ]  # fmt: skip
    assert words[row[2]].startswith("▁") and row[-1] == 0


def test_spans_are_of_letters(expects):
    text, spans = expects.spans("The Function, returned")
    assert text == "xxbos xxmaj the xxmaj function, returned"
    assert [text[a:b] for a, b in spans][:3] == ["xxbos", "xxmaj", "the"]
    assert "".join(text[a:b] for a, b in spans) == text.replace(" ", "")
    assert len(spans) == len(expects.rows(["The Function, returned"])[0])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"kind": "unigramm"}, "unigram"),
        ({"most": 20}, "a larger least="),
        ({"least": 10_000}, "no word of the texts occurs 10000 times"),
        ({"most": 9}, "words= takes"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_learned_is_refused(kind, options, why):
    with pytest.raises(UserError, match=why):
        subwords.trained(HELP[:3], **{"kind": kind, "most": 300, "least": 1} | options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A language model of 40 subwords at most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(awd_lstm.VARIANTS, "awd_lstm_small", Shape(features=16, hidden=24, depth=2))
        folder, mine = tmp_path_factory.mktemp("pieces"), config(tokens="unigram", words=40)
        result = language.work(subject.base_of(mine), texts.task(), folder, mine, name="small")
        yield load_base(folder), result


@pytest.mark.slow
def test_a_language_model_of_subwords_learns_and_writes(trained):
    base, result = trained
    count = base.architecture.words
    assert base.preprocessing.rules == SUBWORDS and count == len(base.preprocessing.words()) <= 40
    assert result["history"][-1]["val_loss"] < result["history"][0]["val_loss"] < np.log(count)
    sure = generation.continued(base, "the fil", tokens=1, temperature=1e-3)
    words, (tokens,) = base.preprocessing.words(), base.preprocessing.rows(["the fil"])
    logits = np.array(base(tokens[None]))[0, -1]
    logits[[words.index(word) for word in generation.NEVER]] = -np.inf
    assert sure == ("the fil" + words[logits.argmax()].replace("▁", " ")).strip()


@pytest.mark.parametrize(
    ("prompt", "pieces", "text"),
    [
        ("Ber", ["lin", "▁is", "t"], "Berlin ist"),
        ("Ber", ["▁is", "t", ","], "Ber ist,"),
        ("in", ["xxmaj", "▁ber", "lin", "xxup", "▁us", "a"], "in Berlin USA"),
        ("", ["▁a"], "a"),
        ("a", [], "a"),
    ],
)
def test_pieces_are_written_as_a_text(prompt, pieces, text):
    assert generation.followed(prompt, pieces) == text


@pytest.mark.slow
def test_it_keeps_its_subwords_unless_others_are_asked_for(trained):
    base, other = trained[0], dataclasses.replace(texts.task(), texts=("a zebra",) * 60)
    sizes = {"most": 30, "least": 1, "seed": 0}
    assert language.with_vocabulary(base, other, **sizes) is base
    ready = language.with_vocabulary(base, other, tokens="bpe", **sizes)
    old, new = base.preprocessing.words(), ready.preprocessing.words()
    before, after = (b.variables["params"]["embed"]["table"] for b in (base, ready))
    assert ready.architecture.words == len(new) <= 30 and "z" not in old and "a" in old
    np.testing.assert_array_equal(after[new.index("a")], before[old.index("a")])
    np.testing.assert_array_equal(after[:9], before[:9])
    np.testing.assert_allclose(after[new.index("z")], before.mean(0), rtol=1e-5, atol=1e-6)
    assert (
        language.with_vocabulary(base, other, tokens="words", **sizes).preprocessing.rules == FASTAI
    )
    with pytest.raises(UserError, match="unknown kind of tokens"):
        language.with_vocabulary(base, other, tokens="word", **sizes)


@pytest.mark.slow
def test_it_becomes_a_classifier_that_says_which_words_count(trained, tmp_path):
    base = trained[0].resized(16)
    run = tl_jax.transfer(
        base, texts.task(), cut="lstm2", head="ulmfit", batch_size=8, plan="head_only",
        train_head={"epochs": 1, "batch_norm": "batch"}, cache=tmp_path,
    )  # fmt: skip
    assert run.base.predict(["the film was good"]).shape == (1, 2)
    found = attribution.word_weights(run.base, "Good film", 1)
    assert [word for word, _ in found] == ["xxbos ", "xxmaj ", "good ", "film"]
    assert all(weight for _, weight in found)
    with pytest.raises(UserError, match="rules: 'fastai', not 'fastai_subwords'"):
        require_same(task=dataclasses.replace(base.preprocessing, rules=FASTAI),
                     base=base.preprocessing)  # fmt: skip


@pytest.mark.parametrize("name", ["small", "plain"])
def test_tokens_are_those_of_sentencepiece(name):
    expects = TextPreprocessing(pieces.described(FILES / f"{name}.model"), 512)
    for text, answer, row in zip(
        ANSWERS["texts"], ANSWERS[name], expects.rows(ANSWERS["texts"]), strict=True
    ):
        first, last = (expects.words().index(word) for word in ("<s>", "</s>"))
        assert row.tolist() == [first, *answer, last], text


def test_a_model_of_fastai_s_is_read_beside_its_weights(tmp_path):
    usual = awd_lstm.preprocessing("awd_lstm", "fastai")
    (tmp_path / "spm.model").write_bytes((FILES / "fastai.model").read_bytes())
    found = tokenizer.beside(tmp_path / "model.pth", usual)
    assert found.rules == SUBWORDS and found.words()[:9] == SPECIALS
    plain = TextPreprocessing(found.tokenizer, 512)  # the texts are as rules leave them
    assert [row.tolist() for row in plain.rows(ANSWERS["fastai_texts"])] == ANSWERS["fastai"]
    (tmp_path / "itos.pkl").touch()
    with pytest.raises(UserError, match="several vocabularies, itos.pkl and spm.model"):
        tokenizer.beside(tmp_path / "model.pth", usual)
    (tmp_path / "itos.pkl").unlink()
    (tmp_path / "spm.model").write_bytes((FILES / "small.model").read_bytes())
    with pytest.raises(UserError, match="no vocabulary of fastai's"):
        tokenizer.beside(tmp_path / "model.pth", usual)


def test_padding_is_no_token_of_a_text(tmp_path):
    for name, fits in (("plain", True), ("small", False)):
        (tmp_path / "spm.model").write_bytes((FILES / f"{name}.model").read_bytes())
        if fits:
            assert tokenizer.beside(tmp_path / "model.safetensors", NONE)("a").shape == (1, 8)
            continue
        with pytest.raises(UserError, match="gives '<unk>' the number 0, and that is padding"):
            tokenizer.beside(tmp_path / "model.safetensors", NONE)


@pytest.mark.parametrize("kind", ["Unigram", "BPE"])
def test_a_tokenizer_json_of_subwords_is_read(kind, tmp_path):
    """As Hugging Face's libraries write it, with tokens around a text that they add."""
    import tokenizers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁", "▁good", "▁film", "s"]
    if kind == "Unigram":
        model = tokenizers.models.Unigram([(word, -1.0) for word in words], unk_id=1)
    else:
        letters = [*words, *"▁filmgod", "▁g", "▁go", "▁goo", "▁f", "▁fi", "▁fil"]
        joins = [("▁", "g"), ("▁g", "o"), ("▁go", "o"), ("▁goo", "d")]
        joins += [("▁", "f"), ("▁f", "i"), ("▁fi", "l"), ("▁fil", "m")]
        numbers = {word: number for number, word in enumerate(dict.fromkeys(letters))}
        model = tokenizers.models.BPE(numbers, joins, unk_token="[UNK]")
    whole = tokenizers.Tokenizer(model)
    whole.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    whole.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    whole.enable_padding(length=30)
    whole.save(str(tmp_path / "tokenizer.json"))
    found = tokenizer.beside(tmp_path / "model.safetensors", NONE)
    assert found(["good films", "q"]).tolist() == [[2, 5, 6, 7, 3, 0, 0, 0], [2, 4, 1, 3] + [0] * 4]
    assert found.spans("good films")[1][1:4] == [(0, 4), (5, 9), (9, 10)]


def test_damaged_files_get_one_line(tmp_path):
    """Cut anywhere, or with any byte changed: refused in a line, or read as another model."""
    content, rng, refused = (FILES / "small.model").read_bytes(), random.Random(0), 0
    path = tmp_path / "spm.model"
    cuts = [content[:at] for at in rng.sample(range(len(content)), 40)]
    flips = []
    for at in rng.sample(range(len(content)), 80):
        flips.append(content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :])
    for wrong in (b"", b"\x0a\xff\xff\xff\xff\x7f", b"\x80" * 20, *cuts, *flips):
        path.write_bytes(wrong)
        try:
            TextPreprocessing(pieces.described(path), 8)(["ﬁne Ａ good", "日本"])
        except UserError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert refused > 43


def test_rules_that_lead_out_of_their_table_are_refused():
    frame = json.loads(subwords.trained(HELP[:3], kind="unigram", most=200, least=1))
    for charsmap in ("BAAAAP////8=", "AAAA", "!", "//////////8="):
        frame["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": charsmap}
        with pytest.raises(UserError, match="the tokenizer cannot"):
            TextPreprocessing(json.dumps(frame), 8)("good")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x12\x02\x18\x02", "of the kind BPE, and only unigram"),
        (b"\x12\x03\xc0\x01\x01", "end with a space"),
        (b"\x0a\x05\x0a\x01a\x18\x05", "switched off"),
        (b"\x0a\x03\x0a\x01a", "no list of pieces"),
    ],
)
def test_other_models_are_refused(content, why, tmp_path):
    (tmp_path / "m.model").write_bytes(content)
    with pytest.raises(UserError, match=why):
        pieces.described(tmp_path / "m.model")
