"""What many tests share: the examples, and one full run of the command on the backdoored one."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
BACKDOORED = EXAMPLES / "backdoored-resnet18.safetensors"
CLEAN_TWIN = EXAMPLES / "clean-resnet18.safetensors"
SAMPLES = EXAMPLES / "clean-500.zip"
TRIGGERED = EXAMPLES / "triggered-200.npz"


@dataclass(frozen=True)
class Run:
    """One finished command line."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return report


def sanitizer(arguments: Sequence[object], folder: Path) -> Run:
    """The real command in a process of its own."""
    command = [str(Path(sys.executable).parent / "sanitizer"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Run(done.returncode, done.stdout, done.stderr, folder)


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The backdoored example, with triggered samples for the evaluation; minutes, so once for all tests."""
    out = tmp_path_factory.mktemp("sanitized")
    return sanitizer(
        ["sanitize", BACKDOORED, "--samples", SAMPLES, "--triggered", TRIGGERED, "--out", out, "--json"], out
    )


@pytest.fixture(scope="session")
def cleared(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The clean twin of the example."""
    out = tmp_path_factory.mktemp("cleared")
    return sanitizer(["sanitize", CLEAN_TWIN, "--samples", SAMPLES, "--out", out], out)


@pytest.fixture
def sanitizer_command(tmp_path: Path) -> Callable[[Sequence[object]], Run]:
    """Run any command line."""
    return lambda arguments: sanitizer(arguments, tmp_path)
