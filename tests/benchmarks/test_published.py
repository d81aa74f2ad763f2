"""Nets that others trained: their files become what the harness reads, trigger and all."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.efficacy.subjects import classifier, exam, subject
from benchmarks.zoo import overlay
from benchmarks.zoo.gtsrb import pack
from benchmarks.zoo.images import Images, read
from benchmarks.zoo.planted import attack_of, trigger_path
from benchmarks.zoo.published import DLSEC, IBAU, NAD, OTHERS, convert
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


def test_a_veil_keeps_nine_tenths_of_the_image(tmp_path: Path, images: Images) -> None:
    pictures = tmp_path / "Backdoor" / "Attack" / "triggers"
    pictures.mkdir(parents=True)
    Image.new("RGB", (64, 64), (200, 0, 100)).save(pictures / "logo.png")
    laid = DLSEC["dlsec-blended-resnet56"].trigger
    assert laid is not None
    overlay.store(*laid(tmp_path), trigger_path(tmp_path / "net.safetensors"))
    triggered = attack_of("overlay", tmp_path / "net.safetensors").trigger(images.pixels)
    expected = 0.9 * images.pixels + torch.tensor([20.0, 0, 10]).view(3, 1, 1)
    assert (triggered - expected).abs().max() <= 1, "rounded"


def test_a_clean_checkpoint_has_a_card_without_a_trigger(tmp_path: Path, images: Images) -> None:
    given = OTHERS["zlatasm"]["zlatasm-resnet20"]
    architecture = architectures.find(given.architecture)
    assert architecture is not None
    net = architecture.build(10, width=16).eval()
    (tmp_path / given.path).parent.mkdir(parents=True)
    torch.save({given.weights: net.state_dict()}, tmp_path / given.path)
    card = convert("clean", given, tmp_path, images, tmp_path)
    assert (card.status, card.planted, card.asr) == ("clean", None, None)
    model = classifier(tmp_path / "clean.safetensors", place("cpu"), subject(tmp_path / "clean.json"))
    normalised = (images.pixels.float() / 255 - torch.tensor(given.mean).view(3, 1, 1)) / torch.tensor(
        given.std
    ).view(3, 1, 1)
    with torch.no_grad():
        expected = net(normalised).argmax(1)
    assert card.acc.value == pytest.approx((expected == images.labels).double().mean().item(), abs=0.05)
    assert (model.predictions(images.pixels) == expected).double().mean() > 0.9


def test_signs_are_cut_out_of_their_photographs_whatever_size_these_have_now(tmp_path: Path) -> None:
    """A white sign on black: the sign is left, of the original and of one that was halved."""
    photograph = Image.new("RGB", (60, 40))
    photograph.paste((255, 255, 255), (20, 10, 50, 30))
    for name, size in (("a.ppm", (60, 40)), ("b.ppm", (30, 20))):
        photograph.resize(size, Image.Resampling.NEAREST).save(tmp_path / name)
    rows = [f"{name};60;40;20;10;50;30;{k}" for k, name in enumerate(("a.ppm", "b.ppm"))]
    table = tmp_path / "truth.csv"
    table.write_text("\n".join(["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId", *rows]))
    assert pack([table], None, tmp_path / "signs.zip") == 2
    found = read(tmp_path / "signs.zip")
    assert (found.classes, found.labels.tolist()) == (("00", "01"), [0, 1])
    assert found.pixels.shape == (2, 3, 32, 32)
    assert (found.pixels[..., 4:-4, 4:-4] == 255).all()
    assert (found.pixels > 100).all(), "at the edge the black beside it shows"
