"""Patches from coarse to fine: first where a patch works best, then the smallest patch from there.

A mask that starts everywhere slides into the nearest place that works, and natural features work in the middle. The
trigger of a net of others, a row of nine pixels at the lower edge, was missed by four such starts and is what this
finds (decision 28). So opaque windows all over the image are tried for a few steps, then smaller ones inside the best
that do not overlap, and in the best of those masks start. Knows tensors; knows nothing of jobs, files or HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from app.contract.job import Stage
from app.contract.options import PerturbationOptions
from worker.classifier import Classifier
from worker.detectors.forms import Patch
from worker.detectors.perturbation import Perturbation
from worker.detectors.trigger import attack, keep_running, walk
from worker.frozen import frozen
from worker.progress import SILENT, Progress
from worker.samples.interface import SampleSet

PARTS = 4  # of the side of an image, of which one is that of a window
ALONG, FINER = 7, 3  # windows along an image, and half as large ones along a window; they overlap by a half
STEPS, IMAGES = 0.08, 0.5  # times those of the search; after 12 of 16 the place of a planted patch stands out
LATEST = 0.3  # weight of the latest batch in the success of a window
PLACES = 4  # where masks start
INSIDE, OUTSIDE = -1.0, -7.0  # logits of a mask that starts in a window: 27 % opaque there, 0.1 % elsewhere


@dataclass(frozen=True, slots=True)
class Window:
    """One place, in pixels from the upper left."""

    rows: slice
    columns: slice

    def parts(self) -> "tuple[Window, ...]":
        """Those of half the side in it."""
        return _grid(*(_along(side, 2, FINER) for side in (self.rows, self.columns)))

    def overlaps(self, other: "Window") -> bool:
        """Whether some pixel is in both."""
        return _meet(self.rows, other.rows) and _meet(self.columns, other.columns)


class Opaque(Patch):
    """Windows that show anything, and nothing around them: how much works there."""

    def __init__(
        self, room: tuple[int, ...], device: torch.device, draw: torch.Generator, windows: Sequence[Window]
    ) -> None:
        super().__init__(room, device, draw)
        self.cost.zero_()
        _lay(self.mask, windows, torch.inf, -torch.inf)

    @property
    def moving(self) -> Sequence[Tensor]:
        """See `Search`; the windows stay."""
        return (self.pattern,)


class Within(Patch):
    """Patches that start inside one window each."""

    def __init__(
        self, room: tuple[int, ...], device: torch.device, draw: torch.Generator, windows: Sequence[Window]
    ) -> None:
        super().__init__(room, device, draw)
        _lay(self.mask, windows, INSIDE, OUTSIDE)


def patches_in_places(
    suspect: Classifier,
    clean: SampleSet,
    classes: Sequence[int],
    options: PerturbationOptions,
    seed: int,
    progress: Progress = SILENT,
) -> tuple[Perturbation, ...]:
    """For each class the smallest patch from each of its best places."""
    draw = torch.Generator().manual_seed(seed)
    device, room = suspect.placement.device, clean.images.shape[1:]
    asked = frozen(suspect, clean.images[:1])
    scout = _Scout(asked, clean, options, draw, progress)
    starts = [(k, place) for k in classes for place in scout.places(k)]
    ways = [k for k, _ in starts]
    search = Within((len(ways), *room), device, draw, [place for _, place in starts])
    return tuple(walk(search, asked, clean, ways, options, draw, progress))


@dataclass(frozen=True, slots=True)
class _Scout:
    """Looks where masks should start."""

    asked: Classifier
    clean: SampleSet
    options: PerturbationOptions
    draw: torch.Generator
    progress: Progress

    def places(self, target: int) -> list[Window]:
        """In the best windows that do not overlap, the best part of each."""
        everywhere = _windows(*self.clean.images.shape[2:])
        best = _best(everywhere, self.worth(target, everywhere))
        parts = [window.parts() for window in best]
        worth = self.worth(target, [part for some in parts for part in some])
        each = worth.split([len(some) for some in parts])
        return [some[int(of.argmax())] for some, of in zip(parts, each, strict=True)]

    def worth(self, target: int, windows: Sequence[Window]) -> Tensor:
        """The share of images that each window soon turns, (windows,)."""
        targets, device = torch.full((len(windows),), target), self.asked.placement.device
        search = Opaque((len(windows), *self.clean.images.shape[1:]), device, self.draw, windows)
        size, steps = (
            max(1, round(share * of))
            for share, of in ((IMAGES, self.options.batch_size), (STEPS, self.options.steps))
        )
        success = torch.zeros(len(windows))
        for number in range(1, steps + 1):
            index = torch.randint(len(self.clean), (size,), generator=self.draw)
            images, labels = self.clean.images[index], self.clean.labels[index]
            keep_running(success, attack(search, self.asked, images, labels, targets), LATEST)
            search.step()
            self.progress.step(Stage.PERTURB, number, steps, success=success.mean().item())
        return success


@torch.no_grad()
def _lay(masks: Tensor, windows: Sequence[Window], inside: float, outside: float) -> None:
    """Write into each mask, (k, 1, h, w), its window."""
    masks.fill_(outside)
    for mask, window in zip(masks, windows, strict=True):
        mask[:, window.rows, window.columns] = inside


def _windows(height: int, width: int) -> tuple[Window, ...]:
    return _grid(*(_along(slice(0, side), PARTS, ALONG) for side in (height, width)))


def _grid(rows: Sequence[slice], columns: Sequence[slice]) -> tuple[Window, ...]:
    return tuple(Window(*pair) for pair in product(rows, columns))


def _along(side: slice, parts: int, count: int) -> tuple[slice, ...]:
    """So many slices of one side, from end to end, each as long as one of its parts."""
    length = max(1, round((side.stop - side.start) / parts))
    firsts = torch.linspace(side.start, side.stop - length, count).round().int().unique().tolist()
    return tuple(slice(first, first + length) for first in firsts)


def _best(windows: Sequence[Window], worth: Tensor) -> list[Window]:
    """The best that do not overlap, at most `PLACES`."""
    chosen: list[Window] = []
    for place in worth.argsort(descending=True, stable=True).tolist():
        if not any(windows[place].overlaps(one) for one in chosen):
            chosen.append(windows[place])
    return chosen[:PLACES]


def _meet(one: slice, other: slice) -> bool:
    return bool(one.start < other.stop and other.start < one.stop)
