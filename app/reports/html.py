"""The report for people: one HTML file without script, without requests, that also prints.

Whatever is printed passes two gates that no template can forget: `legible` for hidden characters, autoescape for
markup.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel

from app.contract.options import SanitizeOptions
from app.contract.report import Outcome, Report
from app.contract.screening import Screening
from app.reports import figures, numerals, rows, screened, sweep, wording
from app.reports.legible import legible

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
LISTED = 100  # inputs of a screening; the JSON has all of them


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One option beside its default."""

    name: str
    value: str
    default: str

    @property
    def differs(self) -> bool:
        """Whether the job was told something else than the default."""
        return self.value != self.default


def render(report: Report) -> str:
    """The report as one self-contained page; equal reports give equal text."""
    options = option_rows(report.options)
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            policy=CONTENT_SECURITY_POLICY,
            repaired=report.outcome is Outcome.REPAIRED,
            badge=rows.badge(report.verdict.label.value, f"Verdict: {report.verdict.label.value}"),
            best=wording.best_candidate(report),
            figures=figures,
            sweep=sweep,
            wording=wording,
            options=options,
            options_changed=[row for row in options if row.differs],
        )
    )


def render_screening(screening: Screening, sheet: bytes) -> str:
    """The screening as one self-contained page, with its contact sheet (PNG) where there is one."""
    options = option_rows(screening.options)
    return (
        _environment()
        .get_template("screening.html")
        .render(
            report=screening,
            policy=CONTENT_SECURITY_POLICY,
            sheet=b64encode(sheet).decode(),
            listed=screening.scored[:LISTED],
            screened=screened,
            wording=wording,
            options=options,
            options_changed=[row for row in options if row.differs],
        )
    )


def option_rows(options: SanitizeOptions) -> tuple[OptionRow, ...]:
    """Every option by its dotted name, in the order of the model."""
    defaults = dict(_flat(SanitizeOptions()))
    return tuple(OptionRow(name, value, defaults[name]) for name, value in _flat(options))


def _flat(options: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, BaseModel):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _option(value)


def _option(value: object) -> str:
    match value:
        case None:
            return "not set"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case _:
            return str(value)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters.update(_FILTERS)
    return environment


def _shown(value: object) -> object:
    return legible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _tight(text: str) -> str:
    """Keep numbers and their units, and `n = 100`, on one line."""
    for loose, firm in ((" %", "\u00a0%"), ("n = ", "n\u00a0=\u00a0"), (" points", "\u00a0points")):
        text = text.replace(loose, firm)
    return text


def _each(per_class: Sequence[int]) -> str:
    """How many images a class has, from the poorest to the richest."""
    low, high = min(per_class), max(per_class)
    return (
        f"{numerals.count(low)} each"
        if low == high
        else f"{numerals.count(low)} to {numerals.count(high)} each"
    )


def _breakable(dotted: str) -> Markup:
    """A parameter's name in code type that may break after its dots."""
    return Markup("<code>{}</code>").format(Markup(".<wbr>").join(legible(dotted).split(".")))


_FILTERS: Mapping[str, object] = {
    "breakable": _breakable,
    "change_interval": numerals.change_interval,
    "count": numerals.count,
    "each": _each,
    "duration": numerals.duration,
    "estimate": numerals.estimate,
    "interval": numerals.interval,
    "number": numerals.number,
    "percent": numerals.percent,
    "plural": numerals.plural,
    "points": numerals.points,
    "size": numerals.size,
    "tight": _tight,
}
