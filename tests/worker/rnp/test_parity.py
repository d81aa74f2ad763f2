"""Under the paper's options our RNP computes what the plain one beside the benchmarks computes."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from app.contract.options import PAPER, SanitizeOptions
from worker.classifier import Classifier
from worker.device import Placement
from worker.formats.architectures.resnet import BasicBlock, ResNet
from worker.rnp.masks import FilterMasks
from worker.rnp.prune import prune
from worker.rnp.recover import recover
from worker.rnp.unlearn import unlearn
from worker.samples.interface import SampleSet

PLAIN = Path(__file__).parents[3] / "benchmarks" / "plain_rnp.py"
SEED = 5
BATCH = 24  # of 64 images: the last batch is smaller
CLASSES = tuple("abcdefghij")
OPTIONS = SanitizeOptions(
    fidelity="paper",
    unlearn={"augment": False, "batch_size": BATCH},
    recover={"augment": False, "batch_size": BATCH, "epochs": 6},
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small only wait when threads share a busy core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_rnp", PLAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (64, 3, 16, 16), generator=draw, dtype=torch.uint8)
    return SampleSet(images, torch.arange(64) % len(CLASSES), CLASSES)


@pytest.fixture(scope="module")
def suspect(samples: SampleSet) -> Classifier:
    """A tiny net that knows the samples by heart: it has something to forget."""
    torch.manual_seed(0)
    net = ResNet(BasicBlock, (1, 1, 1, 1), len(CLASSES), width=4)
    classifier = Classifier(
        net,
        len(CLASSES),
        torch.full((1, 3, 1, 1), 0.5),
        torch.full((1, 3, 1, 1), 0.25),
        Placement(torch.device("cpu")),
    )
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for _ in range(20):
        optimiser.zero_grad()
        F.cross_entropy(net(classifier.normalise(samples.images)), samples.labels).backward()
        optimiser.step()
    return classifier


@pytest.fixture(scope="module")
def forgotten(suspect: Classifier, samples: SampleSet) -> nn.Module:
    return unlearn(suspect, samples, OPTIONS.unlearn, SEED).module


def data(plain: ModuleType, suspect: Classifier, samples: SampleSet) -> object:
    return plain.Data(
        samples.images, samples.labels, suspect.mean[0], suspect.std[0], batch_size=BATCH, augment=False
    )


def test_unlearning_moves_the_same_weights(
    plain: ModuleType, suspect: Classifier, samples: SampleSet, forgotten: nn.Module
) -> None:
    assert suspect.predictions(samples.images).eq(samples.labels).float().mean() > 0.9
    theirs = plain.unlearn(
        suspect.module, data(plain, suspect, samples), PAPER["unlearn"]["max_epochs"], SEED
    )
    before, expected = suspect.module.state_dict(), theirs.state_dict()
    moved = 0.0
    for name, ours in forgotten.state_dict().items():
        torch.testing.assert_close(ours, expected[name], rtol=1e-3, atol=1e-4, msg=name)
        moved += (ours - before[name]).float().norm().item()
    assert moved > 1


def test_recovering_finds_the_same_masks(
    plain: ModuleType, suspect: Classifier, samples: SampleSet, forgotten: nn.Module
) -> None:
    theirs = plain.recover(forgotten, data(plain, suspect, samples), OPTIONS.recover.epochs, SEED)
    ours = recover(suspect.with_module(forgotten), samples, OPTIONS.recover, SEED).masks.values
    assert list(ours) == [f"{name}.weight" for name in theirs]
    assert min(mask.min().item() for mask in ours.values()) < 0.9
    for name, mask in theirs.items():
        torch.testing.assert_close(ours[f"{name}.weight"], mask, rtol=0, atol=2e-4, msg=name)


def test_pruning_prunes_the_same_filters(plain: ModuleType, suspect: Classifier, samples: SampleSet) -> None:
    draw = torch.Generator().manual_seed(1)
    masks = {
        name: torch.rand(part.num_features, generator=draw)
        for name, part in suspect.module.named_modules()
        if isinstance(part, nn.BatchNorm2d)
    }
    rows = plain.sweep(suspect.module, masks, data(plain, suspect, samples))
    ours = FilterMasks({f"{name}.weight": mask for name, mask in masks.items()})
    assert len(rows) == 20
    for threshold, pruned, accuracy in rows:
        filters = ours.below(threshold)
        repaired = suspect.with_module(prune(suspect, filters))
        assert len(filters) == pruned
        assert repaired.predictions(samples.images).eq(samples.labels).double().mean().item() == accuracy


def test_plain_augmentation_keeps_shape_and_type(plain: ModuleType) -> None:
    image = torch.arange(3 * 16 * 16, dtype=torch.int16).view(3, 16, 16).clamp(max=255).to(torch.uint8)
    cropped = plain.crop_and_mirror(image, torch.Generator().manual_seed(3))
    assert cropped.shape == image.shape
    assert cropped.dtype == torch.uint8
