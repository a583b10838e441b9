"""The page of a language model: how well it predicts, how it learned, how it goes on."""

import pathlib
from typing import Any

import numpy as np

from tl_jax.report import plots, study
from tl_jax.report.study import Picture, Section, Table


def write(workdir: pathlib.Path, result: dict[str, Any]) -> pathlib.Path:
    """Write report.html and its files from a result of `tl_jax.runs.language`; return the page."""
    lead = (
        f"On texts that it has not seen, its perplexity is {result['test']['perplexity']:.1f}: "
        "it is as unsure of the next token as among so many that are equally likely. That is "
        f"{result['test']['bits_per_character']:.3f} bits a character."
    )
    counts = ", ".join(f"{n:,} of {split}" for split, n in result["task"]["texts"].items())
    return study.write(
        workdir,
        title=f"A language model of {result['task']['name']}",
        lead=lead,
        sections=[_learning(result), _sample(result)],
        facts={
            "base": result["base"]["name"],
            "begun from": result["base"]["weights"],
            "vocabulary": f"{result['base']['words']:,} tokens",
            "texts": counts,
        },
        result=result,
    )


def _learning(result: dict[str, Any]) -> Section:
    text = (
        "The loss is the mean cross entropy of the next token, in nats; dropout makes that of "
        "training higher. The weights of the ringed epoch are kept."
    )
    history, last = result["history"], result["config"]["tune"]["best_by"] == "last"
    best = history[-1] if last else min(history, key=lambda row: row["val_loss"])
    phase = {"name": best["phase"], "best_epoch": best["epoch"]}
    rows = [
        (row["epoch"], row["train_loss"], row["val_loss"], float(np.exp(row["val_loss"])))
        for row in history
    ]
    columns = ("epoch", "training loss", "validation loss", "validation perplexity")
    curve = Picture("loss", "Loss by epoch", plots.curves(history, [phase]))
    return Section("How it learned", text, (curve,), (Table("epochs", "Epochs", columns, rows),))


def _sample(result: dict[str, Any]) -> Section:
    prompt = result["config"]["prompt"]
    begun = f"What comes after “{prompt}”" if prompt else "From nothing"
    return Section("How it goes on", f"{begun}, drawn at random:\n\n{result['sample']}")
