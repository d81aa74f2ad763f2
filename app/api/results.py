"""What a job made: its report in four renderings, the model, the changes, and the evidence of it all."""

from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from app.api.ranges import base64_digest, wanted
from app.api.service import OpenService, Service, Tenant
from app.attestation import mlbom, signing, statement
from app.attestation.evidence import digest
from app.attestation.names import BUNDLE, MLBOM, STATEMENT, UNSIGNED
from app.contract.artifact import Artifact, ArtifactKind
from app.contract.job import Job, JobState
from app.contract.report import Report
from app.contract.result import RESULT, Result
from app.contract.screening import Screening
from app.errors import ConflictError, UnknownError
from app.ledger import jobs
from app.reports import as_json, html, markdown, sarif

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"])
REPORT_NAME = "report.json"
JSON, HTML, MARKDOWN, SARIF, PNG = (
    "application/json",
    "text/html; charset=utf-8",
    "text/markdown; charset=utf-8",
    "application/sarif+json",
    "image/png",
)


@router.get("/report", response_model=Result)
def get_report(job_id: str, service: OpenService, tenant: Tenant) -> Response:
    """The report: of a model, or of the inputs that were screened."""
    _, found = _read(service, tenant, job_id)
    return _shown(as_json.render(found), JSON)


@router.get("/report.html", response_class=Response)
def get_report_html(job_id: str, service: OpenService, tenant: Tenant) -> Response:
    """The report for people."""
    job, found = _read(service, tenant, job_id)
    if isinstance(found, Screening):
        page = html.render_screening(found, _sheet(service, tenant, job))
    else:
        page = html.render(found)
    return _shown(page, HTML)


@router.get("/report.md", response_class=Response)
def get_report_markdown(job_id: str, service: OpenService, tenant: Tenant) -> Response:
    """The report for a pull request."""
    _, found = _read(service, tenant, job_id)
    text = markdown.render_screening(found) if isinstance(found, Screening) else markdown.render(found)
    return _shown(text, MARKDOWN)


@router.get("/report.sarif", response_class=Response)
def get_report_sarif(job_id: str, service: OpenService, tenant: Tenant) -> Response:
    """The report for code scanning: SARIF 2.1.0. There is none of a screening, which accuses no model."""
    _, found = _of_a_model(service, tenant, job_id, "SARIF")
    return _shown(sarif.render(found), SARIF)


@router.get("/model", response_class=Response)
@router.head("/model", response_class=Response)
def get_model(job_id: str, request: Request, service: OpenService, tenant: Tenant) -> Response:
    """The model that is given back, in the format it came in."""
    return _download(request, service, tenant, job_id, ArtifactKind.REPAIRED_MODEL)


@router.get("/changes", response_class=Response)
@router.head("/changes", response_class=Response)
def get_changes(job_id: str, request: Request, service: OpenService, tenant: Tenant) -> Response:
    """The edits of the repair; `sanitizer apply` replays them."""
    return _download(request, service, tenant, job_id, ArtifactKind.CHANGES)


@router.get("/best-candidate", response_class=Response)
@router.head("/best-candidate", response_class=Response)
def get_best_candidate(job_id: str, request: Request, service: OpenService, tenant: Tenant) -> Response:
    """The least bad repair, where none passed; `sanitizer apply` makes it. It is no repair that we stand for."""
    return _download(request, service, tenant, job_id, ArtifactKind.BEST_CANDIDATE)


@router.get("/contact-sheet", response_class=Response)
@router.head("/contact-sheet", response_class=Response)
def get_contact_sheet(job_id: str, request: Request, service: OpenService, tenant: Tenant) -> Response:
    """The most suspicious inputs of a screening as one picture, row by row."""
    return _download(request, service, tenant, job_id, ArtifactKind.CONTACT_SHEET, PNG)


@router.get("/statement", response_class=Response)
def get_statement(job_id: str, service: OpenService, tenant: Tenant) -> Response:
    """What was done and measured: an in-toto Statement about the files that this job gives back. Not signed."""
    return _attached(_statement(service, tenant, job_id), STATEMENT, statement.MEDIA_TYPE)


@router.get("/statement.sigstore", response_class=Response)
def get_signed_statement(job_id: str, service: OpenService, tenant: Tenant) -> Response:
    """The statement as it is signed: DSSE in a Sigstore bundle, which `sanitizer verify` checks."""
    stated = _statement(service, tenant, job_id)
    if service.signing_key is None:
        raise ConflictError(
            "This service signs nothing.",
            code=UNSIGNED,
            remedy="Whoever runs the service names a key with SANITIZER_SIGNING_KEY.",
        )
    return _attached(signing.sign(stated, service.signing_key), BUNDLE, signing.MEDIA_TYPE)


@router.get("/mlbom", response_class=Response)
def get_mlbom(job_id: str, service: OpenService, tenant: Tenant) -> Response:
    """The bill of materials of the model that is given back: CycloneDX 1.6."""
    _, report = _of_a_model(service, tenant, job_id, "bill of materials")
    return _attached(mlbom.render(report), MLBOM, mlbom.MEDIA_TYPE)


def _statement(service: Service, tenant: str, job_id: str) -> bytes:
    """About the files as the ledger knows them, and the report as it is served: no digest is a child's word."""
    job, report = _of_a_model(service, tenant, job_id, "statement")
    files = {item.name: item.digest for item in job.outputs if item.kind is not ArtifactKind.REPORT}
    files[REPORT_NAME] = digest(as_json.render(report).encode())
    files[MLBOM] = digest(mlbom.render(report))
    inputs = [
        statement.Input.model_validate({"role": item.kind.value, "name": item.name, "digest": item.digest})
        for item in job.inputs
    ]
    return statement.state(report, files, inputs, job=job.id)


def _read(service: Service, tenant: str, job_id: str) -> tuple[Job, Report | Screening]:
    job, artifact = _output(service, tenant, job_id, ArtifactKind.REPORT)
    return job, RESULT.validate_json(_bytes(service, tenant, artifact))


def _of_a_model(service: Service, tenant: str, job_id: str, what: str) -> tuple[Job, Report]:
    """The report, where it is one of a model. Raises `UnknownError` where inputs were screened."""
    job, found = _read(service, tenant, job_id)
    if isinstance(found, Screening):
        raise UnknownError(
            f"Job {job_id} screened inputs and says nothing of its model: there is no {what} of it.",
            code="result.unknown",
            remedy=f"Use GET /v1/jobs/{job_id}/report, report.html, report.md or contact-sheet.",
        )
    return job, found


def _sheet(service: Service, tenant: str, job: Job) -> bytes:
    artifact = job.output(ArtifactKind.CONTACT_SHEET)
    return b"" if artifact is None else _bytes(service, tenant, artifact)


def _bytes(service: Service, tenant: str, artifact: Artifact) -> bytes:
    return b"".join(service.blobs.read(tenant, artifact.digest))


def _attached(data: bytes, name: str, media_type: str) -> Response:
    headers = {"Cache-Control": "private, no-store", "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, 200, headers, media_type)


def _shown(text: str, media_type: str) -> Response:
    headers = {"Cache-Control": "private, no-store"}
    if media_type == HTML:
        headers["Content-Security-Policy"] = f"{html.CONTENT_SECURITY_POLICY}; img-src data:; sandbox"
    return Response(text, 200, headers, media_type)


def _download(
    request: Request,
    service: Service,
    tenant: str,
    job_id: str,
    kind: ArtifactKind,
    media_type: str = "application/octet-stream",
) -> Response:
    job, artifact = _output(service, tenant, job_id, kind)
    tag = f'"{artifact.digest}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-store",
        "Content-Disposition": f'attachment; filename="{quote(artifact.name or job.id)}"',
        "ETag": tag,
        "Repr-Digest": f"sha-256=:{base64_digest(artifact.digest)}:",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    part = wanted(request.headers, tag, artifact.size)
    headers["Content-Length"] = str(part.end - part.start)
    if part.partial:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{artifact.size}"
    status = 206 if part.partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    pieces = service.blobs.read(tenant, artifact.digest, part.start, part.end)
    return StreamingResponse(pieces, status, headers, media_type)


def _output(service: Service, tenant: str, job_id: str, kind: ArtifactKind) -> tuple[Job, Artifact]:
    with service.database.read() as tx:
        job = jobs.present(tx, tenant, job_id)
    artifact = job.output(kind)
    if artifact is not None:
        return job, artifact
    if job.state is JobState.SUCCEEDED:
        raise ConflictError(f"Job {job_id} left no {kind.value}.", code="job.no_output")
    raise ConflictError(
        f"Job {job_id} is {job.state.value}: there is no {kind.value} of it.",
        code="job.not_succeeded",
        remedy=f"Look at GET /v1/jobs/{job_id} for what became of it.",
    )
