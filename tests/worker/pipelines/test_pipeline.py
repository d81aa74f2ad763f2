"""The pipeline in process, shortened to a few epochs: what must hold whatever the numbers are."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.contract.options import SanitizeOptions
from app.contract.report import Outcome
from worker.device import Placement
from worker.pipelines.sanitize import Request, Sanitized, sanitize

EXAMPLES = Path(__file__).parents[3] / "examples"
SHORT: dict[str, Any] = {
    "architecture": "resnet18_cifar:width=16",
    "normalize": "cifar10",
    "split": {"fit": 0.2, "select": 0.2},
    "unlearn": {"max_epochs": 8, "lr": 0.01, "stop_accuracy": 0.3},
    "recover": {"epochs": 2},
    "evidence": {"seeds": 1, "threshold": 0.2},
}


def run(**changed: Any) -> Sanitized:
    options = SanitizeOptions.model_validate({**SHORT, **changed})
    place = Placement(torch.device("cpu"), memory_format=torch.channels_last)
    model, samples = EXAMPLES / "backdoored-resnet18.safetensors", EXAMPLES / "clean-500.zip"
    return sanitize(Request(model, samples, options, place, triggered=EXAMPLES / "triggered-200.npz"))


def facts(result: Sanitized) -> dict[str, Any]:
    return result.report.model_dump(exclude={"timings"})


@pytest.mark.parametrize("fidelity", ["service", "paper"])
def test_the_same_seed_gives_the_same_report(fidelity: str) -> None:
    assert facts(run(fidelity=fidelity)) == facts(run(fidelity=fidelity))


def test_what_is_not_repaired_comes_back_as_it_was_with_the_best_candidate_beside() -> None:
    result = run(evidence={"seeds": 1, "threshold": 0.02})
    assert result.outcome is Outcome.NOT_REPAIRED
    assert result.edits == ()
    assert result.best_edits
    assert all(tensor.equal(result.model.stored.tensors[key]) for key, tensor in result.tensors.items())
    assert result.report.metrics.clean_change.lost == result.report.metrics.clean_change.gained == 0


def test_no_evidence_means_no_repair_is_tried() -> None:
    result = run(evidence={"seeds": 1, "threshold": 2.0})
    assert result.outcome is Outcome.UNCHANGED
    assert result.report.repair.candidates == ()
    assert any("no evidence" in skipped.reason.lower() for skipped in result.report.skipped)


def test_the_paper_settings_reach_the_options() -> None:
    options = SanitizeOptions.model_validate({"fidelity": "paper", "recover": {"epochs": 3}})
    assert (options.unlearn.lr, options.unlearn.milestones, options.unlearn.clip_norm) == (
        0.01,
        (10, 20),
        None,
    )
    assert (options.recover.lr, options.recover.epochs, options.recover.decimals) == (0.2, 3, 4)
    assert options.evidence.seeds == 1
