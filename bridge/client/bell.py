"""Notice that the client has been at the shared memory: a thread that looks at eight flags, ten times a second.

Memory that another process writes gives no notice, so somebody must look; and this is what a job that only waits costs
its host, for days. A thread that sleeps costs a third of what a timer of the event loop does (in ten minutes 0.2 CPU
seconds, not 0.7), so the loop is left alone until there is something for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from .app_ipc import AppIpc

LOOK_EVERY_S = 0.1

_CONTROL, _HEARTBEAT, _APP_STATUS, _TRICKLE_DOWN = 0, 4, 5, 7
_INBOUND, _OUTBOUND = (_CONTROL, _HEARTBEAT, _TRICKLE_DOWN), (3, _APP_STATUS, 6)


class Bell:
    """Rings in the event loop while there is a message for us, and when one of ours has been taken."""

    def __init__(self, ipc: AppIpc, ring: Callable[[], None], clock: Callable[[], float]) -> None:
        self._ipc = ipc
        self._ring = ring
        self._clock = clock
        self._stopped = threading.Lock()
        self._thread: threading.Thread | None = None
        self.status_seen_at = 0.0
        """When an `app_status` was last seen unread."""

    def start(self) -> None:
        """Begin to listen, for the running loop."""
        self._stopped.acquire()
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._listen, args=(loop,), name="bell", daemon=True)
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        """Listen no more. May be called again."""
        if self._thread is not None:
            self._stopped.release()
            self._thread.join()
            self._thread = None

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        stopped, flags_of, clock = self._stopped.acquire, self._ipc.flags, self._clock
        before = flags_of()
        while not stopped(True, LOOK_EVERY_S):
            flags = flags_of()
            if flags[_APP_STATUS]:
                self.status_seen_at = clock()
            # A message for us rings as long as it lies there: the next may have come in the place of the last.
            if flags != before or flags[_CONTROL] or flags[_HEARTBEAT] or flags[_TRICKLE_DOWN]:
                if any(flags[channel] for channel in _INBOUND) or any(before[one] > flags[one] for one in _OUTBOUND):
                    with contextlib.suppress(RuntimeError):  # the loop is closed
                        loop.call_soon_threadsafe(self._ring)
                before = flags
