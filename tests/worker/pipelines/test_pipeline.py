"""The pipeline in process, shortened to a few epochs: what must hold whatever the numbers are."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from app.contract.options import SanitizeOptions
from app.contract.report import Outcome
from worker.detectors.verdict import shows_evidence
from worker.device import Placement
from worker.pipelines.detect import detect
from worker.pipelines.inputs import Request
from worker.pipelines.sanitize import Sanitized, sanitize

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
SUSPECT = ROOT / "benchmarks" / "zoo" / "weights" / "badnets-vgg16.safetensors"
REPAIRING = "recovering, pruning and the operating point"
SHORT: dict[str, Any] = {
    "normalize": "cifar10",
    "split": {"fit": 0.2, "select": 0.1},
    "unlearn": {"max_epochs": 8, "lr": 0.01, "stop_accuracy": 0.3},
    "recover": {"epochs": 2},
    "perturbation": {
        "steps": 15,
        "batch_size": 8,
        "success": 0.3,
        "max_classes": 3,
        "hurried": {"steps": 30, "batch_size": 6},  # of fewer steps it accuses nobody
    },
    "statistics": {"steps": 2, "batch_size": 8},
    "relearn": {"steps": 5, "gently": {"steps": 5}, "shares": [1.0, 0.5]},
    "prune": {"threshold_step": 0.3},
    "evidence": {"seeds": 1, "suspicion": 0.99},
}


def asked(**changed: Any) -> Request:
    options = SanitizeOptions.model_validate({**SHORT, **changed})
    place = Placement(torch.device("cpu"), memory_format=torch.channels_last)
    samples, triggered = EXAMPLES / "clean-500.zip", EXAMPLES / "triggered-200.npz"
    return Request(SUSPECT, samples, options, place, triggered)


def run(**changed: Any) -> Sanitized:
    return sanitize(asked(**changed))


@cache
def plain() -> Sanitized:
    """One run as it is, for all who only look at it."""
    return run()


def facts(result: Sanitized) -> dict[str, Any]:
    return result.report.model_dump(exclude={"timings"})


def test_the_same_seed_gives_the_same_report() -> None:
    assert facts(run()) == facts(plain())


def test_what_is_not_repaired_comes_back_as_it_was_with_the_best_candidate_beside() -> None:
    found = {"steps": 20, "batch_size": 8, "success": 0.3, "max_classes": 3, "hurried": {"batch_size": 8}}
    strict = {"seeds": 1, "suspicion": 0.99, "label_shift": 0.02, "relative_size": 1.0, "success": 0.0}
    result = run(perturbation=found, evidence=strict)
    assert result.outcome is Outcome.NOT_REPAIRED
    assert not result.edits
    assert result.best_edits
    assert all(tensor.equal(result.model.stored.tensors[key]) for key, tensor in result.tensors.items())
    assert result.report.metrics.clean_change.lost == result.report.metrics.clean_change.gained == 0


def test_no_evidence_means_no_repair_is_tried() -> None:
    result = run(evidence={"seeds": 1, "false_alarms": 1e-6, "suspicion": 1e-6})
    assert result.outcome is Outcome.UNCHANGED
    assert result.report.repair.candidates == ()
    assert any(skipped.what.startswith("recovering") for skipped in result.report.skipped)


def test_detecting_says_what_sanitizing_says_and_changes_nothing() -> None:
    seen, repaired = detect(asked()), plain().report
    assert shows_evidence(seen.verdict), "there is something that could be repaired"
    assert seen.verdict == repaired.verdict
    looked_at = [{(p.target_class, p.form) for p in of.perturbations} for of in (seen, repaired)]
    assert looked_at[0] == looked_at[1], "of the same classes; a repair takes a closer look"
    assert (seen.kind, seen.outcome, seen.repair.candidates) == ("detect", Outcome.UNCHANGED, ())
    assert seen.result_digest == seen.model.digest
    assert seen.metrics.attack_success is not None
    assert "only detection" in {skipped.what: skipped.reason for skipped in seen.skipped}[REPAIRING].lower()


def test_what_does_not_stand_a_closer_look_is_not_repaired_and_both_commands_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is smaller than this line. Of a real backdoor other witnesses speak as well, so these are silenced."""
    for module in ("examine", "detect"):
        monkeypatch.setattr(f"worker.pipelines.{module}.rests_on_size", lambda *_: True)
    doubtful = asked(evidence={"seeds": 1, "relative_size": 1e-6})
    result = sanitize(doubtful)
    verdict = result.report.verdict
    assert (verdict.label, verdict.target_classes) == ("inconclusive", ())
    assert "a careful one needed" in verdict.because
    assert (result.outcome, result.report.repair.candidates) == (Outcome.UNCHANGED, ())
    assert not result.edits
    assert detect(doubtful).verdict == verdict


def test_the_paper_settings_reach_the_options() -> None:
    options = SanitizeOptions.model_validate({"fidelity": "paper", "recover": {"epochs": 3}})
    assert (options.unlearn.lr, options.unlearn.milestones, options.unlearn.clip_norm) == (
        0.01,
        (10, 20),
        None,
    )
    assert (options.recover.lr, options.recover.epochs, options.recover.decimals) == (0.2, 3, 4)
    assert options.evidence.seeds == 1
