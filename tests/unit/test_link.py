"""The conversation with the client: the real link and loop, the memory of a client that is played here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bridge.client import bell
from bridge.client.app_ipc import SIZE, AppIpc, AppStatus, Heartbeat
from bridge.client.init_data import InitData
from bridge.client.link import CLIENT_CHECK_EVERY_S, HEARTBEAT_GIVE_UP_S, STATUS_EVERY_S, ClientLink
from bridge.client.trickles import Trickles


@dataclass
class Heard:
    """Orders that were given."""

    orders: list[str] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)

    def hear(self, heartbeat: Heartbeat) -> None:
        self.heartbeats.append(heartbeat)

    def suspend(self) -> None:
        self.orders.append("suspend")

    def resume(self) -> None:
        self.orders.append("resume")

    def quit(self, why: str) -> None:
        self.orders.append(why)

    def abort(self) -> None:
        self.orders.append("abort")

    def fear(self) -> None:
        self.orders.append("fear")

    def hope(self) -> None:
        self.orders.append("hope")


class Clock:
    """A clock that stands still until it is put forward."""

    def __init__(self) -> None:
        self.ahead = 1000.0

    def __call__(self) -> float:
        return self.ahead


@dataclass
class Talk:
    """Both ends of one conversation."""

    link: ClientLink
    client: AppIpc
    orders: Heard
    clock: Clock
    dead: set[int] = field(default_factory=set)

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            await asyncio.sleep(0.01)


def talk(
    body: Callable[[Talk], Coroutine[Any, Any, None]],
    init_data: InitData | None = None,
    slot: Path | None = None,
) -> Talk:
    """Run `body` with a link that listens, and has trickles if there is a slot."""

    async def go() -> Talk:
        memory = memoryview(bytearray(SIZE))
        clock = Clock()
        dead: set[int] = set()
        init = init_data or InitData(client_pid=4711)
        trickles = None if slot is None else Trickles(slot, clock)
        link = ClientLink(AppIpc(memory), init, alive=lambda pid: pid not in dead, clock=clock, trickles=trickles)
        found = Talk(link, AppIpc(memory), Heard(), clock, dead)
        link.start(found.orders)
        try:
            await body(found)
        finally:
            link.stop()
        return found

    return asyncio.run(go())


def status(cpu: float, **more: Any) -> AppStatus:
    return AppStatus(cpu, 0.0, **more)


def test_orders_are_taken_and_obeyed_in_their_order() -> None:
    async def body(talk: Talk) -> None:
        for message in ("<suspend/>", "<resume/>", "<reread_app_info/>", "<quit/>", "<abort/>"):
            await talk.until(partial(talk.client.process_control_request.send, message))
        await talk.until(lambda: not talk.client.process_control_request.full)

    assert talk(body).orders.orders == ["suspend", "resume", "the client says quit", "abort"]


def test_what_the_client_said_before_is_heard_at_once() -> None:
    async def go() -> list[str]:
        memory = memoryview(bytearray(SIZE))
        AppIpc(memory).process_control_request.send("<suspend/>")
        heard = Heard()
        link = ClientLink(AppIpc(memory), InitData(), alive=lambda pid: True)
        link.start(heard)
        link.stop()
        return heard.orders

    assert asyncio.run(go()) == ["suspend"]


def test_a_new_status_is_there_at_once_for_a_client_that_takes_all_at_once() -> None:
    async def body(talk: Talk) -> None:
        await talk.until(lambda: talk.client.app_status.receive())
        for n in range(1, 6):
            talk.link.report(status(float(n)))
            assert talk.client.app_status.full, "without waiting for anything"
            message = talk.client.app_status.receive()
            assert message is not None and f"<current_cpu_time>{n}." in message.decode()
            await asyncio.sleep(0.12)

    talk(body)


def test_while_a_message_is_unread_only_the_newest_waits() -> None:
    async def body(talk: Talk) -> None:
        await talk.until(lambda: talk.client.app_status.receive())
        for n in range(1, 10):
            talk.link.report(status(float(n)))
        first = talk.client.app_status.receive()
        assert first is not None and b"<current_cpu_time>1." in first
        await talk.until(lambda: talk.client.app_status.full)
        second = talk.client.app_status.receive()
        assert second is not None and b"<current_cpu_time>9." in second

    talk(body)


def test_the_status_is_said_again_when_nothing_changes() -> None:
    async def body(talk: Talk) -> None:
        await talk.until(lambda: talk.client.app_status.receive())
        await asyncio.sleep(0.3)
        assert not talk.client.app_status.full, "nothing new, and not yet time"
        talk.clock.ahead += STATUS_EVERY_S
        await talk.until(lambda: talk.client.app_status.full)

    talk(body)


def test_the_first_status_is_the_cpu_time_of_earlier_episodes() -> None:
    async def body(talk: Talk) -> None:
        await talk.until(lambda: talk.client.app_status.full)
        message = talk.client.app_status.receive()
        assert message is not None
        assert b"<current_cpu_time>7.5" in message and b"<checkpoint_cpu_time>7.5" in message

    talk(body, InitData(client_pid=1, wu_cpu_time=7.5))


def test_what_a_heartbeat_says_is_heard_when_it_is_new() -> None:
    async def body(talk: Talk) -> None:
        suspended = "<heartbeat/><network_suspended/>"
        for message in ("<heartbeat/><max_wss>1e9</max_wss>", "<heartbeat/><max_wss>1e9</max_wss>", suspended):
            await talk.until(partial(talk.client.heartbeat.send, message))
            await talk.until(lambda: not talk.client.heartbeat.full)
        assert talk.orders.heartbeats == [Heartbeat(max_wss=1e9), Heartbeat(network_suspended=True)]

    talk(body)


def test_trickle_down_notices_do_not_stop_the_client() -> None:
    async def body(talk: Talk) -> None:
        for _ in range(3):
            await talk.until(lambda: talk.client.trickle_down.send("<have_trickle_down/>\n"))

    talk(body)


def test_the_client_is_told_of_trickles_and_uploads(tmp_path: Path) -> None:
    async def body(talk: Talk) -> None:
        assert not talk.client.trickle_up.full
        talk.clock.ahead += 10
        await talk.until(lambda: talk.client.trickle_up.full)
        assert talk.client.trickle_up.receive() == b"<have_new_trickle_up/>\n<have_new_upload_file/>\n"

    (tmp_path / "trickle_up.xml").touch()
    trickles = Trickles(tmp_path)
    trickles.stage_upload(1, "a")
    (tmp_path / ".vmbridge.upload.1.a").rename(tmp_path / "boinc_ufr_a")

    async def with_both(talk: Talk) -> None:
        assert talk.link._trickles is not None
        talk.link._trickles.begin((0, 1))
        talk.client.trickle_up.receive()
        await body(talk)

    talk(with_both, slot=tmp_path)


def test_a_client_that_is_gone_is_a_quit() -> None:
    async def body(talk: Talk) -> None:
        await asyncio.sleep(0.15)
        talk.dead.add(4711)
        talk.clock.ahead += CLIENT_CHECK_EVERY_S
        await talk.until(lambda: len(talk.orders.orders) > 1)

    assert "the client (process 4711) is gone" in talk(body).orders.orders


def test_a_client_that_lives_may_be_silent_but_is_feared_once_a_gap() -> None:
    async def body(talk: Talk) -> None:
        for _ in range(2):
            talk.clock.ahead += 4.9
            await asyncio.sleep(0.25)
            talk.client.heartbeat.send("<heartbeat/>")
            await talk.until(lambda: not talk.client.heartbeat.full)
        assert talk.orders.orders == [], "a busy client leaves gaps too"
        for _ in range(2):
            talk.clock.ahead += 500
            await talk.until(lambda: "fear" in talk.orders.orders[-1:])
            await asyncio.sleep(0.25)
            talk.client.heartbeat.send("<heartbeat/>")
            await talk.until(lambda: "hope" in talk.orders.orders[-1:])

    assert talk(body).orders.orders == ["fear", "hope", "fear", "hope"], "but it is no quit"


def test_a_client_without_a_pid_is_given_up_when_it_is_silent() -> None:
    async def body(talk: Talk) -> None:
        talk.clock.ahead += CLIENT_CHECK_EVERY_S
        await talk.until(lambda: talk.orders.orders)
        assert talk.orders.orders == ["fear"]
        talk.clock.ahead += HEARTBEAT_GIVE_UP_S
        await talk.until(lambda: len(talk.orders.orders) > 1)

    assert talk(body, InitData(client_pid=0)).orders.orders[1] == "the client has been silent for half a minute"


def test_settled_is_what_the_client_has_taken() -> None:
    async def body(talk: Talk) -> None:
        await talk.until(lambda: talk.client.app_status.full)
        talk.link.report(status(99.0))
        settling = asyncio.create_task(talk.link.settle(30))
        await asyncio.sleep(0.2)
        assert not settling.done(), "an older status lies there unread"
        assert talk.client.app_status.receive()
        await talk.until(lambda: talk.client.app_status.full)
        await asyncio.sleep(0.2)
        assert not settling.done(), "the last one lies there unread"
        assert b"<current_cpu_time>9.9" in (talk.client.app_status.receive() or b"")
        assert await settling

    talk(body)


def test_a_client_that_takes_nothing_is_not_waited_for_for_ever() -> None:
    async def body(talk: Talk) -> None:
        talk.link.report(status(99.0))
        settling = asyncio.create_task(talk.link.settle(3))
        await asyncio.sleep(0.25)
        assert not settling.done()
        talk.clock.ahead += 3
        assert not await settling

    talk(body)


def test_graphics_wait_for_their_channel() -> None:
    async def body(talk: Talk) -> None:
        talk.link.show_graphics("http://localhost:8080")
        talk.link.show_graphics("http://localhost:8081")
        assert talk.client.graphics_reply.receive() == b"<web_graphics_url>http://localhost:8080</web_graphics_url>"
        await talk.until(lambda: talk.client.graphics_reply.full)
        assert talk.client.graphics_reply.receive() == b"<web_graphics_url>http://localhost:8081</web_graphics_url>"
        await asyncio.sleep(0.25)
        assert not talk.client.graphics_reply.full

    talk(body)


def test_after_the_end_nothing_is_heard_or_said() -> None:
    async def body(talk: Talk) -> None:
        talk.link.stop()
        talk.client.process_control_request.send("<quit/>")
        await asyncio.sleep(3 * bell.LOOK_EVERY_S)

    assert talk(body).orders.orders == []
