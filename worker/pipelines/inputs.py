"""What a job is given, read and understood: the suspect as a classifier, the clean samples in their parts.

Knows files; knows nothing of what is done with them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from app.contract.options import SanitizeOptions
from app.contract.problem import Problem
from worker.classifier import Classifier, knows_mirrors
from worker.device import Placement
from worker.formats import normalisation
from worker.formats.interface import LoadedModel
from worker.formats.load import load
from worker.samples.interface import CleanSplit, SampleSet, TriggeredSet
from worker.samples.read import read_samples, read_triggered
from worker.samples.split import split, thin_parts


@dataclass(frozen=True, slots=True)
class Request:
    """What one job is given."""

    model: Path
    samples: Path
    options: SanitizeOptions
    placement: Placement
    triggered: Path | None = None
    triggered_target: int | None = None
    reproduce: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The inputs, read and understood."""

    model: LoadedModel
    suspect: Classifier
    clean: SampleSet
    parts: CleanSplit
    warnings: tuple[Problem, ...]


def read_inputs(request: Request) -> Loaded:
    """The suspect with its normalisation, the clean samples, divided, and what there is to warn of.

    Raises `ModelError`, `SamplesError`, `OptionsError`.
    """
    options = request.options
    model = load(request.model, options.architecture, options.input_size)
    clean, warnings = read_samples(request.samples, model.num_classes, model.input_shape)
    parts = split(clean, options.split.fit, options.split.select, options.seed)
    pixels = (
        normalisation.parse(options.normalize, model.input_shape[0])
        if options.normalize
        else normalisation.choose(model.module, parts.fit.images, parts.fit.labels)
    )
    model = replace(model, normalisation=pixels)
    suspect = classifier(model, request.placement)
    mirrors = options.fidelity == "paper" or knows_mirrors(suspect, parts.fit)
    parts = parts.mirroring(mirrors=mirrors)
    return Loaded(model, suspect, clean, parts, (*warnings, *thin_parts(parts)))


def read_evaluation(request: Request, loaded: Loaded) -> TriggeredSet | None:
    """The triggered samples, if there are any. Raises `SamplesError`."""
    if request.triggered is None:
        return None
    return read_triggered(
        request.triggered,
        loaded.model.num_classes,
        loaded.model.input_shape,
        request.triggered_target,
        loaded.clean.class_names,
    )


def classifier(model: LoadedModel, placement: Placement) -> Classifier:
    """The module, moved to its place, with the pixels that it was read with."""

    def constants(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, device=placement.device).view(1, -1, 1, 1)

    mean_of, std_of = constants(model.normalisation.mean), constants(model.normalisation.std)
    return Classifier(placement.take(model.module), model.num_classes, mean_of, std_of, placement)
