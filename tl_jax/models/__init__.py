"""The zoo: one file a family. A family file has `VARIANTS`, `build`, `preprocessing` and
`names_in_file`; a new one is found by being here.
"""

import functools
import importlib
import pkgutil
from types import ModuleType

from tl_jax.errors import unknown


@functools.cache
def _families() -> dict[str, ModuleType]:
    modules = [m.name for m in pkgutil.iter_modules(__path__)]
    loaded = [importlib.import_module(f"{__name__}.{m}") for m in modules]
    return {name: module for module in loaded for name in getattr(module, "VARIANTS", ())}


def names() -> list[str]:
    """Every architecture that can be built, in alphabetical order."""
    return sorted(_families())


def family(name: str) -> ModuleType:
    """The file that knows the architecture `name`; UserError with the near miss if none does."""
    if name not in _families():
        raise unknown("base", name, names())
    return _families()[name]
