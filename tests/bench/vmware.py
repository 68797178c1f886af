"""What each operation takes under VMware, beside bare `vmrun`: both are a stand-in's, so it says what we add."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from bridge.hypervisors.contract import Ground, machine
from bridge.hypervisors.vmware import VMware
from bridge.hypervisors.vmware.vmx import FOLDER, VMX

from .. import vmrun
from .figures import Figure, Peer
from .scratch import BUILD

ROUNDS = 5
PROGRAMS = ("qemu-system-x86_64", "qemu-nbd")

OPERATIONS = {
    "start": "start",
    "pause": "pause",
    "resume": "resume",
    "save": "save a state",
    "wake": "go on from it",
    "restore": "restore it",
    "stop": "stop",
}

Samples = dict[str, dict[str, list[float]]]


def measure() -> list[Figure]:
    """Ours: the bridge's verb, until it returns. To start makes the disk and a keeper and finds the process; to save
    suspends the machine, copies its disk and syncs; to restore copies the disk back. Peer: one call of `vmrun` for
    each: start, pause, unpause, suspend, start of what was suspended (twice), stop. VMware itself never ran: `vmrun` is
    a stand-in over QEMU, the same for both, so neither number says what VMware takes. The machine is in its BIOS.
    """
    samples: Samples = {}
    image = BUILD / "image-cd"
    if all(map(shutil.which, PROGRAMS)) and (image / "image.json").exists():
        path = os.environ["PATH"]
        with tempfile.TemporaryDirectory(prefix="vw") as folder:
            vmrun.install(Path(folder))
            os.environ["PATH"] = f"{folder}:{path}"
            try:
                asyncio.run(_measure(Path(folder), image, samples))
            finally:
                os.environ["PATH"] = path
    return [
        Figure(f"{name} (VMware's stand-in)", "ms", found.get("ours"), Peer("vmrun", found.get("peer")))
        for verb, name in OPERATIONS.items()
        for found in [samples.get(verb, {})]
    ]


async def _measure(folder: Path, image: Path, samples: Samples) -> None:
    place = folder / "job"
    place.mkdir()
    async with machine(Ground(VMware, place, image)) as (_, spec):
        vmx = spec.directory / FOLDER / VMX

        def add(operation: str, side: str, took: float) -> None:
            samples.setdefault(operation, {}).setdefault(side, []).append(took)

        for number in range(ROUNDS):
            ours = VMware(spec)
            add("start", "ours", await _timed(ours.start()))
            add("pause", "ours", await _timed(ours.pause()))
            add("resume", "ours", await _timed(ours.resume()))
            await ours.pause()
            add("save", "ours", await _timed(ours.save(f"{number}")))
            add("wake", "ours", await _timed(ours.resume()))
            add("stop", "ours", await _timed(ours.stop()))
            ours = VMware(spec)
            add("restore", "ours", await _timed(ours.restore(f"{number}")))
            await ours.stop()
            ours = VMware(spec)
            await ours.start()  # its files are what the peer needs
            await ours.stop()
            for verb, words in (
                ("start", ("start", vmx, "nogui")), ("pause", ("pause", vmx)), ("resume", ("unpause", vmx)),
                (None, ("pause", vmx)), ("save", ("suspend", vmx, "hard")), ("wake", ("start", vmx, "nogui")),
                (None, ("suspend", vmx, "hard")), ("restore", ("start", vmx, "nogui")), ("stop", ("stop", vmx, "hard")),
            ):  # fmt: skip
                took = _vmrun(*words)
                if verb is not None:
                    add(verb, "peer", took)
        await VMware(spec).remove()


async def _timed(work: Coroutine[Any, Any, None]) -> float:
    begun = time.perf_counter()
    await work
    return (time.perf_counter() - begun) * 1e3


def _vmrun(*words: object) -> float:
    begun = time.perf_counter()
    subprocess.run(["vmrun", "-T", "ws", *map(str, words)], check=True, capture_output=True)
    return (time.perf_counter() - begun) * 1e3
