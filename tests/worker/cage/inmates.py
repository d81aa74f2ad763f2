"""What the tests let loose in a cage: `main` calls the function that the first argument names."""

import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from app.contract.confinement import Confinement, LayerName
from worker.cage import kernel
from worker.cage.attempts import attempts
from worker.cage.policy import Policy
from worker.cage.syscalls import DENIED


def main(confinement: Confinement) -> int:
    deed: Callable[[Confinement], object] = globals()[sys.argv[1]]
    print(json.dumps(deed(confinement)))
    return 0


def surroundings(confinement: Confinement) -> dict[str, object]:
    return {
        "level": confinement.level,
        "environment": dict(os.environ),
        "descriptors": sorted(int(path.name) for path in Path("/proc/self/fd").iterdir())[:-1],
        "folder": str(Path.cwd()),
        "session": os.getsid(0) == os.getpid(),
        "user": os.getuid(),
        "status": {
            name: value.strip()
            for name, _, value in (
                line.partition(":") for line in Path("/proc/self/status").read_text().splitlines()
            )
            if name in {"CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp"}
        },
        "torch": "torch" in sys.modules,
    }


def every_denied_call(_: Confinement) -> dict[str, int]:
    """The answer of the kernel to each of them, with arguments that mean nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    answers = {}
    for name, numbers in DENIED.items():
        if (number := getattr(numbers, kernel.MACHINE)) is not None:
            ctypes.set_errno(0)
            libc.syscall(ctypes.c_long(number), *(ctypes.c_long(-1),) * 5)
            answers[name] = ctypes.get_errno()
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(463))
    answers["a call of a newer kernel"] = ctypes.get_errno()
    return answers


def tamper(_: Confinement) -> dict[str, str]:
    """With what the job was given, and with what it makes."""
    return {name: _written(Path(name, "file")) for name in ("in", "out")}


def _written(path: Path) -> str:
    try:
        path.write_text("ours")
    except OSError as error:
        return type(error).__name__
    return path.read_text()


def a_thread_is_no_way_out(_: Confinement) -> list[str]:
    refused = []

    def try_it() -> None:
        for path in ("/etc/passwd", f"/proc/{os.getppid()}/environ"):
            try:
                Path(path).read_bytes()
            except PermissionError:
                refused.append(path)

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return refused


def arithmetic(_: Confinement) -> dict[str, object]:
    import torch

    torch.set_num_threads(2)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.BatchNorm2d(32), torch.nn.ReLU())
    loss = net(torch.rand(64, 3, 64, 64)).square().mean()
    loss.backward()
    torch.save(net.state_dict(), "weights.pt")
    state = torch.load("weights.pt", weights_only=True)
    return {
        "loss": loss.item(),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "saved": len(state),
        "files": [path.name for path in Path().iterdir()],
    }


def sleep(_: Confinement) -> None:
    print(os.getpid(), flush=True)
    time.sleep(600)


def eat_memory(_: Confinement) -> int:
    eaten = []
    try:
        while len(eaten) < 10_000:
            eaten.append(bytes(8 << 20))
    except MemoryError:
        return len(eaten)
    return -1


def share_memory(_: Confinement) -> None:
    """Shared memory is not counted by the kernel's limit; the watch sees it."""
    import mmap

    shared = mmap.mmap(-1, 512 << 20)
    for at in range(0, len(shared), mmap.PAGESIZE):
        shared[at] = 1
    time.sleep(600)


def fill_the_folder(_: Confinement) -> None:
    for number in range(100_000):
        Path(f"{number}").write_bytes(bytes(1 << 20))


def one_large_file(_: Confinement) -> str:
    try:
        Path("large").write_bytes(bytes(3 << 20))
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "written"


def print_for_ever(_: Confinement) -> None:
    while True:
        print("x" * 4096)


def spin(_: Confinement) -> None:
    while True:
        pass


def crash(_: Confinement) -> None:
    ctypes.string_at(0)


def children(_: Confinement) -> list[str]:
    failed = []
    for name, deed in {
        "fork": os.fork,
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "dropped program": _dropped_program,
    }.items():
        try:
            deed()
        except PermissionError:
            failed.append(name)
    return failed


def _dropped_program() -> None:
    Path("program").write_bytes(Path(sys.executable).resolve().read_bytes()[:4096])
    os.execv("program", ["program"])


def attempts_outside(_: Confinement | None = None) -> dict[str, bool]:
    """Outside any cage: whether each attempt would count as denied. One process each, for some change it."""
    policy = Policy(writable=(Path.cwd(),))
    found = {}
    for layer in (LayerName.PRIVILEGES, LayerName.FILES, LayerName.SYSTEM_CALLS):
        for attempt in attempts(layer, policy):
            child = os.fork()
            if child == 0:
                os._exit(attempt.denied())
            found[attempt.what] = bool(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return found


if __name__ == "__main__":
    print(json.dumps(attempts_outside()))
