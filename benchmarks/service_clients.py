"""Clients that poll and create jobs by digest, as bare connections, so that the server is what is measured."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx2

from tests.service.conftest import Server

POLL, CREATE = "GET /v1/jobs/{id}", "POST /v1/jobs by digest"
TARGETS_MS = {POLL: 50.0, CREATE: 150.0}
CREATES = 0.1  # of all requests
HEADINGS = (
    *(
        "load",
        "call",
        "requests/s",
        "p50 ms",
        "p99 ms: median (min–max) of runs",
        "target ms",
        "of the target",
    ),
    "answers ≥ 500",
)


@dataclass
class Seen:
    """What the clients of one run saw."""

    seconds: float = 0.0
    took_ms: dict[str, list[float]] = field(default_factory=lambda: {POLL: [], CREATE: []})
    statuses: dict[int, int] = field(default_factory=dict)


class Connection:
    """One kept-alive HTTP/1.1 connection."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> "Connection":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """The status and the body of the answer."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        status, *headers = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        length = next(line for line in headers if line.lower().startswith("content-length:"))
        return int(status.split()[1]), await self.reader.readexactly(int(length.split(":")[1]))


@contextmanager
def api(**variables: str) -> Iterator[Server]:
    """A running API without a worker, on a home of its own."""
    with TemporaryDirectory() as home:
        server = Server(Path(home) / "home", variables, arguments=("--only", "api")).start()
        try:
            yield server
        finally:
            server.stop()


def upload(server: Server) -> bytes:
    """The body of a request for a job, whose inputs are there."""
    inputs = {}
    with httpx2.Client(base_url=server.url) as client:
        for kind in ("model", "samples"):
            answer = client.put("/v1/artifacts", params={"kind": kind}, content=kind.encode())
            inputs[kind] = {"digest": answer.raise_for_status().json()["digest"]}
    return json.dumps({"inputs": inputs}).encode()


def load(server: Server, body: bytes, clients: int, pause_s: float, seconds: float) -> Seen:
    """What that many clients see for that long, each with about `pause_s` between two requests."""
    return asyncio.run(_load(server.port, body, clients, pause_s, seconds))


async def _load(port: int, body: bytes, clients: int, pause_s: float, seconds: float) -> Seen:
    seen = Seen()
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(_client(port, body, pause_s, began + seconds, random.Random(number), seen))  # noqa: S311
    seen.seconds = time.perf_counter() - began
    return seen


async def _client(
    port: int, body: bytes, pause_s: float, until: float, dice: random.Random, seen: Seen
) -> None:
    await asyncio.sleep(dice.random() * pause_s)
    async with Connection(port) as connection:
        job_id = ""
        while time.perf_counter() < until:
            kind = CREATE if not job_id or dice.random() < CREATES else POLL
            began = time.perf_counter()
            if kind == CREATE:
                status, answer = await connection.ask("POST", "/v1/jobs", body)
                job_id = json.loads(answer)["id"] if status == 202 else job_id
            else:
                status, _ = await connection.ask("GET", f"/v1/jobs/{job_id}")
            seen.took_ms[kind].append((time.perf_counter() - began) * 1000)
            seen.statuses[status] = seen.statuses.get(status, 0) + 1
            await asyncio.sleep(pause_s * (0.5 + dice.random()))


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def rows(title: str, runs: list[Seen]) -> Iterator[tuple[str, ...]]:
    """The table's rows: medians of the runs."""
    bad = sum(count for run in runs for status, count in run.statuses.items() if status >= 500)
    for kind, target in TARGETS_MS.items():
        took = [run.took_ms[kind] for run in runs]
        p99s = [percentile(ms, 0.99) for ms in took]
        yield (
            title,
            kind,
            f"{median(len(ms) for ms in took) / median(run.seconds for run in runs):.0f}",
            f"{median(percentile(ms, 0.5) for ms in took):.1f}",
            f"{median(p99s):.1f} ({min(p99s):.1f}–{max(p99s):.1f})",
            f"{target:.0f}",
            f"{median(p99s) / target:.2f}",
            str(bad),
        )
