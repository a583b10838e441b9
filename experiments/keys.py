"""A transfer config's keys for --help, read from the sources, so that no slow import is needed."""

import ast
import pathlib
import re
import textwrap
from collections.abc import Iterable, Iterator

ROOT = pathlib.Path(__file__).parent.parent
KEY = re.compile(r"(?:config\.)?([\w.]+)(?:: [^=]+)? = (.+?)(?:  # (.*))?$")
# Parameters of a plan that are not keys
PLAN_GIVES = ("new", "weightless", "adapters", "train_head", "tune")


def explained() -> str:
    """Return all keys with their defaults and comments, in a paragraph for each group."""
    plan = (ROOT / "tl_jax/plans/plan.py").read_text()
    strategies = (ROOT / "tl_jax/plans/strategies.py").read_text()
    settings = (ROOT / "tl_jax/runs/settings.py").read_text()
    defaults = (ROOT / "configs/defaults.py").read_text()
    groups = {
        "The base and the task": _keys(_body(defaults, "def subject")),
        "The transfer": _keys(_body(settings, "class TransferSettings")),
        "The plan": _options(strategies),
        "Its phases, as --config.train_head.epochs=5 and --config.tune.epochs=20": _keys(
            _body(plan, "class Settings")
        ),
    }
    return "\n\n".join(f"{title}:\n\n{_table(keys)}" for title, keys in groups.items())


def _body(source: str, opening: str) -> list[str]:
    """Return the stripped lines of a class or function up to its return or first method."""
    rest = source.split(f"\n{opening}", 1)[1]
    inside = re.split(r"\n(?:    def |    return |\S)", rest)[0]
    return [line.strip() for line in inside.split("\n")]


def _keys(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield name, default and comment of each key: the lines above it, then the one behind it."""
    above: list[str] = []
    for line in lines:
        if line.startswith("# "):
            above.append(line.removeprefix("# "))
            continue
        match = KEY.match(line)
        if match and "ConfigDict" not in line:
            behind = [match[3]] if match[3] else []
            yield match[1], match[2], " ".join([*above, *behind])
        above = []


def _options(source: str) -> Iterator[tuple[str, str, str]]:
    """Yield the keyword parameters of the strategies, the functions of layers' `names`."""
    where = re.search(r"^Where = .*?# (.*)$", source, re.MULTILINE)
    seen = set(PLAN_GIVES)
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        if [argument.arg for argument in node.args.args] != ["names"]:
            continue
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            if argument.arg not in seen:
                is_place = ast.unparse(argument.annotation) == "Where"
                comment = where[1] if where and is_place else f"of the plan {node.name}"
                yield argument.arg, ast.unparse(default) if default else '""', comment
            seen.add(argument.arg)


def _table(keys: Iterable[tuple[str, str, str]]) -> str:
    lines = []
    for name, default, comment in keys:
        wrapped = textwrap.wrap(comment, 92, initial_indent=" " * 8, subsequent_indent=" " * 8)
        lines += [f"  {name} = {default}", *wrapped]
    return "\n".join(lines)
