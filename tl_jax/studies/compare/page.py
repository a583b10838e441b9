"""The comparison of runs as a table for the terminal."""

from collections.abc import Iterable, Sequence

from tl_jax.studies.compare.row import Row


def table(seeds: Sequence[int], rows: Iterable[Row]) -> str:
    """A line for each split and metric: mean, standard deviation, then each run by seed."""
    head = f"{'':22}{'mean':>8}{'sd':>8}" + "".join(f"{f'seed {s}':>9}" for s in seeds)
    return "\n".join([head, *map(_line, rows)])


def _line(row: Row) -> str:
    name = f"{row.split} {row.metric}"
    if row.mean is None:
        return f"{name}: not defined in every run"
    values = "".join(f"{value:9.2f}" for value in row.values)
    return f"{name:22}{row.mean:8.2f}{row.deviation:8.2f}{values}"
