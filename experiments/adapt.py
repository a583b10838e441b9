"""Does adaptation to a target without labels help, and which rule chooses well without them?

    python -m experiments.adapt --config=configs/adapt_digits.py
    python -m experiments.adapt --config=configs/adapt_digits.py --workers=2

A grid of methods, draws of their settings and seeds. Every cell is kept as it finishes, and the
same command goes on. Cells that fail do not stop the others; --retry tries them again. The exit
status is 1 if any failed.
"""

import pathlib

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)
_WORKERS = flags.DEFINE_integer("workers", 1, "Processes, each with cores of its own.", 1)
_RETRY = flags.DEFINE_bool("retry", False, "Try the cells that failed before again.")


def main(argv: list[str]) -> int:
    """Do the study; return 1 if a cell failed."""
    from tl_jax.runs.results import failures

    results: list[dict] = []
    config_flag.by_config(
        lambda *given: results.append(_run(*given)), example="configs/adapt_digits.py"
    )(argv)
    return int(bool(failures(results[0])))


def _run(config, workdir: pathlib.Path, name: str) -> dict:
    from tl_jax.studies import run as studies

    how = {"workers": _WORKERS.value, "retry": _RETRY.value}
    result, before = studies.run("adapt", config, workdir, name=name, **how)
    return config_flag.say(studies.summary("adapt", result), result, before, workdir)


if __name__ == "__main__":
    cli.run(main, trains=True)
