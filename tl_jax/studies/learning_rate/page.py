"""How a sweep of the learning rate is shown: loss over rate, and the rate that it suggests."""

import pathlib

from tl_jax.report import figures, study
from tl_jax.runs.subject import base_name, task_name
from tl_jax.train.rates import MARGIN


def write(workdir: pathlib.Path, result: dict) -> None:
    """Write the page and its tables."""
    config = result["config"]
    study.write(
        workdir,
        title="Which learning rate?",
        lead=" ".join(_said(phase) for phase in result["phases"]),
        sections=[_section(phase) for phase in result["phases"]],
        facts={
            "base": base_name(config),
            "task": task_name(config["task"]),
            "plan": config["plan"],
            "batch": f"{config['batch_size']} examples",
            "method": "Smith 2017, arXiv:1506.01186, section 3.3",
        },
        result=result,
    )


def summary(result: dict) -> str:
    """A line for each phase: the rate that its sweep suggests, and the config's."""
    return "\n".join(_said(phase) for phase in result["phases"])


def _said(phase: dict) -> str:
    if phase["suggested"] is None:
        return f"Phase {phase['name']}: the loss never fell, so no rate is suggested."
    return (
        f"Phase {phase['name']}: about {phase['suggested']:.1g} is suggested; the config has "
        f"{phase['learning_rate']:.1g}."
    )


def _section(phase: dict) -> study.Section:
    marks = {"the config's": phase["learning_rate"]}
    if phase["suggested"] is not None:
        marks = {"suggested": phase["suggested"], **marks}
    lines = {"of a batch": phase["losses"], "smoothed": phase["smoothed"]}
    drawn = figures.over_rates(phase["rates"], lines, marks=marks, label="training loss")
    text = (
        "The rate rises by the same factor at every step. Beyond the largest rate with about the "
        f"least smoothed loss, steps are too large: a {MARGIN:.0f}th of it is suggested. That is a "
        "place to start from, not the best rate; the sweep sees training batches alone."
    )
    rows = list(zip(phase["rates"], phase["losses"], phase["smoothed"], strict=True))
    columns = ("learning rate", "loss", "smoothed loss")
    table = study.Table(f"sweep_{phase['name']}", "Loss by step", columns, rows)
    caption = "Training loss while the learning rate rises"
    picture = study.Picture(f"sweep_{phase['name']}", caption, drawn)
    return study.Section(f"Phase {phase['name']}", text, (picture,), (table,))
