"""`python -m tests.fuzz.run [SECONDS [TARGET…]]`: every target under atheris, and a table of executions.

What fails is left in out/fuzz/, and the exit code is 1.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path("out/fuzz").absolute()
MOST_MEMORY = 4096  # MiB


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Run one target until its time is over; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["app", "worker"]):
        from tests.fuzz.targets import TARGETS, seeds

    for number, data in enumerate(seeds(name)):
        (folder / str(number)).write_bytes(data)
    limits = (f"-max_total_time={seconds}", f"-rss_limit_mb={MOST_MEMORY}", "-timeout=20", "-max_len=8192")
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={OUT}/{name}-", str(folder)], TARGETS[name])
    atheris.Fuzz()


def main(seconds: int, names: list[str]) -> int:
    """Every target, or those that are named, each in a process of its own."""
    from tests.fuzz.targets import TARGETS

    OUT.mkdir(parents=True, exist_ok=True)
    failed = 0
    print(f"{'target':10} {'executions':>12} {'seconds':>8}  result")
    for name in names or TARGETS:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            command = [sys.executable, "-m", "tests.fuzz.run", "--one", name, str(seconds), folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        runs = re.search(r"Done (\d+) (?:runs )?in (\d+)", done.stderr)
        executions, took = runs.groups() if runs else ("?", "?")
        print(
            f"{name:10} {executions:>12} {took:>8}  {'held' if done.returncode == 0 else 'FAILED'}",
            flush=True,
        )
        if done.returncode:
            failed += 1
            log = (
                done.stdout + done.stderr
            )  # atheris prints what was raised on the one, libFuzzer on the other
            (OUT / f"{name}.log").write_text(log)
            print(re.sub(r"(?m)^(#|INFO: |WARNING: ).*\n", "", log)[-3000:], file=sys.stderr)
    return min(failed, 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 60, sys.argv[2:]))
