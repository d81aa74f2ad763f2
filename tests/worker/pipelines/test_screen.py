"""Screening in process, shortened to a few epochs."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.contract.options import REDUCED
from app.contract.screening import Screening
from tests.worker.pipelines.test_checkpoints import InFile
from tests.worker.pipelines.test_pipeline import EXAMPLES, asked, plain
from worker.pipelines.inputs import Request
from worker.pipelines.pictures import SHEET, SIDE, contact_sheet
from worker.pipelines.screen import Screened, screen

SUSPECTS = EXAMPLES / "triggered-200.npz"


def untriggered(**changed: Any) -> Request:
    given = {"unlearn": {"max_epochs": 2}, "screen": {"detector": "margin"}}
    request = asked(**{**given, **changed})
    return Request(request.model, request.samples, request.options, request.placement)


def facts(screened: Screened) -> Screening:
    return screened.report.model_copy(update={"timings": {}})


def test_a_second_attempt_unlearns_nothing_and_says_the_same(tmp_path: Path) -> None:
    first, second = InFile(tmp_path / "checkpoint"), InFile(tmp_path / "checkpoint")
    whole = screen(untriggered(), SUSPECTS, checkpoints=first)
    resumed = screen(untriggered(), SUSPECTS, checkpoints=second)
    assert (len(first.kept), len(second.kept)) == (1, 0)
    assert facts(whole) == facts(resumed)
    assert set(whole.report.timings) == {"load_s", "unlearn_s", "mislabel_s", "score_s", "total_s"}


def test_by_repair_the_model_is_repaired_first_and_what_chose_the_repair_calibrates_nothing() -> None:
    report = screen(replace(asked(), triggered=None), SUSPECTS).report
    repaired = plain()
    assert (report.detector, report.forwards, report.skipped) == ("repair", 2, ())
    assert report.calibrated_on == repaired.report.samples.report < repaired.report.samples.n
    assert {"perturb_s", "recover_s", "choose_s", "score_s"} <= set(report.timings)
    assert report.unlearning == repaired.report.unlearning


def test_where_nothing_is_accused_there_is_no_repair_and_inputs_are_scored_by_margin() -> None:
    hardly = {"steps": 2, "batch_size": 4, "max_classes": 2, "hurried": {"steps": 2, "batch_size": 2}}
    nothing = {"evidence": {"seeds": 1, "false_alarms": 1e-6, "suspicion": 1e-6}, "perturbation": hardly}
    report = screen(untriggered(**nothing, screen={"detector": "repair"}), SUSPECTS).report
    assert report.detector == "margin"
    assert report.skipped[0].what == "scores by repair"
    by_margin = screen(untriggered(**nothing), SUSPECTS).report
    assert report.scored == by_margin.scored


def sheet_size(images: Tensor) -> tuple[int, int]:
    """Width and height, as the PNG says them."""
    data = contact_sheet(images)
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def test_a_sheet_shows_small_images_as_they_are_and_large_ones_smaller() -> None:
    small, large = (
        torch.zeros(70, 3, 32, 16, dtype=torch.uint8),
        torch.zeros(9, 1, 500, 250, dtype=torch.uint8),
    )
    assert sheet_size(small) == (SHEET * 17, SHEET * 33)
    assert sheet_size(large) == (SHEET * (SIDE // 2 + 1), 2 * (SIDE + 1))
    assert contact_sheet(torch.zeros(9, 4, 8, 8, dtype=torch.uint8)) == b""


def test_five_metrics_ask_for_labels_and_unlearn_nothing(tmp_path: Path) -> None:
    """A tenth of the example's images; how well it ranks is measured in `benchmarks/`."""
    every = np.load(EXAMPLES / "clean-500.npz")
    few = np.concatenate([np.flatnonzero(every["labels"] == k)[:8] for k in range(10)])
    np.savez(tmp_path / "clean.npz", images=every["images"][few], labels=every["labels"][few])
    np.savez(tmp_path / "suspects.npz", images=np.load(SUSPECTS)["images"][:3])
    with zipfile.ZipFile(tmp_path / "suspects.npz", "a") as archive:
        archive.writestr("paper.txt", "ours")
    given = asked(screen={"detector": "five_metrics"})
    model = EXAMPLES / "backdoored-resnet18.safetensors"
    request = Request(model, tmp_path / "clean.npz", given.options, given.placement)
    report = screen(request, tmp_path / "suspects.npz").report
    assert (report.detector, report.forwards) == ("five_metrics", REDUCED.forwards)
    assert (report.unlearning, report.skipped) == ((), ())
    assert set(report.timings) == {"load_s", "score_s", "total_s"}
    assert report.calibrated_on == 64
    assert [d.bound is None for d in report.decisions] == [True, False], "64 images promise 5 %, and not 1 %"
    assert {scored.said for scored in report.scored} == {7}
    assert report.warnings[-1].code == "samples.skipped"
