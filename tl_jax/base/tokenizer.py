"""The tokenizer that lies beside a file of weights, as Hugging Face's repositories have it."""

import json
import pathlib

from tl_jax.base import pieces
from tl_jax.data.texts.preprocessing import MAX_TOKENIZER, SUBWORDS, TextPreprocessing, of_words
from tl_jax.errors import UserError
from tl_jax.weights.vocabulary_file import read_vocabulary

WHOLE, WORDS, SETTINGS = "tokenizer.json", "vocab.txt", "tokenizer_config.json"
PROBE = "a \ue000"  # a word, and a character that no vocabulary has
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def beside(weights: pathlib.Path, usual: TextPreprocessing) -> TextPreprocessing:
    """Return the usual preprocessing of a base, with the tokenizer beside its weights, if any.

    UserError for a tokenizer that gives real tokens the number of padding, whose vectors are zero.
    """
    if usual.rules:
        return _words_beside(weights, usual)
    found = TextPreprocessing(_described(weights), usual.size, usual.pad)
    if found.tokenizer and found.pad in found.rows([PROBE])[0]:
        raise UserError(
            f"{weights.parent}: the tokenizer there gives {found.words()[found.pad]!r} the number "
            f"{found.pad}, and that is padding in these weights; take the one that came with them"
        )
    return found


def _words_beside(weights: pathlib.Path, usual: TextPreprocessing) -> TextPreprocessing:
    """Return fastai's preprocessing with the vocabulary `itos_*.pkl` beside the weights, or with
    SentencePiece's model.
    """
    found = _the_one(weights, "itos*.pkl", "*.model")
    if found is None:
        return usual
    if found.suffix == ".pkl":
        return of_words(read_vocabulary(found), size=usual.size)
    described = pieces.of_fastai(found, pad=usual.pad)
    return TextPreprocessing(described, usual.size, usual.pad, SUBWORDS)


def _the_one(weights: pathlib.Path, *patterns: str) -> pathlib.Path | None:
    """Return the file beside the weights that has one of these names, if there is one."""
    found = sorted(path for pattern in patterns for path in weights.parent.glob(pattern))
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UserError(f"{weights.parent} has several vocabularies, {names}: leave one there")
    return found[0] if found else None


def _described(weights: pathlib.Path) -> str:
    """Return the tokenizer as JSON of the library `tokenizers`; empty if there is none.

    It is Hugging Face's `tokenizer.json`, else a `.model` of SentencePiece, else BERT's
    `vocab.txt`, a word a line: WordPiece over BERT's split, in lower case unless
    `tokenizer_config.json` says otherwise. UserError for files that are none of these.
    """
    whole, words = weights.with_name(WHOLE), weights.with_name(WORDS)
    if whole.is_file():
        described = _read(whole)
        _require_json(whole, described)
        return described
    if model := _the_one(weights, "*.model"):
        return pieces.described(model)
    if not words.is_file():
        return ""
    settings = weights.with_name(SETTINGS)
    lower = True
    if settings.is_file():
        lower = bool(_require_json(settings, _read(settings)).get("do_lower_case", True))
    return json.dumps(_wordpiece(words, _read(words).splitlines(), lower))


def _read(path: pathlib.Path) -> str:
    if path.stat().st_size > MAX_TOKENIZER:
        raise UserError(f"{path} is larger than {MAX_TOKENIZER} bytes: no tokenizer is")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start})") from None


def _require_json(path: pathlib.Path, text: str) -> dict:
    try:
        found = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path} is not JSON ({error!s:.80})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is not what it is called: it holds no settings")
    return found


def _wordpiece(path: pathlib.Path, words: list[str], lower: bool) -> dict:
    numbers = {word: number for number, word in enumerate(words)}
    if missing := [word for word in SPECIAL if word not in numbers]:
        raise UserError(f"{path} has no {' and no '.join(missing)}: it is not BERT's vocabulary")
    added = [
        {"id": numbers[word], "content": word, "special": True, "normalized": False}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        for word in SPECIAL
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lower,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": pieces.between("[CLS]", "[SEP]", numbers),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": numbers,
        },
    }
