"""The Hugging Face hub, or what HF_ENDPOINT names in its place: through its own client."""

import pathlib
import re
from typing import Any

from tl_jax.base import file
from tl_jax.errors import UserError

PREFIX = "hf:"  # of a base's name
REPOSITORY = r"[\w-][\w.-]*/[\w-][\w.-]*"


def client(what: str) -> Any:
    """The package `huggingface_hub`; UserError, which begins with `what`, without it."""
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        line = "by a package that is not installed: pip install huggingface-hub"
        raise UserError(f"{what} {line}") from None
    return huggingface_hub


def pulled(name: str) -> pathlib.Path:
    """The file of the base 'hf:user/model', or 'hf:user/model@commit', fetched once.

    A private one is read with the token that the client has, from HF_TOKEN or `hf auth login`.
    UserError if it cannot be had.
    """
    match = re.fullmatch(rf"{PREFIX}({REPOSITORY})(?:@([\w.-]+))?", name)
    if match is None:
        raise UserError(f"{name!r:.80}: a base on the hub is named as in hf:user/model")
    repository, revision = match.groups()
    try:
        return download(repository, file.NAME, revision, otherwise="publish a run there first")
    except LookupError:
        private = "or it is private: hf auth login"
        raise UserError(f"there is no {repository} on the hub, {private}") from None


def download(
    repository: str,
    name: str,
    revision: str | None,
    *,
    otherwise: str,
    token: bool | None = None,
) -> pathlib.Path:
    """The path of a repository's file, fetched once; `token` False: without the user's.

    LookupError if there is no such repository; UserError, which ends with what one can do
    `otherwise`, if it cannot be fetched.
    """
    hub = client(f"{repository} is fetched")
    try:
        return pathlib.Path(hub.hf_hub_download(repository, name, revision=revision, token=token))
    except hub.errors.RepositoryNotFoundError as error:
        raise LookupError(repository) from error
    except Exception as error:  # the errors of its transport have no class of their own in common
        offline = isinstance(error, hub.errors.LocalEntryNotFoundError)
        raise UserError(
            f"https://huggingface.co/{repository} cannot be fetched "
            f"({'no network' if offline else type(error).__name__}); {otherwise}"
        ) from error
