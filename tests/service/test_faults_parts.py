"""The broker and the database fail, and messages come twice or never: every job still ends, and ends once."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.bell.ring import TASK, Bell
from app.settings import read_settings
from tests.service.conftest import IMPATIENT, QUICK, Server, until
from tests.service.stack import OwnPostgres, OwnRedis, own_postgres, own_redis
from tests.service.tally import TALLY
from tests.service.test_faults import CHILD, SLOW, begun

JOBS = int(os.environ.get("FAULT_JOBS", "2"))  # in the queue when a fault comes; 50 for a long run
POOL = f"faults-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def broker() -> Iterator[OwnRedis]:
    with own_redis() as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def first(
    broker: OwnRedis, postgres: OwnPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """An API and a worker."""
    home = tmp_path_factory.mktemp("first")
    variables = {f"CLOCKS__{name}": value for name, value in IMPATIENT.items()}
    parts = {"DATABASE_URL": postgres.url, "BROKER_URL": broker.url, "POOL": POOL}
    server = Server(home, variables | parts | {"BLOBS_URL": f"file://{home}/blobs"}).start()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def second(first: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another worker, as if on another machine."""
    home = tmp_path_factory.mktemp("second")
    server = Server(home, first.variables, first.port, ("--only", "worker")).start()
    until(lambda: "ready." in server.log())
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def client(first: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=first.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def inputs(first: Server, client: httpx2.Client) -> dict[str, Any]:
    return first.upload(client)


@pytest.fixture
def submit(client: httpx2.Client, inputs: dict[str, Any]) -> Any:
    def job(options: str = QUICK) -> str:
        body = f'{{"inputs": {httpx2.Request("POST", "http://x", json=inputs).content.decode()}, "options": {options}}}'
        answer = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    return job


def told(server: Server, words: str) -> None:
    until(lambda: words in server.log(), 30)


def test_a_message_delivered_ten_times_is_one_run(first: Server, client: httpx2.Client, submit: Any) -> None:
    bell = Bell(read_settings(broker_url=first.variables["BROKER_URL"]))
    with TALLY.fault(first, client) as fault:
        fault.jobs = [submit()]
        fault.now()
        with ThreadPoolExecutor(10) as senders:
            list(senders.map(lambda _: bell.celery.send_task(TASK, args=fault.jobs, queue=POOL), range(10)))
    bell.celery.send_task(TASK, args=fault.jobs, queue=POOL)  # and once more, long after it ended
    bell.celery.send_task(TASK, args=("job_of_nobody",), queue=POOL)
    bell.close()
    told(first, "job_of_nobody")
    assert client.get(f"/v1/jobs/{fault.jobs[0]}").json()["attempt"] == 1


def test_redis_may_be_flushed_stopped_and_started(
    first: Server, broker: OwnRedis, client: httpx2.Client, submit: Any
) -> None:
    with TALLY.fault(first, client) as fault:
        fault.jobs = [submit() for _ in range(JOBS)]
        fault.now()
        broker.client.flushall()
        broker.stop()
        fault.jobs.append(submit())
        assert client.get("/readyz").status_code == 200
    broker.start()


def test_the_worker_hears_the_bell_after_every_return_of_redis(first: Server, broker: OwnRedis) -> None:
    for _ in range(2):
        broker.stop()
        broker.start()
        hint = f"bell-{uuid4().hex}"
        bell = Bell(read_settings(broker_url=broker.url))
        bell.ring(POOL, hint)
        told(first, hint)
        bell.close()


def test_an_api_killed_between_commit_and_ring_loses_nothing(
    first: Server, broker: OwnRedis, client: httpx2.Client, submit: Any
) -> None:
    assert broker.process is not None
    with TALLY.fault(first, client) as fault:
        broker.process.send_signal(signal.SIGSTOP)
        try:
            fault.jobs = [submit()]
            (api,) = first.running("uvicorn")
            os.kill(api, signal.SIGKILL)
            fault.now()
        finally:
            broker.process.send_signal(signal.SIGCONT)
        until(first.answers)


@pytest.mark.parametrize("how", ["connections", "server"])
def test_postgres_may_go_away_while_jobs_run(
    how: str, first: Server, postgres: OwnPostgres, client: httpx2.Client, submit: Any
) -> None:
    with TALLY.fault(first, client) as fault:
        fault.jobs = [submit(SLOW), submit()]
        begun(first, client, fault.jobs[0])
        fault.now()
        if how == "connections":
            assert postgres.hang_up() > 0
        else:
            postgres.stop()
            refused = client.get(f"/v1/jobs/{fault.jobs[0]}")
            assert (refused.status_code, refused.json()["code"]) == (503, "service.unavailable")
            assert int(refused.headers["retry-after"]) > 0
            assert client.get("/livez").status_code == 200
            postgres.start()
        until(first.answers)


def holder_of(job_id: str, client: httpx2.Client, *servers: Server) -> Server:
    """The server whose child runs the job, once it has begun."""
    until(lambda: client.get(f"/v1/jobs/{job_id}").json()["stage"] == "unlearn")
    (holder,) = (server for server in servers if server.running(CHILD))
    return holder


def test_a_worker_that_is_replaced_gives_its_job_to_another(
    first: Server, second: Server, client: httpx2.Client, submit: Any
) -> None:
    with TALLY.fault(first, client) as fault:
        fault.jobs = [submit(SLOW)]
        holder = holder_of(fault.jobs[0], client, first, second)
        (worker,) = holder.running("celery")
        os.kill(worker, signal.SIGTERM)
        fault.now()
    assert client.get(f"/v1/jobs/{fault.jobs[0]}").json()["attempt"] == 2


def test_a_worker_that_wakes_after_its_lease_writes_nothing(
    first: Server, second: Server, client: httpx2.Client, submit: Any
) -> None:
    until(lambda: first.running("celery") and second.running("celery"))
    with TALLY.fault(first, client) as fault:
        fault.jobs = [submit(SLOW)]
        holder = holder_of(fault.jobs[0], client, first, second)
        (worker,) = holder.running("celery")
        os.kill(worker, signal.SIGSTOP)
        fault.now()
        try:
            assert first.ended(client, fault.jobs[0], 120)["attempt"] == 2
        finally:
            os.kill(worker, signal.SIGCONT)
        told(holder, "somebody else has it by now")
        until(lambda: not holder.running(CHILD))
        holder.swept()
