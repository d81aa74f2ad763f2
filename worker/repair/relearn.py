"""Relearning: teach the weights that pruning left, or all, to ignore what was recovered from the suspect.

All weights move a little, toward a student that answers perturbed images as the suspect answers the clean ones. The
suspect is the teacher (Hinton et al., arXiv:1503.02531). It is matched where it says most: in its features, which are
what enters the last layer (Romero et al., FitNets, ICLR 2015), and on mixtures of the clean images, which make a few
hundred of them go far (Beyer et al., A Good Teacher Is Patient and Consistent, CVPR 2022). BatchNorm keeps the
statistics that it came with.

Adversaries are those of the *suspect*, up to twice as strong as they were recovered, and at most once what accuses a
relearned model: all others of a repaired model are ways through natural features, and unlearning these costs accuracy
without end. Knows tensors; has no way to be given a triggered sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.contract.job import Stage
from app.contract.options import RelearnOptions
from worker.classifier import Classifier, batches
from worker.detectors.perturbation import Perturbation
from worker.progress import SILENT, Progress
from worker.repair.features import Features, head
from worker.repair.mixture import mixture
from worker.rnp.masks import Filter
from worker.rnp.prune import prune
from worker.samples.interface import SampleSet

# Times. What was recovered is the smallest that works, and an attacker uses more: 19 → 7 % of a low-frequency trigger.
STRENGTHS = (1.0, 2.0)
WARM_UP = 0.25  # of the steps; Adam's first steps are as long as its later ones, and know less
FEWEST = 8  # images of a batch whose features are matched; the variance of fewer is no measure
LEAST_SPREAD = 1e-6  # of features that are the same for every image


def relearn(
    suspect: Classifier,
    dead: Sequence[Filter],
    clean: SampleSet,
    perturbations: Sequence[Perturbation],
    dtypes: Mapping[str, torch.dtype],
    options: RelearnOptions,
    seed: int,
    progress: Progress = SILENT,
) -> nn.Module:
    """The suspect with `dead` filters pruned and the other weights relearned.

    `dtypes` is what the file holds each parameter in: the result is rounded to it, so that what is measured is what is
    given back. Pruned filters stay pruned.
    """
    student = suspect.with_module(prune(suspect, dead).eval().requires_grad_())
    moving = dict(student.module.named_parameters())
    pruned = {name: [f.index for f in dead if f.parameter == name] for name in {f.parameter for f in dead}}
    optimiser = torch.optim.Adam(moving.values(), options.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.lr, total_steps=options.steps, pct_start=WARM_UP, cycle_momentum=False
    )
    draw = torch.Generator().manual_seed(seed)
    last = head(suspect, clean.images[:1])
    step = 0
    with Features(suspect.module, last) as known, Features(student.module, last) as learned:
        while step < options.steps:
            for images, labels in batches(clean, options.batch_size, draw, augment=options.augment):
                adversary = perturbations[int(torch.randint(len(perturbations), (), generator=draw))]
                shown = _show(suspect, images, labels, adversary, draw)
                loss = _distance(suspect, student, (known, learned), shown, options.features)
                optimiser.zero_grad()
                loss.backward()
                for name, rows in pruned.items():
                    moving[name].grad[rows] = 0  # type: ignore[index]  # backward() has run
                optimiser.step()
                schedule.step()
                step += 1
                progress.step(Stage.RELEARN, step, options.steps, loss=loss.item())
                if step == options.steps:
                    break
    return _rounded(student.module, dtypes)


@torch.no_grad()
def partway(
    suspect: Classifier,
    dead: Sequence[Filter],
    relearned: nn.Module,
    share: float,
    dtypes: Mapping[str, torch.dtype],
) -> nn.Module:
    """That share of the straight way from pruning alone to the relearned weights.

    As Wortsman et al. do between a model and its fine-tuned self (CVPR 2022): what was suppressed may stay so while
    some of the accuracy comes back.
    """
    module, goal = prune(suspect, dead).eval(), dict(relearned.named_parameters())
    for name, parameter in module.named_parameters():
        parameter.copy_(parameter.lerp(goal[name], share))
    return _rounded(module, dtypes)


@torch.no_grad()
def _rounded(module: nn.Module, dtypes: Mapping[str, torch.dtype]) -> nn.Module:
    for name, parameter in module.named_parameters():
        parameter.copy_(parameter.to(dtypes.get(name, parameter.dtype)))
    return module


@dataclass(frozen=True, slots=True)
class _Shown:
    """One batch as the module takes it."""

    clean: Tensor  # images, and as many mixtures of them
    perturbed: Tensor  # those of other classes than the perturbation leads into
    originals: Tensor  # (len(perturbed),) -> row of `clean`


def _show(
    suspect: Classifier, images: Tensor, labels: Tensor, adversary: Perturbation, draw: torch.Generator
) -> _Shown:
    pixels = suspect.pixels(images)
    others = (labels != adversary.target_class).nonzero().flatten().to(pixels.device)
    strength = float(torch.empty(()).uniform_(*STRENGTHS, generator=draw))
    perturbed = adversary.perturb(pixels[others], strength)
    clean = torch.cat([pixels, mixture(pixels, draw)])
    return _Shown(suspect.standardise(clean), suspect.standardise(perturbed), others)


def _distance(
    teacher: Classifier,
    student: Classifier,
    features: tuple[Features, Features],
    shown: _Shown,
    weight: float,
) -> Tensor:
    """Of the student from the teacher: of answers, in nats, and of features, in `weight` times their variance.

    Clean and perturbed images count alike, however many of each there are.
    """
    known, learned = features
    with student.placement.autocast():
        with torch.no_grad():
            answers = teacher.module(shown.clean).float().softmax(1)
        logits = student.module(torch.cat([shown.clean, shown.perturbed])).float()
    spread = known.seen().var(0).mean().clamp(min=LEAST_SPREAD)
    weight = weight if len(shown.clean) >= 2 * FEWEST else 0.0  # half of them are mixtures

    def missed(rows: slice, meant: Tensor | slice) -> Tensor:
        apart = (learned.seen()[rows] - known.seen()[meant]).square().mean() / spread
        return F.cross_entropy(logits[rows], answers[meant]) + weight * apart

    everything, n = slice(None), len(shown.clean)
    kept = missed(slice(n), everything)
    return kept + missed(slice(n, None), shown.originals) if len(shown.perturbed) else kept
