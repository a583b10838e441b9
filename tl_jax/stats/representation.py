"""What features (N, D) tell without a classifier: whether they collapsed, and whose neighbours they
are.
"""

import numpy as np

BLOCK = 1024  # queries that are compared with all others at a time


def unit(x: np.ndarray) -> np.ndarray:
    """Return the rows (N, D) at length 1, in float32; rows of zeros stay zeros."""
    x = np.asarray(x, np.float32)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def spread(x: np.ndarray) -> float:
    """Return the mean over dimensions of the deviation of unit vectors, times sqrt(D).

    1 where they point everywhere, 0 where all are the same (Chen & He 2021, arXiv:2011.10566).
    """
    return float(unit(x).std(0).mean() * np.sqrt(np.shape(x)[1]))


def effective_rank(x: np.ndarray) -> float:
    """Return exp of the entropy of the shares of the singular values of centred features.

    From 1 to min(N, D); it is the number of directions if all vary equally (Roy & Vetterli 2007).
    0 where nothing varies.
    """
    x = np.asarray(x, np.float64)
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    if not values.max() > 1e-12:
        return 0.0
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def nearest(queries: np.ndarray, bank: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of `bank` (N, D) and their cosines, (Q, k) each, the nearest first."""
    queries, bank = unit(queries), unit(bank)
    rows, cosines = [], []
    for first in range(0, len(queries), BLOCK):
        found = queries[first : first + BLOCK] @ bank.T
        order = np.argsort(-found, axis=1, kind="stable")[:, :k]
        rows.append(order)
        cosines.append(np.take_along_axis(found, order, 1))
    return np.concatenate(rows), np.concatenate(cosines)


def neighbour_accuracy(
    queries: np.ndarray,
    query_labels: np.ndarray,
    bank: np.ndarray,
    bank_labels: np.ndarray,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Return the share of queries (Q, D) whose label their `k` nearest in the bank (N, D) vote for.

    A neighbour's vote weighs exp(cosine / temperature), as in Wu et al. 2018 (arXiv:1805.01978),
    section 3.4; k 20 is solo-learn's.
    """
    rows, cosines = nearest(queries, bank, min(k, len(bank)))
    weights = np.exp((cosines - cosines.max(1, keepdims=True)) / temperature)
    votes = np.zeros((len(rows), int(max(bank_labels.max(), query_labels.max())) + 1))
    np.add.at(votes, (np.arange(len(rows))[:, None], bank_labels[rows]), weights)
    return float((votes.argmax(1) == query_labels).mean())
