"""The examples of the OpenAPI document: values of the contract, so that they cannot be wrong, and tests send them."""

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from app.api.capabilities import Published
from app.api.health import Health
from app.api.jobs import Page, Rerun
from app.api.problems import HttpProblem
from app.contract.artifact import Artifact, ArtifactKind, Named
from app.contract.capabilities import CAPABILITIES, Capabilities
from app.contract.job import Inputs, Job, JobKind, JobRequest, JobState, Stage
from app.contract.limits import InputLimits
from app.contract.options import SanitizeOptions
from app.contract.tenant import NEWCOMER, TenantUsage
from app.contract.upload import Part, Upload, UploadRequest
from app.settings import Clocks, Limits

WHEN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
FILE = "hello, model"
DIGEST = "sha256:01a783403405becdf49dc099415fdbdab1eb5f2980d47a46ce59909d0a6fcffe"  # of FILE
JOB_ID, UPLOAD_ID = f"job_{'0' * 31}1", f"up_{'0' * 31}1"
MODEL = Artifact(digest=DIGEST, size=len(FILE), kind=ArtifactKind.MODEL, name="model.safetensors")
SAMPLES = MODEL.model_copy(update={"kind": ArtifactKind.SAMPLES, "name": "clean.zip"})
OPTIONS = SanitizeOptions(seed=1)
JOB = Job(
    id=JOB_ID,
    kind=JobKind.SANITIZE,
    state=JobState.RUNNING,
    options=OPTIONS,
    inputs=(MODEL, SAMPLES),
    stage=Stage.PERTURB,
    fraction=0.4,
    eta_s=90,
    attempt=1,
    created_at=WHEN,
    started_at=WHEN,
)
PART = Part(number=1, size=len(FILE), digest=DIGEST)
ASKED = JobRequest(
    inputs=Inputs(
        model=Named(digest=DIGEST, name="model.safetensors"), samples=Named(digest=DIGEST, name="clean.zip")
    ),
    options=OPTIONS,
)
UPLOAD = UploadRequest(kind=ArtifactKind.MODEL, digest=DIGEST, size=len(FILE), name="model.safetensors")
CLOCKS = Clocks()

PARAMETERS: dict[str, Any] = {
    "job_id": JOB_ID,
    "upload_id": UPLOAD_ID,
    "number": 1,
    "page_size": 20,
    "state": JobState.SUCCEEDED.value,
    "wait": 25,
    "Last-Event-ID": "0",
    "kind": ArtifactKind.MODEL.value,
    "name": MODEL.name,
    "digest": DIGEST,
}
BODIES: dict[tuple[str, str], Any] = {
    ("/v1/jobs", "multipart/form-data"): {"model": FILE, "samples": FILE, "options": '{"seed": 1}'},
    ("/v1/jobs", "application/json"): ASKED,
    ("/v1/jobs/{job_id}:rerun", "application/json"): Rerun(options=OPTIONS),
    ("/v1/artifacts", "application/octet-stream"): FILE,
    ("/v1/uploads", "application/json"): UPLOAD,
    ("/v1/uploads/{upload_id}/parts/{number}", "application/octet-stream"): FILE,
}
ANSWERS: dict[str, BaseModel] = {
    Job.__name__: JOB,
    Page.__name__: Page(jobs=(JOB,), next_page_token=None),
    Artifact.__name__: MODEL,
    Upload.__name__: Upload(**dict(UPLOAD), id=UPLOAD_ID, parts=(PART,), expires_at=WHEN),
    Part.__name__: PART,
    Health.__name__: Health(),
    TenantUsage.__name__: TenantUsage(id="acme", quota=NEWCOMER, queued=1, running=1, bytes=len(FILE)),
    Capabilities.__name__: CAPABILITIES,
    Published.__name__: Published(
        reading=InputLimits(),
        **dict(Limits()),
        stall_s=CLOCKS.stall_s,
        deadline_s=CLOCKS.deadline_s,
        max_losses=CLOCKS.max_losses,
    ),
    HttpProblem.__name__: HttpProblem(
        code="job.unknown",
        detail=f"There is no job {JOB_ID!r}.",
        remedy="Check the address and the id.",
        trace_id="0" * 32,
        title="Not Found",
        status=404,
        instance=f"/v1/jobs/{JOB_ID}",
    ),
}
TEXTS: dict[str, tuple[str, str]] = {
    "/v1/jobs/{job_id}/report.html": ("text/html", "<!doctype html>"),
    "/v1/jobs/{job_id}/report.md": ("text/markdown", "### Inconclusive"),
    "/v1/jobs/{job_id}/report.sarif": ("application/sarif+json", '{"version": "2.1.0", "runs": []}'),
    "/v1/jobs/{job_id}/statement": (
        "application/vnd.in-toto+json",
        '{"_type": "https://in-toto.io/Statement/v1"}',
    ),
    "/v1/jobs/{job_id}/statement.sigstore": (
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        '{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}',
    ),
    "/v1/jobs/{job_id}/mlbom": (
        "application/vnd.cyclonedx+json",
        '{"bomFormat": "CycloneDX", "specVersion": "1.6"}',
    ),
    "/v1/jobs/{job_id}/model": ("application/octet-stream", FILE),
    "/v1/jobs/{job_id}/changes": (
        "application/octet-stream",
        '{"schema_version": "2", "edits": [], "rewrites": []}',
    ),
    "/v1/jobs/{job_id}/best-candidate": (
        "application/octet-stream",
        '{"schema_version": "2", "edits": [], "rewrites": []}',
    ),
    "/v1/jobs/{job_id}/contact-sheet": ("image/png", "a picture"),
    "/metrics": ("text/plain", 'sanitizer_jobs{state="queued"} 0.0'),
}


def illustrate(path: str, operation: dict[str, Any]) -> None:
    """Put the examples of one operation into it."""
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in PARAMETERS:
            parameter["example"] = PARAMETERS[parameter["name"]]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        body = BODIES[path, media_type]
        told = isinstance(body, BaseModel)
        content["example"] = body.model_dump(mode="json", exclude_unset=True) if told else body
    for status, answer in operation["responses"].items():
        if path in TEXTS and status == "200":
            media_type, text = TEXTS[path]
            is_json = media_type.endswith("json")
            schema, example = ("object", json.loads(text)) if is_json else ("string", text)
            answer["content"] = {media_type: {"schema": {"type": schema}, "example": example}}
        for content in answer.get("content", {}).values():
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if name in ANSWERS:
                content["example"] = ANSWERS[name].model_dump(mode="json")
