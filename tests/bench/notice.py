"""How long the host takes to know what the guest has just said."""

from __future__ import annotations

import asyncio
import bisect
import sys
import time
from pathlib import Path

from bridge.guest.watch import News, Watch
from protocol.layout import Share
from protocol.messages import CreditReport, Message
from protocol.session import Said

from .bare_inotify import BareInotify
from .figures import Figure, Peer
from .scratch import REPOSITORY, scratch

SAMPLES = 400
_LAST_WITHIN_S = 1.5
"""By then even a report whose notice was lost has been found by the re-read."""


class _Heard:
    """When which report was heard. The value of a report is the time at which it was written."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, float]] = []

    def report(self, written: float) -> None:
        self.reports.append((written, time.monotonic()))

    def watch(self, news: News) -> None:
        if isinstance(news, Said) and isinstance(news.message, CreditReport) and news.message.cpu_seconds is not None:
            self.report(news.message.cpu_seconds)

    def latencies(self, written: list[float]) -> list[float]:
        """Return for each report written after how many milliseconds it, or a newer one, was known here.

        A report that was replaced before it was read is not left out: that would cut off just the longest waits.
        """
        values = [value for value, _ in self.reports]
        places = ((value, bisect.bisect_left(values, value)) for value in written)
        return [(self.reports[place][1] - value) * 1e3 for value, place in places if place < len(values)]


def measure() -> list[Figure]:
    """Time from just before a report's rename, by another process, to its decoded message in the event loop.

    Another process writes creditreports into two folders in turn, 10 to 60 ms apart, each with the monotonic clock (one
    for all processes on Linux) as its `cpu_seconds`, read just before the file is written and renamed: some 30
    microseconds of writing are in it on both sides. One folder is watched by `bridge.guest.watch.Watch`, the other by
    the peer, a reader of a bare inotify descriptor in the same loop; both read and decode with the same functions.
    """
    ours, bare = asyncio.run(_measure())
    peer = Peer("bare inotify", bare)
    return [
        Figure("rename to message, p50", "ms", ours, peer, "< 3 ms"),
        Figure("rename to message, p99", "ms", ours, peer, "< 15 ms", percentile=99),
    ]


async def _measure() -> tuple[list[float], list[float] | None]:
    by_watch, by_bare = _Heard(), _Heard()
    with scratch() as folder:
        share, other = Share.one_folder(folder / "watched"), folder / "bare"
        for made in (share.guest, other):
            made.mkdir()
        watch = Watch(share, by_watch.watch)
        bare = _bare(other, by_bare)
        watch.start()
        try:
            written = await _write([share.guest, other])
        finally:
            watch.stop()
            if bare is not None:
                bare.stop()
    return by_watch.latencies(written[0::2]), by_bare.latencies(written[1::2]) if bare else None


def _bare(folder: Path, heard: _Heard) -> BareInotify | None:
    def take(message: Message) -> None:
        if isinstance(message, CreditReport) and message.cpu_seconds is not None:
            heard.report(message.cpu_seconds)

    try:
        return BareInotify(folder, take)
    except OSError:
        return None


async def _write(folders: list[Path]) -> list[float]:
    """Let another process write into the folders in turn; return what it wrote, in order."""
    words = ["-m", f"{__package__}.notice_writer", str(SAMPLES * len(folders)), *map(str, folders)]
    writer = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY
    )
    said, _ = await writer.communicate()
    await asyncio.sleep(_LAST_WITHIN_S)
    if writer.returncode:
        raise RuntimeError(f"the writer ended with status {writer.returncode}")
    return [float(line) for line in said.split()]
