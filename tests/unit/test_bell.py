"""The bell: what rings in the event loop, and what must not wake it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from bridge.client import bell as module
from bridge.client.app_ipc import SIZE, AppIpc, Channel
from bridge.client.bell import Bell

from ..patience import AT_MOST_S

Pick = Callable[[AppIpc], Channel]

INBOUND: list[Pick] = [lambda ipc: ipc.process_control_request, lambda ipc: ipc.heartbeat, lambda ipc: ipc.trickle_down]
OUTBOUND: list[Pick] = [lambda ipc: ipc.app_status, lambda ipc: ipc.graphics_reply, lambda ipc: ipc.trickle_up]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)


class Heard:
    """A bell over memory of its own, in a running loop."""

    def __init__(self, on_ring: Callable[[AppIpc], object] = lambda ipc: None) -> None:
        self.ipc = AppIpc(memoryview(bytearray(SIZE)))
        self.looked = 0
        self.rings = 0
        self._on_ring = on_ring
        flags = self.ipc.flags
        self.ipc.flags = lambda: self._look(flags())
        self.bell = Bell(self.ipc, self._ring, time.monotonic)

    def _look(self, flags: bytes) -> bytes:
        self.looked += 1
        return flags

    def _ring(self) -> None:
        self.rings += 1
        self._on_ring(self.ipc)

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + AT_MOST_S
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)

    async def after_looks(self) -> int:
        """Return how often it has rung when it has looked a few times more."""
        looked = self.looked
        await self.until(lambda: self.looked > looked + 5)
        await asyncio.sleep(0)
        return self.rings


@pytest.mark.parametrize("pick", INBOUND)
def test_it_rings_until_a_message_is_taken(pick: Pick) -> None:
    async def go() -> None:
        heard = Heard()
        heard.bell.start()
        assert await heard.after_looks() == 0
        pick(heard.ipc).send("<x/>")
        await heard.until(lambda: heard.rings >= 2)
        pick(heard.ipc).receive()
        await heard.after_looks()
        assert await heard.after_looks() == heard.rings
        heard.bell.stop()

    asyncio.run(go())


def test_a_message_in_the_place_of_one_that_was_just_taken_rings_too() -> None:
    taken: list[bytes] = []

    def take(ipc: AppIpc) -> None:
        if message := ipc.process_control_request.receive():
            taken.append(message)
            if len(taken) < 5:
                ipc.process_control_request.send("<resume/>")

    async def go() -> None:
        heard = Heard(take)
        heard.bell.start()
        heard.ipc.process_control_request.send("<suspend/>")
        await heard.until(lambda: len(taken) == 5)
        heard.bell.stop()

    asyncio.run(go())


@pytest.mark.parametrize("pick", OUTBOUND)
def test_it_rings_once_when_a_message_of_ours_is_taken_and_not_when_it_is_put_in(pick: Pick) -> None:
    async def go() -> None:
        heard = Heard()
        heard.bell.start()
        pick(heard.ipc).send("<x/>")
        assert await heard.after_looks() == 0
        assert (heard.bell.status_seen_at > 0) == (pick is OUTBOUND[0])
        pick(heard.ipc).receive()
        await heard.until(lambda: heard.rings)
        assert await heard.after_looks() == 1
        heard.bell.stop()

    asyncio.run(go())


def test_after_the_end_it_is_silent() -> None:
    async def go() -> None:
        heard = Heard()
        heard.bell.stop()
        heard.bell.start()
        heard.bell.stop()
        heard.bell.stop()
        heard.ipc.heartbeat.send("<heartbeat/>")
        looked = heard.looked
        await asyncio.sleep(0.1)
        assert (heard.rings, heard.looked) == (0, looked)

    asyncio.run(go())
