"""Kombu's broker in a folder, with messages that appear whole.

The transport that Celery calls `filesystem://` opens a message under the name by which the other side looks for it, and
writes it then. A reader that comes between the two finds an empty file, which ends the Celery worker. Here every file
is written beside and renamed.
"""

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Writes whole files; reads as its parent does."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """Append a message to a queue. Names sort by time."""
        name = f"{time.time_ns()}_{uuid4()}.{queue}.msg"
        _write(Path(self.data_folder_out), name, payload)

    def _queue_bind(
        self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None
    ) -> None:
        """Let the exchange lead to the queue. An exchange of ours has one queue, of its own name."""
        bound = {tuple(entry) for entry in self.get_table(exchange)}
        bound.add((routing_key or "", pattern or "", queue or ""))
        _write(Path(self.control_folder), f"{exchange}.exchange", sorted(bound))


class Transport(filesystem.Transport):
    """Name it as `broker_transport`."""

    Channel = Channel


def _write(folder: Path, name: str, content: object) -> None:
    beside = folder / f"{uuid4()}.part"
    beside.write_text(dumps(content))
    beside.rename(folder / name)
