"""The zoo: one file a family, found by being here. A family file has

* `VARIANTS`, a dictionary whose keys are the architectures' names;
* `forms(name)`: in which forms the architecture exists, the usual one first. A form is named after
  the library whose files have it (`torchvision`, `timm`, `keras`, ...): padding, epsilon, biases
  and the order of operations may differ between them, and so do the names of the weights;
* `build(name, form, classes)`: the chain, its classifier last and called `head`;
* `preprocessing(name, form)`: what the form's weights usually expect;
* `rules(name, form)`: from the names in the form's files to the chain's;
* `PUBLISHED[name]`: weights that can be had by name;
* optionally `TIMM_NAMES[name]`: what timm calls the architecture, if otherwise.
"""

import functools
import importlib
import pkgutil
from types import ModuleType

from tl_jax.errors import unknown
from tl_jax.weights.published import Published

# What else the field calls some of them
ALIASES = {"googlenet": "inception_v1", "bn_inception": "inception_v2"}


@functools.cache
def _families() -> dict[str, ModuleType]:
    modules = [m.name for m in pkgutil.iter_modules(__path__)]
    loaded = [importlib.import_module(f"{__name__}.{m}") for m in modules]
    return {name: module for module in loaded for name in getattr(module, "VARIANTS", ())}


def names() -> list[str]:
    """Every architecture that can be built, in alphabetical order."""
    return sorted(_families())


def canonical(name: str) -> str:
    """The architecture's name in the registry; UserError with the near miss if there is none."""
    found = ALIASES.get(name, name)
    if found not in _families():
        raise unknown("base", name, [*names(), *ALIASES])
    return found


def published(name: str) -> dict[str, Published]:
    """The weights of the architecture that can be had by name, the usual ones first."""
    return family(name).PUBLISHED.get(canonical(name), {})


def family(name: str) -> ModuleType:
    """The file that knows the architecture `name`."""
    return _families()[canonical(name)]
