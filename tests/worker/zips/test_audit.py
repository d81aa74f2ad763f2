"""The auditor against other readers: what it accepts, they all understand alike; what it writes is what it read."""

import io
import random
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import torch

from worker.zips import write
from worker.zips.audit import audit
from worker.zips.content import Content, content
from worker.zips.interface import Archive, Flaw, Kind


class Unseekable(io.RawIOBase):
    """A pipe, as far as a writer can tell."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.written += bytes(data)  # type: ignore[call-overload]
        return len(bytes(data))  # type: ignore[call-overload]


def python_zip(
    method: int = zipfile.ZIP_DEFLATED, target: io.IOBase | None = None, *, wide: bool = False
) -> bytes:
    buffer = target or io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:  # type: ignore[call-overload]
        for name in ("cat/1.png", "Bär/2.png", "empty", "folder/"):
            with archive.open(name, "w", force_zip64=wide) as member:
                member.write(b"" if name in {"empty", "folder/"} else name.encode() * 999)
    return bytes(buffer.written) if isinstance(buffer, Unseekable) else buffer.getvalue()  # type: ignore[attr-defined]


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def arrays(save: Callable[..., None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer, images=np.zeros((5, 4, 4, 3), np.uint8), labels=np.arange(5))
    return buffer.getvalue()


GOOD = {
    "stored": python_zip(zipfile.ZIP_STORED),
    "deflated": python_zip(),
    "into a pipe": python_zip(target=Unseekable()),
    "zip64 in front": python_zip(wide=True),
    "zip64 into a pipe": python_zip(target=Unseekable(), wide=True),
    "nothing": b"PK\x05\x06" + bytes(18),
    "torch": saved({"a": torch.ones(3), "b": torch.zeros(0)}),
    "npz": arrays(np.savez),
    "npz, compressed": arrays(np.savez_compressed),
}


def audited(data: bytes) -> Archive:
    return audit(io.BytesIO(data), len(data), 100, 1 << 20)


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_what_is_accepted_is_what_zipfile_finds(data: bytes) -> None:
    archive, file = audited(data), io.BytesIO(data)
    with zipfile.ZipFile(file) as other:
        assert [member.name for member in archive.members] == other.namelist()
        for member, info in zip(archive.members, other.infolist(), strict=True):
            assert (member.size, member.packed, member.crc) == (info.file_size, info.compress_size, info.CRC)
            assert content(file, member) == other.read(info)


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_what_was_read_can_be_written_again(data: bytes) -> None:
    archive, again = audited(data), bytearray()
    for member in archive.members:
        again += (
            write.header(member)
            + data[member.start : member.start + member.packed]
            + write.descriptor(member)
        )
    assert again + write.directory(archive, archive.members) == data


def test_torch_reads_the_records_that_are_audited() -> None:
    data = GOOD["torch"]
    records = torch._C.PyTorchFileReader(io.BytesIO(data)).get_all_records()
    assert [member.name for member in audited(data).members] == [f"archive/{record}" for record in records]


@pytest.mark.parametrize("pieces", [1, 7, 100_000])
@pytest.mark.parametrize("name", ["stored", "deflated"])
def test_a_member_can_be_read_in_pieces(name: str, pieces: int) -> None:
    data = GOOD[name]
    member = audited(data).members[0]
    stream, read = Content(io.BytesIO(data), member), bytearray()
    while piece := stream.read(pieces):
        read += piece
    assert read == b"cat/1.png" * 999
    assert stream.tell() == member.size


@pytest.mark.parametrize("name", GOOD)
def test_one_changed_bit_is_found_or_changes_no_content(name: str) -> None:
    """Every content that is given out is the original one: names, dates and modes alone may pass unnoticed."""
    data, flips = GOOD[name], random.Random(0)  # noqa: S311 - the same flips every time
    original = [content(io.BytesIO(data), member) for member in audited(data).members]
    accepted = 0
    for _ in range(300):
        changed = bytearray(data)
        changed[flips.randrange(len(data))] ^= 1 << flips.randrange(8)
        try:
            file = io.BytesIO(changed)
            found = [content(file, member) for member in audited(bytes(changed)).members]
        except Flaw:
            continue
        accepted += 1
        assert found == original
    assert accepted < 150


@pytest.mark.parametrize("name", GOOD)
def test_no_beginning_of_an_archive_is_one(name: str) -> None:
    data = GOOD[name]
    for length in range(0, len(data), max(1, len(data) // 200)):
        with pytest.raises(Flaw):
            audited(data[:length])


def test_limits_are_checked_before_the_directory_is_read() -> None:
    data = bytearray(GOOD["stored"])
    for most, directory in ((3, 1 << 20), (100, 50)):
        with pytest.raises(Flaw) as caught:
            audit(io.BytesIO(data), len(data), most, directory)
        assert caught.value.kind is Kind.TOO_MANY
    data[-14:-10] = struct.pack("<2H", 60_000, 60_000)
    with pytest.raises(Flaw) as caught:
        audited(bytes(data))
    assert caught.value.kind is Kind.TOO_MANY
