"""Rates that are counted together in Redis, and alone without it."""

import asyncio
import socket
import time
from pathlib import Path
from uuid import uuid4

import pytest

from app.api.rates import Rates
from app.contract.key import Scope
from app.errors import QuotaError
from app.settings import Limits, Settings
from tests.service.conftest import free_port


def rates(tmp_path: Path, broker: str, rate: str = "3/hour") -> Rates:
    return Rates(Settings(home=tmp_path, broker_url=broker, limits=Limits(read_rate=rate)))


async def calls(counting: list[Rates], tenant: str, number: int = 5) -> list[bool]:
    """Whether each call was allowed, by one process and another in turns."""
    allowed = []
    for call in range(number):
        taken = await counting[call % len(counting)].take(tenant, Scope.READ)
        assert taken is not None
        assert taken.left == max(0, 2 - call)
        allowed.append(taken.allowed)
    for each in counting:
        await each.close()
    return allowed


def test_one_process_counts_in_memory(tmp_path: Path) -> None:
    assert asyncio.run(calls([rates(tmp_path, "")], "acme")) == [True, True, True, False, False]


def test_two_processes_count_together_in_redis(tmp_path: Path, redis_url: str) -> None:
    both = [rates(tmp_path, redis_url) for _ in range(2)]
    assert asyncio.run(calls(both, uuid4().hex)) == [True, True, True, False, False]


def test_a_dead_redis_fails_no_request_and_delays_one_at_most(tmp_path: Path) -> None:
    alone = rates(tmp_path, f"redis://127.0.0.1:{free_port()}/0")
    assert asyncio.run(calls([alone], "acme")) == [True, True, True, False, False]
    assert alone.quiet_until > time.monotonic()


def test_a_redis_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes every connection and never says a word
        port = silent.getsockname()[1]
        alone = rates(tmp_path, f"redis://127.0.0.1:{port}/0")
        assert asyncio.run(calls([alone], "acme")) == [True, True, True, False, False]


def test_tenants_and_scopes_have_shares_of_their_own(tmp_path: Path) -> None:
    async def ask() -> None:
        counting = rates(tmp_path, "", "1/minute")
        for tenant in ("acme", "globex"):
            first, second = [await counting.take(tenant, Scope.READ) for _ in range(2)]
            assert first is not None
            first.check()
            assert second is not None
            with pytest.raises(QuotaError, match="1 read calls in 60 seconds") as refused:
                second.check()
            assert refused.value.retry_after_s == second.reset_s
        submit = await counting.take("acme", Scope.SUBMIT)
        assert submit is not None
        assert submit.allowed

    asyncio.run(ask())


def test_a_rate_can_be_off(tmp_path: Path) -> None:
    assert asyncio.run(rates(tmp_path, "", "off").take("acme", Scope.READ)) is None
