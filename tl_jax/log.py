"""Rows of numbers to `metrics.jsonl` and, where tensorboardX is installed, to TensorBoard."""

import json
import pathlib
import shutil
from collections.abc import Callable


def writer(workdir: pathlib.Path) -> Callable[[dict], None]:
    """A function that writes a row {name: number or text}; what was there before is begun anew."""
    folder = workdir / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    (workdir / "metrics.jsonl").write_text("")
    try:
        import tensorboardX
    except ModuleNotFoundError:
        board = None
    else:
        board = tensorboardX.SummaryWriter(str(folder), flush_secs=10)

    def write(row: dict) -> None:
        with open(workdir / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if board and isinstance(value, int | float):
                board.add_scalar(f"{row['phase']}/{name}", value, row["step"])

    return write
