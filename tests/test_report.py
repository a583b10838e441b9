import base64
import html.parser
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import PIL.Image
import pytest

from tl_jax import report
from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.report import mistakes, page, plots, text
from tl_jax.stats import intervals, metrics

LAYERS = ("stem", "stage1_block1", "stage1_block2", "pool", "head")
VOID = {"meta", "img", "br", "link", "input"}


class Page(html.parser.HTMLParser):
    """Elements as (tag, attributes), the text, and whether every tag is closed in order."""

    def __init__(self, source: str):
        super().__init__()
        self.elements, self.words, self.stack = [], [], []
        self.feed(source)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, cls: str | None = None) -> list[dict]:
        return [
            a
            for t, a in self.elements
            if t == tag and (cls is None or cls in (a.get("class") or "").split())
        ]


def make_task(labels, classes, *, ids=None, weights=None, image=None, train=0) -> Task:
    """A task whose examples, but for the first `train`, are in the test split."""
    labels = np.asarray(labels, np.int32)
    n = len(labels)
    weights = np.ones(n, np.float32) if weights is None else np.asarray(weights, np.float32)
    image = image or (lambda index: PIL.Image.new("L", (300, 200), index % 256))
    none = np.array([], np.int64)
    return Task(
        name="cells",
        classes=tuple(classes),
        ids=tuple(ids or (f"image{i}.png" for i in range(n))),
        open=image,
        truth={
            "labels": labels,
            "targets": np.eye(len(classes), dtype=np.float32)[labels],
            "weights": weights,
            "graded_labels": labels,
            "graded_weights": weights,
        },
        splits={"train": np.arange(train), "val": none, "test": np.arange(train, n)},
        fingerprint="0",
    )


# fmt: off
def make_phase(name="head", multipliers=(0, 0, 0, 0, 1), **changes) -> dict:
    phase = dict(
        name=name, multipliers=dict(zip(LAYERS, multipliers, strict=True)), learning_rate=1e-3,
        optimizer="adamw", schedule="cosine", weight_decay=1e-4, batch_norm="frozen", views=1,
        epochs=3, epochs_run=3, best_by="val_loss", best_epoch=2, worse_than=None,
        stopped_early=False, trained_parameters=2562, prefix=None, cached_bytes=0, seconds=12.0,
    )
    return phase | changes


def make_result(task: Task, probabilities: np.ndarray, phases=None, published=()) -> dict:
    test = task.splits["test"]
    measured = metrics.evaluate(
        probabilities, labels=task.labels[test], targets=task.targets[test],
        weights=task.weights[test], graded_labels=task.graded_labels[test],
        graded_weights=task.graded_weights[test], classes=task.classes,
    )
    return dict(
        name="a-run", seed=7, config={"base": "lite0", "batch": 32},
        base=dict(
            name="lite0", weights="pip:lite0", size=224, parameters=3_373_570,
            layers=list(LAYERS), cut="pool", preprocessing={"size": 224, "crop": 0.875},
        ),
        task=dict(
            name=task.name, classes=list(task.classes), sizes=dict(train=9, val=3, test=len(test)),
            class_counts={"train": {name: 9 for name in task.classes}}, skipped=2,
        ),
        plan=dict(name="gradual", phases=phases or [make_phase()]),
        val=measured, test=measured,
        cost=dict(
            total_seconds=431.0, compile_seconds=41.26, step_ms=31.24, images_per_second=812.3,
            peak_memory_bytes=1.5 * 2**30, cached_bytes=331 * 2**20,
        ),
        versions={"python": "3.11.9", "jax": "0.10.2"}, git={"commit": "9f2c1e7", "dirty": True},
        machine={"cores": 2}, command="tl_jax run cells.py --seed 7", date="2026-03-04",
        published=published,
    )


def make_history(phases) -> list[dict]:
    return [
        dict(
            phase=p["name"], epoch=e, train_loss=1 / e, val_loss=1.1 / e, val_accuracy=1 - 0.5 / e,
            val_weighted_accuracy=1 - 0.4 / e, learning_rate=1e-3, seconds=1.0,
        )
        for p in phases for e in range(1, p["epochs_run"] + 1)
    ]
# fmt: on


def make_probabilities(labels, classes: int, *, right: float, seed=0) -> np.ndarray:
    """(n, classes) of a classifier that is right in about the fraction `right`."""
    random = np.random.default_rng(seed)
    said = np.where(random.random(len(labels)) < right, labels, random.integers(0, classes))
    logits = random.standard_normal((len(labels), classes)) * 0.3
    logits[np.arange(len(labels)), said] += 3
    p = np.exp(logits)
    return (p / p.sum(1, keepdims=True)).astype(np.float32)


def written(directory, result, probabilities, task, history=None) -> Page:
    if history is None:
        history = make_history(result["plan"]["phases"])
    path = report.write(
        directory, result=result, history=history, probabilities=probabilities, task=task
    )
    assert [p.name for p in directory.iterdir()] == ["report.html"]
    return Page(path.read_text())


def svg_text(drawing: plots.Drawing) -> list[str]:
    root = ET.fromstring(drawing.file("svg"))
    return [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def cells():
    """Two classes, 60 examples, one in three graded 1/3."""
    labels = np.arange(60) % 2
    task = make_task(labels, ("good", "bad"), weights=np.where(np.arange(60) % 3, 1, 1 / 3))
    return task, make_probabilities(labels, 2, right=0.8)


# ---- figures as text


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (text.percent, 0.8534, "85.3 %"),
        (text.percent, None, "–"),
        (text.percent, float("nan"), "–"),
        (text.number, 0.000313, "0.000313"),
        (text.number, 4107522, "4,107,522"),
        (text.number, 24.61, "24.6"),
        (text.seconds, 0.416, "0.42 s"),
        (text.seconds, 59.96, "1 min 00 s"),
        (text.seconds, 425, "7 min 05 s"),
        (text.seconds, 3599.7, "1 h 00 min"),
        (text.seconds, 7640, "2 h 07 min"),
        (text.size, 0, "0 B"),
        (text.size, 1023.9, "1.0 KiB"),
        (text.size, 331 * 2**20, "331 MiB"),
        (text.size, 1.5 * 2**30, "1.5 GiB"),
        (text.size, 3 * 2**50, "3,072 TiB"),
        (text.metric_key, "Weighted  accuracy", "weighted_accuracy"),
        (text.visible, "a\u202eb\udcffc\x1b", r"a\u202eb\udcffc\x1b"),
    ],
)
def test_figures_are_written_for_people(write, value, expected):
    assert write(value) == expected


# ---- what the page is made of


def test_strip_tells_cached_frozen_and_trained():
    phases = [
        make_phase("head", (0, 0, 0, 0, 10), prefix="pool"),
        make_phase("top", (0, 0, 0.01, 1, 10), prefix="stem"),
    ]
    strip = page.strip(phases)
    assert strip["layers"] == list(LAYERS)
    kinds = [[cell["kind"] for cell in row["cells"]] for row in strip["rows"]]
    assert kinds[0] == ["cached"] * 4 + ["trained"]
    assert kinds[1] == ["cached", "frozen", "trained", "trained", "trained"]
    assert [cell["multiplier"] for cell in strip["rows"][1]["cells"]] == [0, 0, 0.01, 1, 10]
    strengths = [cell["strength"] for cell in strip["rows"][1]["cells"][2:]]
    assert strengths == pytest.approx([0.25, 0.75, 1])


def test_time_outside_the_phases():
    phases = [make_phase("a", seconds=100.0), make_phase("b", seconds=300.0)]
    shares = page.time_shares({"plan": {"phases": phases}, "cost": {"total_seconds": 500.0}})
    assert [(s["name"], s["share"], s["rest"]) for s in shares] == [
        ("1 a", 0.2, False), ("2 b", 0.6, False), ("outside the phases", 0.2, True),
    ]  # fmt: skip
    untimed = {"plan": {"phases": [make_phase(seconds=None)]}, "cost": {"total_seconds": None}}
    assert page.time_shares(untimed) == []


def test_history_is_cut_where_a_phase_begins():
    rows = [("a", 1), ("a", 2), ("b", 1), ("b", 1), ("b", 2)]
    history = [{"phase": phase, "epoch": epoch} for phase, epoch in rows]
    assert plots.segments(history) == [range(0, 2), range(2, 3), range(3, 5)]


def test_curves_name_the_phases_whatever_their_names():
    phases = [make_phase("$\\x$<&"), make_phase("頭部", epochs_run=9, best_epoch=9)]
    words = svg_text(plots.curves(make_history(phases), phases))
    assert {"epoch", "train", "validation", "chosen", "1 $\\x$<&", "2 頭部"} <= set(words)
    few = [make_phase(f"phase{i}", epochs_run=1, best_epoch=None) for i in range(9)]
    words = svg_text(plots.curves(make_history(few), few))
    assert "9" in words and "9 phase8" not in words and "chosen" not in words


def test_figures_are_reproducible():
    phases = [make_phase()]
    assert len({plots.curves(make_history(phases), phases).uri for _ in range(2)}) == 1


# ---- the page


def test_page_shows_the_run(tmp_path, cells):
    task, probabilities = cells
    phases = [
        make_phase("head", (0, 0, 0, 0, 1), prefix="pool", cached_bytes=77 * 2**20),
        make_phase(
            "top", (0, 0, 0.25, 0.5, 1), prefix="stage1_block1", stopped_early=True, epochs=9
        ),
    ]
    published = [
        {"what": "VGG19", "metric": "Weighted accuracy", "figure": 88.42, "source": "Deitsch 2019"},
        {"what": "KAZE", "metric": "recall at 5", "figure": 61.5, "source": "https://doi.org/x"},
    ]
    result = make_result(task, probabilities, phases, published)
    shown = written(tmp_path, result, probabilities, task)

    for layer in LAYERS:
        assert shown.text.count(layer) >= 1
    assert len(shown.all("td", "cached")) == 4 + 2
    assert len(shown.all("td", "trained")) == 1 + 3
    for words in ("1 head", "2 top", "0.25", "0.5", "3 of 9, stopped early", "77 MiB", "2,562"):
        assert words in shown.text
    assert "kept: epoch 2 of 3 by validation loss, 1 stepped back" in shown.text
    test = result["test"]
    for key in ("accuracy", "weighted_accuracy", "f1", "auc", "ece"):
        assert text.percent(test[key]) in shown.text
    weighted = intervals.bootstrap(probabilities.argmax(1) == task.labels, task.graded_weights)
    low, high = (f"{100 * x:.1f}" for x in weighted)
    assert f"95 % interval {low} – {high} %" in shown.text and "bootstrap" in shown.text
    for words in (
        "88.4 %",
        "Deitsch 2019",
        "61.5 %",
        "recall at 5",
        "tl_jax run cells.py --seed 7",
    ):
        assert words in shown.text
    for words in ("7 min 11 s", "41.3 s", "31.2 ms", "812 images/s", "1.5 GiB", "331 MiB", "0.875"):
        assert words in shown.text
    assert [a["href"] for a in shown.all("a")] == ["https://doi.org/x"]
    for row in test["confusion"]:
        for count in row:
            assert f" {count} " in shown.text
    assert len(shown.all("img", "plot")) == 3  # loss, accuracy, reliability


def test_page_needs_nothing_from_outside(tmp_path, cells):
    task, probabilities = cells
    shown = written(tmp_path, make_result(task, probabilities), probabilities, task)
    tags = {tag for tag, _ in shown.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert all(a["src"].startswith("data:image/") for a in shown.all("img"))
    assert not any("srcset" in a for _, a in shown.elements)
    assert not re.search(r"url\(|@import", (tmp_path / "report.html").read_text())


def test_hostile_names_stay_text(tmp_path):
    labels = np.arange(6) % 2
    evil = '"><img src=x onerror=alert(1)>'
    classes = ("<script>alert(1)</script>", "b" * 300)
    ids = [f"{i}{evil}\u202e\udcff{{{{7*7}}}}" for i in range(6)]
    task = make_task(labels, classes, ids=ids)
    probabilities = make_probabilities(1 - labels, 2, right=1)
    published = [{"what": evil, "metric": evil, "figure": 50, "source": "javascript:alert(1)"}]
    result = make_result(task, probabilities, [make_phase(evil)], published)
    result["name"] = result["command"] = result["config"]["x"] = evil
    result["versions"][evil] = evil
    shown = written(tmp_path, result, probabilities, task)
    assert "script" not in {tag for tag, _ in shown.elements}
    assert not any(name.startswith("on") for _, a in shown.elements for name in a)
    assert not shown.all("a")
    assert classes[0] in shown.text and classes[1] in shown.text
    assert f"0{evil}\\u202e\\udcff{{{{7*7}}}}" in shown.text
    assert len(shown.all("img")) == 3 + 6


def test_worst_mistakes_are_small_pictures_of_the_right_images():
    kept = [PIL.Image.new("RGB", (600, 300), (20 * i, 0, 0)) for i in range(9)]
    task = make_task([1, 1, 0, 0, 0, 0, 0, 0, 0], ("a", "b"), image=kept.__getitem__, train=2)
    probabilities = np.tile(np.float32([0.8, 0.2]), (7, 1))
    probabilities[2] = 0.3, 0.7
    probabilities[5] = 0.01, 0.99
    found = mistakes.of_classes(probabilities, task)
    assert [(m["id"], m["true"], m["predicted"]) for m in found] == [
        ("image7.png", "a", "b"), ("image4.png", "a", "b"),
    ]  # fmt: skip
    assert [m["probability"] for m in found] == pytest.approx([0.99, 0.7])
    for m, red in zip(found, (140, 80), strict=True):
        image = PIL.Image.open(io.BytesIO(base64.b64decode(m["image"].split(",")[1])))
        assert image.size == (mistakes.THUMBNAIL, mistakes.THUMBNAIL // 2)
        assert image.getpixel((9, 9))[0] == pytest.approx(red, abs=3)
    assert {image.size for image in kept} == {(600, 300)}


def test_a_picture_that_is_gone_and_one_of_another_mode(tmp_path):
    def image(index):
        if index:
            raise (FileNotFoundError, UserError)[index - 1]("moved")
        return PIL.Image.new("RGBA", (3000, 1))

    task = make_task([0, 0, 0], ("a", "b"), image=image)
    probabilities = np.float32([[0.1, 0.9], [0.2, 0.8], [0.2, 0.8]])
    shown = written(tmp_path, make_result(task, probabilities), probabilities, task)
    assert shown.text.count("image cannot be opened") == 2
    assert len(shown.all("img", "plot")) == 3 and len(shown.all("img")) == 4


def test_two_hundred_classes(tmp_path):
    labels = np.arange(1000) % 200
    task = make_task(labels, [f"species {i}" for i in range(200)])
    probabilities = make_probabilities(labels, 200, right=0.6)
    shown = written(tmp_path, make_result(task, probabilities), probabilities, task)
    assert not shown.all("table", "confusion")
    assert any("Confusion matrix of 200" in a["alt"] for a in shown.all("img", "plot"))
    assert "The other 190 classes" in shown.text and "species 137" in shown.text
    assert len(shown.all("ol")) == 1 and len(shown.all("li")) == 12


@pytest.mark.parametrize("classes", [2, page.LARGE, page.LARGE + 1])
def test_small_matrices_have_figures(tmp_path, classes):
    labels = np.arange(5 * classes) % classes
    task = make_task(labels, [f"c{i}" for i in range(classes)])
    probabilities = make_probabilities(labels, classes, right=0.7)
    shown = written(tmp_path, make_result(task, probabilities), probabilities, task)
    cells = shown.all("td", "hit") + shown.all("td", "miss")
    assert len(cells) == (classes**2 if classes <= page.LARGE else 0)


def test_no_mistakes(tmp_path):
    labels = np.arange(30) % 3
    task = make_task(labels, "abc")
    probabilities = make_probabilities(labels, 3, right=1)
    shown = written(tmp_path, make_result(task, probabilities), probabilities, task)
    assert "every test example is classified right" in shown.text
    assert "100.0 %" in shown.text and "Wilson" in shown.text


def test_metrics_that_are_not_defined(tmp_path, cells):
    task, probabilities = cells
    result = make_result(task, probabilities)
    result["test"] = dict.fromkeys(result["test"])
    result["val"] = result["git"] = None
    result["cost"] = dict.fromkeys(result["cost"])
    history = [dict(row, val_loss=None, val_accuracy=None, val_weighted_accuracy=None)
               for row in make_history(result["plan"]["phases"])]  # fmt: skip
    shown = written(tmp_path, result, probabilities, task, history)
    assert "nan" not in shown.text.lower() and "None" not in shown.text
    assert len(shown.all("img", "plot")) == 2  # training loss, reliability
    assert not shown.all("table", "confusion")


def test_empty_history_one_epoch_and_an_empty_test_split(tmp_path, cells):
    task, probabilities = cells
    result = make_result(task, probabilities, [make_phase(epochs_run=1, best_epoch=1)])
    assert len(written(tmp_path, result, probabilities, task).all("img", "plot")) == 3
    shown = written(tmp_path, result, probabilities, task, history=[])
    assert "No epoch was recorded" in shown.text
    empty = make_task([], ("good", "bad"))
    result["test"] = None
    shown = written(tmp_path, result, np.zeros((0, 2), np.float32), empty)
    assert "The test split is empty" in shown.text


def test_a_run_that_diverged(tmp_path, cells):
    task, probabilities = cells
    nan = np.full_like(probabilities, np.nan)
    result = make_result(task, probabilities)
    result["test"] |= {"accuracy": 0.5, "loss": float("nan"), "ece": float("nan")}
    history = [dict(row, val_loss=float("nan"), train_loss=float("inf"))
               for row in make_history(result["plan"]["phases"])]  # fmt: skip
    shown = written(tmp_path, result, nan, task, history)
    assert "nan" not in shown.text.lower()


def test_the_page_is_the_same_each_time(tmp_path, cells):
    task, probabilities = cells
    result = make_result(task, probabilities)
    written(tmp_path, result, probabilities, task)
    first = (tmp_path / "report.html").read_bytes()
    written(tmp_path, result, probabilities, task)
    assert (tmp_path / "report.html").read_bytes() == first


def test_probabilities_of_another_run_or_order_are_refused(tmp_path, cells):
    task, probabilities = cells
    arguments = dict(result=make_result(task, probabilities), history=[], task=task)
    with pytest.raises(UserError, match=r"shape \(59, 2\).*60 examples of 2 classes"):
        report.write(tmp_path, probabilities=probabilities[1:], **arguments)
    with pytest.raises(UserError, match="the result says"):
        report.write(tmp_path, probabilities=np.roll(probabilities, 1, axis=0), **arguments)
    assert not list(tmp_path.iterdir())


def test_missing_extra_says_what_to_install(tmp_path, cells, monkeypatch):
    task, probabilities = cells
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r"jinja2.*pip install tl_jax\[report\]"):
        report.require()
    with pytest.raises(UserError, match=r"jinja2.*pip install tl_jax\[report\]"):
        report.write(
            tmp_path, result=make_result(task, probabilities), history=[],
            probabilities=probabilities, task=task,
        )  # fmt: skip


def test_the_terminal_table_needs_no_extra():
    code = "import sys, tl_jax.report; print({'jinja2', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- the terminal


def test_terminal_table(cells):
    task, probabilities = cells
    result = make_result(task, probabilities)
    result["val"] = {"accuracy": 0.8612, "weighted_accuracy": 0.9, "loss": 0.3451}
    result["test"] = {"accuracy": 0.8, "weighted_accuracy": None, "auc": None, "loss": 1.25}
    result["published"] = [
        {"what": "VGG\x1b[31m19", "metric": "accuracy", "figure": 88.42, "source": "Deitsch 2019"}
    ]
    lines = report.terminal_table(result).splitlines()
    assert lines[0] == "a-run: lite0 to cells by gradual, seed 7"
    assert lines[1] == "phase head: epoch 2 of 3 by validation loss, 1 stepped back"
    assert [line.split() for line in lines[2:7]] == [
        ["val", "test"],
        ["accuracy", "86.1", "%", "80.0", "%"],
        ["weighted", "accuracy", "90.0", "%", "–"],
        ["loss", "0.345", "1.25"],
        ["published"],
    ]
    assert lines[7].split() == "88.4 % accuracy, VGG [31m19 (Deitsch 2019)".split()
    assert lines[8].startswith("cost: 7 min 11 s (compile 41.3 s), 31.2 ms a step, 812 images/s")
    assert "\x1b" not in "".join(lines)
    early = make_phase(epochs=50, epochs_run=15, best_epoch=12, stopped_early=True)
    result["plan"]["phases"] = [early]
    assert report.terminal_table(result).splitlines()[1] == (
        "phase head: epoch 12 of 15 by validation loss, 3 stepped back; stopped early, "
        "50 epochs were planned"
    )


def test_terminal_table_leaves_out_a_weighted_accuracy_that_says_nothing_new(cells):
    task, probabilities = cells
    result = make_result(task, probabilities)
    assert "weighted accuracy" in report.terminal_table(result)
    for split in ("val", "test"):
        result[split] = {"accuracy": 0.8, "weighted_accuracy": 0.8}
    assert "weighted" not in report.terminal_table(result)
