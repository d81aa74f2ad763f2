"""Perturbations that follow a model, so that a whole place is closed and not one way through it.

What is recovered from a suspect is the smallest thing that works. Its trigger is something else in the same place, and
a model that was taught to ignore the one may obey the other: a VGG that had lost every patch of 2.5 pixels still
obeyed the 16 white ones behind it. So the search goes on against the model as it is by now (minimax, as Zeng et al.,
Adversarial Unlearning of Backdoors via Implicit Hypergradient, ICLR 2022), inside what evidence may look like and no
further: a patch shows anything where its mask was found, and where that is no compact place it is as opaque as natural
ways into a class are at most; a dense perturbation is as large as evidence may be. Whatever is beyond is a way through
natural features.

Warps are not followed: that cost three points of accuracy and left as much of WaNet. Knows tensors; has no way to be
given a triggered sample.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from app.contract.job import Stage
from app.contract.options import PerturbationOptions
from worker.classifier import Classifier
from worker.detectors.forms import Dense, Patch, Search
from worker.detectors.perturbation import Blend, Form, Perturbation, relative_size, typical_size
from worker.detectors.trigger import attack
from worker.frozen import frozen
from worker.progress import SILENT, Progress
from worker.samples.interface import SampleSet

COMPACT = 1 / 16  # of an image; a place no larger holds no natural feature, and may be opaque as a whole
VISIBLE = (
    0.05  # opaque, or half of the most opaque pixel; a patch starts there everywhere, so less says nothing
)
STEPS = 60  # of one pursuit of a model that stands still, at most
IMAGES = 2  # times those of a search for all classes; it aims at one


class Place(Patch):
    """Anything in the place of some patches: where a mask of theirs is visible, and one pixel around.

    Of the first so many that make a compact place together; at least of one.
    """

    lr = 0.3  # at 0.1 the pattern follows too slowly: 52 % of an attack was left instead of 2

    def __init__(self, changes: Sequence[Blend], limit: float, device: torch.device) -> None:
        masks = torch.cat([1 - change.keep for change in changes]).to(device)
        super().__init__((1, *changes[0].add.shape[1:]), device, torch.Generator())
        most = masks.amax((1, 2, 3), keepdim=True)
        visible = (0.5 * most).clamp(max=VISIBLE)  # a veil that never got opaque has its place as well
        places = F.max_pool2d((masks > visible).float(), 3, 1, 1)
        together = places.cummax(0).values
        fitting = max(1, int((together.mean((1, 2, 3)) <= COMPACT).sum()))
        self.place, masks = together[fitting - 1 : fitting], masks[:fitting]
        area = self.place.sum().item()
        mask, which = masks.max(0, keepdim=True)  # each pixel as the most opaque patch has it
        self.limit = area if area <= COMPACT * mask.numel() else min(limit, area)
        self.cost.zero_()  # the limit binds instead
        least = torch.finfo(mask.dtype).eps
        added = torch.cat([change.add for change in changes]).to(device)
        shown = added.gather(0, which.expand(1, *added.shape[1:]))
        with torch.no_grad():
            self.mask.copy_(mask.logit(least))
            self.pattern.copy_((shown / mask.clamp(min=least)).logit(least))

    def change(self, part: slice) -> Blend:
        """See `Search`."""
        mask = self.place * self.mask[part].sigmoid()
        return Blend(1 - mask, mask * self.pattern[part].sigmoid())

    def sizes(self, part: slice) -> Tensor:
        """See `Search`."""
        return (self.place * self.mask[part].sigmoid()).sum((1, 2, 3))

    @torch.no_grad()
    def step(self) -> None:
        """See `Search`."""
        super().step()
        excess = self.sizes(slice(None)).item() / self.limit
        if excess > 1:
            self.mask.copy_((self.mask.sigmoid() / excess).logit())


class Bounded(Dense):
    """Any dense perturbation up to a size."""

    def __init__(self, change: Blend, limit: float, device: torch.device) -> None:
        super().__init__(change.add.shape, device, torch.Generator())
        self.radius.fill_(limit)
        with torch.no_grad():
            self.inside.copy_(change.add)


@dataclass(frozen=True, slots=True)
class Follower:
    """One search on its way, and what it aims at."""

    target_class: int
    form: Form
    search: Search

    def follow(self, classifier: Classifier, images: Tensor, labels: Tensor) -> None:
        """One step against the classifier as it is now, on uint8 images."""
        attack(self.search, classifier, images, labels, torch.tensor([self.target_class]))
        self.search.step()

    def perturbation(self) -> Perturbation:
        """Where it stands."""
        everything = slice(None)
        size = self.search.sizes(everything).item()
        return Perturbation(self.target_class, self.form, self.search.change(everything).pick(0), size)


def followers(
    found: Sequence[Perturbation], among: Sequence[Perturbation], line: float, device: torch.device
) -> Iterator[Follower]:
    """One for the patches into a class and one for its smallest dense perturbation, starting where they were recovered.

    `line`: the relative size below which a perturbation is evidence. Beyond it are ways through natural features.
    """
    evidence: dict[tuple[int, Form], list[Perturbation]] = {}
    for one in sorted(found, key=lambda p: p.size):
        if relative_size(one, among) < line:
            evidence.setdefault((one.target_class, one.form), []).append(one)
    for (k, form), alike in evidence.items():
        typical = typical_size(alike[0], among)
        changes = [one.change for one in alike if isinstance(one.change, Blend)]
        if form is Form.PATCH:
            yield Follower(k, form, Place(changes, typical, device))
        elif form is Form.DENSE:
            yield Follower(k, form, Bounded(changes[0], line * typical, device))


def pursue(
    repaired: Classifier,
    clean: SampleSet,
    suspects: Sequence[Follower],
    options: PerturbationOptions,
    seed: int,
    progress: Progress = SILENT,
) -> tuple[Perturbation, ...]:
    """What the followers make of a model that stands still."""
    draw = torch.Generator().manual_seed(seed)
    asked = frozen(repaired, clean.images[:1])
    steps = min(STEPS, options.steps)
    for step in range(1, steps + 1):
        index = torch.randint(len(clean), (IMAGES * options.batch_size,), generator=draw)
        for follower in suspects:
            follower.follow(asked, clean.images[index], clean.labels[index])
        progress.step(Stage.VERIFY, step, steps)
    return tuple(follower.perturbation() for follower in suspects)
