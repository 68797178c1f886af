"""What VBoxManage is told, and what it says. Pure."""

from __future__ import annotations

from pathlib import Path

from .plan import Plan

_DISKS = "disks"
_CD = "cd"
_STATES = {
    "running": "Running", "paused": "Paused", "gurumeditation": "Stuck", "stuck": "Stuck", "aborted": "Aborted",
    "aborted-saved": "AbortedSaved",
}  # fmt: skip


def making(plan: Plan) -> list[list[str]]:
    """Return the words of each VBoxManage that together make the machine in an empty registry.

    No network, sound, USB or screen for others, and nothing that is shared but the exports. VBoxManage has no word for
    opening a disk, without which VirtualBox does not know what another lies over; so a spare disk is made over each,
    for as long as it takes to attach the last.
    """
    name, folder = plan.name, Path(plan.settings).parent
    below = plan.parents[:-1] if plan.new_disk else plan.parents
    spares = [(str(folder / f"spare{number}.vdi"), parent) for number, parent in enumerate(below)]
    own = [(plan.disk, plan.parents[-1])] if plan.new_disk else []
    return [
        ["createvm", "--name", name, "--ostype", "Linux_64", "--basefolder", str(folder.parent), "--register"],
        [
            "modifyvm", name,
            "--memory", str(plan.memory_mb), "--cpus", str(plan.cpus), "--vram", "16",
            "--ioapic", "on", "--rtcuseutc", "on",
            "--boot1", "dvd" if plan.cd else "disk", "--boot2", "none", "--boot3", "none", "--boot4", "none",
            "--nic1", "none", "--vrde", "off", "--clipboard", "disabled", "--draganddrop", "disabled",
            "--uart1", "0x3F8", "4", "--uartmode1", "file", plan.console,
        ],
        *(
            ["createmedium", "disk", "--filename", disk, "--diffparent", parent, "--format", "VDI"]
            for disk, parent in (*spares, *own)
        ),
        *_attached(plan, _DISKS, plan.controller, "hdd", plan.disk),
        *(["closemedium", "disk", spare, "--delete"] for spare, _ in spares),
        *([] if plan.cd is None else _attached(plan, _CD, "ide", "dvddrive", plan.cd)),
        *(
            ["sharedfolder", "add", name, "--name", tag, "--hostpath", folder, *([] if writable else ["--readonly"])]
            for tag, folder, writable in plan.exports
        ),
    ]  # fmt: skip


def _attached(plan: Plan, controller: str, bus: str, kind: str, medium: str) -> list[list[str]]:
    return [
        ["storagectl", plan.name, "--name", controller, "--add", bus, "--bootable", "on"],
        [
            "storageattach", plan.name, "--storagectl", controller, "--port", "0", "--device", "0",
            "--type", kind, "--medium", medium,
        ],
    ]  # fmt: skip


def state_in(said: str) -> str:
    """Return the machine's state, by the API's name if it matters, from what `showvminfo --machinereadable` has said.

    It is empty if it is not in there.
    """
    said_so = next((value for name, value in _values(said) if name == "VMState"), "")
    return _STATES.get(said_so, said_so)


def tags_in(said: str) -> list[str]:
    """Return the names of the machine's snapshots from what `showvminfo --machinereadable` has said."""
    return [value for name, value in _values(said) if name.partition("-")[0] == "SnapshotName"]


def _values(said: str) -> list[tuple[str, str]]:
    lines = (line.partition("=") for line in said.splitlines())
    return [(name, value.strip('"')) for name, _, value in lines]
