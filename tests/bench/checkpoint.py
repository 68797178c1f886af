"""What a checkpoint of the machine costs, and going on from it."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from qemu.qmp import EventListener, QMPClient, QMPError

from bridge.guest.folders import make_anew
from bridge.hypervisors import MachineSpec
from bridge.hypervisors.child import Child, clean_environment
from bridge.hypervisors.qemu.command_line import NODE, WORK_DISK, Accelerated, machine
from bridge.hypervisors.qemu.machine import Qemu, security_model
from bridge.hypervisors.qemu.probe import probe
from bridge.image import Image, load_image
from guest_side import include_dir
from guest_side.build import build_library
from protocol.layout import Share

from ..standin import StandIn
from ..standin.task import number
from .app import REAL_POLL_S
from .figures import Figure, Peer, alternate
from .scratch import IMAGE, REPOSITORY, scratch
from .stillness import busiest_thread_clock, watched

MACHINES = ((256, 0), (256, 128), (1024, 0), (1024, 512))
"""Megabytes of memory, and how many of them the guest's program fills with random bytes."""

CHECKPOINTS = 8
MANY = 50
FEW = 5
"""After so many checkpoints the disk should have its size."""

WARM_UP = 3
RESTORES = 5
WITHIN_S = 300.0
CODE = Path(__file__).with_name("busy.c")

_JOB = """\
<job_desc><task>
  <virtualmachine>bench</virtualmachine><image>{image}</image><application>worker</application>
  <command_line>{fill}</command_line>
</task></job_desc>
"""
# As often as can be; a job has one in fifty times its cost, or more seldom.
_APP = f"""#!{sys.executable}
from bridge.life import checkpoints
checkpoints.COST_FACTOR = 1.0
from bridge.app import main
raise SystemExit(main())
"""


@dataclass
class _Found:
    """Seconds, and bytes."""

    still: list[float] = field(default_factory=list)
    away: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    disk: list[float] = field(default_factory=list)


def measure() -> list[Figure]:
    """Machine checkpoints and restores beside QEMU's own, with guests whose program uses all of their processor.

    Four machines: 256 MB and 1 GB of memory; empty, and half of it filled with random bytes. Ours runs under the
    stand-in for the client, with a checkpoint every second or two: eight of them, or fifty with the smallest machine.
    How long the machine stands still is the longest time in which its processor's thread used no CPU time, from one
    checkpoint's line in the log to the next; the peer is `snapshot-save` from the command to the job's conclusion, over
    QMP, in a QEMU that has loaded the same state and never ran. How long the share is away is that and what the program
    in the guest saw of it, whose clock stands still with the machine. Bytes are what QEMU has written, by the kernel's
    count. The disk is what the machine's disk occupies after fifty checkpoints, beside five.

    Restored is from the first call to a machine that runs: ours with a look at the disk's health before it; the peer
    is QEMU's own start with `-loadvm`, until it says that it runs. They start in turn.
    """
    figures = []
    with scratch() as folder:
        program = _program(folder)
        for memory, fill in MACHINES:
            many = MANY if (memory, fill) == MACHINES[0] else CHECKPOINTS
            place = folder / f"{memory} {fill}"
            found, spec, tag = _ours(place, program, memory, fill, many)
            figures += _figures(f"{memory} MB, {'half full' if fill else 'empty'}", found, spec, tag)
            shutil.rmtree(place)
    return figures


def _figures(name: str, found: _Found, spec: MachineSpec, tag: str) -> list[Figure]:
    assert isinstance(spec.image, Image)
    qemu = asyncio.run(probe(spec.image.arch, spec.image.kernel))
    bare, bare_written = asyncio.run(_bare_saves(spec, qemu, tag, CHECKPOINTS))
    restored = alternate(
        {
            "ours": lambda: asyncio.run(_restore(spec, tag)),
            "bare": lambda: asyncio.run(_bare_restore(spec, qemu, tag)),
        },
        RESTORES,
    )
    save = Peer("snapshot-save", bare)
    lines = [
        Figure(f"{name}: stands still", "s", found.still, save, "ratio <= 1.10"),
        Figure("  share away", "s", found.away, Peer("still", found.still), "still + 0.4"),
        Figure("  written", "MB", found.written, Peer("snapshot-save", bare_written)),
        Figure("  restored", "s", restored["ours"], Peer("-loadvm", restored["bare"]), "ratio <= 1.20"),
    ]
    if len(found.disk) > FEW:
        lines.append(Figure(f"  disk after {len(found.disk)}", "MB", found.disk[-1:], Peer("5", found.disk[FEW:][:1])))
    return lines


def _program(folder: Path) -> Path:
    library, program = folder / "library", folder / "busy"
    build_library(library)
    command: list[str | Path] = ["cc", "-O2", "-static", "-o", program, CODE, f"-I{include_dir()}", f"-L{library}"]
    subprocess.run([*command, "-lboinc_api", "-lpthread"], check=True)
    return program


# Ours, under the stand-in for the client


def _ours(place: Path, program: Path, memory: int, fill: int, count: int) -> tuple[_Found, MachineSpec, str]:
    """Take `count` checkpoints; return what was found, and a machine that can be restored from a tag."""
    found = _Found()
    with StandIn(place, drain_every_s=REAL_POLL_S, checkpoint_period=1.0, rsc_disk_bound=1e11) as client:
        client.directory.add("job.xml", _JOB.format(image=IMAGE, fill=fill))
        client.directory.add("worker", program)
        app = client.directory.program(_APP, "vmbridge_bench")
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"}
        environment["PYTHONPATH"] = str(REPOSITORY)
        client.start(app, "--hypervisor", "qemu", "--memory_size_mb", str(memory), environment=environment)
        client.until(lambda: client.task.fraction_done > 0, "a memory that is filled", WITHIN_S)
        (qemu,) = [process for process in client.others() if "qemu" in process.name()]
        disk = client.slot / "machine" / WORK_DISK
        _watch(client, qemu, disk, count, found)
        client.order("quit")
        client.wait()
        tag = f"checkpoint-{_taken(client.stderr())[-1]}"
    share = Share.two_folders(place / "shared")
    make_anew(share)
    return found, MachineSpec("bench", disk.parent, share, load_image(IMAGE), memory, 1), tag


def _watch(client: StandIn, qemu: psutil.Process, disk: Path, count: int, found: _Found) -> None:
    """Look at checkpoints, but not at the first ones, for which the disk grows: three states lie there at most."""
    seen = 0
    for _ in range(WARM_UP):
        seen = _next(client, seen)
    with watched(busiest_thread_clock(qemu.pid)) as stillness:
        stillness.take_longest()
        written = qemu.io_counters().write_bytes
        begun = _away(client)
        for _ in range(count):
            seen = _next(client, seen)
            time.sleep(0.05)  # the processor's thread has run again
            found.still.append(stillness.take_longest())
            now = qemu.io_counters().write_bytes
            found.written.append((now - written) / 1e6)
            found.disk.append(disk.stat().st_blocks * 512 / 1e6)
            written = now
        client.until(lambda: _away(client)[0] > begun[0], "the share is back")
    times, seconds = (after - before for after, before in zip(_away(client), begun, strict=True))
    found.away = [still + seconds / times for still in found.still]


def _taken(log: str) -> list[int]:
    return [int(one) for one in re.findall(r"checkpoint checkpoint-(\d+) taken", log)]


def _next(client: StandIn, seen: int) -> int:
    client.until(lambda: len(_taken(client.stderr())) > seen, "the next checkpoint", WITHIN_S)
    return len(_taken(client.stderr()))


def _away(client: StandIn) -> tuple[float, float]:
    """Return how often the share was away, and how many seconds of the guest in all."""
    text = client.statuses()[-1].text
    return number(text, "fpops_cumulative") or 0.0, (number(text, "intops_cumulative") or 0.0) / 1e6


# The peers: QEMU, and nothing else


@asynccontextmanager
async def _bare(spec: MachineSpec, qemu: Accelerated, tag: str, *more: str) -> AsyncIterator[QMPClient]:
    """Lend a QEMU that has loaded a state; with `-S` it stands still."""
    child, qmp = Child("QEMU"), QMPClient("bench")
    ours, theirs = socket.socketpair()
    with theirs:
        words = machine(
            spec,
            qemu,
            work_disk=spec.directory / WORK_DISK,
            qmp_fd=theirs.fileno(),
            security_model=security_model(spec.share.guest),
        )
        await child.start([*words, "-loadvm", tag, *more], pass_fds=[theirs.fileno()], env=clean_environment())
    try:
        await qmp.connect(ours)
        yield qmp
    finally:
        await child.kill()
        with suppress(QMPError, EOFError, OSError):
            await qmp.disconnect()


async def _bare_saves(spec: MachineSpec, qemu: Accelerated, tag: str, count: int) -> tuple[list[float], list[float]]:
    """Save a machine that stands still some times; return the seconds, and the megabytes that were written."""
    seconds, written = [], []
    async with _bare(spec, qemu, tag, "-S") as qmp:
        process = next(one for one in psutil.Process().children() if "qemu" in one.name())
        for _ in range(1 + count):
            before = process.io_counters().write_bytes
            seconds.append(await _job(qmp, "snapshot-save", {"vmstate": NODE}))
            written.append((process.io_counters().write_bytes - before) / 1e6)
            await _job(qmp, "snapshot-delete", {})
    return seconds[1:], written[1:]  # the first makes the room that the others use again


async def _job(qmp: QMPClient, command: str, more: dict[str, object]) -> float:
    """Run a job of QEMU's; return the seconds until it was concluded."""
    changes = EventListener("JOB_STATUS_CHANGE")
    with qmp.listen(changes):
        begun = time.monotonic()
        await qmp.execute(command, {"job-id": command, "tag": "bare", "devices": [NODE], **more})
        while True:
            change: Any = await changes.get()
            if change["data"]["status"] == "concluded":
                break
        taken = time.monotonic() - begun
    await qmp.execute("job-dismiss", {"id": command})
    return taken


async def _bare_restore(spec: MachineSpec, qemu: Accelerated, tag: str) -> float:
    begun = time.monotonic()
    async with _bare(spec, qemu, tag) as qmp:
        answer: Any = await qmp.execute("query-status")
        assert answer["running"], answer
        return time.monotonic() - begun


async def _restore(spec: MachineSpec, tag: str) -> float:
    ours = Qemu(spec)
    await ours.probe()
    begun = time.monotonic()
    try:
        await ours.restore(tag)
        return time.monotonic() - begun
    finally:
        await ours.stop()
