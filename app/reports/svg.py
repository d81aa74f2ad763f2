"""Inline SVG from values: every text is escaped; colours and type are left to the style sheet."""

from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from app.reports.legible import legible
from app.reports.scales import Scale


def element(tag: str, *children: str, **attributes: str | float) -> Markup:
    """One element; a trailing underscore frees a Python keyword, other underscores become dashes."""
    pairs = Markup().join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in attributes.items()
    )
    inside = Markup().join(child if isinstance(child, Markup) else legible(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(tag, pairs, inside)


def picture(
    key: str, title: str, description: str, size: tuple[float, float], content: Iterable[Markup]
) -> Markup:
    """A whole drawing that a screen reader can name; `key` must be unique on the page."""
    width, height = size
    drawing = Markup(
        '<svg class="picture" role="img" viewBox="0 0 {width} {height}"'
        ' aria-labelledby="{key}-title {key}-desc">{title}{description}{content}</svg>'
    )
    return drawing.format(
        width=_value(width),
        height=_value(height),
        key=key,
        title=element("title", title, id=f"{key}-title"),
        description=element("desc", description, id=f"{key}-desc"),
        content=Markup().join(content),
    )


def line(start: tuple[float, float], end: tuple[float, float], css: str) -> Markup:
    """A straight line."""
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=css)


def polyline(places: Sequence[tuple[float, float]], css: str) -> Markup:
    """A line through all places."""
    return element("polyline", points=_places(places), class_=css)


def polygon(places: Sequence[tuple[float, float]], css: str) -> Markup:
    """A closed, filled shape."""
    return element("polygon", points=_places(places), class_=css)


def disc(x: float, y: float, css: str, note: str = "", radius: float = 3) -> Markup:
    """A circle that says `note` when pointed at."""
    return element("circle", *hint(note), cx=x, cy=y, r=radius, class_=css)


def box(x: float, y: float, width: float, height: float, css: str, note: str = "") -> Markup:
    """A rectangle that says `note` when pointed at."""
    return element("rect", *hint(note), x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=css)


def label(x: float, y: float, content: str, css: str, anchor: str = "start", note: str = "") -> Markup:
    """Text, its middle on the height `y`."""
    return element("text", content, *hint(note), x=x, y=y, dy="0.35em", class_=css, text_anchor=anchor)


def hint(note: str) -> tuple[Markup, ...]:
    """The tooltip of an element, if there is something to say."""
    return (element("title", note),) if note else ()


def rungs(
    y: Scale, ticks: Sequence[float], span: tuple[float, float], show: Callable[[float], str]
) -> Markup:
    """Horizontal grid lines over `span`, with their numbers to the left."""
    return Markup().join(
        line((span[0], y(tick)), (span[1], y(tick)), "rule")
        + label(span[0] - 7, y(tick), show(tick), "tick", "end")
        for tick in ticks
    )


def feet(x: Scale, ticks: Sequence[float], height: float, show: Callable[[float], str]) -> Markup:
    """Numbers below a horizontal axis that lies at `height`."""
    return Markup().join(
        line((x(tick), height), (x(tick), height + 4), "axis")
        + label(x(tick), height + 14, show(tick), "tick", "middle")
        for tick in ticks
    )


def _places(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_value(x)},{_value(y)}" for x, y in places)


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
