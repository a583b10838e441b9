"""What the programs that work by config share: the command line, the results folder, the parts."""

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Callable, Iterator

from absl import flags
from ml_collections import config_flags

from experiments import cli

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of the run.", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run's results; default: runs/ and the config's name."
)

ANY_TIME = ("cache", "checkpoint_seconds")  # settings that do not change what a run finds

Work = Callable[..., dict]  # (config, workdir, name) -> the result


def main(
    work: Work, *, example: str, shown: Callable[[dict], str] = lambda result: ""
) -> Callable[[list[str]], None]:
    """A program's `main(argv)`: does the config's work, or shows its result if there is one.

    `shown` is what the terminal says of a result, `example` a config to name where none is given.
    """

    def main(argv: list[str]) -> None:
        from tl_jax import interrupt
        from tl_jax.errors import UserError

        cli.no_arguments(argv)
        if _CONFIG.value is None:
            raise UserError(f"which run? --config={example}, for example")
        name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
        with interrupt.caught():
            workdir = pathlib.Path(_WORKDIR.value or f"runs/{name}")
            finished(work, _CONFIG.value, workdir, name, shown)

    return main


def finished(
    work: Work, config, workdir: pathlib.Path, name: str, shown: Callable[[dict], str]
) -> dict:
    """The result of `work(config, workdir, name)`, done now or before, in `result.json` too."""
    import jax

    from tl_jax import report
    from tl_jax.runs import results

    with claimed(workdir, config.to_dict()) as done:
        result = done
        if done is None:
            report.require()
            if config.cache:
                compiled = pathlib.Path(config.cache) / "compiled"
                jax.config.update("jax_compilation_cache_dir", str(compiled))
            result = work(config, workdir, name)
            results.write_json(workdir / "result.json", result)  # last: it says that all is done
    if told := shown(result):
        print(told)
    print(f"{'done before' if done else 'report'}: {workdir / 'report.html'}")
    return result


@contextlib.contextmanager
def claimed(workdir: pathlib.Path, config: dict) -> Iterator[dict | None]:
    """Inside, the folder is this process' and this config's own; gives the result if there is one.

    UserError if another process is at work there, or if what is there is of another config.
    """
    from tl_jax.errors import UserError
    from tl_jax.runs import results

    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is at work in {workdir}: wait for it, or take another --workdir"
            ) from None
        done, kept = workdir / "result.json", workdir / "config.json"
        # Until there is something to lose, a mistake in the first command can be mended there.
        begun = done.exists() or (workdir / "cells.jsonl").exists()
        if begun or any((workdir / "checkpoints").glob("*_step*")):
            _require_same(workdir, theirs=_read(kept), ours=json.loads(json.dumps(config)))
        else:
            results.write_json(kept, config)
        yield _read(done) if done.exists() else None


def base_of(config):
    """The base that `config.base` names, with its weights, for the config's size and channels."""
    from tl_jax import models
    from tl_jax.base.load import load_base
    from tl_jax.errors import UserError

    weights = config.weights or next(iter(models.published(config.base)), None)
    if weights is None:
        raise UserError(f"no weights of {config.base} have a name: give --config.weights=FILE")
    base = load_base(config.base, weights)
    base = base.with_channels(config.channels or base.preprocessing.channels)
    return base.resized(config.size or None, config.crop or None)


def task_of(config, seed: int):
    """The task that `config.task` describes, with the splits of `seed`."""
    from tl_jax.data.tasks import load_task

    # Options left empty are not every task's.
    given = {k: v for k, v in config.task.items() if k != "name" and v != ""}
    return load_task(config.task.name, seed=seed, **given)


def _require_same(workdir: pathlib.Path, *, theirs: dict, ours: dict) -> None:
    from tl_jax.errors import UserError

    theirs, ours = _flat(theirs), _flat(ours)
    different = [
        f"{k} {theirs.get(k)!r}, not {ours.get(k)!r}"
        for k in sorted(theirs.keys() | ours.keys())
        if theirs.get(k) != ours.get(k) and k not in ANY_TIME
    ]
    if different:
        raise UserError(
            f"{workdir} belongs to another config ({'; '.join(different[:3])}): "
            "take another --workdir, or that config"
        )


def _read(path: pathlib.Path) -> dict:
    from tl_jax.errors import UserError

    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is lost or damaged ({error}); take another --workdir") from error


def _flat(tree: dict, above: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return flat
