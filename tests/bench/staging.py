"""How fast files come to the guest and results come back."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bridge.guest.collect import collect
from bridge.guest.stage import PLAIN, put
from protocol.files import Door
from protocol.layout import OUT

from .figures import Figure, Peer, alternate
from .scratch import scratch

MEGABYTES = 256
ROUNDS = 7
LINKS = 50


def measure() -> list[Figure]:
    """A file of 256 MB of random bytes, in the page cache, on the disk that holds the checkout; a new target each time.

    In: `bridge.guest.stage.put` as a copy, from the call to its return, beside a `cp` process from its start to its
    end. Out: `bridge.guest.collect.collect`, which makes results durable, beside `cp` and then `sync` of the target.
    What is dirty is written out before each run, outside the measured time. Link: `put` where a hard link is allowed.
    """
    with scratch() as folder:
        source = folder / "guest" / OUT / "data"
        source.parent.mkdir(parents=True)
        _fill(source)
        target = folder / "job" / "data"
        target.parent.mkdir()
        copies = alternate(
            {
                "put": lambda: _speed(target, lambda: put(source, target, PLAIN, may_link=False)),
                "cp": lambda: _speed(target, lambda: _do(["cp", source, target])),
            },
            ROUNDS,
        )
        with Door(folder / "guest") as door:
            results = alternate(
                {
                    "collect": lambda: _speed(target, lambda: collect(door, {"data": target}, folder)),
                    "cp, sync": lambda: _speed(target, lambda: _do(["cp", source, target], ["sync", target])),
                },
                ROUNDS,
            )
        links = [_seconds(target, lambda: put(source, target, PLAIN, may_link=True)) * 1e6 for _ in range(LINKS)]
    return [
        Figure("in, as a copy", "MB/s", copies["put"], Peer("cp", copies["cp"])),
        Figure("out, durable", "MB/s", results["collect"], Peer("cp and sync", results["cp, sync"])),
        Figure("in, as a hard link", "us", links),
    ]


def _fill(file: Path) -> None:
    with file.open("wb") as writer:
        for _ in range(MEGABYTES):
            writer.write(os.urandom(1_000_000))


def _speed(target: Path, act: Callable[[], object]) -> float:
    """Return the megabytes per second at which `act` makes `target`."""
    target.unlink(missing_ok=True)
    os.sync()
    return MEGABYTES / _seconds(target, act)


def _seconds(target: Path, act: Callable[[], object]) -> float:
    target.unlink(missing_ok=True)
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _do(*commands: list[str | Path]) -> None:
    for words in commands:
        subprocess.run(words, check=True)
