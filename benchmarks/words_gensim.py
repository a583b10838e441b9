"""The worker of gensim for vectors of words: epochs of skip-gram over the same tokens."""

from benchmarks import worker
from benchmarks.words_ours import corpus_of


def prepare(spec: dict):
    corpus = corpus_of(spec)
    texts = texts_of(corpus)
    model = model_of(texts, threads=spec["threads"], end=0.025)

    def run(steps: int) -> None:
        model.train(texts, total_examples=len(texts), epochs=steps)

    return run, {"tokens": len(corpus.tokens), "words": len(model.wv)}


def texts_of(corpus) -> list[list[str]]:
    """Return the words of each text of a corpus."""
    import numpy as np

    ends = np.flatnonzero(np.diff(corpus.texts)) + 1
    return [[corpus.words[n] for n in part] for part in np.split(corpus.tokens, ends)]


def model_of(texts: list[list[str]], *, threads: int, end: float, seed: int = 1):
    """Return gensim's model of these texts, not trained, whose rate falls from 0.025 to `end`."""
    from gensim.models import Word2Vec

    model = Word2Vec(
        vector_size=100, window=5, negative=5, sample=1e-3, sg=1, min_count=1,
        workers=threads, alpha=0.025, min_alpha=end, seed=seed,
    )  # fmt: skip
    model.build_vocab(texts)
    return model


if __name__ == "__main__":
    worker.serve(prepare)
