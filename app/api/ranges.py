"""The one range of bytes that a download may ask for (RFC 9110 §14)."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import RequestError

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `start` up to `end`."""

    start: int
    end: int
    partial: bool


def wanted(headers: Mapping[str, str], tag: str, size: int) -> Part:
    """What is asked for of `size` bytes; all of them where the range is of another form, or of another file.

    Raises `RequestError` (request.range) when the range begins behind the end.
    """
    whole = Part(0, size, partial=False)
    found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if found is None or headers.get("if-range", tag) != tag:
        return whole
    first, last = found.groups()
    if not first and not last:
        return whole
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if first and last and int(last) < int(first):
        return whole
    if start >= size:
        raise RequestError(
            f"There are {size} bytes, and the range begins at {start}.", status=416, code="request.range"
        )
    return Part(start, end, partial=True)


def base64_digest(digest: str) -> str:
    """`sha256:…` as RFC 9530 writes it."""
    return base64.b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode()
