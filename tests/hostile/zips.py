"""Zip archives in which every number can be a lie."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Part:
    """One member; what is None is told as it is."""

    name: bytes
    data: bytes = b""  # as packed
    method: int = 0
    flags: int = 0
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    external: int = 0
    extra: bytes = b""
    comment: bytes = b""
    local: bytes | None = None  # the header in front and the data, written already
    header_name: bytes | None = None
    header_size: int | None = None
    offset: int | None = None
    disk: int = 0
    needed: int = 20

    @property
    def numbers(self) -> tuple[int, int, int]:
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        packed = len(self.data) if self.packed is None else self.packed
        return crc, packed, len(self.data) if self.size is None else self.size

    def header(self) -> bytes:
        if self.local is not None:
            return self.local
        crc, packed, size = self.numbers
        size = size if self.header_size is None else self.header_size
        name = self.name if self.header_name is None else self.header_name
        lengths = (len(name), len(self.extra))
        fixed = struct.pack(
            "<4s3H4I2H", b"PK\x03\x04", self.needed, self.flags, self.method, 0, crc, packed, size, *lengths
        )
        return fixed + name + self.extra + self.data

    def entry(self, offset: int) -> bytes:
        lengths = (len(self.name), len(self.extra), len(self.comment))
        at = offset if self.offset is None else self.offset
        fixed = struct.pack(
            "<4s4H4I5H2I", b"PK\x01\x02", 20, self.needed, self.flags, self.method, 0, *self.numbers,
            *lengths, self.disk, 0, self.external, at,
        )  # fmt: skip
        return fixed + self.name + self.extra + self.comment


def deflated(name: bytes, content: bytes, **lies: int) -> Part:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = Part(name, packer.compress(content) + packer.flush(), method=8, crc=zlib.crc32(content))
    return replace(part, size=len(content), **lies)  # type: ignore[arg-type]


def zipped(
    parts: Iterable[Part], *, prefix: bytes = b"", gap: bytes = b"", count: int | None = None,
    comment: bytes = b"", suffix: bytes = b"", disk: int = 0, before_end: bytes = b"",
) -> bytes:  # fmt: skip
    parts, body, entries = list(parts), bytearray(prefix), bytearray()
    for part in parts:
        entries += part.entry(len(body))
        body += part.header()
    body += gap
    n = len(parts) if count is None else count
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", disk, disk, n, n, len(entries), len(body), len(comment))
    return bytes(body + entries + before_end + end + comment + suffix)
