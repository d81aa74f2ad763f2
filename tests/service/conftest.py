"""A running `sanitizer serve`: embedded, and with Redis and PostgreSQL behind it."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import numpy as np
import pytest

from tests.conftest import BACKDOORED as MODEL
from tests.conftest import SAMPLES, KeyFiles, free_port

STACKS = ("embedded", "redis and postgresql")
ONE_STACK = {"test_document", "test_discovery", "test_bad_requests", "test_screening"}
ROOT = Path(__file__).parents[2]
SHORT = (
    '"recover": {"epochs": 1}, "relearn": {"steps": 0}, "prune": {"threshold_step": 0.5}, '
    '"perturbation": {"steps": 1, "max_classes": 2, "hurried": {"steps": 1}}, "statistics": {"steps": 0}'
)
UNMOVED = '"evidence": {"seeds": 1, "suspicion": 1e-9, "false_alarms": 1e-9}'  # nothing is ever accused
QUICK = f'{{"unlearn": {{"max_epochs": 1}}, {UNMOVED}, {SHORT}}}'
IMPATIENT = {"HEARTBEAT_S": "0.5", "LEASE_S": "4", "LOOK_S": "1", "GRACE_S": "2", "DRAIN_S": "0"}


def until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """The first truth that `what` gives; an assertion error after that many seconds without one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError(f"nothing true within {seconds} s")


@cache
def few_samples() -> bytes:
    """Ten clean images of each class as .npz; a job with them takes a fraction of the time."""
    samples = np.load(SAMPLES.with_suffix(".npz"))
    few = np.concatenate([np.flatnonzero(samples["labels"] == label)[:10] for label in range(10)])
    file = BytesIO()
    np.savez(file, images=samples["images"][few], labels=samples["labels"][few])
    return file.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Server:
    """`sanitizer serve` in a process of its own."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> str:
        return self.variables.get("DATABASE_URL") or f"sqlite:///{self.home / 'ledger.db'}"

    def start(self) -> "Server":
        command = [str(Path(sys.executable).parent / "sanitizer"), "serve", "--home", str(self.home)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SANITIZER_")}
        self.home.mkdir(exist_ok=True)
        with (self.home / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), *self.arguments],
                env=clean
                | {"OMP_NUM_THREADS": "1"}
                | {f"SANITIZER_{n}": v for n, v in self.variables.items()},
                stdout=log,
                stderr=log,
            )
        try:
            until(self._ready)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, number: int = signal.SIGINT) -> int:
        """Drain; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def log(self) -> str:
        return (self.home / "serve.log").read_text()

    def running(self, module: str) -> list[int]:
        """The processes of this server that run `module`."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    command = (folder / "cmdline").read_bytes().decode().split("\0")
                    where = f"SANITIZER_HOME={self.home}\0".encode() in (folder / "environ").read_bytes()
                    where = where or str(self.home) in str((folder / "cwd").readlink())
                except OSError:
                    continue
                if where and module in command:
                    found.append(int(folder.name))
        return found

    def create(
        self, client: httpx2.Client, options: str = QUICK, kind: str = "sanitize", **headers: str
    ) -> dict[str, Any]:
        with MODEL.open("rb") as model:
            answer = client.post(
                "/v1/jobs",
                files={"model": (MODEL.name, model), "samples": ("few.npz", few_samples())},
                data={"options": options, "kind": kind},
                headers=headers,
            )
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def upload(self, client: httpx2.Client) -> dict[str, Any]:
        """The inputs of a job, by digest."""
        inputs = {}
        for kind, name, data in (
            ("model", MODEL.name, MODEL.read_bytes()),
            ("samples", "few.npz", few_samples()),
        ):
            answer = client.put("/v1/artifacts", params={"kind": kind}, content=data)
            assert answer.status_code == 201, answer.text
            inputs[kind] = {"digest": answer.json()["digest"], "name": name}
        return inputs

    def ended(self, client: httpx2.Client, job_id: str, seconds: float = 300) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}", params={"wait": 5}).json()
            return job if job["state"] not in ("queued", "running") else None

        found: dict[str, Any] = until(look, seconds)
        return found

    def swept(self) -> None:
        """Wait until no attempt has a folder any more: a job is said to have ended a moment before."""
        until(lambda: not [path for folder in (self.home / "jobs").iterdir() for path in folder.iterdir()])

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        return any((self.home / "jobs").glob("worker-*")) if "worker" in self.arguments else self.answers()

    def answers(self) -> bool:
        """Whether the API is ready."""
        try:
            return httpx2.get(f"{self.url}/readyz").status_code == 200
        except httpx2.TransportError:
            return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is asked of the API alone is asked of one stack."""
    items[:] = [item for item in items if item.path.stem not in ONE_STACK or STACKS[1] not in item.name]


@pytest.fixture(scope="session", params=STACKS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, signing_keys: KeyFiles
) -> Iterator[Server]:
    variables = {f"CLOCKS__{name}": value for name, value in IMPATIENT.items()}
    variables["SIGNING_KEY"] = str(signing_keys.private)
    if request.param != "embedded":
        variables |= {
            "DATABASE_URL": request.getfixturevalue("postgres_url"),
            "BROKER_URL": request.getfixturevalue("redis_url"),
            "POOL": f"test-{uuid4().hex[:8]}",  # a queue of our own on a server that others use too
        }
    serving = Server(tmp_path_factory.mktemp("home"), variables).start()
    yield serving
    assert serving.stop() == 0
    assert "Traceback" not in serving.log()


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """An embedded server that the test may stop and start; its clocks are impatient."""
    serving = Server(tmp_path / "home", {f"CLOCKS__{name}": value for name, value in IMPATIENT.items()})
    yield serving
    if serving.process is not None and serving.process.poll() is None:
        serving.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    from tests.service.tally import TALLY

    if TALLY.faults:
        terminalreporter.write_line(TALLY.line())
