"""System calls that Python has no function for, made through the C library; an error is an `OSError`."""

import ctypes
import os
import platform

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 39, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

MACHINE = platform.machine()


def syscall(number: int, *arguments: object) -> int:
    """Make the call `number`; integers are passed as C longs. Raises `OSError`."""
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    ctypes.set_errno(0)
    return _checked(_LIBC.syscall(ctypes.c_long(number), *passed))


def prctl(option: int, argument: int = 0, second: int = 0) -> int:
    """Change an attribute of this process. Raises `OSError`."""
    ctypes.set_errno(0)
    passed = (ctypes.c_ulong(a) for a in (argument, second, 0, 0))
    return _checked(_LIBC.prctl(ctypes.c_int(option), *passed))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
