"""A job that is canceled whenever, or for which the disk has no room: one end, said plainly, and the next one runs."""

import json
import resource
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from app.ledger import events
from app.ledger.database import Database
from tests.service.conftest import IMPATIENT, QUICK, Server, until
from tests.service.tally import TALLY
from tests.service.test_faults import CHILD, SLOW, begun

NO_LIMIT = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
ENDS = {"succeeded", "failed", "canceled"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    variables = {f"CLOCKS__{name}": value for name, value in IMPATIENT.items()}
    serving = Server(tmp_path_factory.mktemp("home"), variables).start()
    yield serving
    assert serving.stop() == 0


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        yield client


def cancel(client: httpx2.Client, job_id: str) -> dict[str, Any]:
    answer = client.post(f"/v1/jobs/{job_id}:cancel")
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def ends(server: Server, job_id: str) -> list[str]:
    """The ends that the ledger tells of; one, whatever happened."""
    database = Database(server.database)
    with database.read() as tx:
        states = [event.data.get("state") for event in events.since(tx, job_id, 0, 10_000)]
    database.close()
    return [state for state in states if state in ENDS]


def test_a_job_is_canceled_in_every_state_and_ends_once(server: Server, client: httpx2.Client) -> None:
    running, queued = (server.create(client, SLOW)["id"] for _ in range(2))
    child = begun(server, client, running)
    assert cancel(client, queued)["state"] == "canceled"
    assert cancel(client, running)["state"] == "running"
    assert server.ended(client, running, 15)["state"] == "canceled"
    assert child not in server.running(CHILD)
    for job_id in (queued, running):
        assert cancel(client, job_id)["state"] == "canceled"
        assert ends(server, job_id) == ["canceled"]


def test_a_cancel_that_races_with_the_end_leaves_one_end(server: Server, client: httpx2.Client) -> None:
    job_id = server.create(client)["id"]
    until(lambda: client.get(f"/v1/jobs/{job_id}").json()["stage"] not in (None, "load", "unlearn"), 60)
    cancel(client, job_id)
    state = server.ended(client, job_id)["state"]
    assert ends(server, job_id) == [state]
    assert cancel(client, job_id)["state"] == state


def test_a_full_disk_under_the_worker_costs_no_job(server: Server, client: httpx2.Client) -> None:
    """The largest size of a file stands in for a full disk: it can be set and lifted from outside."""
    (worker,) = server.running("celery")
    with TALLY.fault(server, client) as fault:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        fault.now()
        try:
            fault.jobs = [server.create(client)["id"]]
            waiting = client.get(f"/v1/jobs/{fault.jobs[0]}", params={"wait": 3}).json()
            assert waiting["state"] not in ENDS
        finally:
            resource.prlimit(worker, resource.RLIMIT_FSIZE, NO_LIMIT)
    assert server.running("celery") == [worker]


def test_a_full_disk_under_a_job_is_said_and_the_next_one_runs(server: Server, client: httpx2.Client) -> None:
    job_id = server.create(client, SLOW)["id"]
    resource.prlimit(begun(server, client, job_id), resource.RLIMIT_FSIZE, (10_000, 10_000))
    job = server.ended(client, job_id)
    assert (job["state"], job["attempt"]) == ("failed", 1)
    assert job["problem"]["code"] == "output.unwritable"
    server.swept()
    with TALLY.fault(server, client) as fault:
        again = client.post(f"/v1/jobs/{job_id}:rerun", json={"options": json.loads(QUICK)})
        fault.jobs = [again.json()["id"]]
