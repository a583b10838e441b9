"""The stamps of the drawing program Tux Paint, with their captions in many languages, from Debian.

Beside each picture lies a text file: its first line is the caption in English, and others are
translations, as in "de.utf8=Eine Katze.". Licence: GPL-2 (the package's copyright file).
"""

import functools
import re
from pathlib import Path

from tl_jax.data.images import open_image
from tl_jax.data.packaged import fetched
from tl_jax.data.task import Task
from tl_jax.data.tasks.captions import Captioned, from_captions
from tl_jax.data.tasks.composed import STAMPS
from tl_jax.data.tasks.folder import verify
from tl_jax.data.texts.captions import words_in
from tl_jax.errors import UserError, unknown

FOLDER = "usr/share/tuxpaint/stamps"
ENGLISH = "en"
TRANSLATION = re.compile(r"^([\w@]+)\.utf8=(.+)$", re.MULTILINE)


def captioned(
    name: str, *, language: str = ENGLISH, shared: str = "apart", least: int = 2, **splits
) -> Task:
    """A task of the stamps that are pixels and have a caption in the `language`, a code of the
    files: 785 in English. Those that are drawn as SVG are left out.
    """
    root = fetched(*STAMPS, member=FOLDER)
    found = _captions(root)
    if language not in (codes := sorted({code for own in found.values() for code in own})):
        raise unknown("value of language", language, codes)
    told = {id_: own[language] for id_, own in found.items() if language in own}
    examples = {id_: Captioned((text,)) for id_, text in told.items() if words_in(text)}
    read = verify(root, examples)
    if read.faults:
        raise UserError(f"{next(iter(read.faults.values()))}: fetch the package again")
    ids = tuple(examples)
    return from_captions(
        name,
        examples,
        lambda row: open_image(root / ids[row]),
        list(read.digests.values()),
        shared=shared,
        least=least,
        **splits,
    )


@functools.cache
def _captions(root: Path) -> dict[str, dict[str, str]]:
    """The captions of each picture, by language."""
    found = {}
    for path in sorted(root.rglob("*.png")):
        if (beside := path.with_suffix(".txt")).is_file():
            text = beside.read_text(encoding="utf-8")
            first = text.partition("\n")[0].strip()
            own = {code: said.strip() for code, said in TRANSLATION.findall(text)}
            found[path.relative_to(root).as_posix()] = {ENGLISH: first, **own}
    return found
