"""Which images of an unlabelled pool a person should label: those that the model knows least, or a fair draw.

The query of EADA (Xie et al., Active Learning for Domain Adaptation: An Energy-Based Approach, AAAI 2022), one round
of it; nothing is trained. Knows tensors; knows nothing of files or models.
"""

import math

import torch
from torch import Tensor


def free_energy(logits: Tensor) -> Tensor:
    """Of (n, classes), at temperature 1: (n,). High where nothing that was learned answers."""
    return -logits.logsumexp(1)


def margin(logits: Tensor) -> Tensor:
    """Second largest logit minus the largest, at most 0, of (n, classes): (n,). Near 0 where two classes compete."""
    first, second = logits.topk(2, dim=1).values.unbind(1)
    return second - first


def by_energy(logits: Tensor, budget: int) -> Tensor:
    """Of the half with the highest free energy, those of the highest margin, highest first: int64 (budget,).

    A budget beyond the half widens it. Ties go to the higher energy, then to the earlier image.
    """
    half = max(math.ceil(len(logits) / 2), budget)
    strange = free_energy(logits).argsort(descending=True, stable=True)[:half]
    return strange[margin(logits)[strange].argsort(descending=True, stable=True)[:budget]]


def by_chance(n: int, budget: int, seed: int) -> Tensor:
    """Every image of n alike, without replacement: int64 (budget,)."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:budget]
