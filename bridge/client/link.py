"""The conversation with the client while the job runs: orders and heartbeats in, progress out.

A bell rings when the client has been at the memory, and once a second all is looked at anyway. Nothing is
parsed that has not changed, and nothing here ever waits, so that an order is taken even while the hypervisor is slow: a
client whose second order waits for three minutes kills the job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from logging import getLogger
from typing import Protocol

from ..beat import next_beat
from .app_ipc import AppIpc, AppStatus, Control, Heartbeat, parse_control, parse_heartbeat
from .bell import LOOK_EVERY_S, Bell
from .init_data import InitData
from .rhythm import PERIOD_S, Rhythm
from .trickles import Trickles

logger = getLogger(__name__)

STATUS_EVERY_S = 0.8
"""So often the status is said when nothing changes: a little more often than the client looks."""

CLIENT_CHECK_EVERY_S = 10.0
SILENT_AFTER_S = 5.0
"""Heartbeats stop at once when a client shuts down, and the quit of one that throttles is usually lost."""

HEARTBEAT_GIVE_UP_S = 30.0
"""Only for clients that do not tell their pid (before October 2012); the others are asked for by pid."""


class Orders(Protocol):
    """Who obeys the client."""

    def suspend(self) -> None:
        """Use no processor until `resume`."""

    def resume(self) -> None:
        """Go on."""

    def quit(self, why: str) -> None:
        """End within the minute; the job will be started again."""

    def abort(self) -> None:
        """End now; nobody wants the job any more."""

    def hear(self, heartbeat: Heartbeat) -> None:
        """The client has said something that it had not said before."""

    def fear(self) -> None:
        """The client is there and has been silent for some seconds: it may be shutting down, with a lost quit."""

    def hope(self) -> None:
        """It speaks again."""


class ClientLink:
    """The client at the other end of the shared memory. All times are the steady clock's, in seconds."""

    def __init__(
        self,
        ipc: AppIpc,
        init_data: InitData,
        *,
        alive: Callable[[int], bool],
        clock: Callable[[], float] = time.monotonic,
        trickles: Trickles | None = None,
    ) -> None:
        """`alive` says whether a process with this pid is there."""
        self._ipc = ipc
        self._init_data = init_data
        self._alive = alive
        self._clock = clock
        self._trickles = trickles
        self._orders: Orders | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due: asyncio.TimerHandle | None = None
        self._rhythm = Rhythm()
        self._bell = Bell(ipc, self._look, clock)
        self._status = AppStatus(init_data.wu_cpu_time, init_data.wu_cpu_time)
        self._sent: AppStatus | None = None
        self._sent_at = 0.0
        self._heard_at = clock()
        self._checked_at = clock()
        self._heartbeat_text = b""
        self._silent = False
        self._graphics: str | None = None

    # Out

    def report(self, status: AppStatus) -> None:
        """Tell the client how far the job is: now, or shortly before it looks next."""
        self._status = status
        self._offer()

    def show_graphics(self, url: str) -> None:
        """Tell the client where the job's web page is, at most 255 characters; it offers the volunteer a button."""
        self._graphics = f"<web_graphics_url>{url}</web_graphics_url>"
        self._offer_graphics()

    async def settle(self, within_s: float) -> bool:
        """Return when the client has taken the last status; False if it has not, in this time.

        A client that has fallen silent is shutting down and takes nothing any more.
        """
        until = self._clock() + within_s
        while self._sent != self._status or self._ipc.app_status.full:
            if self._clock() >= until or self._clock() - self._heard_at >= STATUS_EVERY_S + PERIOD_S:
                return False
            self._offer(now_or_never=True)
            await asyncio.sleep(LOOK_EVERY_S)
        return True

    def _offer(self, *, now_or_never: bool = False) -> None:
        """Write the newest status if the channel is free and the moment is right; else see to it that it will be."""
        now = self._clock()
        full = self._ipc.app_status.full
        if self._bell.status_seen_at > self._sent_at:
            self._rhythm.look(self._bell.status_seen_at, full=True)
        self._rhythm.look(now, full=full)
        news = self._sent != self._status
        if full or (now_or_never and not news):
            return
        at = self._rhythm.write_at(now) if news else max(self._rhythm.write_at(now), self._sent_at + STATUS_EVERY_S)
        if at > now and not now_or_never:
            if self._due is None and self._timer is not None:
                self._due = asyncio.get_running_loop().call_later(at - now, self._now_due)
            return
        if self._ipc.app_status.send(self._status.encode()):
            self._rhythm.wrote(now)
            self._sent, self._sent_at = self._status, now

    def _now_due(self) -> None:
        self._due = None
        self._offer()

    def _offer_graphics(self) -> None:
        if self._graphics is not None and self._ipc.graphics_reply.send(self._graphics):
            self._graphics = None

    def _offer_trickles(self) -> None:
        channel = self._ipc.trickle_up
        if self._trickles is not None and (message := self._trickles.due(mailbox_full=channel.full)):
            channel.send(message)

    # In

    def start(self, orders: Orders) -> None:
        """Begin to listen, in the running loop; what the client said before is heard at once."""
        self._orders = orders
        self._tick()
        self._bell.start()

    def stop(self) -> None:
        """Listen no more. May be called again."""
        for timer in (self._timer, self._due):
            if timer is not None:
                timer.cancel()
        self._timer = self._due = None
        self._bell.stop()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(next_beat(loop.time()), self._tick)
        self._look()

    def _look(self) -> None:
        if self._timer is None:  # the bell rang when we stopped
            return
        ipc = self._ipc
        if ipc.process_control_request.full:
            self._obey()
        if ipc.heartbeat.full:
            self._hear()
        if ipc.trickle_down.full:
            ipc.trickle_down.receive()  # that there is a file in the slot, where whoever wants it looks anyway
        self._offer()
        self._offer_graphics()
        self._offer_trickles()
        self._notice_silence()
        self._check_client()

    def _obey(self) -> None:
        assert self._orders is not None
        message = self._ipc.process_control_request.receive() or b""
        for order in parse_control(message):
            logger.debug("the client says %s", order.value.decode())
            match order:
                case Control.SUSPEND:
                    self._orders.suspend()
                case Control.RESUME:
                    self._orders.resume()
                case Control.QUIT:
                    self._orders.quit("the client says quit")
                case Control.ABORT:
                    self._orders.abort()
                case Control.REREAD_APP_INFO:
                    pass  # nothing of what may change in it is of use while a job runs

    def _notice_silence(self) -> None:
        assert self._orders is not None
        silent = self._clock() - self._heard_at >= SILENT_AFTER_S
        if silent != self._silent:
            self._silent = silent
            (self._orders.fear if silent else self._orders.hope)()

    def _hear(self) -> None:
        self._heard_at = self._clock()
        text = self._ipc.heartbeat.receive() or b""
        if text != self._heartbeat_text:
            self._heartbeat_text = text
            assert self._orders is not None
            self._orders.hear(parse_heartbeat(text))

    def _check_client(self) -> None:
        now = self._clock()
        if now - self._checked_at < CLIENT_CHECK_EVERY_S:
            return
        self._checked_at = now
        assert self._orders is not None
        pid = self._init_data.client_pid
        if pid and not self._alive(pid):
            self._orders.quit(f"the client (process {pid}) is gone")
        elif not pid and now - self._heard_at > HEARTBEAT_GIVE_UP_S:
            self._orders.quit("the client has been silent for half a minute")
