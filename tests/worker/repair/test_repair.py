"""Choosing, proving and replaying a repair, on values small enough to check by hand."""

import base64
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from app.contract.changes import Edits, Rewrite
from app.contract.options import PruneOptions
from app.errors import ChangesError
from worker.classifier import Classifier
from worker.device import Placement
from worker.repair.edits import edits_of, replay
from worker.repair.evidence import Remaining
from worker.repair.operating_point import ROUNDS, Round, Rungs, choose
from worker.rnp.masks import Filter, FilterMasks
from worker.samples.interface import SampleSet


class Rows(nn.Module):
    """Class k answers with weight k, so pruning row k makes class k unreachable; class 0 answers where none does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, images: Tensor) -> Tensor:
        return 40 * images[:, :, 0, 0] * self.weight + torch.tensor([20.0, 0, 0, 0])


def four_classes() -> tuple[Classifier, SampleSet]:
    images = torch.zeros(40, 4, 1, 1, dtype=torch.uint8)
    labels = torch.arange(40) % 4
    images[torch.arange(40), labels] = 255
    still = torch.zeros(1, 1, 1, 1)
    suspect = Classifier(Rows(), 4, still, still + 1, Placement(torch.device("cpu")))
    return suspect, SampleSet(images, labels, tuple("abcd"))


MASKS = FilterMasks({"weight": torch.tensor([0.9, 0.1, 0.2, 0.3])})
GENEROUS = PruneOptions(accuracy_budget=0.5, class_budget=1.0, threshold_step=0.1)


def rungs(
    gone_from: int, *, relearning_helps: bool = False, suppressing_suffices: bool = False
) -> tuple[Rungs, list[int]]:
    """Evidence that is gone once so many rows are pruned, or after relearning, and the sizes that were asked for.

    Perturbations never find anything, so what is not gone is at least suppressed.
    """
    asked: list[int] = []

    def evidence_left(module: nn.Module) -> Remaining:
        pruned = int((module.weight == 0).sum())
        asked.append(pruned)
        relearned = bool((module.weight == 2).any())
        gone = pruned >= gone_from or (relearned and relearning_helps)
        return Remaining(0.5, label_shift=0.9, suppressed=True, gone=gone)

    def relearn(dead: tuple[Filter, ...], _: Round) -> Iterator[tuple[nn.Module, float]]:
        module = Rows()
        module.weight.data.fill_(2)
        module.weight.data[[f.index for f in dead]] = 0
        yield module, 1.0

    return Rungs(evidence_left, relearn, suppressing_suffices), asked


def test_the_smallest_affordable_candidate_without_evidence_is_chosen() -> None:
    suspect, select = four_classes()
    asking, asked = rungs(gone_from=2)
    point = choose(suspect, MASKS, select, GENEROUS, asking)
    assert point.repair is not None
    assert [f.index for f in point.repair.filters] == [1, 2]
    assert point.repair.candidate.passes
    assert point.repair.relearned is None
    assert max(asked) == 2, "three pruned rows cost 75 points, which is beyond the budget"


def test_where_pruning_leaves_evidence_the_weights_are_relearned_and_no_filter_is_lost_for_it() -> None:
    suspect, select = four_classes()
    point = choose(suspect, MASKS, select, GENEROUS, rungs(gone_from=9, relearning_helps=True)[0])
    assert point.repair is not None
    assert point.repair.candidate.rung == "relearn"
    assert point.repair.candidate.pruned == 0
    assert point.repair.module(suspect).weight.tolist() == [2, 2, 2, 2]


def test_suppressing_suffices_only_where_perturbations_expressed_the_backdoor() -> None:
    suspect, select = four_classes()
    expressed = choose(suspect, MASKS, select, GENEROUS, rungs(gone_from=9, suppressing_suffices=True)[0])
    assert expressed.repair is not None
    assert expressed.repair.relearned is not None, "no pruning passes by suppressing alone"
    assert expressed.repair.candidate.evidence == 0.9, "and the report says what is left"
    assert choose(suspect, MASKS, select, GENEROUS, rungs(gone_from=9)[0]).repair is None


@pytest.mark.parametrize("needed", [*ROUNDS, "more"])
def test_what_outlives_one_round_of_relearning_meets_the_next_and_pruning_first_comes_last(
    needed: str,
) -> None:
    suspect, select = four_classes()
    runs: list[tuple[int, Round]] = []

    def relearn(dead: tuple[Filter, ...], manner: Round) -> Iterator[tuple[nn.Module, float]]:
        runs.append((len(dead), manner))
        yield Rows(), 1.0

    def left(_: nn.Module) -> Remaining:
        done = runs[-1][1] if runs else None
        return Remaining(0.0, gone=True) if done == needed else Remaining(0.0, 0.3)

    point = choose(suspect, MASKS, select, GENEROUS, Rungs(left, relearn))
    passes = needed != "more"
    assert (point.repair is not None) is passes
    every: list[tuple[int, Round]] = [(0, manner) for manner in ROUNDS] + [(1, ROUNDS[-1]), (2, ROUNDS[-1])]
    assert runs == every[: ROUNDS.index(needed) + 1 if needed in ROUNDS else len(every)]
    assert point.considered[-1].candidate.pursued == (None if passes else 0.3)


@pytest.mark.parametrize(
    ("followed", "tried", "chosen"),
    [((0.05, 0.0), 1, 0), ((0.2, 0.0), 2, 1), ((0.2, 0.22), 2, 0)],
    ids=["quiet at once", "quieter the second time", "louder the second time"],
)
def test_the_quietest_repair_is_taken(followed: tuple[float, float], tried: int, chosen: int) -> None:
    """Both pass; the second is tried where what follows the first still reaches more than a tenth."""
    suspect, select = four_classes()
    made: list[nn.Module] = []

    def relearn(_: tuple[Filter, ...], __: Round) -> Iterator[tuple[nn.Module, float]]:
        made.append(Rows())
        yield made[-1], 1.0

    def left(module: nn.Module) -> Remaining:
        at = next((i for i, one in enumerate(made) if one is module), None)
        return Remaining(0.9) if at is None else Remaining(0.0, followed[at], gone=True)

    point = choose(suspect, MASKS, select, GENEROUS, Rungs(left, relearn, quiet=0.1))
    assert len(made) == tried
    assert point.repair is not None
    assert point.repair.relearned is made[chosen]


def test_part_of_the_way_is_not_taken_for_being_quieter_than_the_whole() -> None:
    """The second round costs too much as a whole; half of it would pass, and be quieter."""
    suspect, select = four_classes()
    made: list[nn.Module] = []

    def relearn(_: tuple[Filter, ...], manner: Round) -> Iterator[tuple[nn.Module, float]]:
        for share in (1.0, 0.5):
            made.append(Rows())
            if manner == "followers" and share == 1:
                made[-1].weight.data[0] = -1
            yield made[-1], share

    def left(module: nn.Module) -> Remaining:
        if not any(one is module for one in made):
            return Remaining(0.9)
        return Remaining(0.0, 0.2 if module is made[0] else 0.0, gone=True)

    budget = PruneOptions(accuracy_budget=0.2, class_budget=1.0, threshold_step=0.1)
    point = choose(suspect, MASKS, select, budget, Rungs(left, relearn, quiet=0.1))
    assert point.repair is not None
    assert point.repair.relearned is made[0]
    assert len(made) == 3, "half of the second was not looked at"


def test_less_is_taken_of_a_relearned_model_that_costs_too_much() -> None:
    suspect, select = four_classes()

    def relearn(_: tuple[Filter, ...], __: Round) -> Iterator[tuple[nn.Module, float]]:
        for share, wrong in ((1.0, 2), (0.5, 1), (0.25, 0)):
            module = Rows()
            module.weight.data[:wrong] = -1  # so many classes are lost
            yield module, share

    never = Rungs(lambda module: Remaining(0.5, gone=bool((module.weight == -1).any())), relearn)
    budget = PruneOptions(accuracy_budget=0.3, class_budget=1.0, threshold_step=0.1)
    point = choose(suspect, MASKS, select, budget, never)
    assert point.repair is not None
    assert point.repair.candidate.share == 0.5, (
        "the whole costs 50 points, half of it the 25 that may be lost"
    )


def test_before_all_is_refused_one_is_tried_between_what_costs_too_much_and_what_leaves_evidence() -> None:
    suspect, select = four_classes()
    tried: list[float] = []

    def relearn(_: tuple[Filter, ...], __: Round) -> Iterator[tuple[nn.Module, float]]:
        for share, wrong in ((1.0, 2), (0.9, 2), (0.8, 0)):
            module = Rows()
            module.weight.data[:wrong] = -1  # so many classes are lost
            yield module, share

    def between(one: nn.Module, other: nn.Module) -> nn.Module:
        tried.append((one.weight == -1).sum().item() + (other.weight == -1).sum().item())
        module = Rows()
        module.weight.data[0] = -1
        return module

    def left(module: nn.Module) -> Remaining:
        return Remaining(0.5, gone=bool((module.weight == -1).any()))

    budget = PruneOptions(accuracy_budget=0.3, class_budget=1.0, threshold_step=0.1)
    point = choose(suspect, MASKS, select, budget, Rungs(left, relearn, between=between))
    assert point.repair is not None
    assert point.repair.candidate.share == pytest.approx(0.85)
    assert point.repair.candidate.change.value == -0.25
    assert len(tried) == 1, "and none once it passed"
    assert choose(suspect, MASKS, select, budget, Rungs(left, relearn)).repair is None


def test_evidence_that_stands_leaves_nothing_chosen_and_offers_one_inside_the_budget() -> None:
    suspect, select = four_classes()
    point = choose(suspect, MASKS, select, GENEROUS, rungs(gone_from=9)[0])
    assert point.chosen is None
    assert point.best is not None
    assert point.considered[point.best].candidate.within_budget


def test_where_nothing_affordable_removes_the_evidence_a_costlier_repair_that_does_is_offered() -> None:
    suspect, select = four_classes()

    def relearn(_: tuple[Filter, ...], __: Round) -> Iterator[tuple[nn.Module, float]]:
        module = Rows()
        module.weight.data[0] = -1  # a class is lost, 25 points
        yield module, 1.0

    asked = Rungs(lambda module: Remaining(0.5, gone=bool((module.weight == -1).any())), relearn)
    budget = PruneOptions(accuracy_budget=0.2, class_budget=1.0, threshold_step=0.1)
    point = choose(suspect, MASKS, select, budget, asked)
    assert point.chosen is None
    assert point.best is not None
    best = point.considered[point.best]
    assert best.silent
    assert not best.candidate.passes
    assert best.candidate.change.value == -0.25
    assert "costs more" in point.reason


def test_a_candidate_beyond_the_budget_is_not_asked_for_evidence() -> None:
    suspect, select = four_classes()
    asking, asked = rungs(gone_from=1)
    point = choose(suspect, MASKS, select, PruneOptions(threshold_step=0.1), asking)
    assert point.chosen is None
    assert asked == [0] * len(ROUNDS), "every pruning costs 25 points or more; relearning alone costs nothing"


def test_choosing_leaves_the_suspect_as_it_was() -> None:
    suspect, select = four_classes()
    choose(suspect, MASKS, select, GENEROUS, rungs(gone_from=1)[0])
    assert torch.equal(suspect.module.weight, torch.ones(4))


def test_edits_replay_on_the_stored_tensors_and_nothing_else_changes() -> None:
    stored = {"module.a": torch.tensor([1.0, 2.0]).half(), "module.b": torch.ones(2, 3)}
    filters = (Filter("b", 1, 0.2), Filter("a", 0, 0.1))
    edits = edits_of(filters, {}, stored, lambda name: f"module.{name}")
    assert [(e.tensor, e.index, e.old) for e in edits.edits] == [("module.a", 0, 1.0), ("module.b", 1, None)]
    edited = replay(edits, stored)
    assert edited["module.a"].tolist() == [0.0, 2.0]
    assert edited["module.a"].dtype == torch.float16
    assert edited["module.b"].tolist() == [[1.0] * 3, [0.0] * 3]
    assert stored["module.a"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_relearned_tensors_are_rewritten_bit_for_bit_where_they_differ(dtype: torch.dtype) -> None:
    stored = {name: torch.randn(5, 3).to(dtype) for name in "abc"}
    new = {"a": stored["a"].float() * 1.01, "b": stored["b"].float()}
    new["a"][1] = 0
    new["a"][2] = stored["a"][2].float()
    edits = edits_of((Filter("a", 1, 0.1),), new, stored, str)
    assert [(e.tensor, e.index, e.mask) for e in edits.edits] == [("a", 1, 0.1)]
    assert [r.tensor for r in edits.rewrites] == ["a"], "b came back as it was"
    edited = replay(edits, stored)
    assert torch.equal(edited["a"], new["a"].to(dtype))
    assert torch.equal(edited["b"], stored["b"])
    assert torch.equal(edited["c"], stored["c"])
    changed = int((edited["a"] != stored["a"]).sum())
    assert edits.relearned == changed - 3, "the three numbers of the pruned row are no relearned ones"


def test_a_zero_that_only_changes_its_sign_is_a_change() -> None:
    stored = {"a": torch.tensor([0.0, 1.0])}
    edits = edits_of((), {"a": torch.tensor([-0.0, 1.0])}, stored, str)
    assert edits.relearned == 1
    assert replay(edits, stored)["a"].signbit().tolist() == [True, False]


@pytest.mark.parametrize("difference", ["no base64 !", "bm8gemxpYg==", "eJxjYAAAAAIAAQ=="])
def test_a_rewrite_that_does_not_fit_is_refused(difference: str) -> None:
    edits = Edits(rewrites=(Rewrite(tensor="a", changed=1, difference=difference),))
    with pytest.raises(ChangesError):
        replay(edits, {"a": torch.ones(3)})


def test_a_rewrite_does_not_unpack_more_than_the_tensor_holds() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    edits = Edits(rewrites=(Rewrite(tensor="a", changed=1, difference=bomb),))
    tracemalloc.start()
    with pytest.raises(ChangesError, match="another size"):
        replay(edits, {"a": torch.ones(3)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_edits_of_another_model_are_refused() -> None:
    stored = {"a": torch.tensor([1.0, 2.0])}
    edits = edits_of((Filter("a", 0, 0.1),), {}, stored, str)
    for other in ({"b": stored["a"]}, {"a": torch.tensor([3.0, 2.0])}, {"a": torch.zeros(0)}):
        with pytest.raises(ChangesError):
            replay(edits, other)
