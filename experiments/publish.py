"""Publish a finished run on the Hugging Face hub: its network, and its card as the README.

    hf auth login    # once; or HF_TOKEN
    python -m experiments.publish --run=runs/elpv --repository=me/elpv --private

Complete runs/elpv/card.md first. `tl_jax.load_base("hf:me/elpv")` loads what was published.
"""

from absl import flags

from experiments import cli, run_flag
from experiments.run_flag import RUN
from tl_jax.data.files import path_of
from tl_jax.errors import UserError

flags.adopt_module_key_flags(run_flag)
_REPOSITORY = flags.DEFINE_string("repository", None, "Where to, as in user/model.")
_PRIVATE = flags.DEFINE_bool("private", False, "Make a new repository private.")


def main(argv: list[str]) -> None:
    """Print the repository's address."""
    from tl_jax.serving.publish import publish  # imports JAX, which --help does without

    cli.no_arguments(argv)
    if not RUN.value or not _REPOSITORY.value:
        raise UserError("which run, and where to? --run=runs/elpv --repository=user/model")
    print(publish(path_of(RUN.value), _REPOSITORY.value, private=_PRIVATE.value))


if __name__ == "__main__":
    cli.run(main)
