"""PyTorch checkpoints in the zip container that `torch.save` has written since 1.6.

The archive is audited in one walk and then written down again in memory, but for the numbers: what differs from the
upload is no checkpoint. So every byte that is not a number is one that we would have written, and a repaired
file is made of them. The tensors are read where they lie; `torch.load` never sees an untrusted file.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, NoReturn, TypeGuard

from torch import Tensor

from app.contract.limits import input_limits
from app.errors import ModelError
from worker.formats.interface import DAMAGED, SAVE_AGAIN, Place, countable, overlay
from worker.formats.pickles import read_pickle
from worker.formats.references import StorageRef, TensorRef
from worker.zips import write
from worker.zips.audit import audit
from worker.zips.content import Content, content
from worker.zips.interface import STORED, Archive, Flaw, Kind, Member

NESTS = ("state_dict", "model", "net", "model_state_dict")
CONTIGUOUS = "Save the state dict again with every tensor made contiguous: tensor.contiguous().clone()."

_FIRST = b"PK\x03\x04", b"PK\x05\x06"
_PICKLE = "data.pkl"
_FOLDER = 0x10
_PADDING = re.compile(rb"(FB..Z*)?", re.DOTALL)  # with which torch aligns what follows
_PIECE = 1 << 20
# What a member may hold, by its name below the root folder; the storages are of the sizes that the pickle says.
_CONTENTS = {
    "version": re.compile(rb"[0-9]{1,4}\n?"),
    "byteorder": re.compile(rb"little"),
    ".format_version": re.compile(rb"[0-9]{1,4}"),
    ".storage_alignment": re.compile(rb"[0-9]{1,8}"),
    ".data/serialization_id": re.compile(rb"[0-9]{1,64}"),
}
_STORAGE = re.compile(r"data/[0-9]{1,20}")  # counted; at first torch named them by their addresses
_CODES = {
    Kind.TRUNCATED: "model.truncated",
    Kind.TOO_MANY: "model.too_many_members",
    Kind.METHOD: "model.compressed_member",
}


class Checkpoint:
    """A state dict in a zip-format PyTorch checkpoint, alone or beside training leftovers."""

    name = "pytorch"

    def recognises(self, head: bytes) -> bool:
        """A zip archive; which kind is asked by `locate`."""
        return head.startswith(_FIRST)

    def locate(self, file: BinaryIO, size: int) -> Mapping[str, Place]:
        """Key -> place of every tensor of the state dict. Raises `ModelError`; see `interface.Format`."""
        members = _members(_audited(file, size))
        try:
            for name, member in members.items():
                _check_content(file, name, member)
            root, tensors = read_pickle(content(file, members[_PICKLE]))
        except Flaw as flaw:
            _refuse(flaw)
        _check_storages(members, {tensor.storage for tensor in tensors})
        places = {tensor: _place(tensor, members) for tensor in tensors}
        return {key: places[tensor] for key, tensor in _state_dict(root).items()}

    def rewrite(self, file: BinaryIO, size: int, changed: Iterable[tuple[Place, Tensor]]) -> Iterator[bytes]:
        """The same checkpoint with other numbers at the `changed` places; see `interface.Format`."""
        archive, pending, written = _audited(file, size), list(changed), list[Member]()
        for member in archive.members:
            inside = [c for c in pending if member.start <= c[0].start < member.start + member.size]
            body = bytearray(content(file, member))
            for place, tensor in inside:
                overlay(body, place, member.start, tensor)
            member = write.with_checksum(member, zlib.crc32(body) if member.crc else 0)
            written.append(member)
            yield write.header(member)
            yield bytes(body)
            yield write.descriptor(member)
        yield write.directory(archive, written)


def _audited(file: BinaryIO, size: int) -> Archive:
    """The archive, all of whose bytes outside the members' contents are those that `write` makes of it."""
    try:
        archive = audit(file, size, input_limits().model.members, input_limits().model.directory_bytes)
    except Flaw as flaw:
        _refuse(flaw)
    _refuse_other_kinds([member.name for member in archive.members])
    for member in archive.members:
        if member.method != STORED:
            raise ModelError(
                f"The member {member.name[:100]!r} is compressed; torch.save never compresses.",
                code="model.compressed_member",
                remedy=SAVE_AGAIN,
            )
        behind = write.descriptor(member)
        same = _is_at(file, member.offset, write.header(member))
        same = same and _is_at(file, member.start + member.packed, behind)
        # torch leaves the memory of a tensor as it finds it if the member calls itself a folder.
        plain = not (member.form.external & _FOLDER) and _PADDING.fullmatch(member.form.local_extra)
        if not (same and plain):
            raise _malformed(f"its member {member.name[:100]!r} is not written down as torch.save does")
    if not _is_at(file, archive.directory, write.directory(archive, archive.members)):
        raise _malformed("its directory is not written down as torch.save does")
    return archive


def _is_at(file: BinaryIO, position: int, expected: bytes) -> bool:
    file.seek(position)
    return file.read(len(expected)) == expected


def _members(archive: Archive) -> dict[str, Member]:
    """The members by their names below the one root folder."""
    root = archive.members[0].name.partition("/")[0] + "/"
    found = dict[str, Member]()
    for member in archive.members:
        name = member.name.removeprefix(root)
        known = name == _PICKLE or name in _CONTENTS or _STORAGE.fullmatch(name)
        if not (member.name.startswith(root) and known):
            raise _malformed(f"it holds {member.name[:100]!r}, which torch.save does not write")
        found[name] = member
    if "version" not in found:  # torch would not load it
        raise _malformed("it does not say its version")
    return found


def _check_content(file: BinaryIO, name: str, member: Member) -> None:
    """The checksum of every member, and the content of the small ones. Raises `Flaw`, `ModelError`."""
    if name in _CONTENTS:
        if member.size > _PIECE or not _CONTENTS[name].fullmatch(content(file, member)):
            raise _malformed(f"its {name} is none that torch.save writes, or its numbers are big-endian")
        return
    stream = Content(file, member)
    while stream.tell() < member.size:
        stream.read(_PIECE)


def _refuse(flaw: Flaw) -> NoReturn:
    where = f" ({flaw.member[:100]!r})" if flaw.member else ""
    detail = f"The archive of the checkpoint cannot be trusted: {flaw.why}{where}."
    remedy = SAVE_AGAIN if flaw.kind is Kind.METHOD else DAMAGED
    raise ModelError(detail, code=_CODES.get(flaw.kind, "model.malformed_container"), remedy=remedy) from flaw


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


def _check_storages(members: Mapping[str, Member], storages: set[StorageRef]) -> None:
    """Every storage has one member of its size, and every member of data one storage."""
    by_name = {f"data/{storage.key}": storage for storage in storages}
    present = {name for name in members if name.startswith("data/")}
    if len(by_name) < len(storages) or by_name.keys() != present:
        raise _malformed("its pickle and its members do not name the same storages")
    for name, storage in by_name.items():
        if members[name].size != storage.numel * storage.dtype.itemsize:
            raise _out_of_bounds(f"the storage {storage.key} is said to have {storage.numel} elements")


def _place(tensor: TensorRef, members: Mapping[str, Member]) -> Place:
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
