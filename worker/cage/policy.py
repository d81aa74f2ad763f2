"""What a confined process may do, as data: the CPU policy and the CUDA policy.

The paths are those of this installation; everything else is the same on every machine.
"""

import os
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field

from app.contract.confinement import Level
from app.contract.frozen import Frozen

GIB = 1 << 30
# What torch, OpenMP and the C library read to learn how many processors and how much memory there are.
MACHINE = (
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/dev/urandom",
)
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
CUDA_READS = (
    "/proc/driver/nvidia",
    "/proc/devices",
    "/sys/bus/pci",
    "/sys/devices",
    "/sys/module/nvidia",
    "/usr/local/cuda",
    "/run/nvidia-persistenced",
    "/usr/share/nvidia",
)
CUDA_WRITES = ("/proc/self/task",)  # the driver names its threads; without it cuInit fails with error 304
CUDA_DEVICES = ("nvidia*", "nvidia-caps/*")  # below /dev


class Limits(Frozen):
    """What one confined process may use up."""

    memory_bytes: int = Field(
        default_factory=lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 4 // 5, gt=0
    )
    file_bytes: int = Field(8 * GIB, gt=0, description="of one file")
    folder_bytes: int = Field(24 * GIB, gt=0, description="of all files in its folder")
    open_files: int = Field(256, ge=16)
    output_bytes: int = Field(1 << 20, gt=0, description="of what it prints")
    wall_s: float = Field(4 * 3600, gt=0)
    cpu_s: int | None = Field(None, gt=0, description="of all its threads together")


class Policy(Frozen):
    """The cage of one process."""

    required: Level = Level.FULL
    limits: Limits = Limits()
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = (Path("/dev/null"),)
    address_space: bool = Field(
        default=True, description="bound it; CUDA reserves more of it than there is memory"
    )
    memfd: bool = Field(default=False, description="files in memory; cuInit needs them")
    unix_sockets: bool = Field(default=False, description="CUDA's services on the same machine")


def policy(
    writable: tuple[Path, ...],
    device: Literal["cpu", "cuda"] = "cpu",
    *,
    readable: tuple[Path, ...] = (),
    limits: Limits | None = None,
    required: Level = Level.FULL,
) -> Policy:
    """The policy of a process that works in `writable`, and beside its code may read `readable`."""
    cuda = device == "cuda"
    devices = tuple(found for pattern in CUDA_DEVICES for found in Path("/dev").glob(pattern)) if cuda else ()
    return Policy(
        required=required,
        limits=limits or Limits(),
        readable=(*_code(), *map(Path, MACHINE), *(map(Path, CUDA_READS) if cuda else ()), *readable),
        writable=(*writable, *(map(Path, CUDA_WRITES) if cuda else ())),
        devices=(Path("/dev/null"), *devices),
        address_space=not cuda,
        memfd=cuda,
        unix_sockets=cuda,
    )


def _code() -> tuple[Path, ...]:
    """The folders of Python, of what is installed for it, of ours and of the system's libraries."""
    named = sysconfig.get_paths()
    installed = [Path(named[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed += [Path(sys.prefix, "pyvenv.cfg"), Path(sys.base_prefix, "lib")]
    ours = [Path(place) for name in ("app", "worker") for place in _places(name)]
    linked = [Path(place) for place in os.environ.get("LD_LIBRARY_PATH", "").split(":") if place]
    system = [Path(place) for place in LIBRARIES]
    return tuple(dict.fromkeys(path.resolve() for path in (*installed, *ours, *linked, *system)))


def _places(name: str) -> list[str]:
    spec = find_spec(name)
    return list(spec.submodule_search_locations or ()) if spec else []
