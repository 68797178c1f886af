"""VBoxManage and VBoxHeadless: `python -m tests.vboxapi.programs NAME WORDS`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from .api import _Machine, _Medium, _VirtualBox
from .qemu import MONITOR, Failed, Monitor, words
from .service import OFF, Service, ServiceError, become, make_disk

_STATES = {"Running": "running", "Paused": "paused", "PoweredOff": "poweroff", "Aborted": "aborted", "Saved": "saved"}
_BUSES = {"ide": 1, "sata": 2, "scsi": 3, "sas": 5}


def manage(service: Service, given: Sequence[str]) -> None:
    """Do what VBoxManage is told."""
    vbox = _VirtualBox(service)
    given = [word for word in given if word != "-q"]

    def option(name: str) -> str:
        return given[given.index(name) + 1]

    match given:
        case ["--version"]:
            print("7.2.22r175245")
        case ["createvm", *_]:
            settings = f"{option('--basefolder')}/{option('--name')}/{option('--name')}.vbox"
            created = vbox.createMachine(settings, option("--name"), 1, [], option("--ostype"), "", "", "", "")
            vbox.registerMachine(created)
        case ["modifyvm", name, *_]:
            machine = vbox.findMachine(name)
            machine.memorySize, machine.CPUCount = int(option("--memory")), int(option("--cpus"))
            machine.setBootOrder(1, {"disk": 3, "dvd": 2}[option("--boot1")])
            machine.getNetworkAdapter(0).enabled = option("--nic1") != "none"
            machine.VRDEServer.enabled = option("--vrde") != "off"
            serial = machine.getSerialPort(0)
            serial.enabled, serial.path = True, given[given.index("--uartmode1") + 2]
        case ["createmedium", "disk", *_]:
            vbox.openMedium(option("--diffparent"), 3, 1, False)
            make_disk(option("--filename"), option("--diffparent"))
        case ["closemedium", "disk", disk, "--delete"]:
            os.unlink(disk)
        case ["storagectl", name, *_]:
            vbox.findMachine(name).addStorageController(option("--name"), _BUSES[option("--add")])
        case ["storageattach", name, *_]:
            kind = {"hdd": 3, "dvddrive": 2}[option("--type")]
            vbox.findMachine(name).attachDevice(option("--storagectl"), 0, 0, kind, _Medium(option("--medium")))
        case ["sharedfolder", "add", name, *_]:
            writable = "--readonly" not in given
            vbox.findMachine(name).createSharedFolder(option("--name"), option("--hostpath"), writable, False, "")
        case ["showvminfo", name, "--machinereadable"]:
            _show(service, vbox.findMachine(name))
        case ["controlvm", _, "pause"]:
            service.tell("stop", "Running", "Paused")
        case ["controlvm", _, "resume"]:
            service.tell("cont", "Paused", "Running")
        case ["snapshot", _, "take", tag]:
            service.take(tag)
        case ["snapshot", _, "delete", tag]:
            service.forget(service.find_snapshot(tag))
        case ["snapshot", _, "restore", tag]:
            service.go_back(service.find_snapshot(tag))
        case _:
            sys.exit(f"VBoxManage: error: Invalid command {given}")


def _show(service: Service, machine: _Machine) -> None:
    with service.machine() as found:
        state = found["state"]
        print(f'name="{found["name"]}"\nVMState="{_STATES.get(state, state.lower())}"')
        left = [("", number) for number, entry in found["snapshots"].items() if not entry["parent"]]
        while left:
            where, number = left.pop(0)
            print(f'SnapshotName{where}="{found["snapshots"][number]["name"]}"')
            children = [child for child, entry in found["snapshots"].items() if entry["parent"] == number]
            left += [(f"{where}-{place}", child) for place, child in enumerate(children, 1)]


def headless(service: Service, given: Sequence[str]) -> int:
    """Be the machine: QEMU below this process."""
    [option, name, *_] = given
    assert option == "--startvm"
    with service.machine() as machine:
        if machine["state"] not in OFF or machine["name"] != name:
            raise ServiceError(0x80BB0002, f"The machine {name} is already locked or not there")
        told = words(machine)
        machine["pid"] = os.getpid()
        become(machine, "Restoring" if machine["begins_with"] else "Starting")
    os.chdir(service.home)
    Path(MONITOR).unlink(missing_ok=True)
    ours, theirs = socket.socketpair()
    told += ["-qmp", f"unix:{MONITOR},server=on,wait=off"]
    told += ["-chardev", f"socket,id=events,fd={theirs.fileno()}", "-mon", "chardev=events,mode=control"]
    program = shutil.which("qemu-system-x86_64")
    qemu = subprocess.Popen(told, executable=program, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
    theirs.close()
    ended = "Aborted"
    try:
        with ours, ours.makefile("rwb") as lines:
            monitor = Monitor(cast("IO[bytes]", lines))
            monitor.ask("cont")
            with service.machine() as machine:
                machine["begins_with"] = ""
                become(machine, "Running")
            for line in lines:
                said = json.loads(line)
                if said.get("event") == "SHUTDOWN" and said["data"]["guest"]:
                    ended = "PoweredOff"
                    break
    except (Failed, OSError) as error:  # QEMU has said why
        print(f"VBoxHeadless: Error: {error}", file=sys.stderr)
    finally:
        qemu.kill()
        qemu.wait()
        with service.machine() as machine:
            become(machine, ended)
    return 0 if ended == "PoweredOff" else 1


def main(name: str, *given: str) -> int:
    """Be one of the programs."""
    service = Service(Path(os.environ.get("VBOX_USER_HOME", "/nonexistent")))
    try:
        if name == "VBoxHeadless":
            return headless(service, given)
        manage(service, given)
    except (ServiceError, Failed) as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
