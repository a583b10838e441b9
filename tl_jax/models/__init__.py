"""The zoo: one file for each family; every file of this folder that has `VARIANTS` belongs to it.

A family file has

* `VARIANTS`, a dictionary whose keys are the architectures' names;
* `forms(name)`: the architecture's forms, the usual one first. A form is named after the library
  whose weight files use it (`torchvision`, `timm`, `keras`, ...): padding, epsilon, biases and the
  order of operations may differ between forms, and the names of the weights do;
* `build(name, form, classes)`: the chain, whose classifier is last and is called `head`;
* `preprocessing(name, form)`: the preprocessing that the form's weights usually expect;
* `rules(name, form)`: the rules that translate the names in the form's files into the chain's;
* `PUBLISHED[name]`: weights that can be loaded by name;
* optionally `READS`, the place that the first layer reads: `tokens`, if not `image`. Of such a
  family the usual weights have no classifier, `build` takes the number of `words` of the vocabulary
  too, and `TABLE` is the path of their vectors. If it takes the number of `features` as well,
  vectors may be of any width;
* optionally `read(path)`, of a family whose weights are in files of their own kind: their arrays,
  under names for the rules, and the preprocessing that goes with them;
* optionally `tidied(state)`: a file's arrays, each parameter once, under names for the rules;
* optionally `TIMM_NAMES[name]`: timm's name for the architecture, if it differs.
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
from tl_jax.chain.places import IMAGE
from tl_jax.data.expects import Expected
from tl_jax.data.texts.preprocessing import TOKENS, TextPreprocessing
from tl_jax.errors import UserError, unknown
from tl_jax.weights.convert import Rule
from tl_jax.weights.published import Published

# Other names that the field uses for some architectures
ALIASES = {"googlenet": "inception_v1", "bn_inception": "inception_v2"}


@dataclasses.dataclass(frozen=True)
class Registered:
    """A base that a user registered, with the interface of a family file of one architecture."""

    of: Callable[[int], Network]
    expects: Expected
    rule_list: tuple[Rule, ...]

    PUBLISHED: ClassVar[dict] = {}

    @property
    def READS(self) -> str:
        """The place that its first layer reads."""
        return TOKENS if isinstance(self.expects, TextPreprocessing) else IMAGE

    def forms(self, name: str) -> tuple[str, ...]:
        """Return its one form."""
        return ("own",)

    def build(self, name: str, form: str, classes: int = 1000) -> Network:
        """Return the network; its classifier is last and is called `head`."""
        return self.of(classes)

    def preprocessing(self, name: str, form: str) -> Expected:
        """Return the preprocessing that its weights expect."""
        return self.expects

    def rules(self, name: str, form: str) -> list[Rule]:
        """Return the rules that translate the names in its weight files."""
        return list(self.rule_list)


Family = ModuleType | Registered


def register_base(
    *, preprocessing: Expected, rules: Sequence[Rule] = ()
) -> Callable[[Callable[[int], Network]], Callable[[int], Network]]:
    """Return a decorator that adds an architecture to the zoo under the function's name.

    The function takes the number of classes and returns the network, whose last layer is the
    classifier and is called `head`. `rules` translate the names in weight files; without rules,
    files must have the network's own names. UserError if the name is taken.
    """

    def add(function: Callable[[int], Network]) -> Callable[[int], Network]:
        name = function.__name__
        if is_name(name):
            raise UserError(f"there is a base {name!r} already: give this one another name")
        _families()[name] = Registered(function, preprocessing, tuple(rules))
        return function

    return add


@functools.cache
def _families() -> dict[str, Family]:
    modules = [m.name for m in pkgutil.iter_modules(__path__)]
    loaded = [importlib.import_module(f"{__name__}.{m}") for m in modules]
    return {name: module for module in loaded for name in getattr(module, "VARIANTS", ())}


@functools.cache
def _small() -> dict[str, Family]:
    """Return the architectures that nobody publishes weights for, which are not in the zoo."""
    from tl_jax.models import alexnet_small, resnet_small

    grey = alexnet_small.preprocessing()
    builds = {"alexnet_small": alexnet_small.build, "resnet_small": resnet_small.build}
    return {name: Registered(build, grey, ()) for name, build in builds.items()}


def names(reads: str = IMAGE) -> list[str]:
    """Return the names of the zoo's architectures that read images, or tokens, in alphabetical
    order.
    """
    return sorted(name for name, module in _families().items() if _reads(module) == reads)


def _reads(module: Family) -> str:
    return getattr(module, "READS", IMAGE)


def reads(name: str) -> str:
    """Return the place that the architecture's first layer reads."""
    return _reads(family(name))


def usual_cut(name: str, chain: Network) -> str:
    """Return the layer at which the architecture's usual weights end; "" if they fill the chain."""
    encoder = isinstance(family(name), ModuleType) and reads(name) == TOKENS
    return chain.names[-2] if encoder and chain.names[-1] == "head" else ""


def is_name(name: str) -> bool:
    """Return whether it is the name of an architecture."""
    return ALIASES.get(name, name) in {**_families(), **_small()}


def canonical(name: str) -> str:
    """Return the architecture's name in the zoo; UserError with the near miss if it is unknown."""
    ours = ALIASES.get(name, name)
    if not is_name(ours):
        if near := _elsewhere().get(_bare(name)):
            raise UserError(f"unknown base {name!r}; did you mean {near!r}?")
        raise unknown("base", name, [*_families(), *ALIASES])
    return ours


def _bare(name: str) -> str:
    """Return a name without tag, `tf_`, capitals and underscores, which vary among libraries."""
    return re.sub("[_-]", "", name.lower().removeprefix("tf_").split(".")[0])


def _elsewhere() -> dict[str, str]:
    """Return our names by the bare names that the architectures have here, in timm and in Keras."""
    ours = {_bare(name): name for name in _families()}
    for name, module in _families().items():
        ours[_bare(getattr(module, "TIMM_NAMES", {}).get(name, name))] = name
    return ours | {"mobilenet": "mobilenet_v1", "googlenet": "inception_v1"}


def published(name: str) -> dict[str, Published]:
    """Return the architecture's published weights by name, the usual ones first."""
    return family(name).PUBLISHED.get(canonical(name), {})


def family(name: str) -> Family:
    """Return the family file, or the registered base, of the architecture `name`."""
    return {**_families(), **_small()}[canonical(name)]
