"""One problem object (RFC 9457 members), used alike in HTTP errors, job errors, warnings and on the command line."""

from app.contract.frozen import Frozen
from app.errors import SanitizerError


class Problem(Frozen):
    """What went wrong, in words for people and a code for programs."""

    code: str
    detail: str
    remedy: str
    trace_id: str | None = None

    @classmethod
    def of(cls, error: SanitizerError) -> "Problem":
        """The problem that an error of ours describes."""
        return cls(code=error.code, detail=error.detail, remedy=error.remedy)
