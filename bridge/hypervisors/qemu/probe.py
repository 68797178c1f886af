"""Which QEMU is on this host, and whether its KVM really runs guests.

That /dev/kvm can be opened proves little: nested virtualisation may offer it and then never run a guest. So KVM is
believed only when a kernel has come up on it, all the way to the end of its own start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from logging import getLogger
from pathlib import Path

from ...errors import CommandFailed, NotInstalled, NotPermitted
from .. import HOST_ARCH
from ..child import Child, clean_environment, run_briefly
from ..finding import Finding, Move
from .command_line import Accelerated, base, disk_base

logger = getLogger(__name__)

PROGRAMS = {"x86_64": "qemu-system-x86_64", "aarch64": "qemu-system-aarch64"}
PACKAGES = {"qemu-system-aarch64": "qemu-system-arm"}
"""Debian's, where it is not qemu-system-x86."""

KVM = Path("/dev/kvm")
_KVM_WITHIN_CPU_S = 10.0
_KVM_WITHIN_S = 60.0
"""A kernel comes up in a second of CPU time. On a busy host that takes longer, and KVM that is not believed for once
costs the checkpoints that were taken on it."""

_LOOK_EVERY_S = 0.5
_UP = "Unable to mount root fs"
"""A Linux kernel's last words when it has started completely and been given nothing to do."""

_SLOWLY = "Machines run without it, several times slower."

_CONSOLES = {"x86_64": "console=ttyS0 panic=-1 reboot=t", "aarch64": "console=ttyAMA0 panic=-1"}

_NOTHING_TO_BOOT = "No bootable device"
"""SeaBIOS's."""


def package_of(program: str) -> str:
    """Return the name of Debian's package with one of QEMU's emulators."""
    return PACKAGES.get(program, "qemu-system-x86")


def find(program: str) -> Path:
    """Return where one of QEMU's programs is.

    :raise NotInstalled: it is not in PATH.
    """
    found = shutil.which(program)
    if found is None:
        packages = f"{package_of(program)} qemu-utils"
        raise NotInstalled(_sentence("qemu-missing", program=program, packages=packages))
    return Path(found)


async def probe(arch: str, kernel: Path | None, kvm: Path = KVM, program: Path | None = None) -> Accelerated:
    """Find QEMU for guests of `arch` and the accelerator that works here; `kernel` is what KVM is tried with. Without
    one it is the firmware, which shows no more than that the processor runs. `program` is a QEMU that is to be taken.

    :raise NotInstalled: QEMU or its qemu-img is missing.
    :raise CommandFailed: it does not even tell its version.
    """
    program = program or find(PROGRAMS.get(arch, f"qemu-system-{arch}"))
    find("qemu-img")
    version = await _version(program)
    candidate = Accelerated(program, version, "kvm", arch=arch)
    held = None
    try:
        if arch == HOST_ARCH and _permitted(kvm):
            runs, said = await comes_up(candidate, kernel)
            if runs:
                return candidate
            why = _why_it_is_dead(said)
            held = None if why.reason.move is Move.PERSON else why
            logger.warning("%s %s", why.sentence, _SLOWLY)
    except NotPermitted as error:
        logger.warning("%s %s", error, _SLOWLY)
    return Accelerated(program, version, "tcg", held, arch)


async def can_network(program: Path) -> None:
    """See to it that this QEMU can give a machine a way out.

    :raise NotInstalled: it was built without user networking.
    """
    said = await run_briefly([str(program), "-netdev", "help", "-machine", "none"])  # not each has one by itself
    if "user" not in said.split():
        raise NotInstalled(_sentence("qemu-no-network", program=str(program)))


def _permitted(kvm: Path) -> bool:
    """Say whether KVM can be opened; absent is no, forbidden is worth a word to the user."""
    try:
        os.close(os.open(kvm, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError as error:
        from ..devices import device, me
        from ..diagnosis import forbidden

        raise NotPermitted(forbidden(device(kvm), me()).sentence) from error
    except OSError:
        return False
    return True


def _why_it_is_dead(said: str) -> Finding:
    from ..diagnosis import why_kvm_is_dead
    from ..survey import running

    return why_kvm_is_dead(said, running())


def _sentence(code: str, **values: str) -> str:
    """Return what `vmbridge doctor` says of a reason; imported only where there is something to be said."""
    from ..reasons import find

    return find(code, **values).sentence


async def _version(program: Path) -> str:
    said = await run_briefly([str(program), "--version"])
    found = re.search(r"version ([0-9][0-9.]*)", said)
    if not found:
        raise CommandFailed(f"{program} does not tell its version, but says: {said.strip()[-300:]}")
    return found[1]


async def comes_up(qemu: Accelerated, kernel: Path | None) -> tuple[bool, str]:
    """Say whether a guest comes up on this accelerator, and the end of what QEMU said.

    :raise CommandFailed: QEMU cannot be started, or not be ended.
    """
    child = Child("KVM probe")
    if kernel is None:
        words = [*disk_base(qemu), "-m", "128M", "-device", "isa-debugcon,iobase=0x402,chardev=console"]
        words[words.index("-serial") + 1] = "none"  # what the firmware prints comes by the other device
        last_words = _NOTHING_TO_BOOT
    else:
        words = [*base(qemu), "-m", "128M", "-kernel", str(kernel), "-append", _CONSOLES[qemu.arch]]
        last_words = _UP
    try:
        await child.start(words, env=clean_environment())
        until = asyncio.get_running_loop().time() + _KVM_WITHIN_S
        while (left_s := until - asyncio.get_running_loop().time()) > 0 and child.running:
            if child.cpu_seconds() > _KVM_WITHIN_CPU_S or last_words in child.tail:
                break
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(child.wait(), min(left_s, _LOOK_EVERY_S))
        came_up = last_words in child.tail
    finally:
        await child.kill()
    return came_up, child.tail
