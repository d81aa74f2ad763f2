"""Kill what can be killed: no job is lost, none runs twice to its end, and the model comes back whole."""

import os
import signal
import socket
from typing import Any

import httpx2
import pytest

from tests.conftest import BACKDOORED as MODEL
from tests.conftest import free_port
from tests.service.conftest import SHORT, UNMOVED, Server, until
from tests.service.tally import TALLY

SLOW = (  # a rate at which no accuracy ever falls, so that all epochs are run on every machine
    f'{{"unlearn": {{"max_epochs": 15, "lr": 1e-9}}, {UNMOVED}, {SHORT}}}'
)
ENDLESS = SLOW.replace("15", "500")
CHILD = "worker.cage.child"


def begun(server: Server, client: httpx2.Client, job_id: str) -> int:
    """The child's process, once its pipeline has moved."""
    until(lambda: client.get(f"/v1/jobs/{job_id}").json()["stage"] == "unlearn")
    (child,) = server.running(CHILD)
    return child


def ended_well(server: Server, client: httpx2.Client, job_id: str, attempt: int) -> None:
    with TALLY.fault(server, client) as fault:
        fault.jobs = [job_id]
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["attempt"]) == ("succeeded", attempt), job["problem"]
    assert client.get(f"/v1/jobs/{job_id}/report").status_code == 200
    server.swept()
    assert server.running(CHILD) == []


@pytest.fixture
def client(own_server: Server) -> Any:
    with httpx2.Client(base_url=own_server.url, timeout=60) as client:
        yield client


def test_a_killed_child_costs_one_attempt(own_server: Server, client: httpx2.Client) -> None:
    own_server.start()
    job_id = own_server.create(client, SLOW)["id"]
    os.kill(begun(own_server, client, job_id), signal.SIGKILL)
    ended_well(own_server, client, job_id, attempt=2)


def test_a_killed_worker_takes_its_child_along_and_another_finishes(
    own_server: Server, client: httpx2.Client
) -> None:
    own_server.start()
    job_id = own_server.create(client, SLOW)["id"]
    child = begun(own_server, client, job_id)
    for worker in own_server.running("celery"):
        os.kill(worker, signal.SIGKILL)
    until(lambda: child not in own_server.running(CHILD), 10)
    ended_well(own_server, client, job_id, attempt=2)


def test_a_stopped_server_gives_its_job_back_and_finishes_it_when_it_returns(
    own_server: Server, client: httpx2.Client
) -> None:
    own_server.start()
    running, queued = (own_server.create(client, SLOW)["id"] for _ in range(2))
    begun(own_server, client, running)
    assert own_server.stop() == 0
    assert own_server.running(CHILD) == []
    own_server.start()
    assert own_server.ended(client, queued)["attempt"] == 1
    ended_well(own_server, client, running, attempt=2)
    assert "Traceback" not in own_server.log()


def test_a_killed_server_leaves_no_process_and_loses_no_job(
    own_server: Server, client: httpx2.Client
) -> None:
    own_server.start()
    job_id = own_server.create(client, SLOW)["id"]
    begun(own_server, client, job_id)
    assert own_server.stop(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not any(own_server.running(module) for module in (CHILD, "celery", "uvicorn")), 30)
    own_server.start()
    assert own_server.ended(client, job_id)["state"] == "succeeded"


def test_a_killed_api_leaves_no_half_of_an_upload(own_server: Server, client: httpx2.Client) -> None:
    own_server.start()
    head = b"PUT /v1/artifacts?kind=model HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", own_server.port), timeout=10) as upload:
        upload.sendall(head + b"x" * 20_000_000)
        until(lambda: [file for file in (own_server.home / "blobs/.staged").iterdir() if file.stat().st_size])
        for api in own_server.running("uvicorn"):
            os.kill(api, signal.SIGKILL)
    until(lambda: own_server.answers())
    assert [file for file in (own_server.home / "blobs/local").rglob("*") if file.is_file()] == []
    answer = client.put("/v1/artifacts", params={"kind": "model"}, content=MODEL.read_bytes())
    assert answer.status_code == 201


def test_without_a_broker_jobs_are_taken_and_run_all_the_same(
    own_server: Server, client: httpx2.Client
) -> None:
    own_server.variables["BROKER_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    own_server.start()
    job_id = own_server.create(client)["id"]
    ended_well(own_server, client, job_id, attempt=1)


def test_a_job_that_always_kills_its_worker_is_called_poisoned(
    own_server: Server, client: httpx2.Client
) -> None:
    own_server.variables["CLOCKS__MAX_LOSSES"] = "2"
    own_server.start()
    job_id = own_server.create(client, SLOW)["id"]
    for _ in range(2):
        os.kill(begun(own_server, client, job_id), signal.SIGKILL)
        until(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] != "running")
    job = own_server.ended(client, job_id)
    assert (job["state"], job["problem"]["code"]) == ("failed", "job.poisoned")
    assert "SIGKILL" in job["problem"]["detail"]


def test_a_stalled_job_and_a_late_one_are_ended(own_server: Server, client: httpx2.Client) -> None:
    own_server.variables["CLOCKS__DEADLINE_S"] = "5"
    own_server.start()
    job_id = own_server.create(client, ENDLESS)["id"]
    late = own_server.ended(client, job_id, 30)
    assert (late["state"], late["problem"]["code"]) == ("failed", "job.deadline")
    own_server.stop()
    own_server.variables |= {"CLOCKS__DEADLINE_S": "600", "CLOCKS__STALL_S": "3"}
    own_server.start()
    job_id = own_server.create(client, ENDLESS)["id"]
    (child,) = until(lambda: own_server.running(CHILD))
    os.kill(child, signal.SIGSTOP)
    stalled = own_server.ended(client, job_id, 30)
    assert (stalled["state"], stalled["problem"]["code"]) == ("failed", "job.stalled")
    assert own_server.running(CHILD) == []
