"""fastai's rules, which a text goes through before it is split into tokens.

Each is a function of a text; `RULES` has them in order. They keep what lower case would lose, as
tokens of their own: "Gooood OK" becomes "xxbos xxmaj g xxrep 4 o d xxup ok". Source: fastai 2.8,
`text/core.py`; their settings are those that fastai's published weights were trained with.
"""

import html
import re
from collections.abc import Callable

UNK, PAD, BOS, EOS, FIELD = "xxunk", "xxpad", "xxbos", "xxeos", "xxfld"
REPEATED, REPEATED_WORD, UPPER, CAPITAL = "xxrep", "xxwrep", "xxup", "xxmaj"
SPECIALS = (UNK, PAD, BOS, EOS, FIELD, REPEATED, REPEATED_WORD, UPPER, CAPITAL)  # by their ids

# What WikiText and scraped pages have in place of characters, replaced in this order
_DEBRIS = {
    "#39;": "'", "amp;": "&", "#146;": "'", "nbsp;": " ", "#36;": "$", "\\n": "\n", "quot;": "'",
    "<br />": "\n", '\\"': '"', "<unk>": UNK, " @.@ ": ".", " @-@ ": "-", "...": " …",
}  # fmt: skip


def clean_html(text: str) -> str:
    """Replace HTML's entities and line breaks, and WikiText's marks inside numbers and words.

    As in fastai, "&amp;" becomes "&&": its "amp;" alone is replaced first.
    """
    for debris, character in _DEBRIS.items():
        text = text.replace(debris, character)
    return html.unescape(text)


def mark_repeated(text: str) -> str:
    """Replace a character three or more times in a row: "cccc" by " xxrep 4 c "."""
    return re.sub(r"(\S)\1{2,}", lambda m: f" {REPEATED} {len(m[0])} {m[1]} ", text)


def mark_repeated_words(text: str) -> str:
    """Replace a word three or more times in a row: "no no no " by " xxwrep 3 no  "."""

    def mark(match: re.Match) -> str:
        return f" {REPEATED_WORD} {len(match[2].split()) + 2} {match[1]} {match[3]}"

    return re.sub(r"(?:\s|^)(\w+)\s+((?:\1\s+)+)\1(\s|\W|$)", mark, text)


def space_marks(text: str) -> str:
    r"""Put spaces around /, # and \."""
    return re.sub(r"([/#\\])", r" \1 ", text)


def squeeze_spaces(text: str) -> str:
    """Replace several spaces by one."""
    return re.sub(" {2,}", " ", text)


def mark_upper(text: str) -> str:
    """Mark words in capitals: "OK" becomes "xxup ok", a single letter just its lower case."""
    return _lowered(UPPER, r"(\s|^)([A-Z][^a-z\s]*)(?=\s|$)", text)


def mark_capitals(text: str) -> str:
    """Mark words with a capital first: "Good" becomes "xxmaj good"."""
    return _lowered(CAPITAL, r"(\s|^)([A-Z][^A-Z\s]*)(?=\s|$)", text)


def _lowered(mark: str, pattern: str, text: str) -> str:
    """Return the text with words that match in lower case, those of two letters on with a mark."""

    def lower(match: re.Match) -> str:
        return match[1] + f"{mark} " * (len(match[2]) > 1) + match[2].lower()

    return re.sub(pattern, lower, text)


def begin(text: str) -> str:
    """Return the text in lower case, after the token that begins every text."""
    return f"{BOS} {text.lower().strip()}"


RULES: tuple[Callable[[str], str], ...] = (
    clean_html,
    mark_repeated,
    mark_repeated_words,
    space_marks,
    squeeze_spaces,
    mark_upper,
    mark_capitals,
    begin,
)


def apply_rules(text: str) -> str:
    """Return the text after all rules."""
    for rule in RULES:
        text = rule(text)
    return text
