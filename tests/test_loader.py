import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.data import loader, views

EXAMPLES = np.arange(100, 137)  # 37: no batch size below divides it


def read(examples, numbers):
    """Inputs from which both can be read again: (B, 2)."""
    return np.stack([examples, numbers], 1)


def epoch(*, seed=(0, 0, 0), first=0, views=8, batch_size=8, examples=EXAMPLES):
    options = {"views": views, "batch_size": batch_size, "seed": seed, "first": first}
    return list(loader.epoch(read, examples, **options))


def inputs(batches):
    return np.concatenate([b.inputs for b in batches])


def test_an_epoch_has_each_example_at_most_once_in_full_batches():
    batches = epoch()
    assert [b.inputs.shape for b in batches] == [(8, 2)] * 4
    for batch in batches:
        np.testing.assert_array_equal(batch.inputs[:, 0], batch.indices)
        assert (batch.real == 1).all()
    seen = inputs(batches)[:, 0]
    assert len(set(seen)) == 32 and set(seen) < set(EXAMPLES)
    assert (seen != np.sort(seen)).any()


def test_the_seed_decides_order_and_views():
    once, again = inputs(epoch()), inputs(epoch())
    np.testing.assert_array_equal(once, again)
    for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):  # run, phase, epoch
        different = inputs(epoch(seed=other))
        assert (different[:, 0] != once[:, 0]).any()
        assert (different[:, 1] != once[:, 1]).any()


def test_what_is_left_out_is_another_each_epoch():
    left = [set(EXAMPLES) - set(inputs(epoch(seed=(0, 0, e)))[:, 0]) for e in range(60)]
    assert set.union(*left) == set(EXAMPLES)


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_going_on_at_a_batch_gives_the_tail(number):
    tail = inputs(epoch())[number * 8 :]
    found = epoch(first=number)
    np.testing.assert_array_equal(inputs(found) if found else np.zeros((0, 2)), tail)


@pytest.mark.parametrize("examples", [EXAMPLES, EXAMPLES[:5]])
def test_the_order_of_an_epoch_is_that_of_its_batches(examples):
    options = {"views": 8, "batch_size": 8, "seed": (0, 0, 0)}
    order, chosen = loader.epoch_order(examples, **options)
    assert order.shape == chosen.shape == (len(examples) // 8, 8)
    batches = [b.inputs for b in epoch(examples=examples)]
    np.testing.assert_array_equal(np.stack([order, chosen], -1), np.reshape(batches, (-1, 8, 2)))


def test_views_are_drawn_evenly():
    numbers = np.concatenate([inputs(epoch(seed=(0, 0, e), views=4))[:, 1] for e in range(40)])
    counts = np.bincount(numbers, minlength=4)
    assert len(counts) == 4 and (abs(counts / len(numbers) - 1 / 4) < 0.05).all()
    assert not inputs(epoch(views=1))[:, 1].any()


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, len(EXAMPLES)), batch_size=st.integers(1, 16), view=st.integers(0, 7))
def test_once_covers_each_example_exactly_once(n, batch_size, view):
    examples = EXAMPLES[:n]
    batches = list(loader.once(read, examples, view=view, batch_size=batch_size))
    assert all(len(b.inputs) == len(b.indices) == len(b.real) == batch_size for b in batches)
    real = np.concatenate([b.real for b in batches]).astype(bool)
    every = inputs(batches)
    np.testing.assert_array_equal(every[real], read(examples, np.full(n, view)))
    np.testing.assert_array_equal(np.concatenate([b.indices for b in batches])[real], examples)
    assert set(every[~real, 0]) <= set(examples)  # padding is inputs that can be had


def test_nothing_gives_no_batches():
    assert list(loader.once(read, EXAMPLES[:0], view=0, batch_size=4)) == []
    assert epoch(examples=EXAMPLES[:5]) == []


def test_an_error_while_reading_is_raised_where_batches_are_taken():
    def broken(examples, numbers):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(loader.once(broken, EXAMPLES, view=0, batch_size=4))


def test_reading_ahead_is_bounded():
    taken = []

    def count(examples, numbers):
        taken.append(len(examples))
        return read(examples, numbers)

    many = loader.once(count, np.arange(1000), view=0, batch_size=1)
    list(itertools.islice(many, 3))
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
