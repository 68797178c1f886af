"""Neighbour 2: what runs the machine. The interface of a backend, the registry, and the choice of one.

A backend is a class that fulfils `Hypervisor`, in a module of this package or in somebody else's package, which names
it by an entry point (docs/hypervisors.md). It is imported only when chosen, so that a host needs the libraries of the
one it uses and no others.
"""

from __future__ import annotations

import enum
import importlib
import platform
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from protocol.layout import Share

from ..errors import HypervisorError, NotInstalled, OverBound

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ..image import Image
    from ..image.bare import BareDisk

logger = getLogger(__name__)

HOST_ARCH = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
"""This computer's architecture, in the words of images."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a machine has that boots a bare disk, beside processors and memory.

    `disk_controller` is one of DISK_CONTROLLERS, `network_card` (where there is a network) one of NETWORK_CARDS. Each
    of `exports`, a tag and a folder, can be mounted by its tag.
    """

    disk_controller: str
    network_card: str
    exports: tuple[tuple[str, Path], ...]


DISK_CONTROLLERS = ("ide", "sata", "scsi", "sas", "virtio")
NETWORK_CARDS = ("e1000", "pcnet", "virtio")


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine is to be.

    `directory` is where the backend keeps the machine's own files; it exists, is empty and is the backend's alone.
    `image` is None for backends that start no machine. A machine that boots a bare disk has `hardware`; if there is a
    disk of its own in `directory`, it goes on with that. With `network` it has a network card, by which it reaches
    public addresses and nothing of this host or its neighbours. No file that it writes on the host, its disk among
    them, may have more than `largest_file` bytes. `before` is the folder of a machine that has ended, whose disk this
    one goes on with; that disk is never written again.
    """

    name: str
    directory: Path
    share: Share
    image: Image | BareDisk | None
    memory_mb: int
    cpus: int
    network: bool = False
    largest_file: int | None = None
    before: Path | None = None
    hardware: Hardware | None = None


def disk_too_large(largest_file: int) -> OverBound:
    """Return what `wait` raises of a disk that would grow beyond so many bytes."""
    return OverBound(f"the machine's disk would take more than the {largest_file >> 20:,} MB that the job may have")


def refuse_unwritable(spec: MachineSpec) -> None:
    """Refuse a machine whose folders have names that no text file can hold, for hypervisors that are told by such.

    :raise HypervisorError: one has.
    """
    exports = () if spec.hardware is None else (folder for _, folder in spec.hardware.exports)
    for folder in (spec.directory.absolute(), spec.share.host, spec.share.guest, *exports):
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            name = str(folder).encode("utf-8", "backslashreplace").decode()
            raise HypervisorError(f"the name of the folder {name} is not UTF-8. Rename it, or choose qemu") from None


SWITCHED_OFF = "the machine switched itself off"
"""The reason that `wait` gives for a machine that ended in order: nothing that it was writing was cut off."""


class MachineState(enum.Enum):
    """What can be seen of a machine from outside."""

    ABSENT = "absent"  #: not started yet, or removed
    RUNNING = "running"
    PAUSED = "paused"
    GONE = "gone"  #: it was started and has ended


@dataclass(frozen=True, slots=True)
class Condition:
    """How a machine is: `cpu_seconds` is its CPU time on the host so far, `console` the end of what it printed.

    `other_pid` is its process while it runs, if that does not descend from the bridge: somebody who watches what the
    bridge uses must be told of it. Else it is None.
    """

    state: MachineState
    cpu_seconds: float = 0.0
    console: str = ""
    other_pid: int | None = None


class Hypervisor(Protocol):
    """One machine's hypervisor: eight verbs.

    Every verb but `wait` is bounded in time, and each may be called again: pausing a paused machine, stopping one that
    has ended and removing one that is removed do nothing. Errors are `HypervisorError`s or `OSError`s.
    """

    one_folder: bool
    """The guest is a person or an old program: both exports are one folder, and there is no agent."""

    needs_image: bool
    """It boots an image; the others start no machine and offer no isolation."""

    def __init__(self, spec: MachineSpec) -> None: ...

    async def probe(self) -> str:
        """Return in a few words what will run the machine ("QEMU 7.2.22, TCG"). Starts nothing that stays.

        :raise NotInstalled: something is missing; the message says what to install.
        """

    async def start(self) -> None:
        """Start the machine from its beginning; returns when it runs, not when the guest is up.

        If it fails, nothing is left running. The machine never outlives the bridge, however that ends.
        """

    async def pause(self) -> None:
        """Stop the machine's processors; its memory stays. Nothing happens to one that does not run."""

    async def resume(self) -> None:
        """Let a paused machine go on."""

    async def wait(self) -> str:
        """Return when the machine has ended by itself or by `stop`, with the reason in a few words.

        :raise HostError: it stands still, because the host cannot read or write its disk.
        :raise OverBound: it stands still, because its disk would have more than `largest_file` bytes.
        """

    async def stop(self) -> None:
        """End the machine now, asking nobody; returns when it is gone. What it had in memory is lost."""

    async def remove(self) -> None:
        """Stop the machine and delete what the backend made for it."""

    def examine(self) -> Condition:
        """Say how the machine is. Cheap; never raises."""


@runtime_checkable
class Saves(Protocol):
    """What a hypervisor can that saves machines: memory and disk of one moment, under a tag, beside the machine's disk.

    Saved states outlive the machine's process, and the bridge; `remove` deletes them too.
    """

    async def description(self) -> Mapping[str, str]:
        """Say what the machine is made of. A state is restored only where this is the same; nothing else is safe."""

    async def held_back(self) -> str | None:
        """Say why the machine cannot be saved now (its share is mounted); None if it can."""

    async def save(self, tag: str) -> None:
        """Save a paused machine under a new tag; durable when this returns. If it fails, older states are as they were.

        :raise HypervisorError: it was not saved, or it is not known whether it was.
        """

    async def forget_all_but(self, tags: Collection[str], copy: str | None = None) -> None:
        """Delete all saved states but `tags`, of a machine that is there, and all `Copies` but that of `copy`."""

    async def restore(self, tag: str) -> None:
        """Start the machine from a saved state instead of from its beginning; it runs when this returns.

        :raise HypervisorError: the state is not there or cannot be loaded; nothing is left running.
        """


@runtime_checkable
class Copies(Protocol):
    """What a hypervisor can whose saved states lie in one file, so that what breaks one may break all: copy it."""

    def copy_bytes(self) -> int:
        """Return how many bytes a copy of the machine's disk would take now."""

    async def copy(self, tag: str) -> None:
        """Copy the disk of a paused machine, whose newest state is `tag`, so that what breaks one leaves the other.

        It counts when it has been synced, which the machine need not wait for. If it fails, there is none.

        :raise HypervisorError: it was not copied.
        :raise OSError: likewise.
        """

    async def sync_copy(self, tag: str) -> None:
        """Make the copy durable.

        :raise OSError: it is not known whether it is.
        """

    async def put_back(self, tag: str) -> None:
        """Make the copy with the state `tag` the disk, of a machine that is not there; what the disk held is lost.

        Where that was done before, nothing happens.

        :raise OSError: everything is as it was.
        """


@runtime_checkable
class Apart(Protocol):
    """What a hypervisor says whose saved states have nothing in common, so that what breaks one leaves the others."""

    def disk_bytes(self) -> int:
        """Return how many bytes a state that is saved now takes beside the machine's memory: its disk is its own."""


@runtime_checkable
class Slow(Protocol):
    """What a hypervisor says that takes its time to pause a machine: so long a guest must stay away from its share."""

    away_s: float
    """In seconds of the guest's time, 60 at most."""


@runtime_checkable
class Continues(Protocol):
    """What a hypervisor can whose machines go on with the disk of another (`MachineSpec.before`)."""

    @staticmethod
    async def leave_disk(folder: Path) -> None:
        """Delete all that lies in the folder of a machine that has ended but its disk. May be called again.

        :raise HypervisorError: something could not be deleted; the disk is as it was.
        :raise OSError: likewise.
        """


@runtime_checkable
class Networked(Protocol):
    """What a hypervisor can whose machines may have a network card."""

    async def connect(self, connected: bool) -> None:
        """Plug the card's cable in or out, now and at each start to come; without a card this does nothing.

        :raise HypervisorError: it is not known whether it is in or out.
        """


@runtime_checkable
class Particular(Protocol):
    """What a hypervisor says that does not boot every image. Nothing is converted for it: another image is taken."""

    @staticmethod
    def refuses(image: Image | BareDisk) -> str | None:
        """Say why it cannot boot the image ("it is for aarch64, and ..."); None if it can. Cheap."""


@dataclass(frozen=True, slots=True)
class _Backend:
    """Where a backend lives, and the programs whose presence means that it can be used.

    Without any it starts no machine, and only a person may choose it, on the command line. One that is not `detected`
    is used where it is named.
    """

    module: str
    name: str
    programs: tuple[str, ...] = ()
    detected: bool = True


_EMULATOR = "qemu-system-aarch64" if HOST_ARCH == "aarch64" else "qemu-system-x86_64"

_REGISTRY = {
    "qemu": _Backend(".qemu", "Qemu", programs=(_EMULATOR, "qemu-img")),
    "libvirt": _Backend(".libvirt", "Libvirt", programs=("virsh", "qemu-img")),
    # Nobody has seen a machine of these run.
    "virtualbox": _Backend(".virtualbox", "VirtualBox", programs=("VBoxManage", "VBoxHeadless"), detected=False),
    "vmware": _Backend(".vmware", "VMware", programs=("vmrun",), detected=False),
    "local": _Backend(".local", "Local"),
    "plain": _Backend(".plain", "Plain"),
}
"""In the order in which they are looked for."""

HYPERVISORS = tuple(_REGISTRY)
"""The names of all that are part of the bridge, for a person at the command line."""

MACHINES = tuple(name for name, backend in _REGISTRY.items() if backend.programs)
"""Those of them that run machines, for job files."""

DETECTED = tuple(name for name in MACHINES if _REGISTRY[name].detected)
"""Those of these that are taken without being named, in this order."""

ENTRY_POINTS = "vmbridge.hypervisors"
"""The group of entry points by which another package says that it has a backend, under which name."""

_VERBS = ("probe", "start", "pause", "resume", "wait", "stop", "remove", "examine")


def third_parties() -> Mapping[str, EntryPoint]:
    """Return the backends of other packages, by their names. Our own names are ours.

    Asks every package that is installed, so it is called only where our own do not serve.
    """
    from importlib.metadata import entry_points

    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: (point.name, point.value))
    return {point.name: point for point in reversed(points) if point.name not in _REGISTRY}


def is_third_party(name: str) -> bool:
    """Say whether `name` is that of a backend of another package."""
    return name not in _REGISTRY and name in third_parties()


def load(name: str) -> type[Hypervisor]:
    """Return the class of the backend called `name`.

    :raise HypervisorError: there is none of this name, or it is another package's and cannot be used.
    """
    backend = _REGISTRY.get(name)
    if backend is None:
        others = third_parties()
        if name not in others:
            known = ", ".join((*HYPERVISORS, *sorted(others)))
            raise HypervisorError(f"there is no hypervisor {name!r} here. Choose one of: {known}")
        return _load_other(others[name])
    found: type[Hypervisor] = getattr(importlib.import_module(backend.module, __package__), backend.name)
    return found


def _load_other(point: EntryPoint) -> type[Hypervisor]:
    what = f"the hypervisor {point.name!r} ({point.value})"
    try:
        found: Any = point.load()
    except Exception as error:  # whatever somebody else's module does when it is imported
        raise HypervisorError(f"{what} cannot be loaded: {error!r}. Mend or remove its package") from error
    if missing := [name for name in (*_VERBS, "one_folder", "needs_image") if not hasattr(found, name)]:
        raise HypervisorError(f"{what} is no hypervisor of this bridge: it has no {', '.join(missing)}")
    chosen: type[Hypervisor] = found
    return chosen


def choose(
    by_hand: str | None, by_job: str | None, which: Callable[[str], str | None] = shutil.which
) -> type[Hypervisor]:
    """Choose a backend: the command line's, else the job file's, else the first one that is installed.

    `which` finds a program in PATH. Another package's is detected by the `programs` of its class, after all of ours, in
    the order of their names.

    :raise HypervisorError: the name is unknown, or a job file names one that starts no machine.
    :raise NotInstalled: none was named and none is installed.
    """
    if by_hand:
        return load(by_hand)
    if by_job:
        backend = load(by_job)
        if not backend.needs_image:
            raise HypervisorError(
                f"{by_job!r} starts no machine, so only a person may choose it: --hypervisor {by_job}"
            )
        return backend
    for name in DETECTED:
        if all(map(which, _REGISTRY[name].programs)):
            return load(name)
    for name, point in sorted(third_parties().items()):
        try:
            backend = _load_other(point)
        except HypervisorError as error:
            logger.warning("%s", error)
            continue
        programs = getattr(backend, "programs", ())
        if programs and backend.needs_image and all(map(which, programs)):
            logger.info("the machine is run by %s, of another package", name)
            return backend
    raise NotInstalled("no hypervisor is installed. Install QEMU (Debian: apt-get install qemu-system-x86 qemu-utils)")
