"""Who may ask when: shares of places, and of the queue before them."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from sextant.kernel.errors import Busy
from sextant.server.sql.turns import Turns


def turns(wait_s: float = 30.0) -> Turns:
    return Turns(at_once=4, of_one=2, of_person=(3, 2), waiting=6, wait_s=wait_s)


def test_one_person_leaves_a_place_to_others_in_whatever_way_he_asks() -> None:
    async def main() -> None:
        places = turns()
        async with AsyncExitStack() as held:
            for way in ("", "", "API"):
                await held.enter_async_context(places.of("mal", way))
            fourth = asyncio.ensure_future(held.enter_async_context(places.of("mal", "API")))
            await asyncio.sleep(0)
            async with places.of("ann"):
                assert places.busy() == (4, 1)
            assert not fourth.done()
            fourth.cancel()

    asyncio.run(main())


def test_one_person_leaves_places_in_the_queue_to_others() -> None:
    async def main() -> None:
        places = turns()
        async with AsyncExitStack() as held:
            for person in ("mal", "mal", "eve", "eve"):
                await held.enter_async_context(places.of(person))
            waiting = [asyncio.ensure_future(places.of("mal").__aenter__()) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Busy, match="2 of them yours"):
                await places.of("mal").__aenter__()
            mine = asyncio.ensure_future(places.of("ann").__aenter__())
            await asyncio.sleep(0)
            assert places.busy() == (4, 3)
            for one in (*waiting, mine):
                one.cancel()

    asyncio.run(main())
