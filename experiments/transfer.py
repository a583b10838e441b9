"""Transfer a pretrained base to a task, as a config says, and report what came of it.

    python -m experiments.transfer --config=configs/elpv.py --workdir=runs/elpv

Every setting is in configs/defaults.py; --config.seed=3 changes one. The same command again goes on
with what was interrupted, or shows the result if there is one.
"""

import contextlib
import fcntl
import json
import pathlib
import time
from collections.abc import Iterator

from absl import flags
from ml_collections import config_flags

from experiments import cli

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of the run.", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run's results; default: runs/ and the config's name."
)

ANY_TIME = ("cache", "checkpoint_seconds")  # settings that do not change what a run finds


def main(argv: list[str]) -> None:
    from tl_jax import interrupt
    from tl_jax.errors import UserError

    cli.no_arguments(argv)
    if _CONFIG.value is None:
        raise UserError("which run? --config=configs/elpv.py, for example")
    name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    with interrupt.caught():
        transfer(_CONFIG.value, pathlib.Path(_WORKDIR.value or f"runs/{name}"), name)


def transfer(config, workdir: pathlib.Path, name: str) -> dict:
    """Run `config` in `workdir` to its end; gives the result that is also in `result.json`."""
    from tl_jax import report

    with claimed(workdir, config.to_dict()) as done:
        result = done or workflow(config, workdir, name)
    print(report.terminal_table(result))
    print(f"{'done before' if done else 'report'}: {workdir / 'report.html'}")
    return result


def workflow(config, workdir: pathlib.Path, name: str) -> dict:
    """The seven steps, and what came of them."""
    import jax

    from tl_jax import evaluate, export, log, prefix, report, results, train
    from tl_jax.data import load_task

    started = time.time()
    report.require()
    if config.cache:
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(config.cache) / "compiled"))

    # Steps 1 to 4 of the workflow: a pretrained base, cut at a feature layer, with a new head.
    base = _base(config)
    task = load_task(config.task.name, seed=config.seed, **_given(config.task))
    problem, variables, architecture = _problem(config, base, task)

    # Steps 5 to 7: freeze, train the head, unfreeze, fine-tune.
    inputs_for = prefix.for_plan(
        problem,
        test_views=config.test_views,
        cache=pathlib.Path(config.cache) if config.cache else None,
        dtype=config.cache_dtype,
    )
    saving = {"workdir": workdir, "checkpoint_seconds": config.checkpoint_seconds}
    variables, progress, inputs = train.run(
        problem, variables, inputs_for, **saving, write=log.writer(workdir)
    )

    # What came of it. The test split is looked at here, once.
    probabilities = {
        split: evaluate.probabilities(
            problem, variables, inputs, task.splits[split], config.test_views
        )
        for split in ("val", "test")
    }
    scores = {s: evaluate.score(task, task.splits[s], p) for s, p in probabilities.items()}
    model = export.Model(
        architecture, variables, problem.preprocessing, task.classes, config.test_views
    )
    export.save(workdir / "model.safetensors", model)
    result = results.collect(
        name=name,
        config=config.to_dict(),
        problem=problem,
        base=base,
        cut=architecture.cut,
        variables=variables,
        progress=progress,
        scores=scores,
        total_seconds=time.time() - started,
    )
    shown = {"history": progress.history, "probabilities": probabilities["test"], "task": task}
    report.write(workdir, result=result, **shown)
    results.write_json(workdir / "result.json", result)  # last: it says that all is done
    return result


@contextlib.contextmanager
def claimed(workdir: pathlib.Path, config: dict) -> Iterator[dict | None]:
    """Inside, the folder is this process' and this config's own; gives the result if there is one.

    UserError if another process is at work there, or if what is there is of another config.
    """
    from tl_jax import results
    from tl_jax.errors import UserError

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
        if done.exists() or any((workdir / "checkpoints").glob("*_step*")):
            _require_same(workdir, theirs=_read(kept), ours=json.loads(json.dumps(config)))
        else:
            results.write_json(kept, config)
        yield _read(done) if done.exists() else None


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


def _base(config):
    from tl_jax import models
    from tl_jax.base import load_base
    from tl_jax.errors import UserError

    weights = config.weights or next(iter(models.published(config.base)), None)
    if weights is None:
        raise UserError(f"no weights of {config.base} have a name: give --config.weights=FILE")
    base = load_base(config.base, weights)
    base = base.with_channels(config.channels or base.preprocessing.channels)
    return base.resized(config.size or None, config.crop or None)


def _given(task) -> dict:
    """The task's options that are set; those left empty are not every task's."""
    return {k: v for k, v in task.items() if k != "name" and v != ""}


def _problem(config, base, task):
    """The problem, the variables it starts from, and its architecture: a base cut, a new head."""
    from tl_jax.parallel import Parallel
    from tl_jax.plan import Settings, make_plan
    from tl_jax.state import Problem

    ready = base.with_head(
        len(task.classes),
        cut=config.cut,
        head=config.head.name,
        dropout=config.head.dropout,
        seed=config.seed,
    )
    chain, cut = ready.chain, ready.architecture.cut
    new = chain.names[chain.index(cut) + 1 :]
    options = {
        "from_layer": config.plan.from_layer,
        "factor": config.plan.factor,
        "head": Settings(**config.plan.head),
        "tune": Settings(**config.plan.tune),
    }
    plan = make_plan(config.plan.name, chain.names, new=new, options=options)
    variables = ready.variables if plan.pretrained else ready.fresh(config.seed)
    problem = Problem(
        chain,
        base.preprocessing,
        task,
        plan,
        Parallel(config.parallel),
        seed=config.seed,
        batch_size=config.batch_size,
        precision=config.precision,
    )
    return problem, variables, ready.architecture


if __name__ == "__main__":
    cli.run(main)
