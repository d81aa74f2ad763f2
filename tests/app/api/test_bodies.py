"""How much of a body waits in memory."""

import asyncio
from contextlib import ExitStack

from app.api.bodies import LARGE, SMALL, _portion


def test_a_few_bodies_at_once_may_gather_much_and_no_more_of_them() -> None:
    async def taken() -> list[int]:
        with ExitStack() as several:
            first = [several.enter_context(_portion()) for _ in range(6)]
        with _portion() as after:
            return [*first, after]

    assert asyncio.run(taken()) == [LARGE] * 4 + [SMALL] * 2 + [LARGE]
