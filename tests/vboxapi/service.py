"""The machine in a file, and what may be done with it: what VBoxSVC is in VirtualBox. One registry has one machine."""

from __future__ import annotations

import copy
import fcntl
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .qemu import Failed, monitor

STATES = {
    "PoweredOff": 1, "Saved": 2, "Aborted": 4, "Running": 6, "Paused": 7, "Stuck": 8, "Starting": 11,
    "Restoring": 14, "OnlineSnapshotting": 19, "RestoringSnapshot": 20, "Snapshotting": 23,
}  # fmt: skip
"""The numbers of 7.x."""

OFF = ("PoweredOff", "Saved", "Aborted")

NEW: dict[str, Any] = {
    "id": "", "name": "", "settings": "", "registered": False, "state": "PoweredOff", "history": [], "pid": 0,
    "memorySize": 128, "CPUCount": 1, "boot": {}, "clipboardMode": 0, "dnDMode": 0, "vrde": True,
    "adapters": {"0": True}, "serial": {"enabled": False, "path": "", "hostMode": 0}, "controllers": {},
    "devices": [], "opened": [], "folders": [], "snapshots": {}, "current": "", "begins_with": "",
}  # fmt: skip


class ServiceError(Exception):
    """As XPCOM's exceptions: a number and a message."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.errno, self.msg = number, text


def wrong_state(machine: dict[str, Any]) -> ServiceError:
    """VBOX_E_INVALID_VM_STATE."""
    return ServiceError(0x80BB0002, f"Invalid machine state: {machine['state']}")


class Service:
    """The registry in `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._file = home / "service.json"

    @contextmanager
    def machine(self) -> Iterator[dict[str, Any]]:
        """Give the machine, for nobody else meanwhile; what is changed is written."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self._read()
            before = json.dumps(found)
            yield found
            if (after := json.dumps(found)) != before:
                new = self._file.with_suffix(".new")
                new.write_text(after)
                new.replace(self._file)
                if found["settings"]:
                    Path(found["settings"]).write_text(_description(found))

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return copy.deepcopy(NEW)
        if found["state"] not in OFF and not _alive(found["pid"]):
            become(found, "Aborted")
        return found

    def take(self, tag: str) -> str:
        """Take a snapshot; return its id."""
        with self.machine() as machine:
            was, number = machine["state"], str(uuid.uuid4())
            try:
                if was in OFF:
                    become(machine, "Snapshotting")
                    qemu_img("-c", tag, disk_of(machine))
                elif was in ("Running", "Paused"):
                    become(machine, "OnlineSnapshotting")
                    with monitor(self.home) as qemu:
                        qemu.ask("stop")
                        qemu.save(number)
                        if was == "Running":
                            qemu.ask("cont")
                else:
                    raise wrong_state(machine)
            except Failed as error:
                raise ServiceError(0x80004005, str(error)) from error
            finally:
                become(machine, was)
            entry = {"name": tag, "parent": machine["current"], "memory": was not in OFF}
            machine["snapshots"][number] = entry
            machine["current"] = number
        return number

    def forget(self, number: str) -> None:
        """Delete a snapshot."""
        with self.machine() as machine:
            entry = machine["snapshots"].pop(number)
            children = [other for other in machine["snapshots"].values() if other["parent"] == number]
            if len(children) > 1:
                raise ServiceError(0x80BB0007, "the snapshot has more than one child")
            for child in children:
                child["parent"] = entry["parent"]
            if machine["current"] == number:
                machine["current"] = entry["parent"]
            if machine["state"] in OFF:
                qemu_img("-d", number if entry["memory"] else entry["name"], disk_of(machine))
            else:
                with monitor(self.home) as qemu:
                    qemu.forget(number)

    def go_back(self, number: str) -> None:
        """Restore a snapshot of a machine that is off."""
        with self.machine() as machine:
            if machine["state"] not in OFF:
                raise wrong_state(machine)
            has_memory = machine["snapshots"][number]["memory"]
            become(machine, "RestoringSnapshot")
            machine["begins_with"] = number if has_memory else ""
            machine["current"] = number
            become(machine, "Saved" if has_memory else "PoweredOff")

    def tell(self, command: str, before: str, after: str) -> None:
        """Have the machine, which runs, stop or go on."""
        with self.machine() as machine:
            if machine["state"] != before:
                raise wrong_state(machine)
            with monitor(self.home) as qemu:
                qemu.ask(command)
            become(machine, after)

    def find_snapshot(self, named: str) -> str:
        """Return the id of a snapshot that is named by its name or id; the first for no name."""
        with self.machine() as machine:
            for number, entry in machine["snapshots"].items():
                if named in (number, entry["name"]) or (named == "" and not entry["parent"]):
                    return str(number)
        raise ServiceError(0x80BB0001, f"Could not find a snapshot named '{named}'")


def become(machine: dict[str, Any], state: str) -> None:
    """Come into another state, of which those who listen will hear."""
    machine["state"] = state
    machine["history"].append(state)


def disk_of(machine: dict[str, Any]) -> str:
    """Return where its disk is."""
    return str(next(device["medium"] for device in machine["devices"] if device["type"] == 3))


def _description(machine: dict[str, Any]) -> str:
    """Return of VirtualBox's own description what others may look for."""
    disks = [*machine["opened"], *(device["medium"] for device in machine["devices"] if device["type"] == 3)]
    snapshots = (f'<Snapshot name="{one["name"]}"/>' for one in machine["snapshots"].values())
    image = f'<AttachedDevice type="HardDisk"><Image uuid="{len(disks) - 1}"/></AttachedDevice>'
    opened = "".join(f'<HardDisk uuid="{number}" location="{disk}">' for number, disk in enumerate(disks))
    return (
        '<VirtualBox xmlns="http://www.virtualbox.org/"><Machine><MediaRegistry><HardDisks>'
        f"{opened}{'</HardDisk>' * len(disks)}</HardDisks></MediaRegistry>{''.join(snapshots)}"
        f"<Hardware>{image}</Hardware></Machine></VirtualBox>"
    )


def make_disk(disk: str, parent: str) -> None:
    """Make a disk over another. QEMU saves no machine with a VMDK or a VDI, so what lies over these is a copy."""
    if os.path.exists(disk):
        raise ServiceError(0x80BB0004, f"{disk} is there already")
    with open(parent, "rb") as opened:
        ours = opened.read(4) == b"QFI\xfb"
    words = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", parent] if ours else ["convert", "-O", "qcow2", parent]
    subprocess.run(["qemu-img", *words, disk], check=True)


def qemu_img(option: str, name: str, disk: str) -> None:
    """Do something about a snapshot of a disk that nobody uses."""
    subprocess.run(["qemu-img", "snapshot", "-q", option, name, disk], check=True)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return pid > 0 and ") Z" not in stat.read()
    except OSError:
        return False
