"""A finished run goes to the Hugging Face hub with its card; `load_base("hf:user/model")` reads it.

The client finds the user's token by itself (HF_TOKEN, `hf auth login`) and the hub in HF_ENDPOINT;
neither is read, written or logged here.
"""

import pathlib
import re

from tl_jax.base import file, hub
from tl_jax.base.load import load_base
from tl_jax.errors import UserError
from tl_jax.report import card

FILES = {file.NAME: file.NAME, card.NAME: "README.md"}  # here: there


def publish(folder: pathlib.Path, repository: str, *, private: bool = False) -> str:
    """Make the repository 'user/model', if there is none, and commit the network of the run in
    `folder` and its card; return the repository's address.

    Of the results only these two files are sent: the others tell of the machine and its paths.
    UserError for a run that has not finished, without a token, for a repository that is public
    already where it is to be `private`, and for what the hub refuses.
    """
    if not re.fullmatch(hub.REPOSITORY, repository):
        raise UserError(f"{repository!r:.80}: a repository is named as in user/model")
    load_base(folder)  # whole, or a UserError
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise UserError(f"{folder} has no {missing[0]}: a finished transfer writes it")
    client = hub.client(f"{repository} is published")
    added = [
        client.CommitOperationAdd(path_in_repo=there, path_or_fileobj=folder / here)
        for here, there in FILES.items()
    ]
    api = client.HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        if private and not api.repo_info(repository).private:  # it was there before
            raise UserError(f"{repository} is public already: make it private on the hub first")
        api.create_commit(repository, added, commit_message="Network and card of a tl_jax run")
    except client.errors.LocalTokenNotFoundError:
        raise UserError("the hub does not know you: hf auth login, or set HF_TOKEN") from None
    except UserError:
        raise
    except Exception as error:  # the errors of its transport have no class of their own in common
        raise UserError(f"{repository} cannot be published ({_reason(error)})") from error
    return str(address)


def _reason(error: Exception) -> str:
    """Return the status of the hub's answer, or the kind of error: its text may have anything."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"HTTP status {status}: your token may not write there; hf auth login"
    return f"HTTP status {status}" if status else type(error).__name__
