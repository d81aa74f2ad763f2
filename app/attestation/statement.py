"""What was done and measured, as an in-toto Statement (v1) about the files that came out.

The words of the predicate are those of the report. It carries no time, so equal runs give equal bytes.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.contract.frozen import Frozen
from app.contract.report import Report
from app.errors import AttestationError

STATEMENT_TYPE: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Literal["urn:model-sanitizer:sanitization:1"] = "urn:model-sanitizer:sanitization:1"
MEDIA_TYPE = "application/vnd.in-toto+json"
PRODUCT = "model-sanitizer"
ASSURANCE = (
    "This says what was done to which file and what was measured. It does not say that the model is clean."
)
MEASURED = {"clean_accuracy", "clean_change", "attack_success", "robust_accuracy"}
REPAIR = {"method", "pruned", "filters", "relearned", "threshold", "reason"}


class Input(Frozen):
    """A file that the work started from."""

    role: Literal["model", "samples", "triggered"]
    name: str
    digest: str = Field(description="sha256:…; of a folder: over the digests and names of its files")


def inputs_of(report: Report) -> tuple[Input, ...]:
    """The inputs as the report names them."""
    given = {"model": report.model, "samples": report.samples, "triggered": report.triggered}
    return tuple(
        Input.model_validate({"role": role, "name": facts.name, "digest": facts.digest})
        for role, facts in given.items()
        if facts is not None
    )


def state(
    report: Report, files: Mapping[str, str], inputs: Iterable[Input], *, job: str | None = None
) -> bytes:
    """The statement about `files` (name: sha256:…); equal arguments give equal bytes."""
    told = report.model_dump(mode="json")
    predicate = {
        "assurance": ASSURANCE,
        "product": {"name": PRODUCT, "version": report.environment.product},
        "job": job,
        "kind": report.kind,
        "inputs": [{"role": i.role, "name": i.name, "digest": _digest_set(i.digest)} for i in inputs],
        "result": {"digest": _digest_set(report.result_digest)},
        "options": told["options"],
        "seed": report.seed,
        "environment": told["environment"],
        "verdict": told["verdict"],
        "outcome": report.outcome.value,
        "repair": report.repair.model_dump(mode="json", include=REPAIR),
        "metrics": report.metrics.model_dump(mode="json", include=MEASURED),
        "skipped": told["skipped"],
    }
    return as_bytes(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": _digest_set(files[name])} for name in sorted(files)],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
    )


def as_bytes(document: Mapping[str, Any]) -> bytes:
    """JSON in plain ASCII. Raises `ValueError` rather than write NaN."""
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


class _Read(BaseModel):
    """Read from a stranger: what is needed is checked, and what a later version may add is passed over."""

    model_config = ConfigDict(frozen=True)


class DigestSet(_Read):
    """The digests of one thing."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Subject(_Read):
    """A file that the statement is about."""

    name: str = Field(pattern=r"^[^/\x00]+$", max_length=255)
    digest: DigestSet

    @model_validator(mode="after")
    def _a_file_of_the_folder(self) -> Self:
        if self.name in (".", ".."):
            raise ValueError("is no name of a file")
        return self


class Origin(_Read):
    """An input, as far as it is checked."""

    role: str
    digest: DigestSet


class Result(_Read):
    """The model that is given back."""

    digest: DigestSet


class Predicate(_Read):
    """What was done, as far as it is checked."""

    kind: str
    inputs: tuple[Origin, ...]
    result: Result
    outcome: str

    def model(self) -> str | None:
        """The hex digest of the suspect model."""
        return next((origin.digest.sha256 for origin in self.inputs if origin.role == "model"), None)


class Statement(_Read):
    """A statement of ours."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: Literal["urn:model-sanitizer:sanitization:1"] = Field(alias="predicateType")
    predicate: Predicate


def read(data: bytes) -> Statement:
    """The statement in `data`. Raises `AttestationError` where it is none of ours."""
    try:
        return Statement.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AttestationError(f"This is no statement of ours: {where}: {first['msg']}.") from error


def _digest_set(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}
