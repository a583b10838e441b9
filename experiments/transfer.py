"""Transfer a pretrained base to a task, as a config says, and report what came of it.

    python -m experiments.transfer --config=configs/elpv.py --workdir=runs/elpv

Every setting is in configs/defaults.py; --config.seed=3 changes one. The same command again goes on
with what was interrupted, or shows the result if there is one.
"""

import pathlib
import time

from absl import flags

from experiments import cli, study

flags.adopt_module_key_flags(study)


def transfer(config, workdir: pathlib.Path, name: str) -> dict:
    """Run `config` in `workdir` to its end; gives the result that is also in `result.json`."""
    return study.finished(workflow, config, workdir, name, _shown)


def _shown(result: dict) -> str:
    from tl_jax import report

    return report.terminal_table(result)


def workflow(config, workdir: pathlib.Path, name: str) -> dict:
    """The seven steps, and what came of them."""
    from tl_jax import report
    from tl_jax.base import file as export
    from tl_jax.runs import log, results
    from tl_jax.train import evaluate
    from tl_jax.train import loop as train
    from tl_jax.train.inputs import for_plan

    started = time.time()

    # Steps 1 to 4 of the workflow: a pretrained base, cut at a feature layer, with a new head.
    base = study.base_of(config)
    task = study.task_of(config, config.seed)
    problem, variables, architecture = _problem(config, base, task)

    # Steps 5 to 7: freeze, train the head, unfreeze, fine-tune.
    inputs_for = for_plan(
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
    return result


def _problem(config, base, task):
    """The problem, the variables it starts from, and its architecture: a base cut, a new head."""
    from tl_jax.engine.parallel import Parallel
    from tl_jax.plans.plan import Settings, make_plan
    from tl_jax.train.problem import Problem

    ready = base.with_head(
        len(task.classes),
        cut=config.cut,
        head=config.head,
        dropout=config.dropout,
        seed=config.seed,
    )
    chain, cut = ready.chain, ready.architecture.cut
    new = chain.names[chain.index(cut) + 1 :]
    options = {
        "from_layer": config.from_layer,
        "factor": config.factor,
        "head": Settings(**config.train_head),
        "tune": Settings(**config.tune),
    }
    plan = make_plan(config.plan, chain.names, new=new, options=options)
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
    cli.run(study.main(workflow, example="configs/elpv.py", shown=_shown), trains=True)
