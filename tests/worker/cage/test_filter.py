"""The seccomp filter as a program: read for both kinds of machine, and compared with what others know."""

import ctypes
import ctypes.util
import errno
import struct

import pytest

from worker.cage import seccomp, syscalls
from worker.cage.policy import Policy
from worker.cage.syscalls import DENIED, Numbers

PID = 4711
ALLOW, KILL = 0x7FFF0000, 0x80000000
NAMED = {name.lower(): value for name, value in vars(syscalls).items() if isinstance(value, Numbers)}


def answer(machine: str, number: int, first: int = 0, second: int = 0, policy: Policy | None = None) -> int:
    """Run the filter as the kernel does; -errno where it answers with an error."""
    program = seccomp.program(policy or Policy(), machine, PID)
    data = struct.pack("<iIQ6Q", number, seccomp.ARCHITECTURES[machine], 0, first, second, 0, 0, 0, 0)
    at = loaded = 0
    while True:
        code, yes, no, operand = program[at]
        at += 1
        match code:
            case 0x20:
                (loaded,) = struct.unpack_from("<I", data, operand)
            case 0x06:
                return -(operand & 0xFFFF) if operand & 0xFFFF0000 == 0x50000 else operand
            case 0x15 | 0x25 | 0x45:
                holds = {0x15: loaded == operand, 0x25: loaded > operand, 0x45: bool(loaded & operand)}[code]
                at += yes if holds else no


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_every_number_gets_its_answer(machine: str) -> None:
    denied = {getattr(numbers, machine) for numbers in DENIED.values()} - {None}
    special = {
        getattr(NAMED[name], machine) for name in ("clone", "fcntl", "kill", "tgkill", "socket", "prlimit64")
    }
    closed = {
        getattr(NAMED["clone3"], machine): -errno.ENOSYS,
        getattr(NAMED["memfd_create"], machine): -errno.EPERM,
    }
    for number in range(syscalls.KNOWN + 1):
        if number not in special:
            expected = -errno.EPERM if number in denied else closed.get(number, ALLOW)
            assert answer(machine, number) == expected, number
    for number in (syscalls.KNOWN + 1, 0x40000000, 0x4000003B, -1):
        assert answer(machine, number) == -errno.ENOSYS


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_arguments_decide(machine: str) -> None:
    def asked(name: str, *arguments: int, **bounds: bool) -> int:
        return answer(machine, getattr(NAMED[name], machine), *arguments, policy=Policy(**bounds))

    denied = -errno.EPERM
    assert asked("clone", 17) == denied  # fork
    assert asked("clone", 0x3D0F00) == ALLOW  # a thread, as the C library makes it
    assert [asked("kill", PID), asked("kill", 1), asked("kill", 0), asked("kill", 2**32 - 1)] == [
        ALLOW,
        *[denied] * 3,
    ]
    assert [asked("tgkill", PID), asked("tgkill", 1)] == [ALLOW, denied]
    assert [asked("prlimit64", 0), asked("prlimit64", PID), asked("prlimit64", 1)] == [ALLOW, ALLOW, denied]
    assert [asked("fcntl", 3, command) for command in (3, 8, 10, 15)] == [ALLOW, denied, denied, denied]
    assert [asked("socket", family) for family in (1, 2, 10, 16)] == [denied] * 4
    assert [asked("socket", family, unix_sockets=True) for family in (1, 2)] == [ALLOW, denied]
    assert asked("memfd_create", memfd=True) == ALLOW


def test_a_program_for_another_machine_is_killed() -> None:
    program = seccomp.program(Policy(), "x86_64", PID)
    assert program[:3] == ((0x20, 0, 0, 4), (0x15, 1, 0, seccomp.ARCHITECTURES["x86_64"]), (0x06, 0, 0, KILL))


def test_the_numbers_are_those_that_libseccomp_knows() -> None:
    found = ctypes.util.find_library("seccomp")
    if found is None:
        pytest.skip("libseccomp is not installed")
    library = ctypes.CDLL(found)
    table = {**DENIED, **NAMED}
    unknown = -1
    for place, architecture in enumerate(seccomp.ARCHITECTURES.values()):
        for name, numbers in table.items():
            known = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(architecture), name.encode())
            # Below -1: a name that other machines have. An older library does not know the newest names.
            if known != unknown or name == "read":
                assert numbers[place] == (known if known >= 0 else None), name
    assert library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(0xC000003E), b"read") == 0
