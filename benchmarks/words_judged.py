"""Judge vectors of words learnt here and by gensim from the same tokens: similarity and analogies.

    python -m benchmarks.words_judged [--task=packaged:debian_sections] [--epochs=5] [--seeds=5]

Settings and tokens are those of `benchmarks.words`. The files of people's judgements are those that
gensim ships for its tests: WordSim-353, SimLex-999 and Google's analogies. It needs the extra
`bench`.
"""

import os
import pathlib
import statistics
import tempfile

from absl import flags

from benchmarks import words_gensim, words_ours
from experiments import cli

_TASK = flags.DEFINE_string("task", "packaged:debian_sections", "Whose texts.")
_TEXTS = flags.DEFINE_integer("texts", 10**6, "Texts at most.", lower_bound=10)
_EPOCHS = flags.DEFINE_integer("epochs", 5, "Passes over the text.", lower_bound=1)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Trainings of each.", lower_bound=2)
PAIRS, QUESTIONS = ("wordsim353.tsv", "simlex999.txt"), "questions-words.txt"


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    import gensim

    judgements = pathlib.Path(gensim.__file__).parent / "test" / "test_data"
    corpus = words_ours.corpus_of({"task": _TASK.value, "texts": _TEXTS.value})
    print(f"{len(corpus.tokens):,} tokens of {len(corpus.words):,} words, {_EPOCHS.value} epochs")
    print("| vectors of | file | mean score | lowest to highest | counted |\n|---|---|---|---|---|")
    for name, learnt in (("tl_jax", _ours), ("gensim", _gensim)):
        found = [_judged(learnt(corpus, seed), judgements) for seed in range(_SEEDS.value)]
        for file in found[0]:
            scores = [one[file][0] for one in found]
            spread = f"{min(scores):.3f} to {max(scores):.3f}"
            mean, counted = statistics.mean(scores), found[0][file][1]
            print(f"| {name} | {file} | {mean:.3f} | {spread} | {counted:,} |", flush=True)


def _ours(corpus, seed: int):
    from tl_jax.vectors import learn

    how = learn.method("skip_gram", {"epochs": _EPOCHS.value})
    with tempfile.TemporaryDirectory() as folder:
        return learn.learnt(how, corpus, seed=seed, folder=pathlib.Path(folder))[0]


def _gensim(corpus, seed: int):
    from tl_jax.weights.vectors_file import Vectors

    threads, texts = len(os.sched_getaffinity(0)), words_gensim.texts_of(corpus)
    model = words_gensim.model_of(texts, threads=threads, seed=seed, end=2.5e-6)
    model.train(texts, total_examples=len(texts), epochs=_EPOCHS.value)
    return Vectors(tuple(model.wv.index_to_key), model.wv.vectors)


def _judged(vectors, judgements: pathlib.Path) -> dict[str, tuple[float, int]]:
    """Scores, and how many pairs or questions counted, by file."""
    from tl_jax.vectors import judge

    space = judge.Space(vectors)
    found = {name: judge.similarity(space, judgements / name) for name in PAIRS}
    scores = {name: (one.spearman, one.pairs) for name, one in found.items()}
    total = judge.totals(judge.analogies(space, judgements / QUESTIONS, most=judge.RESTRICTED))
    return scores | {name: (one.accuracy, one.asked) for name, one in total.items()}


if __name__ == "__main__":
    cli.run(main)
