"""From numbers to places on paper: scales, round ticks, and labels that do not overlap."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] onto [start, end]; `bend` straightens a skewed axis first."""

    low: float
    high: float
    start: float
    end: float
    bend: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        """Where the value lies on paper; never outside."""
        low, high = self.bend(self.low), self.bend(self.high)
        part = (self.bend(min(max(value, self.low), self.high)) - low) / (high - low) if high > low else 0.5
        return self.start + part * (self.end - self.start)


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that lie in [low, high]; roughly `about` of them."""
    if high <= low:
        return [low]
    raw = (high - low) / max(about - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * 0.75)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def round_top(high: float) -> float:
    """The end of an axis that starts at zero: the next multiple of its tick distance."""
    ticks = round_ticks(0, high if high > 0 else 1.0, 4)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high
    return math.ceil(high / step - 1e-9) * step if high > 0 else 1.0


def counting_ticks(high: int) -> list[float]:
    """0, 1, 3, 10, 30, … up to `high`: ticks of a logarithmic axis of counts."""
    ticks = [0.0]
    power = 1
    while power <= high:
        ticks += [float(power * factor) for factor in (1, 3) if power * factor <= high]
        power *= 10
    return ticks


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places moved apart as little as needed so that neighbours are `gap` apart within [low, high]."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    floor = low
    for index in order:
        moved[index] = floor = max(moved[index], floor)
        floor += gap
    ceiling = high
    for index in reversed(order):
        moved[index] = ceiling = min(moved[index], ceiling)
        ceiling -= gap
    return moved
