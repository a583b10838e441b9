"""How transferable is each layer? Yosinski et al. 2014 for any net and any task, from one config.

    python -m experiments.layer_transfer --config=configs/layer_transfer.py

Every setting is in configs/layer_transfer.py. Finished trainings are kept: the same command again
goes on with those that are missing. With --check=500 nothing is trained and no data are read: the
steps of streamed trainings (config.together=False) are compiled for a target of so many classes,
and their cost is counted.
"""

import functools
import pathlib
import shutil
import time
import zlib

from absl import flags

from experiments import cli, study

flags.adopt_module_key_flags(study)
_CHECK = flags.DEFINE_integer(
    "check", None, "Only compile the steps for B with so many classes, and count their cost."
)


def layer_transfer(config, workdir: pathlib.Path, name: str) -> dict:
    """Train the bases and what is made of them, and report."""
    from tl_jax.report import study as page
    from tl_jax.runs import results
    from tl_jax.runs.journal import Journal
    from tl_jax.studies.layer_transfer import page as pages

    started = time.time()
    net, arms = Net(config), _arms(config)
    train = functools.partial(_together if config.together else _one_by_one, config, net, workdir)
    cells = Journal(workdir / "cells.jsonl")
    for place in range(len(config.budgets)):
        for sides in arms.values():
            _arm(config, net, workdir, cells, sides, place, train)

    pairs = [tuple(sides) for sides in arms.values()]
    tables = pages.Tables(cells.rows(), pairs, config.budgets, net.cuts)
    result = {
        "name": name,
        "config": config.to_dict(),
        "cells": cells.rows(),
        "decomposition": tables.decomposition,
        "findings": tables.findings,
        "seconds": time.time() - started,
        **results.provenance("layer_transfer"),
    }
    facts = {
        "net": f"{config.base}, {len(net.cuts) + 1} layers with parameters",
        "task": config.task.name + (f", from {config.source.name}" * bool(config.source.name)),
        "A to B": "; ".join(map(pages.label, pairs)),
        "seeds": str(config.seeds),
        "trainings": str(len(cells.rows())),
        "seconds of this run": f"{result['seconds']:.0f}",
    }
    page.write(
        workdir,
        title=f"Layer transfer: {config.task.name}",
        lead=pages.LEAD,
        sections=pages.sections(tables),
        facts=facts,
        result=result,
    )
    return result


class Net:
    """The architecture, for any number of classes."""

    def __init__(self, config):
        from tl_jax import models
        from tl_jax.errors import unknown
        from tl_jax.models import alexnet_small
        from tl_jax.studies.layer_transfer.study import cuts

        if config.base == "alexnet_small":
            self.chain, self.preprocessing = alexnet_small.build, alexnet_small.preprocessing()
        else:
            family, name = models.family(config.base), models.canonical(config.base)
            form = family.forms(name)[0]
            self.chain = functools.partial(family.build, name, form)
            self.preprocessing = family.preprocessing(name, form)
        if config.channels:
            self.preprocessing = self.preprocessing.with_channels(config.channels)
        self.preprocessing = _resized(self.preprocessing, config)
        found = cuts(self.chain(2), self.preprocessing.input_shape)
        for layer in config.layers:
            if layer not in found:
                raise unknown("layer with parameters below the classifier", layer, found)
        self.images = {}  # of each task, on the device
        # n, its layer, and the last layer that goes with it
        self.cuts = {
            n: (layer, stop)
            for n, (layer, stop) in enumerate(found.items(), 1)
            if not config.layers or layer in config.layers
        }

    def fresh(self, chain, seed: int):
        """Untrained variables."""
        return chain.init(seed, self.preprocessing.input_shape)


def _resized(preprocessing, config):
    import dataclasses

    changes = {k: config[k] for k in ("size", "crop") if config[k]}
    return dataclasses.replace(preprocessing, **changes)


def _arms(config) -> dict[str, dict[str, list]]:
    """For each arm the name of A's and of B's half, and the half itself for each seed."""
    from tl_jax.errors import UserError, unknown
    from tl_jax.studies.layer_transfer.study import Half, group, halves

    if len(config.budgets) != len(config.epochs) or not config.budgets or config.seeds < 1:
        raise UserError("a study has at least one seed, and as many epochs as it has budgets")
    tasks = [study.task_of(config, seed) for seed in range(config.seeds)]
    arms = {}
    for arm in config.arms:
        if arm == "random":
            drawn = [halves(task.classes, seed) for seed, task in enumerate(tasks)]
            named = {"random A": [a for a, _ in drawn], "random B": [b for _, b in drawn]}
        elif arm == "tasks":
            sources = [_source(config, seed) for seed in range(config.seeds)]
            arms[arm] = {
                config.source.name: [Half(task, task.classes) for task in sources],
                config.task.name: [Half(task, task.classes) for task in tasks],
            }
            continue
        else:
            for side in arm.split(":"):
                if side not in config.groups:
                    raise unknown("group of classes", side, [*config.groups, "random", "tasks"])
            named = {s: [group(t.classes, config.groups[s]) for t in tasks] for s in arm.split(":")}
            if len(named) != 2 or set.intersection(*(set(v[0]) for v in named.values())):
                raise UserError(f"an arm is of two groups without a class in common; got {arm!r}")
        arms[arm] = {
            side: [Half(*both) for both in zip(tasks, classes, strict=True)]
            for side, classes in named.items()
        }
    return arms


def _source(config, seed: int):
    from tl_jax.data.tasks import load_task
    from tl_jax.errors import UserError

    if not config.source.name:
        raise UserError("the arm 'tasks' needs the task of base A: --config.source.name=...")
    given = {k: v for k, v in config.source.items() if k != "name" and v != ""}
    return load_task(config.source.name, seed=seed, val=config.task.val, **given)


def _arm(config, net, workdir: pathlib.Path, cells, sides: dict, place: int, train) -> None:
    """Every training of one arm at one budget that is not finished; base A has all labels."""
    from tl_jax.studies.layer_transfer.study import TREATMENTS, beginning

    base = functools.partial(_base, config, net, workdir, cells, train)
    (a, halves_a), (b, halves_b) = sides.items()
    chain = net.chain(len(halves_b[0].classes))
    fresh = [net.fresh(chain, _number("fresh", seed)) for seed in range(config.seeds)]
    donors = {"A": base(a, halves_a, 0), "B": base(b, halves_b, place), None: fresh}
    for n, (_, stop) in net.cuts.items():
        for name, treatment in TREATMENTS.items():
            key = {"arm": f"{a}:{b}", "budget": config.budgets[place], "treatment": name, "n": n}
            if _done(cells, config.seeds, key):
                continue
            begun = [
                beginning(chain, stop, donor=donor, fresh=new)[0]
                for donor, new in zip(donors[treatment.donor], fresh, strict=True)
            ]
            trained = train(halves_b, begun, place, stop if treatment.frozen else None, "fresh")
            _keep(cells, key, trained)


def _base(config, net, workdir, cells, train, name: str, halves: list, place: int) -> list:
    """Variables, by seed, of the base of a half at a budget: trained now, or before."""
    budget = config.budgets[place]
    file = workdir / "bases" / f"{name} {budget}.npz".replace("/", "_")
    key = {"arm": name, "budget": budget, "treatment": "base", "n": 0}
    if _done(cells, config.seeds, key) and file.exists():
        return _load(file)
    chain = net.chain(len(halves[0].classes))
    begun = [net.fresh(chain, _number(name, seed)) for seed in range(config.seeds)]
    trained = train(halves, begun, place, None, name)
    _save(file, [variables for variables, _ in trained])
    _keep(cells, key, trained)
    return _load(file)


def _number(what: str, seed: int) -> int:
    """A seed of its own for everything that is drawn."""
    return zlib.crc32(f"{what}/{seed}".encode()) >> 1


def _done(cells, seeds: int, key: dict) -> bool:
    return all(cells.get(**key, seed=seed) for seed in range(seeds))


def _keep(cells, key: dict, trained: list) -> None:
    from tl_jax import interrupt

    for seed, (_, row) in enumerate(trained):
        cells.add(row, **key, seed=seed)
    shown = sum(row["test"] for _, row in trained) / len(trained)
    print(*key.values(), f"{100 * shown:.2f} %", flush=True)
    interrupt.check()


def _save(file: pathlib.Path, trees: list) -> None:
    import flax.traverse_util
    import numpy as np

    flat = {}
    for seed, tree in enumerate(trees):
        own = flax.traverse_util.flatten_dict(tree, sep="/")
        flat |= {f"{seed}/{path}": leaf for path, leaf in own.items()}
    file.parent.mkdir(exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, **flat)
    partial.replace(file)


def _load(file: pathlib.Path) -> list:
    import flax.traverse_util
    import numpy as np

    with np.load(file) as flat:
        tree = flax.traverse_util.unflatten_dict(dict(flat), sep="/")
    return [{"batch_stats": {}, **tree[str(seed)]} for seed in range(len(tree))]


def _together(config, net, workdir, halves, begun, place, stop, what) -> list:
    """(variables, row) of a training for each seed, all in one program."""
    import jax
    import numpy as np

    from tl_jax.chain.network import merged, select
    from tl_jax.studies.layer_transfer.study import Transfer, transferred
    from tl_jax.train.together import Run, stacked, together

    chain = net.chain(len(halves[0].classes))
    below = () if stop is None else chain.cut(stop).names
    above = [name for name in chain.names if name not in below]
    rate, decay = config.train.learning_rate, config.train.weight_decay
    longest = {s: max(len(h.rows(s)) for h in halves) for s in ("val", "test")}
    runs = []
    for seed, (half, variables) in enumerate(zip(halves, begun, strict=True)):
        rows = half.rows("train", per_class=config.budgets[place], seed=seed)
        judged = {
            s: np.pad(half.rows(s), (0, most - len(half.rows(s))), constant_values=-1)
            for s, most in longest.items()
        }
        run = Run(
            select(variables, above), _number(what, seed), rate, decay, rows, np.ones(len(rows))
        )
        runs.append(Transfer(select(variables, below), run, half.places, **judged))
    done = jax.device_get(
        together(
            transferred,
            stacked(runs),
            _images(config, net, halves[0].task),
            chain=chain,
            stop=stop,
            preprocessing=net.preprocessing,
            epochs=config.epochs[place],
            batch_size=config.batch_size,
            **{k: config.train[k] for k in ("optimizer", "schedule", "clip")},
        )
    )
    trained = []
    for seed, (half, variables) in enumerate(zip(halves, begun, strict=True)):
        one = jax.tree.map(lambda leaf, seed=seed: leaf[seed], done)
        row = {s: int(getattr(one, s)) / len(half.rows(s)) for s in longest}
        row["loss"] = float(one.loss[-1])
        trained.append((merged(variables, one.variables), row))
    return trained


def _images(config, net, task):
    """The pixels of a task, decoded once, on the device."""
    import numpy as np

    from tl_jax.engine import prefix
    from tl_jax.engine.parallel import Parallel
    from tl_jax.studies.layer_transfer.study import Images

    if task.fingerprint not in net.images:
        every = np.arange(len(task.ids))
        if config.cache:
            inputs = prefix.pixels(task, net.preprocessing, cache=pathlib.Path(config.cache))
        else:
            inputs = prefix.decoded(task, net.preprocessing)
        pixels = inputs.read(every, np.zeros_like(every))
        net.images[task.fingerprint] = Parallel().place(Images(pixels, task.labels))
    return net.images[task.fingerprint]


def _one_by_one(config, net, workdir, halves, begun, place, stop, what) -> list:
    """(variables, row) of a training for each seed, each streamed from disk."""
    import numpy as np

    from tl_jax.plans.plan import Plan
    from tl_jax.train import evaluate
    from tl_jax.train import loop as train
    from tl_jax.train.inputs import for_plan
    from tl_jax.train.state import Problem

    chain = net.chain(len(halves[0].classes))
    phase = _phase(config, chain, stop, config.epochs[place])
    trained = []
    for seed, (half, variables) in enumerate(zip(halves, begun, strict=True)):
        problem = Problem(
            chain,
            net.preprocessing,
            half.alone(per_class=config.budgets[place], seed=seed),
            Plan("layer_transfer", (phase,)),
            seed=_number(what, seed),
            batch_size=config.batch_size,
            precision=config.precision,
        )
        cache = pathlib.Path(config.cache) if config.cache else None
        inputs_for = for_plan(problem, test_views="none", cache=cache, dtype="float32")
        folder = workdir / "training"
        variables, progress, inputs = train.run(problem, variables, inputs_for, workdir=folder)
        row = {"loss": progress.history[-1]["train_loss"]}
        for split in ("val", "test"):
            rows = problem.task.splits[split]
            probs = evaluate.probabilities(problem, variables, inputs, rows)
            row[split] = float(np.mean(probs.argmax(1) == problem.task.labels[rows]))
        shutil.rmtree(folder)
        trained.append((variables, row))
    return trained


def _phase(config, chain, stop, epochs: int):
    """Everything above `stop` learns, for as long as it is told."""
    from tl_jax.plans.plan import Phase, Settings

    below = () if stop is None else chain.cut(stop).names
    settings = Settings(epochs=epochs, best_by="last", batch_norm="batch", **config.train)
    return Phase("train", {n: float(n not in below) for n in chain.names}, settings)


def step_flops(config, net: Net, classes: int, stop: str | None) -> float:
    """Floating-point operations of one compiled step for a batch, counted from shapes alone."""
    import jax
    import jax.numpy as jnp

    from tl_jax.chain.network import select
    from tl_jax.engine.parallel import Parallel
    from tl_jax.train import loop as train
    from tl_jax.train.state import Network, shapes

    chain, shape = net.chain(classes), jax.ShapeDtypeStruct
    phase = _phase(config, chain, stop, 1)
    network = Network(chain, net.preprocessing, Parallel(), config.precision)
    step = functools.partial(train.train_step, train.recipe(network, phase, None))
    variables, _ = chain.shapes(net.preprocessing.input_shape)
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    fixed = select(variables, [n for n in chain.names if n not in phase.trained])
    fixed |= {"key": key, "rates": shape((1000,), jnp.float32)}
    images = (config.batch_size, *net.preprocessing.input_shape[1:])
    batch = {
        "inputs": shape(images, jnp.uint8),
        "targets": shape((config.batch_size, classes), jnp.float32),
        "weights": shape((config.batch_size,), jnp.float32),
    }
    state = shapes(phase, variables)
    lowered = network.parallel.step(step).lower(state, fixed, batch)
    return lowered.compile().cost_analysis()["flops"]


def check(config, classes: int) -> None:
    """Print what a step costs, by how many layers are frozen."""
    net = Net(config)
    print(f"{config.base}, batches of {config.batch_size}, {classes} classes, {config.precision}")
    for n, stop in [(0, None), *((n, stop) for n, (_, stop) in net.cuts.items())]:
        flops = step_flops(config, net, classes, stop)
        each = flops / config.batch_size
        print(
            f"{n} frozen: {flops / 1e9:9.1f} GFLOP a step, {each / 1e9:6.3f} an image", flush=True
        )


def main(argv: list[str]) -> None:
    if _CHECK.value is None:
        return study.main(layer_transfer, example="configs/layer_transfer.py", shown=_shown)(argv)
    cli.no_arguments(argv)
    if flags.FLAGS.config is None:
        from tl_jax.errors import UserError

        raise UserError("check what? --config=configs/layer_transfer_imagenet.py, for example")
    return check(flags.FLAGS.config, _CHECK.value)


def _shown(result: dict) -> str:
    return "\n".join(
        f"{f['arm']}: {f['statement']}: {f['held']} ({100 * f['mean']:+.1f} points)"
        for f in result["findings"]
    )


if __name__ == "__main__":
    cli.run(main)
