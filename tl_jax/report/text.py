"""Numbers as people write them, and a run's result as a plain table for the terminal."""

import math
import numbers
import textwrap
from collections.abc import Sequence
from typing import Any, TypeGuard

MISSING = "–"
METRICS = {
    "image_accuracy": "accuracy of images",
    "accuracy": "accuracy",
    "weighted_accuracy": "weighted accuracy",
    "f1": "F1",
    "auc": "AUC",
    "ece": "ECE",
    "map": "mAP",
    "ap50": "AP at IoU 0.5",
    "ap75": "AP at IoU 0.75",
    "image_ap": "mean AP of images",
    "proposal_recall": "objects with a proposal",
    "exact": "exact match",
    "kappa": "quadratic kappa",
    "rank_error": "ranks off",
    "r2": "R²",
    "spearman": "Spearman's ρ",
    "mae": "MAE",
    "rmse": "RMSE",
    "cider": "CIDEr-D",
    **{f"bleu{n}": f"BLEU-{n}" for n in range(1, 5)},
    "exact_captions": "word for word",
    "perplexity": "perplexity",
    **{
        f"{kind}_{name}": f"{kind}s: {label}"
        for kind in ("image", "text")
        for name, label in (
            *((f"recall_at_{k}", f"recall@{k}") for k in (1, 5, 10)),
            ("median_rank", "median rank"),
        )
    },
    "loss": "loss",
}
PLAIN = (  # no shares
    *("kappa", "rank_error", "r2", "spearman", "mae", "rmse", "loss"),
    *("cider", "perplexity", "image_median_rank", "text_median_rank"),
)


def there(x: float | None) -> TypeGuard[float]:
    """Return whether it is a finite number."""
    return x is not None and math.isfinite(x)


def missing(x: float | None) -> bool:
    """Return whether it is None or not finite."""
    return not there(x)


def percent(x: float | None) -> str:
    """Return a fraction in percent: 0.853 -> '85.3 %'."""
    return f"{100 * x:.1f} %" if there(x) else MISSING


def hundredths(x: float | None) -> str:
    """Return a fraction times 100, for a column with the unit in its heading: 0.853 -> '85.3'."""
    return f"{100 * x:z.1f}" if there(x) else MISSING


def fraction(x: float | None) -> float | None:
    """Return the fraction of a figure in percent, the unit of published results."""
    return x / 100 if there(x) else None


def number(x: float | None) -> str:
    """Return three significant digits, or from 1000 on all: 0.000313, 24.6, 4,107,522."""
    if not there(x):
        return MISSING
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def cell(x: Any) -> str:
    """Return a table's cell: counts in full, other numbers with three digits (0.600), text."""
    if isinstance(x, numbers.Integral):
        return f"{x:,}"
    if x is None or isinstance(x, numbers.Real):
        figure = None if x is None else float(x)
        whole = not there(figure) or abs(figure) >= 1000
        return number(figure) if whole else f"{figure:#.3g}".removesuffix(".")
    return visible(str(x))


def metric(name: str, x: float | None) -> str:
    """Return a metric, or its column in an epoch's row: shares in percent, others as numbers."""
    key = name.removeprefix("val_")
    return percent(x) if key in METRICS and key not in PLAIN else number(x)


def seconds(x: float | None) -> str:
    """Return a duration: 0.42 s, 12.3 s, 7 min 05 s, 2 h 07 min."""
    if not there(x):
        return MISSING
    if x < 59.95:
        return f"{x:.2f} s" if x < 1 else f"{x:.1f} s"
    whole = round(x)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(x / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def size(x: float | None) -> str:
    """Return bytes in binary units: 0 B, 331 MiB, 1.5 GiB."""
    if not there(x):
        return MISSING
    power = 0
    while x >= 1023.5 and power < 4:
        x, power = x / 1024, power + 1
    return f"{x:,.{int(power > 0 and x < 9.95)}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def metric_key(name: str) -> str:
    """Return a metric's key in a result: 'Weighted accuracy' -> 'weighted_accuracy'."""
    return "_".join(name.lower().replace("-", " ").split())


def shown(val: dict, test: dict) -> dict[str, str]:
    """Return the labels of measured metrics; weighted accuracy only if it differs."""
    keys = [k for k in METRICS if val.get(k) is not None or test.get(k) is not None]
    if all(split.get("weighted_accuracy") == split.get("accuracy") for split in (val, test)):
        keys = [k for k in keys if k != "weighted_accuracy"]
    return {k: METRICS[k] for k in keys}


def column(name: str) -> str:
    """Return the label of an epoch row's column: 'val_accuracy' -> 'validation accuracy'."""
    first, *words = name.split("_")
    return " ".join([{"val": "validation", "train": "training"}.get(first, first), *words])


def kept(phase: dict, *others: dict) -> str:
    """Return which epoch a phase handed on and what chose it, or the same for several runs.

    For example 'epoch 2 of 5 by validation loss, 3 stepped back', 'epochs 2 to 9 of 20, ...'.
    Stepped back are the epochs after the one handed on: their training is undone.
    """
    phrases = []
    for by in dict.fromkeys(one["best_by"] for one in (phase, *others)):
        chosen = [one for one in (phase, *others) if one["best_by"] == by]
        epochs = {one["best_epoch"] for one in chosen}
        why = ", the last" if by == "last" else f" by {column(by)}" if by else ""
        what = "epoch" if len(epochs) == 1 else "epochs"
        ends = {one["epochs_run"] for one in chosen}
        undone = {one["epochs_run"] - (one["best_epoch"] or one["epochs_run"]) for one in chosen}
        back = f", {_span(undone)} stepped back" if any(undone) else ""
        phrases.append(f"{what} {_span(epochs)} of {_span(ends)}{why}{back}")
    return "; ".join(phrases)


def _span(values: set) -> str:
    known = sorted(values - {None})
    if not known:
        return MISSING
    return str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def setbacks(phases: Sequence[dict]) -> list[str]:
    """Return a sentence for each phase that handed on a worse network than a phase before it."""
    sentences = []
    for phase in phases:
        if former := phase.get("worse_than"):
            name, by = phase["name"], phase["metric"]
            now, then = (metric(by, one["value"]) for one in (phase, former))
            sentences.append(
                f"{printable(name)} hands on a {column(by)} of {now}, worse than the {then} of "
                f"{printable(former['phase'])} (epoch {former['epoch']}): try a smaller "
                "learning_rate, or a plan that ends before it"
            )
    return sentences


def visible(text: str) -> str:
    """Escape control, direction-changing and undecodable characters: file names are hostile."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def printable(text: Any, width: int = 60) -> str:
    """Return one short line without control characters, which could steer the terminal."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    return textwrap.shorten(line, width, placeholder="…") if line.strip() else MISSING


def terminal_table(result: dict) -> str:
    """Return metrics on validation and test, the published figures and the cost, as text."""
    val, test = result.get("val") or {}, result.get("test") or {}
    rows = [
        f"{label:<18} {metric(key, val.get(key)):>9} {metric(key, test.get(key)):>9}"
        for key, label in shown(val, test).items()
    ]
    published = [
        f"{percent(fraction(p['figure'])):>9}  {printable(p['metric'])}, "
        f"{printable(p['what'])} ({printable(p['source'])})"
        for p in result.get("published") or ()
    ]
    examples = "texts" if "tokenizer" in result["base"]["preprocessing"] else "images"
    lines = [
        f"{printable(result['name'])}: {printable(result['base']['name'])} to "
        f"{printable(result['task']['name'])} by {printable(result['plan']['name'])}, "
        f"seed {result['seed']}",
        *(
            f"phase {printable(phase['name'])}: {kept(phase)}"
            + (f"; stopped early, {phase['epochs']} epochs were planned" * phase["stopped_early"])
            for phase in result["plan"]["phases"]
        ),
        *setbacks(result["plan"]["phases"]),
        f"{'':<18} {'val':>9} {'test':>9}",
        *rows,
        *(["published", *published] if published else []),
        _cost(result["cost"], examples),
    ]
    return "\n".join(lines)


def _cost(cost: dict, examples: str) -> str:
    return (
        f"cost: {seconds(cost['total_seconds'])} (compile {seconds(cost['compile_seconds'])}), "
        f"{number(cost['step_ms'])} ms a step, {number(cost['images_per_second'])} {examples}/s, "
        f"peak memory {size(cost['peak_memory_bytes'])}, cached {size(cost['cached_bytes'])}"
    )
