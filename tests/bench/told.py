"""How long it takes until what a guest has said lies before the client, and how old what the client finds is."""

from __future__ import annotations

import bisect
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from protocol.layout import CREDITREPORT

from ..standin import StandIn
from ..standin.task import number
from .app import REAL_POLL_S, ours, peer
from .figures import Figure, Peer
from .scratch import REPOSITORY, scratch

SAMPLES = 200
DRAIN_EVERY_S = 0.0002
SLOW_S = (0.02, 0.12)
FAST_S = (0.01, 0.04)
STARTS = 4
LOOKS = 8
SETTLE_LOOKS = 5
PEERS_SCALE = 1000.0
"""The wrapper knows fractions alone, so seconds are divided by this."""

_LAST_WITHIN_S = 2.5


def measure() -> list[Figure]:
    """Time from just before a file's rename, by another process, to its value in the memory that the client reads.

    The file is the guest's `creditreport` in the folder of a `plain` machine; ours is the bundle under the system's
    Python. The peer's is the file in which a child of BOINC's wrapper says its fraction done. Both hold the seconds
    since the beginning, written 20 to 120 ms apart; a value that was replaced before it was read counts until a newer
    one is there. The stand-in for the client empties the channel five thousand times a second.

    Then with a client that looks once a second, as the real one does, while a new value comes every 10 to 40 ms: how
    old the value is that each look finds, the first five looks, from which a rhythm may be learned, left out. Four
    starts of eight looks each, a quarter of a second apart in the second, because the peer's age depends on how its own
    rhythm lies to the client's; both sides at the same time.
    """
    with scratch() as folder, ThreadPoolExecutor() as both:
        latencies = _ours(folder / "latency", DRAIN_EVERY_S, SLOW_S, SAMPLES)
        peers_latencies = _peers(folder / "peers latency", DRAIN_EVERY_S, SLOW_S, SAMPLES)
        peers_ages = both.submit(_ages, _peers, folder / "peers")
        ages = _ages(_ours, folder / "ours")
    latency, age = Peer("wrapper", peers_latencies), Peer("wrapper", peers_ages.result())
    return [
        Figure("file to client, p50", "ms", latencies, latency, "< 5 ms"),
        Figure("file to client, p99", "ms", latencies, latency, "< 20 ms", percentile=99),
        Figure("found at 1 Hz, p50", "ms", ages, age, "<= 200 ms"),
        Figure("found at 1 Hz, p99", "ms", ages, age, "<= 200 ms", percentile=99),
    ]


def _ages(side: Callable[..., list[float] | None], folder: Path) -> list[float] | None:
    found: list[float] = []
    for number_of_start in range(STARTS):
        count = (LOOKS + SETTLE_LOOKS) * REAL_POLL_S / (sum(FAST_S) / 2)
        phase = number_of_start / STARTS
        ages = side(folder.with_name(f"{folder.name} {phase}"), REAL_POLL_S, FAST_S, int(count), phase)
        if ages is None:
            return None
        found += ages
    return found


def _ours(
    folder: Path, drain_every_s: float, gap_s: tuple[float, float], count: int, phase: float = 0.0
) -> list[float]:
    folder.mkdir()
    with ours(folder, "plain", drain_every_s, phase) as (client, start):
        start()
        share = client.slot / "shared"
        client.until((share / "command").exists, "the share")
        written = _write(share / CREDITREPORT, "fpops {}", gap_s, count)
        return _found(client, written, "fpops_cumulative", 1.0, drain_every_s)


def _peers(
    folder: Path, drain_every_s: float, gap_s: tuple[float, float], count: int, phase: float = 0.0
) -> list[float] | None:
    folder.mkdir()
    with peer(folder, drain_every_s, phase) as found:
        if found is None:
            return None
        client, start = found
        start()
        client.until(client.statuses, "the first status")
        written = _write(client.slot / "fraction", "{}", gap_s, count, PEERS_SCALE)
        return _found(client, written, "fraction_done", PEERS_SCALE, drain_every_s)


def _write(
    file: Path, form: str, gap_s: tuple[float, float], count: int, scale: float = 1.0
) -> tuple[float, list[float]]:
    """Let another process write; return when it began, and the seconds since then that it wrote, in order."""
    words = ["-m", f"{__package__}.told_writer", str(file), form, *map(str, gap_s), str(count), str(scale)]
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    began, *seconds = map(float, done.stdout.split())
    return began, seconds


def _found(
    client: StandIn, written: tuple[float, list[float]], tag: str, scale: float, drain_every_s: float
) -> list[float]:
    began, seconds = written
    last = seconds[-1] - 1e-3
    client.until(lambda: _values(client, tag, scale)[-1:] >= [(last, 0.0)], "the last value", _LAST_WITHIN_S * 20)
    values = [(value, at - began) for value, at in _values(client, tag, scale)]
    if drain_every_s == REAL_POLL_S:
        # After the last value has been written everything found gets older and older.
        looks = [(at - value) * 1e3 for value, at in values if at <= seconds[-1]]
        return looks[SETTLE_LOOKS:]
    return _latencies(seconds, values)


def _values(client: StandIn, tag: str, scale: float) -> list[tuple[float, float]]:
    """Return the values in all statuses, in seconds, and when they were taken."""
    found = ((number(message.text, tag), message.at_ns / 1e9) for message in client.statuses())
    return [(value * scale, at) for value, at in found if value]


def _latencies(seconds: Sequence[float], values: Sequence[tuple[float, float]]) -> list[float]:
    """Return for each value written after how many milliseconds it, or a newer one, was there.

    Messages hold nine digits, so a value may come out a little smaller than it went in.
    """
    found = [value + 2e-5 for value, _ in values]
    places = ((second, bisect.bisect_left(found, second)) for second in seconds)
    return [(values[place][1] - second) * 1e3 for second, place in places if place < len(values)]
