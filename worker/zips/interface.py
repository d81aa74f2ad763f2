"""What a zip archive is once it was walked, and what is said of one that cannot be.

Knows zip; knows nothing of models, samples or tensors.
"""

from dataclasses import dataclass
from enum import StrEnum

STORED, DEFLATED = 0, 8
ENCRYPTED, DESCRIBED_BEHIND, UTF8 = 0x1, 0x8, 0x800


class Kind(StrEnum):
    """What is wrong with an archive."""

    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    TOO_MANY = "too_many"
    ENCRYPTED = "encrypted"
    METHOD = "method"
    DUPLICATE = "duplicate"
    OVERLAP = "overlap"


class Flaw(Exception):
    """The archive is not what one walk from its first byte to its last would show."""

    def __init__(self, kind: Kind, why: str, member: str = "") -> None:
        super().__init__(why)
        self.kind, self.why, self.member = kind, why, member


@dataclass(frozen=True, slots=True)
class Form:
    """How a member is written down, beside what it is; each number as it stands in its headers."""

    needed: int  # version
    flags: int
    stamp: int  # time and date
    local_extra: bytes
    made: int  # version and system
    central_extra: bytes
    internal: int
    external: int  # the mode of the file is in its upper half
    wide: bool  # the header in front gives its sizes in a zip64 field
    descriptor: int  # bytes of the description behind the content: 0, 16 or 24


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive, its bytes nobody else's."""

    name: str
    raw_name: bytes
    method: int
    crc: int
    packed: int  # bytes in the archive
    size: int  # bytes unpacked
    offset: int  # of its header
    start: int  # of its content
    form: Form

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder by its name."""
        return self.name.endswith("/")


@dataclass(frozen=True, slots=True)
class Archive:
    """All members, in the order in which they lie; `wide`: the directory ends in zip64's way too."""

    members: tuple[Member, ...]
    directory: int  # its first byte
    wide: bool
