"""Each defence: the suspect's file and some clean images in, the models that it gives back out."""

import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from app.contract.report import Perturbation, Report
from benchmarks import plain_rnp
from benchmarks.efficacy.subjects import Exam, Subject, classifier
from benchmarks.efficacy.table import target
from benchmarks.efficacy.tuning import fine_tune
from worker.classifier import Classifier
from worker.device import Placement
from worker.pipelines import deliver
from worker.pipelines.inputs import Request
from worker.pipelines.sanitize import sanitize
from worker.samples.interface import SampleSet

BUDGET = 0.02  # of accuracy on the defence's own images, for the blind threshold
RNP_EPOCHS = 20
BLIND, ORACLE = "RNP, blind threshold", "RNP, oracle threshold"


@dataclass(frozen=True, slots=True)
class Given:
    """What a defence works with. `exam` is for the oracle alone, which looks at the answers."""

    subject: Subject
    placement: Placement
    clean: SampleSet
    seed: int
    exam: Exam

    @property
    def suspect(self) -> Classifier:
        """The model, afresh."""
        return classifier(self.subject.path, self.placement, self.subject)


@dataclass(frozen=True, slots=True)
class Back:
    """One model that a defence gives back, what it says of it, and the seconds that it took."""

    defence: str
    module: nn.Module
    says: str
    seconds: float


def ours(given: Given) -> Iterator[Back]:
    """The product, as the command runs it with nothing but a seed; the file that it writes is read again."""
    subject = given.subject
    with tempfile.TemporaryDirectory() as name:
        samples = Path(name, "clean.npz")
        pixels = given.clean.images.permute(0, 2, 3, 1).numpy()
        np.savez(samples, images=pixels, labels=given.clean.labels.numpy())
        started = time.monotonic()
        result = sanitize(Request(subject.path, samples, subject.options(given.seed), given.placement))
        report = deliver.deliver(result, Path(name, "out"), {})
        seconds = time.monotonic() - started
        module = classifier(Path(name, "out", subject.path.name), given.placement, subject).module
    yield Back("ours", module, _says(report), seconds)


def published_rnp(given: Given) -> Iterator[Back]:
    """One ranking by the published recipe, two thresholds: chosen with the answers in hand, and without.

    It masks the scales of BatchNorm, so a net that has none comes back as it was.
    """
    suspect = given.suspect
    net = suspect.module
    if not any(isinstance(part, nn.BatchNorm2d) for part in net.modules()):
        for defence in (BLIND, ORACLE):
            yield Back(defence, net, "no BatchNorm", 0.0)
        return
    data = plain_rnp.Data(given.clean.images, given.clean.labels, suspect.mean[0], suspect.std[0])
    started = time.monotonic()
    masks = plain_rnp.recover(
        plain_rnp.unlearn(net, data, RNP_EPOCHS, given.seed), data, RNP_EPOCHS, given.seed
    )
    steps = plain_rnp.sweep(net, masks, data)
    blind = max((t for t, _, accuracy in steps if accuracy >= steps[0][2] - BUDGET), default=-1.0)
    seconds = time.monotonic() - started
    yield Back(BLIND, pruned(net, masks, blind), f"{blind:.2f}", seconds)
    if len(given.exam.wanted):
        choices = [(t, pruned(net, masks, t)) for t, _, _ in steps]
        best, module = max(choices, key=lambda choice: _merit(suspect.with_module(choice[1]), given.exam))
        yield Back(ORACLE, module, f"{best:.2f}", time.monotonic() - started)


def tuned(given: Given) -> Iterator[Back]:
    """Plain fine-tuning, and FT-SAM."""
    for name, sharpness_aware in (("fine-tuning", False), ("FT-SAM", True)):
        started = time.monotonic()
        module = fine_tune(given.suspect, given.clean, given.seed, sharpness_aware=sharpness_aware)
        yield Back(name, module, "", time.monotonic() - started)


DEFENCES: dict[str, Callable[[Given], Iterator[Back]]] = {"ours": ours, "rnp": published_rnp, "tuned": tuned}


def _says(report: Report) -> str:
    """Verdict, outcome, and what stands behind them: each signal with its class, the repair with what is left."""
    verdict, repair = report.verdict, report.repair
    targets = ",".join(map(str, verdict.target_classes)) or "–"
    accused = {*verdict.target_classes, *([None] if verdict.all_to_all else [])}
    parts = [f"{verdict.label.value} {targets} {report.outcome.value}"]
    parts += [
        f"{signal.name.split()[0]} {signal.value:.2f} on {target(signal.target_class)}"
        for signal in verdict.signals
    ]
    parts += [
        f"{found.form} into {target(found.target_class)} reaches {found.success.value:.2f}{_firmly(found)}"
        for found in report.perturbations
        if found.target_class in accused
    ]
    at = repair.chosen if repair.chosen is not None else repair.best_candidate
    if at is not None:
        found = repair.candidates[at]
        share = "" if found.share is None else f" {found.share}"
        left = ", ".join(
            "–" if value is None else f"{value:.2f}"
            for value in (found.perturbation_success, found.perturbation_size, found.evidence)
        )
        parts.append(
            f"{found.rung}{share} of {found.pruned}, {100 * found.change.value:+.1f} points, left {left}"
        )
    return "; ".join(parts)


def _firmly(found: Perturbation) -> str:
    return f" ({found.firm.success.value:.2f} at {found.firm.times:.2f})" if found.firm else ""


@torch.no_grad()
def pruned(net: nn.Module, masks: dict[str, torch.Tensor], threshold: float) -> nn.Module:
    """A copy whose filters with a mask at or below the threshold are silenced, as the official code does it."""
    copy = deepcopy(net).eval()
    for name, mask in masks.items():
        copy.get_parameter(f"{name}.weight")[mask <= threshold] = 0
    return copy


def _merit(classifier: Classifier, exam: Exam) -> float:
    accuracy = (classifier.predictions(exam.clean) == exam.labels).double().mean().item()
    return accuracy - (classifier.predictions(exam.triggered) == exam.wanted).double().mean().item()
