"""The machine in QEMU's words, and QEMU's monitor."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

MONITOR = "monitor.sock"
WITHIN_S = 60.0
LETS_GO_WITHIN_S = 2.0

_DISKS = {
    "IDE": ["-device", "ide-hd,bus=ide.0,drive=disk"],
    "SATA": ["-device", "ich9-ahci,id=disks", "-device", "ide-hd,bus=disks.0,drive=disk"],
    "SCSI": ["-device", "lsi53c895a,id=disks", "-device", "scsi-hd,bus=disks.0,drive=disk"],
    "SAS": ["-device", "mptsas1068,id=disks", "-device", "scsi-hd,bus=disks.0,drive=disk"],
}


class Failed(Exception):
    """What QEMU says."""


def words(machine: dict[str, Any]) -> list[str]:
    """Return what QEMU is told; only what the machine has is there."""
    assert not any(machine["adapters"].values()), "the first network card is on by itself"
    assert machine["vrde"] is False and machine["clipboardMode"] == 0 and machine["dnDMode"] == 0
    serial = machine["serial"]
    found = [
        "VBoxHeadless", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-shutdown", "-S",
        "-machine", "pc,vmport=off", "-accel", "tcg,thread=multi,tb-size=64", "-cpu", "Nehalem-v1",
        "-device", "VGA,vgamem_mb=16", "-m", f"{machine['memorySize']}M", "-smp", str(machine["CPUCount"]),
        "-boot", {3: "c", 2: "d"}[machine["boot"]["1"]],
        "-serial", f"file:{serial['path']}" if serial["enabled"] else "null",
    ]  # fmt: skip
    for device in machine["devices"]:
        path, name = device["medium"].replace(",", ",,"), {3: "disk", 2: "cd"}[device["type"]]
        if name == "cd":
            found += ["-drive", f"file={path},format=raw,media=cdrom,readonly=on,if=none,id=cd"]
            found += ["-device", "ide-cd,bus=ide.1,drive=cd"]
        else:
            found += ["-blockdev", f"driver=qcow2,node-name=disk,file.driver=file,file.filename={path}"]
            found += _DISKS[machine["controllers"][device["controller"]]]
    for number, (tag, folder, writable) in enumerate(machine["folders"]):
        path, how = folder.replace(",", ",,"), "" if writable else ",readonly=on"
        found += ["-fsdev", f"local,id=share{number},path={path},security_model=mapped-xattr{how}"]
        found += ["-device", f"virtio-9p-pci,fsdev=share{number},mount_tag={tag}"]
    if machine["begins_with"]:
        found += ["-loadvm", machine["begins_with"]]
    return found


@contextmanager
def monitor(home: Path) -> Iterator[Monitor]:
    """Give the monitor of the QEMU whose home this is. (A socket's path may be too long, so it is looked for here.)"""
    with socket.socket(socket.AF_UNIX) as connection:
        folder = os.open(home, os.O_RDONLY)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{MONITOR}")
        except OSError as error:
            raise Failed("the machine is not there") from error
        finally:
            os.close(folder)
        with connection.makefile("rwb") as lines:
            yield Monitor(cast("IO[bytes]", lines))


class Monitor:
    """A QEMU that has greeted."""

    def __init__(self, lines: IO[bytes]) -> None:
        self.lines = lines
        lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Any:
        """Have QEMU do something; return its answer."""
        said = {"execute": command, "arguments": arguments}
        self.lines.write(json.dumps(said).encode() + b"\n")
        self.lines.flush()
        for line in self.lines:
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise Failed(answer["error"]["desc"])
        raise Failed("QEMU has ended")

    def held_back(self) -> str | None:
        """Say why it would not be saved."""
        return "; ".join(self.ask("query-migrate").get("blocked-reasons", [])) or None

    def save(self, tag: str) -> None:
        """Save the machine. VirtualBox does so with a share that is mounted; QEMU, when it has been let go of.

        A guest that has said that it lets go does so in the next milliseconds.
        """
        until = time.monotonic() + LETS_GO_WITHIN_S
        while (held := self.held_back()) and time.monotonic() < until:
            self.ask("cont")
            time.sleep(0.005)
            self.ask("stop")
        if held:
            raise Failed(held)
        self._job("snapshot-save", tag=tag, vmstate="disk", devices=["disk"])

    def forget(self, tag: str) -> None:
        """Delete a snapshot."""
        self._job("snapshot-delete", tag=tag, devices=["disk"])

    def _job(self, command: str, **arguments: object) -> None:
        self.ask(command, **{"job-id": "job", **arguments})
        until = time.monotonic() + WITHIN_S
        while time.monotonic() < until:
            [job] = self.ask("query-jobs")
            if job["status"] == "concluded":
                self.ask("job-dismiss", id="job")
                if "error" in job:
                    raise Failed(job["error"])
                return
            time.sleep(0.01)
        raise Failed(f"{command} does not end")
