"""Choosing, proving and replaying a repair, on values small enough to check by hand."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from app.contract.options import EvidenceOptions, PruneOptions
from app.contract.report import Epoch
from app.errors import ChangesError
from worker.classifier import Classifier
from worker.device import Placement
from worker.repair.edits import edits_of, replay
from worker.repair.evidence import LabelShift, Remaining, label_shift, remaining
from worker.repair.operating_point import choose
from worker.repair.statistics import paired_change, proportion, worst_class
from worker.rnp.masks import Filter, FilterMasks
from worker.samples.interface import SampleSet

bools = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def epoch(accuracy: float, shares: tuple[float, ...]) -> Epoch:
    return Epoch(number=1, lr=0.1, loss=1, accuracy=accuracy, held_accuracy=accuracy, label_shares=shares)


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


def test_worst_class_ignores_classes_without_images() -> None:
    before, after = torch.tensor([True, True, True]), torch.tensor([True, False, True])
    assert worst_class(before, after, torch.tensor([0, 2, 2]), 5) == (2, -0.5)


def test_all_lost_accuracy_into_one_class_is_a_shift_near_one() -> None:
    before = epoch(0.9, (0.25, 0.25, 0.25, 0.25))
    runs = [[epoch(0.85, (0.25, 0.25, 0.25, 0.25)), epoch(0.325, (0.085, 0.745, 0.085, 0.085))]]
    shift = label_shift(before, runs)
    assert shift is not None
    assert shift.target_class == 1
    assert shift.value == pytest.approx((0.745 - 0.25) / (0.9 - 0.325))


def test_an_accuracy_that_never_fell_shows_nothing_and_does_not_count_as_gone() -> None:
    before = epoch(0.9, (0.5, 0.5))
    assert label_shift(before, [[epoch(0.88, (0.5, 0.5))]]) is None
    left = remaining(LabelShift(0, 1.0, (1.0, 0.0)), None, (0.5, 0.5), EvidenceOptions())
    assert not left.gone


@pytest.mark.parametrize(
    ("again", "gone"),
    [((0.3, 0.3, 0.3), True), ((0.6, 0.2, 0.1), False), ((0.1, 0.9, 0.0), False)],
)
def test_gone_means_suspected_class_well_below_and_no_other_class_firing(
    again: tuple[float, ...], gone: bool
) -> None:
    suspected = LabelShift(0, 1.0, (1.0, 0.0, 0.0))
    top = max(range(3), key=again.__getitem__)
    left = remaining(suspected, LabelShift(top, again[top], again), again, EvidenceOptions())
    assert left.gone is gone
    assert left.toward == again[0]


class Rows(nn.Module):
    """Class k answers with weight k, so pruning row k makes class k unreachable."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, 0, 0] * self.weight


def four_classes() -> tuple[Classifier, SampleSet]:
    images = torch.zeros(40, 4, 1, 1, dtype=torch.uint8)
    labels = torch.arange(40) % 4
    images[torch.arange(40), labels] = 255
    still = torch.zeros(1, 1, 1, 1)
    suspect = Classifier(Rows(), 4, still, still + 1, Placement(torch.device("cpu")))
    return suspect, SampleSet(images, labels, tuple("abcd"))


MASKS = FilterMasks({"weight": torch.tensor([0.9, 0.1, 0.2, 0.3])})
GENEROUS = PruneOptions(accuracy_budget=0.5, class_budget=1.0, threshold_step=0.1)


def answers(gone_from: int) -> tuple[Callable[[nn.Module], Remaining], list[int]]:
    """Evidence that is gone once so many rows are pruned, and the sizes that were asked for."""
    asked: list[int] = []

    def evidence_left(module: nn.Module) -> Remaining:
        pruned = int((module.weight == 0).sum())
        asked.append(pruned)
        return Remaining(1.0 / (1 + pruned), pruned >= gone_from, (0.25,) * 4)

    return evidence_left, asked


def test_the_smallest_affordable_candidate_without_evidence_is_chosen() -> None:
    suspect, select = four_classes()
    evidence_left, asked = answers(gone_from=2)
    point = choose(suspect, MASKS, select, GENEROUS, evidence_left)
    assert point.chosen is not None
    assert [f.index for f in point.filters[point.chosen]] == [1, 2]
    assert point.candidates[point.chosen].passes
    assert max(asked) == 2, "three pruned rows cost 75 points, which is beyond the budget"


def test_evidence_that_stands_leaves_nothing_chosen_and_offers_the_largest_affordable() -> None:
    suspect, select = four_classes()
    point = choose(suspect, MASKS, select, GENEROUS, answers(gone_from=9)[0])
    assert point.chosen is None
    assert point.best is not None
    assert point.candidates[point.best].pruned == 2


def test_without_any_affordable_candidate_no_evidence_is_asked_for() -> None:
    suspect, select = four_classes()
    evidence_left, asked = answers(gone_from=1)
    point = choose(suspect, MASKS, select, PruneOptions(threshold_step=0.1), evidence_left)
    assert point.chosen is None
    assert asked == []


def test_choosing_leaves_the_suspect_as_it_was() -> None:
    suspect, select = four_classes()
    choose(suspect, MASKS, select, GENEROUS, answers(gone_from=1)[0])
    assert torch.equal(suspect.module.weight, torch.ones(4))


def test_edits_replay_on_the_stored_tensors_and_nothing_else_changes() -> None:
    stored = {"module.a": torch.tensor([1.0, 2.0]).half(), "module.b": torch.ones(2, 3)}
    filters = (Filter("b", 1, 0.2), Filter("a", 0, 0.1))
    edits = edits_of(filters, stored, lambda name: f"module.{name}")
    assert [(e.tensor, e.index, e.old) for e in edits] == [("module.a", 0, 1.0), ("module.b", 1, None)]
    edited = replay(edits, stored)
    assert edited["module.a"].tolist() == [0.0, 2.0]
    assert edited["module.a"].dtype == torch.float16
    assert edited["module.b"].tolist() == [[1.0] * 3, [0.0] * 3]
    assert stored["module.a"].tolist() == [1.0, 2.0]


def test_edits_of_another_model_are_refused() -> None:
    stored = {"a": torch.tensor([1.0, 2.0])}
    edits = edits_of((Filter("a", 0, 0.1),), stored, str)
    for other in ({"b": stored["a"]}, {"a": torch.tensor([3.0, 2.0])}, {"a": torch.zeros(0)}):
        with pytest.raises(ChangesError):
            replay(edits, other)
