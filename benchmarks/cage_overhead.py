"""What the cage costs each job: `python benchmarks/cage_overhead.py [REPEATS]`.

Claim: less than 300 ms more than a bare child. From the start of the process to its first message, as the supervisor
hears it. A bare child is the same program behind the same pipe, not confined. They take turns; medians of the pairs.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from worker.cage.messages import OUT
from worker.cage.policy import policy
from worker.supervision.child import Child

BARE = (
    "import sys; from app.contract.confinement import Confinement; from worker.cage import child; "
    "child.Wire(int(sys.argv[1])).tell(child.Started())"
)


def bare(folder: Path) -> float:
    """Seconds to the first message of a child without a cage."""
    ours, theirs = os.pipe()
    began = time.perf_counter()
    command = [sys.executable, "-I", "-B", "-c", BARE, str(theirs)]
    with subprocess.Popen(command, cwd=folder, pass_fds=(theirs,), start_new_session=True):
        os.close(theirs)
        assert os.read(ours, 4096)
        taken = time.perf_counter() - began
    os.close(ours)
    return taken


def caged(folder: Path) -> float:
    """Seconds to the first message of a job's own child."""
    began = time.perf_counter()
    with Child(folder, policy((folder / OUT,), readable=(folder,)), grace_s=5) as child:
        assert next(message for message in child.messages() if message is not None)
        return time.perf_counter() - began


def main(repeats: int) -> None:
    """Print the table."""
    taken: dict[str, list[float]] = {"bare child": [], "caged child": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / OUT).mkdir()
        for _ in range(repeats):
            taken["bare child"].append(bare(folder))
            taken["caged child"].append(caged(folder))
    taken["the cage"] = [c - b for b, c in zip(taken["bare child"], taken["caged child"], strict=True)]
    print(f"{'':12} {'median':>8} {'least':>8} {'most':>8}   ms, {repeats} pairs")
    for what, seconds in taken.items():
        numbers = (statistics.median(seconds), min(seconds), max(seconds))
        print(f"{what:12} {' '.join(f'{1000 * number:8.0f}' for number in numbers)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
