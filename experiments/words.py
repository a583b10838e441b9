"""Learn vectors of words from a task's texts, or judge vectors that there are.

    python -m experiments.words --config=configs/words_small.py [--config.method=glove]
    python -m experiments.words --vectors=runs/words_small --near=string,class
    python -m experiments.words --vectors=glove.txt --similarity=wordsim353.tsv \\
        --analogies=questions-words.txt

The same command again goes on after the last whole epoch, or shows the result. A run's vectors.txt
is word2vec's text form; --vectors also reads GloVe's, word2vec's .bin, fastText's .vec.
"""

import pathlib

from absl import flags

from experiments import cli, config_flag
from tl_jax.errors import UserError

flags.adopt_module_key_flags(config_flag)
_VECTORS = flags.DEFINE_string("vectors", None, "A file of vectors, or a finished run.")
_NEAR = flags.DEFINE_list("near", [], "Words whose neighbours are shown.")
_SIMILARITY = flags.DEFINE_string("similarity", None, "A file of pairs: word, word, score.")
_ANALOGIES = flags.DEFINE_string("analogies", None, "A file of questions, as Google's.")
_MOST = flags.DEFINE_integer("most", 300_000, "First words that answer analogies.", lower_bound=1)


def main(argv: list[str]) -> None:
    asked = [_NEAR.value, _SIMILARITY.value, _ANALOGIES.value]
    if _VECTORS.value is None:
        if any(asked):
            raise UserError("whose vectors? --vectors=runs/words_small, for example")
        return config_flag.program("words")(argv)
    cli.no_arguments(argv)
    if flags.FLAGS.config is not None:
        raise UserError("--vectors are learnt already: leave --config out")
    if not any(asked):
        raise UserError("what about these vectors? --near=WORD, --similarity= or --analogies=FILE")
    _judge()


def _judge() -> None:
    from tl_jax.vectors import judge  # imports libraries that --help does without
    from tl_jax.weights import vectors_file

    path = pathlib.Path(_VECTORS.value).expanduser()
    space = judge.Space(vectors_file.read(path / "vectors.txt" if path.is_dir() else path))
    for word in _NEAR.value:
        near = space.neighbours(word)
        print(f"{word}: {', '.join(f'{other} {cosine:.2f}' for other, cosine in near)}")
    if _SIMILARITY.value:
        print(judge.said(judge.similarity(space, _SIMILARITY.value)))
    if _ANALOGIES.value:
        found = judge.analogies(space, _ANALOGIES.value, most=_MOST.value)
        for name, section in {**found, **judge.totals(found)}.items():
            print(f"{name}: {judge.said(section)}")


if __name__ == "__main__":
    cli.run(main, trains=True)
