"""What a net remembers of its training and the trusted images do not show.

Running means and variances of BatchNorm are of the images that a net was trained on, poisoned ones among them; Zheng et
al. prune the filters whose statistics are not those of clean images (Pre-activation Distributions Expose Backdoor
Neurons, NeurIPS 2022). Here the pixels are asked instead: which one change, made to a tenth of the trusted images,
gives them the statistics that the net remembers (after Yin et al., Dreaming to Distill, CVPR 2020)? No class is aimed
at. So where the change leads is a witness: on a clean net nearly nowhere, on a poisoned one into the target class. It
needs no trigger that is small, as the search for perturbations does, and sees none that were rare in training.

Knows tensors; knows nothing of jobs, files or HTTP.
"""

import torch
from torch import Tensor

from app.contract.job import Stage
from app.contract.options import StatisticsOptions
from worker.classifier import PIXELS_AT_ONCE, Classifier, portions
from worker.detectors.perturbation import Blend, Form, Perturbation
from worker.detectors.target_label import Pull, strongest
from worker.progress import SILENT, Progress
from worker.remembered import Entering, Moments, log_ratio, missed, over_all, remembering
from worker.samples.interface import SampleSet

CHANGED = 0.1  # of the images, the usual rate of poison; at 0.03 a clean net is led into one class to 37 %
# Of the steps, until variances count in full: a variance grows in either direction of a pixel, means say in which.
MEANS_FIRST = 0.5
# Logarithm of the factor by which the variances of a whole layer differ from those that it remembers: up to 0.20 on
# fifteen nets; 0.95 with darkened images, 1.4 and 2.5 with a wrong normalisation, which leads anywhere.
STRANGE = 0.5
START = 1 / 255  # of a pixel: standard deviation of what the search begins with


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
    size = max(2, min(options.batch_size, PIXELS_AT_ONCE // clean.images[0, 0].numel()))
    with Entering(layers) as entering:
        known = _known(model, entering, clean.images)
        usual = {name: log_ratio(layers[name], moments).median() for name, moments in known.items()}
        if max(abs(factor.item()) for factor in usual.values()) > STRANGE:
            return None
        added = START * torch.randn(1, *clean.images.shape[1:], generator=draw)
        added = added.to(model.placement.device).requires_grad_()
        optimiser = torch.optim.Adam([added], options.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
        for step in range(1, options.steps + 1):
            index = torch.randint(len(clean), (size,), generator=draw)
            _forward(model, (model.pixels(clean.images[index]) + added).clamp(0, 1))
            trust = min(1.0, step / (MEANS_FIRST * options.steps))
            apart = [
                missed(layers[name], known[name].mixed(moments, CHANGED), usual[name], trust)
                for name, moments in entering.moments().items()
            ]
            loss = torch.stack(apart).sum()
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


def _forward(model: Classifier, pixels: Tensor) -> None:
    with model.placement.autocast():
        model.module(model.standardise(pixels))


def _known(model: Classifier, entering: Entering, images: Tensor) -> dict[str, Moments]:
    with model.placement.autocast():
        return over_all(model.module, entering, (model.normalise(part) for part in portions(images)))
