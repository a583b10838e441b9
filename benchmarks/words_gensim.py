"""The worker of gensim for vectors of words: epochs of skip-gram over the same tokens."""

from benchmarks import worker
from benchmarks.words_ours import corpus_of


def prepare(spec: dict):
    import numpy as np
    from gensim.models import Word2Vec

    corpus = corpus_of(spec)
    ends = np.flatnonzero(np.diff(corpus.texts)) + 1
    texts = [[corpus.words[n] for n in part] for part in np.split(corpus.tokens, ends)]
    model = Word2Vec(
        vector_size=100, window=5, negative=5, sample=1e-3, sg=1, min_count=1,
        workers=spec["threads"], alpha=0.025, min_alpha=0.025,
    )  # fmt: skip
    model.build_vocab(texts)

    def run(steps: int) -> None:
        model.train(texts, total_examples=len(texts), epochs=steps)

    return run, {"tokens": len(corpus.tokens), "words": len(model.wv)}


if __name__ == "__main__":
    worker.serve(prepare)
