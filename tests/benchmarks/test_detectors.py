"""The studies of the detectors: what ships is what was measured, and pages say what the lines say."""

from pathlib import Path

import pytest
import torch

from benchmarks.detectors.null import CALIBRATING, clean_net, read
from benchmarks.detectors.screening import auroc, rates
from benchmarks.detectors.table import by_repair, judged, whole
from benchmarks.efficacy.subjects import subjects
from benchmarks.efficacy.table import BEGIN, END
from worker.detectors.null import shipped

LINES = Path(__file__).parents[2] / "benchmarks" / "detectors"
REPAIRS = LINES.parent / "efficacy" / "results.jsonl"
PAGE = Path(__file__).parents[2] / "docs" / "detection.md"


def test_the_null_that_ships_is_made_of_the_lines() -> None:
    assert tuple(map(clean_net, read([CALIBRATING]))) == shipped()


def test_nothing_that_is_judged_calibrates_but_itself() -> None:
    lines = read([LINES / "witnesses.jsonl"])
    null = {net.digest for net in shipped()}
    assert not [line["name"] for line in lines if line["digest"] in null]
    known = {line["name"] for line in (*lines, *read([CALIBRATING]))}
    assert known >= {subject.name for subject in subjects()}
    assert not any(judged(line).calibrates for line in lines)
    assert all(judged(line).calibrates for line in read([CALIBRATING]))


def test_the_page_says_what_the_lines_say() -> None:
    text = whole(*([LINES / f"{name}.jsonl"] for name in ("witnesses", "draws", "screening")), [REPAIRS])
    assert PAGE.read_text().partition(BEGIN)[2].partition(END)[0] == text


def test_of_repairs_only_those_that_repaired_something_with_a_usual_number_of_images_screen() -> None:
    facts = {"model": "a", "attack": "badnets", "seed": 1}
    few, usual = {**facts, "n_clean": 100}, {**facts, "n_clean": 500}
    scored = {"screened": {"auroc": 0.9}}
    lines = [{**usual, **scored}, {**usual, "screened": None}, usual, {**few, **scored}]
    assert by_repair(lines) == [{**facts, "detector": "repair", "auroc": 0.9}]


def test_the_area_is_the_chance_that_a_triggered_input_scores_higher() -> None:
    assert auroc(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 1
    assert auroc(torch.tensor([1.0]), torch.tensor([1.0])) == 0.5
    assert auroc(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 2.0])) == 0.5


def test_rates_count_what_lies_above_each_bound() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0, 1.5, 4.0])
    found = rates(scores, 4, [2.5, None], torch.tensor([False, True]))
    assert (found["fpr_0.01"], found["tpr_0.01"], found["tpr_of_hits_0.01"]) == (0.25, 0.5, 1.0)
    assert (found["fpr_0.05"], found["tpr_0.05"]) == (None, None)
    assert found["auroc_of_hits"] == pytest.approx(1.0)
    assert (found["clean"], found["triggered"]) == (4, 2)
