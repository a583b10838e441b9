"""The problem that the settings of a transfer pose: steps 1 to 4, and the plan of the others."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from tl_jax.base.base import Base
from tl_jax.base.load import load_base, outline
from tl_jax.chain import adapters, answers, source_head, words
from tl_jax.chain.depth import require_shortcut
from tl_jax.chain.detectors import DETECTORS
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.chain.variables import merged
from tl_jax.data import balance, subset, views
from tl_jax.data.files import listed
from tl_jax.data.task import WHAT, Task
from tl_jax.data.texts.preprocessing import TOKENS, TextPreprocessing
from tl_jax.engine import prefix
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError, takes
from tl_jax.plans.plan import Plan
from tl_jax.plans.strategies import make_plan
from tl_jax.runs.proposed import with_proposals
from tl_jax.runs.settings import TransferSettings
from tl_jax.runs.teacher import logits_of
from tl_jax.runs.wording import begun_with, with_vectors
from tl_jax.train import objectives
from tl_jax.train.objective import Objective
from tl_jax.train.objectives import OBJECTIVES
from tl_jax.train.objectives.self_supervised import SelfSupervised
from tl_jax.train.problem import Problem

KEPT = "kept"  # the setting head= that keeps the base's own
HEAD = TransferSettings.head  # what it is where nobody says


class Posed(NamedTuple):
    """A transfer that is ready to begin."""

    problem: Problem
    base: Base  # cut, and with a new head
    variables: dict[str, Any]  # that training begins with: the base's, and those of adapters


def posed(
    base: Base,
    task: Task,
    own: TransferSettings,
    options: Mapping[str, Any],
    sources: Mapping[str, Task] = {},
) -> Posed:
    """Return the problem that the settings pose, and what its training begins with."""
    for split in ("val", "test"):
        if not len(task.splits[split]):
            raise UserError(f"the task {task.name!r} has no examples to judge by in {split}")
    if own.class_weights and sources:
        raise UserError("class_weights= is of a single task, and there are sources=: leave one out")
    objective = _asked(_objective(own), task).fitted(task)
    outputs = answers.make(objective.answers).outputs(len(task.classes))
    ready = _headed(base, outputs, own, objective)
    if own.head == KEPT:
        base.require_classes(task.classes, "head=kept")
    expected, read = ready.preprocessing.of_task(task)
    objective = objective.framed(expected.size)
    ready = dataclasses.replace(ready, preprocessing=expected)
    if objective.proposals:
        read = with_proposals(read, ready.of_images, objective.proposals, cache=own.cache)
    read = balance.weighted(read) if own.class_weights else read
    read = _with_answers(read, task, objective, own)
    sources = {
        name: read if source is task else expected.of_task(source)[1]
        for name, source in sources.items()
    }
    if isinstance(expected, TextPreprocessing) and sources:
        read, sources = _as_long(expected, read, sources)
    if objective.unlabelled:
        sources = _with_unlabelled(objective, read, sources)
    chain = _adapted(ready, own)
    plan = _planned(ready, chain, own, options)
    if task.texts:
        _require_no_views(plan, objective, own.test_views)
    if task.asks == "boxes" and own.test_views != "none":
        raise UserError(f"test_views={own.test_views}: boxes have no mean; leave it out")
    if plan.start != "pretrained":
        ready = ready.started(plan.start, own.seed)
    if own.words_from:
        ready = begun_with(ready, task.classes, own.words_from)
    chain, plan, variables = _with_tails(base, ready, chain, plan, objective, own.seed)
    problem = Problem(
        chain,
        ready.preprocessing,
        read,
        plan,
        Parallel(own.parallel),
        seed=own.seed,
        batch_size=own.batch_size,
        precision=own.precision,
        cache_precision=own.cache_precision,
        objective=objective,
        stochastic_depth=own.stochastic_depth,
        drop_mult=own.drop_mult,
        sources=sources,
    )
    return Posed(problem, ready, variables)


def _with_answers(read: Task, task: Task, objective: Objective, own: TransferSettings) -> Task:
    """The task as it is `read`, with what the objective asks of other bases: a teacher's logits,
    vectors of captions.
    """
    if objective.teacher:
        logits = logits_of(load_base(objective.teacher), task, cache=own.cache)
        read = read.with_truth(teacher=logits)
    return with_vectors(read, load_base(objective.encoder)) if objective.encoder else read


def _with_tails(
    base: Base, ready: Base, chain: Network, plan: Plan, objective: Objective, seed: int
) -> tuple[Network, Plan, dict[str, Any]]:
    """The chain and the plan with the objective's tails, and the variables of all layers: those of
    tails and adapters are fresh.
    """
    old = _source_head(base, ready, plan) if objective.source_head else ()
    if tails := (*old, *objective.tails(chain)):
        chain = chain.with_layers(*tails)
        below = {layer.name: chain.below[layer.name] for layer in tails}
        plan = plan.with_tail(below, _new(ready), alone=objective.tails_alone)
    variables = merged(ready.variables, source_head.variables(base.variables, old))
    kept = {*ready.layers, *(layer.name for layer in old)}
    if added := [name for name in chain.names if name not in kept]:
        fresh = chain.init(seed, ready.preprocessing.example, added)
        variables = merged(variables, fresh)
    return chain, plan, variables


def _objective(own: TransferSettings) -> Objective:
    """The objective; UserError for one that leaves the new head as it is, and for a fresh head
    where it goes on with the base's own.
    """
    objective = objectives.make(own.objective)
    if isinstance(objective, SelfSupervised):
        raise UserError(
            f"objective={own.objective} learns without labels: train a base with it "
            "(experiments.pretrain), and transfer that"
        )
    reads_words = own.head.partition("(")[0].strip() in words.HEADS
    if reads_words and objective.asks != "captions":
        raise UserError(f"head={own.head} reads captions: take objective=captions, or contrastive")
    if reads_words and own.test_views != "none":
        raise UserError(f"test_views={own.test_views} takes a mean, and words have none: leave it")
    if own.words_from and not reads_words:
        raise UserError(f"words_from={own.words_from} is of heads that read words: show_and_tell")
    if own.head == KEPT and not objective.answers.startswith("classes"):
        raise UserError(f"{type(objective).__name__} trains a new head: leave out head=kept")
    if objective.keeps_head and own.head != KEPT:
        raise UserError(
            f"{type(objective).__name__} goes on with the classifier of a base that was trained on "
            f"the source: take head=kept instead of head={own.head}"
        )
    return objective


def _asked(objective: Objective, task: Task) -> Objective:
    """The objective; UserError if it is for tasks that ask something else."""
    if objective.asks != task.asks:
        fits = [name for name, kind in OBJECTIVES.items() if kind.asks == task.asks]
        fits = ["cross_entropy"] if "cross_entropy" in fits else fits
        raise UserError(
            f"the task {task.name!r} asks for {WHAT[task.asks]}, and {type(objective).__name__} is "
            f"for tasks that ask for {WHAT[objective.asks]}: take objective={listed(fits)}"
        )
    return objective


def _as_long(
    prepare: TextPreprocessing, read: Task, sources: Mapping[str, Task]
) -> tuple[Task, dict[str, Task]]:
    """Texts of all tasks, padded to the longest of any, so that they run side by side."""
    length = max(task.arrays[TOKENS].shape[1] for task in (read, *sources.values()))
    own = prepare.padded(read, length)
    others = {
        name: own if task is read else prepare.padded(task, length)
        for name, task in sources.items()
    }
    return own, others


def _with_unlabelled(
    objective: Objective, task: Task, sources: Mapping[str, Task]
) -> dict[str, Task]:
    """The sources "unlabelled" and "labelled" of a task, or those given, in this order: the first
    sets an epoch's length, and the other goes round. No label of "unlabelled" is kept.

    UserError if nothing is unlabelled, and for other sources.
    """
    name = type(objective).__name__
    if sources:
        if sources.keys() != {"labelled", "unlabelled"}:
            raise UserError(
                f"{name} takes the sources labelled and unlabelled; got {', '.join(sources)}"
            )
        labelled, free = sources["labelled"], subset.without_labels(sources["unlabelled"])
    else:
        labelled, free = task, subset.left_out(task)
        if len(free.splits["train"]) == len(task.splits["train"]):
            raise UserError(
                f"{name} learns from examples without labels, and every example of {task.name!r} "
                "outside val and test has one: set a budget of labels, per_class=, or give "
                'sources={"labelled": ..., "unlabelled": ...}'
            )
    return {"unlabelled": free, "labelled": labelled}


def _require_no_views(plan: Plan, objective: Objective, test_views: str) -> None:
    """UserError for what is done to images alone."""
    if objective.augmented(None) is not None:
        raise UserError(
            f"{type(objective).__name__} makes views of images, and the task has texts: take "
            "another objective"
        )
    for phase in plan.phases:
        for name in ("views", "augment"):
            if (value := getattr(phase.settings, name)) not in ("none", ""):
                raise UserError(
                    f"phase {phase.name!r}: {name}={value} is of images, and the task has texts"
                )
    if test_views != "none":
        raise UserError(f"test_views={test_views} are of images, and the task has texts")


def _head(own: TransferSettings, objective: Objective) -> str:
    """The head that the settings and the objective say; UserError if they do not go together."""
    kind = own.head.split("(")[0]
    if objective.head and kind in (objective.head, HEAD):
        return own.head if kind == objective.head else objective.head
    if objective.head or kind in DETECTORS:
        fits = objective.head or f"another than {', '.join(DETECTORS)}"
        raise UserError(
            f"{type(objective).__name__} does not train head={own.head}: leave it out, or take "
            f"{fits}"
        )
    return own.head


def _headed(base: Base, classes: int, own: TransferSettings, objective: Objective) -> Base:
    """The base with a fresh head; as it is, if its own head is kept."""
    if own.head != KEPT:
        head = _head(own, objective)
        given = {"head": head, "dropout": own.dropout, "seed": own.seed}
        return base.with_head(classes, cut=own.cut, **given)
    if not base.classifies:
        raise UserError(f"head=kept: this {base.name} ends at {base.layers[-1]!r}, without a head")
    if own.cut:
        raise UserError(f"head=kept goes with the base whole: leave out cut={own.cut}")
    return base


def _cut(ready: Base) -> str:
    """The layer below the head."""
    return ready.architecture.cut or ready.bottleneck


def _new(ready: Base) -> tuple[str, ...]:
    """The names of the layers of the head."""
    return ready.layers[ready.chain.index(_cut(ready)) + 1 :]


def _adapted(ready: Base, own: TransferSettings) -> Network:
    """The layers of a base with its new head, and those of adapters beside the base's own."""
    if not own.adapters:
        return ready.chain
    kept = ready.chain.cut(_cut(ready)).names
    return adapters.make(own.adapters, ready.chain, ready.variables["params"], kept)


def _source_head(base: Base, ready: Base, plan: Plan) -> tuple[Layer, ...]:
    """The layers of the base's own classifier, as a tail of the base with its new head.

    UserError if there is none, and if the plan leaves its weights behind.
    """
    what = "the objective asks for the classifier that the base came with"
    if base.architecture.cut and not base.architecture.head:
        raise UserError(
            f"{what}, but this {base.name} ends at {base.layers[-1]!r}: give the base whole, and "
            f"cut={base.layers[-1]!r} as a setting"
        )
    if plan.start != "pretrained":
        raise UserError(f"{what}, but the plan {plan.name!r} starts from other weights")
    return source_head.tail(base.chain, _cut(ready))


def _planned(
    ready: Base, chain: Network, own: TransferSettings, options: Mapping[str, Any]
) -> Plan:
    """The plan that the settings say, for a base with its new head, in a chain with adapters."""
    plan = own.plan if isinstance(own.plan, Plan) else _made(ready, chain, own, options)
    trained = {layer for phase in plan.phases for layer in phase.trained}
    require_shortcut(chain, own.stochastic_depth, trained, ready.preprocessing.example)
    return plan


def _made(ready: Base, chain: Network, own: TransferSettings, options: Mapping[str, Any]) -> Plan:
    """The plan that a name, or a function, gives."""
    layers, names = ready.layers, chain.names
    roles = {
        "new": _new(ready),
        "weightless": [name for name in layers if not ready.variables["params"].get(name)],
        "adapters": [name for name in names if name not in layers],
    }
    plan = make_plan(own.plan, names, **roles, options=options)
    takes(isinstance(plan, Plan), "plan=", "a function that gives a Plan", plan)
    return plan


def check(base: Base, own: TransferSettings, options: Mapping[str, Any]) -> Plan:
    """Return the plan; UserError for a cut, head, plan, objective, views, type or precision of the
    cache that is none.

    `base` may have shapes for weights.
    """
    objective = _objective(own)
    ready = _headed(base, 2, own, objective)
    plan = _planned(ready, _adapted(ready, own), own, options)
    if isinstance(ready.preprocessing, TextPreprocessing):
        _require_no_views(plan, objective, own.test_views)
    if objective.source_head:
        _source_head(base, ready, plan)
    if objective.teacher:
        outline(objective.teacher)
    prefix.require_dtype(own.cache_dtype)
    prefix.require_precision(own.cache_precision)
    views.numbers(own.test_views)
    return plan
