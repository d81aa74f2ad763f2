"""Where and in which number format the arithmetic runs, chosen by a quick measurement.

Knows devices; knows nothing of models, samples or jobs. A choice needs a clear margin, so that a noisy moment does not
flip it: equal runs on one machine must make equal choices, or their reports would differ.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.errors import OptionsError

MARGIN = 1.25  # how many times faster something must be before it replaces the plain choice
REPEATS = 5
IMAGE_DIMENSIONS = 4  # only (n, c, h, w) has a channels-last layout


@dataclass(frozen=True, slots=True)
class Placement:
    """A device, the dtype of its matrix products and the layout of its images."""

    device: torch.device
    precision: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format

    def take(self, module: nn.Module) -> nn.Module:
        """The module itself, moved here."""
        for parameter in (*module.parameters(), *module.buffers()):
            layout = self.memory_format if parameter.dim() == IMAGE_DIMENSIONS else torch.preserve_format
            parameter.data = parameter.data.to(self.device, memory_format=layout)
        return module

    def autocast(self) -> torch.autocast:
        """The context in which forward passes run."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)


def place(requested: Literal["auto", "cpu", "cuda"] = "auto") -> Placement:
    """The fastest placement of this machine. Raises `OptionsError` when CUDA was asked for and is not there."""
    if requested == "cuda" and not torch.cuda.is_available():
        raise OptionsError(
            "CUDA was asked for, but this machine has no usable CUDA device.",
            code="options.device",
            remedy="Use --device cpu or --device auto.",
        )
    cuda = requested != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    images = torch.randn(32, 64, 16, 16, device=device)
    weight = torch.randn(64, 64, 3, 3, device=device)

    def convolve(images: Tensor, weight: Tensor) -> Callable[[], Tensor]:
        return lambda: F.conv2d(images, weight, padding=1)

    plain = seconds(convolve(images, weight))
    low = seconds(convolve(images.bfloat16(), weight.bfloat16()))
    precision = torch.bfloat16 if low * MARGIN < plain else torch.float32
    images, weight = images.to(precision), weight.to(precision)
    last = {"memory_format": torch.channels_last}
    contiguous, channels_last = (
        seconds(convolve(images, weight)),
        seconds(convolve(images.contiguous(**last), weight.contiguous(**last))),
    )
    # Convolutions alone profit little; BatchNorm and pooling between them profit more, so a tie goes to channels last.
    layout = torch.contiguous_format if contiguous * MARGIN < channels_last else torch.channels_last
    return Placement(device, precision, layout)


def seconds(work: Callable[[], Tensor]) -> float:
    """Median time of one call, after one that warms up; waits for the device."""
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        result = work()
        if result.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[REPEATS // 2]
