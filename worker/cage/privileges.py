"""Who this process is and what it may use up: capabilities and users dropped, limits that can only sink."""

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from worker.cage import kernel, seccomp
from worker.cage.policy import GIB, Policy
from worker.cage.syscalls import CAPSET

# A user of its own for each process: two children of one worker cannot touch each other, and no file of the machine
# belongs to them. Process numbers end at 2^22.
FIRST_USER = 1 << 24
MAX_THREADS = 4096
_CAPABILITY_VERSION = 0x20080522
_OTHERS_MAY_ENTER = 0o001


def limit(policy: Policy) -> None:
    """Set the limits of the process. Raises `OSError`, `ValueError`."""
    limits = policy.limits
    bounds = {
        resource.RLIMIT_DATA: limits.memory_bytes,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if policy.address_space:
        # Threads, libraries and mapped files take address space that is never memory.
        bounds[resource.RLIMIT_AS] = limits.memory_bytes + 16 * GIB
    if limits.cpu_s is not None:
        bounds[resource.RLIMIT_CPU] = limits.cpu_s
    for what, value in bounds.items():
        hard = resource.getrlimit(what)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (lower, lower))
    # A write beyond the limit is then an error that Python can report, not a death.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def drop(policy: Policy) -> str:
    """Give up every capability and, where it can be done, the user; say what was done. Raises `OSError`."""
    user = FIRST_USER + os.getpid()
    changed = os.geteuid() == 0 and _open_to_others(policy)
    if changed:
        _hand_over(policy.writable, user)
        with suppress(OSError):  # a container may not know the number; its root is no root outside
            os.setgroups([])
        try:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        except OSError:
            changed = False
    if changed:
        resource.setrlimit(resource.RLIMIT_NPROC, (MAX_THREADS, MAX_THREADS))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user would clear it
    return f"user {'of its own' if changed else os.geteuid()}, no capability, no way to a new one"


def _open_to_others(policy: Policy) -> bool:
    """Whether any user may enter the folders in which Python and the folder of the job lie."""
    folders = {folder for path in policy.readable for folder in (path, *path.parents) if folder.is_dir()}
    folders |= {folder for path in policy.writable for folder in path.parents}
    proc = Path("/proc")
    return all(folder.stat().st_mode & _OTHERS_MAY_ENTER for folder in folders if proc not in folder.parents)


def _hand_over(places: Iterable[Path], user: int) -> None:
    for place in places:
        if place.is_relative_to("/proc"):
            continue
        for folder, _, files in os.walk(place):
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                os.lchown(path, user, user)


def _drop_capabilities() -> None:
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(64):
        with suppress(OSError):  # beyond the last one, or without the right to drop
            kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION, 0))
    nothing = ctypes.create_string_buffer(24)
    kernel.syscall(seccomp.here(CAPSET), header, nothing)
