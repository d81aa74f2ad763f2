"""Scores of inputs: what is far, how often clean images are flagged, and how likely many flags are."""

import math

import pytest
import torch
from torch import nn

from worker.classifier import Classifier
from worker.detectors.poisoned_samples import agreement, bound, chance, family, margins, p_values, taken_back
from worker.device import Placement


class Says(nn.Module):
    """Logits that depend on the first pixel alone."""

    def __init__(self, table: list[list[float]]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(table))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table[x[:, 0, 0, 0].round().long()]


def test_the_margin_is_that_of_the_class_that_the_suspect_says() -> None:
    still = torch.zeros(1, 1, 1, 1)
    suspect = Classifier(
        Says([[5.0, 0, 0], [0, 5.0, 0]]), 3, still, still + 1 / 255, Placement(torch.device("cpu"))
    )
    unlearned = [Says([[1.0, 4.0, 0], [0, 4.0, 1.0]]), Says([[3.0, 4.0, 0], [0, 6.0, 1.0]])]
    images = torch.tensor([0, 1], dtype=torch.uint8).view(2, 1, 1, 1)
    said, scores = margins(suspect, unlearned, images)
    assert said.tolist() == [0, 1]
    assert scores.tolist() == [pytest.approx(-2.0), pytest.approx(4.0)]


def test_what_a_repair_takes_back_is_expected_over_what_the_suspect_says() -> None:
    """Of 0.8, 0.1 and 0.1, to 0.1, 0.1 and 0.8; nothing of what stays; and of 0.6 and 0.4 the lesser."""
    still = torch.zeros(1, 1, 1, 1)
    lesser = [math.log(0.6), math.log(0.4), -50.0]
    says = [[math.log(8), 0, 0], [0, 20.0, 0], lesser]
    suspect = Classifier(Says(says), 3, still, still + 1 / 255, Placement(torch.device("cpu")))
    repaired = suspect.with_module(Says([[0.0, 0, math.log(8)], [0, 20.0, 0], [0.0, -50.0, -50.0]]))
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1)
    said, scores = taken_back(suspect, repaired, images)
    assert said.tolist() == [0, 1, 0]
    of_the_lesser = 0.6 * math.log(0.6) + 0.4 * (math.log(0.4) + 50)
    assert scores.tolist() == pytest.approx([0.7 * math.log(8), 0.0, of_the_lesser], abs=1e-5)


def test_a_bound_keeps_its_rate_on_images_that_made_no_bound() -> None:
    """20 000 draws: 100 that calibrate, one new; seed 0."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(20_000, 101, generator=draw)
    above = [new > bound(clean, 0.05) for clean, new in ((row[:-1], float(row[-1])) for row in scores)]
    assert 0.04 < sum(above) / len(above) <= 0.055


@pytest.mark.parametrize(
    ("n", "rate", "promised"), [(98, 0.01, False), (99, 0.01, True), (19, 0.05, True), (5, 0.05, False)]
)
def test_too_few_clean_images_promise_nothing(n: int, rate: float, promised: bool) -> None:
    assert math.isfinite(bound(torch.arange(n).float(), rate)) is promised
    assert chance(n, n, n, rate) < 1 or not promised


def test_the_chance_of_many_flags_is_that_of_drawing_them() -> None:
    """Bound and inputs drawn together 20 000 times: 99 that calibrate, 50 inputs, 3 or more above; seed 0."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(20_000, 149, generator=draw)
    lines = scores[:, :99].sort(1).values[:, 94]
    often = ((scores[:, 99:] > lines[:, None]).sum(1) >= 3).double().mean().item()
    assert chance(3, 50, 99, 0.05) == pytest.approx(often, abs=0.01)
    assert chance(0, 50, 99, 0.05) == pytest.approx(1.0)


def test_p_values_count_the_image_itself() -> None:
    clean = torch.tensor([1.0, 2.0, 3.0])
    assert p_values(torch.tensor([9.0, 2.0, 0.0]), clean).tolist() == [0.25, 0.75, 1.0]


def test_families_count_alike_however_wide_their_margins_are() -> None:
    still = torch.zeros(1, 1, 1, 1)
    suspect = Classifier(
        Says([[5.0, 0, 0], [0, 5.0, 0]]), 3, still, still + 1 / 255, Placement(torch.device("cpu"))
    )
    images = torch.tensor([0, 1], dtype=torch.uint8).view(2, 1, 1, 1)
    narrow, wide = Says([[1.0, 2.0, 0], [0, 4.0, 3.0]]), Says([[100.0, 200.0, 0], [0, 400.0, 300.0]])
    families = [family(suspect, [module], images) for module in (narrow, wide)]
    assert [one.spread for one in families] == [pytest.approx(1.0), pytest.approx(100.0)]
    said, scores = agreement(suspect, families, images)
    assert said.tolist() == [0, 1]
    assert scores.tolist() == [pytest.approx(-2.0), pytest.approx(2.0)]
