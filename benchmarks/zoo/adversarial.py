"""Images that a network no longer recognises, for clean-label attacks that need them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.zoo.training import normalise

STEPS, STRIDE, BATCH = 10, 1.5 / 10, 250  # a stride is this share of the radius


def leave_class(model: nn.Module, pixels: Tensor, labels: Tensor, radius: float) -> Tensor:
    """Move uint8 images (n, 3, h, w) away from their class, each pixel by at most `radius` grey levels.

    Projected gradient descent (Madry et al., 2018) against `model` in eval mode, from the images themselves.
    """
    model.eval()
    batches = zip(pixels.split(BATCH), labels.split(BATCH), strict=True)
    return torch.cat([_descend(model, part.float(), truth, radius) for part, truth in batches])


def _descend(model: nn.Module, images: Tensor, labels: Tensor, radius: float) -> Tensor:
    moved = images.clone()
    for _ in range(STEPS):
        moved.requires_grad_()
        loss = F.cross_entropy(model(normalise(moved)), labels)
        (slope,) = torch.autograd.grad(loss, moved)
        moved = moved.detach() + STRIDE * radius * slope.sign()
        moved = torch.clamp(moved, images - radius, images + radius).clamp(0, 255)
    return moved.round().to(torch.uint8)
