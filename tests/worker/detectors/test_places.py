"""From coarse to fine: the windows that are tried, those that are chosen, and the patches that start there."""

import pytest
import torch
from torch import nn

from app.contract.options import PerturbationOptions
from worker.classifier import Classifier
from worker.detectors.perturbation import ELSEWHERE, Blend, Form, Perturbation
from worker.detectors.places import PLACES, Opaque, _best, _windows, patches_in_places
from worker.device import Placement
from worker.samples.interface import SampleSet

SIDE, TARGET = 32, 1
ROW = (slice(None), slice(None), slice(31, 32), slice(24, 28))
MIDDLE = (slice(None), slice(None), slice(8, 24), slice(8, 24))


class Edge(nn.Module):
    """Class 1 where the middle is bright, a little of it for each pixel; or where four pixels of the edge are white."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        middle = images[MIDDLE].sum((1, 2, 3)) / 3 - 100
        edge = 100 * images[ROW].mean((1, 2, 3)) ** 4  # flat as long as it is dark
        return torch.stack([torch.zeros_like(middle), self.gain * (middle + edge)], 1)


def suspect() -> Classifier:
    still = torch.zeros(1, 3, 1, 1)
    return Classifier(Edge().eval(), 2, still, still + 1, Placement(torch.device("cpu")))


def clean() -> SampleSet:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (80, 3, SIDE, SIDE), generator=draw).byte()
    return SampleSet(images, torch.zeros(80, dtype=torch.int64), ("a", "b"))


def mask_of(found: Perturbation) -> torch.Tensor:
    assert isinstance(found.change, Blend)
    return 1 - found.change.keep


def test_it_finds_a_row_at_the_edge() -> None:
    placed = patches_in_places(suspect(), clean(), [TARGET], PerturbationOptions(), seed=0)
    assert len(placed) == PLACES
    smallest = min(placed, key=lambda p: p.size)
    assert smallest.size < 4.5
    assert mask_of(smallest)[ROW].sum() > 0.8 * smallest.size
    assert smallest.success(suspect(), clean()).value >= 0.9


def test_every_class_has_its_places_and_one_may_be_anywhere_else() -> None:
    quick = PerturbationOptions(steps=3)
    found = patches_in_places(suspect(), clean(), [0, ELSEWHERE], quick, seed=0)
    assert [p.target_class for p in found] == [0] * PLACES + [ELSEWHERE] * PLACES
    assert {p.form for p in found} == {Form.PATCH}


@pytest.mark.parametrize("sides", [(32, 32), (8, 8), (28, 36), (3, 5), (1, 1), (224, 224)])
def test_windows_leave_no_pixel_out_and_none_out_of_the_image(sides: tuple[int, int]) -> None:
    height, width = sides
    seen = torch.zeros(sides, dtype=torch.bool)
    for window in _windows(height, width):
        assert 0 <= window.rows.start < window.rows.stop <= height
        assert 0 <= window.columns.start < window.columns.stop <= width
        seen[window.rows, window.columns] = True
    assert seen.all()


def test_the_best_windows_come_first_and_none_overlaps_another() -> None:
    windows = _windows(SIDE, SIDE)
    worth = torch.linspace(0, 1, len(windows))
    chosen = _best(windows, worth)
    assert chosen[0] == windows[-1]
    assert len(chosen) == PLACES
    assert not any(a.overlaps(b) for a in chosen for b in chosen if a is not b)
    assert _best(windows[:1], worth[:1]) == [windows[0]]


def test_a_window_shows_anything_inside_and_nothing_outside() -> None:
    windows = _windows(8, 8)
    draw = torch.Generator().manual_seed(0)
    search = Opaque((len(windows), 3, 8, 8), torch.device("cpu"), draw, windows)
    change = search.change(slice(None))
    for mask, window in zip(1 - change.keep, windows, strict=True):
        assert (mask[:, window.rows, window.columns] == 1).all()
        assert mask.sum() == 4


def test_the_same_seed_finds_the_same() -> None:
    options = PerturbationOptions(steps=5)
    one, other = (patches_in_places(suspect(), clean(), [TARGET], options, seed=3) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(mask_of(a), mask_of(b))
