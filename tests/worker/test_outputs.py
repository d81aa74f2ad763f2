"""What a child left is stored only where it speaks of the job's own inputs, and where it is not too large."""

import hashlib
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.blobs.choose import open_blobs
from app.contract.artifact import Artifact, ArtifactKind
from app.contract.job import Job, JobKind
from app.contract.report import Report
from app.contract.screening import Screening
from app.errors import InputError, SanitizerError
from app.reports import as_json
from app.settings import Settings
from tests.app.conftest import build as report
from tests.app.reports.test_screening import build as screening
from worker.cage.messages import OUT
from worker.supervision import outputs as limits
from worker.supervision.outputs import CHANGES, LARGEST_SHEET, REPORT, SCREENING, SHEET, collected

OTHER = f"sha256:{'9' * 64}"


def job(found: Screening) -> Job:
    digests = {
        ArtifactKind.MODEL: found.model.digest,
        ArtifactKind.SAMPLES: found.samples.digest,
        ArtifactKind.SUSPECTS: found.suspects.digest,
    }
    inputs = tuple(Artifact(digest=digest, size=10, kind=kind) for kind, digest in digests.items())
    return Job(id="job_1", kind=JobKind.SCREEN, inputs=inputs, created_at=datetime.now(UTC))


def stored(folder: Path, left: Screening | Report, sheet: bytes | None = None) -> set[ArtifactKind]:
    """The kinds of what is stored; the job is one about `screening(report())`."""
    (folder / OUT).mkdir()
    (folder / OUT / SCREENING).write_text(as_json.render(left))
    if sheet is not None:
        (folder / OUT / SHEET).write_bytes(sheet)
    blobs = open_blobs(Settings(home=folder / "home"))
    with collected(folder, job(screening(report())), blobs) as outputs:
        assert (outputs.verdict, outputs.outcome) == (None, None)
        return {artifact.kind for artifact, _ in outputs.staged}


def test_a_screening_is_stored_with_its_sheet_where_there_is_one(tmp_path: Path) -> None:
    for number, sheet in enumerate((b"png", None)):
        folder = tmp_path / str(number)
        folder.mkdir()
        expected = {ArtifactKind.REPORT} | ({ArtifactKind.CONTACT_SHEET} if sheet else set())
        assert stored(folder, screening(report()), sheet) == expected


@pytest.mark.parametrize("lie", ["another model", "other inputs", "another kind", "a sheet without end"])
def test_what_is_about_something_else_is_not_given_back(tmp_path: Path, lie: str) -> None:
    true = screening(report())
    sheet = b"x" * (LARGEST_SHEET + 1) if lie == "a sheet without end" else None
    left = {
        "another model": true.model_copy(update={"model": true.model.model_copy(update={"digest": OTHER})}),
        "other inputs": true.model_copy(
            update={"suspects": true.suspects.model_copy(update={"digest": OTHER})}
        ),
        "another kind": report(),
        "a sheet without end": true,
    }[lie]
    with pytest.raises(InputError):
        stored(tmp_path, left, sheet)


@pytest.mark.parametrize(("size", "fits"), [(20, True), (21, False)])
def test_changes_may_be_larger_than_a_text_by_what_a_rewritten_model_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, *, fits: bool
) -> None:
    """Twice the ten bytes of the model."""
    model = b"ten bytes!"
    digest = f"sha256:{hashlib.sha256(model).hexdigest()}"
    left = as_json.render(report().model_copy(update={"result_digest": digest}))
    monkeypatch.setattr(limits, "LARGEST_TEXT", len(left))
    inputs = (Artifact(digest=report().model.digest, size=len(model), kind=ArtifactKind.MODEL, name="m.pt"),)
    (tmp_path / OUT).mkdir()
    (tmp_path / OUT / "m.pt").write_bytes(model)
    (tmp_path / OUT / REPORT).write_text(left)
    (tmp_path / OUT / CHANGES).write_bytes(b" " * (len(left) + size))
    asked = Job(id="job_1", kind=JobKind.SANITIZE, inputs=inputs, created_at=datetime.now(UTC))
    blobs = open_blobs(Settings(home=tmp_path / "home"))
    expected = nullcontext() if fits else pytest.raises(SanitizerError)
    with expected, collected(tmp_path, asked, blobs) as outputs:
        kinds = {item.kind for item, _ in outputs.staged}
        assert kinds == {ArtifactKind.REPORT, ArtifactKind.REPAIRED_MODEL, ArtifactKind.CHANGES}
