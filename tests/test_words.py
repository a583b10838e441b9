"""fastai's rules, tokens and vocabulary: its own answers, and cases computed by hand."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.data.texts import rules
from tl_jax.data.texts.rules import RULES, SPECIALS, apply_rules
from tl_jax.data.texts.split import split, tokens_of
from tl_jax.data.texts.vocabulary import FILLER, ids_of, numbers, vocabulary

# fastai's own functions wrote the texts and spaCy's blank model, as fastai calls it, the tokens.
GOLDEN = json.loads((pathlib.Path(__file__).parent / "fastai_tokens.json").read_text())["texts"]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["text"][:20])
def test_texts_and_tokens_are_those_of_fastai(golden):
    assert apply_rules(golden["text"]) == golden["ruled"]
    assert tokens_of(golden["text"]) == golden["tokens"]


@pytest.mark.parametrize(
    ("rule", "text", "ruled"),
    [
        (
            rules.clean_html,
            "3 @.@ 5 twenty @-@ one<br />A amp; B &eacute;",
            "3.5 twenty-one\nA & B é",
        ),
        (rules.mark_repeated, "cccc bb", " xxrep 4 c  bb"),
        (rules.mark_repeated_words, "a w w w b", "a xxwrep 3 w  b"),
        (rules.space_marks, "a/b", "a / b"),
        (rules.squeeze_spaces, "a   b\n\nc", "a b\n\nc"),
        (rules.mark_upper, "OK I'M A cat", "xxup ok xxup i'm a cat"),
        (rules.mark_upper, "A" * 50_000 + "a", "A" * 50_000 + "a"),  # in time that grows with it
        (rules.mark_capitals, "Good A McX", "xxmaj good a McX"),
        (rules.begin, " Good ", "xxbos good"),
    ],
)
def test_each_rule(rule, text, ruled):
    assert rule in RULES
    assert rule(text) == ruled


@given(st.text(st.sampled_from("ab.,'’-&1!)(: \n\tx")))
def test_a_split_loses_nothing_but_space(text):
    assert "".join("".join(split(text)).split()).replace("▁", "") == "".join(text.split())


TEXTS = [["b", "a", "a", "xxbos"], ["a", "b", "b", "c", "xxbos", "xxbos"]]


def test_a_vocabulary_is_filled_up_to_a_multiple_of_eight():
    """9 specials, "a" and "b"; and with 16 words 8 fillers more."""
    words = vocabulary(TEXTS, min_freq=3)
    assert words == (*SPECIALS, "b", "a", *[FILLER] * 5)
    assert SPECIALS[:3] == ("xxunk", "xxpad", "xxbos")
    letters = [["defghij"[n % 7] for n in range(21)]]
    full = vocabulary(letters, min_freq=1)
    assert len(full) == 24 and full[16:] == (FILLER,) * 8
    assert vocabulary(TEXTS, min_freq=1, max_vocab=10) == (*SPECIALS, "b", *[FILLER] * 6)


def test_unknown_tokens_are_xxunk():
    ids = ids_of(vocabulary(TEXTS))
    found = numbers(["xxbos", "a", "zebra", FILLER], ids)
    np.testing.assert_array_equal(found, [2, 10, 0, 0])
    assert found.dtype == np.int32
