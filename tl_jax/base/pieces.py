"""SentencePiece's models as tokenizers of the library `tokenizers`."""

import base64
import pathlib
from collections.abc import Mapping
from typing import Any

from tl_jax.data.texts.rules import BOS, PAD, SPECIALS
from tl_jax.data.texts.subwords import SPACE
from tl_jax.data.texts.subwords import described as framed
from tl_jax.errors import UserError
from tl_jax.weights import sentencepiece_file
from tl_jax.weights.sentencepiece_file import NORMAL, UNKNOWN, USER_DEFINED, SentencePiece

AROUND = (("[CLS]", "[SEP]"), ("<s>", "</s>"))  # an encoder's text; the first that there are
UNLIKELY = -1e5  # score of pieces that no text is made of, such as "<s>"


def described(path: pathlib.Path) -> str:
    """Return the tokenizer (JSON) of the model in a file, for an encoder.

    Its tokens are those that SentencePiece gives, between `AROUND`. UserError for a file that is
    damaged or has another kind of model.
    """
    model = sentencepiece_file.read(path)
    numbers = {piece.text: number for number, piece in enumerate(model.pieces)}
    found = next((pair for pair in AROUND if numbers.keys() >= set(pair)), None)
    return _described(model, numbers, around=found and between(*found, numbers))


def of_fastai(path: pathlib.Path, *, pad: int) -> str:
    """Return the same for a language model of fastai's, whose special tokens are pieces: "▁xxbos"
    and so on, here without the space. UserError for a model without them.
    """
    model = sentencepiece_file.read(path)
    special = {SPACE + word: word for word in SPECIALS}
    texts = [special.get(piece.text, piece.text) for piece in model.pieces]
    numbers = {text: number for number, text in enumerate(texts)}
    if numbers.get(PAD) != pad or BOS not in numbers:
        raise UserError(
            f"{path} has no piece {SPACE}{BOS}, or {SPACE}{PAD} has not the number {pad}: "
            "it is no vocabulary of fastai's"
        )
    return _described(model, numbers, added={w: numbers[w] for w in SPECIALS if w in numbers})


def between(first: str, last: str, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Return the description of two tokens around a text."""
    one, other = ({"SpecialToken": {"id": word, "type_id": 0}} for word in (first, last))
    around = [one, {"Sequence": {"id": "A", "type_id": 0}}, other]
    special = {w: {"id": w, "ids": [numbers[w]], "tokens": [w]} for w in (first, last)}
    ends = {"single": around, "pair": around, "special_tokens": special}
    return {"type": "TemplateProcessing", **ends}


def _described(model: SentencePiece, numbers: Mapping[str, int], **options: Any) -> str:
    """Return the tokenizer with the model's pieces by these names."""
    steps: list[dict[str, Any]] = []
    if model.charsmap:
        rules = base64.b64encode(model.charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": rules})
    if model.squeeze:
        for pattern, content in (("^ +| +$", ""), (" {2,}", " ")):
            steps.append({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
    elif model.prefix:  # even before a text that begins with a space
        steps.append({"type": "Prepend", "prepend": " "})
    scores = _scores(model)
    unknown = next(n for n, piece in enumerate(model.pieces) if piece.type == UNKNOWN)
    kind = {"type": "Unigram", "unk_id": unknown, "byte_fallback": model.byte_fallback}
    return framed(
        kind | {"vocab": list(zip(numbers, scores, strict=True))},
        {"type": "Sequence", "normalizers": steps} if steps else None,
        prefix="always" if model.prefix and model.squeeze else "never",
        split=not any(SPACE in piece.text.lstrip(SPACE) for piece in model.pieces),
        **options,
    )


def _scores(model: SentencePiece) -> list[float]:
    """Return what each piece adds to the score of a text that it is a part of.

    A piece that a user defined is always taken: it scores a little less than the best piece would
    for each of its bytes (SentencePiece 0.2, `unigram_model.cc`, `EncodeOptimized`).
    """
    best = max((piece.score for piece in model.pieces if piece.type == NORMAL), default=0.0)
    always = {NORMAL: lambda piece: piece.score,
              USER_DEFINED: lambda piece: len(piece.text.encode()) * best - 0.1}  # fmt: skip
    return [always.get(piece.type, lambda _: UNLIKELY)(piece) for piece in model.pieces]
