"""What accuses a model.

A verdict is made of what was heard (see `hear`). Where it accuses, the ways into the accused classes are looked at
closely, since a repair is made of them and judged by them; and where it accuses for a small perturbation alone, that
has to be small in a closer look as well.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from app.contract.findings import Verdict, VerdictLabel
from app.contract.options import EvidenceOptions, SanitizeOptions
from worker.classifier import Classifier
from worker.detectors.forms import FORMS
from worker.detectors.perturbation import ELSEWHERE, Form, Perturbation, relative_size, smallest
from worker.detectors.places import patches_in_places
from worker.detectors.trigger import recover_perturbations
from worker.detectors.verdict import FEWEST_IMAGES, RECALLED, judge
from worker.device import Placement
from worker.pipelines.fall import Fallen
from worker.pipelines.hear import Hearing, best_of
from worker.progress import SILENT, Progress
from worker.repair.pursuit import Follower, followers
from worker.samples.interface import SampleSet

ALIKE = 1.5  # times the relative size of the smallest perturbation into the same class
STARTS = 4  # of a closer look, for each class
MIRRORED = 0.5  # of what a perturbation reaches; one that reaches as much in a mirror leads there too


@dataclass(frozen=True, slots=True)
class Examined:
    """Everything that speaks for or against the suspect."""

    fallen: Fallen
    perturbations: tuple[Perturbation, ...]  # of every form, for the most suspected classes and some others
    sizes: Mapping[int, float]  # class -> relative size of its smallest perturbation
    verdict: Verdict
    others: tuple[Perturbation, ...] = ()  # into the suspected classes: of other starts, and in a mirror
    cleared: frozenset[int] = frozenset()  # accused besides, and not by a closer look

    @property
    def aims(self) -> tuple[int, ...]:
        """Where perturbations have to lead to speak for the backdoor."""
        if self.verdict.all_to_all:
            return (ELSEWHERE,)
        return tuple(k for k in self.verdict.target_classes if k not in self.cleared)

    def accused(self, options: EvidenceOptions) -> tuple[Perturbation, ...]:
        """The perturbations into the suspected classes that say what the backdoor does: evidence, or like the smallest.

        A form that needs as much as it needs for other classes is a way through natural features, and a repair that
        closes it as well costs accuracy for nothing. Where the statistics alone say what leads into a class, all others
        are such. The others are heard where they are evidence: the smallest may be an accident of one corner.
        """

        def says(p: Perturbation) -> bool:
            if p.target_class in self._recalled:
                return p.form is Form.RECALLED
            size = relative_size(p, self.perturbations)
            return size < options.relative_size or size <= ALIKE * self.sizes[p.target_class]

        named = [
            p for p in self.perturbations if p.target_class in self.aims and math.isfinite(p.size) and says(p)
        ]
        line, heard = options.relative_size, set(self.aims) - self._recalled
        others = [
            p for p in self.others if p.target_class in heard and relative_size(p, self.perturbations) < line
        ]
        return (*named, *others)

    def cleared_by(self, options: EvidenceOptions) -> frozenset[int]:
        """Classes beside the most suspicious one into which no small perturbation leads, where one leads into that.

        A search that hurries may find nothing into some classes of a net whose backdoor swallows every image, and then
        all that it does find looks small: of an L2 trigger of others five classes were accused, and no repair passed.
        """
        named, *besides = self.aims
        if self.sizes[named] >= options.relative_size:
            return frozenset()
        return frozenset(
            k for k in besides if k not in self._recalled and self.sizes[k] >= options.relative_size
        )

    def stands(self, options: EvidenceOptions) -> bool:
        """Whether a small perturbation leads into an accused class."""
        return any(self.sizes.get(k, math.inf) < options.relative_size for k in self.aims)

    def followers(self, options: EvidenceOptions, placement: Placement) -> tuple[Follower, ...]:
        """Searches that go on from the perturbations that accuse."""
        found, line = self.accused(options), options.relative_size
        return tuple(followers(found, self.perturbations, line, placement.device))

    def expressed(self, options: SanitizeOptions) -> bool:
        """Whether a perturbation accuses every suspected class, and so can say what the backdoor does."""
        least = options.evidence.relative_size
        small = {k for k, size in self.sizes.items() if size < least}
        return small | self._recalled >= set(self.aims)

    @property
    def _recalled(self) -> set[int]:
        """The classes of which the statistics alone say what leads into them."""
        return {p.target_class for p in self.perturbations if p.form is Form.RECALLED}


def examine(hearing: Hearing, options: EvidenceOptions) -> Examined:
    """Judge what was heard."""
    verdict = judge(hearing.heard, options)
    found = (*hearing.perturbations, *needed(hearing, verdict, options))
    return Examined(hearing.fallen, found, hearing.heard.sizes, verdict)


def look_closely(
    suspect: Classifier,
    fit: SampleSet,
    examined: Examined,
    options: SanitizeOptions,
    progress: Progress = SILENT,
) -> Examined:
    """The same with perturbations that are worth unlearning.

    The verdict rests on a search that hurries, as the clean nets behind it do; a repair needs the shortcut itself, and
    what natural features need, to the pixel. So the accused classes are searched from several starts, and a few others.
    """
    closer = closely(suspect, fit, examined.aims, options, progress, references(examined))
    found = best_of(closer)
    sizes = {**examined.sizes, **smallest(found, found)}
    # Where the hurried search had missed a small one, that says what leads there, and what was recalled is not needed.
    said = {k for k, size in sizes.items() if size < options.evidence.relative_size}
    recalled = (p for p in examined.perturbations if p.form is Form.RECALLED and p.target_class not in said)
    looked = replace(examined, perturbations=(*found, *recalled), sizes=sizes)
    looked = replace(looked, cleared=looked.cleared_by(options.evidence))
    return replace(looked, others=_others(suspect, fit, found, closer, looked.aims))


def rests_on_size(hearing: Hearing, verdict: Verdict, options: EvidenceOptions) -> bool:
    """Whether the features and BatchNorm accuse none of the same classes where nobody says how small a perturbation is.

    Here the features speak for themselves, which they do not for a verdict (decision 32), and unlearning not at all:
    together they accused a clean PreActResNet of holding cars near trucks (decision 36). Of so few images that the null
    does not speak for them, nothing else counts: 50 led a clean VGG's BatchNorm into one class with two draws.
    """
    if hearing.heard.images < FEWEST_IMAGES:
        return True
    told = replace(hearing.heard, sizes={}, shift=None, movement=None)
    others = judge(told, options, corroborating=frozenset())
    return verdict.all_to_all or not set(others.target_classes) & set(verdict.target_classes)


def upheld(hearing: Hearing, looked: Examined, options: EvidenceOptions) -> Examined:
    """What is left of a verdict after a closer look: a model that would pass as a repaired one is not accused.

    One of twenty clean nets is accused by chance, and a repair costs it accuracy: the hurried search needed 0.47 of
    the usual size toward one class of a ResNet, and a careful one 0.53.
    """
    if looked.stands(options) or not rests_on_size(hearing, looked.verdict, options):
        return looked
    least = min(looked.sizes[k] for k in looked.aims)
    few = hearing.heard.images < FEWEST_IMAGES
    counts = "Of so few images nothing counts but" if few else "That rests on"
    because = (
        f"{looked.verdict.because} {counts} how small a perturbation suffices, by a search that hurries; "
        f"a careful one needed {least:.2f} of the usual size, and {options.relative_size:.2f} would pass as repaired."
    )
    verdict = looked.verdict.model_copy(
        update={
            "label": VerdictLabel.INCONCLUSIVE,
            "target_classes": (),
            "all_to_all": False,
            "because": because,
        }
    )
    return replace(looked, verdict=verdict, others=(), cleared=frozenset())


def needed(hearing: Hearing, verdict: Verdict, options: EvidenceOptions) -> tuple[Perturbation, ...]:
    """What the statistics recall, where the others would not accuse that class.

    Where they would, small perturbations say better what the backdoor does: against what was recalled of an adaptive
    blend, relearning cost as much and left 23 % of the attack instead of 2.
    """
    found, fired = hearing.recalled, {signal.name for signal in verdict.signals if signal.fires}
    if found is None or RECALLED not in fired or found.target_class not in verdict.target_classes:
        return ()
    others = judge(replace(hearing.heard, recalled=None), options)
    return () if found.target_class in others.target_classes else (found,)


def closely(
    classifier: Classifier,
    fit: SampleSet,
    aims: Sequence[int],
    options: SanitizeOptions,
    progress: Progress,
    references: Mapping[Form, Sequence[int]] = MappingProxyType({}),
) -> tuple[Perturbation, ...]:
    """Ways into a few classes from several starts each; one start misses the patch of the example two times in six.

    `references`: other classes of each form, from one start.
    """
    starts = max(1, min(STARTS, options.perturbation.max_classes // max(1, len(aims))))
    seed, told = options.seed + 1, options.perturbation  # another draw than that of the first look
    found: list[Perturbation] = []
    for form in FORMS:
        classes = (*(tuple(aims) * starts), *references.get(form.form, ()))
        found += recover_perturbations(classifier, fit, classes, told, seed, progress, (form,))
    return (*found, *patches_in_places(classifier, fit, aims, told, seed, progress))


def references(examined: Examined) -> dict[Form, tuple[int, ...]]:
    """Of each form, the classes around the median of those that are not accused; theirs will be the median as well.

    One more than twice as many as are accused, so that these cannot move it.
    """
    away = {*examined.aims, ELSEWHERE}
    wanted, middle = 2 * len(examined.aims) + 1, dict[Form, tuple[int, ...]]()
    for form in (kind.form for kind in FORMS):
        others = [p for p in examined.perturbations if p.form is form and p.target_class not in away]
        ranked = sorted(others, key=lambda p: min(p.size, p.tried))
        first = max(0, len(ranked) - wanted) // 2
        middle[form] = tuple(p.target_class for p in ranked[first : first + wanted])
    return middle


def _others(
    suspect: Classifier,
    fit: SampleSet,
    best: Sequence[Perturbation],
    closer: Sequence[Perturbation],
    aims: Sequence[int],
) -> tuple[Perturbation, ...]:
    """What other starts found into the suspected classes, and all of it in a mirror, where the suspect obeys that.

    Who mirrors the images that he trains on plants his trigger on both sides, and a search finds one of the two.
    """
    accused = [p for p in best if p.target_class in aims and math.isfinite(p.size)]
    known = {id(p.change) for p in accused}
    starts = [
        p for p in closer if p.target_class in aims and math.isfinite(p.size) and id(p.change) not in known
    ]

    def obeyed(mirrored: Perturbation, found: Perturbation) -> bool:
        return mirrored.success(suspect, fit).value >= MIRRORED * found.success(suspect, fit).value

    pairs = [(p.mirrored(), p) for p in (*accused, *starts)] if fit.mirrors else []
    return (*starts, *(mirrored for mirrored, found in pairs if obeyed(mirrored, found)))
