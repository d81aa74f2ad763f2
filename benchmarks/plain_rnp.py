"""RNP in its plainest form: the yardstick that our own is compared with, for its numbers and for its speed.

Li et al., ICML 2023, with the choices of the official code (bboylyg/RNP at eeae192): float32, NCHW, train-mode
BatchNorm, no clipping (the official bound is applied before `backward()`, where there is nothing to clip), gradients of
every parameter also while only the masks move, masks kept to four decimals, and a sweep of thresholds 0, 0.05, …, 0.9.
One thing is kinder than the official code: the weights are copied once for each threshold, not for each pruned filter.

Images are uint8 (n, c, h, w), `mean` and `std` (c, 1, 1) of pixels in [0, 1].
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PADDING = 4
MILESTONES = (10, 20)
ALPHA = 0.2
STOP_ACCURACY = 0.20
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(19))


@dataclass(frozen=True, slots=True)
class Data:
    """Labelled images, and how they are fed to a net."""

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    batch_size: int = 128
    augment: bool = True

    def normalise(self, images: Tensor) -> Tensor:
        """What the net takes."""
        return (images.to(self.mean.device).float() / 255 - self.mean) / self.std

    def shuffled(self, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass of normalised batches and their labels."""
        for index in torch.randperm(len(self.labels), generator=draw).split(self.batch_size):
            images = self.images[index]
            if self.augment:
                images = torch.stack([crop_and_mirror(image, draw) for image in images])
            yield self.normalise(images), self.labels[index].to(self.mean.device)


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose γ is multiplied by a mask; β is left alone."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.load_state_dict(norm.state_dict())
        self.mask = nn.Parameter(torch.ones_like(norm.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the batch while training, by the running statistics otherwise."""
        gamma, momentum = self.weight * self.mask, self.momentum or 0.0
        return F.batch_norm(
            x, self.running_mean, self.running_var, gamma, self.bias, self.training, momentum, self.eps
        )


def crop_and_mirror(image: Tensor, draw: torch.Generator) -> Tensor:
    """RandomCrop(size, padding=4) and a mirror with probability ½, of one image."""
    _, height, width = image.shape
    top, left = torch.randint(2 * PADDING + 1, (2,), generator=draw).tolist()
    crop = F.pad(image, (PADDING,) * 4)[:, top : top + height, left : left + width]
    return crop.flip(2) if torch.rand(1, generator=draw) < 0.5 else crop


@torch.no_grad()
def accuracy(net: nn.Module, data: Data) -> float:
    """Share of the images that the net gets right in eval mode."""
    net.eval()
    hits = 0
    for start in range(0, len(data.labels), data.batch_size):
        part = slice(start, start + data.batch_size)
        predictions = net(data.normalise(data.images[part])).argmax(1).cpu()
        hits += int((predictions == data.labels[part]).sum())
    return hits / len(data.labels)


def unlearn(net: nn.Module, data: Data, epochs: int, seed: int, stop: float = STOP_ACCURACY) -> nn.Module:
    """Stage 1: climb the clean loss until the accuracy while training falls to `stop`."""
    net = deepcopy(net)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, MILESTONES, gamma=0.1)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        net.train()
        hits = 0
        for images, labels in data.shuffled(draw):
            optimiser.zero_grad()
            logits = net(images)
            loss = F.cross_entropy(logits, labels)
            (-loss).backward()
            optimiser.step()
            hits += int((logits.argmax(1) == labels).sum())
        accuracy(net, data)  # the official code evaluates after every epoch, for its log
        schedule.step()
        if hits / len(data.labels) <= stop:
            break
    return net


def recover(unlearned: nn.Module, data: Data, epochs: int, seed: int) -> dict[str, Tensor]:
    """Stage 2: descend the clean loss through the masks alone; masks by the name of their BatchNorm."""
    net = masked(deepcopy(unlearned))
    masks = {name: part.mask for name, part in net.named_modules() if isinstance(part, MaskedBatchNorm2d)}
    optimiser = torch.optim.SGD(masks.values(), lr=0.2, momentum=0.9)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        net.train()
        for images, labels in data.shuffled(draw):
            optimiser.zero_grad()
            loss = ALPHA * F.cross_entropy(net(images), labels)
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                for mask in masks.values():
                    mask.clamp_(0, 1)
    return {name: mask.detach().cpu().round(decimals=4) for name, mask in masks.items()}


def masked(net: nn.Module) -> nn.Module:
    """The net itself, every BatchNorm replaced by one with a mask."""
    for name, part in net.named_children():
        if isinstance(part, nn.BatchNorm2d):
            setattr(net, name, MaskedBatchNorm2d(part).to(part.weight.device))
        else:
            masked(part)
    return net


def sweep(
    net: nn.Module, masks: dict[str, Tensor], data: Data, thresholds: tuple[float, ...] = THRESHOLDS
) -> list[tuple[float, int, float]]:
    """Stage 3: threshold, pruned filters and accuracy, for the net as it is and for each threshold."""
    ranked = sorted(
        ((value, name, index) for name, mask in masks.items() for index, value in enumerate(mask.tolist())),
        key=lambda entry: entry[0],
    )
    rows = [(-1.0, 0, accuracy(net, data))]
    for threshold in thresholds:
        dead = [(name, index) for value, name, index in ranked if value <= threshold]
        pruned = deepcopy(net)
        with torch.no_grad():
            for name, index in dead:
                pruned.get_parameter(f"{name}.weight")[index] = 0
        rows.append((threshold, len(dead), accuracy(pruned, data)))
    return rows
