"""XML of strangers: a tree of elements, without what could make a small file a large one."""

import xml.etree.ElementTree as tree
from pathlib import Path
from xml.parsers import expat

from tl_jax.errors import UserError

MOST_BYTES = 2**24  # of a file; one of 10,000 boxes has a third of that


def read(path: Path) -> tree.Element:
    """Return the root element; UserError for a file that is large, no XML, or has a DTD, whose
    entities could grow without bound or name other files.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UserError(f"{str(path)!r} has {size:,} bytes, and {MOST_BYTES:,} are the most")
    builder, parser = tree.TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise UserError(f"{str(path)!r} has a DTD, which files of boxes do not need: remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
    except UserError:  # of `refuse`
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two of its encoding
        raise UserError(f"{str(path)!r} is no XML that can be read ({error!s:.100})") from None
    return builder.close()
