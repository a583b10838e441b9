"""What is installed works where there is no checkout."""

import subprocess
import sys

import pytest
from wheel import ROOT


@pytest.mark.slow
def test_sdist_and_wheel_are_built_installed_and_used():
    done = subprocess.run(
        [sys.executable, "-m", "tests.wheel"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "/site-packages/tl_jax/" in done.stdout  # where it was installed in
    assert "the programs come with a checkout of the sources" in done.stdout
