"""How long it takes until the client hears from a program that it has started."""

from __future__ import annotations

from collections.abc import Callable

from ..standin import StandIn
from .app import Start, ours, peer
from .figures import Figure, Peer, alternate
from .scratch import scratch

ROUNDS = 15
DRAIN_EVERY_S = 0.0002
BARE = """\
#!/usr/bin/python3 -IS
import mmap, os, time
memory = mmap.mmap(os.open("boinc_mmap_file", os.O_RDWR), 8192)
text = b"<current_cpu_time>0</current_cpu_time>\\n<checkpoint_cpu_time>0</checkpoint_cpu_time>\\n\\0"
memory[5121:5121 + len(text)] = text
memory[5120] = 1
time.sleep(1000)
"""


def measure() -> list[Figure]:
    """Time from just before the exec, in the client's child, to the first `app_status` in the client's hands.

    Ours is the bundle, in whose main program a shell finds the system's Python; the peer is BOINC's wrapper. What
    Python alone costs is the last line: a script that only says the same, without reading `init_data.xml`. The stand-in
    looks into the channel five thousand times a second. All start in turn, and are killed when they have spoken.
    """
    with (
        scratch() as folder,
        ours(folder, "plain", DRAIN_EVERY_S) as us,
        peer(folder, DRAIN_EVERY_S) as them,
        StandIn(folder / "bare", drain_every_s=DRAIN_EVERY_S) as client,
    ):
        bare = client.directory.program(BARE, "bare_1")
        sides: dict[str, Callable[[], float]] = {
            "ours": lambda: _first(*us),
            "bare": lambda: _first(client, lambda: client.start(bare)),
        }
        if them is not None:
            sides["peer"] = lambda: _first(*them)
        samples = alternate(sides, ROUNDS)
    wrapper = Peer("wrapper", samples.get("peer"))
    return [
        Figure("exec to first status", "ms", samples["ours"], wrapper, "< 100 ms"),
        Figure("bare Python", "ms", samples["bare"], wrapper),
    ]


def _first(client: StandIn, start: Start) -> float:
    client.received.clear()
    start()
    client.until(client.statuses, "the first status")
    heard = client.statuses()[0].at_ns
    assert client.process is not None
    client.process.kill()
    client.wait()
    for process in client.others():
        process.kill()
    return (heard - client.started_ns) / 1e6
