"""What the witnesses say of a suspect, none of whom is ever shown a triggered sample.

They know nothing of each other: what the clean task leaves behind when it is unlearned, in predictions and in the last
layer, how small a perturbation and how short a way in the features lead into a class, and what BatchNorm remembers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from app.contract.job import Stage
from app.contract.options import SanitizeOptions
from worker.classifier import Classifier, portions
from worker.detectors.all_to_all import receivers
from worker.detectors.batch_statistics import recall, recalled
from worker.detectors.forms import HURRIED
from worker.detectors.latent_shortcut import relative_shortcuts
from worker.detectors.perturbation import ELSEWHERE, Form, Perturbation, smallest
from worker.detectors.trigger import recover_perturbations
from worker.detectors.verdict import Heard
from worker.pipelines.checkpoints import NOWHERE, Checkpoints, fallen_once
from worker.pipelines.clock import Clock
from worker.pipelines.fall import Fallen
from worker.progress import SILENT, Progress
from worker.repair.features import Features, head
from worker.samples.interface import SampleSet

# Times the steps. Images pull apart until there is one way for all: of four draws on an all-to-all net one found it
# in 60 steps, and all in 120.
ELSEWHERE_TAKES = 2


@dataclass(frozen=True, slots=True)
class Hearing:
    """What the witnesses said, and what they showed."""

    fallen: Fallen
    perturbations: tuple[Perturbation, ...]  # the smallest of each form, for each class that was tried
    recalled: Perturbation | None  # what the statistics of training hold; None: they hold nothing
    heard: Heard


def hear(
    suspect: Classifier,
    fit: SampleSet,
    options: SanitizeOptions,
    clock: Clock,
    progress: Progress = SILENT,
    checkpoints: Checkpoints = NOWHERE,
) -> Hearing:
    """Unlearn, look for ways into the classes that unlearning suspects most, and ask what the statistics recall."""
    absent = tuple(sorted(set(range(suspect.num_classes)) - set(fit.labels.tolist())))
    with clock.stage(Stage.UNLEARN):
        fallen = fallen_once(suspect, fit, options, progress, checkpoints)
    with clock.stage(Stage.PERTURB):
        shortcuts = _shortcuts(suspect, fit)
        classes = most_suspected(suspect.num_classes, fallen, shortcuts, options.perturbation.max_classes)
        elsewhere = look_elsewhere(suspect, fit, options, progress)
        found = (*_look(suspect, fit, classes, options, progress), *elsewhere)
        # What the statistics hold beyond the samples would be the classes that are not among these.
        added = None if absent else recall(suspect, fit, options.statistics, options.seed, progress)
        pull, perturbation = (None, None) if added is None else recalled(suspect, fit, added)
    shift, movement = (fallen.shift, fallen.movement) if fallen.follows_batches else (None, None)
    heard = Heard(
        shift,
        movement,
        smallest(found, found),
        shortcuts,
        suspect.num_classes,
        len(fit),
        recalled=pull,
        absent=absent,
        pixels=max(fit.images.shape[2:]),
        receiving=tuple(sorted({k for into in elsewhere.values() for k in into})),
    )
    return Hearing(fallen, found, perturbation, heard)


def look_elsewhere(
    suspect: Classifier, fit: SampleSet, options: SanitizeOptions, progress: Progress = SILENT
) -> dict[Perturbation, tuple[int, ...]]:
    """What leads images anywhere but into their own class, where several classes receive them; and these classes."""
    found = _look(suspect, fit, [ELSEWHERE], options, progress, ELSEWHERE_TAKES)
    return {p: into for p in found if (into := receivers(suspect, p, fit))}


def _look(
    suspect: Classifier,
    fit: SampleSet,
    ways: Sequence[int],
    options: SanitizeOptions,
    progress: Progress,
    longer: int = 1,
) -> tuple[Perturbation, ...]:
    """The smallest of each form for each way, in a hurry; in so many times the steps."""
    pace = options.perturbation.hurried
    hurried = options.perturbation.model_copy(
        update={"steps": longer * pace.steps, "batch_size": pace.batch_size}
    )
    return best_of(recover_perturbations(suspect, fit, ways, hurried, options.seed, progress, pace=HURRIED))


def best_of(found: Sequence[Perturbation]) -> tuple[Perturbation, ...]:
    """The smallest of each form into each class; it has tried what any of them tried."""
    best: dict[tuple[int, Form], Perturbation] = {}
    for one in found:
        key = (one.target_class, one.form)
        old = best.get(key, one)
        best[key] = replace(min(old, one, key=lambda p: p.size), tried=max(old.tried, one.tried))
    return tuple(best.values())


def _shortcuts(suspect: Classifier, fit: SampleSet) -> tuple[float, ...]:
    """The latent shortcuts of a net whose last layer is a linear one; none of any other."""
    name = head(suspect, fit.images[:1])
    last = suspect.module.get_submodule(name)
    if not isinstance(last, nn.Linear) or last.out_features != suspect.num_classes:
        return ()
    with Features(suspect.module, name) as seen:
        features = [seen.of(suspect, portion) for portion in portions(fit.images)]
    weight = last.weight.detach().double().cpu()
    bias = torch.zeros(len(weight)) if last.bias is None else last.bias.detach().double().cpu()
    return relative_shortcuts(weight.numpy(), bias.double().numpy(), torch.cat(features).double().numpy())


def most_suspected(
    num_classes: int, fallen: Fallen, shortcuts: Sequence[float], limit: int
) -> tuple[int, ...]:
    """The classes with the shortest ways and those that unlearning leads to, in turn, up to `limit`; all of few."""
    readings = [torch.tensor(shortcuts).neg()] if shortcuts else []
    pulls = (fallen.movement, fallen.shift)
    readings += [torch.tensor(pull.per_class) for pull in pulls if pull is not None]
    if not readings or num_classes <= limit:
        return tuple(range(num_classes))[:limit]
    ranked = [reading.argsort(descending=True).tolist() for reading in readings]
    in_turn = dict.fromkeys(k for places in zip(*ranked, strict=True) for k in places)
    return tuple(sorted(list(in_turn)[:limit]))
