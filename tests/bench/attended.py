"""What a program costs the volunteer's computer while its client attends to it and nothing happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..standin import StandIn
from .app import REAL_POLL_S, ours, peer
from .figures import Figure, Peer
from .scratch import scratch
from .usage import Usage, watch

WINDOW_S = 20.0
WINDOWS = 3
SETTLE_S = 5.0
_RUNNING_WITHIN_S = 120.0


def measure() -> list[Figure]:
    """The program's own process in steady state, under a client that beats and looks once a second.

    Ours is the bundle under the system's Python, with `sleep` in a guest in QEMU, which only sends a heartbeat every
    ten seconds; the peer is BOINC's wrapper with a `sleep`. Both run at the same time. From five seconds after the
    guest has said `running`, three windows of twenty seconds: CPU time scaled to ten minutes, context switches of all
    threads, PSS. No checkpoint of the machine falls into them.
    """
    with scratch() as folder, ours(folder, "qemu", REAL_POLL_S) as (client, start), peer(folder, REAL_POLL_S) as them:
        start()
        if them is not None:
            them[1]()
        client.until(lambda: "-> running" in client.stderr(), "the guest's word", _RUNNING_WITHIN_S)
        pids = [_pid(client)] + ([] if them is None else [_pid(them[0])])
        time.sleep(SETTLE_S)
        windows = [watch(pids, WINDOW_S) for _ in range(WINDOWS)]
    us = [window[0] for window in windows]
    wrapper = None if them is None else [window[1] for window in windows]
    return [
        _figure("CPU", "s/10 min", us, wrapper, lambda usage: 600 * usage.cpu, "<= 1.00"),
        _figure("wake-ups", "1/s", us, wrapper, lambda usage: usage.wake_ups, "<= 21"),
        _figure("memory (PSS)", "MB", us, wrapper, lambda usage: usage.pss, "< 32 MB"),
    ]


def _figure(
    name: str,
    unit: str,
    us: Sequence[Usage],
    wrapper: Sequence[Usage] | None,
    value: Callable[[Usage], float],
    wanted: str,
) -> Figure:
    theirs = None if wrapper is None else [value(usage) for usage in wrapper]
    return Figure(name, unit, [value(usage) for usage in us], Peer("wrapper", theirs), wanted)


def _pid(client: StandIn) -> int:
    assert client.process is not None
    return client.process.pid
