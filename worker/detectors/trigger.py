"""Trigger recovery: the smallest perturbation that turns clean images into a class, for many classes in one batch.

Two forms, because no one form expresses every trigger. A *patch* is Neural Cleanse (Wang et al., S&P 2019, §IV-B): a
mask and a pattern by Adam, the weight of the mask's size following the success. A *dense* perturbation is a universal
one inside an L2 ball (Moosavi-Dezfooli et al., CVPR 2017) whose radius follows the success. Both start small and grow:
the first thing that works is then the steepest, which is the backdoor where there is one. Started large, they find what
natural features allow and shrink that.

Classes never meet in the arithmetic (evaluation-mode BatchNorm, a sum of losses), so a batch of classes finds what each
would find alone. Knows tensors; knows nothing of jobs, files or HTTP.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from app.contract.job import Stage
from app.contract.options import PerturbationOptions
from worker.classifier import Classifier
from worker.detectors.perturbation import Form, Perturbation
from worker.progress import SILENT, Progress
from worker.samples.interface import SampleSet

SMOOTHING = 0.8  # of the running success, so that one lucky batch is not taken for success
IMPROVED = 0.99  # of the best size so far; less of a change does not count as going on
PIXELS_AT_ONCE = 2**20  # of one forward pass; classes that do not fit into it take turns


class Search(Protocol):
    """One form of perturbation on its way, K classes at once."""

    form: Form

    def perturbations(self, part: slice) -> tuple[Tensor, Tensor]:
        """`keep` (k, 1, h, w) and `add` (k, c, h, w) of some classes, with their graph."""
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


def recover_perturbations(
    suspect: Classifier,
    clean: SampleSet,
    classes: Sequence[int],
    options: PerturbationOptions,
    seed: int,
    progress: Progress = SILENT,
) -> tuple[Perturbation, ...]:
    """The smallest perturbation of each form for each class, patches first."""
    draw = torch.Generator().manual_seed(seed)
    room = (len(classes), *clean.images.shape[1:])
    device = suspect.placement.device
    found: list[Perturbation] = []
    for search in (Patch(room, device, draw), Dense(room, device, draw)):
        found += _smallest(search, suspect, clean, classes, options, draw, progress)
    return tuple(found)


def _smallest(
    search: Search,
    suspect: Classifier,
    clean: SampleSet,
    classes: Sequence[int],
    options: PerturbationOptions,
    draw: torch.Generator,
    progress: Progress,
) -> list[Perturbation]:
    """Walk one search to its end and keep, for each class, the smallest perturbation that succeeded."""
    frozen = suspect.with_module(suspect.copy().eval().requires_grad_(requires_grad=False))
    targets = torch.tensor(classes)
    best = [Perturbation(k, search.form, *_none(clean.images), math.inf) for k in classes]
    success, latest = torch.zeros(len(classes)), 0
    for number in range(1, options.steps + 1):
        index = torch.randint(len(clean), (options.batch_size,), generator=draw)
        hits = _attack(search, frozen, clean.images[index], clean.labels[index], targets)
        succeeds = success.lerp_(hits, 1 - SMOOTHING) >= options.success
        better = _improved(search, best, succeeds)
        latest = number if better or not succeeds.any() else latest
        search.step()
        search.follow(succeeds)
        progress.step(Stage.PERTURB, number, options.steps, success=success.mean().item())
        if number - latest >= options.patience:
            break
    return best


def _attack(search: Search, frozen: Classifier, images: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Leaves the gradients of one batch; the share of other classes' images that each class caught, (K,)."""
    pixels = frozen.pixels(images)
    hits = []
    for part in _parts(len(targets), images.numel() // images.shape[1]):
        keep, add = search.perturbations(part)
        perturbed = (keep[:, None] * pixels + add[:, None]).clamp(0, 1).flatten(0, 1)
        with frozen.placement.autocast():
            logits = frozen.module(frozen.standardise(perturbed)).float()
        aims = targets[part].repeat_interleave(len(labels))
        others = (labels != targets[part, None]).float()  # an image of the class itself shows nothing
        weights = others / others.sum(1, keepdim=True).clamp(min=1)
        losses = F.cross_entropy(logits, aims.to(logits.device), reduction="none")
        (losses @ weights.flatten().to(losses.device) + search.penalty(part)).backward()
        caught = (logits.detach().argmax(1).cpu() == aims).view_as(weights)
        hits.append((caught * weights).sum(1))
    return torch.cat(hits)


def _parts(classes: int, pixels_each: int) -> Iterator[slice]:
    at_once = max(1, PIXELS_AT_ONCE // pixels_each)
    return (slice(first, first + at_once) for first in range(0, classes, at_once))


@torch.no_grad()
def _improved(search: Search, best: list[Perturbation], succeeds: Tensor) -> bool:
    """Keep what succeeds and is smaller; whether any class went on in earnest."""
    keep, add = search.perturbations(slice(None))
    going_on = False
    for place, (works, size) in enumerate(
        zip(succeeds.tolist(), search.sizes(slice(None)).tolist(), strict=True)
    ):
        old = best[place]
        if works and size < old.size:
            going_on = going_on or size < IMPROVED * old.size
            best[place] = Perturbation(
                old.target_class, search.form, keep[place].clone().cpu(), add[place].clone().cpu(), size
            )
    return going_on


def _none(images: Tensor) -> tuple[Tensor, Tensor]:
    """The perturbation that changes nothing."""
    return torch.ones(1, *images.shape[2:]), torch.zeros(images.shape[1:])


class Patch:
    """x ↦ (1 - m)·x + m·p with m, p in (0, 1); the cost of Σm rises while it succeeds and falls while it does not."""

    form = Form.PATCH
    start = -3.0  # of the mask's logits: 5 % opaque everywhere
    lr, betas = 0.1, (0.5, 0.9)  # Neural Cleanse's Adam
    first_cost, cheaper, dearer = 0.03, 1.05, 1.1  # of one pixel of mask, in nats
    least_cost, most_cost = 1e-5, 1.0

    def __init__(self, room: tuple[int, ...], device: torch.device, draw: torch.Generator) -> None:
        k, _, h, w = room
        self.mask = (self.start + 0.1 * torch.randn(k, 1, h, w, generator=draw)).to(device).requires_grad_()
        self.pattern = (0.5 * torch.randn(room, generator=draw)).to(device).requires_grad_()
        self.cost = torch.full((k,), self.first_cost, device=device)
        self.optimiser = torch.optim.Adam([self.mask, self.pattern], self.lr, betas=self.betas)

    def perturbations(self, part: slice) -> tuple[Tensor, Tensor]:
        """See `Search`."""
        mask = self.mask[part].sigmoid()
        return 1 - mask, mask * self.pattern[part].sigmoid()

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
        factor = torch.where(succeeds.to(self.cost.device), self.dearer, 1 / self.cheaper)
        self.cost.mul_(factor).clamp_(self.least_cost, self.most_cost)


class Dense:
    """x ↦ x + δ with ‖δ‖₂ inside a radius that grows until it succeeds and shrinks while it does."""

    form = Form.DENSE
    first_radius, growth = 0.3, 1.04
    momentum, stride = 0.9, 0.09  # of the radius, along the averaged direction

    def __init__(self, room: tuple[int, ...], device: torch.device, draw: torch.Generator) -> None:
        start = torch.randn(room, generator=draw)
        start *= 0.1 * self.first_radius / _norms(start)
        self.delta = start.to(device).requires_grad_()
        self.velocity = torch.zeros(room, device=device)
        self.radius = torch.full((room[0], 1, 1, 1), self.first_radius, device=device)

    def perturbations(self, part: slice) -> tuple[Tensor, Tensor]:
        """See `Search`."""
        delta = self.delta[part]
        return torch.ones_like(delta[:, :1]), delta

    def sizes(self, part: slice) -> Tensor:
        """See `Search`."""
        return _norms(self.delta[part]).flatten()

    def penalty(self, part: slice) -> Tensor:
        """See `Search`; the radius binds instead."""
        del part
        return torch.zeros((), device=self.delta.device)

    @torch.no_grad()
    def step(self) -> None:
        """See `Search`."""
        gradient = self.delta.grad
        assert gradient is not None  # noqa: S101 - backward() has run
        self.velocity.mul_(self.momentum).add_(gradient / _norms(gradient).clamp(min=1e-12))
        self.delta.sub_(self.stride * self.radius * self.velocity)
        self._pull_back()
        self.delta.grad = None

    @torch.no_grad()
    def follow(self, succeeds: Tensor) -> None:
        """See `Search`."""
        shrinks = succeeds.to(self.radius.device).view_as(self.radius)
        self.radius.mul_(torch.where(shrinks, 1 / self.growth, self.growth))
        self._pull_back()

    def _pull_back(self) -> None:
        self.delta.mul_((self.radius / _norms(self.delta).clamp(min=1e-12)).clamp(max=1))


def _norms(deltas: Tensor) -> Tensor:
    """L2 norm of each, (k, 1, 1, 1)."""
    norms: Tensor = torch.linalg.vector_norm(deltas, dim=(1, 2, 3), keepdim=True)
    return norms
