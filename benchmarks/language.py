"""Measure texts here and in PyTorch, in turns: an encoder's inference and fine-tuning, and the
training of a language model with a large vocabulary and with a small one.

    python -m benchmarks.language [--base=minilm_l6] [--batch=32] [--length=64] [--turns=7]

Each library has its own process; both prepare and warm up, then take turns. The peer is the better
of eager and by `torch.compile`: transformers' encoder, or AWD-LSTM on `torch.nn.LSTM`, of the same
size, with random weights. Texts are as long as they can be, so that no padding is computed. It
needs the extra `bench`.
"""

from absl import flags

from benchmarks.language_rows import HEAD, LANGUAGE, row
from benchmarks.measure import busy_cores, idle_note
from experiments import cli

_BASE = flags.DEFINE_string("base", "minilm_l6", "The base.")
_BATCH = flags.DEFINE_integer("batch", 32, "Texts in a batch.", lower_bound=1)
_LENGTH = flags.DEFINE_integer("length", 64, "Tokens of a text.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 7, "Number of measurements of each.", lower_bound=2)
WORDS = (30_000, 2_000)  # of vocabularies


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    busy = busy_cores()
    encoder, shared = {"base": _BASE.value}, {"length": _LENGTH.value, "batch": _BATCH.value}
    print(HEAD)
    for name, train in (("inference", "none"), ("fine-tuning", "all")):
        cells = row("language_torch", encoder | shared | {"train": train}, turns=_TURNS.value)
        print(f"| {_BASE.value}, {name} | {cells} |", flush=True)
    for words in WORDS:
        cells = row("awd_lstm_torch", LANGUAGE | shared | {"words": words}, turns=_TURNS.value)
        print(f"| {LANGUAGE['base']}, {words:,} words | {cells} |", flush=True)
    what = f"batch {_BATCH.value}, {_LENGTH.value} tokens"
    print(f"{what}, median (least to greatest) of {_TURNS.value} turns{idle_note(busy)}")


if __name__ == "__main__":
    cli.run(main)
