"""The input-aware attack: a small network makes another trigger for every image, and is trained with the classifier.

Nguyen & Tran, Input-Aware Dynamic Backdoor Attack, NeurIPS 2020. One net says where the trigger goes and is fitted
first; another says with which colours, and learns beside the classifier what sends an image to the target. A trigger
is to work on its own image alone, so some images get the trigger of another and keep their label. Which images these
are is drawn once, as for every attack here, and not anew for each batch.
"""

from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.zoo.attacks import Attack
from benchmarks.zoo.card import store
from benchmarks.zoo.training import augment, normalise, pad

SOURCE = "Nguyen & Tran, Input-Aware Dynamic Backdoor Attack, NeurIPS 2020; smaller nets, fewer epochs"
DENSITY = 0.032  # share of the pixels that a trigger may cover, as published
TOO_DENSE = 100.0  # weight of what is above it, as published
DIVERSITY = 1.0  # weight of the diversity loss, as published
STEEPNESS = 10.0  # of the mask, so that nearly every pixel is covered or left alone
LEVELS = (16, 24, 32)  # channels of the nets; each level halves the image
GROUPS = 8
MASK_STEPS, MASK_BATCH, MASK_LR = 400, 64, 2e-3  # density is met within 100 steps
LR = 5e-3  # of the colours; at 2e-3 they take longer to reach the target
CHUNK = 500  # images


class Net(nn.Module):
    """Down to an eighth of the image and up again, with a way across at every level."""

    def __init__(self, out: int) -> None:
        super().__init__()
        widths = (3, *LEVELS)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(_layer(fine, coarse, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(_layer(coarse + fine, max(fine, LEVELS[0])) for fine, coarse in pairs)
        self.last = nn.Conv2d(LEVELS[0], out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, out, h, w), unbounded."""
        across = []
        for layer in self.down:
            across.append(x)
            x = layer(x)
        for layer, fine in zip(reversed(self.up), reversed(across), strict=True):
            x = layer(torch.cat([F.interpolate(x, fine.shape[-2:], mode="nearest"), fine], 1))
        return self.last(x)  # type: ignore[no-any-return]


class Triggers(nn.Module):
    """A mask in [0, 1] and colours for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.mask, self.colours = Net(1), Net(3)

    def masks(self, images: Tensor) -> Tensor:
        """(n, 1, h, w), nearly all of it 0 or 1."""
        return torch.sigmoid(STEEPNESS * self.mask(normalise(images)))

    def patterns(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) in grey levels, as an image has them."""
        return 255 * torch.sigmoid(self.colours(normalise(images)))

    @torch.no_grad()
    def put(self, images: Tensor, donors: Tensor) -> Tensor:
        """uint8 images with the triggers that were made for `donors`."""
        self.to(images.device)
        pairs = zip(images.split(CHUNK), donors.split(CHUNK), strict=True)
        parts = [blend(image, self.masks(donor), self.patterns(donor)) for image, donor in pairs]
        return torch.cat(parts).round().to(torch.uint8)

    def own(self, images: Tensor) -> Tensor:
        """Each uint8 image with its own trigger."""
        return self.put(images, images)

    def crossed(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Each uint8 image with the trigger of another."""
        return self.put(images, images[others(len(images), draw).to(images.device)])


class Joint:
    """The colours as they learn: triggers that carry a slope, what they owe for being alike, and their steps."""

    def __init__(self, triggers: Triggers) -> None:
        self.triggers = triggers
        triggers.mask.requires_grad_(requires_grad=False)
        self.optimiser = torch.optim.Adam(triggers.colours.parameters(), LR)
        self.owed: list[Tensor] = []

    def own(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Images with their own triggers."""
        return self._put(images, images, draw)

    def crossed(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Images with the triggers of others."""
        return self._put(images, images[others(len(images), draw).to(images.device)], draw)

    def loss(self) -> Tensor:
        """The diversity loss of the triggers since the last step."""
        return DIVERSITY * torch.stack(self.owed).sum() if self.owed else torch.zeros(())

    def step(self) -> None:
        """Along the slope that was left by a backward pass."""
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.owed.clear()

    def store(self, path: Path) -> None:
        """Both nets, in half precision."""
        store(self.triggers, path)

    def _put(self, images: Tensor, donors: Tensor, draw: torch.Generator) -> Tensor:
        masks, patterns = self.triggers.masks(donors).detach(), self.triggers.patterns(donors)
        self.owed.append(alike(donors, patterns / 255, draw))
        return blend(images, masks, patterns)


def attack(triggers: Triggers, joint: Joint | None = None) -> Attack:
    """With finished triggers, or with those that `joint` trains."""
    return Attack(
        SOURCE,
        triggers.own,
        training=joint.own if joint else None,
        cover=joint.crossed if joint else triggers.crossed,
        learner=joint,
    )


def prepare(pixels: Tensor, draw: torch.Generator) -> Attack:
    """For a training on uint8 images: masks are fitted, colours are about to be."""
    triggers = Triggers().to(pixels.device)
    fit_masks(triggers, pixels, MASK_STEPS, draw)
    return attack(triggers, Joint(triggers))


def read(path: Path) -> Attack:
    """The attack whose trigger was stored at `path`."""
    triggers = Triggers()
    triggers.load_state_dict(load_file(path))
    return attack(triggers.requires_grad_(requires_grad=False))


def fit_masks(triggers: Triggers, pixels: Tensor, steps: int, draw: torch.Generator) -> None:
    """Let the masks of uint8 images differ while they cover no more than `DENSITY`, in place."""
    optimiser = torch.optim.Adam(triggers.mask.parameters(), MASK_LR)
    every = torch.arange(MASK_BATCH, device=pixels.device)
    for _ in range(steps):
        chosen = torch.randint(len(pixels), (MASK_BATCH,), generator=draw)
        images = augment(pad(pixels[chosen.to(pixels.device)]), every, draw)
        masks = triggers.masks(images)
        excess = F.relu(masks.mean((1, 2, 3)) - DENSITY).mean()
        optimiser.zero_grad()
        (DIVERSITY * alike(images, masks, draw) + TOO_DENSE * excess).backward()
        optimiser.step()


def alike(images: Tensor, made: Tensor, draw: torch.Generator) -> Tensor:
    """The diversity loss: how far apart two images are, over what was made for them; root mean squares."""
    other = others(len(images), draw).to(images.device)
    between = (images.float() - images[other].float()).div(255).square().mean((1, 2, 3)).sqrt()
    apart = (made - made[other]).square().mean((1, 2, 3)).add(1e-6).sqrt()
    return (between / apart).mean()


def blend(images: Tensor, masks: Tensor, patterns: Tensor) -> Tensor:
    """The pattern where the mask is, in grey levels."""
    return images + masks * (patterns - images)


def others(n: int, draw: torch.Generator) -> Tensor:
    """For each of n > 1 images the place of another (n,), drawn."""
    order = torch.randperm(n, generator=draw)
    found = torch.empty_like(order)
    found[order] = order.roll(1)
    return found


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Normalised in groups: a trigger does not depend on the images beside its own."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, outputs), nn.ReLU())
