"""A language model: a base trained to predict the next token of a task's texts, labels unused."""

import dataclasses
import functools
import json
import logging
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tl_jax.base import file, generation
from tl_jax.base.base import Base
from tl_jax.chain.variables import select
from tl_jax.data.task import Task
from tl_jax.data.texts import stream, subwords
from tl_jax.data.texts.preprocessing import SUBWORDS, TextPreprocessing, of_subwords, of_words
from tl_jax.data.texts.split import tokens_of
from tl_jax.data.texts.vocabulary import vocabulary
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError, unknown
from tl_jax.models.awd_lstm import match_words
from tl_jax.plans.plan import Phase, Plan
from tl_jax.report import page
from tl_jax.runs import folder, language_page, log, results, settings, subject
from tl_jax.train import evaluate, identity, loop
from tl_jax.train.inputs import for_plan
from tl_jax.train.objectives import LanguageModel
from tl_jax.train.problem import Problem

logger = logging.getLogger(__name__)


def by_config(config: Any, workdir: pathlib.Path, *, name: str) -> tuple[dict[str, Any], bool]:
    """The result of a language model's training as `configs.language` says, and whether it had
    been done before. UserError for a task without texts, and for a base that is no language model.
    """
    task = subject.task_of(config, config.seed)
    return folder.finished(
        lambda: work(subject.base_of(config), task, workdir, config, name=name),
        config.to_dict(),
        workdir,
        cache=config.cache,
        data=lambda: identity.of_tasks({"": task}),
        needs_report=False,
    )


def work(
    base: Base, task: Task, workdir: pathlib.Path, config: Any, *, name: str
) -> dict[str, Any]:
    """Train the base on the task's texts; keep it in `workdir` and return what came of it."""
    started = time.monotonic()
    asked = {"tokens": config.tokens, "most": config.words, "least": config.least}
    asked["backward"] = config.backward
    ready = with_vocabulary(base, task, **asked, seed=config.seed)
    problem = posed(ready, task, config)
    logger.info("%s", log.described(problem.task))
    variables, progress, inputs = loop.run(
        problem,
        ready.variables,
        for_plan(problem, test_views="none", cache=None, dtype="float32"),
        workdir=workdir,
        checkpoint_seconds=config.checkpoint_seconds,
        write=log.writer(workdir),
    )
    final = dataclasses.replace(ready, variables=select(variables, ready.layers))
    final.save(workdir / file.NAME)
    result = {
        "name": name,
        "seed": config.seed,
        "config": config.to_dict(),
        "base": {"name": base.name, "weights": base.weights, "words": final.architecture.words},
        "task": {"name": task.name, "texts": {s: len(rows) for s, rows in task.splits.items()}},
        "history": progress.history,
        "sample": generation.continued(final, config.prompt, seed=config.seed),
        "seconds": time.monotonic() - started,
        **results.provenance("language"),
    }
    for split in ("val", "test"):
        loss = evaluate.scores(problem, variables, inputs, problem.task.splits[split])["loss"]
        result[split] = scores(loss, problem.task, task, split)
    result = results.finite(result)
    if page.can_be_drawn():
        language_page.write(workdir, result)
    return result


def with_vocabulary(
    base: Base,
    task: Task,
    *,
    tokens: str = "",
    most: int,
    least: int,
    seed: int,
    backward: bool = False,
) -> Base:
    """The language model for a vocabulary of the task's training texts (`VOCABULARIES`).

    Tokens that the base knew keep their vectors, and its words stay as far as there is room; a base
    without a vocabulary begins fresh. If no
    kind of `tokens` is asked for, a base with subwords keeps them, because they make up any text,
    and the vocabulary of any other is words. A base that begins fresh reads `backward` if that is
    asked for, and others read as before; UserError for one that read forward.
    """
    _require_language_model(base)
    if not task.texts:
        raise UserError(f"a language model reads texts, and the task {task.name!r} has none")
    before = base.preprocessing
    assert isinstance(before, TextPreprocessing)
    if backward and before.tokenizer and not before.backward:
        raise UserError("backward= is of a new language model, and this base reads forward")
    if before.tokenizer and before.rules == SUBWORDS and not tokens:
        logger.info("the base keeps its %d subwords", base.architecture.words)
        return base
    if (kind := tokens or "words") not in VOCABULARIES:
        raise unknown("kind of tokens", kind, VOCABULARIES)
    texts = (task.texts[row] for row in task.splits["train"])
    known = before.words() if before.tokenizer else ()
    expects, words = VOCABULARIES[kind](texts, known, most, least, before.size)
    expects = dataclasses.replace(expects, backward=backward or before.backward)
    architecture = dataclasses.replace(base.architecture, words=len(words))
    ready = dataclasses.replace(base, architecture=architecture, preprocessing=expects)
    if not before.tokenizer:
        return dataclasses.replace(ready, variables=ready.fresh(seed))
    known += ("",) * (len(base.variables["params"]["embed"]["table"]) - len(known))  # its fillers
    return dataclasses.replace(ready, variables=match_words(base.variables, known, words))


Vocabulary = tuple[TextPreprocessing, Sequence[str]]


def _words(
    texts: Iterable[str], known: Sequence[str], most: int, least: int, size: int
) -> Vocabulary:
    """The words of the texts, and those that the base knew, which other texts may have."""
    words = vocabulary(map(tokens_of, texts), min_freq=least, max_vocab=most, known=known)
    return of_words(words, size=size), words


def _subwords(
    kind: str, texts: Iterable[str], known: Sequence[str], most: int, least: int, size: int
) -> Vocabulary:
    expects = of_subwords(texts, kind=kind, most=most, least=least, size=size)
    return expects, expects.words()


# The preprocessing and its tokens, fillers included, by the kind of tokens:
# (texts, tokens of the base, most tokens, least times that a word occurs, size of a text) ->
# Vocabulary
VOCABULARIES: dict[str, Callable[[Iterable[str], Sequence[str], int, int, int], Vocabulary]] = {
    "words": _words,
    **{kind: functools.partial(_subwords, kind) for kind in subwords.MODELS},
}


def _require_language_model(base: Base) -> None:
    if base.architecture.cut or "decode" not in base.layers:
        raise UserError(
            f"{base.name} is no language model: take awd_lstm, awd_qrnn, or one that was trained"
        )


def posed(base: Base, task: Task, config: Any) -> Problem:
    """The problem that the config poses: the stream of the task's texts, and one phase."""
    expects = base.preprocessing
    assert isinstance(expects, TextPreprocessing)
    return Problem(
        base.chain,
        expects,
        stream.of_texts(task, expects, window=config.window, seed=config.seed),
        Plan("language_model", (_phase(base, config),)),
        Parallel(),
        seed=config.seed,
        batch_size=config.batch_size,
        drop_mult=config.drop_mult,
        objective=LanguageModel(ar=config.ar, tar=config.tar),
    )


def rates(base: Base, factor: float) -> dict[str, float]:
    """The share of the learning rate by layer: each recurrent layer's is `factor` times that of the
    one below; the embedding, which is the decoder too, learns at the whole rate.
    """
    numbered = [name for name in base.layers if name[-1].isdigit()]
    depth = {name: len(numbered) - 1 - number for number, name in enumerate(numbered)}
    return {name: factor ** -depth.get(name, 0) for name in base.layers}


def _phase(base: Base, config: Any) -> Phase:
    tune = settings.phase("tune", config.tune.to_dict())
    return Phase("language_model", rates(base, config.factor), tune)


def scores(loss: float, windows: Task, task: Task, split: str) -> dict[str, float]:
    """What a mean loss in nats a token says of a split's texts: perplexity, bits a character.

    Words that are not in the vocabulary are all one token, and cost that little.
    """
    tokens = float(windows.truth["weights"][windows.splits[split]].sum())
    characters = sum(len(task.texts[row]) for row in task.splits[split])
    bits = loss * tokens / math.log(2) / characters
    return {"loss": loss, "perplexity": float(np.exp(loss)), "bits_per_character": bits}


def said(result: dict[str, Any]) -> str:
    """The result in a few lines."""
    lines = [
        f"{split}: perplexity {result[split]['perplexity']:.1f}, "
        f"{result[split]['bits_per_character']:.3f} bits a character"
        for split in ("val", "test")
    ]
    return "\n".join([*lines, f"sample: {json.dumps(result['sample'], ensure_ascii=False)}"])
