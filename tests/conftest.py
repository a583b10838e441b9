"""A folder of images and a finished run on it, made once for all tests of the programs."""

import pathlib
import signal

import numpy as np
import PIL.Image
import PIL.ImageDraw
import programs
import pytest
from hypothesis import HealthCheck, settings

from tl_jax.chain.programs import make_room

# How fast examples come says more about the machine than about the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="module", autouse=True)
def _forget_programs_before_there_is_no_room():
    yield
    make_room()


SHAPES = {
    "bar": lambda draw, box, colour: draw.rectangle((box[0], 10, box[2], 14), fill=colour),
    "disc": lambda draw, box, colour: draw.ellipse(box, fill=colour),
    "square": lambda draw, box, colour: draw.rectangle(box, fill=colour),
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> pathlib.Path:
    """Twenty images of 24 x 24 pixels of each of three shapes, in random colours; PNG and JPEG."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        (folder / name).mkdir()
        for number in range(20):
            colours = [tuple(c) for c in rng.integers(0, 256, (2, 3)).tolist()]
            image = PIL.Image.new("RGB", (24, 24), colours[0])
            first, last = rng.integers(2, 7).item(), rng.integers(17, 22).item()
            shape(PIL.ImageDraw.Draw(image), (first, first, last, last), colours[1])
            image.save(folder / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return folder


@pytest.fixture(scope="session")
def given(photos, tmp_path_factory):
    """Settings of a run on the photos, which shares with the others what was computed before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield {"task.path": photos, "cache": tmp_path_factory.mktemp("cache")}


@pytest.fixture(scope="session")
def done(given, tmp_path_factory) -> pathlib.Path:
    """The folder of a run that nothing interrupted; not to be changed."""
    workdir = tmp_path_factory.mktemp("done")
    assert programs.transferred(given, workdir) == 0
    return workdir


@pytest.fixture(scope="session")
def stopped(given, tmp_path_factory) -> pathlib.Path:
    """The folder of such a run that SIGTERM stopped: in its last epoch, after step 16 of 20."""
    workdir = tmp_path_factory.mktemp("stopped")
    with programs.signal_after_epoch(signal.SIGTERM, phase="fine_tune", epoch=1):
        assert programs.transferred(given, workdir) == 128 + signal.SIGTERM
    return workdir


@pytest.fixture
def foreground():
    """Signals as in a terminal: under `nohup` and in the background some are ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {one: signal.signal(one, handler) for one, handler in usual.items()}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)
