"""Builds the sdist and from it the wheel, installs that into an empty environment, and runs there
the README's first block and `python -m tl_jax`.

    python -m tests.wheel --python=python3

Outside the checkout, in a folder with my_photos/: scikit-learn's digits as PNG files.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from absl import app, flags

ROOT = pathlib.Path(__file__).parent.parent
_PYTHON = flags.DEFINE_string("python", sys.executable, "Interpreter of the new environment.")
EXTRAS = "weights,report,onednn"
LEFT_OUT = (".*", "runs", "build", "*.egg-info")
PHOTOS = """
import pathlib, PIL.Image
from sklearn.datasets import load_digits
images, labels = load_digits(return_X_y=True)
for number, (image, label) in enumerate(zip(images[:400], labels[:400])):
    folder = pathlib.Path("my_photos", f"digit_{label}")
    folder.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8")).save(folder / f"{number}.png")
"""


def main(argv: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        python = home / "env" / "bin" / "python"
        run(_PYTHON.value, "-m", "venv", str(home / "env"))
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run(*pip, "install", "setuptools>=77")
        # Building leaves files beside the sources.
        sources = shutil.copytree(ROOT, home / "sources", ignore=_left_out)
        sdist = f"from setuptools import build_meta; build_meta.build_sdist({folder!r})"
        run(str(python), "-c", sdist, cwd=sources)
        (archive,) = home.glob("*.tar.gz")
        run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, str(archive))
        (wheel,) = home.glob("*.whl")
        constraints = ["-c", str(ROOT / "constraints.txt")]
        run(*pip, "install", *constraints, f"{wheel}[{EXTRAS}]")
        run(str(python), "-c", PHOTOS, cwd=home)
        block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
        where = "print('installed in', tl_jax.__file__)\n"
        run(str(python), "-W", "error::DeprecationWarning:tl_jax", "-c", block + where, cwd=home)
        run(str(python), "-m", "tl_jax", cwd=home)


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What is no source: at the top alone, as the library has a folder `runs`, too."""
    at_top = pathlib.Path(folder) == ROOT
    return shutil.ignore_patterns(*LEFT_OUT)(folder, names) if at_top else {"__pycache__"}


def run(*command: str, cwd: pathlib.Path | None = None) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, cwd=cwd)


if __name__ == "__main__":
    app.run(main)
