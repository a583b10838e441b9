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

import dataclasses
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import ClassVar

from tl_jax.chain.network import Network
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.errors import UserError, unknown
from tl_jax.weights.convert import Rule
from tl_jax.weights.published import Published

# What else the field calls some of them
ALIASES = {"googlenet": "inception_v1", "bn_inception": "inception_v2"}


@dataclasses.dataclass(frozen=True)
class Registered:
    """A base that was registered from outside, as a family file of one architecture."""

    of: Callable[[int], Network]
    expects: Preprocessing
    rule_list: tuple[Rule, ...]

    PUBLISHED: ClassVar[dict] = {}

    def forms(self, name: str) -> tuple[str, ...]:
        """Its one form."""
        return ("own",)

    def build(self, name: str, form: str, classes: int = 1000) -> Network:
        """The network, its classifier last and called `head`."""
        return self.of(classes)

    def preprocessing(self, name: str, form: str) -> Preprocessing:
        """What its weights expect of an image."""
        return self.expects

    def rules(self, name: str, form: str) -> list[Rule]:
        """From the names in its weight files to the network's."""
        return list(self.rule_list)


Family = ModuleType | Registered


def register_base(
    *, preprocessing: Preprocessing, rules: Sequence[Rule] = ()
) -> Callable[[Callable[[int], Network]], Callable[[int], Network]]:
    """Return a decorator that adds an architecture: a function from the number of classes to its
    network, whose classifier is the last layer and called `head`.

    `rules` translate the names in weight files; without any, they are the network's own names.
    UserError if the name is taken.
    """

    def add(function: Callable[[int], Network]) -> Callable[[int], Network]:
        name = function.__name__
        if name in _families():
            raise UserError(f"there is a base {name!r} already: give this one another name")
        _families()[name] = Registered(function, preprocessing, tuple(rules))
        return function

    return add


@functools.cache
def _families() -> dict[str, Family]:
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
        if ours := _elsewhere().get(_bare(name)):
            raise UserError(f"unknown base {name!r}; did you mean {ours!r}?")
        raise unknown("base", name, [*names(), *ALIASES])
    return found


def _bare(name: str) -> str:
    """A name as all libraries would have it: without a tag, `tf_`, capitals and underscores."""
    return re.sub("[_-]", "", name.lower().removeprefix("tf_").split(".")[0])


def _elsewhere() -> dict[str, str]:
    """Our names by the bare names that the architectures have here, in timm and in Keras."""
    found = {_bare(name): name for name in names()}
    for name, module in _families().items():
        found[_bare(getattr(module, "TIMM_NAMES", {}).get(name, name))] = name
    return found | {"mobilenet": "mobilenet_v1", "googlenet": "inception_v1"}


def published(name: str) -> dict[str, Published]:
    """The weights of the architecture that can be had by name, the usual ones first."""
    return family(name).PUBLISHED.get(canonical(name), {})


def family(name: str) -> Family:
    """The file, or the registered base, that knows the architecture `name`."""
    return _families()[canonical(name)]
