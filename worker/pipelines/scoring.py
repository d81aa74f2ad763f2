"""Three ways to score inputs: by a repair, by models that lost the clean task, and from the suspect's labels alone.

Each gives the scores of the suspects and those of clean images that taught nothing, which say what is far.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from app.contract.job import Stage
from app.contract.options import Detector, SanitizeOptions
from app.errors import SamplesError
from worker.classifier import Classifier
from worker.detectors.expert import mislabel
from worker.detectors.poisoned_samples import agreement, family, taken_back
from worker.pipelines.checkpoints import Checkpoints, fallen_once
from worker.pipelines.clock import Clock
from worker.pipelines.fall import Fallen
from worker.pipelines.inputs import Loaded
from worker.pipelines.sanitize import decide
from worker.progress import Progress
from worker.samples.interface import CleanSplit

PORTION = 256  # images between two signs of life
FEW = 4  # where one image costs hundreds of forward passes


@dataclass(frozen=True, slots=True)
class InQuestion:
    """Inputs that are to be scored, uint8 (n, c, h, w), and what with."""

    images: Tensor
    loaded: Loaded
    options: SanitizeOptions
    clock: Clock
    progress: Progress
    checkpoints: Checkpoints


@dataclass(frozen=True, slots=True)
class Scores:
    """`said` int64 (n,) and `suspects` (n,), of the inputs in question; `clean` (m,). Large: suspicious."""

    said: Tensor
    suspects: Tensor
    clean: Tensor
    detector: Detector  # that gave them
    forwards: int  # that one input costs
    fallen: Fallen | None = None


def by_repair(inputs: InQuestion) -> Scores:
    """By how much of what the suspect says a repair takes back; by margin where nothing accuses the suspect."""
    loaded, clock, progress = inputs.loaded, inputs.clock, inputs.progress
    decision = decide(loaded, inputs.options, clock, progress, inputs.checkpoints)
    repair = decision.chosen or decision.best
    if repair is None:
        return by_margin(inputs, decision.examined.fallen)
    suspect = loaded.suspect
    repaired = suspect.with_module(repair.module(suspect))

    def score(images: Tensor) -> tuple[Tensor, Tensor]:
        return taken_back(suspect, repaired, images)

    with clock.stage(Stage.SCORE):
        # Those that select chose the repair, and may have taught it then, so only the rest calibrates.
        _, clean = _in_portions(score, loaded.parts.report.images, PORTION, progress)
        said, scores = _in_portions(score, inputs.images, PORTION, progress)
    return Scores(said, scores, clean, "repair", forwards=2, fallen=decision.examined.fallen)


def by_margin(inputs: InQuestion, fallen: Fallen | None = None) -> Scores:
    """By how much unlearned models and backdoor experts still say what the suspect says."""
    options, clock, progress = inputs.options, inputs.clock, inputs.progress
    suspect, fit = inputs.loaded.suspect, inputs.loaded.parts.fit
    if fallen is None:
        with clock.stage(Stage.UNLEARN):
            fallen = fallen_once(suspect, fit, options, progress, inputs.checkpoints)
    with clock.stage(Stage.MISLABEL):
        seeds = range(options.seed, options.seed + options.evidence.seeds)
        experts = [mislabel(suspect, fit, options.screen.expert, seed, progress) for seed in seeds]
    unlearned = [run.module for run in fallen.runs]
    families = [family(suspect, modules, fit.images) for modules in (unlearned, experts)]

    def score(images: Tensor) -> tuple[Tensor, Tensor]:
        return agreement(suspect, families, images)

    with clock.stage(Stage.SCORE):
        _, clean = _in_portions(score, _held(inputs.loaded.parts), PORTION, progress)
        said, scores = _in_portions(score, inputs.images, PORTION, progress)
    forwards = 1 + len(unlearned) + len(experts)
    return Scores(said, scores, clean, "margin", forwards, fallen)


def by_labels(inputs: InQuestion) -> Scores:
    """The five metrics; the suspect is asked for nothing but classes. Raises `SamplesError` on too few clean ones."""
    # Here and not above, because it loads scikit-learn, which few jobs need.
    from worker.detectors.five_metrics import FEWEST, curves, learn

    loaded, options, progress = inputs.loaded, inputs.options, inputs.progress
    held = _held(loaded.parts)
    if len(held) < FEWEST:
        raise SamplesError(
            f"{len(held)} clean images are left to say what is far; the five metrics need at least {FEWEST}.",
            code="samples.too_few",
            remedy="Give more clean images.",
        )
    suspect, grid = loaded.suspect, options.screen.five_metrics
    draw = torch.Generator().manual_seed(options.seed)
    partners = loaded.parts.fit.take(torch.randperm(len(loaded.parts.fit), generator=draw)[: grid.partners])

    def measure(images: Tensor) -> tuple[Tensor, Tensor]:
        found = curves(
            partial(classes_of, suspect),
            suspect.pixels(images).cpu(),
            partners,
            grid,
            options.seed,
        )
        return suspect.predictions(images), torch.from_numpy(found)

    with inputs.clock.stage(Stage.SCORE):
        _, known = _in_portions(measure, held, FEW, progress)
        said, found = _in_portions(measure, inputs.images, FEW, progress)
        novelty = learn(known.numpy())
        clean, scores = novelty.of_the_known(), novelty.scores(found.numpy())
    return Scores(said, torch.from_numpy(scores), torch.from_numpy(clean), "five_metrics", grid.forwards)


def _held(parts: CleanSplit) -> Tensor:
    """The clean images that taught nothing."""
    return torch.cat([parts.select.images, parts.report.images])


def _in_portions(
    score: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor, size: int, progress: Progress
) -> tuple[Tensor, Tensor]:
    """What is said of each image, and its score; a sign of life for each portion."""
    found, done = [], 0
    for portion in images.split(size):
        found.append(score(portion))
        done += len(portion)
        progress.step(Stage.SCORE, done, len(images))
    said, scores = zip(*found, strict=True)
    return torch.cat(said), torch.cat(scores)


@torch.no_grad()
def classes_of(suspect: Classifier, pixels: Tensor) -> Tensor:
    """Of float pixels, which may lie outside [0, 1]: int64 (n,)."""
    answers = []
    for part in pixels.split(PORTION):
        with suspect.placement.autocast():
            answers.append(suspect.module(suspect.standardise(part.to(suspect.placement.device))).argmax(1))
    return torch.cat(answers).cpu()
