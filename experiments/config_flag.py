"""Programs that take a config: the flags --config and --workdir, and the studies' programs."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

from absl import flags
from ml_collections import config_flags

from experiments import arguments, cli, workdir_flag
from tl_jax import interrupt
from tl_jax.errors import UserError
from tl_jax.runs.config import flat

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of the run.", lock_config=True)
flags.adopt_module_key_flags(workdir_flag)

Do = Callable[..., dict]  # (config, workdir, name) -> the result


def program(study: str) -> Callable[[list[str]], None]:
    """Return the `main(argv)` of a study's program: it runs the study, or shows its result."""
    return by_config(lambda *given: run(study, *given), example=f"configs/{study}.py")


def by_config(do: Do, *, example: str) -> Callable[[list[str]], None]:
    """Return a `main(argv)` that calls `do` with the flags; `example` is a config for messages."""

    def main(argv: list[str]) -> None:
        cli.no_arguments(argv)
        if _CONFIG.value is None:
            raise UserError(f"which run? --config={example}, for example")
        flag = flags.FLAGS["config"]
        name = pathlib.Path(config_flags.get_config_filename(flag)).stem
        with interrupt.caught(), naming_flags(_CONFIG.value):
            arguments.settle_task(_CONFIG.value, config_flags.get_override_values(flag))
            do(_CONFIG.value, workdir_flag.workdir(name), name)

    return main


@contextlib.contextmanager
def naming_flags(config) -> Iterator[None]:
    """Make a UserError inside name settings as flags: the library's `cache=` as --config.cache=."""
    try:
        yield
    except UserError as error:
        raise UserError(arguments.as_flags(str(error), flat(config))) from error


def run(study: str, config, workdir: pathlib.Path, name: str) -> dict:
    """Finish the study in `workdir`, print its summary, and return the result."""
    from tl_jax.studies import run as studies  # imports JAX, which --help does without

    result, before = studies.run(study, config, workdir, name=name)
    return say(studies.summary(study, result), result, before, workdir)


def say(summary: str, result: dict, before: bool, workdir: pathlib.Path) -> dict:
    """Print the summary and where the report is; return the result."""
    if summary:
        print(summary)
    print(f"{'done before' if before else 'report'}: {workdir / 'report.html'}")
    return result
