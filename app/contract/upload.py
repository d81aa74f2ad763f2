"""A large file on its way, in numbered parts that can be sent in any order and again."""

from datetime import datetime

from pydantic import Field

from app.contract.artifact import Digest, FileName, InputKind
from app.contract.frozen import Frozen


class UploadRequest(Frozen):
    """What is to come."""

    kind: InputKind
    digest: Digest = Field(description="of the whole file; it is checked when all parts are there")
    size: int = Field(ge=1, lt=2**53, description="bytes of the whole file")
    name: FileName = ""


class Part(Frozen):
    """One part that has arrived."""

    number: int = Field(ge=1)
    size: int = Field(ge=1, description="bytes")
    digest: Digest


class Upload(UploadRequest):
    """An upload and what has arrived of it."""

    id: str
    parts: tuple[Part, ...] = Field((), description="by number; whatever is missing is still to be sent")
    completed: bool = False
    expires_at: datetime = Field(description="when it is forgotten, unless another part comes")
