"""The report for a pull request: a short Markdown comment that names can neither break nor use to summon people."""

import re
from collections.abc import Iterator

from app.contract.findings import Signal
from app.contract.report import BeforeAfter, Outcome, Report
from app.contract.screening import Screening
from app.reports import screened
from app.reports.legible import legible, name
from app.reports.numerals import change_interval, count, duration, estimate, interval, number, points
from app.reports.wording import (
    LIMITS,
    against,
    best_candidate,
    beyond,
    class_name,
    evaluation,
    headline,
    looked_at,
    returned,
    what_was_done,
)

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~!&])")
_WORD_JOINER = "\u2060"  # keeps GitHub from reading a mention or an address


def render(report: Report) -> str:
    """The report as GitHub-flavoured Markdown."""
    blocks = [
        f"### {prose(headline(report))}",
        prose(report.verdict.because),
        prose(returned(report)),
        *_objections(report),
        _metrics(report),
        prose(looked_at(report)),
        *_signals(report),
        *_notes(report),
        _reproduce(report.reproduce),
        _record(report),
        LIMITS,
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def render_screening(screening: Screening) -> str:
    """The screening as GitHub-flavoured Markdown."""
    blocks = [
        f"### {prose(screened.headline(screening))}",
        "\n".join(f"- {prose(screened.decided(screening, decision))}" for decision in screening.decisions),
        "\n".join(_scores(screening)),
        *_notes(screening),
        _reproduce(screening.reproduce),
        _record(screening),
        screened.LIMITS[screening.detector],
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _scores(screening: Screening) -> Iterator[str]:
    head = ("Most suspicious first", "Class", "Score", "p", "Flagged at")
    yield _line(head)
    yield _line(("---",) * len(head))
    for scored in screening.scored[: screened.SHOWN]:
        said = prose(class_name(screening, scored.said))
        told = (number(scored.score), f"{scored.p_value:.3f}", screened.flagged_at(screening, scored))
        yield _line((prose(name(scored.name)), said, *told))


def _record(report: Report | Screening) -> str:
    facts = [f"Model {_code(report.model.name)}, {_code(report.model.digest)}"]
    if report.kind == "screen":
        facts.append(f"inputs {_code(report.suspects.name)}, {_code(report.suspects.digest)}")
    if report.kind == "sanitize":
        facts.append(f"returned {_code(report.result_digest)}")
    facts.append(f"confinement {report.environment.confinement.level.value}")
    return " · ".join([*facts, f"seed {report.seed}", duration(report.timings.get("total_s", 0.0))])


def prose(text: str) -> str:
    """Text that Markdown shows as it is."""
    shown = _SPECIAL.sub(r"\\\1", legible(text))
    for trap in ("@", "www.", "://"):
        shown = shown.replace(trap, trap[0] + _WORD_JOINER + trap[1:])
    return shown


def _code(text: str) -> str:
    shown = legible(text)
    fence = "`" * (_longest_run(shown) + 1)
    return f"{fence} {shown} {fence}" if "`" in shown else f"`{shown}`"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _objections(report: Report) -> list[str]:
    best = best_candidate(report)
    if report.outcome is not Outcome.NOT_REPAIRED or best is None:
        return []
    lines = [f"{what_was_done(best)} came nearest. Against it:", ""]
    return ["\n".join(lines + [f"- {prose(objection)}" for objection in against(report, best)])]


def _metrics(report: Report) -> str:
    metrics = report.metrics
    repaired = report.outcome is Outcome.REPAIRED
    head = ("Measure", "Before", "After", "n") if repaired else ("Measure", "Value", "n")
    table = [
        _line(head),
        _line(("---",) * len(head)),
        _measure("Clean accuracy", metrics.clean_accuracy, repaired=repaired),
    ]
    if metrics.attack_success:
        table.append(_measure("*Evaluation only:* attack success", metrics.attack_success, repaired=repaired))
    if metrics.robust_accuracy:
        table.append(
            _measure("*Evaluation only:* robust accuracy", metrics.robust_accuracy, repaired=repaired)
        )
    below = []
    if repaired:
        change = metrics.clean_change
        below.append(
            f"Clean accuracy changed by {points(change.value)} on the same images ({change_interval(change)}; "
            f"{count(change.lost)} lost, {count(change.gained)} gained, n = {count(change.n)})."
        )
    if metrics.attack_success is None:
        below.append(evaluation(report))
    return "\n".join([*table, "", " ".join(below)]).rstrip()


def _measure(name: str, pair: BeforeAfter, *, repaired: bool) -> str:
    shown = (pair.before, pair.after) if repaired else (pair.before,)
    return _line((name, *(f"{estimate(value)} ({interval(value)})" for value in shown), count(pair.before.n)))


def _signals(report: Report) -> list[str]:
    if not report.verdict.signals:
        return []
    head = ("Signal", "Value", "Fires when", "Fires", "Adds", "Calibrated on")
    table = [_line(head), _line(("---",) * len(head))]
    return ["\n".join(table + [_signal(report, signal) for signal in report.verdict.signals])]


def _signal(report: Report, signal: Signal) -> str:
    fires = "**yes**" if signal.fires else "no"
    if signal.fires and signal.target_class is not None:
        fires += f", class {prose(class_name(report, signal.target_class))}"
    adds = "–" if signal.weight is None else number(signal.weight)
    return _line((prose(signal.name), number(signal.value), beyond(signal), fires, adds, prose(signal.null)))


def _notes(report: Report | Screening) -> list[str]:
    notes = [f"- Not done: {prose(skip.what)} — {prose(skip.reason)}" for skip in report.skipped]
    notes += [f"- Warning: {prose(warning.detail)} {prose(warning.remedy)}" for warning in report.warnings]
    return ["\n".join(notes)] if notes else []


def _reproduce(command: str) -> str:
    shown = legible(command)
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}sh\n{shown}\n{fence}"


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
