"""How long a machine takes to come up."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path

from bridge.guest.folders import make_anew
from bridge.guest.stage import stage_in
from bridge.guest.watch import News, Watch
from bridge.hypervisors import MachineSpec
from bridge.hypervisors.child import Child, clean_environment
from bridge.hypervisors.qemu.command_line import Accelerated, machine
from bridge.hypervisors.qemu.machine import security_model
from bridge.hypervisors.qemu.probe import find, probe
from bridge.image import Image, cpio, load_image
from bridge.job import MachineTask
from guest_side import read_agent
from protocol.layout import Share
from protocol.messages import GuestState, Status
from protocol.session import Said

from .figures import Figure, Peer, alternate
from .scratch import IMAGE, scratch

ROUNDS = 7
WITHIN_S = 60.0
BARE_INIT = Path(__file__).with_name("bare_init.c")

_BARE_UP = "bare init is up"
_PROGRAM = "#!/bin/sh\nexec sleep 1000\n"
_LOOK_EVERY_S = 0.001
_UP = (GuestState.READY, GuestState.RUNNING)

Up = Callable[[MachineSpec, Child], Coroutine[None, None, None]]


def measure() -> list[Figure]:
    """Seconds from just before QEMU is spawned to a guest that is up, by TCG, with QEMU's files in the page cache.

    Ours is up when the host has read a `status` of `ready` or `running` (bridge.guest.watch.Watch); a task, a program
    and the agent were staged before the time began, and the overlay of the work disk was made. The peer is the same
    kernel with the same command line and devices, but in its initramfs is nothing save a static /init that prints one
    line and sleeps; it is up when that line has come out of the console. So that nobody takes what the devices of the
    two exports cost for nothing, the last line is the peer beside itself without them. All start in turn.
    """
    image = load_image(IMAGE)
    qemu = asyncio.run(probe(image.arch, image.kernel, kvm=Path("/nonexistent")))
    with scratch() as folder:
        bench = _Bench(folder, qemu, image)
        bare = replace(image, initramfs=bare_initramfs(folder))
        seconds = alternate(
            {
                "lean": lambda: bench.boot(replace(bare, work_disk=None), _console_says_so, exports=False),
                "bare": lambda: bench.boot(replace(bare, work_disk=None), _console_says_so),
                "in memory": lambda: bench.boot(replace(image, work_disk=None), _agent_says_so),
                "with disk": lambda: bench.boot(image, _agent_says_so),
            },
            ROUNDS,
        )
    peer = Peer("bare kernel", seconds["bare"])
    return [
        Figure("QEMU to agent, no work disk", "s", seconds["in memory"], peer, "<= 1.10"),
        Figure("QEMU to agent, work disk", "s", seconds["with disk"], peer, "<= 1.40"),
        Figure("bare kernel with exports", "s", seconds["bare"], Peer("without", seconds["lean"])),
    ]


def bare_initramfs(folder: Path) -> Path:
    """Make an initramfs that holds nothing but an /init which says that it is there."""
    program = folder / "init"
    subprocess.run(["cc", "-O2", "-static", "-s", "-o", program, BARE_INIT], check=True)
    initramfs = folder / "bare.cpio"
    initramfs.write_bytes(cpio.archive([cpio.file("init", program.read_bytes(), executable=True)]))
    return initramfs


@dataclass(frozen=True, slots=True)
class _Bench:
    """Boots one machine after the other in a folder."""

    folder: Path
    qemu: Accelerated
    image: Image

    def boot(self, image: Image, up: Up, *, exports: bool = True) -> float:
        """Start a machine, wait until it is `up`, end it; return the seconds that this took."""
        share = Share.two_folders(self.folder / "shared")
        job = MachineTask(self.folder / "job.xml", "bench", image.kernel.parent, "worker")
        spec = MachineSpec("bench", self.folder, share, image, job.memory_mb, job.cpus or 1)
        (self.folder / "worker").write_text(_PROGRAM)
        make_anew(share)
        stage_in(job, share, agent=read_agent(image.arch), static_only=image.static_programs_only)
        overlay = _overlay(image, self.folder)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            model = security_model(share.guest)
            words = machine(spec, self.qemu, work_disk=overlay, qmp_fd=theirs.fileno(), security_model=model)
            if not exports:
                words = words[: words.index("-fsdev")]
            return asyncio.run(_boot(spec, words, theirs.fileno(), up))


def _overlay(image: Image, folder: Path) -> Path | None:
    if image.work_disk is None:
        return None
    overlay = folder / "work.qcow2"
    words: list[str | Path] = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.work_disk.resolve(), overlay]
    subprocess.run([find("qemu-img"), *words], check=True)
    return overlay


async def _boot(spec: MachineSpec, words: list[str], qmp_fd: int, up: Up) -> float:
    child = Child("QEMU")
    begun = time.monotonic()
    try:
        await child.start(words, pass_fds=[qmp_fd], env=clean_environment())
        await _first(up(spec, child), child)
        return time.monotonic() - begun
    finally:
        await child.kill()


async def _first(up: Coroutine[None, None, None], child: Child) -> None:
    """Wait until the guest is up.

    :raise RuntimeError: the machine ended before, or it takes too long.
    """
    coming, ending = asyncio.create_task(up), asyncio.create_task(child.wait())
    await asyncio.wait({coming, ending}, timeout=WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    came = coming.done()
    for task in (coming, ending):
        task.cancel()
    if not came:
        raise RuntimeError(f"the machine ended or did not come up within {WITHIN_S:.0f} s: {child.tail[-500:]}")
    coming.result()


async def _console_says_so(spec: MachineSpec, child: Child) -> None:
    while _BARE_UP not in child.tail:
        await asyncio.sleep(_LOOK_EVERY_S)


async def _agent_says_so(spec: MachineSpec, child: Child) -> None:
    up = asyncio.Event()

    def hear(news: News) -> None:
        if isinstance(news, Said) and isinstance(news.message, Status) and news.message.state in _UP:
            up.set()

    watch = Watch(spec.share, hear)
    watch.start()
    try:
        await up.wait()
    finally:
        watch.stop()
