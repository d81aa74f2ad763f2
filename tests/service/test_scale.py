"""Several workers, each on a home of its own, against one PostgreSQL, one Redis and one S3-compatible store."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import psycopg
import pytest

from tests.conftest import BACKDOORED as MODEL
from tests.service.conftest import IMPATIENT, Server, until

JOBS = 4


@pytest.fixture
def machines(
    tmp_path: Path, postgres_url: str, redis_url: str, s3_variables: dict[str, str]
) -> Iterator[tuple[Server, list[Server]]]:
    """An API and two workers that share no folder."""
    shared = {f"CLOCKS__{name}": value for name, value in IMPATIENT.items()} | s3_variables
    shared |= {"DATABASE_URL": postgres_url, "BROKER_URL": redis_url, "POOL": f"test-{uuid4().hex[:8]}"}
    api = Server(tmp_path / "api", shared, arguments=("--only", "api")).start()
    workers = [
        Server(tmp_path / name, shared, arguments=("--only", "worker")).start() for name in ("one", "two")
    ]
    yield api, workers
    for server in (api, *workers):
        assert server.stop() == 0
        assert "Traceback" not in server.log()


def test_every_job_is_done_once_and_both_workers_do_some(
    machines: tuple[Server, list[Server]], postgres_url: str
) -> None:
    api, workers = machines
    with httpx2.Client(base_url=api.url, timeout=60) as client:
        jobs = [api.create(client)["id"] for _ in range(JOBS)]
        for job_id in jobs:
            job = api.ended(client, job_id)
            assert (job["state"], job["attempt"]) == ("succeeded", 1), job["problem"]
            model = client.get(f"/v1/jobs/{job_id}/model").content
            assert hashlib.sha256(model).digest() == hashlib.sha256(MODEL.read_bytes()).digest()
            by_kind = {output["kind"]: output["digest"] for output in job["outputs"]}
            assert by_kind["repaired_model"] == f"sha256:{hashlib.sha256(model).hexdigest()}"
            report = client.get(f"/v1/jobs/{job_id}/report").json()
            assert report["result_digest"] == by_kind["repaired_model"]
    done = Counter(
        job for worker in workers for job in jobs if f"job {job} attempt 1 succeeded" in worker.log()
    )
    assert done == dict.fromkeys(jobs, 1)
    assert all("succeeded" in worker.log() for worker in workers)
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as ledger:
        ends = ledger.execute(
            "SELECT job_id, count(*) FROM events WHERE data->>'state' = 'succeeded' AND job_id = ANY(%s) GROUP BY 1",
            (jobs,),
        ).fetchall()
    assert dict(ends) == dict.fromkeys(jobs, 1)
    assert not list((api.home).rglob("blobs"))
    until(lambda: not any(path for w in workers for path in (w.home / "jobs").glob("*/*")))
