"""From `POST /v1/jobs` to the first word of the job's child process, as the ledger writes it down."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx2

from app.ledger import events
from app.ledger.database import Database
from tests.service.conftest import QUICK, Server, until

REPEATS = 5
HEADINGS = ("parts", "median s (min–max)", "target s", "of the target")


def rows(redis_url: str) -> Iterator[tuple[str, ...]]:
    """The table's rows."""
    yield _row("embedded", {}, 2.0)
    if redis_url:
        yield _row("Redis", {"BROKER_URL": redis_url, "POOL": f"benchmark-{uuid4().hex[:8]}"}, 1.0)


def _row(name: str, variables: dict[str, str], target_s: float) -> tuple[str, ...]:
    with TemporaryDirectory() as home:
        server = Server(Path(home) / "home", variables).start()
        try:
            took = [_start(server) for _ in range(REPEATS)]
        finally:
            server.stop()
    middle = median(took)
    return (
        name,
        f"{middle:.2f} ({min(took):.2f}–{max(took):.2f})",
        f"{target_s:g}",
        f"{middle / target_s:.2f}",
    )


def _start(server: Server) -> float:
    database = Database(server.database)
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        body = {"inputs": server.upload(client), "options": json.loads(QUICK)}
        began = time.time()
        job_id = client.post("/v1/jobs", json=body).json()["id"]
        spoke = until(lambda: _first_word(database, job_id))
        client.post(f"/v1/jobs/{job_id}:cancel")
        server.ended(client, job_id)
    database.close()
    return float(spoke / 1000 - began)


def _first_word(database: Database, job_id: str) -> int | None:
    with database.read() as tx:
        return next((event.at for event in events.since(tx, job_id, 0, 100) if event.type == "step"), None)
