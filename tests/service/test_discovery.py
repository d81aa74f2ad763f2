"""What the service says of itself, and a job that uses what only a few jobs use."""

import json
from typing import Any

import httpx2
import jsonschema
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.contract.options import SanitizeOptions
from tests.conftest import BACKDOORED, SAMPLES, TRIGGERED
from tests.service.conftest import Server

# The shortest way to a refused repair: one witness accuses, and no repair may cost anything.
REFUSED = {
    "unlearn": {"max_epochs": 12},
    "evidence": {"seeds": 1, "suspicion": 0.99, "label_shift": 0.01},
    "perturbation": {"steps": 1, "hurried": {"steps": 1}},
    "statistics": {"steps": 12, "batch_size": 32, "lr": 0.05},  # what BatchNorm remembers accuses
    "recover": {"epochs": 1},
    "relearn": {"steps": 0},
    "prune": {"accuracy_budget": 0},
}


@pytest.fixture(scope="module")
def refused(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job whose triggered samples do not say what they aim at."""
    triggered = tmp_path_factory.mktemp("triggered") / "triggered.npz"
    with np.load(TRIGGERED) as arrays:
        target = int(arrays["targets"][0])
        np.savez(triggered, images=arrays["images"], labels=arrays["labels"])
    files = {
        "model": (BACKDOORED.name, BACKDOORED.read_bytes()),
        "samples": (SAMPLES.name, SAMPLES.read_bytes()),
        "triggered": (triggered.name, triggered.read_bytes()),
    }
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        data = {"options": json.dumps(REFUSED), "triggered_target": str(target)}
        answer = client.post("/v1/jobs", files=files, data=data)
        assert answer.status_code == 202, answer.text
        assert answer.json()["triggered_target"] == target
        return server.ended(client, answer.json()["id"], 240)


def test_triggered_samples_evaluate_with_the_target_of_the_request(
    client: httpx2.Client, refused: dict[str, Any]
) -> None:
    assert (refused["state"], refused["problem"]) == ("succeeded", None)
    report = client.get(f"/v1/jobs/{refused['id']}/report").json()
    assert report["triggered"]["n_evaluated"] > 0
    assert report["metrics"]["attack_success"] is not None


def test_the_least_bad_repair_can_be_had_where_none_passed(
    client: httpx2.Client, refused: dict[str, Any]
) -> None:
    assert refused["outcome"] == "not_repaired"
    best = client.get(f"/v1/jobs/{refused['id']}/best-candidate")
    assert best.json()["edits"]
    assert 'filename="best-candidate.json"' in best.headers["content-disposition"]
    sarif = client.get(f"/v1/jobs/{refused['id']}/report.sarif")
    assert sarif.headers["content-type"] == "application/sarif+json"
    assert [result["ruleId"] for result in sarif.json()["runs"][0]["results"]][-1] == "not-repaired"


def test_capabilities_hold_the_schema_of_the_options(client: httpx2.Client) -> None:
    told = client.get("/v1/capabilities").json()
    schema = told["kinds"]["sanitize"]["options"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(SanitizeOptions().model_dump(mode="json"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"seed": -1}, schema)


def test_usage_counts_what_the_caller_holds(client: httpx2.Client, refused: dict[str, Any]) -> None:
    told = client.get("/v1/usage").json()
    assert told["queued"] >= 0 <= told["running"]
    assert told["bytes"] >= sum(item["size"] for item in refused["inputs"])
    assert set(told["quota"]) == {"max_queued", "max_running", "max_bytes"}


def test_limits_name_what_a_caller_can_meet(client: httpx2.Client) -> None:
    told = client.get("/v1/limits").json()
    assert {"max_model_bytes", "max_parts", "upload_hours", "idempotency_hours", "deadline_s"} <= set(told)


def test_metrics_come_out_of_the_ledger(client: httpx2.Client, refused: dict[str, Any]) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert told["sanitizer_jobs", refused["state"]] >= 1
    assert told["sanitizer_stored_bytes", "artifacts"] >= BACKDOORED.stat().st_size
    assert told["sanitizer_stage_jobs", "perturb"] >= 1
    assert told["sanitizer_stage_seconds", "unlearn"] > 0
