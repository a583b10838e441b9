import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.data import loader, views

EXAMPLES = np.arange(100, 137)  # 37: no batch size below divides it


def epoch(*, seed=(0, 0, 0), views=8, batch_size=8, examples=EXAMPLES, **options):
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
    numbers = np.concatenate([epoch(seed=(0, 0, e), views=4)[..., 1].flat for e in range(40)])
    counts = np.bincount(numbers, minlength=4)
    assert len(counts) == 4 and (abs(counts / len(numbers) - 1 / 4) < 0.05).all()
    assert not epoch(views=1)[..., 1].any()


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
    assert 3 <= len(taken) <= 3 + loader.READ_AHEAD + loader.THREADS + 1


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
