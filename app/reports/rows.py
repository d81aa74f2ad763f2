"""Pictures that have one row per class or layer: shares, accuracies, mask histograms. Numbers in, SVG out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.reports.scales import Scale
from app.reports.svg import box, disc, element, feet, label, line, picture

WIDTH = 480
_NAMES = 112
_TOP = 30
_ROW = 22


@dataclass(frozen=True, slots=True)
class Span:
    """A proportion and its interval."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f} %, n = {self.n})"


@dataclass(frozen=True, slots=True)
class Row:
    """One class: its name in at most 16 characters, whether it is under suspicion, and its numbers."""

    name: str
    marked: bool
    shares: tuple[float, ...] = ()
    before: Span | None = None
    after: Span | None = None


def shares(
    key: str, title: str, description: str, rows: Sequence[Row], panels: Sequence[str], even: float
) -> Markup:
    """One column of bars per panel, one row per class; a dotted line where all classes would be equal."""
    gap = 18
    wide = (WIDTH - _NAMES - gap * len(panels)) / len(panels)
    bottom = _TOP + _ROW * len(rows)
    parts = _row_names(rows)
    for index, panel in enumerate(panels):
        start = _NAMES + index * (wide + gap)
        scale = Scale(0, 1, start, start + wide)
        parts += [
            label(start, 7, panel, "panel"),
            line((start, _TOP - 4), (start, bottom), "axis"),
            line((scale(even), _TOP - 4), (scale(even), bottom), "even"),
            label(scale.start, bottom + 12, "0", "tick"),
            label(scale.end, bottom + 12, "100 %", "tick", "end"),
        ]
        parts += [
            _share_bar(scale, row, row.shares[index], _middle(at), panel) for at, row in enumerate(rows)
        ]
    return picture(key, title, description, (WIDTH, bottom + 26), parts)


def _share_bar(scale: Scale, row: Row, share: float, y: float, panel: str) -> Markup:
    css = "bar marked" if row.marked else "bar"
    note = f"{row.name}, {panel}: {100 * share:.1f} %"
    end = scale(share)
    # A bar that leaves no room behind it carries its number inside.
    inside = end > scale.end - 30
    number = label(
        end - 4 if inside else end + 4,
        y,
        _whole(share),
        "inside" if inside else "over",
        "end" if inside else "start",
    )
    return box(scale.start, y - 6, max(end - scale.start, 0.5), 12, css, note) + number


def accuracies(key: str, title: str, description: str, rows: Sequence[Row]) -> Markup:
    """Accuracy per class with intervals: before hollow and above, after solid and below."""
    high = 26
    bottom = _TOP + high * len(rows)
    spans = [span for row in rows for span in (row.before, row.after) if span is not None and span.n]
    # Dots, unlike bars, may start anywhere: the axis begins at the quarter below the lowest interval.
    quarter = math.floor(4 * min((span.low for span in spans), default=0.0))
    ticks = [step / 4 for step in range(min(quarter, 3), 5)]
    scale = Scale(ticks[0], 1, _NAMES, WIDTH - 78)
    parts = _row_names(rows, high)
    parts += [line((scale(tick), _TOP - 4), (scale(tick), bottom), "rule") for tick in ticks]
    parts.append(feet(scale, ticks, bottom, _whole))
    if any(row.after for row in rows):
        parts.append(label(WIDTH, 7, "change, points", "tick", "end"))
    for at, row in enumerate(rows):
        y = _middle(at, high)
        if row.before is not None:
            parts += _whisker(scale, row.before, y - (4 if row.after else 0), "before", row.name)
        if row.after is not None:
            parts += _whisker(scale, row.after, y + 4, "after", row.name)
        parts.append(label(WIDTH, y, _change(row), "tick", "end"))
    return picture(key, title, description, (WIDTH, bottom + 26), parts)


def _whisker(scale: Scale, span: Span, y: float, css: str, who: str) -> list[Markup]:
    if span.n == 0:
        return [label(scale.start, y, f"{css}: no images", "tick")]
    note = f"{who}, {css}: {span}"
    return [
        line((scale(span.low), y), (scale(span.high), y), f"whisker {css}"),
        disc(scale(span.value), y, f"dot {css}", note, 3.5),
    ]


def _change(row: Row) -> str:
    if row.before is None or row.after is None or not (row.before.n and row.after.n):
        return ""
    change = round(100 * (row.after.value - row.before.value), 1)
    return f"{change:+.1f}".replace("-", "−") if change else "0.0"


def histogram(
    key: str, title: str, description: str, bins: Sequence[int], *, pruned_to: float | None
) -> Markup:
    """A small histogram over [0, 1]; heights are square roots, so that a single filter can still be seen."""
    wide, high = 240, 30
    most = math.sqrt(max([*bins, 1]))
    step = wide / max(len(bins), 1)
    parts = [line((0, high), (wide, high), "axis")]
    for index, count in enumerate(bins):
        if not count:
            continue
        start, tall = index * step + 0.75, max(math.sqrt(count) / most * (high - 3), 2)
        note = f"mask {index / len(bins):.2f} to {(index + 1) / len(bins):.2f}: {count}"
        parts.append(box(start, high - tall, step - 1.5, tall, "bar", note))
        fallen = min((pruned_to or 0) * wide - start, step - 1.5)
        if fallen > 0:
            parts.append(box(start, high - tall, fallen, tall, "bar marked", note))
    if pruned_to is not None:
        parts.append(line((pruned_to * wide, 0), (pruned_to * wide, high + 3), "cut"))
    return picture(key, title, description, (wide, high + 3), parts)


def _row_names(rows: Sequence[Row], high: int = _ROW) -> list[Markup]:
    return [
        label(0, _middle(at, high), row.name, "row marked" if row.marked else "row")
        for at, row in enumerate(rows)
    ]


def _middle(at: int, high: int = _ROW) -> float:
    return _TOP + high * (at + 0.5)


def _whole(share: float) -> str:
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def badge(shape: str, title: str) -> Markup:
    """The sign of a verdict: its form alone tells it apart, without colour."""
    forms = {
        "backdoored": ("polygon", "7,1 17,1 23,7 23,17 17,23 7,23 1,17 1,7", "!"),
        "suspicious": ("polygon", "12,2 23,22 1,22", "!"),
        "inconclusive": ("polygon", "12,1 23,12 12,23 1,12", "?"),
        "clean": ("polygon", "2,2 22,2 22,22 2,22", "–"),
    }
    tag, places, sign = forms[shape]
    height = 16 if shape == "suspicious" else 12
    return picture(
        "verdict",
        title,
        "The sign of the verdict.",
        (24, 24),
        [element(tag, points=places, class_="sign"), label(12, height, sign, "sign-text", "middle")],
    )
