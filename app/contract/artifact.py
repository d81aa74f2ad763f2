"""What is stored by its digest."""

import re
from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import Field

from app.contract.frozen import Frozen


class ArtifactKind(StrEnum):
    """What the bytes are for."""

    MODEL = "model"
    SAMPLES = "samples"
    SUSPECTS = "suspects"
    TRIGGERED = "triggered"
    REPORT = "report"
    CHANGES = "changes"
    REPAIRED_MODEL = "repaired_model"
    BEST_CANDIDATE = "best_candidate"
    CONTACT_SHEET = "contact_sheet"

    @property
    def is_input(self) -> bool:
        """Whether a job starts from it; the others are what a job makes."""
        return self in INPUTS


InputKind = Literal[
    ArtifactKind.MODEL, ArtifactKind.SAMPLES, ArtifactKind.SUSPECTS, ArtifactKind.TRIGGERED
]  # what can be uploaded
INPUTS = get_args(InputKind)

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
FileName = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$", max_length=100, description="shown, never opened")
]


class Artifact(Frozen):
    """Bytes that are known by their SHA-256."""

    digest: Digest
    size: int = Field(ge=0, description="bytes")
    kind: ArtifactKind
    name: FileName = ""


class Named(Frozen):
    """Bytes that were uploaded before, and what to call them in the report."""

    digest: Digest
    name: FileName = ""


def file_name(given: str) -> str:
    """A name that is safe on every disk and in every header, as near to `given` as that allows."""
    last = re.split(r"[/\\]", given)[-1]
    return re.sub(r"[^A-Za-z0-9_.-]", "_", last).lstrip(".-")[-100:].lstrip(".-")
