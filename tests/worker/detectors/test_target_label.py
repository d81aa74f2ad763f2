"""Which class unlearning pulls toward, read from predictions and from the rows of the last layer."""

import pytest
import torch

from app.contract.report import Epoch
from worker.detectors.target_label import head_movement, label_shift


def epoch(accuracy: float, shares: tuple[float, ...]) -> Epoch:
    return Epoch(number=1, lr=0.1, loss=1, accuracy=accuracy, held_accuracy=accuracy, label_shares=shares)


def test_all_lost_accuracy_into_one_class_is_a_shift_near_one() -> None:
    before = epoch(0.9, (0.25, 0.25, 0.25, 0.25))
    runs = [[epoch(0.85, (0.25, 0.25, 0.25, 0.25)), epoch(0.325, (0.085, 0.745, 0.085, 0.085))]]
    shift = label_shift(before, runs)
    assert shift is not None
    assert shift.target_class == 1
    assert shift.value == pytest.approx((0.745 - 0.25) / (0.9 - 0.325))


def test_an_accuracy_that_never_fell_shows_nothing() -> None:
    assert label_shift(epoch(0.9, (0.5, 0.5)), [[epoch(0.88, (0.5, 0.5))]]) is None


def test_the_row_that_moves_most_for_its_size_is_named() -> None:
    """Row 2 moves by a tenth of itself, the others by a hundredth; row 0 is large and moves farthest."""
    rows = torch.ones(5, 8)
    rows[0] *= 100
    moves = torch.tensor([0.01, 0.01, 0.1, 0.01, 0.01])[:, None] * rows
    found = head_movement(rows, [rows + moves, rows - moves])
    assert found is not None
    assert (found.target_class, found.value) == (2, pytest.approx(10, rel=1e-3))
    assert found.per_class[0] == pytest.approx(1, rel=0.01)


def test_convolutions_have_rows_too_and_rows_that_stay_say_nothing() -> None:
    rows = torch.ones(4, 3, 1, 1)
    found = head_movement(rows, [rows])
    assert found is not None
    assert found.value == 0


def test_too_few_classes_have_no_median_to_be_read_beside() -> None:
    assert head_movement(torch.ones(3, 8), [torch.zeros(3, 8)]) is None
