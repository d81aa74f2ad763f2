"""Seccomp: which system calls this process, and every thread it will have, may still make.

A list of what is denied rather than of what is allowed: torch, OpenMP and the C library change what they use, and a
service that dies of a harmless new call gets its confinement switched off. What it leaves open is that a dangerous call
may be missing from the list; numbers that are newer than the list are answered with ENOSYS, so that at least time does
not add to it.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from worker.cage import kernel
from worker.cage.policy import Policy
from worker.cage.syscalls import (
    CLONE,
    CLONE3,
    DENIED,
    FCNTL,
    KILL,
    KNOWN,
    MEMFD_CREATE,
    PRLIMIT64,
    SECCOMP,
    SOCKET,
    TGKILL,
    Numbers,
)

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = (
    0,
    4,
    16,
    24,
)  # where they lie in what the kernel shows to the filter
_THREAD = 0x10000  # the flag of clone() that makes a thread, not a process
_OWNER_OF_SIGNALS = (
    8,
    10,
    15,
)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: how a file is made to signal another process
_AF_UNIX = 1

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def supported() -> bool:
    """Whether the numbers of this machine are known."""
    return kernel.MACHINE in ARCHITECTURES


def restrict(policy: Policy) -> None:
    """Filter the calls of all threads from now on; needs no-new-privileges. Raises `OSError`."""
    install(program(policy, kernel.MACHINE, os.getpid()))


def install(lines: tuple[Instruction, ...]) -> None:
    """Give a filter to the kernel. Raises `OSError`."""
    packed = b"".join(struct.pack("<HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(packed)
    filter_ = _Program(len(packed) // 8, ctypes.addressof(buffer))
    kernel.syscall(here(SECCOMP), _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(filter_))


def here(call: Numbers) -> int:
    """The number of `call` on this machine. Raises `OSError` (ENOSYS) where it has none."""
    number: int | None = getattr(call, kernel.MACHINE, None)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return number


def program(policy: Policy, machine: str, pid: int) -> tuple[Instruction, ...]:
    """The filter for process `pid`."""

    def number(call: Numbers) -> int | None:
        found: int | None = getattr(call, machine)
        return found

    def answer(code: int) -> Instruction:
        return (_RETURN, 0, 0, _ERROR | code)

    def unless_first_is(call: Numbers, *values: int) -> Iterator[Instruction]:
        """EPERM but for these values of the first argument."""
        yield (_JUMP_EQUAL, 0, len(values) + 3, number(call) or 0)
        yield (_LOAD, 0, 0, _FIRST)
        for left, value in zip(range(len(values), 0, -1), values, strict=True):
            yield (_JUMP_EQUAL, left, 0, value)
        yield answer(errno.EPERM)
        yield (_RETURN, 0, 0, _ALLOW)

    def lines() -> Iterator[Instruction]:
        yield (_LOAD, 0, 0, _ARCHITECTURE)
        yield (_JUMP_EQUAL, 1, 0, ARCHITECTURES[machine])
        yield (_RETURN, 0, 0, _KILL)
        yield (_LOAD, 0, 0, _NUMBER)
        yield (_JUMP_GREATER, 0, 1, KNOWN)  # the calls of x32 lie there too
        yield answer(errno.ENOSYS)
        # The C library falls back to clone(), whose flags a filter can see.
        yield (_JUMP_EQUAL, 0, 1, number(CLONE3) or 0)
        yield answer(errno.ENOSYS)
        denied = [*DENIED.values(), *(() if policy.memfd else (MEMFD_CREATE,))]
        for call in sorted(found for found in map(number, denied) if found is not None):
            yield (_JUMP_EQUAL, 0, 1, call)
            yield answer(errno.EPERM)
        yield (_JUMP_EQUAL, 0, 4, number(CLONE) or 0)
        yield (_LOAD, 0, 0, _FIRST)
        yield (_JUMP_ANY_BIT, 1, 0, _THREAD)
        yield answer(errno.EPERM)
        yield (_RETURN, 0, 0, _ALLOW)
        yield (_JUMP_EQUAL, 0, len(_OWNER_OF_SIGNALS) + 3, number(FCNTL) or 0)
        yield (_LOAD, 0, 0, _SECOND)
        for left, command in zip(range(len(_OWNER_OF_SIGNALS), 0, -1), _OWNER_OF_SIGNALS, strict=True):
            yield (_JUMP_EQUAL, left, 0, command)
        yield (_RETURN, 0, 0, _ALLOW)
        yield answer(errno.EPERM)
        yield from unless_first_is(SOCKET, *((_AF_UNIX,) if policy.unix_sockets else ()))
        yield from unless_first_is(KILL, pid)
        yield from unless_first_is(TGKILL, pid)
        yield from unless_first_is(PRLIMIT64, 0, pid)
        yield (_RETURN, 0, 0, _ALLOW)

    return tuple(lines())
