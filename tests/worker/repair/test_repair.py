"""Choosing, proving and replaying a repair, on values small enough to check by hand."""

import base64
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from app.contract.changes import Edits, Rewrite
from app.contract.options import PruneOptions, RelearnOptions
from app.errors import ChangesError
from worker.classifier import Classifier
from worker.device import Placement
from worker.pipelines.ladder import lengths
from worker.repair.edits import edits_of, replay
from worker.repair.evidence import Remaining
from worker.repair.gate import WHOLE, Considered, Length
from worker.repair.operating_point import ROUNDS, Round, Rungs, Way, choose
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


def rows(weight: float, *changed: int, to: float = -1) -> Rows:
    """All weights alike but for some rows; a class whose weight is below 0 is lost."""
    module = Rows()
    module.weight.data.fill_(weight)
    module.weight.data[list(changed)] = to
    return module


def losing(wrong: dict[float, int]) -> Callable[[tuple[Filter, ...], Round], Way]:
    """Relearning that costs so many classes at each share of the way."""
    return lambda _, __: Way(lambda length: rows(1, *range(wrong[length.share])))


def shares(*those: float) -> tuple[Length, ...]:
    return tuple(Length(share=share) for share in those)


def gone_once_a_class_is_lost(repair: Considered) -> Remaining:
    relearned = repair.relearned
    return Remaining(0.5, gone=relearned is not None and bool((relearned.weight == -1).any()))


def rungs(
    gone_from: int, *, relearning_helps: bool = False, suppressing_suffices: bool = False
) -> tuple[Rungs, list[int]]:
    """Evidence that is gone once so many rows are pruned, or after relearning, and the sizes that were asked for.

    Perturbations never find anything, so what is not gone is at least suppressed.
    """
    asked: list[int] = []

    suspect, _ = four_classes()

    def evidence_left(repair: Considered) -> Remaining:
        module = repair.module(suspect)
        pruned = int((module.weight == 0).sum())
        asked.append(pruned)
        relearned = bool((module.weight == 2).any())
        gone = pruned >= gone_from or (relearned and relearning_helps)
        return Remaining(0.5, label_shift=0.9, suppressed=True, gone=gone)

    def relearn(dead: tuple[Filter, ...], _: Round) -> Way:
        return Way(lambda _: rows(2, *(f.index for f in dead), to=0))

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

    def relearn(dead: tuple[Filter, ...], manner: Round) -> Way:
        runs.append((len(dead), manner))
        return Way(lambda _: Rows())

    def left(_: Considered) -> Remaining:
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

    def make(_: Length) -> nn.Module:
        made.append(Rows())
        return made[-1]

    def relearn(_: tuple[Filter, ...], __: Round) -> Way:
        return Way(make)

    def left(repair: Considered) -> Remaining:
        at = next((i for i, one in enumerate(made) if one is repair.relearned), None)
        return Remaining(0.9) if at is None else Remaining(0.0, followed[at], gone=True)

    point = choose(suspect, MASKS, select, GENEROUS, Rungs(left, relearn, quiet=0.1))
    assert len(made) == tried
    assert point.repair is not None
    assert point.repair.relearned is made[chosen]


def test_part_of_the_way_is_not_taken_for_being_quieter_than_the_whole() -> None:
    """The second round costs too much as a whole; half of it would pass, and be quieter."""
    suspect, select = four_classes()
    made: list[nn.Module] = []

    def relearn(_: tuple[Filter, ...], manner: Round) -> Way:
        def make(length: Length) -> nn.Module:
            dear = manner == "followers" and length == WHOLE
            made.append(rows(1, 0) if dear else Rows())
            return made[-1]

        return Way(make)

    def left(repair: Considered) -> Remaining:
        if repair.relearned is None:
            return Remaining(0.9)
        return Remaining(0.0, 0.2 if repair.relearned is made[0] else 0.0, gone=True)

    budget = PruneOptions(accuracy_budget=0.2, class_budget=1.0, threshold_step=0.1)
    point = choose(suspect, MASKS, select, budget, Rungs(left, relearn, lengths=shares(1.0, 0.5), quiet=0.1))
    assert point.repair is not None
    assert point.repair.relearned is made[0]
    assert len(made) == 2, "half of the second was not looked at"


def test_less_is_taken_of_a_relearned_model_that_costs_too_much() -> None:
    suspect, select = four_classes()
    relearn = losing({1.0: 2, 0.5: 1, 0.25: 0})
    never = Rungs(gone_once_a_class_is_lost, relearn, lengths=shares(1.0, 0.5, 0.25))
    budget = PruneOptions(accuracy_budget=0.3, class_budget=1.0, threshold_step=0.1)
    point = choose(suspect, MASKS, select, budget, never)
    assert point.repair is not None
    assert point.repair.candidate.share == 0.5, (
        "the whole costs 50 points, half of it the 25 that may be lost"
    )


def test_before_all_is_refused_one_is_tried_between_what_costs_too_much_and_what_leaves_evidence() -> None:
    suspect, select = four_classes()
    relearn = losing({1.0: 2, 0.9: 2, 0.85: 1, 0.8: 0})
    asking = Rungs(gone_once_a_class_is_lost, relearn, lengths=shares(1.0, 0.9, 0.8))
    budget = PruneOptions(accuracy_budget=0.3, class_budget=1.0, threshold_step=0.1)
    point = choose(suspect, MASKS, select, budget, asking)
    assert point.repair is not None
    assert point.repair.candidate.share == 0.85
    assert point.repair.candidate.change.value == -0.25
    assert [c.candidate.share for c in point.considered].count(0.85) == 1, "and none once it passed"


def test_the_selecting_images_teach_once_they_have_selected_and_that_model_is_asked_and_given_back() -> None:
    suspect, select = four_classes()
    wrong, asked = {1.0: 2, 0.5: 1}, list[Considered]()

    def relearn(_: tuple[Filter, ...], __: Round) -> Way:
        return Way(lambda to: rows(1, *range(wrong[to.share])), lambda to: rows(1 + to.share))

    def left(repair: Considered) -> Remaining:
        asked.append(repair)
        return Remaining(0.5, gone=repair.relearned is not None)

    budget = PruneOptions(accuracy_budget=0.3, class_budget=1.0, threshold_step=0.1)
    point = choose(suspect, MASKS, select, budget, Rungs(left, relearn, lengths=shares(1.0, 0.5)))
    assert point.repair is not None
    assert point.repair.candidate.taught_again
    assert point.repair.module(suspect).weight.tolist() == [1.5] * 4, "the same share of the other way"
    assert point.repair.candidate.change.value == -0.25, "what it costs, those say who taught it nothing"
    assert asked[-1].relearned is point.repair.relearned
    whole = next(c for c in point.considered if c.candidate.share == 1)
    assert not whole.candidate.taught_again, "it costs too much to be given"


def test_a_model_that_went_wrong_when_it_was_taught_again_is_not_given_back() -> None:
    suspect, select = four_classes()

    def relearn(_: tuple[Filter, ...], __: Round) -> Way:
        return Way(lambda _: rows(2), lambda _: rows(1, 0, 1, 2))

    left = Rungs(lambda repair: Remaining(0.5, gone=repair.relearned is not None), relearn)
    budget = PruneOptions(accuracy_budget=0.3, class_budget=1.0, threshold_step=0.1)
    point = choose(suspect, MASKS, select, budget, left)
    assert point.repair is not None
    assert not point.repair.candidate.taught_again
    assert point.repair.module(suspect).weight.tolist() == [2] * 4


def test_before_all_is_refused_what_the_fitting_images_taught_is_asked_as_well() -> None:
    """What was taught again leaves evidence; what had been tried leaves none."""
    suspect, select = four_classes()

    def relearn(_: tuple[Filter, ...], __: Round) -> Way:
        return Way(lambda _: rows(2), lambda _: rows(3))

    def left(repair: Considered) -> Remaining:
        relearned = repair.relearned
        return Remaining(0.5, gone=relearned is not None and bool((relearned.weight == 2).any()))

    point = choose(suspect, MASKS, select, GENEROUS, Rungs(left, relearn))
    assert point.repair is not None
    assert point.repair.module(suspect).weight.tolist() == [2] * 4
    assert not point.repair.candidate.taught_again


@pytest.mark.parametrize(
    ("cost", "enough", "chosen"),
    [
        ({WHOLE: 2}, 0.5, Length(depth=0.5)),
        ({WHOLE: 2, Length(depth=0.5): 2}, 0.5, Length(0.5, 1.0, 0.5)),
        ({WHOLE: 2}, 1.0, Length(0.5, 1.0)),
        ({WHOLE: 2, Length(0.5, 1.0): 2}, 1.0, Length(0.5, 0.8)),
    ],
    ids=["the first layers suffice", "more slowly", "they leave evidence", "and all of them go less far"],
)
def test_where_the_whole_way_is_too_dear_the_first_layers_learn_and_then_less_of_all(
    cost: dict[Length, int], enough: float, chosen: Length
) -> None:
    """Each length loses one class of the four, or two; fewer layers than are enough leave evidence."""
    suspect, select = four_classes()

    def relearn(_: tuple[Filter, ...], __: Round) -> Way:
        return Way(lambda to: rows(1, *range(cost.get(to, 1))))

    def left(repair: Considered) -> Remaining:
        return Remaining(0.5, gone=(repair.candidate.depth or 0) >= enough)

    asking = Rungs(left, relearn, lengths=lengths(RelearnOptions(shares=(1.0, 0.8))))
    budget = PruneOptions(accuracy_budget=0.3, class_budget=1.0, threshold_step=0.1)
    repair = choose(suspect, MASKS, select, budget, asking).repair
    assert repair is not None
    found = repair.candidate
    assert (found.rate, found.share, found.depth) == (chosen.rate, chosen.share, chosen.depth)


def test_gently_all_layers_learn() -> None:
    """There nothing asks the first ones to see what they see in the clean image."""
    suspect, select = four_classes()
    tried: list[tuple[Round, float]] = []

    def relearn(_: tuple[Filter, ...], manner: Round) -> Way:
        def make(length: Length) -> nn.Module:
            tried.append((manner, length.depth))
            return rows(1, 0, 1, 2)

        return Way(make)

    asking = Rungs(lambda _: Remaining(0.5), relearn, lengths=lengths(RelearnOptions(shares=(1.0, 0.8))))
    budget = PruneOptions(accuracy_budget=0.3, class_budget=1.0, threshold_step=0.1)
    assert choose(suspect, MASKS, select, budget, asking).chosen is None
    assert {depth for manner, depth in tried if manner == "followers"} == {0.5, 1.0}
    assert {depth for manner, depth in tried if manner == "gently"} == {1.0}


def test_evidence_that_stands_leaves_nothing_chosen_and_offers_one_inside_the_budget() -> None:
    suspect, select = four_classes()
    point = choose(suspect, MASKS, select, GENEROUS, rungs(gone_from=9)[0])
    assert point.chosen is None
    assert point.best is not None
    assert point.considered[point.best].candidate.within_budget


def test_where_nothing_affordable_removes_the_evidence_a_costlier_repair_that_does_is_offered() -> None:
    suspect, select = four_classes()
    asked = Rungs(gone_once_a_class_is_lost, losing({1.0: 1}))  # 25 points
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
