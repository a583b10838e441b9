"""What bounds a step on many chips, against sums by hand."""

import pytest

from tl_jax.describe import scale
from tl_jax.describe.layers import Row

# 10 million multiply-accumulates, 1,000,000 parameters and 1,000 statistics in two layers.
ROWS = [
    Row("conv", (8, 8, 4), 400_000, 1_000, 9_000_000, (1, 1), (3, 3), (3, 3)),
    Row("head", (10,), 600_000, 0, 1_000_000, (), (), ()),
]
MACHINE = scale.Machine("toy", flops=1e12, reached=0.5, link=1e9, outside=1e8, pod=4, host=2)


def test_of_one_chip_only_the_computing_counts():
    one = scale.bounds(ROWS, 1, batch=100, machine=MACHINE)
    # 3 passes of 2 * 1e7 operations for each of 100 images, at 0.5e12 a second
    assert one.compute == pytest.approx(3 * 2e7 * 100 / 0.5e12)
    assert (one.reduce, one.sent, one.images) == (0, 0, 100)
    assert one.decode == pytest.approx(100 / one.compute)
    assert one.checkpoint == 4 * (4 * 1_000_000 + 2 * 1_000)


def test_a_pod_sends_the_gradients_almost_twice_around_its_ring():
    pod = scale.bounds(ROWS, 4, batch=100, machine=MACHINE)
    assert pod.images == 25
    assert pod.sent == pytest.approx(2 * 3 / 4 * 4e6)
    assert pod.reduce == pytest.approx(6e6 / 1e9)
    assert pod.decode == pytest.approx(100 / pod.reduce / 2)  # 2 hosts; adding up takes longer


def test_two_pods_also_exchange_what_each_chip_has_added_up():
    pods = scale.bounds(ROWS, 8, batch=100, machine=MACHINE)
    assert pods.images == 13  # the last chip has 9
    assert pods.reduce == pytest.approx(6e6 / 1e9 + 2 / 2 * (4e6 / 4) / 1e8)


def test_the_table_has_a_line_for_each_number_of_chips():
    lines = scale.table([scale.bounds(ROWS, n, batch=64) for n in (8, 64)]).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["8", "8"], ["64", "1"]]
    assert len({len(line) for line in lines}) == 1
