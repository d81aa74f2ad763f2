"""The repair as a list of edits that can be replayed on the original file, bit for bit."""

from typing import Literal

from pydantic import Field

from app.contract.frozen import Frozen


class Edit(Frozen):
    """One pruned filter of one stored tensor, overwritten along its first axis."""

    tensor: str = Field(description="key as it stands in the file")
    index: int = Field(ge=0, description="row along the first axis")
    mask: float = Field(description="the filter mask that condemned this filter, in [0, 1]")
    old: float | None = Field(description="what stood there; None where the row holds more than one number")
    value: float = Field(description="written to every number of the row")


class Rewrite(Frozen):
    """One stored tensor with new numbers throughout."""

    tensor: str = Field(description="key as it stands in the file")
    changed: int = Field(ge=1, description="numbers that differ")
    difference: str = Field(
        description="exclusive or of old and new bytes, in the order of the file; zlib, then base64"
    )


class Edits(Frozen):
    """A repair: filters are pruned first, then tensors rewritten."""

    edits: tuple[Edit, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()

    @property
    def relearned(self) -> int:
        """Numbers that differ beside those of pruned filters."""
        return sum(rewrite.changed for rewrite in self.rewrites)

    def __len__(self) -> int:
        return len(self.edits) + len(self.rewrites)


class Changes(Edits):
    """All edits of one repair, tied to the file they were made for."""

    schema_version: Literal["2"] = "2"
    source_digest: str
    result_digest: str
    method: str
