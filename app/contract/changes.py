"""The repair as a list of edits that can be replayed on the original file, bit for bit."""

from typing import Literal

from pydantic import Field

from app.contract.frozen import Frozen


class Edit(Frozen):
    """One filter of one stored tensor, overwritten along its first axis."""

    tensor: str = Field(description="key as it stands in the file")
    index: int = Field(ge=0, description="row along the first axis")
    mask: float = Field(description="the filter mask that condemned this filter, in [0, 1]")
    old: float | None = Field(description="what stood there; None where the row holds more than one number")
    value: float = Field(description="written to every number of the row")


class Changes(Frozen):
    """All edits of one repair, tied to the file they were made for."""

    schema_version: Literal["1"] = "1"
    source_digest: str
    result_digest: str
    method: str
    edits: tuple[Edit, ...] = ()
