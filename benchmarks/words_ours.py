"""The worker of this library for vectors of words: epochs of skip-gram."""

from benchmarks import worker


def corpus_of(spec: dict):
    """Return the corpus of the task's first texts."""
    import tl_jax
    from tl_jax.vectors import corpus

    return corpus.of_texts(tl_jax.load_task(spec["task"]).texts[: spec["texts"]], least=5)


def prepare(spec: dict):
    import jax

    from tl_jax.vectors.skip_gram import SkipGram

    how, corpus = SkipGram(epochs=10**9), corpus_of(spec)
    state = {"tables": how.begin(corpus, None, 0), "epoch": 0}

    def run(steps: int) -> None:
        for _ in range(steps):
            state["tables"], _loss = how.epoch(corpus, None, state["tables"], state["epoch"], 0)
            state["epoch"] += 1
        jax.block_until_ready(state["tables"])

    return run, {"tokens": len(corpus.tokens), "words": len(corpus.words)}


if __name__ == "__main__":
    worker.serve(prepare)
