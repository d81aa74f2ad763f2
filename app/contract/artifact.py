"""What is stored by its digest."""

from enum import StrEnum

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


class Artifact(Frozen):
    """Bytes that are known by their SHA-256."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")
    kind: ArtifactKind
    name: str = Field(default="", max_length=255, description="the uploader's file name, for display only")
