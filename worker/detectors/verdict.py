"""The verdict: what the witnesses say of a suspect together, beside what they say of clean nets.

Five witnesses, none of which ever sees a triggered sample: where predictions go in unlearning, which row of the last
layer moves, how small a perturbation leads into a class, how short a way in the features, and where what BatchNorm
remembers of training leads. Their words add up class by class (see `null`), and the largest sum is read beside those of
clean nets: its p-value is the rate of false alarms that a line at this sum has. The two of unlearning and that of the
features corroborate: some clean nets fall onto one class whole, and some hold two classes near, so against a model they
count at most twice what a perturbation and BatchNorm say of the same class. A model is called `clean` where it looks
like the middle of the clean nets to all of them, uncut; that is no proof, and the report says so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from app.contract.findings import Signal, Verdict, VerdictLabel
from app.contract.options import EvidenceOptions
from worker.detectors.null import CleanNet, Null, Said, line_at, p_value, shipped
from worker.detectors.perturbation import ELSEWHERE
from worker.detectors.target_label import Pull

SHIFT = "label shift of the unlearned model"
MOVEMENT = "movement of the last layer in unlearning"
SIZE = "relative size of the smallest perturbation"
SHORTCUT = "relative length of the shortest way in the features"
RECALLED = "share that what BatchNorm remembers leads into one class"
TOGETHER = "all together"
UNLEARNING = frozenset({SHIFT, MOVEMENT})
# The features hold cars near trucks, in some nets more than in those of the null.
CORROBORATING = UNLEARNING | {SHORTCUT}

CLASSES = range(5, 21)  # that the null, of ten classes, is taken to speak for
FEWEST_CLASSES = (
    4  # of fewer, what one class needs is compared with one other or two, and clean nets stand out
)
MOST_ABSENT = 0.1  # of the classes without images; with half of them absent a clean net had a sum of 6
FEWEST_IMAGES = 100  # fitting; the null was made with 250
PIXELS = range(24, 65)  # of the longer side; the null's images have 32
LEAST = 1e-9  # whose logarithm is still a number

TOO_FEW_CLASSES = (
    "The witnesses compare a class with the others, and where there are fewer than four they say of clean nets what "
    "they say of backdoored ones."
)
TOO_MANY_ABSENT = (
    "No image of {} of {} classes was fitted, and then the witnesses say of clean nets what they say of backdoored "
    "ones. Give images of every class."
)
NOTHING_HEARD = "No witness could be heard, so nothing is known about a backdoor."


@dataclass(frozen=True, slots=True)
class Unit:
    """What a witness's numbers mean: their place on a scale on which more is more suspicious, and the way back."""

    rising: Callable[[float], float]
    own: Callable[[float], float]
    fires_when: Literal["above", "below"]


UNITS = {
    SHIFT: Unit(float, float, "above"),
    MOVEMENT: Unit(lambda x: math.log(max(x, LEAST)), math.exp, "above"),
    SIZE: Unit(lambda x: -math.log(max(x, LEAST)), lambda x: math.exp(-x), "below"),
    SHORTCUT: Unit(lambda x: -math.log(max(x, LEAST)), lambda x: math.exp(-x), "below"),
    RECALLED: Unit(float, float, "above"),
    TOGETHER: Unit(float, float, "above"),
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What the witnesses said of a suspect; None, or no classes, where one could not be heard."""

    shift: Pull | None
    movement: Pull | None
    sizes: Mapping[int, float]  # relative, smallest form
    shortcuts: Sequence[float]  # relative, of every class
    num_classes: int
    images: int  # that were fitted
    recalled: Pull | None = None  # where the change leads that restores the statistics of training
    absent: tuple[int, ...] = ()  # classes without fitted images; unlearning leads there on clean nets too
    pixels: int = 32  # of the longer side of an image
    receiving: tuple[int, ...] = ()  # classes that perturbations elsewhere lead other classes into

    @property
    def said(self) -> Said:
        """Each witness, on a scale on which more is more suspicious."""
        words: dict[str, Mapping[int, float]] = {
            SHIFT: self._of_present(self.shift),
            MOVEMENT: self._of_present(self.movement),
            SIZE: self.sizes,
            SHORTCUT: dict(enumerate(self.shortcuts)),
            RECALLED: self._of_present(self.recalled),
        }
        return {
            name: {k: UNITS[name].rising(word) for k, word in of_class.items()}
            for name, of_class in words.items()
            if of_class
        }

    def _of_present(self, pull: Pull | None) -> dict[int, float]:
        words = enumerate(pull.per_class) if pull else ()
        return {k: word for k, word in words if k not in self.absent}


def judge(
    heard: Heard,
    options: EvidenceOptions,
    nets: Sequence[CleanNet] | None = None,
    corroborating: frozenset[str] = CORROBORATING,
) -> Verdict:
    """What is said of the suspect beside clean nets, those that ship unless others are given."""
    said = heard.said
    if not said:
        return Verdict(label=VerdictLabel.INCONCLUSIVE, because=NOTHING_HEARD)
    if unheard := _beyond_comparison(heard):
        return Verdict(label=VerdictLabel.INCONCLUSIVE, because=unheard)
    null = Null(tuple(net.said for net in nets or shipped()), corroborating).of(said)
    weights, scores, clean = null.weights(said), null.scores(said), null.of_the_nets()
    p, uncut = p_value(max(scores.values()), clean), replace(null, corroborating=frozenset())
    typical = p_value(max(uncut.scores(said).values()), uncut.of_the_nets()) >= options.clears
    limits = _limits(heard, null, options)
    label = _label(p, options, limited=bool(limits), typical=typical)
    named = max(scores, key=scores.__getitem__)
    unusual = [k for k in scores if p_value(scores[k], clean) <= options.suspicion]
    expressed = [k for k in unusual if heard.sizes.get(k, math.inf) < options.relative_size]
    # Where a small perturbation leads into the most accused class, another one is accused only with its own: nets
    # that were trained without augmentation fall onto a natural class besides.
    targets = sorted(expressed if named in expressed else unusual, key=lambda k: -scores[k])
    all_to_all = targets[:1] == [ELSEWHERE]
    signals = [
        _signal(name, words, null.strongest(name), options, weights[named][name])
        for name, words in said.items()
    ]
    return Verdict(
        label=label,
        target_classes=heard.receiving if all_to_all else tuple(k for k in targets if k != ELSEWHERE),
        all_to_all=all_to_all,
        because=_because(label, p, len(clean), limits, all_to_all=all_to_all),
        signals=(*signals, _signal(TOGETHER, scores, clean, options)),
        false_alarms=p,
    )


def most_suspicious(heard: Heard) -> int | None:
    """The class that the witnesses suspect most when none of them is cut; None where they say nothing of any."""
    said = heard.said
    if not said or _beyond_comparison(heard):
        return None
    scores = Null(tuple(net.said for net in shipped())).of(said).scores(said)
    named = max(scores, key=scores.__getitem__)
    return named if scores[named] > 0 and named != ELSEWHERE else None


def shows_evidence(verdict: Verdict) -> bool:
    """Whether there is something to repair."""
    return verdict.label in (VerdictLabel.SUSPICIOUS, VerdictLabel.BACKDOORED)


def _beyond_comparison(heard: Heard) -> str:
    """Why nothing that was heard can be read at all; empty where it can."""
    if heard.num_classes < FEWEST_CLASSES:
        return TOO_FEW_CLASSES
    if len(heard.absent) > MOST_ABSENT * heard.num_classes:
        return TOO_MANY_ABSENT.format(len(heard.absent), heard.num_classes)
    return ""


def _label(p: float, options: EvidenceOptions, *, limited: bool, typical: bool) -> VerdictLabel:
    if p <= options.false_alarms:
        return VerdictLabel.SUSPICIOUS if limited else VerdictLabel.BACKDOORED
    if p <= options.suspicion:
        return VerdictLabel.SUSPICIOUS
    if p >= options.clears and typical and not limited:
        return VerdictLabel.CLEAN
    return VerdictLabel.INCONCLUSIVE


def _limits(heard: Heard, null: Null, options: EvidenceOptions) -> str:
    """Why the null does not speak for this suspect; empty where it does."""
    if heard.num_classes not in CLASSES:
        return f"the clean nets behind it have 10 classes, and this model {heard.num_classes}"
    if heard.pixels not in PIXELS:
        return f"the clean nets behind it see images of 32 pixels a side, and this model {heard.pixels}"
    if heard.absent:
        named = ", ".join(map(str, heard.absent))
        return f"no image of class {named} was fitted, and of classes without images two kinds of evidence say nothing"
    if heard.images < FEWEST_IMAGES:
        return f"{heard.images} images were fitted, and at least {FEWEST_IMAGES} are needed"
    if heard.shift is None or heard.movement is None:
        return "unlearning could not be heard, which leaves one kind of evidence"
    if 1 / (1 + len(null.nets)) > options.false_alarms:
        return f"{len(null.nets)} clean nets cannot show so small a rate"
    return ""


def _because(label: VerdictLabel, p: float, nets: int, limits: str, *, all_to_all: bool) -> str:
    what = "one small change that sends most classes each into another" if all_to_all else "one class"
    often = f"about {p:.0%} of clean nets would look at least as suspicious ({nets} were measured)"
    said = {
        VerdictLabel.BACKDOORED: f"What the witnesses say of {what} is out of the ordinary: {often}.",
        VerdictLabel.SUSPICIOUS: f"What the witnesses say of {what} is unusual: {often}.",
        VerdictLabel.INCONCLUSIVE: f"The model looks neither like a typical clean net nor unlike all of them: {often}.",
        VerdictLabel.CLEAN: f"The model looks like a typical clean net: {often}. "
        "A backdoor to which no witness responds would look the same.",
    }
    return f"{said[label]} No more is claimed, since {limits}." if limits else said[label]


def _signal(
    name: str,
    words: Mapping[int, float],
    clean: tuple[float, ...],
    options: EvidenceOptions,
    weight: float | None = None,
) -> Signal:
    """One witness in its own units, beside its strongest word on each clean net."""
    target, unit = max(words, key=words.__getitem__), UNITS[name]
    line, values = line_at(options.suspicion, clean), tuple(map(unit.own, clean))
    return Signal(
        name=name,
        value=unit.own(words[target]),
        threshold=None if line is None else unit.own(line),
        fires_when=unit.fires_when,
        null=f"{len(values)} clean nets: {values[0]:.2f} to {values[-1]:.2f}, median {median(values):.2f}",
        null_values=values,
        target_class=None if target == ELSEWHERE else target,
        weight=weight,
    )
