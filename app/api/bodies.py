"""Request bodies, piece by piece: never whole in memory, never written on the event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import anyio
from anyio import to_thread
from fastapi import Request

from app.blobs.interface import too_large
from app.errors import RequestError
from app.settings import Limits

SMALL, LARGE = 1024 * 1024, 8 * 1024 * 1024  # bytes gathered before a thread is asked to take them
ROOMY = anyio.CapacityLimiter(4)  # bodies that may gather so many; with more at once, memory comes first
DISK = anyio.CapacityLimiter(32)  # threads that wait for the disk keep nobody from the ledger


async def pour(request: Request, write: Callable[[bytes], None], limits: Limits) -> None:
    """Give the body to `write`, in a thread, while more of it comes. Raises `RequestError` (request.slow).

    One portion is being written and one gathered, so no more than two are ever held.
    """
    with _portion() as portion:
        await _pour(request, write, limits, portion)


@contextmanager
def _portion() -> Iterator[int]:
    """How many bytes one body may gather."""
    body: object | None = object()
    try:
        ROOMY.acquire_on_behalf_of_nowait(body)
    except anyio.WouldBlock:
        body = None
    try:
        yield SMALL if body is None else LARGE
    finally:
        if body is not None:
            ROOMY.release_on_behalf_of(body)


async def _pour(request: Request, write: Callable[[bytes], None], limits: Limits, portion: int) -> None:
    pending, size = list[bytes](), 0  # joining them would cost more than the disk does
    written = _written(write, ())
    try:
        async for piece in _pieces(request, limits):
            pending.append(piece)
            size += len(piece)
            if size >= portion:
                await written
                written = _written(write, pending)
                pending, size = [], 0
    finally:
        await written  # whoever discards the file must not take it from a thread that still writes
    await _written(write, pending)


def _written(write: Callable[[bytes], None], pieces: Sequence[bytes]) -> asyncio.Future[None]:
    return asyncio.ensure_future(to_thread.run_sync(_write_all, write, pieces, limiter=DISK))


def _write_all(write: Callable[[bytes], None], pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        write(piece)


async def read(request: Request, limit: int, limits: Limits) -> bytes:
    """A body of at most `limit` bytes. Raises `RequestError` (request.too_large, request.slow)."""
    body = bytearray()
    async for piece in _pieces(request, limits):
        if len(body) + len(piece) > limit:
            raise too_large(limit)
        body += piece
    return bytes(body)


async def _pieces(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    stream = request.stream()
    came, waited_s = 0, 0.0  # what we do with a piece is no delay of the sender's
    while True:
        began = time.monotonic()
        try:
            with anyio.fail_after(limits.idle_s):
                piece = await anext(stream, b"")
        except TimeoutError as error:
            raise _slow(f"Nothing came for {limits.idle_s:g} seconds.") from error
        if not piece:
            return
        came += len(piece)
        waited_s += time.monotonic() - began
        if waited_s > limits.idle_s and came < limits.slowest * waited_s:
            raise _slow(f"Less than {limits.slowest:,} bytes came a second.")
        yield piece


def _slow(detail: str) -> RequestError:
    return RequestError(
        detail,
        status=408,
        code="request.slow",
        remedy="Send the body without long pauses, over a faster line.",
    )


def refuse_larger(request: Request, limit: int) -> None:
    """Refuse a body by its announced length, before any of it is read."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)
