"""How a look at a task's data is shown: counts, sizes, copies, doubtful labels, examples.

Images are shown as pictures, texts by their beginnings in the tables.
"""

import pathlib

import numpy as np

from tl_jax.data.files import listed
from tl_jax.data.task import SPLITS, Task
from tl_jax.measure.audit.copies import SHARED
from tl_jax.report import html, pictures, study
from tl_jax.report.text import number, percent

SIDE = 96  # pixels of an image on the page
MOST_CLASSES, EXAMPLES = 20, 8  # classes of which examples are shown, and examples of each
PAIRS, DOUBTS = 12, 24  # shown of either
SHOWN = 240  # characters of a text
QUARTILES = ("least", "first quartile", "median", "third quartile", "most")
COMPARED = {
    "image": "Thumbnails of 16 × 16 pixels are compared without regard to brightness and contrast. "
    "Copies that were mirrored, turned or cropped much are not found.",
    "text": "Texts are compared by which three characters follow each other, in lower case; in a "
    f"pair, {100 * SHARED:.0f} % of them are the same.",
}


def write(workdir: pathlib.Path, result: dict, *, task: Task) -> None:
    """Write the page and its tables from the `material` of `study.compute`."""
    config = result["config"]
    study.write(
        workdir,
        title=f"A look at {task.name}",
        lead="\n\n".join(_said(result)),
        sections=sections(result, task),
        facts={
            "task": f"{task.name}, {len(task.ids):,} {_noun(result)}, "
            f"{len(task.classes):,} classes",
            "base": config["base"] or "none: labels were not judged",
        },
        result=result,
    )


def sections(result: dict, task: Task) -> list[study.Section]:
    """Return what was found of the task, with examples of its images or texts."""
    sizes = _lengths(result) if task.texts else _files(result)
    found = [_classes(result), sizes, _copies(result, task)]
    if "doubts" in result:
        found += [_doubts(result, task), _related(result)]
    return [*found, _examples(task, result["config"]["seed"])]


def summary(result: dict) -> str:
    """Return the findings, a line each."""
    return "\n".join(_said(result))


def _noun(result: dict) -> str:
    return result.get("noun", "images")  # results of before texts were looked at do not say


def _said(result: dict) -> list[str]:
    """Return the findings as sentences."""
    counts, classes = result["counts"], result["classes"]
    total = [sum(of_split[c] for of_split in counts.values()) for c in range(len(classes))]
    sizes = ", ".join(f"{split} {sum(counts[split]):,}" for split in SPLITS)
    spread = " to ".join(f"{n:,}" for n in sorted({min(total), max(total)}))
    said = [f"{sum(total):,} {_noun(result)} in {len(classes)} classes of {spread} ({sizes})."]
    if names := result["skipped"]:
        what = "Without a text" if _noun(result) == "texts" else "Unreadable files"
        said.append(f"{what}: {len(names):,} ({listed(names)}).")
    leaked = {split: count for split, count in result["leaked"].items() if count}
    many = " and ".join(f"{n:,} of {sum(counts[s]):,} in {s}" for s, n in leaked.items())
    memory = f"; what is measured on {many} is memory, as an earlier split has a copy"
    pairs = len(result["pairs"])
    said.append(f"Pairs of near copies: {pairs:,}{memory if many else ''}.")
    if doubts := result.get("doubts"):
        said.append(
            f"Doubtful labels: {len(doubts['examples']):,}. The estimate is that "
            f"{percent(doubts['share'])} are wrong, or beyond what the base can see."
        )
    if apart := result.get("distance"):
        said.append(
            f"The source {result['suits']['source']['name']} is at an A-distance of "
            f"{apart['a_distance']:.2f}, where 0 is alike (two halves of the task: "
            f"{apart['halves']:.2f}) and 2 is never confused."
        )
    return said


def _classes(result: dict) -> study.Section:
    counts = result["counts"]
    rows = [
        (name, *of_class, sum(of_class))
        for name, *of_class in zip(
            result["classes"], *(counts[split] for split in SPLITS), strict=True
        )
    ]
    noun = _noun(result).capitalize()
    text = (
        f"{noun} of the largest class for each one of the smallest: {number(result['imbalance'])}. "
        f"The entropy of the classes' shares is that of {result['effective_classes']:.1f} classes "
        "of equal size. Where classes are very uneven, accuracy says little of the small ones: see "
        "F1 of each class."
    )
    table = study.Table("classes", f"{noun} by class", ("class", *SPLITS, "all"), rows)
    return study.Section("Classes", text, tables=(table,))


def _files(result: dict) -> study.Section:
    rows = [(side, *result[side]) for side in ("width", "height")]
    kinds = list(result["kinds"].items())
    tables = (
        study.Table("sizes", "Size in pixels", ("side", *QUARTILES), rows),
        study.Table("kinds", "Kinds of images", ("format and mode", "images"), kinds),
        *_skipped(result, "unreadable", "Files that cannot be read", "file"),
    )
    text = (
        "Images smaller than a base's input are enlarged, which adds no detail. Several kinds or "
        "sizes that go with classes or splits are something that a network can learn instead."
    )
    return study.Section("Files", text, tables=tables)


def _skipped(result: dict, name: str, caption: str, column: str) -> list[study.Table]:
    """Return the table of what the task left out, if it left out anything."""
    rows = [(one,) for one in result["skipped"]]
    return [study.Table(name, caption, (column,), rows)] if rows else []


def _lengths(result: dict) -> study.Section:
    rows = [(unit, *result[unit]) for unit in ("words", "characters")]
    tables = (
        study.Table("sizes", "Lengths", ("counted in", *QUARTILES), rows),
        *_skipped(result, "empty", "Left out: without a text", "text"),
    )
    text = (
        "Of a long text a base reads the beginning, as many tokens as its size says; a word is one "
        "or a few. Lengths that go with classes or splits are something that a network can learn "
        "instead."
    )
    return study.Section("Lengths", text, tables=tables)


def _copies(result: dict, task: Task) -> study.Section:
    split_of = {int(i): split for split, rows in task.splits.items() for i in rows}
    rows, shown, what = [], [], "text" if task.texts else "pixels"
    for place, pair in enumerate(result["pairs"], 1):
        names = []
        for i in pair["examples"]:
            names += [task.ids[i], split_of[i], task.classes[task.labels[i]]]
        same = "yes" if pair[f"same_{what}"] else "no"
        rows.append((place, *_excerpts(task, pair["examples"]), *names, pair["distance"], same))
        if place <= PAIRS and not task.texts:
            sheet = _sheet(task, pair["examples"])
            caption = f"{place}: {names[0]} ({names[1]}), {names[3]} ({names[4]})"
            shown.append(study.Picture(f"pair_{place}", caption, sheet))
    text = (
        f"{COMPARED[_one(task)]} A pair counts if its distance is at most {result['ratio']:.2f} of "
        "that to the tenth nearest: by chance, one pair of the whole task would be so close. "
        "Copies in two splits make a test of memory, and of two copies with different labels one "
        "is wrong. Pairs across splits come first."
    )
    columns = ("pair", *(("begins", "the other") if task.texts else ()), _one(task), "split")
    columns += ("class", "and", "its split", "its class", "distance", f"same {what}")
    table = study.Table("copies", "Pairs", columns, rows)
    tables = _with_first(task, table, PAIRS) if rows else ()
    return study.Section("Copies", text, tuple(shown), tables)


def _doubts(result: dict, task: Task) -> study.Section:
    rows, shown, doubts = [], [], result["doubts"]
    lines = zip(doubts["examples"], doubts["suggested"], doubts["margins"], strict=True)
    for place, (i, suggested, margin) in enumerate(lines, 1):
        label, other = task.classes[task.labels[i]], task.classes[suggested]
        rows.append((place, task.ids[i], *_excerpts(task, [i]), label, other, margin))
        if place <= DOUBTS and not task.texts:
            caption = f"{place}: labelled {label}, looks like {other}"
            shown.append(study.Picture(f"doubt_{place}", caption, _sheet(task, [i])))
    confused = [
        (task.classes[label], task.classes[other], count)
        for label, counts in enumerate(doubts["counts"])
        for other, count in enumerate(counts)
        if count and label != other
    ]
    text = (
        "A logistic probe on the base's features says how probable each class is for "
        f"{_noun(result)} that it has not seen. A label is doubtful if another class reaches what "
        "is usual for that class's own (Northcutt, Jiang & Chuang 2021, arXiv:1911.00068). The "
        "most doubtful come first: look at them, and change what is wrong by hand. Rare kinds of "
        "a class, and classes that the base cannot tell apart, are found as well."
    )
    columns = ("place", _one(task), *(("begins",) if task.texts else ()))
    columns += ("label", "looks like", "margin")
    tables = [
        *_with_first(task, study.Table("doubts", "Doubtful labels", columns, rows), DOUBTS),
        study.Table(
            "confusions",
            "Doubtful labels by class",
            ("label", "looks like", _noun(result)),
            sorted(confused, key=lambda row: -row[2]),
        ),
    ]
    return study.Section("Labels", text, tuple(shown), tuple(tables) if rows else ())


def _related(result: dict) -> study.Section:
    suits = list(result["suits"].values())
    columns, units, by_layer = ["layer"], {}, [suits[0]["layers"]]
    for of, whose in zip(suits, ("", " of the source"), strict=False):
        columns += [f"accuracy{whose}", f"alignment{whose}"]
        units[f"accuracy{whose}"] = "%"
        by_layer += [of["accuracy"], of["alignment"]]
    tables = (
        study.Table(
            "suits",
            "The bottleneck",
            ("task", "LogME", "gap to the best layer"),
            [(of["name"], of["logme"], of["gap"]) for of in suits],
            {"gap to the best layer": "points"},
        ),
        study.Table(
            "layers",
            "Every layer, in forward order",
            tuple(columns),
            list(zip(*by_layer, strict=True)),
            units,
        ),
    )
    text = (
        "Accuracy is that of a ridge probe on validation. Alignment is the linear CKA of the "
        "features with the classes. A lower layer that is better than the bottleneck says that the "
        "base's top is special to what it was trained for: cut there, or train the top."
    )
    return study.Section("How the base suits the task", text, tables=tables)


def _examples(task: Task, seed: int) -> study.Section:
    rng, shown, begun = np.random.default_rng(seed), [], []
    largest = np.argsort(-np.bincount(task.labels), kind="stable")[:MOST_CLASSES]
    for c in sorted(largest):
        rows = rng.permutation(np.flatnonzero(task.labels == c))[:EXAMPLES]
        rows = np.sort(rows).tolist()
        if task.texts:
            begun += [(task.classes[c], task.ids[i], *_excerpts(task, [i])) for i in rows]
        else:
            sheet = _sheet(task, rows)
            shown.append(study.Picture(f"class_{c + 1}", task.classes[c], sheet))
    more = f" Only the {MOST_CLASSES} largest classes are shown."
    text = f"Random {_one(task)}s of each class." + more * (len(task.classes) > len(largest))
    table = study.Table("examples", "Texts by class", ("class", "text", "begins"), begun)
    return study.Section("Examples", text, tuple(shown), (table,) if begun else ())


def _with_first(task: Task, table: study.Table, count: int) -> tuple[study.Table, ...]:
    """Return the table; of texts, of which there are no pictures, after its first rows."""
    if not task.texts or len(table.rows) <= count:
        return (table,)
    caption, rows = f"{table.caption}, the first {count}", table.rows[:count]
    return table._replace(name=f"first_{table.name}", caption=caption, rows=rows), table


def _one(task: Task) -> str:
    return "text" if task.texts else "image"


def _excerpts(task: Task, rows: list[int]) -> list[str]:
    """Return the beginnings of texts; none of a task of images."""
    whole = [" ".join(task.texts[i].split()) for i in rows] if task.texts else []
    return [text if len(text) <= SHOWN else f"{text[:SHOWN]} …" for text in whole]


def _sheet(task: Task, rows: list[int]) -> str:
    """Return the images side by side, as a data URI."""
    tiles = [pictures.tile(task.image(i), SIDE) for i in rows]
    return html.png(pictures.grid(tiles, columns=len(tiles)))
