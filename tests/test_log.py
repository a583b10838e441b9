"""What is written of a run beside its result."""

import os
import subprocess
import sys


def test_curves_are_written_without_pytorch(tmp_path):
    """Which tensorboardX imports where it is installed, for nothing that is used here."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('PyTorch was imported')")
    code = (
        "import importlib.util, pathlib, sys\n"
        "from tl_jax.runs import log\n"
        "write = log.writer(pathlib.Path(sys.argv[1]))\n"
        "write({'phase': 'head', 'step': 1, 'val_loss': 0.5})\n"
        "assert importlib.util.find_spec('torch') is not None\n"  # others may import it
    )
    workdir = tmp_path / "run"
    workdir.mkdir()
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", code, workdir]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()
    events = list((workdir / "tensorboard").iterdir())
    assert len(events) == 1 and events[0].stat().st_size > 0
