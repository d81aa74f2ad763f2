"""A Redis and a PostgreSQL server of our own, which a test may flush, stop and start."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
import redis

from tests.service.conftest import free_port, until


@dataclass
class OwnRedis:
    """`redis-server` on a free port, in memory alone."""

    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", str(self.port)]
        command = [shutil.which("redis-server") or "redis-server", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(self._answers)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


@dataclass
class OwnPostgres:
    """A PostgreSQL cluster in a folder; it refuses to run as root, so root lends it the user `postgres`."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        self._run("initdb", "--auth", "trust", "--username", "postgres", "--no-sync")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder}"
        self._run("pg_ctl", "start", "--wait", "--log", f"{self.folder}.log", "--options", options)

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode", mode)

    def hang_up(self) -> int:
        """End every connection but our own; the number of them."""
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            others = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            )
            return len(connection.execute(f"{others} AND pid <> pg_backend_pid()").fetchall())

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [program, "--pgdata", str(self.folder), *arguments]
        lent = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid} if os.getuid() == 0 else {}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **lent)


@contextmanager
def own_redis() -> Iterator[OwnRedis]:
    """It runs; skips the test where there is none."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server")
    server = OwnRedis(free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """It runs; skips the test where there is none."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("no initdb and pg_ctl")
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        server = OwnPostgres(Path(folder) / "data", free_port())
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
