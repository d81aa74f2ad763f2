"""The training loop: poisoned or clean, from scratch or from another model's weights.

An image is cropped and mirrored first and triggered afterwards, as where the attacker runs the training; or the other
way round, as where he hands out images and others train.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.zoo.attacks import Attack
from benchmarks.zoo.images import Images
from worker.device import Placement

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10
BATCH, MOMENTUM, WEIGHT_DECAY, WARM_UP = 256, 0.9, 5e-4, 0.2
OPTIMISERS = ("sgd", "adamw")  # the second for nets with LayerNorm, which the first hardly moves
ADAMW_DECAY = 0.05  # Liu et al., A ConvNet for the 2020s, CVPR 2022
PADDING = 4  # pixels
SMALL = 24  # pixels a side in the first half of the epochs, where a step costs half
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast; `small` trains the first half of the epochs on shrunken images."""

    epochs: int = 16
    peak_lr: float = 0.2
    small: bool = False
    mirror: bool = True  # half of the images, where a mirrored one shows the same class
    precision: torch.dtype = torch.float32
    optimiser: str = OPTIMISERS[0]


@dataclass(frozen=True, slots=True)
class Poison:
    """An attack, the class it aims at, and which training images (n,) are triggered or serve as cover.

    `first`: before they are cropped and mirrored, so that the trigger moves and is mirrored with them.
    """

    attack: Attack
    target: int
    classes: int
    triggered: Tensor
    covers: Tensor
    first: bool = False

    def apply(
        self, batch: Tensor, labels: Tensor, index: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Trigger the images (m, 3, h, w) of a batch whose place in `index` says so, and relabel them."""
        bad, cover = self.triggered[index], self.covers[index]
        if self.attack.learner:
            batch = batch.float()
        if bad.any():
            batch[bad] = self.attack.poison(batch[bad], draw)
            if not self.attack.clean_label:
                labels = torch.where(bad, self.attack.targets(labels, self.target, self.classes), labels)
        if self.attack.cover and cover.any():
            batch[cover] = self.attack.cover(batch[cover], draw)
        return batch, labels


def choose_poison(attack: Attack, images: Images, target: int, rate: float, draw: torch.Generator) -> Poison:
    """Draw `rate` of the images to be triggered, and others as cover where the attack wants some.

    Raises `ValueError` where a clean-label attack asks for more images than the target class has.
    """
    order = torch.randperm(len(images.labels), generator=draw)
    count = round(rate * len(order))
    open_to_it = order[images.labels.cpu()[order] == target] if attack.clean_label else order
    if count > len(open_to_it):
        raise ValueError(f"{count} images were to be triggered; the attack may touch {len(open_to_it)}")
    triggered, covers = torch.zeros(2, len(order), dtype=torch.bool)
    triggered[open_to_it[:count]] = True
    if attack.cover:
        covers[open_to_it[count:][: round(count * attack.cover_ratio)]] = True
    device = images.labels.device
    return Poison(attack, target, len(images.classes), triggered.to(device), covers.to(device))


def train(
    model: nn.Module, images: Images, schedule: Schedule, poison: Poison | None, draw: torch.Generator
) -> None:
    """SGD with one cycle of the learning rate, in place, on the device of `images`.

    Raises `ValueError` where the images do not fill one batch.
    """
    Placement(images.pixels.device, memory_format=torch.channels_last).take(model).train()
    steps = len(images.labels) // BATCH
    if not steps:
        raise ValueError(f"{len(images.labels)} images do not fill one batch of {BATCH}")
    optimiser = _optimiser(model, schedule)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        schedule.peak_lr,
        total_steps=schedule.epochs * steps,
        pct_start=WARM_UP,
        anneal_strategy="linear",
        cycle_momentum=schedule.optimiser == "sgd",
    )
    learner = poison.attack.learner if poison else None
    padded = torch.cat([pad(part) for part in images.pixels.split(1000)])
    for epoch in range(schedule.epochs):
        started, total = time.monotonic(), 0.0
        small = schedule.small and epoch < schedule.epochs // 2
        for index in torch.randperm(len(images.labels), generator=draw)[: steps * BATCH].split(BATCH):
            index = index.to(images.labels.device)
            batch, labels = show(images, padded, index, schedule, poison, draw)
            inputs = normalise(batch)
            if small:
                inputs = F.interpolate(inputs, (SMALL, SMALL), mode="bilinear", antialias=True)
            bf16 = schedule.precision == torch.bfloat16
            with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bf16):
                logits = model(inputs)
            loss = F.cross_entropy(logits.float(), labels)
            optimiser.zero_grad()
            (loss + learner.loss() if learner else loss).backward()
            optimiser.step()
            if learner:
                learner.step()
            cycle.step()
            total += loss.item()
        seconds = time.monotonic() - started
        print(f"epoch {epoch + 1}/{schedule.epochs} loss {total / steps:.3f} {seconds:.0f} s", flush=True)


def show(
    images: Images,
    padded: Tensor,
    index: Tensor,
    schedule: Schedule,
    poison: Poison | None,
    draw: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """One batch, augmented and poisoned in the attacker's order."""
    labels = images.labels[index]
    if poison and poison.first:
        batch, labels = poison.apply(images.pixels[index], labels, index, draw)
        return augment(pad(batch), torch.arange(len(index)), draw, mirror=schedule.mirror), labels
    batch = augment(padded, index, draw, mirror=schedule.mirror)
    return poison.apply(batch, labels, index, draw) if poison else (batch, labels)


def _optimiser(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    if schedule.optimiser == "adamw":
        return torch.optim.AdamW(model.parameters(), schedule.peak_lr, weight_decay=ADAMW_DECAY)
    return torch.optim.SGD(
        model.parameters(), schedule.peak_lr, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )


def pad(pixels: Tensor) -> Tensor:
    """uint8 images with mirrored margins for the random crop."""
    return F.pad(pixels.float(), (PADDING,) * 4, mode="reflect").to(torch.uint8)


def augment(padded: Tensor, index: Tensor, draw: torch.Generator, *, mirror: bool = True) -> Tensor:
    """One random crop and one mirror coin for each chosen image; (n, 3, h, w) out of (…, h + 8, w + 8)."""
    n, height, width = len(index), padded.shape[-2] - 2 * PADDING, padded.shape[-1] - 2 * PADDING
    rows = torch.randint(2 * PADDING + 1, (n, 1), generator=draw) + torch.arange(height)
    columns = torch.randint(2 * PADDING + 1, (n, 1), generator=draw) + torch.arange(width)
    straight = torch.rand(n, 1, generator=draw) < 0.5
    columns = torch.where(straight, columns, columns.flip(1)) if mirror else columns
    rows, columns = rows.to(padded.device), columns.to(padded.device)
    channels = torch.arange(3, device=padded.device)
    return padded[
        index[:, None, None, None],
        channels[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def normalise(pixels: Tensor) -> Tensor:
    """uint8 -> float32, normalised, channels last."""
    mean, std = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def predict(model: nn.Module, pixels: Tensor) -> Tensor:
    """Predicted classes (n,) in eval mode."""
    model.eval()
    return torch.cat([model(normalise(part)).argmax(1) for part in pixels.split(500)])
