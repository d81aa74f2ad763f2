"""How far a job is: never less than before, never still for long, about right on the way that the example takes."""

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contract.job import JobKind, Stage
from app.contract.options import SanitizeOptions, ScreenOptions
from worker.cage.messages import Step
from worker.supervision.fraction import DEFAULT, course

# Seconds that the runs of the backdoored example took beside other work: stage, last step, of how many, seconds.
EXAMPLE = [
    (Stage.UNLEARN, 12, 40, 12.7), (Stage.UNLEARN, 12, 40, 7.3), (Stage.UNLEARN, 12, 40, 12.3),
    (Stage.PERTURB, 120, 120, 9.6), (Stage.PERTURB, 111, 120, 4.8), (Stage.PERTURB, 71, 120, 1.9),
    (Stage.PERTURB, 60, 60, 35.3), (Stage.PERTURB, 60, 60, 17.2), (Stage.PERTURB, 60, 60, 16.2),
    (Stage.PERTURB, 60, 60, 22.4), (Stage.PERTURB, 150, 150, 64.4), (Stage.PERTURB, 150, 150, 75.6),
    (Stage.PERTURB, 150, 150, 69.7), (Stage.PERTURB, 12, 12, 22.9), (Stage.PERTURB, 12, 12, 19.8),
    (Stage.PERTURB, 150, 150, 26.2), (Stage.RECOVER, 20, 20, 13.7), (Stage.RECOVER, 20, 20, 10.7),
    (Stage.RECOVER, 20, 20, 8.7), (Stage.CHOOSE, 23, 23, 10.0), (Stage.RELEARN, 300, 300, 129.1),
    (Stage.RELEARN, 300, 300, 112.5), (Stage.VERIFY, 60, 60, 4.5), (Stage.VERIFY, 150, 150, 17.6),
    (Stage.VERIFY, 150, 150, 17.6), (Stage.VERIFY, 150, 150, 18.5), (Stage.VERIFY, 12, 12, 9.9),
    (Stage.VERIFY, 12, 12, 7.4), (Stage.VERIFY, 150, 150, 17.6), (Stage.VERIFY, 14, 40, 7.8),
    (Stage.VERIFY, 14, 40, 7.4), (Stage.VERIFY, 14, 40, 7.4),
]  # fmt: skip
STEPS = st.builds(Step, stage=st.sampled_from(Stage), done=st.integers(0, 9), total=st.integers(0, 7))


def walked(
    steps: Iterable[Step], kind: JobKind = JobKind.SANITIZE, options: SanitizeOptions = DEFAULT
) -> list[float]:
    here, seen = course(kind, options), []
    for step in steps:
        here = here.moved(step)
        seen.append(here.fraction)
    return seen


def run(stage: Stage, last: int, total: int) -> list[Step]:
    return [Step(stage=stage, done=done, total=total) for done in range(1, last + 1)]


@given(st.lists(STEPS, max_size=60))
def test_whatever_a_child_says_the_fraction_never_falls_and_never_is_whole(steps: list[Step]) -> None:
    seen = walked(steps)
    assert seen == sorted(seen)
    assert all(0 <= fraction < 1 for fraction in seen)


def test_every_run_of_a_stage_moves_the_fraction() -> None:
    one = run(Stage.UNLEARN, 12, 40)
    after = [walked(one * runs)[-1] for runs in (1, 2, 3)]
    assert after == sorted(set(after))
    seen = walked(one * 3)
    assert sum(a == b for a, b in pairwise(seen)) == 0


def test_hearings_without_end_still_move() -> None:
    seen = walked(run(Stage.VERIFY, 150, 150) * 20)
    assert seen == sorted(set(seen))


def test_on_the_way_of_the_example_it_is_about_right() -> None:
    whole, spent, off = sum(seconds for *_, seconds in EXAMPLE), 0.0, []
    here = course(JobKind.SANITIZE, SanitizeOptions())
    for stage, last, total, seconds in EXAMPLE:
        for step in run(stage, last, total):
            here = here.moved(step)
            off.append(abs(here.fraction - (spent + seconds * step.done / last) / whole))
        spent += seconds
    assert max(off) < 0.15


@pytest.mark.parametrize(
    "options",
    [
        {"evidence": {"seeds": 50}},
        {"relearn": {"steps": 0}},
        {"fidelity": "paper"},
        {"screen": {"detector": "margin"}},
        {"screen": {"detector": "five_metrics"}},
    ],
)
@pytest.mark.parametrize("kind", list(JobKind))
def test_shares_sum_to_the_whole(options: dict[str, object], kind: JobKind) -> None:
    shares = course(kind, SanitizeOptions.model_validate_json(json.dumps(options))).shares
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == set(Stage)


def test_a_screening_walks_from_unlearning_to_its_scores() -> None:
    scores = run(Stage.SCORE, 150, 150) + run(Stage.SCORE, 400, 400)
    start = [Step(stage=Stage.LOAD, done=0, total=1), *run(Stage.UNLEARN, 12, 12) * 3]
    by_margin = SanitizeOptions(screen=ScreenOptions(detector="margin"))
    by_repair = SanitizeOptions(screen=ScreenOptions(detector="repair"))
    repair = [step for stage, last, total, _ in EXAMPLE[3:] for step in run(stage, last, total)]
    for steps, options in (([*start, *scores], by_margin), ([*start, *repair, *scores], by_repair)):
        seen = walked(steps, JobKind.SCREEN, options)
        assert seen == sorted(seen)
        assert 0.9 < seen[-1] < 1


def test_a_detection_that_looks_twice_is_not_said_to_be_over_when_it_looks_again() -> None:
    first = [step for stage, last, total, _ in EXAMPLE[:10] for step in run(stage, last, total)]
    again = [run(Stage.PERTURB, last, last) for last in (150, 12, 12, 150)]
    seen = walked([*first, *(step for one in again for step in one)], JobKind.DETECT)
    assert 0.5 < seen[len(first) - 1] < 0.8
    assert seen[-1] > 0.95
    after = [seen[len(first) + sum(map(len, again[:done])) - 1] for done in range(len(again) + 1)]
    assert after == sorted(set(after))
