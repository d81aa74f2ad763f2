"""The safetensors format: a length, a JSON header, the numbers.

The header is held to the specification, and to more than the library asks: no name twice, no dimension beyond measure,
and JSON as one of the known writers puts it down, so that we would write the very same. The tensors are then read
where the header says, so that what was checked is what is used.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

import torch
from torch import Tensor

from app.contract.limits import input_limits
from app.errors import ModelError
from worker.formats.interface import DAMAGED, Place, countable, overlay

# (separators, ASCII only): how serde, which the library uses, and how Python writes JSON
STYLES = (((",", ":"), False), ((", ", ": "), True), ((",", ":"), True), ((", ", ": "), False))
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Safetensors:
    """A safetensors file."""

    name = "safetensors"

    def recognises(self, head: bytes) -> bool:
        """A brace, perhaps behind spaces that are refused later, after a length that some file could have."""
        return len(head) > 8 and head[7] == 0 and head[8:].lstrip()[:1] == b"{"

    def locate(self, file: BinaryIO, size: int) -> Mapping[str, Place]:
        """Key -> place of every tensor. Raises `ModelError`; see `interface.Format`."""
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if length > input_limits().model.header_bytes:
            raise _malformed(
                f"it is said to have {length} bytes; {input_limits().model.header_bytes} are allowed"
            )
        if 8 + length > size:
            raise _truncated(size, 8 + length)
        text = file.read(length)
        header = _parse(text)
        if _written(header, text) is None:
            raise _malformed("it is not written as the library or Python write JSON")
        _check_metadata(header.pop("__metadata__", {}))
        places = {key: _place(key, entry, 8 + length) for key, entry in header.items()}
        _check_cover(list(places.values()), 8 + length, size)
        return places

    def rewrite(self, file: BinaryIO, size: int, changed: Iterable[tuple[Place, Tensor]]) -> Iterator[bytes]:
        """The same file with other numbers at the `changed` places; see `interface.Format`."""
        places, other = self.locate(file, size).values(), {place.start: tensor for place, tensor in changed}
        file.seek(0)
        text = file.read(int.from_bytes(file.read(8), "little"))
        written = _written(_parse(text), text) or b""
        yield len(written).to_bytes(8, "little") + written
        for place in sorted((place for place in places if place.nbytes), key=lambda place: place.start):
            file.seek(place.start)
            buffer = bytearray(file.read(place.nbytes))
            if place.start in other:
                overlay(buffer, place, place.start, other[place.start])
            yield bytes(buffer)


def _parse(text: bytes) -> dict[str, object]:
    if not text.startswith(b"{"):
        raise _malformed("it does not begin with a brace")
    try:
        # Python refuses integers of more than 4300 digits, which is a ValueError too.
        header = json.loads(text.decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _malformed("it is not JSON, or nested too deep") from error
    if not isinstance(header, dict):
        raise _malformed("it is not an object")
    if len(header) > input_limits().model.tensors:
        raise ModelError(
            f"The header names {len(header)} tensors; {input_limits().model.tensors} are allowed.",
            code="model.too_many_tensors",
            remedy="Submit the weights of one classifier, without what training left beside them.",
        )
    return header


def _written(header: dict[str, object], text: bytes) -> bytes | None:
    """The header as we would write it, in the style of `text` and as long; None where no style gives `text`."""
    for separators, ascii_only in STYLES:
        try:
            again = json.dumps(header, separators=separators, ensure_ascii=ascii_only).encode()
        except ValueError:  # half of a surrogate pair in the metadata
            continue
        if (padded := again.ljust(len(text))) == text:
            return padded
    return None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise _malformed("it gives one name twice")
    return result


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _malformed("its metadata is not made of strings")
    limits = input_limits().model
    longest = max((len(key) + len(value) for key, value in metadata.items()), default=0)
    if len(metadata) > limits.metadata_keys or longest > limits.metadata_bytes:
        raise _malformed(
            f"its metadata has more than {limits.metadata_keys} entries, or one of over {limits.metadata_bytes} bytes"
        )


def _place(key: str, entry: object, data: int) -> Place:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **others} if not others:
            sizes, bounds = _whole(key, shape), _whole(key, [begin, end])
        case _:
            raise _malformed(f"its entry {key[:100]!r} is not a dtype, a shape and two offsets")
    if dtype not in DTYPES:
        raise ModelError(
            f"The tensor {key[:100]!r} is of the dtype {dtype[:20]!r}, which is not supported.",
            code="model.unsupported_dtype",
            remedy=f"Convert it to one of {', '.join(DTYPES)}, and save again.",
        )
    if not countable(sizes):
        raise _out_of_bounds(key, "its shape is beyond all measure")
    stride = tuple(math.prod(sizes[axis + 1 :]) for axis in range(len(sizes)))
    place = Place(data + bounds[0], DTYPES[dtype], sizes, stride)
    if place.nbytes != bounds[1] - bounds[0]:
        raise _out_of_bounds(key, "its shape and its offsets disagree")
    return place


def _whole(key: str, values: list[object]) -> tuple[int, ...]:
    numbers = tuple(value for value in values if type(value) is int and value >= 0)
    if len(numbers) < len(values):
        raise _out_of_bounds(key, "its shape or its offsets are not whole numbers from 0 up")
    return numbers


def _check_cover(places: list[Place], data: int, size: int) -> None:
    """The tensors lie one behind the other, from the header to the end of the file."""
    expected = data
    for place in sorted(places, key=lambda place: (place.start, place.end)):
        if place.start != expected:
            raise _malformed("its tensors overlap, or leave a hole between them")
        expected = place.end
    if expected > size:
        raise _truncated(size, expected)
    if expected < size:
        raise _malformed("bytes follow its last tensor")


def _malformed(why: str) -> ModelError:
    detail = f"The header of the safetensors file cannot be trusted: {why}."
    return ModelError(detail, code="model.malformed_container", remedy=DAMAGED)


def _truncated(size: int, expected: int) -> ModelError:
    detail = f"The safetensors file has {size} bytes, and its header asks for {expected}."
    return ModelError(detail, code="model.truncated", remedy=DAMAGED)


def _out_of_bounds(key: str, why: str) -> ModelError:
    detail = f"The tensor {key[:100]!r} of the safetensors file cannot exist: {why}."
    return ModelError(detail, code="model.tensor_out_of_bounds", remedy=DAMAGED)
