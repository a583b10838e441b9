"""Eight devices, which XLA makes of one CPU in another process."""

import os
import pathlib
import pickle
import subprocess
import sys
from typing import Any

TESTS = pathlib.Path(__file__).parent


def on_eight(module: str, folder: pathlib.Path, **environment: str) -> Any:
    """What `main(folder)` of a module of tests returns there, where every warning is an error."""
    code = (
        f"import pathlib, pickle, sys, {module}\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        f"found = {module}.main(folder)\n"
        "(folder / 'found.pickle').write_bytes(pickle.dumps(found))"
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(folder)],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": path, **environment},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return pickle.loads((folder / "found.pickle").read_bytes())
