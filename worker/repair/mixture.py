"""Mixtures of images: two laid over each other, or a window of one in another. Knows tensors alone."""

import torch
from torch import Tensor


def mixture(pixels: Tensor, draw: torch.Generator) -> Tensor:
    """As many mixtures of the images (n, c, h, w), each with another one of them.

    A coin decides for the whole batch: mixup (Zhang et al., ICLR 2018), a weight for each image, or CutMix (Yun et al.,
    ICCV 2019), one window for all. Weights and areas are drawn evenly.
    """
    partners = pixels[torch.randperm(len(pixels), generator=draw).to(pixels.device)]
    weight = torch.rand(len(pixels), 1, 1, 1, generator=draw)
    if torch.rand((), generator=draw) < 0.5:
        return pixels.lerp(partners, weight.to(pixels.device))
    mixed = pixels.clone()
    rows, columns = (_window(length, weight[0], draw) for length in pixels.shape[2:])
    mixed[:, :, rows, columns] = partners[:, :, rows, columns]
    return mixed


def _window(length: int, area: Tensor, draw: torch.Generator) -> slice:
    """A side whose square is `area` of the whole, around a drawn middle; what sticks out is cut."""
    half = float(area.sqrt()) * length / 2
    middle = int(torch.randint(length, (), generator=draw))
    return slice(max(0, round(middle - half)), round(middle + half))
