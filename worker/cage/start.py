"""One confined child from the outside: how it is started, watched and ended.

Knows processes; knows nothing of jobs, models or samples.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from app.contract.limits import READING
from worker.cage.policy import Limits, Policy

DOOR = ("-I", "-B", "-m", "worker.cage.door")
KEPT = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
TICK_S = 0.05
FOLDER_S = 1.0  # between two looks at the size of the folder
PIECE = 64 * 1024
Stream = int | IO[bytes] | None


class Breach(StrEnum):
    """The limit for which a child was ended."""

    WALL = "wall"
    MEMORY = "memory"
    FOLDER = "folder"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a child."""

    code: int  # its exit code; negative: the signal that ended it
    breach: Breach | None
    out: bytes
    err: bytes
    wall_s: float


def start(
    module: str,
    arguments: Iterable[str],
    folder: Path,
    policy: Policy,
    *,
    keep: Sequence[int] = (),
    stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = subprocess.DEVNULL,
    stderr: Stream = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Run `main(confinement)` of `module` in `folder`, confined by `policy`.

    Whoever wants a home or a place for temporary files finds the first folder that is writable.
    In a session of its own, with an environment of our making and no descriptor but the standard ones and `keep`. The
    child dies with the thread that starts it. Raises `OSError` when there is no process to be had.
    """
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, *DOOR, policy.model_dump_json(), module, *arguments],
        cwd=folder,
        env=environment(policy.writable[0] if policy.writable else folder),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=keep,
        start_new_session=True,
        umask=0o077,
    )


def environment(folder: Path) -> dict[str, str]:
    """All variables that a confined child has."""
    ours = {
        "HF_HUB_OFFLINE": "1",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder),
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    }
    return {
        name: value for name, value in os.environ.items() if name in KEPT or name.startswith(READING)
    } | ours


class Watch:
    """Tells when a child uses up more than it may; the kernel's own limits do not cover these."""

    def __init__(self, process: int, folder: Path, limits: Limits) -> None:
        self._statm = Path(f"/proc/{process}/statm")
        self._folder, self._limits = folder, limits
        self._ends = time.monotonic() + limits.wall_s
        self._looks = 0.0

    def breach(self) -> Breach | None:
        """The limit that is exceeded now."""
        now = time.monotonic()
        if now > self._ends:
            return Breach.WALL
        with suppress(OSError, IndexError, ValueError):  # it has just ended
            resident = int(self._statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            if resident > self._limits.memory_bytes:
                return Breach.MEMORY
        if now >= self._looks:
            self._looks = now + FOLDER_S
            if size_of(self._folder) > self._limits.folder_bytes:
                return Breach.FOLDER
        return None


def size_of(folder: Path) -> int:
    """Bytes that the files below `folder` take on the disk; what vanishes meanwhile counts as nothing."""
    total = 0
    for here, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += Path(here, name).lstat().st_blocks * 512
    return total


def end(process: subprocess.Popen[bytes]) -> int:
    """Leave no process of the child's session; its exit code."""
    if process.returncode is None:  # a number that was collected may be another process by now
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def run(
    module: str, arguments: Iterable[str], folder: Path, policy: Policy, *, keep: Sequence[int] = ()
) -> Ended:
    """Run a child to its end, or to the limit that it exceeds. Raises `OSError` when it cannot be started."""
    began = time.monotonic()
    piped = subprocess.PIPE
    process = start(module, arguments, folder, policy, keep=keep, stdout=piped, stderr=piped)
    watch = Watch(process.pid, folder, policy.limits)
    printed = {"out": bytearray(), "err": bytearray()}
    breach = None
    try:
        for name, piece in _pieces(process):
            printed[name] += piece
            full = sum(map(len, printed.values())) > policy.limits.output_bytes
            breach = Breach.OUTPUT if full else watch.breach()
            if breach is not None:
                break
    finally:
        code = end(process)
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()
    return Ended(code, breach, bytes(printed["out"]), bytes(printed["err"]), time.monotonic() - began)


def _pieces(process: subprocess.Popen[bytes]) -> Iterator[tuple[str, bytes]]:
    """What the child prints, and nothing on every tick in which it prints nothing, until it ends."""
    with selectors.DefaultSelector() as selector:
        for name, pipe in (("out", process.stdout), ("err", process.stderr)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, name)
        while selector.get_map() or not _has_ended(process):
            ready = selector.select(TICK_S)
            yield "out", b""
            for key, _ in ready:
                piece = os.read(key.fd, PIECE)
                if not piece:
                    selector.unregister(key.fileobj)
                yield key.data, piece


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without collecting it, so that its number stays its own until the session is ended."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
