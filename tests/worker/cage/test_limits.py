"""A child that will not end, or takes too much, is ended; and nothing of it is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.cage.policy import Limits
from worker.cage.start import Breach, Ended

LetLoose = Callable[..., Ended]
HERE = Path(__file__).parent


def bounds(**limits: float) -> Limits:
    given = {"memory_bytes": 256 << 20, "file_bytes": 2 << 20, "folder_bytes": 8 << 20, "wall_s": 60} | limits
    return Limits.model_validate(given)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_time(let_loose: LetLoose) -> None:
    ended = let_loose("sleep", bounds(wall_s=2))
    assert (ended.breach, ended.code) == (Breach.WALL, -signal.SIGKILL)
    assert not is_running(int(ended.out))


def test_processor_time(let_loose: LetLoose) -> None:
    ended = let_loose("spin", bounds(cpu_s=1))
    assert (ended.breach, ended.code) == (None, -signal.SIGKILL)


def test_memory_is_refused_by_the_kernel(let_loose: LetLoose) -> None:
    ended = let_loose("eat_memory", bounds())
    assert ended.code == 0
    assert 0 < json.loads(ended.out) <= 32


def test_shared_memory_is_seen_by_the_watch(let_loose: LetLoose) -> None:
    ended = let_loose("share_memory", bounds())
    assert (ended.breach, ended.code) == (Breach.MEMORY, -signal.SIGKILL)


def test_a_file(let_loose: LetLoose) -> None:
    assert json.loads(let_loose("one_large_file", bounds()).out) == "File too large"


def test_a_folder(let_loose: LetLoose) -> None:
    ended = let_loose("fill_the_folder", bounds())
    assert (ended.breach, ended.code) == (Breach.FOLDER, -signal.SIGKILL)


def test_output(let_loose: LetLoose) -> None:
    ended = let_loose("print_for_ever", bounds())
    assert (ended.breach, ended.code) == (Breach.OUTPUT, -signal.SIGKILL)


def test_a_crash_is_only_the_child_s(let_loose: LetLoose) -> None:
    ended = let_loose("crash", bounds())
    assert (ended.breach, ended.code) == (None, -signal.SIGSEGV)


def test_a_child_dies_with_its_supervisor(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
sys.path.append({str(HERE)!r})
from worker.cage import start
from worker.cage.policy import policy
start.DOOR = ("-I", "-B", "-c", "import sys; sys.path.append({str(HERE)!r}); from worker.cage.door import main; main()")
folder = Path({str(tmp_path)!r})
child = start.start("inmates", ("sleep",), folder, policy((folder,), readable=(Path({str(HERE)!r}),)), stdout=None)
child.wait()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        assert is_running(child)
        supervisor.kill()
    deadline = time.monotonic() + 30
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child)


@pytest.mark.parametrize("name", ["sleep", "fill_the_folder"])
def test_no_descriptor_is_lost(let_loose: LetLoose, name: str) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    let_loose(name, bounds(wall_s=1))
    assert sorted(Path("/proc/self/fd").iterdir()) == before
