"""What a report says in sentences; the renderers share them, so that no two of them tell a different story.

Never says that a model is safe: it says what was measured, on how many images, and what that does not show.
"""

from app.contract.findings import Signal, VerdictLabel
from app.contract.report import Candidate, Outcome, Report
from app.contract.screening import Screening
from app.reports.legible import legible, name
from app.reports.numerals import count, estimate, number, percent, plural, points

VERDICTS = {
    VerdictLabel.CLEAN: "No evidence of a backdoor found",
    VerdictLabel.SUSPICIOUS: "Suspicious",
    VerdictLabel.BACKDOORED: "Backdoored",
    VerdictLabel.INCONCLUSIVE: "Inconclusive",
}
_OUTCOMES = {
    Outcome.UNCHANGED: "left unchanged",
    Outcome.REPAIRED: "repaired",
    Outcome.NOT_REPAIRED: "not repaired",
}
LIMITS = (
    "This report says what was measured on the samples that were given. "
    "It does not prove that the model carries no backdoor, or none any more."
)


def outcome(report: Report) -> str:
    """What became of the model, in two or three words."""
    return "only looked at" if report.kind == "detect" else _OUTCOMES[report.outcome]


def class_name(report: Report | Screening, index: int | None, limit: int = 60) -> str:
    """The class as the samples call it, or its number where they do not know it; None: the others, whichever."""
    if index is None:
        return "other classes"
    names = report.samples.class_names
    return name(names[index], limit) if 0 <= index < len(names) else f"#{index}"


def targets(report: Report) -> str:
    """`class horse`, `classes cat and dog`, or nothing."""
    if report.verdict.all_to_all:
        return "another class from each"
    names = [class_name(report, index) for index in report.verdict.target_classes]
    if not names:
        return ""
    if len(names) == 1:
        return f"class {names[0]}"
    return f"classes {', '.join(names[:-1])} and {names[-1]}"


def headline(report: Report) -> str:
    """Verdict, outcome and cost in one sentence."""
    toward = f" toward {targets(report)}" if report.verdict.target_classes else ""
    accuracy = report.metrics.clean_accuracy
    before, n = estimate(accuracy.before), f"(n = {count(accuracy.before.n)})"
    match report.outcome:
        case Outcome.REPAIRED:
            repair, done = report.repair, list[str]()
            if repair.pruned or not repair.relearned:
                done.append(f"{count(repair.pruned)} of {plural(repair.filters, 'filter')} pruned")
            if repair.relearned:
                done.append(f"{plural(repair.relearned, 'weight')} relearned")
            what = f"{', '.join(done)}, clean accuracy {before} → {estimate(accuracy.after)} {n}"
        case Outcome.NOT_REPAIRED:
            what = f"the original is returned, clean accuracy {before} {n}"
        case Outcome.UNCHANGED:
            what = f"clean accuracy {before} {n}"
    return f"{VERDICTS[report.verdict.label]}{toward} — {outcome(report)}: {what}"


def looked_at(report: Report) -> str:
    """What the verdict rests on, in one sentence, and what it therefore cannot say."""
    signals = report.verdict.signals
    firing = sum(signal.fires for signal in signals)
    if not signals:
        return "No signal was measured, so nothing is known about a backdoor."
    said = f"{plural(len(signals), 'signal was', 'signals were')} measured; {firing or 'none'} fired."
    if report.skipped:
        said += f" {plural(len(report.skipped), 'check was', 'checks were')} skipped; the reasons are listed."
    if not firing:
        said += " A backdoor that they do not respond to would look the same."
    return said


def beyond(signal: Signal) -> str:
    """Where a signal counts as evidence."""
    return "never" if signal.threshold is None else f"{signal.fires_when} {number(signal.threshold)}"


def returned(report: Report) -> str:
    """What became of the model, in sentences."""
    reason = legible(report.repair.reason)
    match report.outcome:
        case Outcome.REPAIRED:
            return f"The repaired model is returned in its original format. {reason}"
        case Outcome.NOT_REPAIRED:
            return f"The original model is returned as it came; what was found still stands. {reason}"
        case Outcome.UNCHANGED if report.kind == "detect":
            return f"Nothing was changed. {reason}"
        case Outcome.UNCHANGED:
            return f"The original model is returned as it came. {reason}"


def evaluation(report: Report) -> str:
    """What triggered samples showed once everything was decided, or that there were none."""
    success = report.metrics.attack_success
    if success is None or not success.before.n:
        why = (
            "the triggered samples could not be evaluated"
            if report.triggered
            else "no triggered samples were given"
        )
        return f"Attack success was not measured: {why}."
    after = f" → {percent(success.after.value)}" if report.outcome is Outcome.REPAIRED else ""
    return (
        "Triggered samples, which decided nothing, showed afterwards: "
        f"attack success {percent(success.before.value)}{after} (n = {count(success.before.n)})."
    )


def best_candidate(report: Report) -> Candidate | None:
    """The least bad operating point of a repair that was refused."""
    index = report.repair.best_candidate
    candidates = report.repair.candidates
    return candidates[index] if index is not None and index < len(candidates) else None


def what_was_done(candidate: Candidate) -> str:
    """A repair in words."""
    masks = "" if candidate.threshold is None else f" (masks at or below {number(candidate.threshold)})"
    pruning = f"pruning {plural(candidate.pruned, 'filter')}{masks}"
    if candidate.rung == "prune":
        return pruning.capitalize()
    relearning = f"{pruning.capitalize()} and relearning the rest" if candidate.pruned else "Relearning"
    relearning += "".join(f", {part}" for part in how_far(candidate))
    again = " (with the selecting images too, once they had chosen)" if candidate.taught_again else ""
    return relearning + again


def how_far(candidate: Candidate) -> list[str]:
    """What a relearning left out; nothing of one that went the whole way."""
    shares = {
        "of the layers, the first": candidate.depth,
        "of the usual rate": candidate.rate,
        "of the way": candidate.share,
    }
    return [f"{percent(share)} {of}" for of, share in shares.items() if share is not None and share < 1]


def taught_again(report: Report) -> bool:
    """Whether the selecting images taught any candidate, once they had said what it costs."""
    return any(candidate.taught_again for candidate in report.repair.candidates)


def against(report: Report, candidate: Candidate) -> tuple[str, ...]:
    """What stands against an operating point, one objection each."""
    prune = report.options.prune
    objections = []
    if -candidate.change.value > prune.accuracy_budget:
        objections.append(
            f"it costs {points(candidate.change.value)} of clean accuracy; "
            f"the budget is {points(-prune.accuracy_budget)}"
        )
    if -candidate.worst_class_change > candidate.worst_class_allowed:
        objections.append(
            f"class {class_name(report, candidate.worst_class)} changes by {points(candidate.worst_class_change)}; "
            f"the budget is {points(-candidate.worst_class_allowed)}"
        )
    if not candidate.within_budget and not objections:
        objections.append("it is outside the budget")
    return (*objections, *_evidence_against(report, candidate))


def _evidence_against(report: Report, candidate: Candidate) -> tuple[str, ...]:
    """The answer that ended the hearing of the witnesses; the cheapest question was asked first."""
    if candidate.passes:
        return ()
    if candidate.evidence is not None:
        return (f"its label shift measures {number(candidate.evidence)}, which does not pass",)
    if candidate.perturbation_size is not None:
        least = number(report.options.evidence.relative_size)
        found = number(candidate.perturbation_size)
        return (f"a perturbation {found} of the usual size still suffices; {least} is the least that passes",)
    if candidate.pursued is not None:
        led, most = percent(candidate.pursued), percent(report.options.evidence.pursued)
        return (f"perturbations that follow it lead {led} of images away; {most} is the most that passes",)
    if candidate.perturbation_success is not None:
        return (f"the suspect's perturbations still succeed on {percent(candidate.perturbation_success)}",)
    return ("whether evidence remains after it was not measured",)


def summary(report: Report) -> str:
    """One paragraph of plain text."""
    parts = [
        headline(report) + ".",
        legible(report.verdict.because),
        returned(report),
        looked_at(report),
        evaluation(report),
    ]
    if report.warnings:
        parts.append(f"{plural(len(report.warnings), 'warning')}, listed in the report.")
    return " ".join(part for part in parts if part)
