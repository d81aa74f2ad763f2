"""Curves over epochs, and accuracy against pruned filters: numbers in, SVG out. Knows nothing of reports."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.reports.scales import Scale, counting_ticks, round_ticks, spread
from app.reports.svg import box, disc, feet, label, line, picture, polygon, polyline, rungs

WIDTH = 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 96, 24, 24
_LABEL_GAP = 15
_SKEW = 30  # largest over smallest positive count, from which an axis of counts is logarithmic


@dataclass(frozen=True, slots=True)
class Curve:
    """One named line; `css` gives it its colour and dash."""

    name: str
    css: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis measures, from where to where, and how its numbers read."""

    name: str
    low: float
    high: float
    show: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Option:
    """One operating point: how many filters it prunes and what accuracy that leaves."""

    pruned: int
    value: float
    low: float
    high: float
    allowed: bool
    note: str
    relearned: bool = False  # stands beside the curve of what pruning alone gives


@dataclass(frozen=True, slots=True)
class Measured:
    """What triggered samples showed of one operating point."""

    pruned: int
    success: float
    relearned: bool

    def __str__(self) -> str:
        done = f"{self.pruned} pruned{', rest relearned' if self.relearned else ''}"
        return f"{done}: attack success {100 * self.success:.1f} %"


def curves(
    key: str, title: str, description: str, lines: Sequence[Curve], y: Axis, *, x_name: str, height: int = 150
) -> Markup:
    """Lines over epochs, each named at its end."""
    epochs = [x for curve in lines for x, _ in curve.points]
    right, floor = WIDTH - _RIGHT, height - _BOTTOM
    across = Scale(min(epochs), max(epochs), _LEFT, right)
    up = Scale(y.low, y.high, floor, _TOP)
    ticks = [tick for tick in round_ticks(across.low, across.high, 6) if tick == int(tick)]
    parts = [
        label(0, 7, y.name, "panel"),
        rungs(up, round_ticks(y.low, y.high, 3), (_LEFT, right), y.show),
        feet(across, ticks, floor, "{:.0f}".format),
        label(right + 10, floor + 14, x_name, "tick"),
    ]
    for curve in lines:
        parts.append(polyline([(across(x), up(v)) for x, v in curve.points], f"curve {curve.css}"))
        parts += [
            disc(across(x), up(v), f"dot {curve.css}", f"{x_name} {x:.0f}, {curve.name}: {y.show(v)}", 2)
            for x, v in curve.points
        ]
    parts += _end_labels(lines, up, right, y)
    return picture(key, title, description, (WIDTH, height), parts)


def _end_labels(lines: Sequence[Curve], up: Scale, right: float, y: Axis) -> list[Markup]:
    ends = spread([up(curve.points[-1][1]) for curve in lines], _LABEL_GAP, _TOP, up.start)
    return [
        label(right + 10, place, f"{curve.name} {y.show(curve.points[-1][1])}", f"name {curve.css}")
        for curve, place in zip(lines, ends, strict=True)
    ]


def tradeoff(
    key: str,
    title: str,
    description: str,
    options: Sequence[Option],
    *,
    floor: float,
    marked: int | None,
    mark: str,
) -> Markup:
    """Accuracy with its interval against pruned filters, the least that is allowed, and the point that was marked."""
    height = 300
    right, bottom = WIDTH - 12, height - 42
    across = _across(options, right)
    lowest = min(min(option.low for option in options), floor)
    up = Scale(max(math.floor(lowest * 20 - 0.5) / 20, 0.0), 1.0, bottom, _TOP)
    walked = [option for option in options if not option.relearned]
    band = [(across(o.pruned), up(o.high)) for o in walked] + [
        (across(o.pruned), up(o.low)) for o in reversed(walked)
    ]
    parts = [
        label(0, 7, "graded accuracy on the selecting split, with 95 % interval", "panel"),
        rungs(up, round_ticks(up.low, 1.0, 6), (_LEFT, right), lambda tick: f"{100 * tick:.0f} %"),
        *_counting(across, bottom, right),
        polygon(band, "band"),
        line((_LEFT, up(floor)), (right, up(floor)), "budget"),
        label(_LEFT + 4, up(floor) + 11, f"budget: at least {100 * floor:.1f} %", "name budget-name"),
        polyline([(across(o.pruned), up(o.value)) for o in walked], "curve after"),
    ]
    parts += [
        disc(across(o.pruned), up(o.value), "dot after" if o.allowed else "dot refused", o.note, 3.5)
        for o in walked
    ]
    parts += [
        box(across(o.pruned) - 4, up(o.value) - 4, 8, 8, "dot after" if o.allowed else "dot refused", o.note)
        for o in options
        if o.relearned
    ]
    if marked is not None:
        parts += _marked(across(options[marked].pruned), up(options[marked].value), bottom, mark)
    return picture(key, title, description, (WIDTH, height), parts)


def evaluation(
    key: str,
    title: str,
    description: str,
    points: Sequence[Measured],
    *,
    span: Sequence[Option],
    marked: Measured | None,
) -> Markup:
    """Attack success on the same horizontal axis as `tradeoff`, in a picture of its own."""
    height = 180
    right, bottom = WIDTH - 12, height - 42
    across = _across(span, right)
    up = Scale(0.0, 1.0, bottom, _TOP)
    parts = [
        label(0, 7, "attack success on triggered samples", "panel"),
        rungs(up, [0.0, 0.5, 1.0], (_LEFT, right), lambda tick: f"{100 * tick:.0f} %"),
        *_counting(across, bottom, right),
        polyline([(across(p.pruned), up(p.success)) for p in points if not p.relearned], "curve evaluated"),
    ]
    parts += [box(across(p.pruned) - 3, up(p.success) - 3, 6, 6, "dot evaluated", str(p)) for p in points]
    if marked is not None:
        parts.append(disc(across(marked.pruned), up(marked.success), "ring", str(marked), 7.5))
    return picture(key, title, description, (WIDTH, height), parts)


def _across(options: Sequence[Option], right: float) -> Scale:
    counts = [option.pruned for option in options]
    smallest = min((pruned for pruned in counts if pruned), default=1)
    skewed = max(counts) > _SKEW * smallest or (len(counts) > 3 and max(counts) > _SKEW)
    return Scale(0, max(*counts, 1), _LEFT + 6, right - 6, math.log1p if skewed else float)


def _counting(across: Scale, bottom: float, right: float) -> list[Markup]:
    bent = across.bend is math.log1p
    top = int(across.high)
    ticks = counting_ticks(top) if bent else [tick for tick in round_ticks(0, top, 6) if tick == int(tick)]
    name = "pruned filters, logarithmic" if bent else "pruned filters"
    return [
        line((_LEFT, bottom), (right, bottom), "axis"),
        feet(across, ticks, bottom, "{:,.0f}".format),
        label(right, bottom + 31, name, "tick", "end"),
    ]


def _marked(x: float, y: float, bottom: float, mark: str) -> list[Markup]:
    # The label sits on the side with more paper, half way down, where neither band nor budget usually is.
    leftward = x > WIDTH / 2
    place = y + (bottom - y) * 0.55
    return [
        line((x, y + 8), (x, bottom), "lead"),
        disc(x, y, "ring", mark, 7.5),
        label(x + (-8 if leftward else 8), place, mark, "name chosen", "end" if leftward else "start"),
    ]
