"""A large upload, beside what `cat` through a loopback socket to the same disk takes in the same run.

An upload is answered when its bytes outlive a power cut, so the copy that is flushed to the disk does the same work.
"""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import httpx2

from benchmarks.service_clients import api
from tests.service.conftest import Server

PIECE = 1024 * 1024
REPEATS = 5
GROWTH_MB = 50
HEADINGS = (
    "what",
    "MB",
    "seconds",
    "MB/s",
    "of cat (target ≥ 0.33)",
    "of cat, flushed",
    "API memory grew by MB (target < 50)",
)


def rows(megabytes: int) -> Iterator[tuple[str, ...]]:
    """The table's rows: medians of `REPEATS`."""
    with api() as server:
        source = server.home / "source"
        _fill(source, megabytes)
        took: dict[str, list[float]] = {"copy": [], "flushed": [], "upload": []}
        before, peaks = _memory(server), []
        for number in range(REPEATS):
            _mark(source, number)
            took["copy"].append(_timed(lambda: _copy(source, server.home / "copy", flush=False)))
            took["flushed"].append(_timed(lambda: _copy(source, server.home / "copy, flushed", flush=True)))
            took["upload"].append(_timed(lambda: _upload(server, source)))
            for copy in server.home.glob("copy*"):
                copy.unlink()
            peaks.append(_memory(server))
        seconds = {what: median(runs) for what, runs in took.items()}
    names = {"copy": "cat", "flushed": "cat, flushed to the disk", "upload": "PUT /v1/artifacts"}
    for what, name in names.items():
        ours = what == "upload"
        shares = [
            f"{seconds[copy] / seconds[what]:.2f}" if copy != what else "" for copy in ("copy", "flushed")
        ]
        grown = f"{max(peaks) - before:.0f}" if ours else ""
        speed = f"{megabytes / seconds[what]:.0f}"
        yield (name, str(megabytes), f"{seconds[what]:.2f}", speed, *shares, grown)


def _fill(path: Path, megabytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(PIECE))


def _mark(path: Path, number: int) -> None:
    """Make it another file: what is known by its digest already would be replaced, and that takes time too."""
    with path.open("r+b") as file:
        file.write(number.to_bytes(8))


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _copy(source: Path, target: Path, *, flush: bool) -> None:
    """`cat` at both ends of a loopback socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = ["bash", "-c", f'cat "$0" > /dev/tcp/127.0.0.1/{port}', str(source)]
        sender = subprocess.Popen(command)
        connection, _ = server.accept()
        with connection, target.open("wb") as file:
            subprocess.run(["cat"], stdin=connection.fileno(), stdout=file, check=True)  # noqa: S607 - the one in PATH
            if flush:
                os.fsync(file.fileno())
        assert sender.wait() == 0


def _upload(server: Server, source: Path) -> None:
    def pieces() -> Iterator[bytes]:
        with source.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    headers = {"Content-Length": str(source.stat().st_size)}
    with httpx2.Client(base_url=server.url, timeout=600) as client:
        answer = client.put("/v1/artifacts", params={"kind": "model"}, content=pieces(), headers=headers)
    assert answer.status_code == 201, answer.text


def _memory(server: Server) -> float:
    """The most memory that the API ever had, in MB."""
    (pid,) = server.running("uvicorn")
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
