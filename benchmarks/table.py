"""The whole benchmark: every net in every way, as a table in docs/benchmarks.md.

    make bench
    python -m benchmarks.table --nets=resnet50,vgg16 --ways=none,all --out=/dev/stdout

One to three minutes a row. What broke off goes on: rows that are in --rows are not measured again,
so another --rows, or none there, after a change of the code.
"""

import datetime
import importlib.metadata
import json
import math
import pathlib
import platform
import re
import statistics

from absl import flags

from benchmarks.measure import line, measure
from benchmarks.rows import NETS, PRECISIONS, checked
from experiments import cli

_NETS = flags.DEFINE_list("nets", list(NETS), "The nets.")
_WAYS = flags.DEFINE_list("ways", ["none", "all", "last"], "What is trained.")
_BATCH = flags.DEFINE_integer("batch", 16, "Images a step.", lower_bound=1)
_PRECISION = flags.DEFINE_enum("precision", "float32", PRECISIONS, "Of the activations.")
_TURNS = flags.DEFINE_integer("turns", 3, "Times that each is measured.", lower_bound=2)
_ROWS = flags.DEFINE_string("rows", "runs/bench.jsonl", "Where the rows are kept.")
_OUT = flags.DEFINE_string("out", "docs/benchmarks.md", "Where the table is written.")

TITLES = {
    "none": "Inference",
    "all": "Training step, every layer, batch norm in training mode",
    "last": "Training step, last stage and head; below it frozen",
}
ROW = ("base", "train", "batch", "precision")
COLUMNS = (
    "net",
    "batch",
    "ours",
    "PyTorch",
    "ratio",
    "from stored",
    "peak GiB: ours, PyTorch",
    "GFLOP/s, GB/s",
    "compile, s",
)
PACKAGES = ("jax", "jaxlib", "flax", "torch", "torchvision", "timm")


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    kept = pathlib.Path(_ROWS.value)
    kept.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(text) for text in kept.read_text().splitlines()] if kept.exists() else []
    for way in _WAYS.value:
        for net in checked(_NETS.value):
            wanted = (net, way, _BATCH.value, _PRECISION.value)
            if any(tuple(row[key] for key in ROW) == wanted for row in rows):
                continue
            row = measure(net, way, _BATCH.value, _PRECISION.value, turns=_TURNS.value)
            print(line(row), flush=True)
            rows.append(row)
            with open(kept, "a") as file:
                file.write(json.dumps(row) + "\n")
    pathlib.Path(_OUT.value).write_text(document(rows))


def document(rows: list[dict]) -> str:
    """The page: what was measured on, and a table for each way with the ratios' geometric mean."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    lines = [
        "# Speed beside PyTorch",
        "",
        f"By `benchmarks.table` on {datetime.date.today()}: {_machine()}; {versions}.",
        f"Images a second: the median of {_turns(rows)} turns, least and greatest in brackets. The",
        "peer is the better of PyTorch eager (channels-last) and `torch.compile`; each has a",
        "process of its own, all keep freed memory, and they take turns. From stored: the same",
        "step from the frozen layers' stored output. Rates: operations and memory traffic of our",
        "compiled step, as its `cost_analysis` counts them, a second.",
    ]
    for way, title in TITLES.items():
        chosen = [row for row in rows if row["train"] == way]
        if not chosen:
            continue
        mean = math.exp(statistics.fmean(math.log(row["ratio"]) for row in chosen))
        lines += ["", f"## {title}", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in chosen]
        empty = " |" * (len(COLUMNS) - 5)
        lines += [f"| geometric mean | | | | **{mean:.2f}** |{empty}"]
    return "\n".join(lines) + "\n"


def _turns(rows: list[dict]) -> str:
    return " or ".join(str(n) for n in sorted({len(row["turns"]) for row in rows}))


def _cells(row: dict) -> list[str]:
    said = row["said"]["ours"]
    low, high = row["spread"]["ours"]
    peer_low, peer_high = row["spread"][row["peer_is"]]
    peaks = [row["peak_bytes"][name] / 2**30 for name in ("ours", row["peer_is"])]
    rates = [said[what] and said[what] * row["ours"] / row["batch"] for what in ("flops", "bytes")]
    return [
        row["base"] + ("" if row["idle"] else " (not idle)"),
        f"{row['batch']} {row['precision']}",
        f"{row['ours']:.1f} ({low:.1f} to {high:.1f})",
        f"{row['peer']:.1f} ({peer_low:.1f} to {peer_high:.1f}), {row['peer_is']}",
        f"{row['ratio']:.2f}",
        f"{row['cached_ratio']:.2f}" if "cached_ratio" in row else "",
        f"{peaks[0]:.1f}, {peaks[1]:.1f}",
        ", ".join("–" if rate is None else f"{rate / 1e9:.0f}" for rate in rates),
        f"{said['compile_seconds']:.1f}",
    ]


def _machine() -> str:
    import jax
    import psutil

    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    gigabytes = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores ({_processor()}), {gigabytes:.0f} GiB"


def _processor() -> str:
    """Its name and family, by which generations of one name differ; elsewhere the architecture."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    said = dict(re.findall(r"^([^:\n]*?)\s*: (.*)$", text, re.MULTILINE))
    parts = (said.get("model name"), f"family {said.get('cpu family')}, model {said.get('model')}")
    return ", ".join((platform.machine(), *parts)) if parts[0] else platform.machine()


if __name__ == "__main__":
    cli.run(main)
