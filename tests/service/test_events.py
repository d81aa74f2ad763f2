"""The stream of a job's events, against a running server."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service.conftest import Server, until

Events = list[tuple[int, str, dict[str, Any]]]


def told(lines: Iterator[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Events as a client would read them: a block of `name: value` lines each."""
    block: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            block[name] = value
            continue
        if "id" in block:
            yield int(block["id"]), block["event"], json.loads(block["data"])
        block = {}


def read(client: httpx2.Client, job_id: str, last: int = 0) -> Events:
    """The whole stream from behind `last`; it ends by itself, or the client's timeout fails the test."""
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": str(last)}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(told(answer.iter_lines()))


@pytest.fixture(scope="module")
def watched(server: Server) -> tuple[str, Events]:
    """A job whose stream was read from its first event to its last, while it ran."""
    with httpx2.Client(base_url=server.url, timeout=90) as client:
        job_id = server.create(client)["id"]
        return job_id, read(client, job_id)


def test_a_stream_tells_everything_in_order_and_ends(watched: tuple[str, Events]) -> None:
    _, seen = watched
    assert [number for number, _, _ in seen] == sorted({number for number, _, _ in seen})
    assert [data["state"] for _, type_, data in seen if type_ == "state"] == [
        "queued",
        "running",
        "succeeded",
    ]
    steps = [data for _, type_, data in seen if type_ == "step"]
    assert {"load", "unlearn", "perturb"} <= {step["stage"] for step in steps}
    fractions = [step["fraction"] for step in steps]
    assert fractions == sorted(fractions)
    assert seen[-1][2]["state"] == "succeeded"


def test_a_stream_goes_on_behind_any_event(client: httpx2.Client, watched: tuple[str, Events]) -> None:
    job_id, seen = watched
    for at in (0, len(seen) // 2, len(seen) - 1):
        assert read(client, job_id, seen[at][0]) == seen[at + 1 :]


def test_what_is_wrong_is_said_before_a_stream_begins(client: httpx2.Client) -> None:
    unknown = client.get("/v1/jobs/job_1/events")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "job.unknown")
    for last in ("-1", "x", "1" * 19):
        answer = client.get("/v1/jobs/job_1/events", headers={"Last-Event-ID": last})
        assert answer.json()["code"] in ("request.invalid", "job.unknown")


def connections(server: Server) -> int:
    """Connections that the API process still holds."""
    (api,) = server.running("uvicorn")
    port = f":{server.port:04X}"
    with Path(f"/proc/{api}/net/tcp").open() as table:
        return sum(port in row.split()[1] and row.split()[3] in ("01", "08") for row in list(table)[1:])


def test_readers_that_leave_are_forgotten_and_a_drain_ends_the_others(own_server: Server) -> None:
    own_server.start()
    (worker,) = own_server.running("celery")
    with httpx2.Client(base_url=own_server.url, timeout=30) as client:
        os.kill(worker, signal.SIGSTOP)  # so that the job stays queued, and its streams open
        try:
            job_id = own_server.create(client)["id"]
            for _ in range(60):  # more than there are threads
                with (
                    httpx2.Client(base_url=own_server.url) as reader,
                    reader.stream("GET", f"/v1/jobs/{job_id}/events") as answer,
                ):
                    assert next(told(answer.iter_lines()))[2]["state"] == "queued"
            assert client.get("/readyz").status_code == 200
            until(lambda: connections(own_server) <= 1, 10)
            with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
                assert next(told(answer.iter_lines()))[2]["state"] == "queued"
                os.kill(worker, signal.SIGCONT)
                assert own_server.stop() == 0
        finally:
            if own_server.process is not None and own_server.process.poll() is None:
                os.kill(worker, signal.SIGCONT)
    assert "Traceback" not in own_server.log()
