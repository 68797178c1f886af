"""The stand-in for `vmrun`: what it is told, in QEMU's words. Real VMware never ran.

It is run as a script and imports nothing of the project's. Errors are in the words that others have recorded of vmrun.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn, cast

VERSION = "1.17.0 build-24583834"

MONITOR = "monitor.sock"
RUNS = "runs.lck"
"""Is there while a machine has its files."""

LOG = "vmware.log"
LEFT = b"vmx| I005: VMX has left the building: 0.\n"
KILLED = "killed"
"""Where there is such a file beside a .vmx, the next `vmrun suspend` is killed: at once, or, if the file says `late`,
when the machine has ended."""

_ENDED_WITHIN_S = 20.0
_OFF = "The virtual machine is not powered on"


def main(words: Sequence[str]) -> None:
    """Do what the command line says, as `vmrun` is documented to."""
    match words:
        case []:
            print(f"\nvmrun version {VERSION}\n\nUsage: vmrun [AUTHENTICATION-FLAGS] COMMAND [PARAMETERS]")
            sys.exit(255)
        case ["-T", "ws" | "player" | "fusion", "list"]:
            print("Total running VMs: 0")
        case ["-T", _, "start", vmx, "nogui"]:
            _start(Path(vmx))
        case ["-T", _, "pause", vmx]:
            _pause(Path(vmx))
        case ["-T", _, "unpause", vmx]:
            with _monitor(Path(vmx)) as monitor:
                _ask(monitor, "cont")
        case ["-T", _, "suspend", vmx, "hard"]:
            _suspend(Path(vmx))
        case ["-T", _, "stop", vmx, "hard"]:
            with _monitor(Path(vmx)) as monitor:
                _quit(monitor)
        case ["-T", "player", "snapshot" | "revertToSnapshot" | "deleteSnapshot" | "listSnapshots", *_]:
            _fail("The operation is not supported")
        case _:
            _fail("Invalid argument")


def _fail(why: str) -> NoReturn:
    print(f"Error: {why}")
    sys.exit(255)


# The .vmx


def read(text: str) -> dict[str, str]:
    """Return the names and values of a .vmx, the names in small letters."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r'\s*([.\w:]+)\s*=\s*"([^"]*)"\s*', line)
        if match is None:
            _fail(f"The virtual machine cannot be opened: {line!r}")
        found[match[1].lower()] = re.sub(r"\|([0-9A-F]{2})", lambda code: chr(int(code[1], 16)), match[2])
    return found


def _change(vmx: Path, **values: str) -> None:
    """Write values into a .vmx as VMware does while a machine is its own: what was there stays."""
    named = {f"checkpoint.{name}".replace("_", "."): value for name, value in values.items()}
    lines = [line for line in vmx.read_text("utf-8").splitlines() if line.split(" ")[0] not in named]
    lines += [f'{name} = "{value}"' for name, value in named.items()]
    new = vmx.with_suffix(".vmx~")
    new.write_text("\n".join(lines) + "\n", "utf-8")
    new.replace(vmx)


_DISKS = {
    "ide": ["-device", "ide-hd,bus=ide.0,drive=disk"],
    "sata": ["-device", "ich9-ahci,id=disks", "-device", "ide-hd,bus=disks.0,drive=disk"],
    "lsilogic": ["-device", "lsi53c895a,id=disks", "-device", "scsi-hd,bus=disks.0,drive=disk"],
    "lsisas1068": ["-device", "mptsas1068,id=disks", "-device", "scsi-hd,bus=disks.0,drive=disk"],
}


DISK = "{DISK}"
"""Stands for the way to the disk. QEMU (7.2) saves no machine that has a VMDK open: another QEMU has, and hands out
sectors.
"""


def disk_of(entries: Mapping[str, str]) -> str:
    """Return what the machine's one disk is attached to."""
    (disk,) = (name.split(":")[0] for name in entries if entries[name] == "disk" and name.endswith(":0.devicetype"))
    return disk


def qemu_words(vmx: Path, entries: Mapping[str, str]) -> list[str]:
    """Return what QEMU is told; only what the .vmx names is there."""

    def on(name: str) -> bool:
        return entries.get(name, "FALSE").upper() == "TRUE"

    disk = disk_of(entries)
    kind = entries.get(f"{disk}.virtualdev", disk[:-1])
    append = "on" if entries.get("answer.msg.serial.file.open") == "Append" else "off"
    assert on("msg.autoanswer") and not on("ethernet0.present") and not on("floppy0.present")
    words = [
        "vmware-vmx", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-shutdown",
        "-name", str(vmx).replace(",", ",,"), "-machine", "pc,vmport=off", "-accel", "tcg,thread=multi,tb-size=64",
        "-cpu", "Nehalem-v1", "-device", "VGA,vgamem_mb=16", "-m", f"{entries['memsize']}M",
        "-smp", entries["numvcpus"],
        "-chardev", f"file,id=console,path={entries['serial0.filename']},append={append}", "-serial", "chardev:console",
        "-drive", f"file=nbd+unix:///?socket={DISK},format=raw,if=none,id=disk", *_DISKS[kind],
    ]  # fmt: skip
    if entries.get("ide1:0.devicetype") == "cdrom-image" and on("ide1:0.present"):
        path = entries["ide1:0.filename"].replace(",", ",,")
        words += ["-drive", f"file={path},format=raw,if=none,id=cd,media=cdrom,readonly=on"]
        words += ["-device", "ide-cd,bus=ide.1,drive=cd,bootindex=0"]
    for number in range(int(entries["sharedfolder.maxnum"])):
        name = f"sharedfolder{number}"
        if on(f"{name}.present") and on(f"{name}.enabled") and not on("isolation.tools.hgfs.disable"):
            path = entries[f"{name}.hostpath"].replace(",", ",,")
            how = "" if on(f"{name}.writeaccess") else ",readonly=on"
            words += ["-fsdev", f"local,id=share{number},path={path},security_model=mapped-xattr{how}"]
            words += ["-device", f"virtio-9p-pci,fsdev=share{number},mount_tag={entries[f'{name}.guestname']}"]
    return words


def _like(entries: Mapping[str, str]) -> str:
    """Return what must be the same where a machine goes on."""
    return f"memsize={entries['memsize']} numvcpus={entries['numvcpus']}\n"


# Its verbs


def _start(vmx: Path) -> None:
    try:
        entries = read(vmx.read_text(encoding="utf-8"))
    except OSError:
        _fail(f"Cannot open VM: {vmx}, unknown file suffix")
    os.chdir(vmx.parent)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(MONITOR)
        _fail("The virtual machine should not be powered on. It is already running.")
    ours, theirs = socket.socketpair()
    words = [*qemu_words(vmx, entries), "-qmp", f"unix:{MONITOR},server=on,wait=off"]
    words += ["-chardev", f"socket,id=events,fd={theirs.fileno()}", "-mon", "chardev=events,mode=control"]
    state = Path(entries.get("checkpoint.vmstate", "") or "/nonexistent")
    saved = entries.get("checkpoint.vmstate", "") != ""
    if saved:
        # QEMU (7.2) would wait for ever for a memory that is not there.
        if not state.with_suffix(".vmem").is_file() or state.read_text() != _like(entries):
            _fail("The operation was canceled")
        words += ["-incoming", f"exec:cat {shlex.quote(str(state.with_suffix('.vmem')))}"]
    started, tell = os.pipe()
    if os.fork():
        os.close(tell)
        theirs.close()
        with os.fdopen(started) as heard:
            said = heard.read()
        if said:
            _fail(said)
        _change(vmx, vmState="", vmState_readOnly="FALSE")
        if saved and entries.get("checkpoint.vmstate.readonly", "FALSE").upper() != "TRUE":
            for file in (state, state.with_suffix(".vmem")):
                file.unlink()
        return
    # VMware's own process leaves the one that started it, too.
    os.setsid()
    with open(LOG, "ab", buffering=0) as log, open(os.devnull, "r+b") as null:
        for number in (1, 2):
            os.dup2(null.fileno(), number)
        Path(RUNS).touch()
        with tempfile.TemporaryDirectory() as folder:  # a path to a socket must be short
            way = f"{folder}/disk"
            disk = entries[f"{disk_of(entries)}:0.filename"]
            server = subprocess.Popen(["qemu-nbd", "-f", "vmdk", "-k", way, disk], stdin=null, stderr=log)
            while not os.path.exists(way) and server.poll() is None:
                time.sleep(0.002)
            vm = subprocess.Popen(
                [word.replace(DISK, way) for word in words],
                executable=shutil.which("qemu-system-x86_64"),
                stdin=null,
                stderr=log,
                pass_fds=(theirs.fileno(),),
            )
            theirs.close()
            with _lines(ours) as monitor:
                good = _comes_up(monitor, saved)
                if not good:
                    os.write(tell, b"The operation was canceled")
                    vm.kill()
                os.close(tell)
                _until_ended(monitor, log)
        vm.wait()
        server.terminate()  # it ends by itself when nobody uses the disk, if somebody has
        server.wait()
        os.unlink(RUNS)
    os._exit(0)


def _comes_up(monitor: IO[bytes], saved: bool) -> bool:
    monitor.readline()
    try:
        # QEMU greets before it has its disk, and answers the second question when it has.
        _ask(monitor, "qmp_capabilities")
        while _ask(monitor, "query-status")["status"] == "inmigrate":
            time.sleep(0.005)
        if saved:  # one that was paused when it was suspended is not paused any more
            _ask(monitor, "cont")
    except Refused:
        return False
    return True


def _until_ended(monitor: IO[bytes], log: IO[bytes]) -> None:
    """Write the end of the log when the guest switches itself off, and end."""
    for line in monitor:
        said: dict[str, Any] = json.loads(line)
        if said.get("event") == "SHUTDOWN" and said["data"]["guest"]:
            log.write(LEFT)
            monitor.write(b'{"execute": "quit"}\n')
            monitor.flush()


def _pause(vmx: Path) -> None:
    with _monitor(vmx) as monitor:
        if _ask(monitor, "query-status")["status"] == "paused":
            _fail(f"The virtual machine is paused: {vmx}")
        _ask(monitor, "stop")


def _suspend(vmx: Path) -> None:
    """Write the memory of a machine, paused or not, into two files beside it, name them in its .vmx, and end it."""
    with _monitor(vmx) as monitor:
        how = Path(KILLED).read_text() if os.path.exists(KILLED) else None
        if how is not None:
            os.unlink(KILLED)
        if how == "":
            os.kill(os.getpid(), 9)
        _ask(monitor, "stop")
        # It has the same name each time, made of where the machine is.
        state = Path(f"{vmx.stem}-{hashlib.sha256(str(vmx).encode()).hexdigest()[:8]}.vmss")
        memory = state.with_suffix(".vmem")
        _ask(monitor, "migrate", uri=f"exec:cat >{shlex.quote(str(memory))}")
        while (found := _ask(monitor, "query-migrate"))["status"] not in ("completed", "failed"):
            time.sleep(0.005)
        if found["status"] == "failed":
            _fail(f"The operation was canceled: {found.get('error-desc')}")
        state.write_text(_like(read(vmx.read_text("utf-8"))))
        with open(LOG, "ab", buffering=0) as log:
            log.write(LEFT)
        _change(vmx, vmState=str(state), vmState_readOnly="FALSE")
        _quit(monitor)
        if how is not None:
            os.kill(os.getpid(), 9)


# QMP


class Refused(Exception):
    """QEMU has not done what it was asked for; the text says why."""


@contextmanager
def _monitor(vmx: Path) -> Iterator[IO[bytes]]:
    os.chdir(vmx.parent)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(MONITOR)
        except OSError:
            _fail(f"{_OFF}: {vmx}")
        with _lines(connection) as monitor:
            monitor.readline()
            try:
                _ask(monitor, "qmp_capabilities")
                yield monitor
            except Refused as error:
                _fail(str(error))


@contextmanager
def _lines(connection: socket.socket) -> Iterator[IO[bytes]]:
    with connection, connection.makefile("rwb") as monitor:
        yield cast(IO[bytes], monitor)


def _ask(monitor: IO[bytes], command: str, **arguments: object) -> Any:
    """Have QEMU do something and return its answer."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        monitor.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        monitor.flush()
        for line in monitor:
            if "return" in (said := json.loads(line)):
                return said["return"]
            if "error" in said:
                raise Refused(str(said["error"]["desc"]))
    raise Refused(_OFF)


def _quit(monitor: IO[bytes]) -> None:
    """Return when the machine's process has ended, or hangs."""
    with contextlib.suppress(Refused):
        _ask(monitor, "quit")
    until = time.monotonic() + _ENDED_WITHIN_S
    while os.path.exists(RUNS) and time.monotonic() < until:
        time.sleep(0.01)


if __name__ == "__main__":
    main(sys.argv[1:])
