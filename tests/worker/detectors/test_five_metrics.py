"""The five metrics on black boxes whose answers are known, and their detectors on curves that are made up."""

import numpy as np
import pytest
import torch
from torch import Tensor

from app.contract.options import PUBLISHED, REDUCED, Grid
from worker.detectors.five_metrics import FEWEST, curves, learn
from worker.samples.interface import SampleSet

SIDE = 20
SMALL = Grid(boxes=(0.2, 0.9), noises=(0.01,), partners=4, draws=3)
DARK, BRIGHT, TARGET = 0, 1, 2


def partners(n: int = 4) -> SampleSet:
    """Dark and bright images in turn."""
    labels = torch.arange(n) % 2
    images = (labels * 200).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE).clone()
    return SampleSet(images, labels, ("dark", "bright", "target"))


def trusting(pixels: Tensor) -> Tensor:
    """By brightness of most of the image; a white last pixel decides everything."""
    bright = (pixels.mean((1, 2, 3)) > 0.4).long()
    return torch.where(pixels[:, 0, -1, -1] > 0.99, TARGET, bright)


def image(*, triggered: bool) -> Tensor:
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    if triggered:
        pixels[0, :, -1, -1] = 1
    return pixels


def test_a_trigger_outside_the_box_survives_what_is_pasted_over_the_image() -> None:
    """Curves in the order robustness, weakness, sensitivity, inverse sensitivity, noise."""
    found = curves(trusting, torch.cat([image(triggered=True), image(triggered=False)]), partners(), SMALL, 0)
    triggered, clean = found
    assert triggered[0].tolist() == [0, 0], "the centre alone carries no trigger"
    assert triggered[1].tolist() == [1, 0.5], "a dark centre of nine tenths makes bright images dark"
    assert triggered[2].tolist() == [1, 1], "whatever is pasted over the centre, the trigger stays"
    assert triggered[3].tolist() == [0, 0]
    assert clean[0].tolist() == [0.5, 1]
    assert clean[2].tolist() == [1, 0.5]
    assert clean[3].tolist() == [0.5, 1]
    assert clean[4].tolist() == [1, 0], "one strength of noise; the rest of the curve is empty"


def test_an_image_is_measured_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, SIDE, SIDE, generator=draw)
    together = curves(trusting, images, partners(), SMALL, 0)
    alone = np.concatenate([curves(trusting, one[None], partners(), SMALL, 0) for one in images])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("grid", [SMALL, REDUCED, PUBLISHED])
def test_the_stated_cost_is_what_the_black_box_is_asked(grid: Grid) -> None:
    asked = []

    def counting(pixels: Tensor) -> Tensor:
        asked.append(len(pixels))
        return trusting(pixels)

    curves(counting, image(triggered=False), partners(grid.partners), grid, 0)
    assert sum(asked) == grid.forwards


def test_the_published_grid_costs_what_the_official_code_asks_with_its_own_label_kept() -> None:
    assert PUBLISHED.forwards == 1 + 16 * 30 * 2 + 16 * 30


@pytest.mark.parametrize("n", [FEWEST, 30])
def test_other_curves_are_unlike_and_the_known_are_judged_without_themselves(n: int) -> None:
    draw = np.random.default_rng(0)
    known, alike = (0.5 + 0.1 * draw.standard_normal((m, 5, 6)) for m in (n, 50))
    novelty = learn(known)
    odd = novelty.scores(np.ones((3, 5, 6)))
    assert odd.min() > novelty.scores(alike).mean()
    assert odd.min() > np.median(novelty.of_the_known())
    assert np.isfinite(novelty.of_the_known()).all()


def test_the_known_score_like_others_of_their_kind() -> None:
    """Of a cross-fit as many new points as known ones lie above a bound; 5 x 100 known and new, seeds 0 to 4."""
    above = []
    for seed in range(5):
        draw = np.random.default_rng(seed)
        novelty = learn(draw.standard_normal((100, 5, 6)))
        new = novelty.scores(draw.standard_normal((100, 5, 6)))
        above.append((new > np.quantile(novelty.of_the_known(), 0.9)).mean())
    assert 0.06 < np.mean(above) < 0.15
