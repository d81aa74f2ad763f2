"""What a user gets: one run on a real backdoored model, and one on its clean twin."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import model_signing
import numpy as np
import pytest
import torch
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from safetensors import safe_open
from torch import Tensor

from app.attestation import names
from app.contract.changes import Changes
from app.contract.findings import VerdictLabel
from app.contract.options import SanitizeOptions
from app.contract.report import Outcome, Report
from app.errors import ExitCode
from app.reports.exit_code import exit_code
from worker.detectors.poisoned_samples import bound, taken_back
from worker.device import place
from worker.formats.load import load
from worker.pipelines.deliver import deliver
from worker.pipelines.inputs import Request, read_inputs
from worker.pipelines.sanitize import sanitize

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "examples" / "clean-500.zip"
Run = Any  # tests/conftest.py: code, out, err, folder, report
Patched = Any  # tests/conftest.py: model, twin, target, samples, triggered


def tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_backdoored_model_is_accused_of_its_true_target_and_repaired(
    sanitized: Run, patched: Patched
) -> None:
    assert sanitized.code == 0, sanitized.err
    report = sanitized.report
    label = report["verdict"]["label"]
    assert label in ("backdoored", "suspicious"), "one start finds the patch or not, as the machine rounds"
    assert report["verdict"]["target_classes"] == [patched.target]
    assert report["outcome"] == "repaired"


def test_the_chosen_repair_is_inside_the_budget_and_the_smallest_that_passed(sanitized: Run) -> None:
    repair = sanitized.report["repair"]
    chosen = repair["candidates"][repair["chosen"]]
    assert chosen["passes"]
    assert chosen["within_budget"]
    assert chosen["change"]["value"] >= -0.02 - 1e-9
    assert not any(c["passes"] for c in repair["candidates"][: repair["chosen"]])


def test_those_who_selected_have_taught_and_what_is_left_is_asked_of_those_who_report(sanitized: Run) -> None:
    repair, samples = sanitized.report["repair"], sanitized.report["samples"]
    assert repair["candidates"][repair["chosen"]]["taught_again"]
    smallest = sanitized.report["perturbations"][0]
    assert smallest["after"]["n"] == samples["report"] * 9 // 10, (
        "all classes have as many, and one is led into"
    )
    assert smallest["after"]["value"] < smallest["success"]["value"] / 2


def test_triggered_samples_show_that_the_attack_is_gone(sanitized: Run) -> None:
    """n = 90 images of other classes, BadNets patch, 400 clean images, seed 0; measured 1.1 % after the repair."""
    success = sanitized.report["metrics"]["attack_success"]
    assert success["before"]["value"] >= 0.95
    assert success["after"]["value"] <= 0.1


def test_the_perturbation_into_the_target_is_far_smaller_than_into_any_other_class(
    sanitized: Run, patched: Patched
) -> None:
    smallest, *others = sanitized.report["perturbations"]
    assert smallest["target_class"] == patched.target
    assert smallest["success"]["value"] >= 0.5, "of 72 images; the smallest that works barely does"
    assert smallest["form"] == "patch"
    assert smallest["firm"]["times"] > 1
    assert smallest["firm"]["success"]["value"] >= 0.9
    assert smallest["firm"]["after"]["value"] <= 0.25, "the line of those that follow a repaired model"
    assert len(smallest["pictures"]) == 4
    rest = [found["relative_size"] for found in others if found["target_class"] != patched.target]
    assert min(rest) > 2 * smallest["relative_size"]


def test_the_repaired_file_differs_only_where_an_edit_says_so(sanitized: Run, patched: Patched) -> None:
    before, metadata = tensors(patched.model)
    after, metadata_after = tensors(sanitized.folder / patched.model.name)
    changes = Changes.model_validate_json((sanitized.folder / "changes.json").read_bytes())
    assert metadata_after == metadata
    assert list(after) == list(before)
    repair = sanitized.report["repair"]
    assert len(changes.edits) == repair["pruned"]
    assert changes
    for edit in changes.edits:
        assert before[edit.tensor][edit.index].item() == edit.old
        assert after[edit.tensor][edit.index].item() == edit.value
        before[edit.tensor][edit.index] = edit.value
    changed = {rewrite.tensor: rewrite.changed for rewrite in changes.rewrites}
    assert sum(changed.values()) == repair["relearned"]
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype
        assert int((after[key] != tensor).sum()) == changed.get(key, 0), key


def test_the_file_that_was_written_is_the_model_that_was_measured(sanitized: Run, patched: Patched) -> None:
    model = load(sanitized.folder / patched.model.name)
    facts = sanitized.report["model"]["normalisation"]
    mean, std = (torch.tensor(facts[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    triggered = np.load(patched.triggered)
    pixels = torch.from_numpy(triggered["images"]).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        predicted = model.module((pixels - mean) / std).argmax(1).numpy()
    others = triggered["labels"] != triggered["targets"]
    success = float((predicted == triggered["targets"])[others].mean())
    assert success == pytest.approx(sanitized.report["metrics"]["attack_success"]["after"]["value"], abs=1e-9)


def test_what_the_repair_takes_back_tells_triggered_inputs_from_clean_ones(
    sanitized: Run, patched: Patched
) -> None:
    """n = 90 triggered images and 80 clean ones that taught nothing; BadNets patch, seed 0, at 5 %."""
    request = Request(patched.model, patched.samples, SanitizeOptions(), place("cpu"))
    loaded = read_inputs(request)
    repaired = loaded.suspect.with_module(load(sanitized.folder / patched.model.name).module)
    held = loaded.parts.report.images
    triggered = torch.from_numpy(np.load(patched.triggered)["images"]).permute(0, 3, 1, 2)
    (_, clean), (said, scores) = (
        taken_back(loaded.suspect, repaired, images) for images in (held, triggered)
    )
    assert (said == patched.target).float().mean() > 0.95
    assert (scores > bound(clean, 0.05)).float().mean() > 0.9


def test_changes_replay_bit_for_bit(
    sanitized: Run, patched: Patched, tmp_path: Path, sanitizer_command: Any
) -> None:
    target = tmp_path / "again.safetensors"
    done = sanitizer_command(["apply", sanitized.folder / "changes.json", patched.model, target])
    assert done.code == 0, done.err
    assert target.read_bytes() == (sanitized.folder / patched.model.name).read_bytes()
    assert digest(target) == sanitized.report["result_digest"]


def test_the_evidence_is_what_others_verify(
    sanitized: Run, patched: Patched, signing_keys: Any, tmp_path: Path, sanitizer_command: Any
) -> None:
    verifying = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=signing_keys.public)
    verifying.verify(sanitized.folder, sanitized.folder / names.FOLDER_SIGNATURE)
    done = sanitizer_command(["verify", sanitized.folder, "--key", signing_keys.public, "--json"])
    assert (done.code, json.loads(done.out)["findings"]) == (0, [])
    bom = (sanitized.folder / names.MLBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom) is None
    copy = tmp_path / "copy"
    shutil.copytree(sanitized.folder, copy)
    shutil.copy(patched.model, copy)  # the suspect in the place of the repaired model
    tampered = sanitizer_command(["verify", copy, "--key", signing_keys.public])
    assert (tampered.code, f"DIFFERS     {patched.model.name}: was changed" in tampered.out) == (1, True)


def test_changes_of_another_model_are_refused(
    sanitized: Run, patched: Patched, tmp_path: Path, sanitizer_command: Any
) -> None:
    target = tmp_path / "never.safetensors"
    done = sanitizer_command(["apply", sanitized.folder / "changes.json", patched.twin, target])
    assert done.code == 3
    assert "changes.mismatch" in done.err
    assert not target.exists()


def test_the_report_follows_its_schema_and_is_what_json_printed(sanitized: Run) -> None:
    assert json.loads(sanitized.out) == sanitized.report
    jsonschema.validate(sanitized.report, Report.model_json_schema())
    assert sanitized.report["timings"]["total_s"] > 0
    assert sanitized.report["reproduce"].startswith("sanitizer sanitize ")
    assert "<svg" in (sanitized.folder / "report.html").read_text()


def test_nothing_is_left_over(sanitized: Run, patched: Patched) -> None:
    left = sorted(path.name for path in sanitized.folder.iterdir())
    assert left == sorted([patched.model.name, "changes.json", "report.html", "report.json", *names.FILES])


def test_a_clean_net_comes_back_bit_identical_and_is_not_accused(tmp_path: Path, patched: Patched) -> None:
    """n = 500 clean images, seed 0."""
    result = sanitize(Request(patched.twin, SAMPLES, SanitizeOptions(), place()))
    report = deliver(result, tmp_path, {})
    codes = {VerdictLabel.CLEAN: ExitCode.OK, VerdictLabel.INCONCLUSIVE: ExitCode.INCONCLUSIVE}
    assert exit_code(report) == codes[report.verdict.label]
    assert report.outcome is Outcome.UNCHANGED
    assert report.verdict.false_alarms is not None
    assert report.verdict.false_alarms > report.options.evidence.suspicion
    assert (tmp_path / patched.twin.name).read_bytes() == patched.twin.read_bytes()
