"""Subwords: pieces of words, of which some thousands are enough for any text of their languages.

SentencePiece's two models (Kudo & Richardson 2018, arXiv:1808.06226) as the library `tokenizers`
has them. A space is "▁" and belongs to the piece behind it, so that pieces, joined, are the text.
"""

import collections
import json
from collections.abc import Iterable, Mapping
from typing import Any

from tl_jax.data.texts import library
from tl_jax.data.texts.rules import SPECIALS, UNK, apply_rules
from tl_jax.data.texts.vocabulary import ids_of
from tl_jax.errors import UserError, takes_whole, unknown

SPACE = "▁"
SEEDS = 10  # pieces that unigram begins with, for each one that it keeps
DIGITS = 4  # of scores: the library adds them up in no fixed order
MORE = "take more words=, or a larger least="
# As SentencePiece's usual nmt_nfkc: characters that look alike are one, all white space is a space
NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Nmt"},
        {"type": "NFKC"},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ],
}


def trained(texts: Iterable[str], *, kind: str, most: int, least: int) -> str:
    """A tokenizer (JSON) for texts after fastai's rules, with `most` pieces learned from these.

    fastai's special tokens are the first of them. `kind` is 'unigram' (Kudo 2018, arXiv:1804.10959)
    or 'bpe' (Sennrich et al. 2016, arXiv:1508.07909). Words that occur less than `least` times are
    not learned from. The same texts give the same pieces, whatever their order. UserError for texts
    with more different characters than pieces.
    """
    if kind not in MODELS:
        raise unknown("kind of subwords", kind, MODELS)
    takes_whole(most, "words=", len(SPECIALS) + 1, 1_000_000)
    counts = collections.Counter(word for text in texts for word in apply_rules(text).split())
    words = sorted(w for w, n in counts.items() if n >= least and w not in SPECIALS)
    if not words:
        raise UserError(f"no word of the texts occurs {least} times: take a smaller least=")
    model = MODELS[kind]((" ".join([word] * counts[word]) for word in words), most)
    if (found := len(model["vocab"])) > most:
        raise UserError(
            f"the texts have so many different characters that they need {found:,} pieces; {MORE}"
        )
    return described(model, NORMALIZER, added=ids_of(SPECIALS))


def described(
    model: Mapping[str, Any],
    normalizer: Mapping[str, Any] | None,
    *,
    added: Mapping[str, int] | None = None,
    prefix: str = "always",
    split: bool = True,
    around: Mapping[str, Any] | None = None,
) -> str:
    """The JSON of a tokenizer with this model.

    `added` are tokens, and their numbers, that stand for themselves in a text and take the space
    before them along. `prefix` says whether a text begins with a space that is not there, `split`
    whether pieces end where words do, and `around` (a post-processor) what stands around a text.
    """
    flags = {"single_word": True, "lstrip": True, "rstrip": False, "normalized": False}
    own = [
        {"id": number, "content": word, "special": True} | flags
        for word, number in sorted((added or {}).items(), key=lambda item: item[1])
    ]
    space = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": prefix, "split": split}
    parts = {"added_tokens": own, "normalizer": normalizer, "pre_tokenizer": space}
    ends = {"post_processor": around, "decoder": space, "model": model}
    return json.dumps({"version": "1.0", "truncation": None, "padding": None, **parts, **ends})


def _unigram(words: Iterable[str], most: int) -> dict[str, Any]:
    """The model whose pieces, drawn by themselves, make the words likeliest."""
    found = _learned("Unigram", words, vocab_size=most, seed_size=SEEDS * most, unk_token=UNK)
    scores = {piece: score for piece, score in found["vocab"] if piece not in SPECIALS}
    # Characters that are no piece are added with scores a little above the least one, in no fixed
    # order: they all get the least one.
    least, letters = min(scores.values()), sum(len(piece) == 1 for piece in scores)
    for piece, score in scores.items():
        if len(piece) == 1 and score < least + 1e-4 * letters:
            scores[piece] = least
    rounded = {piece: round(score, DIGITS) for piece, score in scores.items()}
    ranked = sorted(rounded.items(), key=lambda item: (-item[1], item[0]))
    return {**found, "unk_id": 0, "vocab": [(word, 0.0) for word in SPECIALS] + ranked}


def _bpe(words: Iterable[str], most: int) -> dict[str, Any]:
    """The model that joins the most frequent pair of pieces, again and again."""
    found = _learned("Bpe", words, vocab_size=most)
    return {**found, "unk_token": UNK, "fuse_unk": True}


def _learned(kind: str, words: Iterable[str], **options: Any) -> dict[str, Any]:
    """The model that the library's trainer of this kind learns, as JSON-able data."""
    trainers = library.tokenizers().trainers
    trainer = getattr(trainers, f"{kind}Trainer")(
        special_tokens=list(SPECIALS), show_progress=False, **options
    )
    empty = {"Unigram": {"vocab": [], "unk_id": None}, "Bpe": {"vocab": {}, "merges": []}}[kind]
    learner = library.read(described({"type": kind.replace("Bpe", "BPE"), **empty}, NORMALIZER))
    with library.refusing(f"no subwords can be learned of these texts; {MORE}"):
        learner.train_from_iterator(words, trainer)
    return json.loads(learner.to_str())["model"]


MODELS = {"unigram": _unigram, "bpe": _bpe}
