"""A closer look at a model that the witnesses neither accuse nor clear, or accuse by the luck of a draw.

What unlearning and the features say against a model only corroborates (decisions 22, 32), so one whose perturbations
look ordinary by a search that hurries is let go, whatever they say. That search slides into natural features: of a net
of others, with a picture of 5×5 pixels in a corner that turned every image, it found patches of 28 pixels and more. So
before such a model is let go, the class that all point at is asked what a repaired model is asked of the accused one:
whether a patch leads there, looked for from coarse to fine, that is small beside careful ones into other classes
(decision 34).

And what BatchNorm remembers is found by one random search: on a clean net of others, with the same images, it led 43 %
of them into one class, and 35 and 36 % with two other draws. So where it accuses alone it is asked twice (decision 35).
"""

from dataclasses import dataclass, replace

from app.contract.findings import VerdictLabel
from app.contract.options import EvidenceOptions, SanitizeOptions
from worker.classifier import Classifier
from worker.detectors.batch_statistics import recall, recalled
from worker.detectors.forms import Patch
from worker.detectors.perturbation import Form, relative_size
from worker.detectors.places import patches_in_places
from worker.detectors.target_label import strongest
from worker.detectors.trigger import recover_perturbations
from worker.detectors.verdict import most_suspicious, shows_evidence
from worker.pipelines.examine import Examined, examine, needed, references
from worker.pipelines.hear import Hearing
from worker.pipelines.inputs import Loaded
from worker.progress import SILENT, Progress
from worker.samples.interface import SampleSet


@dataclass(frozen=True, slots=True)
class Found:
    """The class that was looked at again, and the smallest patch into it beside those into others."""

    target_class: int
    size: float  # relative


def examine_twice(
    loaded: Loaded, hearing: Hearing, options: SanitizeOptions, progress: Progress = SILENT
) -> Examined:
    """What was heard, judged; suspicious of the class that the witnesses point at where a small patch leads there."""
    first = recalled_twice(loaded.suspect, loaded.parts.fit, hearing, options, progress)
    found = second_look(loaded.suspect, loaded.parts.fit, hearing, first, options, progress)
    return accused_after(first, found, options.evidence)


def accused_after(examined: Examined, found: Found | None, options: EvidenceOptions) -> Examined:
    """What was examined, in the light of what was found."""
    line = options.relative_size
    if found is None or found.size >= line:
        return examined
    because = (
        f"{examined.verdict.because} A careful search, where the witnesses point, found a patch of {found.size:.2f} of "
        f"the usual size; a repaired model would need {line:.2f}. How often that happens to clean nets, the null does "
        "not say."
    )
    accused = {
        "label": VerdictLabel.SUSPICIOUS,
        "target_classes": (found.target_class,),
        "because": because,
        "false_alarms": None,
    }
    return replace(
        examined,
        verdict=examined.verdict.model_copy(update=accused),
        sizes={**examined.sizes, found.target_class: found.size},
    )


def recalled_twice(
    suspect: Classifier,
    fit: SampleSet,
    hearing: Hearing,
    options: SanitizeOptions,
    progress: Progress = SILENT,
) -> Examined:
    """What was heard, judged; where that rests on what the statistics recall, they recall with another draw.

    Of each class counts the smaller share of the two then.
    """
    examined, first = examine(hearing, options.evidence), hearing.heard.recalled
    if not needed(hearing, examined.verdict, options.evidence):
        return examined
    added = recall(suspect, fit, options.statistics, options.seed + 1, progress)
    if first is None or added is None:
        return examined
    second, _ = recalled(suspect, fit, added)
    both = strongest([min(shares) for shares in zip(first.per_class, second.per_class, strict=True)])
    again = examine(replace(hearing, heard=replace(hearing.heard, recalled=both)), options.evidence)
    if shows_evidence(again.verdict):
        return again
    shares = (
        f"{first.value:.0%} of the images, and {second.per_class[first.target_class]:.0%} with another draw"
    )
    because = f"{again.verdict.because} What BatchNorm remembers led into one class {shares}; the smaller one counts."
    left = {"label": VerdictLabel.INCONCLUSIVE, "because": because}
    return replace(again, verdict=again.verdict.model_copy(update=left))


def second_look(
    suspect: Classifier,
    fit: SampleSet,
    hearing: Hearing,
    examined: Examined,
    options: SanitizeOptions,
    progress: Progress = SILENT,
) -> Found | None:
    """What is found of a model that is neither accused nor cleared; nothing of any other."""
    doubted = most_suspicious(hearing.heard)
    if examined.verdict.label is not VerdictLabel.INCONCLUSIVE or doubted is None:
        return None
    asked = replace(examined, verdict=examined.verdict.model_copy(update={"target_classes": (doubted,)}))
    seed, told = options.seed + 1, options.perturbation  # as a closer look at an accused class draws
    others = references(asked)[Form.PATCH]
    among = recover_perturbations(suspect, fit, others, told, seed, progress, (Patch,))
    patches = patches_in_places(suspect, fit, asked.aims, told, seed, progress)
    return Found(doubted, min(relative_size(one, among) for one in patches))
