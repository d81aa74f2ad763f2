"""A job over HTTP, from upload to download, against a running server."""

import base64
import hashlib
import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx2
import jsonschema
import pytest

from app.attestation.signing import read_public_key
from app.attestation.verifying import verify
from app.contract.report import Report
from tests.conftest import BACKDOORED as MODEL
from tests.conftest import SAMPLES, KeyFiles
from tests.service.conftest import QUICK, Server, digest, few_samples


@pytest.fixture(scope="module")
def done(server: Server) -> dict[str, Any]:
    """One job that ran to its end; it unlearns for one epoch, so it finds nothing and changes nothing."""
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        return server.ended(client, server.create(client)["id"])


def uploaded(client: httpx2.Client) -> dict[str, dict[str, str]]:
    inputs = {}
    for kind, path in (("model", MODEL), ("samples", SAMPLES)):
        data = path.read_bytes()
        answer = client.put("/v1/artifacts", params={"kind": kind, "digest": digest(data)}, content=data)
        assert answer.status_code == 201, answer.text
        assert answer.json() == {"digest": digest(data), "size": len(data), "kind": kind, "name": ""}
        inputs[kind] = {"digest": digest(data), "name": path.name}
    return inputs


def test_a_large_file_comes_through_whole(client: httpx2.Client) -> None:
    """Some portions of it are being written while the next ones come."""
    data = random.Random(0).randbytes(30_000_001)  # noqa: S311 - no secret
    answer = client.put("/v1/artifacts", params={"kind": "model"}, content=data)
    assert (answer.status_code, answer.json()["size"]) == (201, len(data))
    assert answer.json()["digest"] == digest(data)


def test_many_who_look_at_once_are_each_told_their_own(server: Server, client: httpx2.Client) -> None:
    """They are asked for together, and one that is not there, or is no id at all, spoils nobody's answer."""
    mine = [server.create(client, kind="detect")["id"] for _ in range(3)]
    asked = [*mine, "job_" + "0" * 32, "job_\x00", *mine] * 4

    def look(job_id: str) -> tuple[int, str]:
        answer = client.get(f"/v1/jobs/{quote(job_id)}").json()
        return answer.get("status", 200), answer.get("id", "")

    with ThreadPoolExecutor(len(asked)) as several:
        seen = list(several.map(look, asked))
    assert seen == [(200, job_id) if job_id in mine else (404, "") for job_id in asked]
    for job_id in mine:
        client.post(f"/v1/jobs/{job_id}:cancel")


def test_a_job_runs_to_its_end(done: dict[str, Any]) -> None:
    assert (done["state"], done["problem"]) == ("succeeded", None)
    assert (done["verdict"], done["outcome"]) == ("inconclusive", "unchanged")
    assert (done["attempt"], done["fraction"]) == (1, 1.0)
    # As times: a whole second is written without its thousandths, and sorts after them as text.
    stages = [
        datetime.fromisoformat(done[f"{what}_at"]) for what in ("created", "started", "finished", "expires")
    ]
    assert stages == sorted(stages)
    assert stages[-2] < stages[-1]
    assert {output["kind"] for output in done["outputs"]} == {"repaired_model", "report", "changes"}


def test_a_job_that_only_looks_leaves_a_report_and_no_model(server: Server, client: httpx2.Client) -> None:
    job = server.ended(client, server.create(client, kind="detect")["id"])
    assert (job["kind"], job["state"], job["outcome"]) == ("detect", "succeeded", "unchanged")
    assert [output["kind"] for output in job["outputs"]] == ["report"]
    assert Report.model_validate_json(client.get(f"/v1/jobs/{job['id']}/report").content).kind == "detect"
    refused = client.get(f"/v1/jobs/{job['id']}/model")
    assert (refused.status_code, refused.json()["code"]) == (409, "job.no_output")
    again = client.post(f"/v1/jobs/{job['id']}:rerun", json={}).json()
    assert again["kind"] == "detect"
    client.delete(f"/v1/jobs/{again['id']}")


def test_the_model_comes_back_bit_for_bit_and_by_its_digest(
    client: httpx2.Client, done: dict[str, Any]
) -> None:
    answer = client.get(f"/v1/jobs/{done['id']}/model")
    assert answer.content == MODEL.read_bytes()
    assert answer.headers["etag"] == f'"{digest(answer.content)}"'
    sha = base64.b64encode(hashlib.sha256(answer.content).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{sha}:"
    assert answer.headers["content-disposition"] == f'attachment; filename="{MODEL.name}"'


@pytest.mark.parametrize(
    ("asked", "status", "piece"),
    [
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=1418300-", 206, slice(1418300, None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("bytes=9-3", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=1418308-", 416, None),
    ],
)
def test_one_range_of_the_model(
    client: httpx2.Client, done: dict[str, Any], asked: str, status: int, piece: slice | None
) -> None:
    answer = client.get(f"/v1/jobs/{done['id']}/model", headers={"Range": asked})
    assert answer.status_code == status
    if piece is None:
        assert answer.json()["code"] == "request.range"
    else:
        assert answer.content == MODEL.read_bytes()[piece]


def test_head_and_conditional_downloads_send_no_bytes(client: httpx2.Client, done: dict[str, Any]) -> None:
    head = client.head(f"/v1/jobs/{done['id']}/model")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(MODEL.stat().st_size)
    again = client.get(f"/v1/jobs/{done['id']}/model", headers={"If-None-Match": head.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = {"If-Range": '"sha256:0"', "Range": "bytes=0-9"}
    assert client.get(f"/v1/jobs/{done['id']}/model", headers=other).status_code == 200


def test_the_report_in_three_renderings(client: httpx2.Client, done: dict[str, Any]) -> None:
    report = client.get(f"/v1/jobs/{done['id']}/report").json()
    jsonschema.validate(report, Report.model_json_schema())
    assert report["result_digest"] == digest(MODEL.read_bytes())
    assert report["model"]["name"] == MODEL.name
    assert report["reproduce"].endswith(f"/v1/jobs/{done['id']}:rerun")
    page = client.get(f"/v1/jobs/{done['id']}/report.html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.text.startswith("<!doctype html>")
    assert client.get(f"/v1/jobs/{done['id']}/report.md").text.startswith("### Inconclusive")
    changes = client.get(f"/v1/jobs/{done['id']}/changes").json()
    assert (changes["source_digest"], changes["edits"]) == (report["result_digest"], [])


def test_the_evidence_verifies_what_was_downloaded(
    client: httpx2.Client, done: dict[str, Any], signing_keys: KeyFiles, tmp_path: Path
) -> None:
    for what in ("model", "changes", "mlbom", "statement", "statement.sigstore"):
        answer = client.get(f"/v1/jobs/{done['id']}/{what}")
        name = answer.headers["content-disposition"].split('"')[1]
        (tmp_path / name).write_bytes(answer.content)
    (tmp_path / "report.json").write_bytes(client.get(f"/v1/jobs/{done['id']}/report").content)
    found = verify(tmp_path, read_public_key(signing_keys.public))
    assert found.findings == ()
    assert set(found.intact) == {MODEL.name, "changes.json", "mlbom.json", "report.json"}
    told = json.loads((tmp_path / "statement.json").read_bytes())["predicate"]
    assert told["job"] == done["id"]
    assert {item["role"]: f"sha256:{item['digest']['sha256']}" for item in told["inputs"]} == {
        item["kind"]: item["digest"] for item in done["inputs"]
    }
    (tmp_path / MODEL.name).write_bytes(b"another")
    assert [finding.file for finding in verify(tmp_path, None).findings] == [MODEL.name]


def test_no_worker_knows_where_the_signing_key_is(server: Server, signing_keys: KeyFiles) -> None:
    def environments(module: str) -> list[bytes]:
        return [Path(f"/proc/{pid}/environ").read_bytes() for pid in server.running(module)]

    path = str(signing_keys.private).encode()
    assert any(path in variables for variables in environments("app.main:serving"))
    workers = environments("worker.celery")
    assert workers
    assert not any(path in variables for variables in workers)


def test_polling_with_an_etag_tells_news_from_none(client: httpx2.Client, done: dict[str, Any]) -> None:
    first = client.get(f"/v1/jobs/{done['id']}")
    assert first.json() == done
    assert "retry-after" not in first.headers
    again = client.get(f"/v1/jobs/{done['id']}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_one_key_one_job_however_often_it_is_sent(server: Server, client: httpx2.Client) -> None:
    asked = {"inputs": uploaded(client), "options": json.loads(QUICK)}
    key = {"Idempotency-Key": str(uuid4())}
    first = client.post("/v1/jobs", json=asked, headers=key)
    again = client.post("/v1/jobs", json=asked, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.headers["location"] == again.headers["location"] == f"/v1/jobs/{first.json()['id']}"
    assert first.json() == again.json()
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    other = client.post("/v1/jobs", json=asked | {"options": {"seed": 1}}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency.mismatch")
    assert server.ended(client, first.json()["id"])["state"] == "succeeded"


def test_cancel_rerun_and_delete(server: Server, client: httpx2.Client) -> None:
    job_id = server.create(client)["id"]
    running = client.get(f"/v1/jobs/{job_id}")
    assert "retry-after" in running.headers
    early = client.delete(f"/v1/jobs/{job_id}")
    assert (early.status_code, early.json()["code"]) == (409, "job.not_finished")
    assert client.get(f"/v1/jobs/{job_id}/report").json()["code"] == "job.not_succeeded"
    assert client.post(f"/v1/jobs/{job_id}:cancel").status_code == 202
    assert server.ended(client, job_id, 15)["state"] == "canceled"
    assert client.post(f"/v1/jobs/{job_id}:cancel").json()["state"] == "canceled"

    rerun = client.post(f"/v1/jobs/{job_id}:rerun", json={"options": json.loads(QUICK) | {"seed": 3}}).json()
    assert (rerun["rerun_of"], rerun["options"]["seed"]) == (job_id, 3)
    assert [item["digest"] for item in rerun["inputs"]] == [
        digest(MODEL.read_bytes()),
        digest(few_samples()),
    ]
    assert server.ended(client, rerun["id"])["state"] == "succeeded"

    for _ in range(2):
        assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    gone = client.get(f"/v1/jobs/{job_id}")
    assert (gone.status_code, gone.json()["code"]) == (410, "job.expired")
    assert client.get(f"/v1/jobs/{rerun['id']}/model").status_code == 200


def test_pages_hold_every_job_once(client: httpx2.Client, done: dict[str, Any]) -> None:
    seen: list[str] = []
    token: str | None = ""
    while token is not None:
        page = client.get(
            "/v1/jobs", params={"page_size": 1} | ({"page_token": token} if token else {})
        ).json()
        seen += [job["id"] for job in page["jobs"]]
        token = page["next_page_token"]
    assert done["id"] in seen
    assert len(seen) == len(set(seen))
    whole = client.get("/v1/jobs", params={"page_size": 1000}).json()
    assert [job["id"] for job in whole["jobs"]] == seen


def test_a_bad_model_ends_the_job_with_its_problem(server: Server, client: httpx2.Client) -> None:
    files = {"model": ("evil.pt", b"\x80\x04N."), "samples": (SAMPLES.name, SAMPLES.read_bytes())}
    job = client.post("/v1/jobs", files=files).json()
    ended = server.ended(client, job["id"])
    assert ended["state"] == "failed"
    assert ended["problem"]["code"].startswith("model.")
    assert ended["problem"]["remedy"]
    assert ended["attempt"] == 1
