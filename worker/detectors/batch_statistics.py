"""What a net remembers of its training and the trusted images do not show.

Running means and variances of BatchNorm are of the images that a net was trained on, poisoned ones among them; Zheng et
al. prune the filters whose statistics are not those of clean images (Pre-activation Distributions Expose Backdoor
Neurons, NeurIPS 2022). Here the pixels are asked instead: which one change, made to a tenth of the trusted images,
gives them the statistics that the net remembers (after Yin et al., Dreaming to Distill, CVPR 2020)? No class is aimed
at. So where the change leads is a witness: on a clean net nearly nowhere, on a poisoned one into the target class. It
needs no trigger that is small, as the search for perturbations does, and sees none that were rare in training.

Knows tensors; knows nothing of jobs, files or HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from app.contract.job import Stage
from app.contract.options import StatisticsOptions
from worker.classifier import EVAL_BATCH, Classifier
from worker.detectors.perturbation import Blend, Form, Perturbation
from worker.detectors.target_label import Pull, strongest
from worker.progress import SILENT, Progress
from worker.samples.interface import SampleSet

CHANGED = 0.1  # of the images, the usual rate of poison; at 0.03 a clean net is led into one class to 37 %
MEANS_FIRST = (
    0.5  # of the steps until variances count in full: they grow in either direction, means say in which
)
# Logarithm of the factor by which the variances of a whole layer differ from those that it remembers: up to 0.20 on
# fourteen nets; 0.95 with darkened images, 1.4 and 2.5 with the wrong normalisation, which lead anywhere.
STRANGE = 0.5
START = 1 / 255  # of a pixel: standard deviation of what the search begins with
LEAST_VARIANCE = 1e-8


@dataclass(frozen=True, slots=True)
class Moments:
    """Of what enters one layer: mean and mean square of each channel, (channels,)."""

    mean: Tensor
    square: Tensor

    @property
    def variance(self) -> Tensor:
        """Of each channel."""
        return (self.square - self.mean.square()).clamp(min=LEAST_VARIANCE)

    def mixed(self, other: "Moments", share: float) -> "Moments":
        """Those of both together, `share` of it the other's."""
        return Moments(self.mean.lerp(other.mean, share), self.square.lerp(other.square, share))


def recall(
    suspect: Classifier, clean: SampleSet, options: StatisticsOptions, seed: int, progress: Progress = SILENT
) -> Tensor | None:
    """What, added to a tenth of the images, makes up for what the statistics hold beyond them.

    Pixels in [0, 1], float32 (1, c, h, w), on the CPU. None for a net whose BatchNorms remember nothing, or other
    images altogether. Channels of a layer vary by another factor than in training all together, for reasons that are
    not poison (no augmentation here, images never seen), so that factor is left out.
    """
    model = suspect.with_module(suspect.copy().eval().requires_grad_(requires_grad=False))
    layers = remembering(model.module)
    if not layers or not options.steps:
        return None
    draw = torch.Generator().manual_seed(seed)
    with Entering(layers) as entering:
        known = _over_all(model, entering, clean.images)
        usual = {name: _log_ratio(layers[name], moments).median() for name, moments in known.items()}
        if max(abs(factor.item()) for factor in usual.values()) > STRANGE:
            return None
        added = START * torch.randn(1, *clean.images.shape[1:], generator=draw)
        added = added.to(model.placement.device).requires_grad_()
        optimiser = torch.optim.Adam([added], options.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
        for step in range(1, options.steps + 1):
            index = torch.randint(len(clean), (options.batch_size,), generator=draw)
            _forward(model, (model.pixels(clean.images[index]) + added).clamp(0, 1))
            trust = min(1.0, step / (MEANS_FIRST * options.steps))
            missed = [
                _missed(layers[name], known[name].mixed(moments, CHANGED), usual[name], trust)
                for name, moments in entering.moments().items()
            ]
            loss = torch.stack(missed).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            progress.step(Stage.PERTURB, step, options.steps, loss=loss.item())
    return added.detach().cpu()


def recalled(suspect: Classifier, clean: SampleSet, added: Tensor) -> tuple[Pull, Perturbation]:
    """Where the change leads, and the change as a perturbation into the class that it leads to most.

    Of each class: the share of the other classes' images that go over to it, beyond those that are given it anyway.
    """
    height, width = added.shape[2:]
    change = Blend(torch.ones(1, 1, height, width), added)
    changed = Perturbation(0, Form.RECALLED, change, float(added.norm())).stamp(clean.images)
    before, after = suspect.predictions(clean.images), suspect.predictions(changed)

    def gained(k: int) -> float:
        others = clean.labels != k
        count = max(1, int(others.sum()))
        return int(((after == k) & others).sum() - ((before == k) & others).sum()) / count

    pull = strongest([gained(k) for k in range(suspect.num_classes)])
    return pull, Perturbation(pull.target_class, Form.RECALLED, change, float(added.norm()))


def remembering(module: nn.Module) -> dict[str, _BatchNorm]:
    """The BatchNorms of a module that keep running statistics, by name."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    }


class Entering:
    """Use it as a context: until its end, what enters the layers in a forward pass is kept, with its graph."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.layers = layers
        self.latest: dict[str, Tensor] = {}

    def __enter__(self) -> "Entering":
        self.hooks = [
            layer.register_forward_pre_hook(
                lambda _, inputs, name=name: self.latest.update({name: inputs[0]})
            )
            for name, layer in self.layers.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def moments(self) -> dict[str, Moments]:
        """Of the latest forward pass, of the layers that it went through."""
        found = {}
        for name, entered in self.latest.items():
            values = entered.float().transpose(0, 1).flatten(1)
            found[name] = Moments(values.mean(1), values.square().mean(1))
        return found


def _forward(model: Classifier, pixels: Tensor) -> None:
    with model.placement.autocast():
        model.module(model.standardise(pixels))


@torch.no_grad()
def _over_all(model: Classifier, entering: Entering, images: Tensor) -> dict[str, Moments]:
    """Moments over all images, portion by portion."""
    sums: dict[str, Moments] = {}
    seen = 0
    for portion in images.split(EVAL_BATCH):
        _forward(model, model.pixels(portion))
        seen += len(portion)
        share = len(portion) / seen
        for name, moments in entering.moments().items():
            sums[name] = sums[name].mixed(moments, share) if name in sums else moments
    return sums


def _log_ratio(layer: _BatchNorm, moments: Moments) -> Tensor:
    """Of the variance of each channel to the one that is remembered, (channels,)."""
    assert layer.running_var is not None  # noqa: S101 - `remembering` has seen to it
    return (moments.variance / layer.running_var.clamp(min=LEAST_VARIANCE)).log()


def _missed(layer: _BatchNorm, moments: Moments, usual: Tensor, trust: float) -> Tensor:
    """How far a layer's statistics are from what it remembers, squared, mean over its channels.

    `trust`: what variances count beside means.
    """
    assert layer.running_mean is not None  # noqa: S101 - `remembering` has seen to it
    assert layer.running_var is not None  # noqa: S101
    spread = layer.running_var.clamp(min=LEAST_VARIANCE).sqrt()
    shifted = (moments.mean - layer.running_mean) / spread
    return shifted.square().mean() + trust * (_log_ratio(layer, moments) - usual).square().mean()
