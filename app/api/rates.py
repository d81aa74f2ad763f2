"""How often a tenant may call, by what it does; counted in memory, or in Redis where that is the broker.

A count is a courtesy between tenants and never a reason to fail: while Redis does not answer, each process counts
alone.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from math import ceil
from typing import Any

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.contract.key import Scope
from app.errors import QuotaError
from app.settings import Limits, Settings

PATIENCE_S = 0.25  # of one request with Redis
QUIET_S = (
    10.0  # without Redis after one failure, so that a dead one costs one request its patience and not all
)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """What is left after one call, as the headers of its answer tell."""

    scope: Scope
    rate: RateLimitItem
    allowed: bool
    left: int
    reset_s: int

    @property
    def headers(self) -> dict[str, str]:
        """The policy and what is left of it, as the IETF draft on rate limit headers writes them."""
        return {
            "RateLimit-Policy": f'"{self.scope}";q={self.rate.amount};w={self.rate.get_expiry()}',
            "RateLimit": f'"{self.scope}";r={self.left};t={self.reset_s}',
        }

    def check(self) -> None:
        """Raises `QuotaError` (rate.limited) where this call was one too many."""
        if not self.allowed:
            raise QuotaError(
                f"{self.rate.amount} {self.scope} calls in {self.rate.get_expiry()} seconds are allowed.",
                code="rate.limited",
                remedy=f"Go on in {self.reset_s} seconds. GET /v1/jobs/ID?wait=25 and Retry-After save most calls.",
                retry_after_s=self.reset_s,
            )


class Rates:
    """Counts the calls of each tenant and scope. Lives on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.rates = {scope: _rate(settings.limits, scope) for scope in Scope}
        self.alone = FixedWindowRateLimiter(MemoryStorage())
        self.pool = _pool(settings.broker) if settings.broker.startswith("redis") else None
        self.together = (
            FixedWindowRateLimiter(_redis(settings.broker, self.pool)) if self.pool else self.alone
        )
        self.quiet_until = 0.0

    async def take(self, tenant_id: str, scope: Scope) -> Taken | None:
        """Count one call; None where there is no limit."""
        rate = self.rates[scope]
        if rate is None:
            return None
        if time.monotonic() >= self.quiet_until:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await _take(self.together, rate, tenant_id, scope)
            except Exception as error:  # noqa: BLE001 - whatever Redis does, the request goes on
                log.warning("the rates are counted in this process alone for a while: %r", error)
                self.quiet_until = time.monotonic() + QUIET_S
        return await _take(self.alone, rate, tenant_id, scope)

    async def close(self) -> None:
        """Give the connections back."""
        if self.pool is not None:
            await self.pool.disconnect()


async def _take(counted: FixedWindowRateLimiter, rate: RateLimitItem, tenant_id: str, scope: Scope) -> Taken:
    allowed = await counted.hit(rate, tenant_id, scope)
    window = await counted.get_window_stats(rate, tenant_id, scope)
    return Taken(
        scope, rate, allowed, max(0, window.remaining), max(1, ceil(window.reset_time - time.time()))
    )


def _rate(limits: Limits, scope: Scope) -> RateLimitItem | None:
    text = {
        Scope.READ: limits.read_rate,
        Scope.SUBMIT: limits.submit_rate,
        Scope.DELETE: limits.delete_rate,
    }[scope]
    return None if text == "off" else parse(text)


def _pool(url: str) -> ConnectionPool:
    ceiling = {"socket_timeout": PATIENCE_S, "socket_connect_timeout": PATIENCE_S}
    return ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), **ceiling)


def _redis(url: str, pool: ConnectionPool) -> RedisStorage:
    options: dict[str, Any] = {"connection_pool": pool}
    return RedisStorage(f"async+{url}", implementation="redispy", key_prefix="sanitizer:rates", **options)
