"""What a report warns of once a model is repaired."""

import pytest

from app.contract.findings import Verdict, VerdictLabel
from app.contract.options import SanitizeOptions
from app.contract.problem import Problem
from app.contract.report import BeforeAfter, Candidate, Epoch, Estimate, Metrics, PairedChange
from worker.pipelines.decision import Decision
from worker.pipelines.examine import Examined
from worker.pipelines.fall import Fallen
from worker.pipelines.reporting import NOT_PROVEN, SUPPRESSED, _doubts
from worker.repair.gate import Considered
from worker.repair.operating_point import OperatingPoint

BEFORE = Epoch(number=0, lr=0, loss=0, accuracy=0.9, held_accuracy=0.9, label_shares=(0.5, 0.5))
SHARE = Estimate(value=0.9, low=0.83, high=0.94, n=100)
OPTIONS = SanitizeOptions()  # two points are allowed


def doubts(*, chosen: bool = True, change: float = 0.0, **of_the_repair: object) -> tuple[Problem, ...]:
    changed = PairedChange(value=change, low=change - 0.03, high=change + 0.03, n=100, lost=3, gained=0)
    repair = Candidate(
        rung="relearn",
        threshold=None,
        pruned=0,
        accuracy=SHARE,
        change=changed.model_copy(update={"value": 0.0}),
        worst_class=0,
        worst_class_change=0,
        within_budget=True,
    ).model_copy(update=of_the_repair)
    verdict = Verdict(label=VerdictLabel.BACKDOORED, target_classes=(0,), because="a test")
    fallen = Fallen(BEFORE, (), None, None, follows_batches=True)
    point = OperatingPoint((Considered(repair, ()),), 0 if chosen else None, None, "a test")
    metrics = Metrics(
        clean_accuracy=BeforeAfter(before=SHARE, after=SHARE), clean_change=changed, per_class=()
    )
    return _doubts(Decision(Examined(fallen, (), {}, verdict), point=point), metrics, OPTIONS)


def test_silence_is_never_called_proof_and_nothing_is_said_where_nothing_was_repaired() -> None:
    assert doubts() == (NOT_PROVEN,)
    assert doubts(chosen=False, change=-0.1, taught_again=True) == ()


def test_what_unlearning_still_shows_of_a_repaired_model_is_said() -> None:
    assert doubts(evidence=0.9) == (NOT_PROVEN, SUPPRESSED)
    assert doubts(evidence=0.1) == (NOT_PROVEN,)


def test_a_repair_that_costs_the_reporting_images_more_than_the_budget_is_named_with_n_and_interval() -> None:
    *others, dearer = doubts(change=-0.03, taught_again=True, evidence=0.9)
    assert others == [NOT_PROVEN, SUPPRESSED]
    assert dearer.code == "repair.dearer"
    assert (
        "changes by −3.0 points (95 % interval −6.0 to 0.0 points, n = 100); the budget is −2.0 points"
        in dearer.detail
    )


@pytest.mark.parametrize(("change", "again"), [(-0.02, True), (0.01, True), (-0.03, False)])
def test_a_repair_inside_the_budget_is_not_and_one_that_held_out_images_let_pass_is_not(
    change: float, again: bool
) -> None:
    assert doubts(change=change, taught_again=again) == (NOT_PROVEN,)
