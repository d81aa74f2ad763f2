"""Clients that leave, dawdle, race and crowd: the API stays quick for the others and keeps nothing of them."""

import os
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.contract.artifact import Named
from app.contract.job import Inputs, JobRequest
from app.ledger import artifacts, claims, jobs, tenants
from app.ledger.database import Database
from app.settings import Clocks
from tests.conftest import BACKDOORED as MODEL
from tests.service.conftest import Server, until

CROWD = 1000
HEAD = b"PUT /v1/artifacts?kind=model HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An API that nobody works for."""
    variables = {"LIMITS__IDLE_S": "2"}
    serving = Server(tmp_path_factory.mktemp("home"), variables, arguments=("--only", "api")).start()
    yield serving
    assert serving.stop() == 0
    assert "Traceback" not in serving.log()


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def request_json(server: Server, client: httpx2.Client) -> dict[str, Any]:
    return {"inputs": server.upload(client)}


def api_of(server: Server) -> Path:
    (pid,) = server.running("uvicorn")
    return Path(f"/proc/{pid}")


def connections(server: Server) -> int:
    found = 0
    for link in (api_of(server) / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            found += str(link.readlink()).startswith("socket:")
    return found


def staged(server: Server) -> list[Path]:
    return list((server.home / "blobs/.staged").iterdir())


def dial(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def hung_up(connection: socket.socket) -> bool:
    """Whether the server closed it, whatever it said before."""
    connection.settimeout(0.01)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_clients_that_leave_leave_nothing_open(
    server: Server, client: httpx2.Client, request_json: dict[str, Any]
) -> None:
    job_id = client.post("/v1/jobs", json=request_json).json()["id"]
    before = connections(server)
    poll = f"GET /v1/jobs/{job_id}?wait=20 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with ExitStack() as left:
        for _ in range(20):
            left.enter_context(dial(server)).sendall(HEAD + b"x" * 100_000)
            left.enter_context(dial(server)).sendall(poll)
        until(lambda: len(staged(server)) == 20)
    until(lambda: connections(server) <= before and not staged(server), 30)
    assert client.get(f"/v1/jobs/{job_id}").json()["state"] == "queued"


def test_slow_clients_are_hung_up_on_and_delay_nobody(server: Server, client: httpx2.Client) -> None:
    starts = [b"", b"GET /livez HTTP/1.1\r\nX: ", HEAD]
    with ExitStack() as stack:
        waiting = [(stack.enter_context(dial(server)), start) for start in starts * 40]
        for connection, start in waiting:
            connection.sendall(start)
        slowest, deadline = 0.0, time.monotonic() + 40
        while waiting and time.monotonic() < deadline:
            began = time.monotonic()
            assert client.get("/livez").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.5)
            waiting = [(connection, start) for connection, start in waiting if not hung_up(connection)]
            for connection, start in waiting:
                if start:
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        continue
        assert waiting == []
        assert slowest < 5  # a bound on hanging, not a measure of speed
    until(lambda: not staged(server))


def test_a_full_disk_refuses_an_upload_and_takes_it_when_there_is_space(
    server: Server, client: httpx2.Client
) -> None:
    """The largest size of a file stands in for a full disk: it can be set and lifted from outside."""
    (pid,) = server.running("uvicorn")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        for _ in range(3):
            answer = client.put("/v1/artifacts", params={"kind": "model"}, content=MODEL.read_bytes())
            assert (answer.status_code, answer.json()["code"]) == (507, "storage.full")
        assert staged(server) == []
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    answer = client.put("/v1/artifacts", params={"kind": "model"}, content=MODEL.read_bytes())
    assert answer.status_code == 201


def test_racing_requests_with_one_key_make_one_job(
    client: httpx2.Client, request_json: dict[str, Any]
) -> None:
    def ask(_: int) -> httpx2.Response:
        return client.post("/v1/jobs", json=request_json, headers={"Idempotency-Key": "race"})

    with ThreadPoolExecutor(50) as racers:
        answers = list(racers.map(ask, range(200)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1


def test_a_thousand_queued_jobs_are_listed_and_do_not_delay_another_tenant(
    server: Server, client: httpx2.Client, request_json: dict[str, Any]
) -> None:
    memory = resident(server)
    with ThreadPoolExecutor(8) as crowd:
        answers = list(crowd.map(lambda _: client.post("/v1/jobs", json=request_json), range(CROWD)))
    assert {answer.status_code for answer in answers} == {202}
    assert resident(server) - memory < 64 * 1024 * 1024
    created = {answer.json()["id"] for answer in answers}
    assert created <= set(listed(client))
    database = Database(server.database)
    with database.write() as tx:
        tenants.ensure(tx, "other")
        digests = [item["digest"] for item in request_json["inputs"].values()]
        for digest in digests:
            artifacts.record(tx, "other", digest, 1, 60)
        asked = JobRequest(inputs=Inputs(model=Named(digest=digests[0]), samples=Named(digest=digests[1])))
        jobs.submit(tx, "other", asked, pool="cpu", keep_s=60)
    with database.write() as tx:
        claimed = [claims.claim(tx, "cpu", "tester", Clocks()) for _ in range(2)]
    database.close()
    assert {held.tenant_id for held in claimed if held} == {"local", "other"}


def listed(client: httpx2.Client) -> list[str]:
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = client.get("/v1/jobs", params={"page_size": 100, **token}).json()
        found += [job["id"] for job in page["jobs"]]
        if page["next_page_token"] is None:
            break
        token = {"page_token": page["next_page_token"]}
    assert len(found) == len(set(found))
    return found


def resident(server: Server) -> int:
    """Bytes of memory of the API."""
    return int((api_of(server) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
