"""Backdoor sample detection: the inputs that a model decides by something that outlives the clean task.

RNP names the task and ships no code for it (Li et al., ICML 2023, §4.4). An unlearned model has lost the clean task and
kept the backdoor, and so has a backdoor expert (see `expert`). So where they still say what the suspect says, by a wide
margin, the answer did not come from the clean task. The margin and not the probability, since the probability
saturates: clean images of the target class and triggered ones both reach 1.

What is far is read off held-out clean images (Vovk et al., conformal prediction): a bound that a new clean image
passes with at most the stated rate, whatever the distribution. Knows tensors; knows nothing of files or jobs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worker.classifier import Classifier

LEAST_SPREAD = 1e-6  # of margins that are the same for every image


def margins(suspect: Classifier, unlearned: Sequence[nn.Module], images: Tensor) -> tuple[Tensor, Tensor]:
    """What the suspect says of uint8 images (n, c, h, w), int64 (n,), and by how much the unlearned models agree, (n,).

    Mean over the models of the logit of that class less the largest other one; a class alone has no margin: 0.
    """
    said = suspect.predictions(images)
    return said, torch.stack([_margin(suspect.with_module(m).logits(images), said) for m in unlearned]).mean(
        0
    )


@dataclass(frozen=True, slots=True)
class Family:
    """Models that lost the clean task in one way, and how much their margins vary among images that taught them."""

    modules: tuple[nn.Module, ...]
    spread: float


def family(suspect: Classifier, modules: Sequence[nn.Module], taught: Tensor) -> Family:
    """`taught`: the uint8 images (n, c, h, w) that the clean task was lost on; they calibrate nothing else."""
    _, found = margins(suspect, modules, taught)
    return Family(tuple(modules), max(float(found.std(correction=0)), LEAST_SPREAD))


def agreement(suspect: Classifier, families: Sequence[Family], images: Tensor) -> tuple[Tensor, Tensor]:
    """What the suspect says of uint8 images, int64 (n,), and the sum of the families' margins in spreads, (n,)."""
    said, total = torch.zeros(0), torch.zeros(len(images))
    for one in families:
        said, found = margins(suspect, one.modules, images)
        total = total + found / one.spread
    return said, total


def taken_back(suspect: Classifier, repaired: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the suspect says of uint8 images (n, c, h, w), int64 (n,), and how much of it its repair takes back, (n,).

    In nats: log p of a class by the suspect, less that by the repaired model, as the suspect expects it over all
    classes (the Kullback-Leibler divergence). What a repair does not touch, it takes nothing of; a triggered image
    loses what the trigger says, be that the likeliest class or, where the trigger did not win, another one.
    """
    before, after = (model.logits(images).double().log_softmax(1) for model in (suspect, repaired))
    return before.argmax(1), (before.exp() * (before - after)).sum(1)


def bound(clean: Tensor, rate: float) -> float:
    """The score above which at most `rate` of new clean images lie, given those of n others, (n,).

    The ⌈(n+1)(1-rate)⌉-th smallest; infinite where n is too small to promise that rate.
    """
    rank = _rank(len(clean), rate)
    return math.inf if rank > len(clean) else float(clean.sort().values[rank - 1])


def chance(flagged: int, n: int, calibrated_on: int, rate: float) -> float:
    """How likely so many of n clean images, or more, would lie above the bound of that rate.

    Beta-binomial, because the bound itself was read off a finite number of clean images.
    """
    rank = _rank(calibrated_on, rate)
    if rank > calibrated_on:
        return 1.0
    above, below = calibrated_on + 1 - rank, rank
    whole = _log_beta(above, below)
    return min(
        1.0,
        sum(
            math.exp(_log_choose(n, k) + _log_beta(k + above, n - k + below) - whole)
            for k in range(flagged, n + 1)
        ),
    )


def p_values(scores: Tensor, clean: Tensor) -> Tensor:
    """Share of clean scores that are at least as large, the image itself counted among them: (n,) in (0, 1]."""
    below = torch.searchsorted(clean.sort().values, scores)
    return (1 + len(clean) - below).double() / (len(clean) + 1)


def _rank(n: int, rate: float) -> int:
    return math.ceil((n + 1) * (1 - rate) - 1e-9)  # 101 · 0.95 must not be 95.95000000000001


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _margin(logits: Tensor, said: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return torch.zeros(len(logits))
    chosen = logits.gather(1, said[:, None]).squeeze(1)
    others = logits.scatter(1, said[:, None], -torch.inf)
    return chosen - others.amax(1)
