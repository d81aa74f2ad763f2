"""Screening on a real backdoored model, and on its clean twin; no triggered image is given as such.

By margin, which takes seconds; by what a real repair takes back, see `test_sanitize`.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from app.contract.screening import Screening
from tests.conftest import BACKDOORED, CLEAN_TWIN, SAMPLES, TRIGGERED

GIVEN = 30  # clean images of each class that are given as clean; 20 of each are screened


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """clean.npz; suspects.npz: 200 clean images, then 200 with the trigger."""
    folder = tmp_path_factory.mktemp("screen")
    every, triggered = np.load(SAMPLES.with_suffix(".npz")), np.load(TRIGGERED)
    places = [np.flatnonzero(every["labels"] == k) for k in range(10)]
    given, rest = (np.concatenate([p[part] for p in places]) for part in (slice(GIVEN), slice(GIVEN, None)))
    np.savez(folder / "clean.npz", images=every["images"][given], labels=every["labels"][given])
    np.savez(folder / "suspects.npz", images=np.concatenate([every["images"][rest], triggered["images"]]))
    with zipfile.ZipFile(folder / "suspects.npz", "a") as archive:
        archive.writestr("paper.txt", "ours")
    return folder


def screened(command: Any, model: Path, divided: Path, out: Path) -> tuple[int, dict[str, Any]]:
    done = command(
        [
            "screen",
            model,
            "--samples",
            divided / "clean.npz",
            "--suspects",
            divided / "suspects.npz",
            "--detector",
            "margin",
            "--out",
            out,
        ]
    )
    assert "Traceback" not in done.err
    assert "warning: Files that were not looked at: 1 ('paper.txt')." in done.out
    report: dict[str, Any] = json.loads((out / "screening.json").read_text())
    return done.code, report


def test_triggered_images_are_ranked_above_clean_ones(
    sanitizer_command: Any, divided: Path, tmp_path: Path
) -> None:
    """n = 200 of each, BadNets patch, 300 clean images given, seed 0; measured AUROC 0.989, 190 flagged at 5 %."""
    code, report = screened(sanitizer_command, BACKDOORED, divided, tmp_path / "out")
    jsonschema.validate(report, Screening.model_json_schema())
    assert code == 1, "so many flags are no chance"
    ranks = np.array([int(scored["name"]) >= 200 for scored in report["scored"]])
    clean_before = np.cumsum(~ranks)[ranks] / 200
    assert 1 - clean_before.mean() > 0.97, "AUROC"
    five_percent = report["decisions"][1]
    assert ranks[: five_percent["flagged"]].sum() >= 180
    assert report["scored"][0]["said"] == 7
    assert (tmp_path / "out" / "suspects.png").read_bytes().startswith(b"\x89PNG")


def test_on_a_clean_model_hardly_anything_is_flagged(
    sanitizer_command: Any, divided: Path, tmp_path: Path
) -> None:
    code, report = screened(sanitizer_command, CLEAN_TWIN, divided, tmp_path / "out")
    assert code == 0, report["decisions"]
    assert report["decisions"][0]["flagged"] <= 20
