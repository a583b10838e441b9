"""The pictures of a base, from one command."""

import json

import pytest
from test_report import Page
from threadpoolctl import threadpool_limits

from experiments import cli, config_flag
from tl_jax.base.load import load_base
from tl_jax.runs.config import load_config
from tl_jax.studies.look.study import MOST_IMAGES

GIVEN = {"base": "resnet18", "weights": "random:0", "size": 64, "task.name": "folder"}


def looked(given, workdir, **changes):
    """The exit status of such a look in this process, and its result."""
    config = load_config("configs/look_digits.py")
    changed = {k: str(v) for k, v in given.items()} | GIVEN | changes
    config.update_from_flattened_dict(changed)
    found = {}

    def main(argv):
        found.update(config_flag.run("look", config, workdir, "look"))

    return cli.status(main, []), found


@pytest.fixture(scope="module")
def done(given, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("look")
    with threadpool_limits(1):  # t-SNE's threads wait for each other where others are at work
        status, result = looked(given, workdir)
    assert status == 0
    return workdir, result, Page((workdir / "report.html").read_text())


def test_the_page_shows_filters_every_layer_channels_and_a_map(done):
    _, result, page = done
    base = load_base("resnet18", "random:0").resized(64)
    shapes = base.chain.shapes(base.preprocessing.input_shape)[1]
    with_maps = [n for n in base.layers if shapes[n].ndim == 4]
    assert len(with_maps) > 8
    for name in with_maps:
        _, height, width, channels = shapes[name].shape
        assert f"{name}: {height} × {width}, {channels} channels" in page.text
    assert "64 filters of 7 × 7 × 3" in page.text
    channels = len(result["channels"])
    assert page.text.count("(dark) to") == len(with_maps) + channels  # each says its scale
    images = 1 + 1 + len(with_maps) + channels + 1
    assert len(page.all("img")) == images and len(page.all("img", "plot")) == 1
    assert all(i["src"].startswith("data:image/") for i in page.all("img"))
    assert result["layer"] == with_maps[-1] and 1 <= channels <= 3


def test_its_numbers_are_there_as_csv(done):
    workdir, result, _ = done
    lines = (workdir / "excited.csv").read_text().splitlines()
    assert len(lines) == 1 + len(result["channels"]) * MOST_IMAGES
    activations = [float(line.rsplit(",", 1)[1]) for line in lines[1 : 1 + MOST_IMAGES]]
    assert activations == sorted(activations, reverse=True)
    assert len((workdir / "points.csv").read_text().splitlines()) == 1 + 60
    assert (workdir / "classes.csv").read_text().splitlines()[1] == "1,bar,20"
    assert json.loads((workdir / "result.json").read_text())["channels"] == result["channels"]


def test_an_image_a_layer_and_a_channel_of_ones_own(given, photos, tmp_path):
    image = photos / "disc" / "1.png"
    changes = {"image": str(image), "layer": "stage2_block1", "channel": 5, "maps": ()}
    status, result = looked(given, tmp_path, **changes)
    assert status == 0 and result["channels"] == [5]
    page = Page((tmp_path / "report.html").read_text())
    assert f"{image}, as the base sees it" in page.text
    assert "Channel 5 of stage2_block1" in page.text and not page.all("img", "plot")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"layer": "stage2_blok1"}, "did you mean 'stage2_block1'"),
        ({"layer": "stage2_block1", "channel": 128}, "'stage2_block1': it has 0 to 127"),
        ({"channel": -2}, "channel -2"),
        ({"maps": ("pca",)}, "unknown map 'pca'"),
        ({"image": "/nowhere.png"}, "no such image: /nowhere.png"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(given, tmp_path, capsys, changes, why):
    assert looked(given, tmp_path, **changes)[0] == 2
    assert why in capsys.readouterr().err
