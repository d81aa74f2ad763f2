"""Whole jobs with the model on another device than the CPU: nothing is left behind there, and all is as on the CPU."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from app.contract.changes import Edits
from app.contract.curation import CurateOptions, Curation
from app.contract.report import Report
from app.contract.screening import Screening
from tests.worker.elsewhere import elsewhere
from tests.worker.pipelines.test_pipeline import EXAMPLES, asked
from worker.device import Placement
from worker.pipelines.curate import CurationRequest, curate
from worker.pipelines.sanitize import sanitize
from worker.pipelines.screen import screen

# As short as lets every stage be walked: anybody is accused.
BRIEF: dict[str, Any] = {
    "split": {"fit": 0.2, "select": 0.1},
    "unlearn": {"max_epochs": 2, "lr": 0.01},
    "recover": {"epochs": 1},
    "perturbation": {
        "steps": 4,
        "batch_size": 4,
        "success": 0.05,
        "max_classes": 2,
        "hurried": {"steps": 6, "batch_size": 4},
    },
    "statistics": {"steps": 1, "batch_size": 4},
    "relearn": {"steps": 2, "gently": {"steps": 1}, "shares": [1.0], "slower": 1, "depth": 1},
    "prune": {"threshold_step": 0.45, "accuracy_budget": 0.5, "class_budget": 1.0},
    "evidence": {"seeds": 1, "suspicion": 0.99, "relative_size": 1.0},
}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with eight clean images of each class, and three suspects."""
    folder = tmp_path_factory.mktemp("few")
    with np.load(EXAMPLES / "clean-500.npz") as held:
        chosen = np.concatenate([np.flatnonzero(held["labels"] == k)[:8] for k in range(10)])
        np.savez(folder / "clean.npz", images=held["images"][chosen], labels=held["labels"][chosen])
    with np.load(EXAMPLES / "triggered-200.npz") as held:
        np.savez(folder / "suspects.npz", images=held["images"][:3])
    return folder


def told(on: str, kind: str, few: Path) -> tuple[dict[str, Any], Edits]:
    """What one job says, and the nearest repair, number by number."""
    torch.set_num_threads(1)
    device = elsewhere() if on == "elsewhere" else torch.device("cpu")
    request = replace(asked(**BRIEF, screen={"detector": "margin"}), placement=Placement(device))
    said: Curation | Screening | Report
    nearest = Edits()
    if kind == "curate":
        options = CurateOptions(budget=2, strategy="energy")
        said = curate(CurationRequest(request.model, few / "suspects.npz", options, request.placement)).report
    elif kind == "screen":
        said = screen(replace(request, samples=few / "clean.npz"), few / "suspects.npz").report
    else:
        result = sanitize(request)
        said, nearest = result.report, result.best_edits
    return said.model_dump(exclude={"timings"}), nearest


@pytest.fixture(scope="module")
def apart() -> Iterator[ProcessPoolExecutor]:
    """A process that has the device from its start on."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=elsewhere) as process:
        yield process


def misplaced() -> list[str]:
    """What the emulation says of four tensors in the wrong place, each of which CUDA refuses."""
    there, said = torch.ones(2, device=elsewhere()), []
    wrong = (
        lambda: there + torch.ones(2),
        lambda: torch.rand(2, device=elsewhere(), generator=torch.Generator()),
        lambda: there.numpy(),
        lambda: nn.Linear(2, 2)(there),
    )
    for place in wrong:
        try:
            place()
        except RuntimeError as refused:
            said.append(str(refused))
    assert (there + 1).tolist() == [2, 2], "what is together is computed"
    return said


def test_the_emulation_refuses_what_cuda_refuses(apart: ProcessPoolExecutor) -> None:
    added, drawn, taken, asked_of_weights = apart.submit(misplaced).result()
    assert "meet those of the CPU" in added
    assert "a generator of the CPU" in drawn
    assert "numpy() is not supported" in taken
    assert "meet those of the CPU" in asked_of_weights


@pytest.mark.parametrize("kind", ["screen", "curate"])
def test_a_job_elsewhere_says_what_it_says_here(apart: ProcessPoolExecutor, few: Path, kind: str) -> None:
    here, there = (apart.submit(told, on, kind, few).result() for on in ("cpu", "elsewhere"))
    assert there == here


def test_a_repair_elsewhere_is_the_repair_here(apart: ProcessPoolExecutor, few: Path) -> None:
    here, there = (apart.submit(told, on, "sanitize", few).result() for on in ("cpu", "elsewhere"))
    assert there == here
    relearned = [c for c in there[0]["repair"]["candidates"] if c["rung"] == "relearn"]
    assert any(c["pursued"] is not None or c["perturbation_success"] for c in relearned), "and it was asked"
    assert there[1].relearned, "or the weights were not compared"
