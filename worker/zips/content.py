"""The content of a member of an audited archive, never more than its size, and checked to the last byte."""

import zlib
from typing import BinaryIO

from worker.zips.interface import STORED, Flaw, Kind, Member

_PIECE = 64 << 10


class Content:
    """A stream over one member, unpacked as it is read.

    Raises `Flaw` as soon as the member turns out to be damaged, longer or shorter than said, or of another checksum.
    """

    def __init__(self, file: BinaryIO, member: Member) -> None:
        self._file, self._member = file, member
        self._taken = self._given = self._crc = 0
        self._inflate = None if member.method == STORED else zlib.decompressobj(-zlib.MAX_WBITS)
        self._ready = b""

    def tell(self) -> int:
        """Bytes read so far."""
        return self._given

    def read(self, length: int) -> bytes:
        """The next `length` bytes, or fewer where the member ends; the last read checks the whole."""
        pieces, wanted = list[bytes](), min(length, self._member.size - self._given)
        while wanted:
            piece = self._next(wanted)
            if not piece:
                raise self._flaw("is shorter than said")
            pieces.append(piece)
            wanted -= len(piece)
        data = b"".join(pieces)
        self._crc = zlib.crc32(data, self._crc)
        self._given += len(data)
        if self._given == self._member.size:
            self._check_end()
        return data

    def _next(self, wanted: int) -> bytes:
        if self._inflate is None:
            return self._packed(wanted)
        while True:
            source = self._inflate.unconsumed_tail or self._packed(_PIECE)
            try:
                piece = self._inflate.decompress(source, wanted)
            except zlib.error as error:
                raise self._flaw("cannot be unpacked") from error
            if piece or self._inflate.eof or not (source or self._inflate.unconsumed_tail):
                return piece

    def _packed(self, most: int) -> bytes:
        length = min(most, self._member.packed - self._taken)
        self._file.seek(self._member.start + self._taken)
        data = self._file.read(length)
        self._taken += len(data)
        return data

    def _check_end(self) -> None:
        if self._inflate is not None:
            # One more byte, if there is one, and with it the end mark.
            more = self._next(1) if not self._inflate.eof else b""
            done = self._inflate.eof and not self._inflate.unused_data
            if more or not done or self._taken != self._member.packed:
                raise self._flaw("is longer than said")
        if self._crc != self._member.crc and (self._member.crc or self._inflate is not None):
            raise self._flaw("does not match its checksum")

    def _flaw(self, how: str) -> Flaw:
        return Flaw(Kind.MALFORMED, f"a member {how}", self._member.name)


def content(file: BinaryIO, member: Member) -> bytes:
    """All of a member, at once. Raises `Flaw`; the caller bounds `member.size`."""
    return Content(file, member).read(member.size)
