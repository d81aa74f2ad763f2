"""An unlabelled pool -> the images that a person should label: load → ask the model once for each → choose.

No label exists here, so nothing is said of the model, and its normalisation can only be guessed.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from app.contract.curation import Chosen, CurateOptions, Curation, Guess, Pool
from app.contract.job import Stage
from app.contract.problem import Problem
from app.contract.report import Normalisation
from app.errors import ModelError, OptionsError
from worker.classifier import Classifier, portions
from worker.device import Placement
from worker.formats import normalisation
from worker.formats.interface import LoadedModel
from worker.formats.load import load
from worker.pipelines import reporting
from worker.pipelines.clock import Clock
from worker.pipelines.inputs import classifier
from worker.progress import SILENT, Progress
from worker.samples.curation import by_chance, by_energy, free_energy, margin
from worker.samples.unlabelled import ImageSet, read_images


@dataclass(frozen=True, slots=True)
class CurationRequest:
    """What one curation is given."""

    model: Path
    pool: Path
    options: CurateOptions
    placement: Placement
    reproduce: str = ""


@dataclass(frozen=True, slots=True)
class Curated:
    """The report, and the chosen images in its order, in the shape of the model's input."""

    report: Curation
    images: Tensor = field(repr=False)


def curate(request: CurationRequest, progress: Progress = SILENT) -> Curated:
    """Choose images; changes and writes nothing. Raises `ModelError`, `SamplesError`, `OptionsError`."""
    clock, options = Clock(), request.options
    with clock.stage(Stage.LOAD):
        model = load(request.model, options.architecture, options.input_size)
        pool, warnings = read_images(request.pool, model.input_shape)
        _check_budget(options.budget, len(pool))
        pixels, guess = _normalisation(model, pool.images, options.normalize)
        model = replace(model, normalisation=pixels)
    with clock.stage(Stage.SCORE):
        logits = _logits(classifier(model, request.placement), pool.images, progress)
        if options.strategy == "energy":
            order = by_energy(logits, options.budget)
        else:
            order = by_chance(len(pool), options.budget, options.seed)
    report = Curation(
        model=reporting.model_facts(model),
        pool=Pool(name=pool.name, digest=pool.digest, n=len(pool)),
        strategy=options.strategy,
        budget=options.budget,
        seed=options.seed,
        guess=guess,
        chosen=_chosen(pool, logits, order),
        environment=reporting.environment(request.placement),
        timings=clock.seconds,
        warnings=(*warnings, *_doubts(pixels, guess)),
        reproduce=request.reproduce,
    )
    return Curated(report, pool.images[order])


def _check_budget(budget: int, n: int) -> None:
    if budget > n:
        raise OptionsError(
            f"{budget} images are asked for, and the pool holds {n}.",
            code="options.budget",
            remedy=f"Name at most {n} with --budget, or give a larger pool.",
        )


def _normalisation(
    model: LoadedModel, images: Tensor, named: str | None
) -> tuple[Normalisation, Guess | None]:
    if named is not None:
        return normalisation.parse(named, model.input_shape[0]), None
    return normalisation.guess(model.module, images)


def _logits(suspect: Classifier, images: Tensor, progress: Progress) -> Tensor:
    """Float32 (n, classes), finite. Raises `ModelError`."""
    found, done = [], 0
    for portion in portions(images):
        found.append(suspect.logits(portion))
        done += len(portion)
        progress.step(Stage.SCORE, done, len(images))
    logits = torch.cat(found)
    wrong = int((~logits.isfinite().all(1)).sum())
    if wrong:
        raise ModelError(
            f"The model answers {wrong} of {len(images)} images with NaN or infinity.",
            code="model.not_finite",
            remedy="Check --normalize, and the file with the program that made it; its weights may be damaged.",
        )
    return logits


def _chosen(pool: ImageSet, logits: Tensor, order: Tensor) -> tuple[Chosen, ...]:
    energies, margins, said = free_energy(logits), margin(logits), logits.argmax(1)
    return tuple(
        Chosen(
            name=pool.names[place],
            energy=float(energies[place]),
            margin=float(margins[place]),
            said=int(said[place]),
        )
        for place in order.tolist()
    )


def _doubts(pixels: Normalisation, guess: Guess | None) -> tuple[Problem, ...]:
    """What a guess cannot know."""
    if guess is None:
        return ()
    tried = ", ".join(f"{name} {value:.3f}" for name, value in guess.tried.items())
    why = {
        "statistics": f"the pool is nearest to what BatchNorm remembers of training (distances: {tried}). A pool of "
        "other images than the model was trained on, or of a few dozen, leads this astray.",
        "certainty": f"the model is most certain of the pool (mean entropy in nats: {tried}). Presets that are near to "
        "each other, such as cifar10, cifar10_rnp and imagenet, cannot be told apart so.",
    }
    guessed = Problem(
        code="options.normalize_guessed",
        detail=f"The normalisation was guessed without labels: {pixels.name}, with which {why[guess.by]}",
        remedy="Name the one that the model was trained with: --normalize.",
    )
    return (guessed,)
