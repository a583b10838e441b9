"""How many labels something is worth: read off a curve of accuracy over numbers of labels."""

from collections.abc import Sequence

import numpy as np

from tl_jax.errors import UserError


def labels_for(
    wanted: float, budgets: Sequence[float], accuracies: Sequence[float], *, chance: float
) -> float:
    """Return the number of labels at which a curve reaches the accuracy `wanted`; infinite if it
    does not.

    `budgets` ascend from above 0; the curve is their `accuracies`, `chance` without labels. It
    counts as never falling (its running maximum). Between two budgets accuracy is taken to be
    linear in the logarithm of the number, and below the first in the number itself.

    >>> round(labels_for(0.8, [1, 4, 16], [0.5, 0.7, 0.9], chance=0.1), 6)
    8.0
    """
    if len(budgets) != len(accuracies) or not budgets or list(budgets) != sorted({*budgets}):
        raise UserError(f"a curve has ascending budgets and an accuracy each; got {budgets}")
    known = np.maximum.accumulate([chance, *accuracies])
    if wanted <= chance:
        return 0.0
    above = int(np.searchsorted(known, wanted))  # the first point that is as high
    if above == len(known):
        return float("inf")
    share = (wanted - known[above - 1]) / (known[above] - known[above - 1])
    if above == 1:
        return float(share * budgets[0])
    low, high = budgets[above - 2], budgets[above - 1]
    return float(low * (high / low) ** share)
