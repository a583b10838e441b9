"""Which of a file's arrays are a net's, and under which names: the form, and what stands in front.

Training scripts keep nets below keys and attributes (`state_dict.module.`, `model.`, `backbone.`)
and beside losses, metrics, optimizers and averages. The prefix is the one below which the most of
the net's parameters are found.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util
import numpy as np

from tl_jax import models
from tl_jax.errors import UserError, unknown
from tl_jax.weights import convert, keras_file
from tl_jax.weights.convert import Found, Rule

logger = logging.getLogger(__name__)

State = Mapping[str, np.ndarray]
# What PyTorch puts between the names of modules that it compiles, shards or recomputes.
WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
DEEPEST = 8  # names in front of a parameter's own


def recognised(
    name: str, state: State, form: str | None = None, part: str = ""
) -> tuple[str, Found]:
    """The form of the architecture whose names the arrays have the most of, and their places.

    A `form` that is known by other means is not questioned. `part` is what stands in front of the
    names, where the file has several nets of the kind; UserError if it has and none is named.
    """
    family, state = models.family(name), _unwrapped(keras_file.renumbered(state))
    forms = [form] if form else family.forms(name)
    rules = {f: family.rules(name, f) for f in forms}
    # Kernels stay as they are while one looks for names: to turn VGG's takes a second each time.
    plain = {f: [rule._replace(kernel=np.asarray) for rule in rules[f]] for f in forms}
    prefix = _prefix(name, state, plain, part)
    own = _below(state, prefix)
    found = {f: convert.find(own, rules[f], keras=f == "keras") for f in forms}
    best = max(forms, key=lambda f: len(found[f].arrays))
    equal = [f for f in forms if found[f].arrays and found[f].names == found[best].names]
    if len(equal) > 1:
        logger.warning(
            "the names fit %s in the forms %s: taken for %s; say form= if it is another",
            name,
            " and ".join(equal),
            best,
        )
    return best, _with_aside(found[best], state, prefix, keras=best == "keras")


def _unwrapped(state: State) -> State:
    """The arrays by names without `WRAPPERS`; as they are if two would then have the same."""
    bare = {WRAPPERS.sub("", name): array for name, array in state.items()}
    return bare if len(bare) == len(state) else state


def _with_aside(found: Found, state: State, prefix: str, *, keras: bool) -> Found:
    """What is no parameter of the net as well, by the names that it has in the file.

    In the net's own part that is what belongs to none of its modules: `criterion.weight`, but not
    `layer3.7.conv1.weight`, by which the file would be of a deeper net.
    """
    outside = [name for name in state if not name.startswith(prefix)]
    modules = {_module(name) for name in (*found.names.values(), *found.left_out)}
    aside = [name for name in found.surplus if not keras and _module(name) not in modules]
    surplus = [name for name in found.surplus if name not in set(aside)]
    aside = [f"{prefix}{name}" for name in aside]
    return found._replace(surplus=surplus, aside=aside, outside=outside)


def _module(name: str) -> str:
    """A name's first part, without the number at its end."""
    return re.sub(r"\d+$", "", name.split(".")[0])


def _below(state: State, prefix: str) -> State:
    """The arrays whose names begin with the prefix, without it."""
    if not prefix:
        return state
    return {n.removeprefix(prefix): a for n, a in state.items() if n.startswith(prefix)}


def _prefix(name: str, state: State, rules: Mapping[str, Sequence[Rule]], part: str) -> str:
    """What stands in front of the net's names in the file, with the dot at its end, or nothing."""
    best = _best_prefixes(name, state, rules)
    if part:
        asked = part.rstrip(".") + "."
        inside = _below(state, asked)
        if not inside:
            raise unknown("part of the file", part, [p.rstrip(".") for p in best if p])
        return asked + _prefix(name, inside, rules, "")
    if len(best) > 1:
        names = [prefix.rstrip(".") for prefix in best]
        raise UserError(
            f"holds {name} {len(best)} times, as {', '.join(f'{n!r:.80}' for n in names[:5])}; "
            f"say which one behind the file's name, as in 'file.pth#{names[0]:.80}'"
        )
    return best[0]


def _best_prefixes(name: str, state: State, rules: Mapping[str, Sequence[Rule]]) -> list[str]:
    """The prefixes below which the most of the net's parameters are; "" alone if it is one."""
    whole = [convert.find(state, rules[f], keras=f == "keras") for f in rules]
    if not state or any(not found.surplus for found in whole):
        return [""]
    counts = {"": max(len(found.arrays) for found in whole)}
    most = counts[""]
    parts = _parts(state)
    for prefix in sorted(parts, key=lambda prefix: -len(parts[prefix])):
        if len(parts[prefix]) < most:  # nor have the others as many
            break
        counts[prefix] = _most(parts[prefix], rules)
        most = max(most, counts[prefix])
    best = [prefix for prefix in parts if counts.get(prefix) == most]
    if counts[""] == most:
        return [""]
    best = [p for p in best if not any(p != other and p.startswith(other) for other in best)]
    if len(best) == 1 and all(n.startswith(best[0]) for n in state):
        return best
    # Below `layer1.0.` of any net there are a few names that others have as well.
    return best if 2 * most >= min(_parameters(name, form) for form in rules) else [""]


def _parts(state: State) -> dict[str, dict[str, Any]]:
    """The arrays below each prefix, by their names there."""
    found: dict[str, dict[str, Any]] = {}
    for name, array in state.items():
        parts = name.split(".")
        for n in range(1, min(len(parts) - 1, DEEPEST + 1)):
            prefix, rest = ".".join(parts[:n]) + ".", ".".join(parts[n:])
            found.setdefault(prefix, {})[rest] = array
    return found


def _most(state: State, rules: Mapping[str, Sequence[Rule]]) -> int:
    """How many of the net's parameters are among the arrays, in the form that has the most."""
    return max(len(convert.find(state, rules[f], keras=f == "keras").arrays) for f in rules)


def _parameters(name: str, form: str) -> int:
    family = models.family(name)
    example = family.preprocessing(name, form).example
    variables, _ = family.build(name, form).shapes(example)
    return len(flax.traverse_util.flatten_dict(variables))
