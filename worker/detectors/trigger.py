"""Trigger recovery: the smallest perturbation that turns clean images into a class, for many classes in one batch.

Three forms, because no one form expresses every trigger: a patch, a dense perturbation and a warp, each as it is on its
way in `forms`. Classes never meet in the arithmetic (evaluation-mode BatchNorm, a sum of losses), so a batch of classes
finds what each would find alone. Knows tensors; knows nothing of jobs, files or HTTP.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from app.contract.job import Stage
from app.contract.options import PerturbationOptions
from worker.classifier import PIXELS_AT_ONCE, Classifier
from worker.detectors.forms import CAREFUL, FORMS, Dense, Pace, Patch, Search, Warp
from worker.detectors.perturbation import ELSEWHERE, Blend, Perturbation
from worker.frozen import frozen
from worker.progress import SILENT, Progress
from worker.samples.interface import SampleSet

SMOOTHING = 0.8  # of the running success, so that one lucky batch is not taken for success
IMPROVED = 0.99  # of the best size so far; less of a change does not count as going on
GREW = 1.001  # times the largest size so far, of a class that nothing went over to yet


def recover_perturbations(
    suspect: Classifier,
    clean: SampleSet,
    classes: Sequence[int],
    options: PerturbationOptions,
    seed: int,
    progress: Progress = SILENT,
    forms: Sequence[type[Patch | Dense | Warp]] = FORMS,
    pace: Pace = CAREFUL,
) -> tuple[Perturbation, ...]:
    """The smallest perturbation of each form for each class from each of its starts, form by form."""
    draw = torch.Generator().manual_seed(seed)
    device = suspect.placement.device
    asked = frozen(suspect, clean.images[:1])
    found: list[Perturbation] = []
    for form in forms:
        ways = tuple(classes) * (pace.patches if form is Patch else 1)
        search = form((len(ways), *clean.images.shape[1:]), device, draw, pace)
        found += walk(search, asked, clean, ways, options, draw, progress)
    return tuple(found)


def walk(
    search: Search,
    asked: Classifier,
    clean: SampleSet,
    classes: Sequence[int],
    options: PerturbationOptions,
    draw: torch.Generator,
    progress: Progress,
) -> list[Perturbation]:
    """Walk one search to its end and keep, for each class, the smallest perturbation that succeeded."""
    targets = torch.tensor(classes)
    channels, height, width = clean.images.shape[1:]
    nothing = Blend(torch.ones(1, 1, height, width), torch.zeros(1, channels, height, width))
    best = [Perturbation(k, search.form, nothing, math.inf, tried=0.0) for k in classes]
    success, latest = torch.zeros(len(classes)), 0
    for number in range(1, options.steps + 1):
        index = torch.randint(len(clean), (options.batch_size,), generator=draw)
        hits = attack(search, asked, clean.images[index], clean.labels[index], targets)
        succeeds = keep_running(success, hits, 1 - SMOOTHING) >= options.success
        latest = number if _goes_on(search, best, succeeds) else latest
        search.step()
        search.follow(succeeds)
        progress.step(Stage.PERTURB, number, options.steps, success=success.mean().item())
        if number - latest >= options.patience:
            break
    return best


def attack(search: Search, asked: Classifier, images: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Leave a search with the gradients of one batch of uint8 images; the share of other classes' that it caught, (K,).

    NaN for a class of which all images of the batch are.
    `targets` (K,) on the CPU, one for each way that is searched: a class, or `ELSEWHERE`.
    """
    pixels = asked.pixels(images)
    hits = []
    for part in _parts(len(targets), images.numel() // images.shape[1]):
        perturbed = search.change(part)(pixels).flatten(0, 1)
        with asked.placement.autocast():
            logits = asked.module(asked.standardise(perturbed)).float()
        aims, own = targets[part].repeat_interleave(len(labels)), labels.repeat(len(targets[part]))
        others = (labels != targets[part, None]).float()  # an image of the class itself shows nothing
        weights = others / others.sum(1, keepdim=True).clamp(min=1)
        losses = _losses(logits, aims.to(logits.device), own.to(logits.device))
        loss = losses @ weights.flatten().to(losses.device) + search.penalty(part)
        loss.backward(inputs=search.moving)
        said = logits.detach().argmax(1).cpu()
        caught = torch.where(aims == ELSEWHERE, said != own, said == aims).view_as(weights)
        hits.append((caught * weights).sum(1).where(others.any(1), math.nan))
    return torch.cat(hits)


def keep_running(success: Tensor, hits: Tensor, weight: float) -> Tensor:
    """The running success after one more batch, in place; it stays where the batch says nothing."""
    return success.lerp_(hits.where(hits.isfinite(), success), weight)


def _losses(logits: Tensor, aims: Tensor, own: Tensor) -> Tensor:
    """(n,) -log p of the class that is aimed at, or of all classes together but the image's own."""
    logarithms, away = logits.log_softmax(1), aims == ELSEWHERE
    toward = logarithms.gather(1, aims.where(~away, own)[:, None]).flatten()
    elsewhere = logarithms.scatter(1, own[:, None], -math.inf).logsumexp(1)
    return -torch.where(away, elsewhere, toward)


def _parts(classes: int, pixels_each: int) -> Iterator[slice]:
    """Classes that do not fit into one forward pass take turns."""
    at_once = max(1, PIXELS_AT_ONCE // pixels_each)
    return (slice(first, first + at_once) for first in range(0, classes, at_once))


@torch.no_grad()
def _goes_on(search: Search, best: list[Perturbation], succeeds: Tensor) -> bool:
    """Keep what succeeds and is smaller; whether any class shrank, or grew toward its first success."""
    change, sizes = search.change(slice(None)), search.sizes(slice(None)).tolist()
    going_on = False
    for place, (works, size) in enumerate(zip(succeeds.tolist(), sizes, strict=True)):
        old = best[place]
        best[place] = replace(old, tried=max(size, old.tried))
        if works and size < old.size:
            going_on = going_on or size < IMPROVED * old.size
            best[place] = replace(best[place], change=change.pick(place), size=size)
        elif math.isinf(old.size):
            going_on = going_on or size > GREW * old.tried
    return going_on
