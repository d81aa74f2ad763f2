"""Shares, paired changes and graded hits, beside cases that are known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.statistics import ClassChange, graded_hits, paired_change, proportion, worst_class

bools = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(bools)
def test_intervals_hold_their_estimate(pairs: list[tuple[bool, bool]]) -> None:
    before, after = torch.tensor([p[0] for p in pairs]), torch.tensor([p[1] for p in pairs])
    share, change = proportion(before), paired_change(before, after)
    assert 0 <= share.low <= share.value <= share.high <= 1
    assert -1 <= change.low <= change.high <= 1
    assert change.value == pytest.approx((change.gained - change.lost) / len(pairs))


def test_wilson_interval_of_a_known_case() -> None:
    share = proportion(torch.tensor([True] * 8 + [False] * 2))
    assert (share.low, share.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@given(st.lists(st.lists(st.floats(-40, 40), min_size=3, max_size=3), min_size=1, max_size=20))
def test_a_graded_hit_is_above_a_half_where_the_class_is_right_and_below_where_it_is_not(
    rows: list[list[float]],
) -> None:
    logits = torch.tensor(rows)
    labels = torch.arange(len(rows)) % 3
    graded = graded_hits(logits, labels)
    assert bool(((graded >= 0) & (graded <= 1)).all())
    assert not bool(((graded > 0.5) & (logits.argmax(1) != labels)).any())
    assert not bool(((graded < 0.5) & (logits.argmax(1) == labels)).any())


def test_a_graded_hit_of_known_cases() -> None:
    """A tie, half a nat ahead, half a nat behind the strongest of two rivals, and no rival at all."""
    logits = torch.tensor([[1.0, 1.0, -9.0], [1.5, 1.0, 0.0], [0.5, 1.0, 0.9]])
    assert graded_hits(logits, torch.zeros(3, dtype=torch.int64)).tolist() == pytest.approx(
        [0.5, 0.7311, 0.2689], abs=1e-4
    )
    assert graded_hits(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64)).tolist() == [1, 1]


def test_what_a_model_cannot_say_is_not_right() -> None:
    logits = torch.tensor([[torch.nan, 0.0], [torch.inf, torch.inf], [torch.inf, 0.0]])
    assert graded_hits(logits, torch.zeros(3, dtype=torch.int64)).tolist() == [0, 0, 1]


def test_worst_class_ignores_classes_without_images() -> None:
    before, after = torch.tensor([True, True, True]), torch.tensor([True, False, True])
    assert worst_class(before, after, torch.tensor([0, 2, 2]), 5, 0.2) == ClassChange(
        2, -0.5, pytest.approx(0.7)
    )


def test_a_class_may_lose_one_of_few_images_but_not_two_and_three_of_ten_but_not_four() -> None:
    """Ten images of one class and three of another; a fifth is allowed, and one image."""
    labels = torch.tensor([0] * 10 + [1] * 3)
    before, after = torch.ones(13), torch.ones(13)
    after[10] = 0
    few = worst_class(before, after, labels, 2, 0.2)
    assert (few.index, few.change, few.allowed) == pytest.approx((1, -1 / 3, 0.2 + 1 / 3))
    assert few.change > -few.allowed
    after[11] = 0
    two = worst_class(before, after, labels, 2, 0.2)
    assert two.change < -two.allowed
    after[10:12] = 1
    after[:4] = 0
    assert worst_class(before, after, labels, 2, 0.2) == ClassChange(
        0, pytest.approx(-0.4), pytest.approx(0.3)
    )
