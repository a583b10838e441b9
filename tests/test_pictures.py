"""Pictures show what they say, pixel by pixel; maps in the plane keep what is together together."""

import sys

import numpy as np
import PIL.Image
import pytest
from test_report_study import svg_words
from threadpoolctl import threadpool_limits

from tl_jax.errors import UserError
from tl_jax.measure import embedding
from tl_jax.report import figures, pictures
from tl_jax.studies.look import study as look


def test_filters_are_scaled_each_for_itself_with_grey_for_zero():
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[0, 0, 0, 0] = 5  # red, in the corner of the first
    kernel[2, 2, 2, 1] = -0.1  # blue's opposite, in the other corner of the second
    pixels = np.asarray(pictures.filters(kernel, columns=2, side=9))
    assert pixels.shape == (9, 9 + pictures.GAP + 9, 4)
    assert pixels[0, 0].tolist() == [255, 128, 128, 255]
    assert pixels[0, 2].tolist() == pixels[0, 0].tolist()  # each weight is three pixels wide
    assert pixels[0, 3].tolist() == [128, 128, 128, 255]
    assert pixels[0, 9].tolist() == [0, 0, 0, 0]
    assert pixels[8, -1].tolist() == [128, 128, 0, 255]


@pytest.mark.parametrize("channels", [1, 4])
def test_filters_on_other_than_rgb_are_grey(channels):
    kernel = np.random.default_rng(0).normal(size=(5, 5, channels, 3))
    pixels = np.asarray(pictures.filters(kernel))[:, :40, :3]
    assert (pixels == pixels[..., :1]).all() and pixels.std() > 0


def test_the_strongest_channels_vary_most_whatever_their_level():
    maps = np.zeros((2, 2, 3))
    maps[..., 0] = 100
    maps[0, 0, 1] = 1
    maps[0, 0, 2] = -9
    assert pictures.strongest(maps, 2).tolist() == [2, 1]
    assert pictures.strongest(maps, 9).tolist() == [2, 1, 0]


def test_feature_maps_are_enlarged_without_interpolation():
    image = pictures.feature_map(np.array([[0.0, 1], [2, 4]]), side=8, bounds=(0, 4))
    pixels = np.asarray(image)
    assert pixels.shape == (8, 8, 3)
    blocks = pixels.reshape(2, 4, 2, 4, 3).swapaxes(1, 2).reshape(2, 2, 16, 3)
    assert (blocks == blocks[:, :, :1]).all()
    assert pixels[0, 0].tolist() == [68, 1, 84] and pixels[-1, -1].tolist() == [253, 231, 36]
    assert (
        np.asarray(pictures.feature_map(np.ones((2, 2)), side=4, bounds=(1, 1))) == [68, 1, 84]
    ).all()


def test_maps_that_are_not_square_keep_their_shape():
    assert pictures.feature_map(np.ones((2, 6)), side=12, bounds=(0, 1)).size == (12, 4)


@pytest.mark.parametrize(("n", "columns", "size"), [(1, 5, (10, 10)), (7, 3, (38, 38))])
def test_a_grid_holds_all_tiles(n, columns, size):
    tiles = [PIL.Image.new("RGB", (10, 10), (10 * i + 1, 0, 0)) for i in range(n)]
    sheet = pictures.grid(tiles, columns=columns)
    assert sheet.size == size
    reds = np.unique(np.asarray(sheet)[..., 0])
    assert set(reds) - {0} == {10 * i + 1 for i in range(n)}


@pytest.mark.parametrize("name", ["0.png", "deep/" * 40 + "0.png", "\\x1b[31m", "図.png", ""])
def test_a_contact_sheet_shows_query_and_found_whatever_they_are_called(name):
    query = PIL.Image.new("L", (30, 10), 7)
    found = [PIL.Image.new("RGB", (9, 9), (200, 0, 10 * i)) for i in range(7)]
    sheet = pictures.contact_sheet(query, found, [f"1   0.900\n{name}"] * 7)
    pixels = np.asarray(sheet)
    side, label = pictures.SIDE, pictures.CAPTION
    assert sheet.size == (6 * side + 8 * pictures.GAP, 2 * (side + label) + pictures.GAP)
    middle = side // 2
    assert pixels[middle, middle].tolist() == [7, 7, 7]
    left = side + 4 * pictures.GAP
    for i in range(7):
        row, column = divmod(i, pictures.COLUMNS)
        x = left + column * (side + pictures.GAP) + middle
        y = row * (side + label + pictures.GAP) + middle
        assert pixels[y, x].tolist() == [200, 0, 10 * i]


def test_a_bounded_map_shows_what_is_everywhere_as_bright():
    bright = pictures.feature_map(np.full((2, 2), 6.0), side=4, bounds=(0, 6))
    assert (np.asarray(bright) == [253, 231, 36]).all()


def test_the_channels_that_go_with_a_class_are_those_that_numpy_says():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    rows = np.hstack([rng.normal(size=(90, 6)), np.ones((90, 1))])
    rows[:, 4] += 3 * (labels == 1)
    found = look.correlation(rows, labels == 1)
    wanted = [np.corrcoef(column, labels == 1)[0, 1] for column in rows.T[:6]]
    np.testing.assert_allclose(found, [*wanted, 0])
    assert look.preferred(rows, labels, 3)[1] == 4 == found.argmax()
    assert look.preferred(np.ones((90, 2)), labels, 3) == [0]


def apart(n=45, d=60):
    """Three groups far from each other, and which."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    return rng.normal(size=(n, d)).astype(np.float32) + 20 * np.eye(3, d)[labels], labels


def together(points, labels) -> bool:
    """Whether the nearest neighbour of every point is of its group."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return (labels[distances.argmin(1)] == labels).all()


@pytest.mark.parametrize("method", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_maps_keep_groups_together_and_are_the_same_each_time(method):
    features, labels = apart()
    with threadpool_limits(1):  # their threads wait for each other where others are at work
        points, again = (embedding.METHODS[method](features, seed=0) for _ in range(2))
    assert points.shape == (45, 2) and together(points, labels)
    np.testing.assert_array_equal(points, again)


def test_maps_of_few_images_of_fewer_dimensions():
    assert embedding.tsne(apart(10, 3)[0], seed=0).shape == (10, 2)
    with pytest.raises(UserError, match="needs 10 images or more; got 9"):
        embedding.tsne(apart(9)[0], seed=0)


def test_without_umap_learn_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UserError, match=r"pip install tl_jax\[studies\]"):
        embedding.umap(apart()[0], seed=0)


def test_a_scatter_numbers_the_classes():
    points = np.random.default_rng(0).normal(size=(24, 2))
    words = svg_words(figures.scatter(points, np.arange(24) % 12))
    assert words == 2 * [str(n) for n in range(1, 13)]  # where they are, and in the legend
    many = svg_words(figures.scatter(np.repeat(points, 2, 0), np.arange(48)))
    assert many == [str(n) for n in range(1, 49)]


def test_a_scatter_finds_room_for_points_far_from_zero():
    """A class's number may stand where the axes, as yet without limits, do not reach."""
    points = np.array([[1050.0, -366], [1286, 43], [-538, 482], [-916, -773]])
    assert svg_words(figures.scatter(points, np.array([0, 0, 1, 1])))
