"""The study of what ranks repairs: its arithmetic, and that its page says what its lines say."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.efficacy.ranking_table import TOGETHER, correlation, rule, silent, summary, tables
from benchmarks.efficacy.table import BEGIN, END

ROOT = Path(__file__).parents[2]
QUIET = {"success": 0.0, "pursued": 0.1, "size": 0.9, "shift": 0.1, "change": -0.01}


def line(asr: float, model: str = "m", **answers: float | None) -> dict[str, Any]:
    return {"model": model, "asr": {"value": asr}, "answers": {**QUIET, **answers}}


def test_a_signal_that_grows_with_the_attack_ranks_perfectly_and_its_opposite_backwards() -> None:
    lines = [line(asr, success=asr, size=asr) for asr in (0.9, 0.5, 0.2, 0.1)]
    assert correlation(lines, "success") == 1.0
    assert correlation(lines, "size") == -1.0  # what is smaller accuses more


def test_who_answers_all_alike_or_was_hardly_asked_ranks_nothing() -> None:
    lines = [line(asr, shift=None if asr < 0.5 else 0.3) for asr in (0.9, 0.5, 0.2, 0.1)]
    assert correlation(lines, "pursued") is None
    assert correlation(lines, "shift") is None
    assert correlation([], TOGETHER) is None


def test_models_count_alike_and_the_worst_is_named() -> None:
    good = [line(asr, "good", success=asr) for asr in (0.9, 0.5, 0.2, 0.1)]
    bad = [line(asr, "bad", success=1 - asr) for asr in (0.9, 0.5, 0.2, 0.1)]
    row = next(row for row in summary([*good, *bad]) if row[0].startswith("success of the suspect"))
    assert row[1:] == ("+0.00 (-1.00 to +1.00)", "2", "-1.00 (bad)")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, True),
        ({"pursued": None}, True),
        ({"success": 0.06}, False),
        ({"pursued": 0.3}, False),
        ({"size": 0.49}, False),
    ],
)
def test_a_repair_is_silent_by_the_lines_of_a_job(answers: dict[str, float | None], expected: bool) -> None:
    assert silent(line(0.1, **answers)) is expected


def test_a_repair_that_lost_the_clean_task_is_neither() -> None:
    lost = {"model": "m", "asr": {"value": 0.9}, "answers": {"change": -0.7}}
    assert silent(lost) is None
    assert rule([lost, line(0.2)]) == [
        ("silent", "1", "1", "20.0% to 20.0%"),
        ("accused still", "0", "0", "–"),
        ("clean task lost", "1", "1", "90.0% to 90.0%"),
    ]


def test_the_page_says_what_the_lines_say() -> None:
    text = tables(ROOT / "benchmarks" / "efficacy" / "ranking.jsonl")
    page = (ROOT / "docs" / "ranking.md").read_text()
    assert page.partition(BEGIN)[2].partition(END)[0] == text
