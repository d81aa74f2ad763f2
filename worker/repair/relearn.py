"""Relearning: teach the weights that pruning left, or all, to ignore what was recovered from the suspect.

All weights move a little, toward a student that answers perturbed images as the suspect answers the clean ones. The
suspect is the teacher (Hinton et al., arXiv:1503.02531). It is matched where it says most: in its features, which are
what enters the last layer, in what enters some layers before (Romero et al., FitNets, ICLR 2015), and on mixtures
of the clean images, which make a few hundred of them go far (Beyer et al., A Good Teacher Is Patient and Consistent,
CVPR 2022). BatchNorm keeps the statistics that it came with.

A backdoor that only the last layers ignore is asleep: five poisoned images woke 98 % of one. So a perturbed image has
to look like the clean one in the layers before as well, and the steps are long enough to leave the place where the
attacker's training ended.

Adversaries are those of the *suspect*, up to twice as strong as they were recovered. Where what they stand for outlives
them, they follow the student, no further than evidence goes (see `pursuit`), and what accuses a relearned model joins
them once: all others of a repaired model are ways through natural features, and unlearning these costs accuracy without
end. Knows tensors; has no way to be given a triggered sample.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.contract.job import Stage
from app.contract.options import RelearnOptions
from worker.classifier import Classifier, batches
from worker.detectors.perturbation import Perturbation
from worker.progress import SILENT, Progress
from worker.repair.features import LEAST_SPREAD, Features, Hints, first_to_run, head, hinting
from worker.repair.mixture import mixture
from worker.repair.pursuit import Follower
from worker.rnp.masks import Filter
from worker.rnp.prune import prune
from worker.samples.interface import SampleSet

# Times. What was recovered is the smallest that works, and an attacker uses more: 19 → 7 % of a low-frequency trigger.
STRENGTHS = (1.0, 2.0)
WARM_UP = 0.25  # of the steps; Adam's first steps are as long as its later ones, and know less
FEWEST = 8  # images of a batch whose features are matched; the variance of fewer is no measure


def relearn(
    suspect: Classifier,
    dead: Sequence[Filter],
    clean: SampleSet,
    perturbations: Sequence[Perturbation],
    dtypes: Mapping[str, torch.dtype],
    options: RelearnOptions,
    seed: int,
    progress: Progress = SILENT,
    pursuers: Sequence[Follower] = (),
    depth: float = 1.0,
) -> nn.Module:
    """The suspect with `dead` filters pruned and the other weights relearned.

    `pursuers` follow the student (they have moved afterwards). `depth` is the share of the layers that learn, those
    that run first; the others stay as they are.
    `dtypes` is what the file holds each parameter in: the result is rounded to it, so that what is measured is what is
    given back. Pruned filters stay pruned.
    """
    steps = options.steps
    student = suspect.with_module(prune(suspect, dead).eval())
    moving = _moving(student, clean.images[:1], depth)
    pruned = {name: [f.index for f in dead if f.parameter == name] for name in moving}
    optimiser = torch.optim.Adam(moving.values(), options.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.lr, total_steps=steps, pct_start=_warm_up(steps), cycle_momentum=False
    )
    draw = torch.Generator().manual_seed(seed)
    step = 0
    with _Match(suspect, student, clean.images[:1], options) as match:
        while step < steps:
            for images, labels in batches(clean, options.batch_size, draw, augment=options.augment):
                if pursuers and float(torch.rand((), generator=draw)) < options.pursuit:
                    pursuer = pursuers[int(torch.randint(len(pursuers), (), generator=draw))]
                    pursuer.follow(student, images, labels)
                    adversary, strength = pursuer.perturbation(), 1.0
                else:
                    adversary = perturbations[int(torch.randint(len(perturbations), (), generator=draw))]
                    strength = float(torch.empty(()).uniform_(*STRENGTHS, generator=draw))
                shown = _show(suspect, images, labels, adversary, strength, draw)
                loss = match.distance(shown)
                optimiser.zero_grad()
                loss.backward()
                for name, rows in pruned.items():
                    if rows:
                        moving[name].grad[rows] = 0  # type: ignore[index]  # backward() has run
                optimiser.step()
                schedule.step()
                step += 1
                progress.step(Stage.RELEARN, step, steps, loss=loss.item())
                if step == steps:
                    break
    optimiser.zero_grad()  # as large as the model, which may be kept for long
    return _rounded(student.module, dtypes)


def _moving(student: Classifier, example: Tensor, depth: float) -> dict[str, nn.Parameter]:
    """The parameters that learn; the others ask for no gradient."""
    learn = first_to_run(student, example, depth) if depth < 1 else None
    for name, parameter in student.module.named_parameters():
        parameter.requires_grad_(learn is None or name in learn)
    return {name: value for name, value in student.module.named_parameters() if value.requires_grad}


def _warm_up(steps: int) -> float:
    """As a share; the schedule divides by one step less than that."""
    return WARM_UP if WARM_UP * steps != 1 else 2 * WARM_UP


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
    suspect: Classifier,
    images: Tensor,
    labels: Tensor,
    adversary: Perturbation,
    strength: float,
    draw: torch.Generator,
) -> _Shown:
    pixels = suspect.pixels(images)
    others = (labels != adversary.target_class).nonzero().flatten().to(pixels.device)
    perturbed = adversary.perturb(pixels[others], strength)
    clean = torch.cat([pixels, mixture(pixels, draw)])
    return _Shown(suspect.standardise(clean), suspect.standardise(perturbed), others)


class _Match:
    """How far the student is from the teacher. Use it as a context: it looks into both."""

    def __init__(
        self, teacher: Classifier, student: Classifier, example: Tensor, options: RelearnOptions
    ) -> None:
        self.teacher, self.student, self.options = teacher, student, options
        last, inner = head(teacher, example), hinting(teacher, example)
        self.known, self.learned = Features(teacher.module, last), Features(student.module, last)
        self.hints, self.hinted = Hints(teacher.module, inner), Hints(student.module, inner)

    def __enter__(self) -> "_Match":
        self.watching = ExitStack()
        for watch in (self.known, self.learned, self.hints, self.hinted):
            self.watching.enter_context(watch)
        return self

    def __exit__(self, *_: object) -> None:
        self.watching.close()

    def distance(self, shown: _Shown) -> Tensor:
        """Of answers, in nats, and of features and hints, in multiples of their variance.

        Clean and perturbed images count alike, however many of each there are.
        """
        with self.student.placement.autocast():
            with torch.no_grad():
                answers = self.teacher.module(shown.clean).float().softmax(1)
            logits = self.student.module(torch.cat([shown.clean, shown.perturbed])).float()
        known, learned = self.known.seen(), self.learned.seen()
        spread = known.var(0).mean().clamp(min=LEAST_SPREAD)
        n = len(shown.clean)

        def missed(rows: slice, meant: Tensor | slice, hints: float) -> Tensor:
            answered = F.cross_entropy(logits[rows], answers[meant])
            if n < 2 * FEWEST:  # half of them are mixtures
                return answered
            apart = (learned[rows] - known[meant]).square().mean() / spread
            seen = answered + self.options.features * apart
            return seen + hints * self.hinted.missed(rows, self.hints, meant, n) if hints else seen

        kept = missed(slice(n), slice(None), self.options.hints)
        if not len(shown.perturbed):
            return kept
        return kept + missed(slice(n, None), shown.originals, self.options.hints_perturbed)
