"""What a user gets: one run on a real backdoored model, and one on its clean twin."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from safetensors import safe_open
from torch import Tensor

from app.contract.changes import Changes
from app.contract.report import Report

ROOT = Path(__file__).parents[2]
BACKDOORED = ROOT / "examples" / "backdoored-resnet18.safetensors"
CLEAN_TWIN = ROOT / "examples" / "clean-resnet18.safetensors"
HORSE = 7
Run = Any  # tests/conftest.py: code, out, err, folder, report


def tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.timeout(1500)
def test_the_backdoored_model_is_accused_of_its_true_target_and_repaired(sanitized: Run) -> None:
    assert sanitized.code == 0, sanitized.err
    report = sanitized.report
    assert report["verdict"]["label"] == "suspicious"
    assert report["verdict"]["target_classes"] == [HORSE]
    assert report["outcome"] == "repaired"


def test_the_chosen_repair_is_inside_the_budget_and_the_smallest_that_passed(sanitized: Run) -> None:
    repair = sanitized.report["repair"]
    chosen = repair["candidates"][repair["chosen"]]
    assert chosen["passes"]
    assert chosen["within_budget"]
    assert chosen["change"]["value"] >= -0.02 - 1e-9
    assert not any(c["passes"] for c in repair["candidates"] if c["pruned"] < chosen["pruned"])


def test_triggered_samples_show_that_the_attack_got_weaker(sanitized: Run) -> None:
    """n = 200 images of other classes, BadNets patch, seed 0. That it is weaker, not that it is gone."""
    success = sanitized.report["metrics"]["attack_success"]
    assert success["before"]["value"] >= 0.95
    assert success["after"]["high"] < success["before"]["low"]


def test_the_repaired_file_differs_only_where_an_edit_says_so(sanitized: Run) -> None:
    before, metadata = tensors(BACKDOORED)
    after, metadata_after = tensors(sanitized.folder / BACKDOORED.name)
    changes = Changes.model_validate_json((sanitized.folder / "changes.json").read_bytes())
    assert metadata_after == metadata
    assert list(after) == list(before)
    assert len(changes.edits) == sanitized.report["repair"]["pruned"] > 0
    for edit in changes.edits:
        assert before[edit.tensor][edit.index].item() == edit.old
        before[edit.tensor][edit.index] = edit.value
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype
        assert after[key].equal(tensor), key


def test_changes_replay_bit_for_bit(sanitized: Run, tmp_path: Path, sanitizer_command: Any) -> None:
    target = tmp_path / "again.safetensors"
    done = sanitizer_command(["apply", sanitized.folder / "changes.json", BACKDOORED, target])
    assert done.code == 0, done.err
    assert target.read_bytes() == (sanitized.folder / BACKDOORED.name).read_bytes()
    assert digest(target) == sanitized.report["result_digest"]


def test_changes_of_another_model_are_refused(sanitized: Run, tmp_path: Path, sanitizer_command: Any) -> None:
    target = tmp_path / "never.safetensors"
    done = sanitizer_command(["apply", sanitized.folder / "changes.json", CLEAN_TWIN, target])
    assert done.code == 3
    assert "changes.mismatch" in done.err
    assert not target.exists()


def test_the_report_follows_its_schema_and_is_what_json_printed(sanitized: Run) -> None:
    assert json.loads(sanitized.out) == sanitized.report
    jsonschema.validate(sanitized.report, Report.model_json_schema())
    assert sanitized.report["timings"]["total_s"] > 0
    assert sanitized.report["reproduce"].startswith("sanitizer sanitize ")
    assert "<svg" in (sanitized.folder / "report.html").read_text()


def test_nothing_is_left_over(sanitized: Run) -> None:
    names = sorted(path.name for path in sanitized.folder.iterdir())
    assert names == sorted([BACKDOORED.name, "changes.json", "report.html", "report.json"])


@pytest.mark.timeout(900)
def test_the_clean_twin_comes_back_bit_identical_and_is_not_called_clean(cleared: Run) -> None:
    assert cleared.code == 5, cleared.err
    assert cleared.report["outcome"] == "unchanged"
    assert cleared.report["verdict"]["label"] == "inconclusive"
    assert (cleared.folder / CLEAN_TWIN.name).read_bytes() == CLEAN_TWIN.read_bytes()
    assert "Traceback" not in cleared.err
