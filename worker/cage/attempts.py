"""Forbidden things, each tried for real by the process that was just confined.

An attempt returns normally when it succeeded, and raises what the kernel answered when it did not. Outside the cage
every one of them succeeds or fails for another reason, which `tests/worker/cage` shows.
"""

import mmap
import os
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from errno import EACCES, EFBIG, EMFILE, ENOMEM, EPERM, EROFS
from pathlib import Path

from app.contract.confinement import LayerName
from worker.cage import kernel, seccomp
from worker.cage.policy import Policy
from worker.cage.syscalls import CLONE, DENIED, PRLIMIT64

# A few of each kind; the tests try every one of `syscalls.DENIED`.
CALLED = (
    "execve",
    "ptrace",
    "process_vm_readv",
    "pidfd_open",
    "shmget",
    "fchmod",
    "fchown",
    "mount",
    "unshare",
    "bpf",
    "io_uring_setup",
    "keyctl",
    "userfaultfd",
)
ELSEWHERE = (Path("/dev/shm"), Path("/var/tmp"), Path("/tmp"), Path("/"))  # noqa: S108 - tried, never used
REFUSALS = frozenset({EPERM, EACCES})


@dataclass(frozen=True, slots=True)
class Attempt:
    """`deed` is forbidden; it counts as denied when it fails with one of `refusals`."""

    what: str
    deed: Callable[[], object]
    refusals: frozenset[int] = REFUSALS

    def denied(self) -> bool:
        """Try it."""
        try:
            self.deed()
        except OSError as error:
            return error.errno in self.refusals
        except ValueError:  # resource, where the kernel said EINVAL or EPERM
            return True
        return False


def attempts(layer: LayerName, policy: Policy) -> tuple[Attempt, ...]:
    """What `layer` must deny under `policy`."""
    match layer:
        case LayerName.SESSION:
            return ()
        case LayerName.LIMITS:
            return _beyond_limits(policy)
        case LayerName.PRIVILEGES:
            return (
                Attempt("become another user", lambda: os.setuid(1 if os.getuid() != 1 else 2)),
                Attempt("change the root folder", lambda: os.chroot("/")),
            )
        case LayerName.FILES:
            return _files(policy)
        case LayerName.SYSTEM_CALLS:
            return _calls(policy)


def _beyond_limits(policy: Policy) -> tuple[Attempt, ...]:
    memory = resource.getrlimit(resource.RLIMIT_DATA)[0]
    folder = policy.writable[0]
    return (
        Attempt("take more memory", lambda: mmap.mmap(-1, memory + mmap.PAGESIZE, mmap.MAP_PRIVATE), _memory),
        Attempt("write a larger file", lambda: _grow(folder), frozenset({EFBIG})),
        Attempt("open more files", _open_many, frozenset({EMFILE})),
        Attempt("raise a limit", _raise_limit),
    )


_memory = frozenset({ENOMEM})


def _files(policy: Policy) -> tuple[Attempt, ...]:
    folder = policy.writable[0]
    return (
        Attempt("read a file outside", lambda: os.close(os.open("/etc/passwd", os.O_RDONLY))),
        Attempt("list a folder outside", lambda: os.scandir("/").close()),
        Attempt("write a file outside", _write_outside, REFUSALS | {EROFS}),
        Attempt("make a link", lambda: _made(folder, lambda path: path.symlink_to("/etc/passwd"))),
        Attempt("make a pipe with a name", lambda: _made(folder, os.mkfifo)),
    )


def _calls(policy: Policy) -> tuple[Attempt, ...]:
    families = ["INET", "INET6", "NETLINK", "PACKET", *([] if policy.unix_sockets else ["UNIX"])]
    opened = tuple(
        Attempt(f"open a socket ({name})", lambda name=name: _socket(name))  # type: ignore[misc]
        for name in families
    )
    called = tuple(
        Attempt(name, lambda name=name: _called(name), frozenset({EPERM}))  # type: ignore[misc]
        for name in CALLED
    )
    return (
        *opened,
        *called,
        Attempt("signal the parent", lambda: os.kill(os.getppid(), 0), frozenset({EPERM})),
        Attempt("limit the parent", _limit_parent, frozenset({EPERM})),
        Attempt("make a process", _clone, frozenset({EPERM})),
    )


def _socket(family: str) -> None:
    kind = socket.SOCK_RAW if family in {"NETLINK", "PACKET"} else socket.SOCK_DGRAM
    socket.socket(getattr(socket, f"AF_{family}"), kind).close()


def _grow(folder: Path) -> None:
    path = folder / ".grown"
    try:
        with path.open("wb") as file:
            os.ftruncate(file.fileno(), resource.getrlimit(resource.RLIMIT_FSIZE)[0] + 1)
    finally:
        path.unlink(missing_ok=True)


def _open_many() -> None:
    opened: list[int] = []
    try:
        for _ in range(resource.getrlimit(resource.RLIMIT_NOFILE)[0] + 1):
            opened.append(os.dup(2))  # noqa: PERF401 - those opened before the failure must be closed
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _raise_limit() -> None:
    for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA):
        soft, hard = resource.getrlimit(what)
        if hard == resource.RLIM_INFINITY:
            return
        resource.setrlimit(what, (soft, hard + 1))


def _write_outside() -> None:
    """Raises the most telling refusal when every place refuses: that a disk is read-only says little of a layer."""
    refusal: OSError | None = None
    for place in ELSEWHERE:
        try:
            _made(place, lambda path: path.touch())
        except OSError as error:
            refusal = error if refusal is None or error.errno in REFUSALS else refusal
        else:
            return
    if refusal is not None:
        raise refusal


def _made(folder: Path, make: Callable[[Path], object]) -> None:
    path = folder / f".cage-{os.getpid()}"
    make(path)
    path.unlink(missing_ok=True)


def _limit_parent() -> None:
    kernel.syscall(seccomp.here(PRLIMIT64), os.getppid(), resource.RLIMIT_CORE, None, None)


def _called(name: str) -> None:
    """Outside the cage these arguments make it fail too, but not with EPERM, or with one that is no surprise."""
    kernel.syscall(seccomp.here(DENIED[name]), -1, 0, 0, 0, 0)


def _clone() -> None:
    if kernel.syscall(seccomp.here(CLONE), 17, 0, 0, 0, 0) == 0:  # SIGCHLD: what fork() asks for
        os._exit(0)
    os.wait()
