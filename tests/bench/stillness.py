"""When a program stands still: its processor time, looked at every millisecond.

The program uses all of a processor otherwise, so that the last moment at which its time moved is the moment at which it
was stopped. On a busy host it may also stand still because it gets none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_EVERY_S = 0.001
_MOVED_S = 0.0002


def process_clock(pid: int) -> Callable[[], float]:
    """Return a process' CPU seconds, to the nanosecond."""
    number = (~pid << 3) | 2  # clock_getcpuclockid(3): the kernel's CPUCLOCK_SCHED of this process
    return lambda: time.clock_gettime(number)


def busiest_thread_clock(pid: int) -> Callable[[], float]:
    """Return the CPU seconds of the thread that has used most so far: of a machine's, its processor.

    The kernel counts them when the thread stops and with each of its ticks, 1 to 10 ms apart.
    """
    files = [task / "schedstat" for task in Path(f"/proc/{pid}/task").iterdir()]

    def read(file: Path) -> float:
        return int(file.read_text().split()[0]) / 1e9

    busiest = max(files, key=read)
    return lambda: read(busiest)


class Stillness:
    """What is seen of one clock since it is watched. Moments are the steady clock's, in seconds."""

    def __init__(self) -> None:
        self.moved_at = time.monotonic()
        self.longest: tuple[float, float] = (0.0, 0.0)

    def still_s(self) -> float:
        """Return how long it has not moved."""
        return time.monotonic() - self.moved_at

    def take_longest(self) -> float:
        """Return the longest time for which it stood still since this was asked last."""
        begun, ended = self.longest
        self.longest = (0.0, 0.0)
        return ended - begun

    def see(self, moved: bool) -> None:
        """Note whether it has moved since the last look."""
        now = time.monotonic()
        if moved:
            if now - self.moved_at > self.longest[1] - self.longest[0]:
                self.longest = (self.moved_at, now)
            self.moved_at = now


@contextmanager
def watched(clock: Callable[[], float]) -> Iterator[Stillness]:
    """Watch a clock for a block."""
    seen, ended = Stillness(), threading.Event()

    def look() -> None:
        before = clock()
        while not ended.wait(LOOK_EVERY_S):
            try:
                after = clock()
            except OSError:  # the process has ended
                return
            seen.see(after - before > _MOVED_S)
            before = after if after - before > _MOVED_S else before

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
