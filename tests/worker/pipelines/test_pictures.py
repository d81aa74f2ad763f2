"""Pictures of a perturbation show it, and fit into a report whatever the size of the model's images."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from app.contract.report import Base64
from worker.detectors.perturbation import Bend, Blend, Change, Form, Perturbation
from worker.pipelines.pictures import SIDE, pictures
from worker.samples.interface import SampleSet

FITS = TypeAdapter(Base64)


def noise(side: int) -> Blend:
    draw = torch.Generator().manual_seed(0)
    return Blend(torch.ones(1, 1, side, side), 0.05 * torch.randn(1, 3, side, side, generator=draw))


def patch(side: int) -> Blend:
    keep = torch.ones(1, 1, side, side)
    keep[..., : side // 2, : side // 2] = 0
    return Blend(keep, 1 - keep.expand(-1, 3, -1, -1))


def warp(side: int) -> Bend:
    return Bend(torch.zeros(1, 2, side, side))


def clean(side: int) -> SampleSet:
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(256, (4, 3, side, side), dtype=torch.uint8, generator=draw)
    return SampleSet(images, torch.arange(4), tuple("abcd"))


def seen(picture: str) -> np.ndarray:
    """The first channel."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))[..., 0]


CHANGES = [(noise, Form.DENSE), (patch, Form.PATCH), (warp, Form.WARP)]


@pytest.mark.parametrize(("side", "shown"), [(32, 32), (SIDE, SIDE), (1024, SIDE)])
@pytest.mark.parametrize(("make", "form"), CHANGES)
def test_pictures_fit_into_a_report(make: type[Change], form: Form, side: int, shown: int) -> None:
    found = pictures(Perturbation(0, form, make(side), 1.0), clean(side))
    assert len(found) == 4
    for picture in found:
        FITS.validate_python(picture)
        assert seen(picture).shape == (shown, shown)


@pytest.mark.parametrize("side", [32, 1024])
def test_noise_is_stretched_until_it_shows(side: int) -> None:
    alone = seen(pictures(Perturbation(0, Form.DENSE, noise(side), 1.0), clean(side))[0])
    assert alone.std() > 20
    assert alone.mean() == pytest.approx(127.5, abs=3)


@pytest.mark.parametrize("side", [32, 1024])
def test_a_patch_and_the_lines_of_a_warp_keep_their_colours(side: int) -> None:
    opaque = seen(pictures(Perturbation(0, Form.PATCH, patch(side), 1.0), clean(side))[0])
    assert (opaque[0, 0], opaque[-1, -1]) == (255, 128)
    lines = seen(pictures(Perturbation(0, Form.WARP, warp(side), 1.0), clean(side))[0])
    assert (lines.min(), lines.max()) == (0, 255)


def test_without_an_image_of_another_class_the_perturbation_is_shown_alone() -> None:
    nothing = clean(300).take(torch.arange(0))
    assert len(pictures(Perturbation(0, Form.DENSE, noise(300), 1.0), nothing)) == 1
