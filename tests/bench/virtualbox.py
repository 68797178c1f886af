"""What each operation takes by VirtualBox's API, beside bare `VBoxManage` with the same service."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path

from bridge.errors import HypervisorError
from bridge.hypervisors import Hardware, MachineSpec
from bridge.hypervisors.virtualbox.api import ByApi, interpreter
from bridge.hypervisors.virtualbox.plan import environment, machine_name, plan
from bridge.hypervisors.virtualbox.service import end_service
from bridge.hypervisors.virtualbox.words import making
from bridge.image.bare import load_disk
from protocol.layout import Share

from .. import virtualbox
from .figures import Figure, Peer

ROUNDS = 5
USER = 65534

OPERATIONS = {
    "begin": "begin to use",
    "make": "make a machine",
    "state": "ask for the state",
    "take": "take a snapshot",
    "go_back": "go back to it",
    "forget": "delete it",
}

Samples = dict[str, dict[str, list[float]]]


def measure() -> list[Figure]:
    """Ours: the API in its worker, until it has answered; `begin` starts the worker and VirtualBox's service. Peer:
    `VBoxManage`, a process for each word (six to make a machine), in a registry of its own; its `begin` is its version,
    and its first word starts the service. The machine is off, for none ever ran. VIRTUALBOX_ROOT may name a folder
    with a VirtualBox, which is entered for each process, ours once and the peer's each time.
    """
    samples: Samples = {}
    root = os.environ.get("VIRTUALBOX_ROOT")
    path = os.environ["PATH"]
    if root or shutil.which("VBoxManage"):
        with tempfile.TemporaryDirectory(prefix="vb") as made:
            folder = Path(made)
            _for_anybody(folder)
            try:
                if root:
                    programs = virtualbox.real(folder / "programs", Path(root), f"{USER}:{USER}")
                    os.environ["PATH"] = f"{programs}:{path}"
                asyncio.run(_measure(folder, samples))
            finally:
                os.environ["PATH"] = path
    return [
        Figure(f"{name} (VirtualBox)", "ms", found.get("ours"), Peer("VBoxManage", found.get("peer")))
        for verb, name in OPERATIONS.items()
        for found in [samples.get(verb, {})]
    ]


async def _measure(folder: Path, samples: Samples) -> None:
    image = folder / "image.vdi"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vdi", image, "10M"], check=True)
    _for_anybody(image)
    if (found := await interpreter(folder / "check")) is None:
        raise HypervisorError("no Python here has VirtualBox's API")
    for number in range(ROUNDS):
        for side in ("ours", "peer"):
            spec = _spec(folder / f"{side}{number}", image)
            try:
                if side == "ours":
                    await _ours(spec, found[0], samples)
                else:
                    _peer(spec, samples)
            finally:
                end_service(spec.directory)


def _spec(folder: Path, image: Path) -> MachineSpec:
    share = Share.one_folder(folder / "shared")
    for made in (folder, share.host, folder / "machine"):
        made.mkdir()
        _for_anybody(made)
    hardware = Hardware("sata", "e1000", (("shared", share.host),))
    return MachineSpec("bench", folder / "machine", share, load_disk(image), 256, 1, hardware=hardware)


def _for_anybody(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, USER, USER)
        path.chmod(0o755)


async def _ours(spec: MachineSpec, python: str, samples: Samples) -> None:
    control = ByApi(spec.directory, python, 60.0)

    async def add(verb: str, work: Awaitable[object]) -> None:
        begun = time.perf_counter()
        await work
        samples.setdefault(verb, {}).setdefault("ours", []).append((time.perf_counter() - begun) * 1e3)

    await add("begin", control.open())
    try:
        await add("make", control.make(plan(spec)))
        await add("state", control.state())
        for verb in ("take", "go_back", "forget"):
            await add(verb, getattr(control, verb)("one"))
    finally:
        await control.close()


def _peer(spec: MachineSpec, samples: Samples) -> None:
    name, env = machine_name(spec.directory), {**os.environ, **environment(spec.directory)}

    def add(verb: str, *calls: Sequence[str]) -> None:
        begun = time.perf_counter()
        for words in calls:
            subprocess.run(["VBoxManage", "-q", *words], env=env, check=True, capture_output=True)
        samples.setdefault(verb, {}).setdefault("peer", []).append((time.perf_counter() - begun) * 1e3)

    add("begin", ["--version"])
    add("make", *making(plan(spec)))
    add("state", ["showvminfo", name, "--machinereadable"])
    for verb, word in (("take", "take"), ("go_back", "restore"), ("forget", "delete")):
        add(verb, ["snapshot", name, word, "one"])
