"""One GPU in ten minutes: one table, beside PyTorch, in three precisions, checked against the CPU.

    make bench-gpu
    python -m benchmarks.gpu --minutes=20 --out=gpu.md

Rows come in the order of their worth; those that the time is too short for are named. A row has
inference or a training step of ResNet-50 or EfficientNet-Lite0, here and in PyTorch, eager and
compiled, in turns; where layers are frozen also the step from their stored output. Then come a
step of AWD-LSTM, whose peer is cuDNN's LSTM, and heads that are trained together in one program.
The last row, the language model and the heads may end some minutes after the limit, by what their
programs take to compile. `--platform=cpu` tries the program itself.
"""

import datetime
import importlib.metadata
import os
import pathlib
import subprocess
import sys

from absl import flags

from benchmarks import language_rows
from benchmarks.gpu_table import differences, table
from experiments import cli, out_flag
from experiments.out_flag import OUT
from tl_jax.errors import UserError

_MINUTES = flags.DEFINE_float("minutes", 10.0, "No row is begun after so long.", lower_bound=0.0)
_BATCH = flags.DEFINE_integer("batch", 128, "Images in a batch.", lower_bound=1)
_TURNS = flags.DEFINE_integer("turns", 3, "Number of measurements of each.", lower_bound=2)
_PLATFORM = flags.DEFINE_enum("platform", "gpu", ("gpu", "cpu"), "Where it is measured.")
flags.adopt_module_key_flags(out_flag)

WORDS, WINDOW = 30_000, 64
PACKAGES = ("jax", "jaxlib", "flax", "torch")


def main(argv: list[str]) -> None:
    cli.no_arguments(argv)
    # Several processes share the GPU, so none may take most of its memory at once.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax

    found = jax.default_backend()
    if found != _PLATFORM.value:
        raise UserError(
            f"JAX finds a {found} here: install it with CUDA (pip install 'jax[cuda12]'), or give "
            "--platform=cpu to try the program"
        )
    rows = table(_MINUTES.value, _BATCH.value, _TURNS.value)
    head = _head(jax.devices()[0].device_kind)
    _say([*head, *differences(), "", *rows, ""], "w")
    _say([*_language(), ""], "a")
    _say(_together(), "a")


def _say(lines: list[str], mode: str) -> None:
    """Print them, and put them into the file of --out."""
    text = "\n".join(lines) + "\n"
    print(text, end="", flush=True)
    if OUT.value:
        with pathlib.Path(OUT.value).open(mode) as file:
            file.write(text)


def _head(device: str) -> list[str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return [
        "# A GPU beside PyTorch",
        "",
        f"By `benchmarks.gpu` on {datetime.date.today()}: {device}; {versions}. Images a second of",
        f"batches of {_BATCH.value}: the median of {_TURNS.value} turns, least and greatest in",
        "brackets. The peer is the better of PyTorch eager and `torch.compile`.",
        "",
    ]


def _language() -> list[str]:
    """The table of a language model's training step, in float32."""
    spec = language_rows.LANGUAGE | {"words": WORDS, "length": WINDOW, "batch": _BATCH.value}
    cells = language_rows.row("awd_lstm_torch", spec, turns=_TURNS.value)
    return [language_rows.HEAD, f"| AWD-LSTM, {WORDS:,} words, windows of {WINDOW} | {cells} |"]


def _together() -> list[str]:
    """What `benchmarks.together` prints."""
    command = [sys.executable, "-m", "benchmarks.together", f"--turns={_TURNS.value}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()


if __name__ == "__main__":
    cli.run(main)
