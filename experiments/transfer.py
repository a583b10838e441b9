"""Transfer a pretrained base to a task, as a config says, and report what came of it.

    python -m experiments.transfer --config=configs/elpv.py --workdir=runs/elpv

The same command again goes on with what was interrupted, or shows the result if there is one.
"""

import json
import pathlib
import time

from absl import flags
from ml_collections import config_flags

from experiments import cli

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of the run.", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run's results; default: runs/ and the config's name."
)


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
    import jax

    from tl_jax import evaluate, export, log, prefix, report, results, train
    from tl_jax.data import load_task

    started = time.time()
    if done := claimed(workdir, config.to_dict()):
        print(report.terminal_table(done))
        print(f"done before: {workdir / 'report.html'}")
        return done
    if config.cache:
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(config.cache) / "compiled"))

    # Steps 1 to 4 of the workflow: a pretrained base, cut at a feature layer, with a new head.
    base = _base(config.base)
    task = load_task(config.task.name, seed=config.seed, **_given(config.task))
    problem, variables, cut = _problem(config, base, task)

    # Steps 5 to 7: freeze, train the head, unfreeze, fine-tune.
    inputs_for = prefix.for_plan(
        problem,
        test_views=config.test_views,
        cache=pathlib.Path(config.cache) if config.cache else None,
        dtype=config.cache_dtype,
    )
    variables, progress, inputs = train.run(
        problem,
        variables,
        inputs_for,
        workdir=workdir,
        checkpoint_seconds=config.checkpoint_seconds,
        write=log.writer(workdir),
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
        problem.chain, variables, problem.preprocessing, task.classes, config.test_views
    )
    export.save(workdir / "model.safetensors", model, base=base.name, cut=cut)
    result = results.collect(
        name=name,
        config=config.to_dict(),
        problem=problem,
        base=base,
        cut=cut,
        variables=variables,
        progress=progress,
        scores=scores,
        total_seconds=time.time() - started,
    )
    report.write(
        workdir,
        result=result,
        history=progress.history,
        probabilities=probabilities["test"],
        task=task,
    )
    results.write_json(workdir / "result.json", result)  # last: it says that all is done
    print(report.terminal_table(result))
    print(f"report: {workdir / 'report.html'}")
    return result


def claimed(workdir: pathlib.Path, config: dict) -> dict | None:
    """Make the folder this config's own; gives the result if the run is done.

    UserError if the folder belongs to another config.
    """
    from tl_jax import results
    from tl_jax.errors import UserError

    config = json.loads(json.dumps(config))
    workdir.mkdir(parents=True, exist_ok=True)
    if (workdir / "config.json").exists():
        theirs, ours = _flat(json.loads((workdir / "config.json").read_text())), _flat(config)
        different = [
            f"{k} {theirs.get(k)!r}, not {ours.get(k)!r}"
            for k in sorted(theirs.keys() | ours.keys())
            if theirs.get(k) != ours.get(k)
        ]
        if different:
            raise UserError(
                f"{workdir} belongs to another config ({'; '.join(different[:3])}): "
                "take another --workdir, or that config"
            )
    else:
        results.write_json(workdir / "config.json", config)
    done = workdir / "result.json"
    return json.loads(done.read_text()) if done.exists() else None


def _flat(tree: dict, above: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return flat


def _base(config):
    from tl_jax.base import load_base

    base = load_base(config.name, config.weights or None)
    return base.resized(config.size or None, config.crop or None)


def _given(task) -> dict:
    """The task's options that are set; those left empty are not every task's."""
    return {k: v for k, v in task.items() if k != "name" and v != ""}


def _problem(config, base, task):
    """The problem, the variables it starts from, and the layer at which the base was cut."""
    from tl_jax.export import with_head
    from tl_jax.parallel import Parallel
    from tl_jax.plan import Settings, make_plan
    from tl_jax.state import Problem, merged, select

    cut = config.base.cut or base.bottleneck
    chain = with_head(base.chain, cut, len(task.classes), config.head.dropout)
    kept = base.chain.cut(cut).names
    new = [name for name in chain.names if name not in kept]
    options = {
        "from_layer": config.plan.from_layer,
        "factor": config.plan.factor,
        "head": Settings(**config.plan.head),
        "tune": Settings(**config.plan.tune),
    }
    plan = make_plan(config.plan.name, chain.names, new=new, options=options)
    size = base.preprocessing.size
    variables = chain.init(config.seed, (1, size, size, 3))
    if plan.pretrained:
        variables = merged(variables, select(base.variables, kept))
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
    return problem, variables, cut


if __name__ == "__main__":
    cli.run(main)
