"""Collect the facts about this computer and its hypervisors: thin, and bounded in time whatever hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import psutil

from ..errors import BridgeError, CommandFailed, HypervisorError
from . import DETECTED, HOST_ARCH, load, third_parties
from .child import Child, clean_environment
from .devices import account, device, groups, me
from .facts import CLIENT, Access, Answer, Facts, Host, Libvirt, Qemu, VirtualBox, VMware, last_line, version_in
from .libvirt.binding import is_here as binding_is_here

ANSWER_WITHIN_S = 20.0
"""A program that tells its version does so in a tenth of a second; VirtualBox's service takes seconds to come up."""

EVERYTHING = ("qemu", "virtualbox", "libvirt", "vmware")

_SERVICE = "boinc-client"
_SETTINGS = ("NoNewPrivileges", "PrivateDevices", "PrivateTmp", "ProtectSystem", "ReadWritePaths")
_MODULES = ("kvm", "kvm_intel", "kvm_amd", "vboxdrv", "vmmon")
_MACHINES_OF = {"VBoxHeadless": "VirtualBox", "VirtualBoxVM": "VirtualBox", "vmware-vmx": "VMware"}
_GROUPS = frozenset({"kvm", "libvirt", "vboxusers"})
_FLAGS = frozenset({"vmx", "svm", "hypervisor"})
_FIRMWARE = {"x86_64": ("qboot.rom", "bios-256k.bin"), "aarch64": ()}
"""What our machines are started with: a kernel, or a disk."""

_IN_APPLICATIONS = {
    "VBoxManage": ("/usr/local/bin", "/Applications/VirtualBox.app/Contents/MacOS",
                   r"C:\Program Files\Oracle\VirtualBox"),
    "vmrun": (
        "/Applications/VMware Fusion.app/Contents/Public",
        "/Applications/VMware Fusion.app/Contents/Library",
        r"C:\Program Files (x86)\VMware\VMware Workstation",
    ),
}  # fmt: skip
"""Where installers put programs that they do not put into PATH: on macOS and Windows, where this was never run."""


async def survey(
    names: Collection[str] = EVERYTHING,
    *,
    arch: str = "x86_64",
    folders: Iterable[Path] = (),
    others: bool = False,
    try_kvm: bool = False,
) -> Facts:
    """Collect the facts about this computer and these hypervisors, for images of `arch`; with `others`, also about the
    backends of other packages.

    `folders` are those in which room is needed. With `try_kvm`, it is tried: a second, or ten of CPU time where it
    hangs. Must be called in the main thread, as all that starts processes. Never raises for what it finds.
    """
    host, qemu, virtualbox, libvirt, vmware = await asyncio.gather(
        _host(folders),
        _qemu(arch, try_kvm) if "qemu" in names else _nothing(),
        _virtualbox() if "virtualbox" in names else _nothing(),
        _libvirt() if "libvirt" in names else _nothing(),
        _vmware() if "vmware" in names else _nothing(),
    )
    return Facts(
        host=host,
        qemu=qemu,
        virtualbox=virtualbox,
        vmware=vmware,
        libvirt=libvirt,
        others=_others() if others else {},
        arch=arch,
        python=platform.python_version(),
        served=frozenset(DETECTED if names is EVERYTHING else names),
    )


async def _nothing() -> None:
    return None


async def ask(*words: str, within_s: float = ANSWER_WITHIN_S) -> Answer:
    """Return what a program says that ends by itself; it is ended, with all that it has started, if it does not."""
    child = Child(os.path.basename(words[0]))
    status: int | None = None
    try:
        await child.start(words, env=clean_environment(LC_ALL="C"))
        status = await asyncio.wait_for(child.wait(), within_s)
    except asyncio.TimeoutError:
        pass
    except CommandFailed as error:
        return Answer(str(error), None)
    finally:
        with contextlib.suppress(CommandFailed):
            await child.kill()
    return Answer(child.tail, status)


def program(name: str) -> str | None:
    """Return where a program is: in PATH, or where its installer puts it."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_IN_APPLICATIONS.get(name, ())))
    return shutil.which(name, path=path)


# The computer


async def _host(folders: Iterable[Path]) -> Host:
    client = account(CLIENT) if sys.platform == "linux" else None
    mine = me()
    return Host(
        system=platform.system(),
        machine=HOST_ARCH,
        kernel=platform.release(),
        flags=flags_in(_text("/proc/cpuinfo")),
        modules=frozenset(name for name in _MODULES if Path("/sys/module", name).exists()),
        has_modules=Path("/lib/modules", platform.release()).is_dir(),
        me=mine,
        client=None if client is None or client.uid == mine.uid else client,
        groups=groups() & _GROUPS,
        service=await _service(),
        no_new_privileges="NoNewPrivs:\t1" in _text("/proc/self/status"),
        temporary_writable=os.access("/tmp", os.W_OK),
        running=running(),
        kvm_at_load={"Y": True, "N": False}.get(_text("/sys/module/kvm/parameters/enable_virt_at_load").strip()),
        windows_hypervisor=await _windows_hypervisor(),
        free_mb={str(folder): free for folder in folders if (free := _free_mb(folder)) is not None},
    )


def flags_in(cpuinfo: str) -> frozenset[str] | None:
    """Return the flags of the processor that matter, from /proc/cpuinfo; None where it tells none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return _FLAGS & frozenset(value.split())
    return None


def running() -> frozenset[str]:
    """Return the names of the hypervisors that have a machine running."""
    found = set()
    with contextlib.suppress(psutil.Error, OSError):
        found = {_MACHINES_OF[name] for process in psutil.process_iter(["name"])
                 if (name := (process.info["name"] or "").removesuffix(".exe")) in _MACHINES_OF}  # fmt: skip
    # The module is counted once for each machine.
    if any(_text(f"/sys/module/{module}/refcnt").strip() not in ("", "0") for module in ("kvm_intel", "kvm_amd")):
        found.add("KVM")
    return frozenset(found)


async def _service() -> Mapping[str, str]:
    """Return how systemd starts the client, of the settings that matter; nothing where there is no such unit."""
    if not Path("/run/systemd/system").is_dir():
        return {}
    answer = await ask("systemctl", "show", _SERVICE, *(f"--property={name}" for name in ("LoadState", *_SETTINGS)))
    settings = dict(line.split("=", 1) for line in answer.said.splitlines() if "=" in line)
    return settings if answer.good and settings.pop("LoadState", "") == "loaded" else {}


async def _windows_hypervisor() -> bool:
    """Never run."""
    if sys.platform != "win32":
        return False
    answer = await ask(
        "powershell", "-NoProfile", "-Command", "(Get-CimInstance Win32_ComputerSystem).HypervisorPresent"
    )
    return answer.good and "True" in answer.said


def _free_mb(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free // 1_000_000
    except OSError:
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# The hypervisors


async def _qemu(arch: str, try_kvm: bool) -> Qemu:
    from .qemu import probe
    from .qemu.command_line import Accelerated

    emulator = probe.PROGRAMS.get(arch, f"qemu-system-{arch}")
    missing = tuple(name for name in (emulator, "qemu-img") if shutil.which(name) is None)
    kvm = device(probe.KVM)
    if missing:
        return Qemu(missing=missing, kvm=kvm)
    version, nine, networks, accelerators, places = await asyncio.gather(
        ask(emulator, "--version"),
        ask(emulator, "-device", "virtio-9p-pci,help"),
        ask(emulator, "-netdev", "help", "-machine", "none"),
        ask(emulator, "-accel", "help"),
        ask(emulator, "-L", "help"),
    )
    runs, said = None, ""
    if try_kvm and version.good and kvm.access is Access.OPENS and arch == HOST_ARCH == "x86_64":
        found = Accelerated(Path(shutil.which(emulator) or emulator), version_in(version.said) or "", "kvm")
        try:
            runs, said = await probe.comes_up(found, None)
        except BridgeError as error:
            runs, said = False, str(error)
    return Qemu(
        version=version,
        has_9p=nine.good,
        has_network="user" in networks.said.split(),
        accelerators=frozenset(accelerators.said.split()),
        firmware_missing=_firmware_missing(places, arch),
        kvm=kvm,
        kvm_runs=runs,
        kvm_said=last_line(said),
    )


def _firmware_missing(places: Answer, arch: str) -> tuple[str, ...]:
    if not places.good or not places.said.strip():
        return ()
    folders = [Path(line.strip()) for line in places.said.splitlines() if line.strip()]
    return tuple(name for name in _FIRMWARE.get(arch, ()) if not any((folder / name).exists() for folder in folders))


async def _virtualbox() -> VirtualBox:
    manage = program("VBoxManage")
    if manage is None:
        return VirtualBox()
    version = await ask(manage, "--version")
    return VirtualBox(
        installed=True,
        version=version,
        host_info=await ask(manage, "list", "hostinfo") if version.good else Answer(),
        driver=device(Path("/dev/vboxdrv")),
        setuid=_setuid("VBoxHeadless", Path(manage)),
        api=await _api(),
    )


async def _api() -> str | None:
    from .virtualbox.api import interpreter

    with tempfile.TemporaryDirectory(prefix="vmbridge") as folder:
        found = await interpreter(Path(folder, "check"))
    return None if found is None else found[1]


def _setuid(name: str, beside: Path) -> bool:
    """Say whether a program of VirtualBox's becomes root, which the hardened builds do."""
    folders = (beside.resolve().parent, Path("/usr/lib/virtualbox"), Path("/opt/VirtualBox"))
    for folder in folders:
        with contextlib.suppress(OSError):
            return bool((folder / name).stat().st_mode & stat.S_ISUID)
    return True


async def _vmware() -> VMware:
    vmrun = program("vmrun")
    if vmrun is None:
        return VMware()
    return VMware(installed=True, version=await ask(vmrun), monitor=device(Path("/dev/vmmon")))


async def _libvirt() -> Libvirt:
    virsh = program("virsh")
    if virsh is None:
        return Libvirt()
    named = os.environ.get("LIBVIRT_DEFAULT_URI")  # `ask` passes no such thing on
    version = await ask(virsh, *(() if named is None else ("--connect", named)), "version")
    return Libvirt(installed=True, version=version, library=binding_is_here())


def _others() -> Mapping[str, str]:
    """Return why each backend of another package cannot be used; nothing for one that can."""
    found = {}
    for name in sorted(third_parties()):
        try:
            programs = getattr(load(name), "programs", ())
        except HypervisorError as error:
            found[name] = str(error)
        else:
            missing = [needed for needed in programs if shutil.which(needed) is None]
            found[name] = f"{missing[0]} is not in PATH" if missing else ""
    return found
