"""Numbers as people read them: percent, points, counts, intervals, durations and sizes."""

from app.contract.report import Estimate, PairedChange

MINUS = "−"


def percent(share: float) -> str:
    """A share of one as `90.2 %`."""
    return f"{_fixed(100 * share)} %"


def points(change: float) -> str:
    """A difference of two shares as `−0.6 points`."""
    return f"{signed(100 * change)} points"


def signed(value: float) -> str:
    """A number with one decimal and its sign; zero has none."""
    text = _fixed(value)
    return text if text.startswith(MINUS) or float(text) == 0 else f"+{text}"


def number(value: float) -> str:
    """A measured number with three significant digits."""
    if value == 0:
        return "0"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", MINUS)


def count(value: int) -> str:
    """`1,200`."""
    return f"{value:,}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """`1 filter`, `24 filters`."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def interval(estimate: Estimate) -> str:
    """The 95 % interval of a proportion."""
    return f"{_fixed(100 * estimate.low)} to {percent(estimate.high)}"


def estimate(value: Estimate) -> str:
    """A proportion, or that there was nothing to measure it on."""
    return percent(value.value) if value.n else "not measured (n = 0)"


def change_interval(change: PairedChange) -> str:
    """The 95 % interval of a paired change, in points."""
    return f"{signed(100 * change.low)} to {points(change.high)}"


def duration(seconds: float) -> str:
    """`8.3 s`, `1 min 12 s`, `2 h 5 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(octets: int) -> str:
    """Bytes in decimal units, as file managers show them."""
    value = float(octets)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _fixed(value: float) -> str:
    text = f"{value:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", MINUS)
