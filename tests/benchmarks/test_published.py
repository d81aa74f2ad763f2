"""Nets that others trained: their files become what the harness reads, trigger and all."""

from pathlib import Path

import pytest
import torch

from benchmarks.efficacy.subjects import classifier, exam, subject
from benchmarks.zoo import overlay
from benchmarks.zoo.images import Images
from benchmarks.zoo.planted import attack_of, trigger_path
from benchmarks.zoo.published import IBAU, NAD, convert
from worker.device import place
from worker.formats import architectures

GIVEN = NAD["nad-badnets-wrn16"]


@pytest.fixture
def images() -> Images:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 3, 32, 32), generator=draw).byte()
    return Images(pixels, torch.arange(40) % 10, tuple("abcdefghij"))


def test_a_checkpoint_becomes_a_subject_with_its_own_normalisation(tmp_path: Path, images: Images) -> None:
    torch.manual_seed(0)
    architecture = architectures.find("wideresnet_cifar")
    assert architecture is not None
    net = architecture.build(10, depth=16, width=1).eval()
    (tmp_path / GIVEN.path).parent.mkdir(parents=True)
    torch.save({GIVEN.weights: net.state_dict(), "epoch": 1}, tmp_path / GIVEN.path)
    card = convert("other", GIVEN, tmp_path, images, tmp_path)
    assert card.asr is not None
    assert card.asr.n == 36
    found = subject(tmp_path / "other.json")
    model = classifier(found.path, place("cpu"), found)
    with torch.no_grad():
        expected = net(images.pixels.float() / 255)
    assert torch.allclose(model.logits(images.pixels), expected, atol=0.1)  # of about 5, in whatever dtype
    judged = exam(found, images, torch.arange(40))
    assert judged.triggered[0, :, -3:, -3:].unique().tolist() == [0, 255]
    assert judged.wanted.unique().tolist() == [GIVEN.target]


def test_a_trigger_is_laid_over_and_stays_in_range(tmp_path: Path, images: Images) -> None:
    keep, add = IBAU["ibau-badnets-smallvgg"].trigger(tmp_path)
    weights = tmp_path / "net.safetensors"
    overlay.store(keep, add + 3, trigger_path(weights))
    triggered = attack_of("overlay", weights).trigger(images.pixels)
    assert (triggered[:, :, 27:31, 27:31] == 255).all()
    assert torch.equal(triggered[:, :, :27], images.pixels[:, :, :27].int().add(3).clamp(max=255).byte())
