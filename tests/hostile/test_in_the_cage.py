"""Every row once more, read by a confined process: the same answers, and nothing outside is touched."""

import json
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hostile.archives import GOOD as GOOD_SAMPLES
from tests.hostile.checkpoints import WEIGHTS
from tests.hostile.headers import GOOD as GOOD_HEADER
from tests.hostile.interface import ACCEPTED, Kind, Row
from tests.hostile.reading import read
from tests.hostile.table import rows
from worker.cage import start
from worker.cage.policy import Limits, Policy, policy

ROOT = Path(__file__).parents[2]
LIMITS = Limits(
    memory_bytes=3 << 30, file_bytes=64 << 20, folder_bytes=1 << 30, wall_s=300, output_bytes=8 << 20
)
DOOR = f"import sys; sys.path.append({str(ROOT)!r}); from worker.cage.door import main; main()"
GOOD = (
    Row("good model", Kind.MODEL, "", frozenset({ACCEPTED}), lambda: [WEIGHTS, GOOD_HEADER], ""),
    Row("good samples", Kind.SAMPLES, "", frozenset({ACCEPTED}), lambda: [GOOD_SAMPLES], ""),
)
FILES = [row for row in rows() if row.kind is not Kind.CODE]
BREAK_INS = [row for row in rows() if row.kind is Kind.CODE]
Task = tuple[Row, str]  # a row and one of its files


@dataclass(frozen=True)
class Canary:
    """A secret beside the cage and an open port: what every attack would like to reach."""

    secret: Path
    server: socket.socket

    def state(self) -> tuple[object, ...]:
        found = self.secret.stat()
        beside = sorted(path.name for path in self.secret.parent.iterdir())
        return self.secret.read_text(), stat.filemode(found.st_mode), found.st_mtime_ns, found.st_uid, beside

    def visited(self) -> bool:
        try:
            self.server.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    secret = tmp_path_factory.mktemp("canary") / "secret"
    secret.write_text("the key of the ledger")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield Canary(secret, server)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> dict[str, list[str]]:
    """All files through warm children; a child that dies costs the row at which it died, and the next one goes on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "DOOR", ("-I", "-B", "-c", DOOR))
        folder = tmp_path_factory.mktemp("cage")
        tasks = list(_written([*FILES, *GOOD], folder, canary))
        found: list[str] = []
        while len(found) < len(tasks):
            found += _one_child(tasks[len(found) :], folder)
    by_row: dict[str, list[str]] = {}
    for (row, _), answer in zip(tasks, found, strict=True):
        by_row.setdefault(row.number, []).append(answer)
    return by_row


def _written(corpus: list[Row], folder: Path, canary: Canary) -> Iterator[Task]:
    canaries = f"CANARY, PORT = {str(canary.secret)!r}, {canary.server.getsockname()[1]}\n".encode()
    for row in corpus:
        for place, data in enumerate(row.make()):
            name = f"{row.number.replace(' ', '-')}-{place}{row.suffix}"
            (folder / name).write_bytes(canaries + data if row.kind is Kind.CODE else data)
            yield row, name


def _one_child(tasks: list[Task], folder: Path) -> list[str]:
    (folder / "tasks.json").write_text(json.dumps([(row.kind, name) for row, name in tasks]))
    ended = start.run("tests.hostile.reading", ("tasks.json",), folder, _bounds(folder))
    found = [json.loads(line)["answer"] for line in ended.out.splitlines()]
    assert found or ended.code == 0 or ended.breach, ended.err
    if len(found) < len(tasks):
        found.append(f"the child ended: {ended.code} {ended.breach} {ended.err[-2000:]!r}")
    return found


def _bounds(folder: Path) -> Policy:
    return policy((folder,), readable=(ROOT / "tests", ROOT / "examples"), limits=LIMITS)


@pytest.mark.parametrize("row", [*FILES, *GOOD], ids=lambda row: row.number)
def test_every_file_gets_the_answer_of_its_row(row: Row, answers: dict[str, list[str]]) -> None:
    assert set(answers[row.number]) <= row.answers


def test_nothing_outside_was_touched(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> None:
    """All break-ins in one child; then the port that stood open has heard from nobody, and the next job is served."""
    before, children = canary.state(), _children()
    folder = tmp_path_factory.mktemp("break-ins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "DOOR", ("-I", "-B", "-c", DOOR))
        tasks = list(_written(BREAK_INS, folder, canary))
        assert _one_child(tasks, folder) == ["denied"] * len(tasks)
        assert _one_child(list(_written(list(GOOD), folder, canary)), folder) == [ACCEPTED] * 3
    assert canary.state() == before
    assert not canary.visited()
    assert _children() == children
    assert not Path("/tmp/cage-was-here").exists()  # noqa: S108 - where a break-in would have written
    assert not Path("/dev/shm/cage-was-here").exists()  # noqa: S108


def test_without_a_cage_the_break_ins_succeed(tmp_path: Path, canary: Canary) -> None:
    """Only the harmless ones are tried: otherwise the rows would prove nothing."""
    harmless = ("read_text()", "os.listdir('/proc')", "os.listdir('..')", "os.symlink(CANARY, 'mine')")
    tried = 0
    for row in BREAK_INS:
        for data in row.make():
            if data.decode().endswith(harmless):
                code = data.decode().replace("'mine'", repr(str(tmp_path / "mine")))
                (tmp_path / "code").write_text(f"CANARY = {str(canary.secret)!r}\n{code}")
                assert read(Kind.CODE, tmp_path / "code").answer == ACCEPTED
                tried += 1
    assert tried == len(harmless)


def _children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()
