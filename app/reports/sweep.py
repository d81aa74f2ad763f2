"""The operating points in two pictures that never mix: what chose among them, and what triggered samples showed."""

from app.contract.report import Candidate, Outcome, Report
from app.reports import charts
from app.reports.figure import Figure
from app.reports.numerals import count, percent, plural, points


def tradeoff(report: Report) -> Figure | None:
    """Accuracy against pruned filters, with the budget and the point that was chosen, or came nearest."""
    candidates = report.repair.candidates
    if not candidates:
        return None
    first, marked = candidates[0], _marked(report)
    floor = first.accuracy.value - first.change.value - report.options.prune.accuracy_budget
    allowed = sum(candidate.within_budget for candidate in candidates)
    shows = f"{plural(len(candidates), 'operating point')} measured, {allowed} within budget."
    mark = ""
    if marked is not None:
        point = candidates[marked]
        what = "chosen" if report.outcome is Outcome.REPAIRED else "least bad, refused"
        relearned = ", rest relearned" if point.rung == "relearn" else ""
        mark = f"{what}: {count(point.pruned)} pruned{relearned}, {percent(point.accuracy.value)}"
        shows += f" {mark[0].upper()}{mark[1:]}."
        if point.taught_again:
            shows += " That is its accuracy before the selecting images taught it as well."
    picture = charts.tradeoff(
        "tradeoff",
        "Accuracy against pruned filters",
        shows,
        [_option(candidate) for candidate in candidates],
        floor=max(floor, 0.0),
        marked=marked,
        mark=mark,
    )
    return Figure(shows, picture)


def evaluated(report: Report) -> Figure | None:
    """Attack success at the same operating points, if triggered samples were given."""
    candidates = report.repair.candidates
    measured = [found for found in map(_measured, candidates) if found is not None]
    if not measured:
        return None
    marked = _marked(report)
    point = candidates[marked] if marked is not None else None
    low, high = min(m.success for m in measured), max(m.success for m in measured)
    shows = f"Attack success lies between {percent(low)} and {percent(high)}."
    if point is not None and point.attack_success is not None:
        shows = f"Attack success at the marked point: {percent(point.attack_success)}. {shows}"
    picture = charts.evaluation(
        "evaluated",
        "Attack success against pruned filters, evaluation only",
        shows,
        measured,
        span=[_option(candidate) for candidate in candidates],
        marked=_measured(point) if point is not None else None,
    )
    return Figure(shows, picture)


def _marked(report: Report) -> int | None:
    repair = report.repair
    marked = repair.chosen if report.outcome is Outcome.REPAIRED else repair.best_candidate
    return marked if marked is not None and marked < len(repair.candidates) else None


def _measured(candidate: Candidate) -> charts.Measured | None:
    if candidate.attack_success is None:
        return None
    return charts.Measured(candidate.pruned, candidate.attack_success, candidate.rung == "relearn")


def _option(candidate: Candidate) -> charts.Option:
    accuracy = candidate.accuracy
    allowed = "within budget" if candidate.within_budget else "outside the budget"
    relearned = candidate.rung == "relearn"
    done = f"{count(candidate.pruned)} pruned{', rest relearned' if relearned else ''}"
    note = f"{done}: {percent(accuracy.value)}, {points(candidate.change.value)}, {allowed}"
    return charts.Option(
        candidate.pruned,
        accuracy.value,
        accuracy.low,
        accuracy.high,
        candidate.within_budget,
        note,
        relearned,
    )
