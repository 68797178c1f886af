"""The stand-in for `vmrun`: what it is told, in QEMU's words. Real VMware never ran."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn, cast

MONITOR = "monitor.sock"


def main(words: Sequence[str]) -> None:
    """Do what the command line says, as `vmrun` is documented to."""
    match words:
        case ["-T", "ws" | "player" | "fusion", "list"]:
            print("Total running VMs: 0")
        case ["-T", _, "start", vmx, "nogui"]:
            _start(Path(vmx))
        case ["-T", _, "pause", vmx]:
            _tell(Path(vmx), "stop")
        case ["-T", _, "unpause", vmx]:
            _tell(Path(vmx), "cont")
        case ["-T", _, "stop", vmx, "hard"]:
            _tell(Path(vmx), "quit")
        case _:
            _fail("Invalid argument")


def _fail(why: str) -> NoReturn:
    print(f"Error: {why}")
    sys.exit(255)


def read(text: str) -> dict[str, str]:
    """Return the names and values of a .vmx, the names in small letters."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r'\s*([.\w:]+)\s*=\s*"([^"]*)"\s*', line)
        if match is None:
            _fail(f"The virtual machine cannot be opened: {line!r}")
        found[match[1].lower()] = re.sub(r"\|([0-9A-F]{2})", lambda code: chr(int(code[1], 16)), match[2])
    return found


_DISKS = {
    "ide": ["-device", "ide-hd,bus=ide.0,drive=disk"],
    "sata": ["-device", "ich9-ahci,id=disks", "-device", "ide-hd,bus=disks.0,drive=disk"],
    "lsilogic": ["-device", "lsi53c895a,id=disks", "-device", "scsi-hd,bus=disks.0,drive=disk"],
    "lsisas1068": ["-device", "mptsas1068,id=disks", "-device", "scsi-hd,bus=disks.0,drive=disk"],
}


def qemu_words(vmx: Path, entries: Mapping[str, str]) -> list[str]:
    """Return what QEMU is told; only what the .vmx names is there."""

    def on(name: str) -> bool:
        return entries.get(name, "FALSE").upper() == "TRUE"

    (disk,) = (name.split(":")[0] for name in entries if name.endswith(":0.filename"))
    kind = entries.get(f"{disk}.virtualdev", disk[:-1])
    assert on("msg.autoanswer") and not on("ethernet0.present") and not on("floppy0.present")
    words = [
        "vmware-vmx", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-shutdown",
        "-name", str(vmx).replace(",", ",,"), "-machine", "pc,vmport=off", "-accel", "tcg,thread=multi,tb-size=64",
        "-cpu", "Nehalem-v1", "-device", "VGA,vgamem_mb=16", "-m", f"{entries['memsize']}M",
        "-smp", entries["numvcpus"], "-serial", f"file:{entries['serial0.filename']}",
        "-drive", f"file={entries[f'{disk}:0.filename']},format=vmdk,if=none,id=disk", *_DISKS[kind],
    ]  # fmt: skip
    for number in range(int(entries["sharedfolder.maxnum"])):
        name = f"sharedfolder{number}"
        if on(f"{name}.present") and on(f"{name}.enabled") and not on("isolation.tools.hgfs.disable"):
            path = entries[f"{name}.hostpath"].replace(",", ",,")
            how = "" if on(f"{name}.writeaccess") else ",readonly=on"
            words += ["-fsdev", f"local,id=share{number},path={path},security_model=mapped-xattr{how}"]
            words += ["-device", f"virtio-9p-pci,fsdev=share{number},mount_tag={entries[f'{name}.guestname']}"]
    return words


def _start(vmx: Path) -> None:
    try:
        entries = read(vmx.read_text(encoding="utf-8"))
    except OSError:
        _fail(f"Cannot open VM: {vmx}, unknown file suffix")
    os.chdir(vmx.parent)
    ours, theirs = socket.socketpair()
    words = [*qemu_words(vmx, entries), "-qmp", f"unix:{MONITOR},server=on,wait=off"]
    words += ["-chardev", f"socket,id=events,fd={theirs.fileno()}", "-mon", "chardev=events,mode=control"]
    started, tell = os.pipe()
    if os.fork():
        os.close(tell)
        theirs.close()
        with os.fdopen(started) as heard:
            said = heard.read()
        if said:
            _fail(said)
        return
    # VMware's own process leaves the one that started it, too.
    os.setsid()
    with open("vmware.log", "ab", buffering=0) as log, open(os.devnull, "r+b") as null:
        program = shutil.which("qemu-system-x86_64")
        vm = subprocess.Popen(
            words, executable=program, stdin=null, stdout=null, stderr=log, pass_fds=(theirs.fileno(),)
        )
        theirs.close()
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)
        with _lines(ours) as monitor:
            monitor.readline()
            # QEMU greets before it has its disk, and answers the second question when it has.
            if _ask(monitor, "qmp_capabilities") or _ask(monitor, "query-status"):
                os.write(tell, b"The operation was canceled")
                os._exit(1)
            os.close(tell)
            _until_ended(monitor, log)
        vm.wait()
    os._exit(0)


def _until_ended(monitor: IO[bytes], log: IO[bytes]) -> None:
    """Write the end of the log when the guest switches itself off, and end."""
    for line in monitor:
        said: dict[str, Any] = json.loads(line)
        if said.get("event") == "SHUTDOWN" and said["data"]["guest"]:
            log.write(b"vmx| I005: VMX has left the building: 0.\n")
            monitor.write(b'{"execute": "quit"}\n')
            monitor.flush()


@contextmanager
def _lines(connection: socket.socket) -> Iterator[IO[bytes]]:
    with connection, connection.makefile("rwb") as monitor:
        yield cast(IO[bytes], monitor)


def _ask(monitor: IO[bytes], command: str) -> str | None:
    """Have QEMU do something; return why it has not."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        monitor.write(json.dumps({"execute": command}).encode() + b"\n")
        monitor.flush()
        for line in monitor:
            if "return" in (said := json.loads(line)):
                return None
            if "error" in said:
                return str(said["error"]["desc"])
    return "The virtual machine is not powered on"


def _tell(vmx: Path, command: str) -> None:
    os.chdir(vmx.parent)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(MONITOR)
        except OSError:
            _fail(f"The virtual machine is not powered on: {vmx}")
        with _lines(connection) as monitor:
            monitor.readline()
            why = _ask(monitor, "qmp_capabilities") or _ask(monitor, command)
            if why and command != "quit":
                _fail(why)
        until = time.monotonic() + 20
        while command == "quit" and os.path.exists(MONITOR) and time.monotonic() < until:
            time.sleep(0.01)
