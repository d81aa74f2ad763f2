"""Screening in process, shortened to a few epochs."""

from pathlib import Path

import torch
from torch import Tensor

from app.contract.screening import Screening
from tests.worker.pipelines.test_checkpoints import InFile
from tests.worker.pipelines.test_pipeline import EXAMPLES, asked
from worker.pipelines.inputs import Request
from worker.pipelines.pictures import SHEET, SIDE, contact_sheet
from worker.pipelines.screen import Screened, screen

SUSPECTS = EXAMPLES / "triggered-200.npz"


def untriggered() -> Request:
    request = asked(unlearn={"max_epochs": 2})
    return Request(request.model, request.samples, request.options, request.placement)


def facts(screened: Screened) -> Screening:
    return screened.report.model_copy(update={"timings": {}})


def test_a_second_attempt_unlearns_nothing_and_says_the_same(tmp_path: Path) -> None:
    first, second = InFile(tmp_path / "checkpoint"), InFile(tmp_path / "checkpoint")
    whole = screen(untriggered(), SUSPECTS, checkpoints=first)
    resumed = screen(untriggered(), SUSPECTS, checkpoints=second)
    assert (len(first.kept), len(second.kept)) == (1, 0)
    assert facts(whole) == facts(resumed)
    assert set(whole.report.timings) == {"load_s", "unlearn_s", "score_s", "total_s"}


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
