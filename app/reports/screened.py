"""What a screening says in sentences; the renderers share them, as they share `wording` for reports.

Never says that a model has a backdoor: it says how many inputs were flagged, and how many chance alone would flag.
"""

from app.contract.screening import Decision, Scored, Screening
from app.reports.legible import legible, name
from app.reports.numerals import count, number, percent
from app.reports.wording import class_name

SHOWN = 10  # inputs, where there is little room
UNLIKELY = 0.005  # for each of two rates: together 1 % false alarms
LIMITS = {
    "repair": "A score says that the repair changed what the model makes of an input. What the repair leaves of a "
    "backdoor is not seen.",
    "margin": "A score says that something outlives the clean task in what the model makes of an input. Clean images "
    "of the class that a backdoor aims at look alike; triggers that fade with the clean task are not seen.",
    "five_metrics": "A score says that an input keeps or changes its class where clean images do otherwise. Triggers "
    "that cover the image look like clean ones.",
}
MEASURED = {
    "repair": "Score: how far a repaired model departs from what the model says of the input, in nats; what has no "
    "trigger, a repair hardly touches.",
    "margin": "Score: by how much models that lost the clean task, by unlearning and by wrong labels, still give the "
    "input its class.",
    "five_metrics": "Score: how unlike clean images the input behaves when parts of it are exchanged with clean images "
    "and noise is added; the model was asked for classes alone.",
}


def measured(screening: Screening) -> str:
    """What the scores measure, and what one costs."""
    each = count(screening.forwards)
    return f"{MEASURED[screening.detector]} Each input costs {each} forward passes."


def more_than_chance(screening: Screening) -> bool:
    """Whether so many inputs were flagged that they would hardly all be clean."""
    return any(decision.chance < UNLIKELY for decision in screening.decisions)


def headline(screening: Screening) -> str:
    """What became of it in one sentence: the rate that is hardest to explain by chance."""
    promised = [decision for decision in screening.decisions if decision.bound is not None]
    if not promised:
        return f"Nothing is flagged: {too_few(screening)}"
    what = "More inputs are" if more_than_chance(screening) else "No more inputs are"
    least = min(promised, key=lambda decision: decision.chance)
    return f"{what} flagged than chance explains — {decided(screening, least)}"


def decided(screening: Screening, decision: Decision) -> str:
    """How many were flagged at one rate, beside what chance would flag."""
    at = f"at {percent(decision.rate)} false alarms"
    if decision.bound is None:
        return f"{at}: {too_few(screening)}"
    expected = number(decision.expected_false_alarms)
    return (
        f"{at}: {count(decision.flagged)} of {count(screening.suspects.n)} flagged, "
        f"{expected} expected if all were clean (chance {decision.chance:.2g})"
    )


def too_few(screening: Screening) -> str:
    """Why a rate is not promised."""
    return f"{count(screening.calibrated_on)} clean images are too few to say"


def flagged_at(screening: Screening, scored: Scored) -> str:
    """The strictest rate at which an input is flagged; empty where it is at none."""
    rates = [d.rate for d in screening.decisions if d.bound is not None and scored.score > d.bound]
    return percent(min(rates)) if rates else ""


def summary(screening: Screening) -> str:
    """Decisions, the most suspicious inputs and warnings, as plain text."""
    lines = [decided(screening, decision) for decision in screening.decisions]
    lines += ["", "most suspicious first (p: how often a clean image scores at least as high)"]
    lines += [
        f"{number(scored.score):>8}  p {scored.p_value:.3f}  "
        f"class {class_name(screening, scored.said, 20):<20} {name(scored.name, 100)}"
        for scored in screening.scored[:SHOWN]
    ]
    warnings = [f"warning: {legible(one.detail)} {legible(one.remedy)}" for one in screening.warnings]
    return "\n".join([*lines, "", LIMITS[screening.detector], *warnings])
