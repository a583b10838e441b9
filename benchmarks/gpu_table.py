"""What `benchmarks.gpu` measures: rows beside PyTorch, and how far a GPU is from the CPU."""

import operator
import time

from benchmarks.measure import measure
from benchmarks.rows import PRECISIONS

ROWS = (
    *(("resnet50", "all", precision) for precision in ("bfloat16", "tf32", "float32")),
    *(("resnet50", "none", precision) for precision in ("bfloat16", "tf32", "float32")),
    ("resnet50", "last", "bfloat16"),
    *(("efficientnet_lite0", way, "bfloat16") for way in ("all", "none", "last")),
)
COLUMNS = ("net", "trained", "precision", "ours", "PyTorch", "ratio", "from stored, ratio")


def table(minutes: float, batch: int, turns: int) -> list[str]:
    """The rows that there is time for, as a table, and the names of the others."""
    started, left = time.monotonic(), []
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for net, way, precision in ROWS:
        if time.monotonic() - started > 60 * minutes:
            left.append(f"{net} {way} {precision}")
            continue
        row = measure(net, way, batch, precision, turns=turns)
        lines.append(f"| {' | '.join(_cells(row))} |")
        print(lines[-1], flush=True)
    return [*lines, *(["", f"No time was left for {', '.join(left)}."] if left else [])]


def _cells(row: dict) -> list[str]:
    def told(name: str) -> str:
        low, high = row["spread"][name]
        return f"{row['ours' if name == 'ours' else 'peer']:.0f} ({low:.0f} to {high:.0f})"

    stored = f"{row['cached_ratio']:.2f}" if "cached_ratio" in row else ""
    peer = f"{told(row['peer_is'])}, {row['peer_is']}"
    named = row["base"], row["train"], row["precision"]
    return [*named, told("ours"), peer, f"**{row['ratio']:.2f}**", stored]


def differences() -> list[str]:
    """Lines that say how far a GPU's outputs are from the CPU's, by precision."""
    import jax
    import numpy as np

    from tl_jax.base.load import load_base

    base = load_base("resnet50", "random:0")
    pixels = np.random.default_rng(0).integers(0, 256, (4, *base.preprocessing.example.shape[1:]))
    x, variables, lines = base.preprocessing.normalise(pixels.astype(np.uint8)), base.variables, []
    with jax.default_device(jax.devices("cpu")[0]):
        wanted = np.asarray(base.chain.apply(variables, x).output, np.float64)
    for name, (dtype, products) in PRECISIONS.items():
        params = jax.tree.map(operator.methodcaller("astype", dtype), variables["params"])
        with jax.default_matmul_precision(products):
            output = base.chain.apply({**variables, "params": params}, x.astype(dtype)).output
        apart = abs(np.asarray(output, np.float64) - wanted).max() / abs(wanted).max()
        lines.append(f"ResNet-50 in {name}: logits within {apart:.1e} of the CPU's greatest.")
    return lines
