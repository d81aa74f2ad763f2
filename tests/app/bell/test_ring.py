"""The bell: it reaches the broker that is there, and harms nobody where there is none."""

import json
import logging
import time
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from app.bell.ring import TASK, Bell
from app.settings import Settings
from tests.service.conftest import free_port, until


def messages(folder: Path) -> list[dict[str, object]]:
    found = [json.loads(path.read_text()) for path in (folder / "bell" / "messages").glob("*.msg")]
    return [message["headers"] for message in found]


def test_a_ring_is_a_message_with_a_hint(tmp_path: Path) -> None:
    bell = Bell(Settings(home=tmp_path))
    bell.ring("cpu", "job_1")
    (headers,) = until(lambda: messages(tmp_path), 10)
    assert headers["task"] == TASK
    assert "job_1" in str(headers["argsrepr"])
    bell.close()


def test_rings_that_say_nothing_new_are_one_ring(redis_url: str) -> None:
    pool = f"test-{uuid4().hex[:8]}"
    server = redis.Redis.from_url(redis_url)
    bell = Bell(Settings(home=Path("/nowhere"), broker_url=redis_url))
    for number in range(1000):
        bell.ring(pool, f"job_{number}")
    until(lambda: not bell.waiting, 10)
    bell.thread.shutdown()
    assert 1 <= server.llen(f"sanitizer:{pool}") < 1000
    server.delete(f"sanitizer:{pool}", f"sanitizer:_kombu.binding.{pool}")


def test_without_a_broker_nobody_waits_and_the_next_ring_is_tried_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bell = Bell(Settings(home=Path("/nowhere"), broker_url=f"redis://127.0.0.1:{free_port()}/0"))
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        bell.ring("cpu", "job_1")
        assert time.monotonic() - started < 1
        until(lambda: "job_1" in caplog.text, 10)
    assert bell.quiet_until > time.monotonic()
    bell.ring("cpu", "job_2")
    assert not bell.waiting
    bell.close()
