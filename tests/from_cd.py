"""A PC of QEMU's that starts from an image's boot CD, and a job for its guest that ends with the machine."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from bridge.guest.stage import stage_in
from bridge.image import Image
from bridge.job import MachineTask
from guest_side import read_agent
from protocol.codec import decode, encode
from protocol.files import Door, write_atomic
from protocol.layout import COMMAND, FINISHED, GUEST_TAG, HOST_TAG, OUT, Share
from protocol.messages import Command, Finished, HostState

from .patience import AT_MOST_S

_PC = [
    *("qemu-system-x86_64", "-nodefaults", "-display", "none", "-nic", "none", "-serial", "stdio"),
    *("-machine", "pc", "-accel", "tcg", "-cpu", "Nehalem-v1", "-m", "256"),
]

_WORKER = """#!/bin/sh
grep -e ' / ' -e ' /work ' -e /run/vmbridge/ /proc/mounts >mounts
read line <in.txt && echo "$line" >out.txt
exec >/dev/null 2>&1
setsid sh -c '>/tmp/apart; until [ -e /run/vmbridge/guest/finished ]; do sleep 0.2; done; kill -TERM 1' &
until [ -e /tmp/apart ]; do sleep 0.1; done
"""
"""When all is told it ends the machine's first process, by one that the agent does not end with it."""


def stage(folder: Path, image: Image) -> Share:
    """Put a job into the empty `folder`, and return its share, in which the guest is told to run it."""
    (folder / "worker").write_text(_WORKER)
    (folder / "in.txt").write_text("all of it\n")
    job = MachineTask(folder / "job.xml", "boot", folder, "worker", inputs=("in.txt",), outputs=("out.txt", "mounts"))
    share = Share.two_folders(folder / "shared")
    stage_in(job, share, agent=read_agent(image.arch), static_only=image.static_programs_only)
    write_atomic(share.host / COMMAND, encode(Command(1, HostState.RUN, time.time())), durable=False)
    return share


def mounts_when_done(share: Share) -> dict[str, tuple[str, str]]:
    """Check that the job is done, and return what its program saw at each mount point: what is mounted, and its type.

    :raise AssertionError: it is not done.
    """
    with Door(share.guest) as door:
        finished = door.read(FINISHED, 65_536)
    assert finished is not None and decode(FINISHED, finished) == Finished(0)
    assert (share.guest / OUT / "out.txt").read_text() == "all of it\n"
    lines = (line.split() for line in (share.guest / OUT / "mounts").read_text().splitlines())
    return {where: (what, kind) for what, where, kind, *_ in lines}


def cd(image: Image) -> list[str]:
    """The words for its CD, on IDE."""
    drive = f"file={image.boot_cd},format=raw,if=none,id=cd,readonly=on"
    return ["-drive", drive, "-device", "ide-cd,bus=ide.1,drive=cd"]


def disk(image: Image, *devices: str) -> list[str]:
    """The words for its disk, `work`, which is on the last of these devices. What is written is forgotten."""
    words = ["-drive", f"file={image.work_disk},format=vmdk,if=none,id=work,snapshot=on"]
    return [*words, *(word for device in devices for word in ("-device", device))]


def shares(share: Share, before_the_tags: str = "") -> list[str]:
    """The words for both exports, by 9p."""
    how = "security_model=mapped-xattr"
    return [
        *("-virtfs", f"local,path={share.host},{how},readonly=on,mount_tag={before_the_tags}{HOST_TAG}"),
        *("-virtfs", f"local,path={share.guest},{how},mount_tag={before_the_tags}{GUEST_TAG}"),
    ]


def boot(*words: str) -> str:
    """Run the PC until it has switched itself off, for it may start anew; return what its console says.

    :raise AssertionError: QEMU failed; the message holds what was said.
    """
    done = subprocess.run(
        [*_PC, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=AT_MOST_S,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr}"
    return done.stdout.replace("\r", "")
