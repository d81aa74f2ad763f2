"""Messages in a folder: whoever reads while another writes gets a message, or none, and never a half."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty
from typing import Any

from celery import Celery

from app.bell.folder import Channel
from app.bell.ring import transport
from app.settings import Settings

MESSAGES = 500


def channel(home: Path) -> Any:
    """One end of the broker, as Celery opens it for us."""
    celery = Celery("test", set_as_current=False)
    celery.conf.update(transport(Settings(home=home), 1))
    found = celery.connection_for_write().channel()
    assert isinstance(found, Channel)
    return found


def test_a_reader_beside_a_writer_gets_every_message_whole_and_in_order(tmp_path: Path) -> None:
    writer, reader = channel(tmp_path), channel(tmp_path)

    def read() -> list[int]:
        found: list[int] = []
        while len(found) < MESSAGES:
            try:
                found.append(reader._get("cpu")["number"])
            except Empty:
                continue
        return found

    with ThreadPoolExecutor() as threads:
        reading = threads.submit(read)
        for number in range(MESSAGES):
            writer._put("cpu", {"number": number, "filling": "x" * 10_000})
        assert reading.result(60) == list(range(MESSAGES))


def test_ends_that_bind_at_once_read_a_whole_table(tmp_path: Path) -> None:
    ends = [channel(tmp_path) for _ in range(4)]

    def again_and_again(end: Any) -> Callable[[], None]:
        def bind() -> None:
            for _ in range(200):
                end._queue_bind("cpu", "cpu", "", "cpu")
                assert [tuple(entry) for entry in end.get_table("cpu")] == [("cpu", "", "cpu")]

        return bind

    with ThreadPoolExecutor(len(ends)) as threads:
        for bound in [threads.submit(again_and_again(end)) for end in ends]:
            bound.result(60)
