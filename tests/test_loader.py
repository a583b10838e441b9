import itertools
import time

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.data import loader, views

EXAMPLES = np.arange(100, 137)  # 37: no batch size below divides it


def epoch(*, seed=(0, 0, 0), views=range(8), batch_size=8, examples=EXAMPLES, **options):
    """Examples and views of an epoch's batches: (S, B, 2)."""
    options |= {"views": views, "batch_size": batch_size, "seed": seed}
    return np.stack(loader.epoch_order(examples, **options), -1)


def test_an_epoch_has_each_example_at_most_once_in_full_batches():
    batches = epoch()
    assert batches.shape == (4, 8, 2)
    seen = batches[..., 0].reshape(-1)
    assert len(set(seen)) == 32 and set(seen) < set(EXAMPLES)
    assert (seen != np.sort(seen)).any()


def test_the_seed_decides_order_and_views():
    once, again = epoch(), epoch()
    np.testing.assert_array_equal(once, again)
    for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):  # run, phase, epoch
        different = epoch(seed=other)
        assert (different[..., 0] != once[..., 0]).any()
        assert (different[..., 1] != once[..., 1]).any()


def test_what_is_left_out_is_another_each_epoch():
    left = [set(EXAMPLES) - set(epoch(seed=(0, 0, e))[..., 0].flat) for e in range(60)]
    assert set.union(*left) == set(EXAMPLES)


def test_views_are_drawn_evenly():
    own = (0, 1, 8, 15)
    numbers = np.concatenate([epoch(seed=(0, 0, e), views=own)[..., 1].flat for e in range(40)])
    drawn, counts = np.unique(numbers, return_counts=True)
    assert tuple(drawn) == own
    assert (abs(counts / len(numbers) - 1 / 4) < 0.05).all()
    assert not epoch(views=(0,))[..., 1].any()


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 60), batch_size=st.integers(1, 16), seed=st.integers(0, 9))
def test_rows_of_ordered_batches_are_lanes_through_the_stream(n, batch_size, seed):
    stream = np.arange(1000, 1000 + n)
    order = epoch(examples=stream, batch_size=batch_size, seed=(seed,), ordered=True)[..., 0]
    steps = n // batch_size
    assert order.shape == (steps, batch_size)
    assert (np.diff(order, axis=0) == 1).all()  # each row goes on where it was
    np.testing.assert_array_equal(order.T.reshape(-1), stream[: steps * batch_size])


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, len(EXAMPLES)), batch_size=st.integers(1, 16), ordered=st.booleans())
def test_once_covers_each_example_exactly_once(n, batch_size, ordered):
    order = loader.once_order(n, batch_size=batch_size, ordered=ordered)
    assert order.shape == (-(-n // batch_size), batch_size)
    flat = (order.T if ordered else order).reshape(-1)
    np.testing.assert_array_equal(flat[:n], np.arange(n))
    assert (flat[n:] == -1).all()  # only padding comes after


def test_nothing_gives_no_batches():
    assert loader.once_order(0, batch_size=4).shape == (0, 4)
    assert epoch(examples=EXAMPLES[:5]).shape == (0, 8, 2)
    assert list(loader.read_ahead([], lambda item: item)) == []


@pytest.mark.parametrize("items", [range(3, 9), loader.once_order(37, batch_size=4), [(1, 2)] * 5])
def test_what_is_made_ahead_comes_in_order(items):
    def slow_at_first(item):
        time.sleep(0.01 * (np.ravel(item)[0] < 4))
        return {"made": np.asarray(item)}

    found = [made["made"] for made in loader.read_ahead(items, slow_at_first)]
    np.testing.assert_array_equal(found, np.asarray(items))


def test_an_error_while_reading_is_raised_where_batches_are_taken():
    def broken(item):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(loader.read_ahead(EXAMPLES, broken))


def test_reading_ahead_is_bounded():
    taken = []

    def count(item):
        taken.append(item)
        return item

    list(itertools.islice(loader.read_ahead(np.arange(1000), count), 3))
    assert 3 <= len(taken) <= 3 + loader.READ_AHEAD + loader.threads() + 1


def test_the_views_of_a_square_are_its_symmetries():
    square = np.arange(9).reshape(3, 3, 1)
    seen = [views.view(square, number)[..., 0] for number in range(8)]
    np.testing.assert_array_equal(seen[0], [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    np.testing.assert_array_equal(seen[1], [[2, 1, 0], [5, 4, 3], [8, 7, 6]])  # left to right
    np.testing.assert_array_equal(seen[2], [[6, 7, 8], [3, 4, 5], [0, 1, 2]])  # top to bottom
    np.testing.assert_array_equal(seen[3], [[8, 7, 6], [5, 4, 3], [2, 1, 0]])  # half a turn
    np.testing.assert_array_equal(seen[4], [[2, 5, 8], [1, 4, 7], [0, 3, 6]])  # a quarter turn
    assert len({view.tobytes() for view in seen}) == 8
    stacked = np.stack([square, square + 9])
    for number in range(8):
        np.testing.assert_array_equal(views.view(stacked, number)[0, ..., 0], seen[number])


def test_the_ten_crops_are_the_image_its_corners_and_their_mirror_images():
    """Windows of 7 of 8 pixels, enlarged to 8: a step between two pixels becomes 7/8 of one."""
    across = np.broadcast_to(10 * np.arange(8, dtype=np.uint8)[:, None], (8, 8, 1))
    image = np.concatenate([across, across.swapaxes(0, 1)], -1)  # grey rises rightwards, downwards
    near = [0, 8, 17, 26, 34, 43, 52, 60]  # 10 * (7/8 * (i + 1/2) - 1/2), from 0 to 60, rounded
    far = [10, 18, 27, 36, 44, 53, 62, 70]
    own = views.numbers("crops")
    seen = [views.view(image, number) for number in own]
    np.testing.assert_array_equal(seen[0], image)
    for plain, mirrored in zip(seen[::2], seen[1::2], strict=True):
        np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    corners = ((near, near), (near, far), (far, near), (far, far))
    for crop, (right, down) in zip(seen[2::2], corners, strict=True):
        np.testing.assert_array_equal(crop[..., 0], np.tile(right, (8, 1)))
        np.testing.assert_array_equal(crop[..., 1], np.tile(down, (8, 1)).T)
    assert len({crop.tobytes() for crop in seen}) == len(own) == 10


@pytest.mark.parametrize("side", [1, 3, 32, 45])
def test_a_corner_is_enlarged_as_pillow_does_it(side):
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 4)).astype(np.uint8)
    window = round(224 / 256 * side)
    for number, left, top in ((8, 0, 0), (14, side - window, side - window)):
        box = (left, top, left + window, top + window)
        crops = views.view(images, number)
        assert (crops.shape, crops.dtype) == (images.shape, np.uint8)
        for image, crop in zip(images, crops, strict=True):
            planes = [PIL.Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(4)]
            bilinear = PIL.Image.Resampling.BILINEAR
            wanted = [np.asarray(p.crop(box).resize((side, side), bilinear)) for p in planes]
            # Pillow rounds after each of the two directions.
            np.testing.assert_allclose(crop, np.stack(wanted, -1).astype(int), atol=1)
