"""What a base expects of its inputs, images or texts; it travels with the base."""

from collections.abc import Mapping
from typing import Any

from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.errors import UserError

Expected = Preprocessing | TextPreprocessing


def made(fields: Mapping[str, Any]) -> Expected:
    """The preprocessing that has these fields; of a list, a tuple, which JSON does not have."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return TextPreprocessing(**given) if "tokenizer" in given else Preprocessing(**given)


def require_same(*, task: Expected, base: Expected | None) -> None:
    """UserError that names the fields in which a task's pipeline disagrees with the base's."""
    if base is None:
        raise UserError("the task has images, but the base says nothing of theirs")
    ours, theirs = task.described(), base.described()
    other = [name for name in ours if ours[name] != theirs.get(name)]
    different = [f"{name}: {ours[name]!r}, not {theirs.get(name)!r}" for name in other]
    if different:
        raise UserError(
            "the task was prepared otherwise than the base's weights expect ("
            + "; ".join(different)
            + "); prepare it with the base's own preprocessing"
        )
