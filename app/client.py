"""The service from the other side: upload, submit, wait, download. What a pipeline needs, and no tensor."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

from app import outputs
from app.attestation.names import BUNDLE, UNSIGNED
from app.attestation.names import FILES as EVIDENCE
from app.contract.artifact import Artifact, ArtifactKind, file_name
from app.contract.job import Job, JobKind, JobState
from app.contract.problem import Problem
from app.contract.report import Report
from app.contract.result import RESULT
from app.contract.screening import Screening
from app.errors import ClientError, OutputError, ServiceError

WAIT_S = 25  # of one long poll
TIMEOUT = httpx2.Timeout(60, read=300)  # an upload is only answered when the disk has it
OF_A_MODEL = {
    "report.json": "report",
    "report.html": "report.html",
    "mlbom.json": "mlbom",
    "statement.json": "statement",
}
SIGNED = {BUNDLE: "statement.sigstore"}
FILES = {  # that have their names from the job
    ArtifactKind.REPAIRED_MODEL: "model",
    ArtifactKind.BEST_CANDIDATE: "best-candidate",
    ArtifactKind.CONTACT_SHEET: "contact-sheet",
}


@dataclass(frozen=True)
class Results:
    """The files of a kind of job, under the names of the offline commands."""

    always: Mapping[str, str]  # file: where it is had
    sometimes: tuple[str, ...]  # where a job has none, what lies there is an earlier one's
    signed: Mapping[str, str] = field(default_factory=dict)  # as `always`, of a service that signs
    orphans: tuple[str, ...] = ()  # of another kind of job, which would lose their report

    @property
    def names(self) -> tuple[str, ...]:
        """Of all files but the model."""
        return (*self.always, *self.sometimes)


RESULTS = {
    JobKind.SANITIZE: Results(
        {**OF_A_MODEL, "changes.json": "changes"}, ("best-candidate.json", *EVIDENCE), SIGNED
    ),
    JobKind.DETECT: Results(OF_A_MODEL, EVIDENCE, SIGNED, orphans=("changes.json",)),
    JobKind.SCREEN: Results({"screening.json": "report", "screening.html": "report.html"}, ("suspects.png",)),
}


def check_out(out: Path, kind: JobKind, inputs: Mapping[ArtifactKind, Path]) -> None:
    """Refuse, before anything is uploaded, a folder that `Client.download` could not or must not write to.

    Raises `OptionsError` (options.out), `OutputError`; leaves `out` as it was.
    """
    names = RESULTS[kind].names
    if kind is JobKind.SANITIZE:  # the model comes back under the name that the service knows it by
        names += (file_name(inputs[ArtifactKind.MODEL].name) or ArtifactKind.MODEL.value,)
    outputs.check(out, names, inputs.values(), RESULTS[kind].orphans)


class Client:
    """One service, and one tenant's key to it. Every call may raise `ClientError` and `ServiceError`."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=TIMEOUT)

    def upload(self, kind: ArtifactKind, path: Path) -> Artifact:
        """Stream a file to the store."""
        if not path.is_file():
            raise ClientError(
                f"{str(path)!r} is no file.",
                code="client.file",
                remedy="Name a file; pack a folder as a zip.",
            )
        with path.open("rb") as file:
            query = {"kind": kind.value, "name": file_name(path.name)}
            return Artifact.model_validate(self._json("PUT", "/v1/artifacts", params=query, content=file))

    def submit(
        self, kind: JobKind, inputs: Mapping[ArtifactKind, Artifact], options: Mapping[str, Any]
    ) -> Job:
        """Queue a job; a request that is sent twice by a broken connection makes one."""
        named = {kind.value: {"digest": item.digest, "name": item.name} for kind, item in inputs.items()}
        body = {"kind": kind.value, "inputs": named, "options": options}
        headers = {"Idempotency-Key": uuid4().hex}
        return Job.model_validate(self._json("POST", "/v1/jobs", json=body, headers=headers))

    def wait(self, job_id: str, told: Callable[[Job], None]) -> Job:
        """The job in its last state; `told` hears of every answer. Raises the job's own problem when it failed."""
        while True:
            job = Job.model_validate(self._json("GET", f"/v1/jobs/{job_id}", params={"wait": WAIT_S}))
            told(job)
            if job.state.is_terminal:
                break
        if job.state is JobState.SUCCEEDED:
            return job
        problem = job.problem or Problem(
            code=f"job.{job.state.value}",
            detail=f"Job {job_id} is {job.state.value}.",
            remedy="Submit it again.",
        )
        raise ServiceError(problem.detail, code=problem.code, remedy=problem.remedy)

    def report(self, job_id: str) -> Report | Screening:
        """What the job found."""
        return RESULT.validate_python(self._json("GET", f"/v1/jobs/{job_id}/report"))

    def download(self, job: Job, out: Path) -> None:
        """Everything that the job left, into a folder once all of it is here; what an earlier job left there goes.

        Raises `OutputError` too, and `OptionsError` (options.out) where the suspect itself lies in the way.
        """
        results = RESULTS[job.kind]
        made = {output.name: FILES[output.kind] for output in job.outputs if output.kind in FILES}
        try:
            outputs.check(out, (*results.names, *made), _suspects(job, out), results.orphans)
            with outputs.written(out, stale=results.names) as partial:
                for name, path in {**results.always, **made}.items():
                    self._save(f"/v1/jobs/{job.id}/{path}", partial / name)
                for name, path in results.signed.items():
                    with _where_signed():
                        self._save(f"/v1/jobs/{job.id}/{path}", partial / name)
        except OutputError as error:
            raise OutputError(
                error.detail,
                code=error.code,
                remedy="The service has the results still. Free some space or name another folder: "
                f"sanitizer watch {job.id} --out FOLDER",
            ) from error

    def _save(self, path: str, target: Path) -> None:
        with _reached(), self.http.stream("GET", path) as answer:
            if answer.is_error:
                answer.read()
                raise _refused(answer)
            with target.open("wb") as file:
                for piece in answer.iter_bytes():
                    file.write(piece)

    def _json(self, method: str, path: str, **how: Any) -> Any:  # noqa: ANN401 - whatever the service says
        with _reached():
            answer = self.http.request(method, path, **how)
        if answer.is_error:
            raise _refused(answer)
        return answer.json()


def _suspects(job: Job, out: Path) -> list[Path]:
    """Files in the way of what is given back that are what was submitted, where that is something else now."""
    before = {given.digest for given in job.inputs if given.kind is ArtifactKind.MODEL}
    after = [made for made in job.outputs if made.kind is ArtifactKind.REPAIRED_MODEL]
    targets = [out / made.name for made in after if made.digest not in before]
    return [target for target in targets if target.is_file() and _digest(target) in before]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@contextmanager
def _where_signed() -> Iterator[None]:
    try:
        yield
    except ServiceError as error:
        if error.code != UNSIGNED:
            raise


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except httpx2.TransportError as error:
        raise ClientError(
            f"The service cannot be reached: {error}.",
            code="client.unreachable",
            remedy="Check --url and whether the service runs. A queued job goes on: sanitizer watch ID.",
        ) from error


def _refused(answer: httpx2.Response) -> ServiceError:
    try:
        problem = Problem.model_validate_json(answer.content, extra="ignore")
    except ValueError:
        return ServiceError(f"The service answered {answer.status_code}.", code="client.answer")
    return ServiceError(problem.detail, code=problem.code, remedy=problem.remedy)
