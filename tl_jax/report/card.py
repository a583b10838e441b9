"""A model card: what a finished run's network is for, what it was measured to do, and what not.

After Mitchell et al. 2019, "Model Cards for Model Reporting", arXiv:1810.03993. What only its maker
can say stands in it as a question.
"""

import pathlib
from typing import Any

import numpy as np

from tl_jax.data import licences
from tl_jax.data.licences import Licence
from tl_jax.report import html, text
from tl_jax.stats import intervals

NAME = "card.md"
MOST_PAIRS = 5
HEADER = "---\nlibrary_name: tl_jax\ntags: [transfer-learning, jax, {tag}]\n---\n"
# By what is asked (`Task.asks`): the network, and what it does whatever it is shown
SORTS = {
    "classes": ("A classifier of {kind}", "answers with one of its classes"),
    "labels": ("A network that labels {kind}", "gives the labels whose probability is high enough"),
    "numbers": ("A network that says numbers of {kind}", "answers with a number"),
    "captions": ("A network that reads {kind} and words", "answers with words that it knows"),
    "boxes": ("A detector in {kind}", "answers with boxes of its classes, surest first"),
}
# By what is asked: the task's tag on the hub, and what one asks of a base
TAGS = {
    "classes": "{kind}-classification",
    "labels": "{kind}-classification",
    "numbers": "{kind}-regression",
    "captions": "{kind}-to-text",
    "boxes": "object-detection",
}
CALLS = {"captions": "base.captions({given})", "boxes": "base.classes, base.detect({given})"}
SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>#|!~"})


def write(folder: pathlib.Path, result: dict[str, Any]) -> pathlib.Path:
    """Write the card of a result; return its path."""
    return html.put(folder / NAME, card(result))


def card(result: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    texts = "tokenizer" in result["base"]["preprocessing"]
    sections = {
        "What it is": _what(result, "texts" if texts else "images"),
        "Intended use": _use(result, "texts" if texts else "images"),
        "What was measured": _measured(result),
        "Where it fails": _fails(result),
        "Data and weights": _sources(result),
        "How to load it": _loading(texts, _asks(result)),
    }
    parts = (f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items())
    head = HEADER.format(tag=TAGS[_asks(result)].format(kind="text" if texts else "image"))
    return f"{head}\n# {_plain(result['name'])}\n\n" + "\n\n".join(parts) + "\n"


def _what(result: dict, kind: str) -> list[str]:
    base, classes = result["base"], result["task"]["classes"]
    names = ", ".join(map(_plain, classes[:20])) + (", ..." if len(classes) > 20 else "")
    cut = f", cut at {_plain(base['cut'])}," if base["cut"] else ""
    sort = SORTS[_asks(result)][0].format(kind=kind)
    return [
        f"{sort}: {_plain(base['name'])} with {base['parameters']:,} parameters{cut} from the "
        f"weights {_plain(_weights(result))}, trained on {_plain(_task(result))} "
        f"by the plan {_plain(result['plan']['name'])} (seed {result['seed']}, {result['date']}).",
        "",
        f"{len(classes)} {'words' if _asks(result) == 'captions' else _asks(result)}: {names}.",
    ]


def _use(result: dict, kind: str) -> list[str]:
    return [
        f"For {kind} like those of {_plain(_task(result))}. It {SORTS[_asks(result)][1]}, "
        f"whatever it is shown: it does not know what it does not know. The figures below hold for "
        f"{kind} from the same source, and say nothing of others.",
        "",
        "- Who is to use it, and for what decisions? *(to be filled in)*",
        "- Whom may a mistake harm, and who looks at its answers? *(to be filled in)*",
    ]


def _measured(result: dict) -> list[str]:
    val, test = result["val"] or {}, result["test"] or {}
    sizes = result["task"]["sizes"]
    rows = [
        f"| {label} | {text.metric(key, val.get(key))} | {text.metric(key, test.get(key))} |"
        for key, label in text.shown(val, test).items()
    ]
    lines = [
        f"On {sizes['test']} test examples, looked at once, after training on {sizes['train']} and "
        f"choosing on {sizes['val']}:",
        "",
        "| | validation | test |",
        "|---|---|---|",
        *rows,
    ]
    if bounds := _interval(test):
        low, high = map(text.percent, bounds)
        lines += ["", f"95 % interval of the test accuracy (Wilson score): {low} to {high}."]
    return lines


def _interval(test: dict) -> tuple[float, float] | None:
    if not test.get("confusion"):
        return None
    matrix = np.asarray(test["confusion"])
    return intervals.wilson(int(np.trace(matrix)), int(matrix.sum()))


def _fails(result: dict) -> list[str]:
    test, classes = result["test"] or {}, result["task"]["classes"]
    lines = []
    if test.get("confusion"):
        matrix = np.asarray(test["confusion"])
        totals = matrix.sum(1)
        lines += [
            f"- “{_plain(classes[true])}” is taken for “{_plain(classes[seen])}”: {count} of "
            f"{totals[true]}."
            for true, seen, count in intervals.confusions(matrix, most=MOST_PAIRS)
        ] or ["- It made no mistake on the test examples, which are few or easy."]
    if of_labels := [row for row in test.get("per_label", ()) if text.there(row["ap"])]:
        weak = sorted(of_labels, key=lambda row: row["ap"])[:MOST_PAIRS]
        told = [(_plain(row["name"]), text.percent(row["ap"])) for row in weak]
        lines += [f"- “{name}”: average precision {precision}." for name, precision in told]
    for row in test.get("per_number", ()):
        off = text.number(row.get("mae"))
        lines.append(f"- “{_plain(row['name'])}” is off by {off} on average.")
    if text.there(ece := test.get("ece")):
        cooled = result["calibration"]
        better = (
            f"; by {text.percent(cooled['test']['ece'])} with its logits divided by "
            f"{text.number(cooled['temperature'])}, a temperature fitted on validation"
            if cooled
            else ""
        )
        lines.append(f"- Its confidence is off by {text.percent(ece)} on average (ECE){better}.")
    if result["task"]["skipped"]:
        lines.append(f"- {result['task']['skipped']} unreadable files were left out.")
    return lines or ["- Nothing was measured."]


def _sources(result: dict) -> list[str]:
    weights, task = result["base"]["weights"], _task(result)
    of_set = licences.of_set(task)
    known = " of the packaged set of that name" if of_set else ""
    counts = (result["task"]["class_counts"] or {}).get("train") or {}
    few, many = min(counts.values(), default=0), max(counts.values(), default=0)
    unequal = f" Training examples of each: {few} to {many}."
    return [
        f"- Data: {_plain(task)}; licence{known}{_licence(of_set)}.{unequal if counts else ''}",
        f"- Weights: {_plain(_weights(result))}; licence{_licence(licences.of_weights(weights))}.",
        "- Licence of this model: *(to be filled in; what the two above allow)*",
    ]


def _weights(result: dict) -> str:
    """What the weights are called: of a file its name alone, as a card goes where paths tell too
    much.
    """
    weights = result["base"]["weights"]
    return weights if ":" in weights else pathlib.PurePath(weights).name


def _licence(known: Licence | None) -> str:
    return f": {known.name} ({known.where})" if known else ": *(to be filled in)*"


def _loading(texts: bool, asks: str) -> list[str]:
    given = '["a text"]' if texts else '["photo.jpg"]'
    said = CALLS.get(asks, "base.classes, base.predict({given})").format(given=given)
    return [
        "```python",
        "import tl_jax",
        "",
        'base = tl_jax.load_base("model.safetensors")  # or "hf:user/model"',
        f"print({said})",
        "```",
    ]


def _asks(result: dict) -> str:
    return result["task"].get("asks", "classes")


def _task(result: dict) -> str:
    return result["task"]["name"]


def _plain(told: Any) -> str:
    """Return a name as Markdown shows it, whatever is in it: names of files and folders are
    anybody's.
    """
    return text.visible(str(told)).translate(SPECIAL)
