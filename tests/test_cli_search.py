"""Search as a user meets it: what is like what, and how well classes are found."""

import shutil

import numpy as np
import PIL.Image
import programs
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import cli, search
from tl_jax.base.load import load_base
from tl_jax.data.tasks.folder import gallery
from tl_jax.errors import UserError

GIVEN = {"base": "resnet18", "weights": "random:0", "input": 32, "layer": ["stage1_block1"]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def searched(photos, cache, tmp_path):
    """The exit status of such a search in this process."""

    def run(**settings) -> int:
        flags.FLAGS.mark_as_parsed()
        own = {"gallery": photos, "cache": cache, "sheet": tmp_path / "sheet.png"}
        given = {k: str(v) for k, v in own.items()} | GIVEN | settings
        with flagsaver.flagsaver(**given):
            return cli.status(search.main, ["search"])

    return run


def ranking(out: str) -> list[tuple[float, str]]:
    rows = [line.split("\t") for line in out.splitlines()]
    return [(float(similarity), path) for similarity, path in rows]


def test_an_image_of_the_gallery_finds_itself_first(searched, photos, tmp_path, capsys):
    query = photos / "bar" / "3.png"
    assert searched(query=str(query), top=4) == 0
    found = ranking(capsys.readouterr().out)
    assert len(found) == 4 and found[0] == (1, str(query))
    assert [s for s, _ in found] == sorted((s for s, _ in found), reverse=True)
    sheet = np.asarray(PIL.Image.open(tmp_path / "sheet.png").convert("RGB"))
    asked, first = sheet[20:140, 20:140], sheet[20:140, 196:316]  # of 160 pixels, after 176
    np.testing.assert_allclose(asked.mean((0, 1)), first.mean((0, 1)), atol=12)


def test_a_dim_query_is_scaled_as_the_gallery(searched, tmp_path, capsys):
    noise = np.random.default_rng(0).integers(100, 400, (6, 32, 32)).astype(np.uint16)
    for number, pixels in enumerate(noise):
        (tmp_path / "dim").mkdir(exist_ok=True)
        PIL.Image.fromarray(pixels).save(tmp_path / "dim" / f"{number}.png")
    assert gallery(tmp_path / "dim").grey_range == (100, 399)
    query = tmp_path / "dim" / "4.png"
    assert searched(gallery=str(tmp_path / "dim"), query=str(query), top=2) == 0
    (first, second) = ranking(capsys.readouterr().out)
    assert first == (1, str(query)) and second[0] < 1


def test_the_ranking_is_that_of_the_features_the_base_gives(searched, photos, capsys):
    query = photos / "disc" / "5.png"
    assert searched(query=str(query), top=100) == 0
    found = ranking(capsys.readouterr().out)
    base = load_base("resnet18", "random:0").resized(32)
    files = sorted(p for p in photos.rglob("*") if p.is_file())
    images = [PIL.Image.open(p).convert("RGB") for p in [query, *files]]
    maps = base(base.preprocessing(images), layer="stage1_block1")
    rows = np.asarray(maps.mean((1, 2)))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    wanted = dict(zip(map(str, files), rows[1:] @ rows[0], strict=True))
    assert {path for _, path in found} == set(wanted)
    for similarity, path in found:
        assert similarity == pytest.approx(wanted[path], abs=1e-4)


@pytest.mark.parametrize("settings", [{"whiten": 8}, {"expand": 3}, {"whiten": 8, "expand": 3}])
def test_whitened_and_expanded_an_image_still_finds_itself(searched, photos, capsys, settings):
    query = photos / "square" / "4.jpg"
    assert searched(query=str(query), **settings) == 0
    found = ranking(capsys.readouterr().out)
    assert len(found) == 10 and str(query) in [path for _, path in found[:3]]


def test_a_table_of_how_well_classes_are_found(searched, capsys):
    assert searched(layer=["stage1_block1", "stem"]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["layer", "features", "mAP", "recall@1", "recall@5", "recall@10"]
    assert [row[:2] for row in rows] == [["stem", "64"], ["stage1_block1", "64"]]
    for row in rows:
        average, *recalls = (float(x) for x in row[2::2])
        assert 20 < average <= 100 and recalls == sorted(recalls)


def test_a_folder_of_images_without_classes_can_be_searched_only(
    searched, photos, tmp_path, capsys
):
    hostile = '"><script>\nalert(1)\x1b.png'
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(photos / "bar" / "1.png", flat / hostile)
    shutil.copy(photos / "bar" / "3.png", flat / "b.png")
    (flat / "notes.txt").write_text("no image")
    query = flat / hostile
    assert searched(gallery=str(flat), query=str(query)) == 0  # of ten asked for there are two
    captured = capsys.readouterr()
    rows = ranking(captured.out)
    assert len(rows) == 2 and rows[0][1] == f'{flat}/"><script>\\nalert(1)\\x1b.png'
    assert "1 files cannot be read and are left out, the first: notes.txt" in captured.err
    assert searched(gallery=str(flat)) == 2
    assert "sub-folder for each class" in programs.error_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"base": None}, "search what?"),
        ({"base": "resnet81"}, "did you mean"),
        ({"layer": ["stage1_blok1"]}, "did you mean 'stage1_block1'"),
        ({"gallery": "/nowhere"}, "'/nowhere' is not a folder"),
        ({"query": "/nowhere.png"}, "no such image: /nowhere.png"),
        ({"query": "{photos}"}, "no such image"),
        ({"query": "{photos}/bar/1.png", "layer": ["stem", "pool"]}, "one layer"),
        ({"query": "{photos}/bar/1.png", "top": 0}, "--top=0"),
        ({"query": "{photos}/bar/1.png", "sheet": "/nowhere/s.png"}, "--sheet=/nowhere/s.png"),
        ({"query": "{photos}/bar/1.png", "sheet": "s.txt"}, "name a .png"),
        ({"query": "{photos}/bar/1.png", "whiten": 60}, "fewer than 59 for a gallery of 60"),
        ({"query": "{photos}/bar/1.png", "expand": 60}, "gallery of 60: take fewer"),
        ({"whiten": -1}, "fewer than 59"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(searched, photos, capsys, settings, why):
    given = {k: v.format(photos=photos) if isinstance(v, str) else v for k, v in settings.items()}
    assert searched(**given) == 2
    captured = capsys.readouterr()
    assert why in programs.error_line(captured.err) and not captured.out


def test_a_query_that_cannot_be_read_and_an_empty_gallery(searched, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert searched(query=str(tmp_path / "broken.png")) == 2
    assert "cannot read" in programs.error_line(capsys.readouterr().err)
    (tmp_path / "empty").mkdir()
    assert searched(gallery=str(tmp_path / "empty")) == 2
    assert "no image that can be read" in programs.error_line(capsys.readouterr().err)


def test_classes_of_a_gallery_are_its_sub_folders_if_there_are_several(photos, tmp_path):
    found = gallery(photos)
    assert found.classes == ("bar", "disc", "square")
    assert np.bincount(found.labels).tolist() == [20, 20, 20] and len(found.splits["test"]) == 60
    assert gallery(photos / "bar").classes == ("bar",)
    shutil.copytree(photos, tmp_path / "mixed")
    shutil.copy(photos / "bar" / "1.png", tmp_path / "mixed" / "1.png")
    assert gallery(tmp_path / "mixed").classes == ("mixed",)
    with pytest.raises(UserError, match="not a folder"):
        gallery(photos / "bar" / "1.png")
