"""The harness: who is given which images, and what its tables say."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.efficacy.subjects import CARDS, Subject, accurate, divide, exam, subjects
from benchmarks.efficacy.table import BEGIN, END, as_csv, der, summary, tables, worst_first
from benchmarks.zoo.images import Images
from benchmarks.zoo.published import SETS

ROOT = Path(__file__).parents[2]
DRAW = torch.Generator().manual_seed(0)
TEST = Images(
    torch.randint(256, (200, 3, 32, 32), generator=DRAW, dtype=torch.uint8),
    torch.arange(200) % 10,
    tuple("abcdefghij"),
)


def line(
    defence: str, acc: tuple[float, float], asr: tuple[float, float] | None, seed: int = 0
) -> dict[str, Any]:
    before, after = ({"acc": {"value": acc[i]}, "asr": {"value": asr[i]} if asr else None} for i in (0, 1))
    facts = {"model": "m", "defence": defence, "seed": seed, "seconds": 1.0, "n_clean": 500}
    return {**facts, "before": before, "after": after}


def test_what_judges_was_given_to_no_defence() -> None:
    given, judging, spare = divide(TEST, per_class=5, seed=3)
    assert torch.bincount(TEST.labels[given]).tolist() == [5] * 10
    assert not set(given.tolist()) & set(judging.tolist())
    assert (len(judging), len(spare)) == (150, 0)
    assert not torch.equal(given, divide(TEST, per_class=5, seed=4)[0])


@pytest.mark.parametrize("attack", ["badnets", "badnets_all_to_all", None])
def test_images_that_are_of_the_wanted_class_do_not_count(attack: str | None) -> None:
    judged = exam(Subject("m", subjects()[0].path, attack, 2), TEST, torch.arange(200))
    assert len(judged.clean) == 200
    assert (judged.true != judged.wanted).all()
    assert len(judged.wanted) == {"badnets": 180, "badnets_all_to_all": 200, None: 0}[attack]


def test_every_card_is_a_subject() -> None:
    found = subjects()
    assert {subject.attack is None for subject in found} == {True, False}
    assert all(subject.path.exists() for subject in found)


def test_the_rating_is_one_for_a_free_cure_and_a_half_for_nothing() -> None:
    assert der(line("d", (0.9, 0.9), (1.0, 0.0))) == 1.0
    assert der(line("d", (0.9, 0.9), (1.0, 1.0))) == 0.5
    assert der(line("d", (0.9, 0.8), (1.0, 0.0))) == pytest.approx(0.95)
    assert der(line("d", (0.9, 0.95), None)) is None


def test_the_page_says_what_the_lines_say_and_leaves_no_model_out() -> None:
    lines, text = tables(ROOT / "benchmarks" / "efficacy" / "results.jsonl")
    page = (ROOT / "docs" / "efficacy.md").read_text()
    assert page.partition(BEGIN)[2].partition(END)[0] == text
    every = {subject.name for subject in (*subjects(), *subjects(CARDS))}
    assert {entry["model"] for entry in lines if entry["defence"] == "ours"} == every
    assert (ROOT / "docs" / "efficacy.csv").read_text() == as_csv(lines)


def test_the_page_of_published_nets_says_what_their_lines_say() -> None:
    lines, text = tables(ROOT / "benchmarks" / "efficacy" / "published.jsonl")
    page = (ROOT / "docs" / "published.md").read_text()
    assert page.partition(BEGIN)[2].partition(END)[0] == text
    known = {name for sources in SETS.values() for nets in sources.values() for name in nets}
    assert {entry["model"] for entry in lines} <= known


def test_failures_come_first_and_the_better_defence_on_top() -> None:
    lines = [
        line("good", (0.9, 0.9), (1.0, 0.1)),
        line("bad", (0.9, 0.8), (1.0, 0.7)),
        line("good", (0.9, 0.88), None),
    ]
    assert [row[0] for row in summary(lines)] == ["good", "bad"]
    assert summary(lines)[0][8] == "-2.0 (n = 1)"
    assert [entry["defence"] for entry in sorted(lines, key=worst_first)] == ["bad", "good", "good"]


def test_the_better_nets_are_shown_alone_as_well() -> None:
    """By their cards, whatever a draw of test images says."""
    good, poor = "badnets-preact18", "badnets-vgg16"
    assert {good} == accurate(0.85) & {good, poor}
    lines = [
        line("ours", (0.8, 0.8), (1.0, 0.0)) | {"model": good},
        line("ours", (0.9, 0.9), (1.0, 0.5)) | {"model": poor},
    ]
    rows = {row[0]: row[1:3] for row in summary(lines)}
    assert rows == {"ours": ("2", "25.0%"), "ours, nets of 85% and more": ("1", "0.0%")}


def test_other_budgets_stand_by_themselves() -> None:
    lines = [
        line("ours", (0.9, 0.9), (1.0, left)) | {"n_clean": n}
        for n, left in ((100, 0.4), (500, 0.0), (516, 0.1))
    ]
    rows = {row[0]: row[1:3] for row in summary(lines)}
    assert rows == {"ours": ("2", "5.0%"), "ours, 100 images": ("1", "40.0%")}
    assert summary(lines[:1])[0][0] == "ours, 100 images", "and nothing is said of a usual number"


def test_several_seeds_are_shown_together_and_each_alone() -> None:
    lines = [line("ours", (0.9, 0.9), (1.0, left), seed) for seed, left in enumerate((0.0, 0.2))]
    rows = {row[0]: row[1:3] for row in summary([*lines, line("theirs", (0.9, 0.8), (1.0, 0.5))])}
    assert rows == {
        "ours": ("2", "10.0%"),
        "ours, seed 0": ("1", "0.0%"),
        "ours, seed 1": ("1", "20.0%"),
        "theirs": ("1", "50.0%"),
    }
