"""Landlock: which files this process may still reach.

It restricts the calling thread and all that come from it, so it must come before any other thread. What it does not
see (chmod, chown, extended attributes, times) `seccomp` denies.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from worker.cage import kernel, seccomp
from worker.cage.policy import Policy
from worker.cage.syscalls import LANDLOCK_ADD_RULE, LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF

LEAST_ABI = 3  # Linux 6.2; before it a file could be truncated anywhere
NETWORK_ABI, DEVICES_ABI, SCOPES_ABI = 4, 5, 6

_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (
    1 << bit for bit in range(6, 13)
)
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER
_DEVICE = _READ | _WRITE_FILE | _IOCTL_DEV
_OF_FILES = (
    _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
)  # the rights that a single file can have
_ALL_TCP, _ALL_SCOPES = 3, 3  # bind and connect; abstract sockets and signals


def abi() -> int:
    """The version of Landlock that the kernel speaks; 0 where it has none."""
    try:
        return kernel.syscall(seccomp.here(LANDLOCK_CREATE_RULESET), None, 0, _VERSION)
    except OSError:
        return 0


def restrict(policy: Policy, version: int) -> None:
    """Leave this thread the files of `policy`, by all that Landlock `version` can. Raises `OSError`."""
    handled = (1 << min(16, {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16))) - 1
    attributes = struct.pack(
        "<QQQ",
        handled,
        _ALL_TCP if version >= NETWORK_ABI else 0,
        _ALL_SCOPES if version >= SCOPES_ABI else 0,
    )
    size = 8 if version < NETWORK_ABI else 16 if version < SCOPES_ABI else 24
    ruleset = kernel.syscall(seccomp.here(LANDLOCK_CREATE_RULESET), attributes, size, 0)
    try:
        _allow(ruleset, policy.readable, _READ & handled)
        _allow(ruleset, policy.writable, _WRITE & handled)
        _allow(ruleset, policy.devices, _DEVICE & handled)
        kernel.syscall(seccomp.here(LANDLOCK_RESTRICT_SELF), ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, paths: Iterable[Path], rights: int) -> None:
    for path in paths:
        with suppress(FileNotFoundError):  # what is not there needs no right
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
                rule = struct.pack("<Qi", rights if is_folder else rights & _OF_FILES, descriptor)
                buffer = ctypes.create_string_buffer(rule, len(rule))
                kernel.syscall(seccomp.here(LANDLOCK_ADD_RULE), ruleset, _PATH_BENEATH, buffer, 0)
            finally:
                os.close(descriptor)
