"""Patches, dense perturbations and warps on their way to the smallest that works, K ways at once.

All start small and grow: the first thing that works is then the steepest, which is the backdoor where there is one.
Started large, they find what natural features allow and shrink that. They hurry where only relative sizes are read, and
take their time where a repair is made of what they find (decision 26). Knows tensors; knows nothing of classifiers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from worker.detectors.perturbation import Bend, Blend, Change, Form


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a search moves; less fast, it ends nearer to the smallest."""

    patches: int  # starts of each patch; a single one ends in the nearest place that works
    cheaper: float  # of what a patch costs, each step that it fails
    dearer: float  # each step that it works
    growth: float  # of a radius, each step
    stride: float  # of the radius, along the averaged direction
    first: float  # times the first radius


CAREFUL = Pace(patches=1, cheaper=1.05, dearer=1.1, growth=1.04, stride=0.09, first=1.0)
# Two of six single starts missed the patch of the example, and none of three pairs.
HURRIED = Pace(patches=2, cheaper=1.08, dearer=1.15, growth=1.08, stride=0.12, first=2.0)


# Pixels of the images that costs are set for. A mask that starts everywhere has more of them on larger images, and
# where each costs as much, it shrinks to nothing before it finds anything: at 64 pixels a side none was ever found.
AREA = 32 * 32


class Search(Protocol):
    """One form of perturbation on its way."""

    form: Form

    @property
    def moving(self) -> Sequence[Tensor]:
        """What is searched in; gradients are wanted of nothing else."""
        ...

    def change(self, part: slice) -> Change:
        """What some of the classes do to images now, with its graph."""
        ...

    def sizes(self, part: slice) -> Tensor:
        """(k,), with its graph."""
        ...

    def penalty(self, part: slice) -> Tensor:
        """What size costs, a scalar that joins the loss."""
        ...

    def step(self) -> None:
        """Move against the gradients that backward() has left."""
        ...

    def follow(self, succeeds: Tensor) -> None:
        """Ask for less where a class succeeds and allow more where it does not; boolean (K,)."""
        ...


class Patch:
    """x ↦ (1 - m)·x + m·p with m, p in (0, 1); the cost of Σm rises while it succeeds and falls while it does not.

    Neural Cleanse's (Wang et al., S&P 2019, §IV-B) with four times its rate: at 0.1 the patch of a BadNets VGG was
    still shrinking after 300 steps.
    """

    form = Form.PATCH
    start = -3.0  # of the mask's logits: 5 % opaque everywhere
    lr, betas = 0.4, (0.5, 0.9)  # of Adam
    first_cost, least_cost, most_cost = 0.03, 1e-5, 1.0  # of one pixel of a mask of `AREA`, in nats

    def __init__(
        self, room: tuple[int, ...], device: torch.device, draw: torch.Generator, pace: Pace = CAREFUL
    ) -> None:
        k, _, h, w = room
        self.pace, self.share = pace, min(1.0, AREA / (h * w))
        self.mask = (self.start + 0.1 * torch.randn(k, 1, h, w, generator=draw)).to(device).requires_grad_()
        self.pattern = (0.5 * torch.randn(room, generator=draw)).to(device).requires_grad_()
        self.cost = torch.full((k,), self.share * self.first_cost, device=device)
        self.optimiser = torch.optim.Adam(self.moving, self.lr, betas=self.betas)

    @property
    def moving(self) -> Sequence[Tensor]:
        """See `Search`."""
        return self.mask, self.pattern

    def change(self, part: slice) -> Blend:
        """See `Search`."""
        mask = self.mask[part].sigmoid()
        return Blend(1 - mask, mask * self.pattern[part].sigmoid())

    def sizes(self, part: slice) -> Tensor:
        """See `Search`."""
        return self.mask[part].sigmoid().sum((1, 2, 3))

    def penalty(self, part: slice) -> Tensor:
        """See `Search`."""
        return self.cost[part] @ self.sizes(part)

    def step(self) -> None:
        """See `Search`."""
        self.optimiser.step()
        self.optimiser.zero_grad()

    def follow(self, succeeds: Tensor) -> None:
        """See `Search`."""
        factor = torch.where(succeeds.to(self.cost.device), self.pace.dearer, 1 / self.pace.cheaper)
        self.cost.mul_(factor).clamp_(self.share * self.least_cost, self.share * self.most_cost)


class _Ball:
    """Anything inside a ball whose radius grows until it succeeds and shrinks while it does."""

    momentum = 0.9

    def __init__(
        self, inside: Tensor, unit: float, first: float, largest: float, device: torch.device, pace: Pace
    ) -> None:
        self.pace, first = pace, pace.first * first
        self.unit, self.largest = unit, largest  # size of one unit of L2 norm; of the ball
        self.inside = (inside * (0.1 * first / unit / _norms(inside))).to(device).requires_grad_()
        self.velocity = torch.zeros_like(self.inside)
        self.radius = torch.full((len(inside), 1, 1, 1), first / unit, device=device)

    @property
    def moving(self) -> Sequence[Tensor]:
        """See `Search`."""
        return (self.inside,)

    def sizes(self, part: slice) -> Tensor:
        """See `Search`."""
        return self.unit * _norms(self.inside[part]).flatten()

    def penalty(self, part: slice) -> Tensor:
        """See `Search`; the radius binds instead."""
        del part
        return torch.zeros((), device=self.inside.device)

    @torch.no_grad()
    def step(self) -> None:
        """See `Search`."""
        gradient = self.inside.grad
        assert gradient is not None  # noqa: S101 - backward() has run
        self.velocity.mul_(self.momentum).add_(gradient / _norms(gradient).clamp(min=1e-12))
        self.inside.sub_(self.pace.stride * self.radius * self.velocity)
        self._pull_back()
        self.inside.grad = None

    @torch.no_grad()
    def follow(self, succeeds: Tensor) -> None:
        """See `Search`."""
        shrinks = succeeds.to(self.radius.device).view_as(self.radius)
        self.radius.mul_(torch.where(shrinks, 1 / self.pace.growth, self.pace.growth))
        self.radius.clamp_(max=self.largest / self.unit)
        self._pull_back()

    def _pull_back(self) -> None:
        self.inside.mul_((self.radius / _norms(self.inside).clamp(min=1e-12)).clamp(max=1))


class Dense(_Ball):
    """x ↦ x + δ, a universal perturbation (Moosavi-Dezfooli et al., CVPR 2017)."""

    form = Form.DENSE
    first = 0.3

    def __init__(
        self, room: tuple[int, ...], device: torch.device, draw: torch.Generator, pace: Pace = CAREFUL
    ) -> None:
        super().__init__(torch.randn(room, generator=draw), 1.0, self.first, math.inf, device, pace)

    def change(self, part: slice) -> Blend:
        """See `Search`."""
        delta = self.inside[part]
        return Blend(torch.ones_like(delta[:, :1]), delta)


class Warp(_Ball):
    """Every pixel looks elsewhere, smoothly: displacements on a coarse grid, bicubic between its points.

    What WaNet plants (Nguyen & Tran, ICLR 2021, §3.2) no patch and no dense perturbation expresses, because it is
    another difference in every image. Larger warps than an eighth of the side destroy what an image shows.
    """

    form = Form.WARP
    points = 8  # along a side; WaNet plants 4
    first, largest = 1 / 320, 1 / 8  # of the side of an image

    def __init__(
        self, room: tuple[int, ...], device: torch.device, draw: torch.Generator, pace: Pace = CAREFUL
    ) -> None:
        k, _, h, w = room
        side = max(h, w)
        self.room = (h, w)
        points = torch.randn(k, 2, self.points, self.points, generator=draw)
        super().__init__(points, 1 / self.points, self.first * side, self.largest * side, device, pace)

    def change(self, part: slice) -> Bend:
        """See `Search`."""
        return Bend(F.interpolate(self.inside[part], self.room, mode="bicubic", align_corners=True))


FORMS = (Patch, Dense, Warp)


def _norms(tensors: Tensor) -> Tensor:
    """L2 norm of each, (k, 1, 1, 1)."""
    norms: Tensor = torch.linalg.vector_norm(tensors, dim=(1, 2, 3), keepdim=True)
    return norms
