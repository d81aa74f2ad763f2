"""The clean samples divided once into what fits, what selects and what reports.

Knows tensors; knows nothing of files, jobs or HTTP.
"""

import math

import torch
from torch import Tensor

from app.contract.problem import Problem
from app.errors import OptionsError, SamplesError
from worker.samples.interface import CleanSplit, SampleSet

PARTS = ("fit", "select", "report")
FEW = 30  # below it the 95 % interval of an accuracy of 0.9 is wider than ±0.1
ROUNDING = 1e-9  # 0.3 · 10 is three, whatever binary fractions say


def split(samples: SampleSet, fit: float, select: float, seed: int) -> CleanSplit:
    """Three disjoint parts that cover `samples`, stratified by class; `report` gets the share that is left.

    Each class gives each part its share, rounded up or down so that the parts stay near their shares overall; with
    3 samples or more no part is empty. Depends on the labels and `seed` alone. Samples keep their order.
    Raises `OptionsError` (options.split) and `SamplesError` (samples.too_few).
    """
    if min(fit, select) <= 0 or fit + select >= 1:
        raise OptionsError(
            f"The shares {fit} and {select} leave nothing to report on.",
            code="options.split",
            remedy="Give two positive shares whose sum is below 1.",
        )
    if len(samples) < len(PARTS):
        raise SamplesError(
            f"{len(samples)} clean samples cannot be divided into three parts.",
            code="samples.too_few",
            remedy="Give a few hundred clean images.",
        )
    shuffle = torch.Generator().manual_seed(seed)
    members = [torch.nonzero(samples.labels == label).flatten() for label in samples.labels.unique()]
    counts = _counts([len(index) for index in members], (fit, select, 1 - fit - select))
    chosen: tuple[list[Tensor], ...] = ([], [], [])
    for index, sizes in zip(members, counts, strict=True):
        shuffled = index[torch.randperm(len(index), generator=shuffle)]
        for part, piece in zip(chosen, shuffled.split(sizes), strict=True):
            part.append(piece)
    return CleanSplit(*(samples.take(torch.cat(part).sort().values) for part in chosen))


def thin_parts(parts: CleanSplit) -> tuple[Problem, ...]:
    """The warning `samples.few`, if a part has too few images for its numbers to mean much."""
    sizes = {name: len(getattr(parts, name)) for name in PARTS}
    if min(sizes.values()) >= FEW:
        return ()
    listed = ", ".join(f"{size} to {name}" for name, size in sizes.items())
    return (
        Problem(
            code="samples.few",
            detail=f"There are few clean samples: {listed}. Intervals will be wide.",
            remedy=f"Give more clean images; no part should have fewer than {FEW}.",
        ),
    )


def _counts(sizes: list[int], shares: tuple[float, ...]) -> list[list[int]]:
    """How many of each class go to each part.

    Largest remainder, where a remainder is carried from class to class: one image per class would otherwise go to
    the largest part every time.
    """
    owed = [0.0] * len(shares)
    counts = []
    for size in sizes:
        quotas = [size * share for share in shares]
        row = [math.floor(quota + ROUNDING) for quota in quotas]
        owed = [debt + quota - given for debt, quota, given in zip(owed, quotas, row, strict=True)]
        # a quota that is whole already takes no more
        open_parts = [part for part, quota in enumerate(quotas) if quota - row[part] > ROUNDING]
        for part in sorted(open_parts, key=lambda part: -round(owed[part], 9))[: size - sum(row)]:
            row[part] += 1
            owed[part] -= 1
        counts.append(row)
    _fill_empty(counts)
    return counts


def _fill_empty(counts: list[list[int]]) -> None:
    """A part that got nothing takes one from the largest part, out of the class that has most there."""
    for empty in range(len(counts[0])):
        totals = [sum(column) for column in zip(*counts, strict=True)]
        if not totals[empty]:
            largest = totals.index(max(totals))
            row = max(counts, key=lambda row: row[largest])
            row[largest] -= 1
            row[empty] += 1
