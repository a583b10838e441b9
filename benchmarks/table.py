"""Run the whole benchmark, every network in every way, and write the table docs/benchmarks.md.

    make bench
    python -m benchmarks.table --nets=resnet50,vgg16 --ways=none,all --out=/dev/stdout
    python -m benchmarks.table --ways=none --precision=bfloat16 --out=/dev/stdout

A row takes one to three minutes. An interrupted benchmark continues: rows in the file --rows are
not measured again. So after a change of the code, give another file or delete it.
"""

import datetime
import importlib.metadata
import itertools
import json
import math
import pathlib
import platform
import re
import statistics
from collections.abc import Iterable, Iterator

from absl import flags

from benchmarks.measure import line, measure
from benchmarks.rows import NETS, PRECISIONS, checked
from experiments import cli, out_flag
from experiments.out_flag import OUT

_NETS = flags.DEFINE_list("nets", list(NETS), "The bases.")
_WAYS = flags.DEFINE_list("ways", ["none", "all", "last"], "The layers to train.")
_BATCH = flags.DEFINE_integer("batch", 16, "Images in a batch.", lower_bound=1)
_PRECISION = flags.DEFINE_enum("precision", "float32", PRECISIONS, "Precision of the activations.")
_TURNS = flags.DEFINE_integer("turns", 3, "Number of measurements of each.", lower_bound=2)
_ROWS = flags.DEFINE_string("rows", "runs/bench.jsonl", "File that keeps the rows.")
flags.adopt_module_key_flags(out_flag)

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
    path = pathlib.Path(_ROWS.value)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    for way in _WAYS.value:
        for net in checked(_NETS.value):
            key = (net, way, _BATCH.value, _PRECISION.value)
            if any(tuple(row[name] for name in ROW) == key for row in rows):
                continue
            row = measure(net, way, _BATCH.value, _PRECISION.value, turns=_TURNS.value)
            print(line(row), flush=True)
            rows.append(row)
            with open(path, "a") as file:
                file.write(json.dumps(row) + "\n")
    pathlib.Path(OUT.value or "docs/benchmarks.md").write_text(document(rows))


def document(rows: list[dict]) -> str:
    """Return the page: the machine, and a table for each way with the ratios' geometric mean."""
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
    for way, precision in itertools.product(TITLES, PRECISIONS):
        chosen = [row for row in rows if (row["train"], row["precision"]) == (way, precision)]
        if not chosen:
            continue
        title = TITLES[way] + ("" if precision == "float32" else f", {precision}")
        lines += ["", f"## {title}", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in chosen]
        mean, empty = _mean(row["ratio"] for row in chosen), " |" * (len(COLUMNS) - 5)
        lines += [f"| geometric mean | | | | **{mean:.2f}** |{empty}"]
        if precision != "float32" and (over := list(_over_float32(chosen, rows))):
            many = f"{len(over)} nets" if len(over) > 1 else "one net"
            lines += ["", f"Over PyTorch in float32, of {many}: **{_mean(over):.2f}**."]
    return "\n".join(lines) + "\n"


def _mean(ratios: Iterable[float]) -> float:
    """Return the geometric mean."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def _over_float32(chosen: list[dict], rows: list[dict]) -> Iterator[float]:
    """Yield the speed of ours in these rows over that of the peer in float32, where measured."""
    same = "base", "train", "batch"
    peers = {tuple(r[n] for n in same): r["peer"] for r in rows if r["precision"] == "float32"}
    for row in chosen:
        if peer := peers.get(tuple(row[name] for name in same)):
            yield row["ours"] / peer


def _turns(rows: list[dict]) -> str:
    return " or ".join(str(n) for n in sorted({len(row["turns"]) for row in rows}))


def _cells(row: dict) -> list[str]:
    report = row["said"]["ours"]
    low, high = row["spread"]["ours"]
    peer_low, peer_high = row["spread"][row["peer_is"]]
    peaks = [row["peak_bytes"][name] / 2**30 for name in ("ours", row["peer_is"])]
    costs = report["flops"], report["bytes"]
    rates = [cost and cost * row["ours"] / row["batch"] for cost in costs]
    return [
        row["base"] + ("" if row["idle"] else " (not idle)"),
        f"{row['batch']} {row['precision']}",
        f"{row['ours']:.1f} ({low:.1f} to {high:.1f})",
        f"{row['peer']:.1f} ({peer_low:.1f} to {peer_high:.1f}), {row['peer_is']}",
        f"{row['ratio']:.2f}",
        f"{row['cached_ratio']:.2f}" if "cached_ratio" in row else "",
        f"{peaks[0]:.1f}, {peaks[1]:.1f}",
        ", ".join("–" if rate is None else f"{rate / 1e9:.0f}" for rate in rates),
        f"{report['compile_seconds']:.1f}",
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
    """Return the processor's architecture, name and family (generations share names) if known."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    info = dict(re.findall(r"^([^:\n]*?)\s*: (.*)$", text, re.MULTILINE))
    parts = (info.get("model name"), f"family {info.get('cpu family')}, model {info.get('model')}")
    return ", ".join((platform.machine(), *parts)) if parts[0] else platform.machine()


if __name__ == "__main__":
    cli.run(main)
