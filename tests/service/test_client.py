"""`sanitizer submit` and `watch` against a running service, as a pipeline calls them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BACKDOORED as MODEL
from tests.conftest import free_port
from tests.service.conftest import QUICK, Server, few_samples

COMMAND = Path(sys.executable).parent / "sanitizer"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "few.npz"
    path.write_bytes(few_samples())
    return path


def test_a_job_is_submitted_waited_for_and_fetched(server: Server, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(
        "submit", MODEL, "--samples", samples, "--url", server.url, "--options", QUICK, "--out", out, "--json"
    )
    assert done.returncode == 5, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["verdict"]["label"] == "inconclusive"
    assert json.loads((out / "report.json").read_text()) == report
    assert (out / MODEL.name).read_bytes() == MODEL.read_bytes()
    assert run("verify", out).returncode == 0, "what was fetched is what is attested"
    first = done.stderr.split()[0]
    again = run("watch", first, "--url", server.url)
    assert again.returncode == 5
    assert again.stdout.startswith("Inconclusive")


def test_the_problem_of_a_job_is_the_problem_of_the_command(
    server: Server, samples: Path, tmp_path: Path
) -> None:
    model = tmp_path / "evil.pt"
    model.write_bytes(b"\x80\x04N.")
    done = run("submit", model, "--samples", samples, "--url", server.url)
    assert done.returncode == 2
    assert "model.unsupported_format" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_takes_nothing_is_said_before_the_service_is_asked() -> None:
    done = run("watch", "any", "--url", f"http://127.0.0.1:{free_port()}", "--out", __file__)
    assert "output.unwritable" in done.stderr, done.stderr
    assert "client.unreachable" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--url", "http://127.0.0.1:{free}"), "client.unreachable"),
        (("--options", "{{"), "options.invalid"),
        (("--options", '{{"seed": -1}}'), "request.invalid"),
        (("--samples", "nowhere.zip"), "client.file"),
        (("--out", __file__), "output.unwritable"),
        (("--out", "/proc/results"), "output.unwritable"),
    ],
)
def test_what_cannot_be_submitted_is_a_problem(
    server: Server, samples: Path, arguments: tuple[str, str], code: str
) -> None:
    filled = [argument.format(free=free_port()) for argument in arguments]
    done = run("submit", MODEL, "--samples", samples, "--url", server.url, *filled)
    assert done.returncode in (2, 3, 4)
    assert code in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
