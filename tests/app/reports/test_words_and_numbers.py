"""Numbers as text, names from strangers, and the sentences that all renderings share."""

from collections.abc import Callable

import pytest

from app.contract.findings import VerdictLabel
from app.contract.report import BeforeAfter, Estimate, Outcome, PairedChange, Report
from app.reports import markdown, numerals, wording
from app.reports.legible import legible, name

Make = Callable[..., Report]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9016, "90.2 %"), (0, "0.0 %"), (1, "100.0 %"), (-0.00001, "0.0 %"), (-0.125, "−12.5 %")],
)
def test_percent(value: float, shown: str) -> None:
    assert numerals.percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.006, "−0.6 points"), (0.0004, "0.0 points"), (0.02, "+2.0 points")]
)
def test_points_carry_a_sign_unless_they_are_zero(value: float, shown: str) -> None:
    assert numerals.points(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.84216, "0.842"), (-2.9, "−2.9"), (12345.6, "12,346")]
)
def test_number(value: float, shown: str) -> None:
    assert numerals.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (59.96, "1 min 0 s"), (72, "1 min 12 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, shown: str) -> None:
    assert numerals.duration(seconds) == shown


@pytest.mark.parametrize(
    ("octets", "shown"), [(12, "12 bytes"), (2_811_904, "2.8 MB"), (3 * 10**12, "3.0 TB")]
)
def test_size(octets: int, shown: str) -> None:
    assert numerals.size(octets) == shown


def test_a_proportion_of_nothing_is_not_measured() -> None:
    assert numerals.estimate(Estimate(value=0, low=0, high=1, n=0)) == "not measured (n = 0)"


def test_the_interval_of_a_change_is_in_points() -> None:
    change = PairedChange(value=-0.006, low=-0.031, high=0.019, n=100, lost=2, gained=1)
    assert numerals.change_interval(change) == "−3.1 to +1.9 points"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines", "two lines"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\u2069\u2068", "\\u2069\\u2068"),
        ("\u2068سيارة\u2069", "\u2068سيارة\u2069"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("\ud800", "\\ud800"),
    ],
)
def test_hidden_characters_become_visible(raw: str, shown: str) -> None:
    assert legible(raw) == shown
    assert legible(shown) == shown


def test_names_are_short_never_empty_and_keep_their_direction_to_themselves() -> None:
    assert name("  ") == "(no name)"
    assert name("x" * 300, 10) == "xxxxxxxxx…"
    assert name("سيارة") == "\u2068سيارة\u2069"
    assert legible(name("س" * 300)).endswith("…\u2069")


def test_the_headline_says_verdict_outcome_and_cost(repaired: Report) -> None:
    assert wording.headline(repaired) == (
        "Backdoored toward class horse — repaired: 24 of 1,200 filters pruned, "
        "clean accuracy 90.2 % → 89.6 % (n = 100)"
    )


def test_a_repair_that_only_relearned_does_not_count_what_it_did_not_prune(repaired: Report) -> None:
    relearned = repaired.repair.model_copy(update={"pruned": 0, "relearned": 699_844})
    said = wording.headline(repaired.model_copy(update={"repair": relearned}))
    assert "— repaired: 699,844 weights relearned, clean accuracy" in said


def test_several_targets_are_all_named(repaired: Report) -> None:
    verdict = repaired.verdict.model_copy(update={"target_classes": (0, 3, 99)})
    assert (
        wording.targets(repaired.model_copy(update={"verdict": verdict})) == "classes airplane, cat and #99"
    )


def test_no_rendering_calls_a_model_safe(make: Make) -> None:
    for label in VerdictLabel:
        text = wording.summary(make(outcome=Outcome.UNCHANGED, label=label)).lower()
        assert "safe" not in text
        assert "original model is returned" in text


def test_a_high_attack_success_after_a_repair_is_not_hidden(repaired: Report) -> None:
    assert "attack success 99.4 % → 2.2 % (n = 180)" in wording.summary(repaired)


def test_an_attack_success_of_no_image_is_not_measured(repaired: Report) -> None:
    nothing = Estimate(value=0, low=0, high=1, n=0)
    success = BeforeAfter(before=nothing, after=nothing)
    metrics = repaired.metrics.model_copy(update={"attack_success": success})
    said = wording.evaluation(repaired.model_copy(update={"metrics": metrics}))
    assert said == "Attack success was not measured: the triggered samples could not be evaluated."


def test_objections_name_the_budget_that_is_broken(make: Make) -> None:
    report = make(outcome=Outcome.NOT_REPAIRED)
    costly = report.repair.candidates[9]
    said = " ".join(wording.against(report, costly))
    assert "−12.0 points of clean accuracy; the budget is −2.0 points" in said
    assert "class horse" in said
    best = wording.best_candidate(report)
    assert best is not None
    assert "which does not pass" in " ".join(wording.against(report, best))


def test_what_followed_a_repaired_model_is_said_against_it(make: Make) -> None:
    report = make(outcome=Outcome.NOT_REPAIRED)
    followed = report.repair.candidates[9].model_copy(update={"pursued": 0.4, "perturbation_success": 0.02})
    said = " ".join(wording.against(report, followed))
    assert "follow it lead 40.0 % of images away; 25.0 % is the most that passes" in said


@pytest.mark.parametrize(
    ("pruned", "said"),
    [(0, "Relearning"), (3, "Pruning 3 filters (masks at or below 0.2) and relearning the rest")],
)
def test_who_taught_a_repair_is_said_where_the_selecting_images_did_as_well(
    make: Make, pruned: int, said: str
) -> None:
    relearned = {"rung": "relearn", "pruned": pruned}
    once = make(outcome=Outcome.NOT_REPAIRED).repair.candidates[4].model_copy(update=relearned)
    again = once.model_copy(update={"taught_again": True})
    assert wording.what_was_done(once) == said
    assert wording.what_was_done(again) == f"{said} (with the selecting images too, once they had chosen)"
    assert wording.what_was_done(once.model_copy(update={"share": 1.0, "rate": 1.0, "depth": 1.0})) == said
    less = once.model_copy(update={"share": 0.9, "rate": 0.5, "depth": 0.5})
    far = "50.0 % of the layers, the first, 50.0 % of the usual rate, 90.0 % of the way"
    assert wording.what_was_done(less) == f"{said}, {far}"


def test_markdown_neither_summons_people_nor_breaks_its_tables() -> None:
    shown = markdown.prose("@team | see www.evil.example or https://evil.example `x` <b>")
    assert "@team" not in shown
    assert "www.evil" not in shown
    assert "://" not in shown
    assert r"\|" in shown
    assert r"\<b\>" in shown


def test_a_command_with_backticks_stays_inside_its_fence(make: Make) -> None:
    text = markdown.render(make().model_copy(update={"reproduce": "sanitizer '```\n# gone'"}))
    assert "````sh\nsanitizer '``` # gone'\n````" in text
