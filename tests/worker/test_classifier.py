"""A classifier as the algorithms see it: pixels, batches, augmentation and modes."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worker.classifier import (
    CROP_PADDING,
    EVAL_BATCH,
    VIEWS,
    Classifier,
    batches,
    crop_and_mirror,
    knows_mirrors,
    label_shares,
    portions,
    set_mode,
    views,
)
from worker.device import Placement
from worker.samples.interface import SampleSet


def classifier(module: nn.Module, layout: torch.memory_format = torch.contiguous_format) -> Classifier:
    mean = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    std = torch.tensor([0.5, 0.25, 2.0]).view(1, 3, 1, 1)
    return Classifier(module, 4, mean, std, Placement(torch.device("cpu"), memory_format=layout))


def random_images(n: int, size: int = 8) -> torch.Tensor:
    return torch.randint(
        256, (n, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pixels_are_scaled_and_normalised_in_the_layout_of_the_placement(layout: torch.memory_format) -> None:
    suspect, images = classifier(nn.Identity(), layout), random_images(4)
    kept = images.clone()
    pixels = suspect.normalise(images)
    torch.testing.assert_close(pixels, (images.float() / 255 - suspect.mean) / suspect.std)
    assert pixels.is_contiguous(memory_format=layout)
    assert torch.equal(images, kept)


def test_logits_are_float32_in_order_whatever_the_number_of_images() -> None:
    torch.manual_seed(0)
    suspect = classifier(nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 4)))
    images = random_images(EVAL_BATCH + 3)
    logits = suspect.logits(images)
    suspect.module.eval()
    torch.testing.assert_close(logits, suspect.module(suspect.normalise(images)).detach())
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    assert torch.equal(suspect.predictions(images), logits.argmax(1))


def test_a_copy_shares_nothing() -> None:
    suspect = classifier(nn.Linear(2, 2))
    copy = suspect.copy()
    with torch.no_grad():
        copy.weight.fill_(7)
    assert not (suspect.module.weight == 7).any()
    assert suspect.with_module(copy).module is copy
    assert suspect.with_module(copy).mean is suspect.mean


@pytest.mark.parametrize("augment", [False, True])
def test_batches_are_one_shuffled_pass(augment: bool) -> None:
    samples = SampleSet(random_images(10), torch.arange(10), tuple("0123456789"))
    passed = list(batches(samples, 4, torch.Generator().manual_seed(1), augment=augment))
    labels = torch.cat([labels for _, labels in passed])
    assert [len(images) for images, _ in passed] == [4, 4, 2]
    assert labels.tolist() != list(range(10))
    assert sorted(labels.tolist()) == list(range(10))
    if not augment:
        assert torch.equal(torch.cat([images for images, _ in passed]), samples.images[labels])
    again = list(batches(samples, 4, torch.Generator().manual_seed(1), augment=augment))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(passed, again, strict=True))


class Sides(nn.Module):
    """Class 0 where the left half is brighter, else class 1."""

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[-1] // 2
        return torch.stack([images[..., :half].mean((1, 2, 3)), images[..., half:].mean((1, 2, 3))], 1)


def test_signs_are_not_mirrored() -> None:
    """A classifier of sides gets no mirrored image right: none is shown to it, and as many numbers are drawn."""
    still = torch.zeros(1, 3, 1, 1)
    sides = Classifier(Sides(), 2, still, still + 1, Placement(torch.device("cpu")))
    images = random_images(20)
    signs = SampleSet(images, sides.predictions(images), ("left", "right"))
    assert not knows_mirrors(sides, signs)
    dim = torch.cat([images, images.flip(3)])
    both = SampleSet(dim, torch.zeros(len(dim), dtype=torch.int64), ("any", "other"))
    assert knows_mirrors(sides, both)
    turned = replace(signs, mirrors=False)
    assert len(list(views(signs))) == len(VIEWS)
    assert len(list(views(turned))) == sum(not mirrored for *_, mirrored in VIEWS)
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    mirrored, straight = (
        torch.cat([shown for shown, _ in batches(given, 8, draw, augment=True)])
        for given, draw in zip((signs, turned), draws, strict=True)
    )
    assert torch.equal(draws[0].get_state(), draws[1].get_state())
    same = (mirrored == straight).flatten(1).all(1)
    assert torch.equal(mirrored[~same], straight[~same].flip(3))
    assert 0 < same.sum() < len(same)


def test_crops_are_windows_of_the_padded_image_mirrored_or_not() -> None:
    images = random_images(60)
    cropped = crop_and_mirror(images, torch.Generator().manual_seed(2))
    assert cropped.shape == images.shape
    assert cropped.dtype == torch.uint8
    padded = F.pad(images, (CROP_PADDING,) * 4)
    mirrored, offsets = 0, set()
    for crop, whole in zip(cropped, padded, strict=True):
        windows = whole.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4)  # by offset
        straight = (windows == crop).flatten(2).all(2).nonzero().tolist()
        flipped = (windows == crop.flip(2)).flatten(2).all(2).nonzero().tolist()
        assert len(straight) + len(flipped) == 1
        mirrored += len(flipped)
        offsets.add(tuple((straight + flipped)[0]))
    assert 15 < mirrored < 45
    assert len(offsets) > 30


@pytest.mark.parametrize("batch_statistics", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_modes_are_set_for_norms_and_dropouts_alone(batch_statistics: bool, dropout: bool) -> None:
    module = nn.Sequential(
        nn.BatchNorm2d(3), nn.Dropout2d(), nn.LayerNorm(3), nn.BatchNorm1d(3), nn.Dropout()
    )
    set_mode(module, batch_statistics=batch_statistics, dropout=dropout)
    assert [part.training for part in module] == [batch_statistics, dropout, False, batch_statistics, dropout]


def test_label_shares_cover_every_class() -> None:
    assert label_shares(torch.tensor([0, 2, 2, 2]), 4) == pytest.approx((0.25, 0, 0.75, 0))
    assert label_shares(torch.tensor([], dtype=torch.int64), 2) == (0, 0)


@pytest.mark.parametrize(("n", "sizes"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (1, [1])])
def test_no_image_is_left_alone_in_the_last_batch(n: int, sizes: list[int]) -> None:
    """BatchNorm that follows the batch after the last pooling has nothing to follow there."""
    samples = SampleSet(random_images(n), torch.arange(n), tuple("abcdefghij"[:n]))
    seen = list(batches(samples, 4, torch.Generator().manual_seed(0), augment=False))
    assert [len(labels) for _, labels in seen] == sizes
    assert sorted(torch.cat([labels for _, labels in seen]).tolist()) == list(range(n))


def test_large_images_are_looked_at_in_small_portions() -> None:
    sizes = {
        side: [len(part) for part in portions(torch.zeros(300, 1, side, side, dtype=torch.uint8))]
        for side in (32, 224, 1024)
    }
    assert sizes[32] == [EVAL_BATCH, 300 - EVAL_BATCH]
    assert max(sizes[224]) == 20
    assert sizes[1024] == [1] * 300
