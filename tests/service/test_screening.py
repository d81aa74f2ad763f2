"""Jobs that screen inputs: the example's triggered images among clean ones, from the form to the contact sheet."""

import base64
import json
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.contract.confinement import Level
from app.contract.options import REDUCED
from app.contract.screening import Screening
from tests.conftest import BACKDOORED, SAMPLES, TRIGGERED
from tests.service.conftest import Server, digest, few_samples
from tests.service.test_client import run

CLEAN, TRIGGER = 60, 60  # suspects; the clean ones come first
OPTIONS = '{"evidence": {"seeds": 1}, "screen": {"detector": "margin"}}'
QUICK = '{"evidence": {"seeds": 1}, "unlearn": {"max_epochs": 1}, "screen": {"detector": "margin"}}'


@cache
def divided() -> tuple[bytes, bytes]:
    """Samples, 40 clean images of each class; suspects, other clean images and then triggered ones."""
    every, triggered = np.load(SAMPLES.with_suffix(".npz")), np.load(TRIGGERED)
    places = [np.flatnonzero(every["labels"] == label) for label in range(10)]
    given = np.concatenate([place[:40] for place in places])
    rest = np.concatenate([place[40 : 40 + CLEAN // 10] for place in places])
    samples, suspects = BytesIO(), BytesIO()
    np.savez(samples, images=every["images"][given], labels=every["labels"][given])
    np.savez(suspects, images=np.concatenate([every["images"][rest], triggered["images"][:TRIGGER]]))
    return samples.getvalue(), suspects.getvalue()


def create(
    client: httpx2.Client, suspects: bytes, options: str, samples: bytes | None = None
) -> dict[str, Any]:
    files = {
        "model": (BACKDOORED.name, BACKDOORED.read_bytes()),
        "samples": ("clean.npz", samples or divided()[0]),
        "suspects": ("suspects.npz", suspects),
    }
    answer = client.post("/v1/jobs", files=files, data={"kind": "screen", "options": options})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


@pytest.fixture(scope="module")
def screened(server: Server) -> dict[str, Any]:
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        return server.ended(client, create(client, divided()[1], OPTIONS)["id"], 300)


def test_it_ends_without_a_word_on_the_model(screened: dict[str, Any]) -> None:
    assert (screened["kind"], screened["state"], screened["problem"]) == ("screen", "succeeded", None)
    assert (screened["verdict"], screened["outcome"]) == (None, None)
    assert {item["kind"] for item in screened["inputs"]} == {"model", "samples", "suspects"}
    assert {item["kind"] for item in screened["outputs"]} == {"report", "contact_sheet"}


def test_triggered_images_come_first(client: httpx2.Client, screened: dict[str, Any]) -> None:
    report = client.get(f"/v1/jobs/{screened['id']}/report").json()
    jsonschema.validate(report, Screening.model_json_schema())
    triggered = np.array([int(scored["name"]) >= CLEAN for scored in report["scored"]])
    assert triggered[:20].sum() >= 18  # one unlearning; which images come first depends on the arithmetic
    assert 1 - (np.cumsum(~triggered)[triggered] / CLEAN).mean() > 0.95, "AUROC"
    assert report["scored"][0]["said"] == 7
    assert report["decisions"][1]["flagged"] > 40
    assert report["suspects"] == {
        "name": "suspects.npz",
        "digest": digest(divided()[1]),
        "n": CLEAN + TRIGGER,
    }
    assert report["reproduce"].endswith(f"/v1/jobs/{screened['id']}:rerun")


def test_it_was_made_in_the_cage(client: httpx2.Client, screened: dict[str, Any]) -> None:
    report = Screening.model_validate_json(client.get(f"/v1/jobs/{screened['id']}/report").content)
    assert report.environment.confinement.level is Level.FULL


def test_people_get_a_page_a_picture_and_a_comment(client: httpx2.Client, screened: dict[str, Any]) -> None:
    base = f"/v1/jobs/{screened['id']}"
    sheet = client.get(f"{base}/contact-sheet")
    assert sheet.headers["content-type"] == "image/png"
    assert 'filename="suspects.png"' in sheet.headers["content-disposition"]
    assert sheet.content.startswith(b"\x89PNG")
    page = client.get(f"{base}/report.html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert base64.b64encode(sheet.content).decode() in page.text
    assert client.get(f"{base}/report.md").text.startswith("### More inputs are flagged")


@pytest.mark.parametrize(
    ("what", "status", "code"),
    [
        ("report.sarif", 404, "result.unknown"),
        ("statement", 404, "result.unknown"),
        ("statement.sigstore", 404, "result.unknown"),
        ("mlbom", 404, "result.unknown"),
        ("model", 409, "job.no_output"),
        ("changes", 409, "job.no_output"),
    ],
)
def test_what_only_a_model_has_is_a_problem(
    client: httpx2.Client, screened: dict[str, Any], what: str, status: int, code: str
) -> None:
    answer = client.get(f"/v1/jobs/{screened['id']}/{what}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["remedy"]


def test_the_ledger_counts_it_as_any_job(client: httpx2.Client, screened: dict[str, Any]) -> None:
    families = text_string_to_metric_families(client.get("/metrics").text)
    told = {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
    assert told["sanitizer_stage_jobs", "score"] >= 1
    usage = client.get("/v1/usage").json()
    assert usage["bytes"] >= sum(item["size"] for item in (*screened["inputs"], *screened["outputs"]))


def test_five_metrics_work_in_the_cage(server: Server, client: httpx2.Client) -> None:
    suspects = BytesIO()
    np.savez(suspects, images=np.load(TRIGGERED)["images"][:2])
    options = '{"screen": {"detector": "five_metrics"}}'
    job = server.ended(client, create(client, suspects.getvalue(), options, few_samples())["id"])
    assert (job["state"], job["problem"]) == ("succeeded", None)
    report = Screening.model_validate_json(client.get(f"/v1/jobs/{job['id']}/report").content)
    assert (report.detector, report.forwards, len(report.scored)) == ("five_metrics", REDUCED.forwards, 2)
    assert report.environment.confinement.level is Level.FULL


def test_by_digest_again_and_away(server: Server, client: httpx2.Client) -> None:
    inputs = server.upload(client)
    stored = client.put("/v1/artifacts", params={"kind": "suspects"}, content=divided()[1])
    assert (stored.status_code, stored.json()["kind"]) == (201, "suspects")
    inputs["suspects"] = {"digest": stored.json()["digest"], "name": "suspects.npz"}
    asked = {"kind": "screen", "inputs": inputs, "options": json.loads(QUICK)}
    first = client.post("/v1/jobs", json=asked).json()
    again = client.post(f"/v1/jobs/{first['id']}:rerun", json={}).json()
    assert (again["kind"], again["inputs"]) == ("screen", first["inputs"])
    scores = []
    for job in (first, again):
        assert server.ended(client, job["id"])["state"] == "succeeded"
        scores.append(client.get(f"/v1/jobs/{job['id']}/report").json()["scored"])
    assert scores[0] == scores[1]
    assert client.delete(f"/v1/jobs/{again['id']}").status_code == 204
    assert client.get(f"/v1/jobs/{again['id']}/contact-sheet").status_code == 410


def test_suspects_that_are_no_images_end_the_job(server: Server, client: httpx2.Client) -> None:
    job = server.ended(client, create(client, b"no images", QUICK)["id"])
    assert (job["state"], job["problem"]["code"]) == ("failed", "samples.bad_zip")


def test_the_command_fetches_it_with_the_exit_code_of_the_offline_one(
    server: Server, screened: dict[str, Any], tmp_path: Path
) -> None:
    done = run("watch", screened["id"], "--url", server.url, "--out", tmp_path, "--json")
    assert done.returncode == 1, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"screening.json", "screening.html", "suspects.png"}
    assert (tmp_path / "screening.json").read_text() == done.stdout


def test_the_command_submits_it(server: Server, tmp_path: Path) -> None:
    samples, suspects = tmp_path / "few.npz", tmp_path / "suspects.npz"
    samples.write_bytes(few_samples())
    suspects.write_bytes(divided()[1])
    given = ("submit", BACKDOORED, "--samples", samples, "--url", server.url, "--options", QUICK)
    done = run(*given, "--kind", "screen", "--suspects", suspects)
    assert done.returncode in (0, 1), done.stderr
    assert "most suspicious first" in done.stdout
    for wrong in (("--kind", "screen"), ("--suspects", suspects)):
        refused = run(*given, *wrong)
        assert (refused.returncode, "options.invalid" in refused.stderr) == (4, True), refused.stderr
