"""Where and in which number format the arithmetic runs, chosen by a quick measurement.

Knows devices; knows nothing of models, samples or jobs. A choice needs a clear margin, so that a noisy moment does not
flip it: equal runs on one machine must make equal choices, or their reports would differ.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.errors import OptionsError

MARGIN = 1.25  # how many times faster something must be before it replaces the plain choice
ROUNDS = 200  # of one comparison, at most
BUDGET = 0.25  # seconds for one comparison; an emulated number format is a hundred times slower
PROBE_IMAGES = {"cpu": 4, "cuda": 512}  # enough that a call is arithmetic, not the launching of it


@dataclass(frozen=True, slots=True)
class Placement:
    """A device, the dtype of its matrix products and the layout of its images."""

    device: torch.device
    precision: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format

    def take(self, module: nn.Module) -> nn.Module:
        """The module itself, moved here."""
        module.to(self.device, memory_format=self.memory_format)  # type: ignore[call-overload]  # the stubs' lack
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
    images = torch.ones(PROBE_IMAGES[device.type], 64, 16, 16)
    weight = torch.ones(64, 64, 3, 3)

    def convolve(precision: torch.dtype, layout: torch.memory_format) -> Callable[[], Tensor]:
        inputs, filters = (t.to(device, precision, memory_format=layout) for t in (images, weight))
        return lambda: F.conv2d(inputs, filters, padding=1)

    plain, low = seconds(
        convolve(torch.float32, torch.contiguous_format), convolve(torch.bfloat16, torch.contiguous_format)
    )
    precision = torch.bfloat16 if low * MARGIN < plain else torch.float32
    contiguous, channels_last = seconds(
        convolve(precision, torch.contiguous_format), convolve(precision, torch.channels_last)
    )
    # Convolutions alone profit little; BatchNorm and pooling between them profit more, so a tie goes to channels last.
    layout = torch.contiguous_format if contiguous * MARGIN < channels_last else torch.channels_last
    return Placement(device, precision, layout)


def seconds(*works: Callable[[], Tensor]) -> list[float]:
    """Least time of one call of each, after one that warms up; waits for the device.

    They take turns, so that a busy moment of the machine hits all alike, and the least time is the one least disturbed.
    """
    for work in works:
        _seconds(work)
    best = [math.inf] * len(works)
    finish, round_ = time.perf_counter() + BUDGET, 0
    while round_ == 0 or (round_ < ROUNDS and time.perf_counter() < finish):
        best = [min(least, _seconds(work)) for least, work in zip(best, works, strict=True)]
        round_ += 1
    return best


def _seconds(work: Callable[[], Tensor]) -> float:
    started = time.perf_counter()
    if work().is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
