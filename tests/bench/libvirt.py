"""What each operation on a machine takes under libvirt, beside `virsh` with the same daemon and the same machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from bridge.hypervisors.contract import Ground, machine
from bridge.hypervisors.libvirt import Libvirt
from bridge.hypervisors.libvirt.domain import domain_name, machine_id

from .. import libvirtd
from .figures import Figure, Peer
from .scratch import BUILD

STARTS = 5
PAUSES = 5
"""For each start."""

OPERATIONS = ("start", "pause", "resume", "stop")


def measure() -> list[Figure]:
    """Ours: the bridge's verb, until it returns; its `start` makes the disk and finds the process as well.
    Peer: `virsh create --paused` and `resume`, `suspend`, `resume`, `destroy`, each a process of its own. To stop one,
    libvirt waits until the dead process has been waited for, which some containers' first process does late.
    """
    samples: dict[str, dict[str, list[float]]] = {}
    if libvirtd.forbidden() is None and libvirtd.missing() is None:
        with tempfile.TemporaryDirectory(prefix="lv") as folder, libvirtd.daemon(Path(folder)) as (uri, _):
            before = os.environ.get("LIBVIRT_DEFAULT_URI")
            os.environ["LIBVIRT_DEFAULT_URI"] = uri
            try:
                samples = asyncio.run(_measure(Path(folder)))
            finally:
                os.environ.pop("LIBVIRT_DEFAULT_URI")
                if before is not None:
                    os.environ["LIBVIRT_DEFAULT_URI"] = before
    return [
        Figure(f"{name} under libvirt", "ms", found.get("ours"), Peer("virsh", found.get("virsh")))
        for name in OPERATIONS
        for found in [samples.get(name, {})]
    ]


async def _measure(folder: Path) -> dict[str, dict[str, list[float]]]:
    place = folder / "job"
    place.mkdir()
    async with machine(Ground(Libvirt, place, BUILD / "image")) as (_, spec):
        name = domain_name(machine_id(spec.directory))
        description = place / "domain.xml"
        samples: dict[str, dict[str, list[float]]] = {}

        def add(operation: str, side: str, took: float) -> None:
            samples.setdefault(operation, {}).setdefault(side, []).append(took)

        for _ in range(STARTS):
            ours = Libvirt(spec)
            await ours.probe()
            add("start", "ours", await _timed(ours.start()))
            description.write_text(_virsh("dumpxml", name)[1])
            for _ in range(PAUSES):
                add("pause", "ours", await _timed(ours.pause()))
                add("resume", "ours", await _timed(ours.resume()))
                add("pause", "virsh", _virsh("suspend", name)[0])
                add("resume", "virsh", _virsh("resume", name)[0])
            add("stop", "ours", await _timed(ours.stop()))
            add("start", "virsh", _virsh("create", str(description), "--paused")[0] + _virsh("resume", name)[0])
            add("stop", "virsh", _virsh("destroy", name)[0])
        return samples


async def _timed(work: Coroutine[Any, Any, None]) -> float:
    begun = time.perf_counter()
    await work
    return (time.perf_counter() - begun) * 1e3


def _virsh(*words: str) -> tuple[float, str]:
    begun = time.perf_counter()
    said = subprocess.run(["virsh", *words], capture_output=True, text=True, check=True).stdout
    return (time.perf_counter() - begun) * 1e3, said
