"""Transfer a pretrained base to a task, as a config says, and report what came of it.

    python -m experiments.transfer --config=configs/elpv.py --workdir=runs/elpv

The same command again goes on with what was interrupted, or shows the result if there is one.
"""

import json
import pathlib
import time

from absl import flags, logging
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
    logging.set_verbosity(logging.INFO)
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
        inputs=inputs_for.used,
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
