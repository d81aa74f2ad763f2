"""PyTorch checkpoints in the zip container that `torch.save` has written since 1.6.

The archive is walked from its first byte to its directory, and every member must be one that `torch.save` writes, so
that what is checked here is what any other reader will find. The tensors are read where they lie in it; `torch.load`
never sees an untrusted file.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, TypeGuard

from app.errors import ModelError
from worker.formats.interface import DAMAGED, SAVE_AGAIN, Place, countable
from worker.formats.pickles import MAX_BYTES, StorageRef, TensorRef, read_pickle

NESTS = ("state_dict", "model", "net", "model_state_dict")
MAX_MEMBERS = 100_000
CHUNK = 1 << 20
CONTIGUOUS = "Save the state dict again with every tensor made contiguous: tensor.contiguous().clone()."

_LOCAL, _DESCRIPTOR, _END = b"PK\x03\x04", b"PK\x07\x08", b"PK\x05\x06"
_DESCRIBED_BEHIND, _UTF8, _FOLDER = 0x8, 0x800, 0x10
_PLAIN_FLAGS = _DESCRIBED_BEHIND | _UTF8
_WRITTEN_BY_SAVE = re.compile(
    r"data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/[0-9]+"
)


class Checkpoint:
    """A state dict in a zip-format PyTorch checkpoint, alone or beside training leftovers."""

    name = "pytorch"

    def recognises(self, head: bytes) -> bool:
        """A zip archive; which kind is asked by `locate`."""
        return head.startswith(_LOCAL)

    def locate(self, file: BinaryIO, size: int) -> Mapping[str, Place]:
        """Key -> place of every tensor of the state dict. Raises `ModelError`; see `interface.Format`."""
        members = _members(file, size)
        for member in members.values():
            if member.crc and member.crc != _checksum(file, member):
                raise _malformed(f"its member {member.name!r} does not match its checksum")
        byteorder = members.get("byteorder")
        if byteorder and _content(file, byteorder) != b"little":
            raise _malformed("its numbers are big-endian")
        root, tensors = read_pickle(_content(file, members["data.pkl"]))
        _check_storages(members, {tensor.storage for tensor in tensors})
        places = {tensor: _place(tensor, members) for tensor in tensors}
        return {key: places[tensor] for key, tensor in _state_dict(root).items()}

    def seal(self, file: BinaryIO, changed: Iterable[Place]) -> None:
        """Renew the checksum of every member that holds a changed place, unless the archive keeps none."""
        starts = [place.start for place in changed]
        members = _members(file, file.seek(0, 2)).values()
        if not any(member.crc for member in members):
            return
        for member in members:
            if any(member.start <= start < member.start + member.size for start in starts):
                checksum = struct.pack("<I", _checksum(file, member))
                for position in member.crc_at:
                    file.seek(position)
                    file.write(checksum)


@dataclass(frozen=True, slots=True)
class _Member:
    """One member, by its name below the root folder."""

    name: str
    start: int  # byte of its content
    size: int
    crc: int  # 0: none was kept
    crc_at: tuple[int, int]  # the bytes where the archive keeps it


def _members(file: BinaryIO, size: int) -> dict[str, _Member]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos, directory = archive.infolist(), archive.start_dir
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        OverflowError,
        struct.error,
        OSError,
    ) as error:
        # OSError: zipfile jumps to whatever place a damaged directory names.
        raise ModelError(
            "The archive has no readable directory at its end: it was cut short or damaged.",
            code="model.truncated",
            remedy=DAMAGED,
        ) from error
    names = [info.filename for info in infos]
    _refuse_other_kinds(names)
    root = names[0].partition("/")[0] + "/"
    for name in names:
        if not (name.startswith(root) and _WRITTEN_BY_SAVE.fullmatch(name[len(root) :])):
            raise _malformed(f"it holds {name[:100]!r}, which torch.save does not write")
    if len(set(names)) < len(names) or len(names) > MAX_MEMBERS:
        raise _malformed("it holds two members of one name, or too many")
    _check_end(file, size)
    return {member.name: member for member in _walk(file, infos, directory)}


def _refuse_other_kinds(names: list[str]) -> None:
    below = {name.partition("/")[2] for name in names}
    if "constants.pkl" in below or any(name.startswith("code/") for name in below):
        raise ModelError(
            "The file is a TorchScript program; loading it would run its code.",
            code="model.torchscript",
            remedy='Where you trust it: torch.save(torch.jit.load("model.pt").state_dict(), "weights.pt")',
        )
    if "archive_format" in below or "serialized_exported_program.json" in names:
        raise ModelError(
            "The file is a torch.export program; loading it would run its code.",
            code="model.unsupported_format",
            remedy='Where you trust it: torch.save(torch.export.load("model.pt2").state_dict, "weights.pt")',
        )
    if "data.pkl" not in below or ".data/extern_modules" in below:
        raise ModelError(
            "The file is a zip archive, but not a checkpoint that torch.save wrote.",
            code="model.unsupported_format",
            remedy="Submit the model file itself: safetensors, or a state dict saved by torch.save.",
        )


def _check_end(file: BinaryIO, size: int) -> None:
    file.seek(max(size - 22, 0))
    end = file.read(22)
    if not (end.startswith(_END + bytes(4)) and end[8:10] == end[10:12] and end.endswith(bytes(2))):
        raise _malformed("it does not end with its directory")


def _walk(file: BinaryIO, infos: list[zipfile.ZipInfo], directory: int) -> Iterator[_Member]:
    """The members, which must follow each other without a gap from byte 0 to the directory."""
    position, entry = 0, directory
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED:
            raise ModelError(
                f"The member {info.filename[:100]!r} is compressed; torch.save never compresses.",
                code="model.compressed_member",
                remedy=SAVE_AGAIN,
            )
        start = _content_start(file, info, entry)
        crc_at, behind = position + 14, start + info.file_size
        if info.flag_bits & _DESCRIBED_BEHIND:
            crc_at, behind = behind + 4, behind + _descriptor_length(file, behind, info)
        if info.header_offset != position or behind > directory:
            raise _malformed(f"its member {info.filename[:100]!r} lies where another part belongs")
        name = info.filename.partition("/")[2]
        yield _Member(name, start, info.file_size, info.CRC, (crc_at, entry + 16))
        position = behind
        entry += 46 + sum(struct.unpack_from("<3H", _at(file, entry, 46), 28))
    if position != directory:
        raise _malformed("bytes lie between its last member and its directory")


def _content_start(file: BinaryIO, info: zipfile.ZipInfo, entry: int) -> int:
    """Where the content begins, once the header in front of it and the directory tell the same of it."""
    local = _at(file, info.header_offset, 30)
    name_length, extra_length = struct.unpack_from("<HH", local, 26)
    in_directory = _at(file, entry + 46, struct.unpack_from("<H", _at(file, entry, 46), 28)[0])
    # zipfile ends a name at its first zero byte, other readers do not.
    same_name = info.filename.encode() == in_directory == _at(file, info.header_offset + 30, name_length)
    same_form = local[6:10] == struct.pack("<HH", info.flag_bits, info.compress_type)
    same_size = info.compress_size == info.file_size
    # torch leaves the memory of a tensor as it finds it if the member calls itself a folder.
    plain = not (info.flag_bits & ~_PLAIN_FLAGS or info.external_attr & _FOLDER or info.volume)
    if not (local.startswith(_LOCAL) and same_name and same_form and same_size and plain):
        raise _malformed(f"its member {info.filename[:100]!r} and its directory disagree")
    return int(info.header_offset + 30 + name_length + extra_length)


def _descriptor_length(file: BinaryIO, position: int, info: zipfile.ZipInfo) -> int:
    found = _at(file, position, 24)
    for sizes in ("<4sI2I", "<4sI2Q"):
        if info.file_size < 1 << 32 or sizes.endswith("Q"):
            expected = struct.pack(sizes, _DESCRIPTOR, info.CRC, info.file_size, info.file_size)
            if found.startswith(expected):
                return len(expected)
    raise _malformed(f"the checksum of its member {info.filename[:100]!r} is missing")


def _at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(max(position, 0))
    found = file.read(length)
    if position < 0 or len(found) < length:
        raise _malformed("a part of it lies beyond its end")
    return found


def _content(file: BinaryIO, member: _Member) -> bytes:
    return _at(file, member.start, min(member.size, MAX_BYTES + 1))


def _checksum(file: BinaryIO, member: _Member) -> int:
    file.seek(member.start)
    checksum, left = 0, member.size
    while left and (chunk := file.read(min(left, CHUNK))):
        checksum, left = zlib.crc32(chunk, checksum), left - len(chunk)
    return checksum


def _check_storages(members: Mapping[str, _Member], storages: set[StorageRef]) -> None:
    """Every storage has one member of its size, and every member of data one storage."""
    by_name = {f"data/{storage.key}": storage for storage in storages}
    present = {name for name in members if name.startswith("data/")}
    if len(by_name) < len(storages) or by_name.keys() != present:
        raise _malformed("its pickle and its members do not name the same storages")
    for name, storage in by_name.items():
        if members[name].size != storage.numel * storage.dtype.itemsize:
            raise _out_of_bounds(f"the storage {storage.key} is said to have {storage.numel} elements")


def _place(tensor: TensorRef, members: Mapping[str, _Member]) -> Place:
    storage = tensor.storage
    if min((tensor.offset, *tensor.shape, *tensor.stride)) < 0 or not countable(tensor.shape):
        raise _out_of_bounds("a tensor has a shape, stride or offset beyond all measure")
    if len(tensor.shape) != len(tensor.stride):
        raise _out_of_bounds("a tensor has the stride of some other shape")
    start = members[f"data/{storage.key}"].start + tensor.offset * storage.dtype.itemsize
    # The step along an axis of one element may be anything, and is never taken.
    stride = tuple(step if size > 1 else 1 for step, size in zip(tensor.stride, tensor.shape, strict=True))
    place = Place(start, storage.dtype, tensor.shape, stride)
    if tensor.offset + place.span > storage.numel:
        raise _out_of_bounds(f"a tensor of shape {tensor.shape} reaches beyond its storage")
    reach = 0
    for step, size in sorted(zip(stride, tensor.shape, strict=True)):
        if size > 1 and step <= reach:
            raise _out_of_bounds(f"a tensor of shape {tensor.shape} uses some of its elements more than once")
        reach += (size - 1) * step
    return place


def _state_dict(root: object) -> dict[str, TensorRef]:
    nested = [root[name] for name in NESTS if name in root] if isinstance(root, dict) else []
    found = [value for value in (root, *nested) if _is_state_dict(value)]
    if len(found) == 1:
        return found[0]
    raise ModelError(
        f"The checkpoint holds {len(found) or 'no'} state dicts, looking at its top and under {', '.join(NESTS)}.",
        code="model.not_a_state_dict",
        remedy='Save one state dict and nothing else: torch.save(model.state_dict(), "weights.pt")',
    )


def _is_state_dict(value: object) -> TypeGuard[dict[str, TensorRef]]:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(key, str) and isinstance(entry, TensorRef) for key, entry in value.items())
    )


def _malformed(why: str) -> ModelError:
    detail = f"The checkpoint is not laid out as torch.save does it: {why}."
    return ModelError(detail, code="model.malformed_container", remedy=DAMAGED)


def _out_of_bounds(why: str) -> ModelError:
    detail = f"The checkpoint describes a tensor that it does not hold: {why}."
    return ModelError(detail, code="model.tensor_out_of_bounds", remedy=CONTIGUOUS)
