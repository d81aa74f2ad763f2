"""Backdoor label detection without a label: the smallest step before the last layer that sends images into a class.

A backdoor gives its target a shortcut, so features need be moved less far into the target class than into any other
(after NTT's quadratic program, arXiv:2511.08944). For class k, the smallest s such that features f + s are given k over
every other class j, by nine tenths of the images:

    minimise ‖s‖²  subject to  (w_k - w_j)·s ≥ the 0.9 quantile over images of (w_j·f + b_j) - (w_k·f + b_k)

One inequality for each other class, however many images there are: milliseconds. Works on any net that ends in a linear
layer, with or without BatchNorm. Knows numbers; knows nothing of models.
"""

import math
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Numbers = NDArray[np.float64]
SHARE = 0.9  # of the images that are of another class yet
LEAST = 1e-12
POSSIBLE = 1e-9  # of the least squares' rest, which is 1 for a step without length
MOST = 200  # classes; what it costs grows with their cube


def relative_shortcuts(weight: Numbers, bias: Numbers, features: Numbers) -> tuple[float, ...]:
    """Of each class, over the median of the other classes; (classes, d), (classes,), (images, d).

    None where there are too many classes, or where the arithmetic finds no end.
    """
    if len(bias) > MOST:
        return ()
    logits = features @ weight.T + bias
    try:
        sizes = [_shortcut(weight, logits, k) for k in range(len(bias))]
    except RuntimeError:  # nnls, after too many iterations
        return ()
    return tuple(_relative(size, median(sizes[:k] + sizes[k + 1 :])) for k, size in enumerate(sizes))


def _relative(size: float, typical: float) -> float:
    return (
        1.0 if math.isinf(typical) else size / max(typical, LEAST)
    )  # beside none that exists it says nothing


def _shortcut(weight: Numbers, logits: Numbers, k: int) -> float:
    """‖s‖, by least squares without negative numbers (Lawson & Hanson, Solving Least Squares Problems, 1974, §23.4)."""
    others = np.arange(len(weight)) != k
    elsewhere = logits[logits.argmax(1) != k]
    if not len(elsewhere):
        return 0.0
    needed = np.quantile(elsewhere[:, others] - elsewhere[:, [k]], SHARE, axis=0)
    system = np.vstack([(weight[k] - weight[others]).T, needed])
    goal = np.zeros(len(system))
    goal[-1] = 1
    solved, _ = nnls(system, goal)
    rest = system @ solved - goal
    if -rest[-1] < POSSIBLE:  # no step leads there, as into a class whose row lies between those of others
        return math.inf
    return float(np.linalg.norm(rest[:-1]) / -rest[-1])
