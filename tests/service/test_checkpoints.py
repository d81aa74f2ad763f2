"""A job whose child is killed after unlearning goes on from there, and ends as if nothing had happened."""

import os
import signal
import sqlite3
from contextlib import closing
from typing import Any

import httpx2

from tests.service.conftest import Server, until
from tests.service.test_faults import CHILD

OPTIONS = (
    '{"unlearn": {"max_epochs": 2}, "evidence": {"seeds": 1}, '
    '"perturbation": {"steps": 15, "batch_size": 8, "max_classes": 3, "hurried": {"steps": 20}}, '
    '"statistics": {"steps": 1}, '
    '"relearn": {"steps": 10, "gently": {"steps": 10}}}'
)


def facts(client: httpx2.Client, job_id: str) -> dict[str, Any]:
    report: dict[str, Any] = client.get(f"/v1/jobs/{job_id}/report").json()
    return {name: value for name, value in report.items() if name not in ("timings", "reproduce")}


def test_a_second_attempt_does_not_unlearn_again(own_server: Server) -> None:
    own_server.start()
    with httpx2.Client(base_url=own_server.url, timeout=60) as client:
        killed = own_server.create(client, OPTIONS)["id"]
        until(lambda: client.get(f"/v1/jobs/{killed}").json()["stage"] == "perturb")
        (child,) = own_server.running(CHILD)
        os.kill(child, signal.SIGKILL)
        job = own_server.ended(client, killed)
        assert (job["state"], job["attempt"]) == ("succeeded", 2), job["problem"]
        whole = client.post(f"/v1/jobs/{killed}:rerun").json()["id"]
        again = own_server.ended(client, whole)
        assert again["attempt"] == 1
        assert kinds(job) == kinds(again) >= {"repaired_model", "report", "changes"}
        assert facts(client, killed) == facts(client, whole)
        models = [client.get(f"/v1/jobs/{name}/model").content for name in (killed, whole)]
        assert models[0] == models[1]
    assert f"job {killed} attempt 2 goes on from a checkpoint" in own_server.log()
    unlearned = "SELECT DISTINCT attempt FROM events WHERE job_id = ? AND data ->> 'stage' = 'unlearn'"
    assert asked(own_server, unlearned, killed) == [1]
    until(lambda: not asked(own_server, "SELECT digest FROM job_artifacts WHERE kind = 'checkpoint'"))
    stored = {
        f"sha256:{file.name}" for file in (own_server.home / "blobs/local").rglob("*") if file.is_file()
    }
    assert stored == set(asked(own_server, "SELECT digest FROM job_artifacts"))
    assert stored == set(asked(own_server, "SELECT digest FROM artifacts"))


def kinds(job: dict[str, Any]) -> set[str]:
    """What a job gives back."""
    return {output["kind"] for output in job["outputs"]}


def asked(server: Server, query: str, *values: str) -> list[Any]:
    """The first column of what the ledger answers."""
    with closing(sqlite3.connect(server.home / "ledger.db")) as ledger:
        return [row[0] for row in ledger.execute(query, values)]
