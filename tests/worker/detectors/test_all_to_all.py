"""An all-to-all backdoor on a net that the test built: every class is sent to the next, and none is favoured."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.contract.findings import Verdict
from app.contract.options import EvidenceOptions, PerturbationOptions, SanitizeOptions
from benchmarks.efficacy.subjects import WEIGHTS, classifier
from tests.conftest import SAMPLES
from tests.worker.detectors.test_trigger import CLASSES, clean
from tests.worker.detectors.test_trigger import SIZE as SIDE
from worker.classifier import Classifier
from worker.detectors.all_to_all import receivers
from worker.detectors.forms import Patch
from worker.detectors.perturbation import (
    ELSEWHERE,
    FARTHER,
    Blend,
    Form,
    Perturbation,
    relative_size,
    typical_size,
)
from worker.detectors.trigger import _losses, recover_perturbations
from worker.detectors.verdict import SIZE, Heard, judge
from worker.device import Placement
from worker.pipelines.hear import look_elsewhere
from worker.samples.interface import SampleSet


class Rolled(nn.Module):
    """Class k is the brightest quarter of the image; with a bright corner it is the next one, or always the same."""

    def __init__(self, *, into: int | None = None) -> None:
        super().__init__()
        self.into = into

    def forward(self, images: Tensor) -> Tensor:
        quarters = 8 * F.avg_pool2d(images, SIDE // 2).flatten(1)
        if self.into is None:
            sent = quarters.roll(1, 1)
        else:
            sent = 8 * F.one_hot(torch.tensor(self.into), CLASSES).expand_as(quarters)
        corner = images[:, :, -1, -1]
        return (1 - corner) * quarters + corner * sent


def suspect(*, into: int | None = None) -> Classifier:
    still = torch.zeros(1, 1, 1, 1)
    return Classifier(Rolled(into=into).eval(), CLASSES, still, still + 1, Placement(torch.device("cpu")))


def corner(k: int = ELSEWHERE) -> Perturbation:
    keep, add = torch.ones(1, 1, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE)
    keep[..., -1, -1], add[..., -1, -1] = 0, 1
    return Perturbation(k, Form.PATCH, Blend(keep, add), 1.0)


def test_the_search_finds_the_corner_that_no_class_alone_shows() -> None:
    ways = (ELSEWHERE, *range(CLASSES))
    found = recover_perturbations(suspect(), clean(), ways, PerturbationOptions(), 0, forms=(Patch,))
    elsewhere, *others = found
    assert isinstance(elsewhere.change, Blend)
    assert (1 - elsewhere.change.keep).flatten().argmax() == SIDE * SIDE - 1
    assert relative_size(elsewhere, found) < 0.5
    assert min(relative_size(p, found) for p in others) > 2 * relative_size(elsewhere, found)
    assert elsewhere.success(suspect(), clean()).value >= 0.8


def test_where_images_go_tells_an_all_to_all_backdoor_from_another() -> None:
    assert receivers(suspect(), corner(), clean()) == (0, 1, 2, 3)
    assert receivers(suspect(into=2), corner(), clean()) == ()


def test_a_few_images_of_a_class_say_not_where_it_is_led() -> None:
    few = clean().take(torch.arange(4 * CLASSES))
    assert few.labels.bincount().tolist() == [4] * CLASSES
    assert receivers(suspect(), corner(), few) == ()


def test_success_counts_every_image_that_leaves_its_class() -> None:
    success = corner().success(suspect(), clean())
    assert (success.value, success.n) == (1.0, 80)
    assert corner(1).success(suspect(), clean()).value == pytest.approx(1 / 3), (
        "of those of three other classes"
    )


def test_it_is_no_measure_for_the_others() -> None:
    """What it needs is not what natural features need for one class."""
    sizes = {ELSEWHERE: 1.0, 0: 10.0, 1: 20.0, 2: 30.0}
    found = [Perturbation(k, Form.PATCH, corner().change, size) for k, size in sizes.items()]
    assert typical_size(found[1], found) == 25.0
    assert typical_size(found[0], found) == FARTHER * 20.0


@pytest.mark.parametrize(("name", "guilty"), [("all-to-all-resnet18", True), ("clean-resnet18w8-602", False)])
def test_of_real_nets_the_one_is_heard_and_the_other_is_not(name: str, *, guilty: bool) -> None:
    """250 clean images of the example, seed 0."""
    every = np.load(SAMPLES.with_suffix(".npz"))
    images, labels = torch.from_numpy(every["images"]).permute(0, 3, 1, 2), torch.from_numpy(every["labels"])
    fit = SampleSet(images[::2], labels[::2], tuple("abcdefghij"))
    model = classifier(WEIGHTS / f"{name}.safetensors", Placement(torch.device("cpu")))
    heard = look_elsewhere(model, fit, SanitizeOptions(seed=0))
    assert bool(heard) is guilty
    assert all(len(into) >= 4 for into in heard.values())


def test_the_loss_is_that_of_the_class_or_of_all_but_the_own() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]], requires_grad=True)
    p = logits.detach().softmax(1).tolist()
    losses = _losses(logits, torch.tensor([1, ELSEWHERE]), torch.tensor([0, 0]))
    assert losses.tolist() == pytest.approx([-math.log(p[0][1]), -math.log(1 - p[1][0])])
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def judged(elsewhere: float, best: float = 0.9) -> Verdict:
    sizes = {ELSEWHERE: elsewhere, **dict.fromkeys(range(10), 1.0), 3: best}
    return judge(Heard(None, None, sizes, (), 10, 250, receiving=(0, 1, 2)), EvidenceOptions())


def test_the_verdict_names_the_classes_that_receive() -> None:
    verdict = judged(0.1)
    assert verdict.all_to_all
    assert verdict.target_classes == (0, 1, 2)
    (size, *_) = (signal for signal in verdict.signals if signal.name == SIZE)
    assert size.target_class is None
    assert "each into another" in verdict.because


def test_where_one_class_says_more_it_is_no_all_to_all_backdoor() -> None:
    verdict = judged(0.3, best=0.1)
    assert not verdict.all_to_all
    assert verdict.target_classes == (3,)
    assert not judged(1.5).target_classes
