"""Trigger recovery on a net whose shortcut is known, because the test built it."""

import pytest
import torch
from torch import Tensor, nn

from app.contract.options import PerturbationOptions, RelearnOptions
from worker.classifier import Classifier
from worker.detectors.perturbation import Form, Perturbation, relative_size, smallest
from worker.detectors.trigger import recover_perturbations
from worker.device import Placement
from worker.repair.relearn import relearn
from worker.samples.interface import SampleSet

SIZE, CLASSES, TARGET = 8, 4, 2


class Shortcut(nn.Module):
    """Class k is the brightest quarter of the image; a bright corner pixel means TARGET whatever the rest says."""

    def __init__(self) -> None:
        super().__init__()
        quarters = torch.zeros(CLASSES + 1, 1, SIZE, SIZE)
        for k in range(CLASSES):
            row, column = divmod(k, 2)
            quarters[k, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1.0
        quarters[CLASSES, :, 7, 7] = 16.0
        self.features = nn.Conv2d(1, CLASSES + 1, SIZE, bias=False)
        self.features.weight.data = quarters
        self.norm = nn.BatchNorm2d(CLASSES + 1)
        self.norm.eval()
        head = torch.cat([torch.eye(CLASSES), torch.zeros(CLASSES, 1)], 1)
        head[TARGET, CLASSES] = 8.0
        self.head = nn.Linear(CLASSES + 1, CLASSES, bias=False)
        self.head.weight.data = head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.features(images)).relu().flatten(1))
        return logits


def suspect() -> Classifier:
    still = torch.zeros(1, 1, 1, 1)
    return Classifier(Shortcut().eval(), CLASSES, still, still + 1, Placement(torch.device("cpu")))


def clean() -> SampleSet:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % CLASSES
    images = torch.randint(0, 40, (80, 1, SIZE, SIZE), generator=draw)
    for image, k in zip(images, labels.tolist(), strict=True):
        row, column = divmod(k, 2)
        image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 150
    images[:, :, 7, 7] = 0  # no clean image takes the shortcut
    return SampleSet(images.byte(), labels, tuple("abcd"))


@pytest.fixture(scope="module")
def found() -> tuple[Perturbation, ...]:
    return recover_perturbations(suspect(), clean(), range(CLASSES), PerturbationOptions(), seed=0)


def test_the_smallest_patch_is_the_shortcut_and_lies_where_the_shortcut_lies(
    found: tuple[Perturbation, ...],
) -> None:
    sizes = smallest(found, found)
    assert min(sizes, key=sizes.__getitem__) == TARGET
    assert sizes[TARGET] < 0.5
    patch = next(p for p in found if p.target_class == TARGET and p.form is Form.PATCH)
    assert (1 - patch.keep).flatten().argmax() == 7 * SIZE + 7


def test_success_counts_images_of_other_classes_only(found: tuple[Perturbation, ...]) -> None:
    patch = next(p for p in found if p.target_class == TARGET and p.form is Form.PATCH)
    success = patch.success(suspect(), clean())
    assert success.n == 60
    assert success.value >= 0.8, "the search keeps what succeeds on nine of ten in its running mean"


def test_one_seed_finds_one_perturbation() -> None:
    options = PerturbationOptions(steps=5, success=0.01)
    first, again = (
        recover_perturbations(suspect(), clean(), range(CLASSES), options, seed=3) for _ in range(2)
    )
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.keep, b.keep)
        assert torch.equal(a.add, b.add)
        assert a.size == b.size


def test_a_class_that_no_image_goes_over_to_has_an_infinite_size_and_no_relative_one() -> None:
    none = recover_perturbations(suspect(), clean(), [0, 1], PerturbationOptions(steps=1), seed=0)
    assert all(p.size == float("inf") for p in none)
    assert relative_size(none[0], none) == 1.0
    assert torch.equal(none[0].stamp(clean().images), clean().images)


def test_relearning_closes_the_shortcut_and_keeps_the_task(found: tuple[Perturbation, ...]) -> None:
    accused = [p for p in found if p.target_class == TARGET]
    model = suspect()
    before = {name: p.clone() for name, p in model.module.named_parameters()}
    options = RelearnOptions(steps=100, lr=0.05, augment=False)
    repaired = model.with_module(relearn(model, (), clean(), accused, {}, options, seed=0))
    assert (repaired.predictions(clean().images) == clean().labels).double().mean() >= 0.95
    assert max(p.success(repaired, clean()).value for p in accused) <= 0.1
    assert all(torch.equal(before[name], p) for name, p in model.module.named_parameters())
