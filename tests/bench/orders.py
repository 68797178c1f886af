"""How long it takes until the machine does what the client says."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import psutil

from ..standin import StandIn
from .app import REAL_POLL_S, Start, ours, peer
from .figures import Figure, Peer
from .scratch import scratch
from .stillness import Stillness, process_clock, watched

ROUNDS = 40
ABORTS = 6
STILL_S = 0.1
WITHIN_S = 60.0
BUSY = "#!/bin/sh\nwhile :; do :; done\n"


@dataclass
class _Times:
    """Seconds, one for each order."""

    suspend: list[float] = field(default_factory=list)
    resume: list[float] = field(default_factory=list)
    abort: list[float] = field(default_factory=list)


def measure() -> list[Figure]:
    """Seconds from just before an order lies in the memory to what it asks for.

    The client looks once a second.

    Ours is the bundle under the system's Python with a machine whose guest uses all of its processor; the peer is
    BOINC's wrapper with a program that does. Paused is the last moment at which the machine's process (the program)
    used CPU time, before a tenth of a second in which it did not; running is when it does again. Forty orders of each,
    at random moments. Gone is when the process has ended, after six starts.
    """
    with scratch() as folder:
        with ours(folder, "qemu", REAL_POLL_S, worker=BUSY) as (client, start):
            us = _orders(client, start, lambda: "-> running" in client.stderr())
        with peer(folder, REAL_POLL_S, worker=BUSY) as found:
            them = None if found is None else _orders(*found, lambda: True)
    lines = []
    for name, end in (("suspend", "paused"), ("resume", "running"), ("abort", "gone")):
        samples = getattr(us, name)
        against = Peer("wrapper", None if them is None else getattr(them, name))
        for percentile, wanted in ((50, "< 0.15 s"), (99, "")):
            lines.append(
                Figure(f"{name} to {end}, p{percentile}", "s", samples, against, wanted, percentile=percentile)
            )
    return lines


def _orders(client: StandIn, start: Start, runs: Callable[[], bool]) -> _Times:
    times, random = _Times(), Random(1)
    for number in range(ABORTS):
        start()
        client.until(runs, "the guest's word", WITHIN_S)
        client.until(lambda: bool(client.others()), "the program")
        (program,) = _busiest(client)
        with watched(process_clock(program.pid)) as seen:
            _wait(lambda: seen.still_s() < STILL_S / 2, seen)
            for _ in range(ROUNDS if number == 0 else 0):
                time.sleep(random.uniform(0.3, 1.3))
                times.suspend.append(_order(client, "suspend", seen, lambda: seen.still_s() >= STILL_S))
                time.sleep(random.uniform(0.3, 1.3))
                times.resume.append(_order(client, "resume", seen, lambda: seen.still_s() < STILL_S / 2))
        time.sleep(random.uniform(0.3, 1.3))
        times.abort.append(_abort(client, program.pid))
        client.wait()
        for name in ("boinc_finish_called", "boinc_temporary_exit", "stderr.txt"):
            (client.slot / name).unlink(missing_ok=True)
    return times


def _busiest(client: StandIn) -> list[psutil.Process]:
    """Return the one process that the program has started and that works."""
    time.sleep(STILL_S)
    return [max(client.others(), key=lambda process: sum(process.cpu_times()[:2]))]


def _order(client: StandIn, order: str, seen: Stillness, obeyed: Callable[[], bool]) -> float:
    begun = time.monotonic()
    client.order(order)
    _wait(obeyed, seen)
    return max(0.0, seen.moved_at - begun)


def _wait(condition: Callable[[], bool], seen: Stillness) -> None:
    until = time.monotonic() + WITHIN_S
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(f"not obeyed within {WITHIN_S:g} s; still for {seen.still_s():.1f} s")
        time.sleep(0.0005)


def _abort(client: StandIn, pid: int) -> float:
    handle = os.pidfd_open(pid)
    try:
        begun = time.monotonic()
        client.order("abort")
        if not select.select([handle], [], [], WITHIN_S)[0]:
            raise RuntimeError("it is still there")
        return time.monotonic() - begun
    finally:
        os.close(handle)
