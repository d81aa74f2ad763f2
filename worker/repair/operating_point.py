"""The operating point: the gentlest repair that leaves no evidence, chosen without any triggered sample.

Published RNP walks thresholds over the masks and lets a person look at the attack's success on poisoned test images.
Here the candidates are the same nested thresholds, but a candidate passes when (1) on images that fitted nothing the
paired loss of clean accuracy stays inside the budget, overall and for the worst class, and (2) the evidence is gone.
The smallest that passes is chosen. Where none does, a second rung relearns the weights: all of them, then those that
pruning leaves.
Relearning suppresses a backdoor rather than removes it, and unlearning still shows what is suppressed; so a relearned
model is judged by the perturbations alone where those expressed the backdoor. How much of it is affordable, selecting
images say of weights that they did not teach; then they teach as well, since a few hundred images are few, and what
they taught is asked for evidence and given back.

Knows masks, classifiers and the selecting split; has no way to be given a triggered sample.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Literal

from torch import nn

from app.contract.options import PruneOptions
from worker.classifier import Classifier
from worker.progress import SILENT, Progress
from worker.repair.evidence import Remaining
from worker.repair.gate import HOPELESS, WHOLE, Considered, Gate, Length, walk
from worker.rnp.masks import Filter, FilterMasks
from worker.samples.interface import SampleSet


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Nested candidates, smallest first, then relearned ones, and the index of the chosen; None: nothing passed."""

    considered: tuple[Considered, ...]
    chosen: int | None
    best: int | None  # the least bad when nothing passed
    reason: str

    @property
    def repair(self) -> Considered | None:
        """What was chosen."""
        return None if self.chosen is None else self.considered[self.chosen]


# How relearning is done: against what was recovered from the suspect, then against what follows the student besides,
# and where that costs too much, gently.
Round = Literal["recovered", "followers", "gently"]
ROUNDS: tuple[Round, ...] = ("recovered", "followers", "gently")
LAST = ROUNDS[-1]


@dataclass(frozen=True, slots=True)
class Way:
    """The way from what pruning leaves to relearned weights; both say what lies on it, at a length."""

    tried: Callable[[Length], nn.Module]  # taught by the fitting images alone
    # By the selecting ones as well; None: they do not teach.
    given: Callable[[Length], nn.Module] | None = None


@dataclass(frozen=True, slots=True)
class Short:
    """What was affordable of a way and left evidence."""

    filters: tuple[Filter, ...]
    way: Way
    length: Length
    dearer: Length | None  # what was tried last before it and cost too much

    @property
    def middle(self) -> Length | None:
        """Halfway to that."""
        if self.dearer is None:
            return None
        pairs = zip(astuple(self.length), astuple(self.dearer), strict=True)
        return Length(*(round((one + other) / 2, 3) for one, other in pairs))


# From pruned filters to the rest relearned; None: this round has nothing to add.
Relearn = Callable[[tuple[Filter, ...], Round], Way | None]


@dataclass(frozen=True, slots=True)
class Rungs:
    """What choosing asks of the pipeline, which knows the other witnesses."""

    evidence_left: Callable[[Considered], Remaining]
    relearn: Relearn | None  # None: this rung is not tried
    suppressing_suffices: bool = False  # a relearned model is judged by perturbations alone
    lengths: tuple[Length, ...] = (WHOLE,)  # of the way, tried until one is affordable
    quiet: float = 1.0  # success of what follows it beyond which another round is tried besides


def choose(
    suspect: Classifier,
    masks: FilterMasks,
    select: SampleSet,
    options: PruneOptions,
    rungs: Rungs,
    progress: Progress = SILENT,
) -> OperatingPoint:
    """Climb the rungs, gentlest first, and stop at the first candidate that passes."""
    gate = Gate(suspect, select, options)
    walked = walk(gate, masks, options, progress)
    affordable = [i for i, c in enumerate(walked) if c.candidate.within_budget]

    def ask(index: int) -> Remaining:
        left = rungs.evidence_left(walked[index])
        suppressed = left.suppressed and rungs.suppressing_suffices and walked[index].relearned is not None
        walked[index] = _asked(walked[index], left, silent=left.gone or suppressed)
        return left

    def passes(index: int) -> bool:
        ask(index)
        return walked[index].candidate.passes

    chosen = _first(affordable, passes)
    if chosen is not None:
        reason = "The smallest pruning inside the accuracy budget that leaves no evidence."
        return OperatingPoint(tuple(walked), chosen, None, reason)
    chosen = _climb(gate, walked, _bases(walked, affordable), rungs, ask)
    if chosen is not None:
        reason = "Pruning inside the budget left evidence; relearning leaves none."
        if walked[chosen].candidate.taught_again:
            reason += " What it costs was measured before the images that measured it taught as well."
        return OperatingPoint(tuple(walked), chosen, None, reason)
    reason = "No repair inside the accuracy budget removes the evidence."
    for index in _beyond(walked, options):
        ask(index)
        if walked[index].silent:
            reason += " The one that is offered beside it does, and costs more."
            break
    return OperatingPoint(tuple(walked), None, _least_bad(walked), reason)


def _climb(
    gate: Gate,
    walked: list[Considered],
    bases: tuple[tuple[Filter, ...], ...],
    rungs: Rungs,
    ask: Callable[[int], Remaining],
) -> int | None:
    """The second rung: the first relearned candidate that passes quietly, else the quietest that passes.

    Those that went the whole way come before all others, which leave more asleep: of a blended net 79 to 86 % came back
    where it was 13 to 17. All that were considered join `walked`. What was found on one round joins the next.
    """
    if rungs.relearn is None:
        return None

    def followed(index: int) -> float:
        return walked[index].candidate.pursued or 0.0

    def merit(index: int) -> tuple[bool, float]:
        return (walked[index].candidate.rate, walked[index].candidate.share) != (1.0, 1.0), followed(index)

    nothing, *pruned = bases
    rounds = [(nothing, manner) for manner in ROUNDS] + [(filters, LAST) for filters in pruned]
    passed: list[int] = []
    short: list[Short] = []
    for filters, manner in rounds:
        if passed and manner == LAST:
            break
        way = rungs.relearn(filters, manner)
        if way is None:
            continue
        # Gently nothing asks the first layers to see the clean image, and they alone cost more than all.
        allowed = [length for length in rungs.lengths if manner != LAST or length.depth == WHOLE.depth]
        lengths = [length for length in allowed if length.ends or not passed]
        found = _first_silent(way, lengths, filters, gate, walked, ask, short)
        passed += [] if found is None else [found]
        if found is not None and followed(found) <= rungs.quiet:
            break
    return min(passed, key=merit) if passed else _nearer(gate, walked, short, ask)


def _first_silent(
    way: Way,
    lengths: list[Length],
    filters: tuple[Filter, ...],
    gate: Gate,
    walked: list[Considered],
    ask: Callable[[int], Remaining],
    short: list[Short],
) -> int | None:
    """Go less and less far until it is affordable and passes. What was affordable and left evidence joins `short`.

    Less of the same layers costs less and leaves more, so after that only more layers are tried.
    """
    dearer, least = None, 0.0
    for length in lengths:
        if length.depth <= least:
            continue
        walked.append(_at(length, way, filters, gate))
        if not walked[-1].candidate.within_budget:
            dearer = length
            continue
        ask(-1)
        if walked[-1].candidate.passes:
            return len(walked) - 1
        short.append(Short(filters, way, length, dearer))
        least = length.depth
    return None


def _at(length: Length, way: Way, filters: tuple[Filter, ...], gate: Gate) -> Considered:
    """What lies there: with its cost and, where that is affordable, as it is given back.

    More images can only make a repair dearer on themselves where teaching went wrong; then the first is given.
    """
    tried = gate.consider(filters, way.tried(length), length)
    if way.given is None or not tried.candidate.within_budget:
        return tried
    given = way.given(length)
    if not gate.consider(filters, given, length).candidate.within_budget:
        return tried
    return replace(
        tried, candidate=tried.candidate.model_copy(update={"taught_again": True}), relearned=given
    )


def _nearer(
    gate: Gate, walked: list[Considered], short: list[Short], ask: Callable[[int], Remaining]
) -> int | None:
    """Before all is refused: what was affordable, as the fitting images taught it, and halfway to what was too dear.

    Of an adaptive blend 90 % of the way cost 2.1 points, where two are allowed, and 80 % left too much.
    """
    for one in short:
        ways = [(replace(one.way, given=None), one.length)] if one.way.given else []
        ways += [(one.way, one.middle)] if one.middle else []
        for way, length in ways:
            walked.append(_at(length, way, one.filters, gate))
            if walked[-1].candidate.within_budget:
                ask(-1)
            if walked[-1].candidate.passes:
                return len(walked) - 1
    return None


def _bases(walked: list[Considered], affordable: list[int]) -> tuple[tuple[Filter, ...], ...]:
    """What to prune before relearning: nothing, half of what is affordable, all of it.

    Gentlest first: on eight nets what was pruned cost accuracy that relearning did not bring back, and removed nothing
    that relearning would have left. So the last two are tried where nothing else passes.
    """
    largest = walked[affordable[-1]].filters if affordable else ()
    return tuple(dict.fromkeys(((), largest[: len(largest) // 2], largest)))


def _first(affordable: list[int], passes: Callable[[int], bool]) -> int | None:
    """The smallest that passes; candidates are nested, so if even the largest leaves evidence, none removes it."""
    if not affordable or not passes(affordable[-1]):
        return None
    low, high = 0, len(affordable) - 1
    while low < high:
        middle = (low + high) // 2
        if passes(affordable[middle]):
            high = middle
        else:
            low = middle + 1
    return affordable[high]


def _asked(considered: Considered, left: Remaining, *, silent: bool) -> Considered:
    candidate = considered.candidate
    found = {
        "perturbation_success": left.success,
        "pursued": left.pursued,
        "perturbation_size": left.relative_size,
        "evidence": left.label_shift,
        "passes": silent and candidate.within_budget,
    }
    return replace(
        considered,
        candidate=candidate.model_copy(update=found),
        label_shares=left.label_shares,
        silent=silent,
    )


def _beyond(walked: list[Considered], options: PruneOptions) -> list[int]:
    """The relearned candidates beyond the budget, the cheapest first, without the hopeless ones."""
    limit = -HOPELESS * options.accuracy_budget
    costs = {i: c.candidate.change.value for i, c in enumerate(walked) if c.relearned is not None}
    beyond = [i for i in costs if not walked[i].candidate.within_budget and costs[i] >= limit]
    return sorted(beyond, key=lambda i: -costs[i])


def _least_bad(walked: list[Considered]) -> int | None:
    """One that leaves no evidence before any other, then one inside the budget, then the least success left."""

    def badness(index: int) -> tuple[bool, bool, float, float]:
        candidate = walked[index].candidate
        success = 1.0 if candidate.perturbation_success is None else candidate.perturbation_success
        return not walked[index].silent, not candidate.within_budget, success, -candidate.change.value

    return min(range(len(walked)), key=badness, default=None)
