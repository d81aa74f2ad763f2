"""Checkpoints as torch writes them, and around any pickle. The instructions of a pickle by name."""

import io
import zipfile

import torch

from tests.hostile.zips import Part, zipped

PROTOCOL = b"\x80\x02"


def saved(value: dict[str, object], *, legacy: bool = False) -> bytes:
    """What torch.save makes of `value`, lists in it taken as tensors."""
    tensors = {key: torch.tensor(entry) if isinstance(entry, list) else entry for key, entry in value.items()}
    buffer = io.BytesIO()
    torch.save(tensors, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def parts(content: bytes) -> list[Part]:
    """The members of a checkpoint, the first storage last."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = [Part(name.encode(), archive.read(name)) for name in archive.namelist()]
    return sorted(found, key=lambda part: part.name == b"archive/data/0")


def members(content: bytes, without: str) -> list[Part]:
    """All but one of them."""
    return [part for part in parts(content) if part.name != f"archive/{without}".encode()]


def checkpoint(pickle: bytes, *, storages: int = 1, size: int = 16) -> bytes:
    """A checkpoint of this pickle, with storages of `size` bytes."""
    data = [
        Part(f"archive/data/{number}".encode(), b"\x00\x00\x80\x3f" * (size // 4))
        for number in range(storages)
    ]
    return zipped([Part(b"archive/data.pkl", pickle), Part(b"archive/version", b"3\n"), *data])


WEIGHTS = saved({"a": [1.0, 1.0, 1.0, 1.0]})


def GLOBAL(module: str, name: str) -> bytes:  # noqa: N802 - the name of the instruction
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def number(value: int) -> bytes:
    length = value.bit_length() // 8 + 1 if value else 0
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


def storage(key: str = "0", kind: str = "FloatStorage", numel: int = 4, location: str = "cpu") -> bytes:
    return b"(" + text("storage") + GLOBAL("torch", kind) + text(key) + text(location) + number(numel) + b"tQ"


def tensor(
    where: bytes | None = None, *, offset: int = 0, shape: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,),
    rebuild: str = "_rebuild_tensor_v2",
) -> bytes:  # fmt: skip
    sizes = b"".join(b"(" + b"".join(map(number, values)) + b"t" for values in (shape, stride))
    hooks = GLOBAL("collections", "OrderedDict") + b")R"
    arguments = (where or storage()) + number(offset) + sizes + b"\x89" + hooks
    return GLOBAL("torch._utils", rebuild) + b"(" + arguments + b"tR"


def state(*entries: tuple[str, bytes]) -> bytes:
    """A state dict of these values."""
    body = b"".join(text(key) + value + b"s" for key, value in entries)
    return PROTOCOL + b"}" + body + b"."
