"""`sanitizer submit` and `watch` against a running service, as a pipeline calls them."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.client import Client
from app.contract.job import Job
from app.errors import OptionsError
from tests.conftest import BACKDOORED as MODEL
from tests.conftest import SAMPLES, free_port
from tests.service.conftest import QUICK, Server, few_samples
from tests.service.test_discovery import REFUSED

COMMAND = Path(sys.executable).parent / "sanitizer"
UNSIGNED = {"report.json", "report.html", "mlbom.json", "statement.json"}
OF_A_REPORT = UNSIGNED | {"statement.sigstore.json"}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "few.npz"
    path.write_bytes(few_samples())
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_job_is_submitted_waited_for_and_fetched(server: Server, samples: Path, tmp_path: Path) -> None:
    """Into the folder of an earlier run, of which nothing stays that would speak of other files."""
    out = tmp_path / "out"
    out.mkdir()
    for old in ("best-candidate.json", "model.sig", "statement.json", "notes.txt"):
        (out / old).write_text("old")
    done = run(
        "submit", MODEL, "--samples", samples, "--url", server.url, "--options", QUICK, "--out", out, "--json"
    )
    assert done.returncode == 5, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["verdict"]["label"] == "inconclusive"
    assert json.loads((out / "report.json").read_text()) == report
    assert (out / MODEL.name).read_bytes() == MODEL.read_bytes()
    assert names(out) == OF_A_REPORT | {MODEL.name, "changes.json", "notes.txt"}
    assert run("verify", out).returncode == 0, "what was fetched is what is attested"
    first = done.stderr.split()[0]
    again = run("watch", first, "--url", server.url)
    assert again.returncode == 5
    assert again.stdout.startswith("Inconclusive")
    (out / "report.html").unlink()
    (out / "report.html").mkdir()
    before = {path: path.stat() for path in out.iterdir()}
    refused = run("watch", first, "--url", server.url, "--out", out)
    assert "output.unwritable" in refused.stderr, refused.stderr
    assert f"sanitizer watch {first} --out" in refused.stderr, "the job need not run again"
    assert {path: path.stat() for path in out.iterdir()} == before


def test_the_best_candidate_of_a_refused_repair_is_fetched_too(server: Server, tmp_path: Path) -> None:
    """Of all the samples: of few images nothing accuses but a perturbation, which one step does not find."""
    out, options = tmp_path / "out", json.dumps(REFUSED)
    done = run("submit", MODEL, "--samples", SAMPLES, "--url", server.url, "--options", options, "--out", out)
    assert done.returncode == 1, done.stderr
    assert names(out) == OF_A_REPORT | {MODEL.name, "changes.json", "best-candidate.json"}
    verified = run("verify", out)
    assert verified.returncode == 0, verified.stdout
    assert "intact      best-candidate.json" in verified.stdout


def test_the_suspect_is_not_replaced_by_what_came_of_it(
    server: Server, samples: Path, tmp_path: Path
) -> None:
    """By `watch`, who knows of it only what the job says; what came back as it was replaces nothing."""
    given = ("--samples", samples, "--url", server.url, "--options", QUICK)
    job = run("submit", MODEL, *given).stderr.split()[0]
    shutil.copy(MODEL, tmp_path / MODEL.name)
    assert run("watch", job, "--url", server.url, "--out", tmp_path).returncode == 5
    edited = Job.model_validate(httpx2.get(f"{server.url}/v1/jobs/{job}").json())
    outputs = tuple(
        made.model_copy(update={"digest": "sha256:" + 64 * "0"}) if made.name == MODEL.name else made
        for made in edited.outputs
    )
    with pytest.raises(OptionsError) as refused:
        Client(server.url).download(edited.model_copy(update={"outputs": outputs}), tmp_path)
    assert refused.value.code == "options.out"
    assert (tmp_path / MODEL.name).read_bytes() == MODEL.read_bytes()


def test_who_stops_waiting_is_told_that_the_job_goes_on(server: Server, samples: Path) -> None:
    def from_a_terminal() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [COMMAND, "submit", MODEL, "--samples", samples, "--url", server.url, "--options", QUICK]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=from_a_terminal) as waiting:
        assert waiting.stderr is not None
        job = waiting.stderr.readline().split()[0]
        waiting.send_signal(signal.SIGINT)
        rest = waiting.stderr.read()
    assert waiting.returncode == 130, rest
    assert "client.interrupted" in rest
    assert f"sanitizer watch {job}" in rest
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        assert server.ended(client, job)["state"] == "succeeded"


def test_of_a_service_without_a_key_nothing_signed_is_fetched(
    own_server: Server, samples: Path, tmp_path: Path
) -> None:
    url, out = own_server.start().url, tmp_path / "out"
    done = run(
        "submit",
        MODEL,
        "--samples",
        samples,
        "--url",
        url,
        "--kind",
        "detect",
        "--options",
        QUICK,
        "--out",
        out,
    )
    assert done.returncode == 5, done.stderr
    assert names(out) == UNSIGNED


def test_a_report_alone_does_not_replace_that_of_a_repair(
    server: Server, samples: Path, tmp_path: Path
) -> None:
    given = ("submit", MODEL, "--samples", samples, "--kind", "detect", "--options", QUICK)
    done = run(*given, "--url", server.url)
    assert done.returncode == 5, done.stderr
    for name in ("changes.json", "report.json"):
        (tmp_path / name).write_text("of a repair")
    watched = run("watch", done.stderr.split()[0], "--url", server.url, "--out", tmp_path)
    unasked = run(*given, "--url", f"http://127.0.0.1:{free_port()}", "--out", tmp_path)
    for refused in (watched, unasked):
        assert "output.exists" in refused.stderr, refused.stderr
    assert (tmp_path / "report.json").read_text() == "of a repair"


@pytest.mark.parametrize(
    ("kind", "model", "given", "code"),
    [
        ("sanitize", "suspect.pt", "few.npz", "options.out"),
        ("sanitize", "...", "model", "options.out"),  # the model of no name comes back as this
        ("sanitize", "a suspect.pt", "few.npz", "client.unreachable"),  # it comes back as a_suspect.pt
        ("sanitize", "a suspect.pt", "a_suspect.pt", "options.out"),
        ("detect", "suspect.pt", "few.npz", "client.unreachable"),  # it does not come back
        ("detect", "suspect.pt", "statement.json", "options.out"),
        ("sanitize", "elsewhere/suspect.pt", "best-candidate.json", "options.out"),
        ("screen", "suspect.pt", "suspects.png", "options.out"),
    ],
)
def test_no_input_is_overwritten_and_nothing_uploaded_before_that_is_known(
    tmp_path: Path, kind: str, model: str, given: str, code: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in (model, given):
        (tmp_path / name).write_text("mine")
    images = ("--suspects", tmp_path / given) if kind == "screen" else ()
    where = ("--url", f"http://127.0.0.1:{free_port()}", "--out", tmp_path)
    done = run("submit", tmp_path / model, "--samples", tmp_path / given, "--kind", kind, *images, *where)
    assert f"[{code}]" in done.stderr, done.stderr
    assert (tmp_path / model).read_text() == (tmp_path / given).read_text() == "mine"


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
