"""VirtualBox's API, in a process of its own: asked by lines of JSON, it answers by such, and tells what happens.

It runs under whichever Python can load `vboxapi`, which exists for the one that VirtualBox was installed for; so it
imports nothing of the bridge, and nothing that a Python of 2018 has not. A call of the API may hang for ever: who asks
ends the process then.

Its words: `check FOLDER` says whether it could serve, `serve FOLDER FD NAME` does, for the machine NAME, on the
descriptor FD. FOLDER is where pyvbox lies.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import types
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any

ALIVE_EVERY_MS = 5000
"""So often the service is heard of, also when nothing happens."""


def load(folder: str) -> Any:
    """Return pyvbox. Its package calls itself `virtualbox`, but pip installs it as `pyvbox` (2.1.1).

    :raise ImportError: it or vboxapi is not there, or of no use for this Python.
    """
    vboxapi: Any = import_module("vboxapi")  # first, for pyvbox would look for it in many places
    if sys.platform != "win32":
        sys.path.append(os.path.join(vboxapi.g_sVBoxSdkDir, "bindings", "xpcom", "python"))
        import_module("xpcom.vboxxpcom")  # now, and not at the first use: without it the API is of no use
    found = PathFinder.find_spec("pyvbox", [folder])
    if found is None or found.submodule_search_locations is None:
        raise ImportError("pyvbox is not in " + folder)
    loader: Any = found.loader
    module = types.ModuleType("virtualbox")
    module.__path__ = list(found.submodule_search_locations)
    sys.modules["virtualbox"] = module
    exec(loader.get_code("pyvbox"), module.__dict__)
    return module


class Worker:
    """One machine's part of the API. Each verb that does not begin with `_` may be asked for."""

    def __init__(self, virtualbox: Any, name: str) -> None:
        self._pyvbox, self._library, self._name = virtualbox, virtualbox.library, name
        self._manager = virtualbox.Manager().manager
        self._vbox = virtualbox.VirtualBox()

    def hello(self) -> str:
        """Return VirtualBox's version."""
        return str(self._vbox.version)

    # A machine that is off

    def make(self, plan: dict[str, Any]) -> None:
        """Make the machine; see `Plan`. Nothing is shared but the exports, and nothing else is there."""
        library = self._library
        self._vbox.register_machine(self._created(plan))
        with self._locked(library.LockType.write) as session:
            machine = session.machine
            machine.memory_size, machine.cpu_count = plan["memory_mb"], plan["cpus"]
            self._board(machine._i)
            devices = (library.DeviceType.dvd if plan["cd"] else library.DeviceType.hard_disk, *3 * [None])
            for position, device in enumerate(devices, 1):
                machine.set_boot_order(position, device or library.DeviceType.null)
            for slot in range(8):
                machine.get_network_adapter(slot).enabled = False
            machine.vrde_server.enabled = False
            machine.clipboard_mode = library.ClipboardMode.disabled
            machine.dn_d_mode = library.DnDMode.disabled
            port = machine.get_serial_port(0)
            port.path, port.host_mode, port.enabled = plan["console"], library.PortMode.raw_file, True
            bus = library.StorageBus
            controller = getattr(bus, {"virtio": "virtio_scsi"}.get(plan["controller"], plan["controller"]))
            self._attach(machine, "disks", controller, library.DeviceType.hard_disk, self._disk(plan))
            if plan["cd"]:
                cd = self._opened(plan["cd"], library.DeviceType.dvd, library.AccessMode.read_only)
                self._attach(machine, "cd", bus.ide, library.DeviceType.dvd, cd)
            for tag, folder, writable in plan["exports"]:
                machine.create_shared_folder(tag, folder, writable, False, "")
            machine.save_settings()

    def _created(self, plan: dict[str, Any]) -> Any:
        """Return a new machine. What `createMachine` wants has changed twice since pyvbox was made."""
        numbers = tuple(map(int, self._vbox.version.split("_")[0].split(".")[:2]))
        words: list[Any] = [plan["settings"], self._name, [], "Linux_64", ""]
        if numbers >= (7, 0):
            words += ["", "", ""]  # not encrypted
        if numbers >= (7, 1):
            words.insert(2, self._manager.constants.PlatformArchitecture_x86)
        return self._library.IMachine(self._vbox._i.createMachine(*words))

    @staticmethod
    def _board(machine: Any) -> None:
        """Set what lies elsewhere since 7.0 and 7.1 than in pyvbox, by the objects below it."""
        new = hasattr(machine, "firmwareSettings")
        (machine.firmwareSettings if new else machine.BIOSSettings).IOAPICEnabled = True
        (machine.platform if hasattr(machine, "platform") else machine).RTCUseUTC = True
        machine.graphicsAdapter.VRAMSize = 16

    def _disk(self, plan: dict[str, Any]) -> Any:
        """Return the machine's own disk, made over the others if it is to be new."""
        library = self._library
        disk, mode = library.DeviceType.hard_disk, library.AccessMode
        for parent in plan["parents"]:
            below = self._opened(parent, disk, mode.read_only)
        if not plan["new_disk"]:
            return self._opened(plan["disk"], disk, mode.read_write)
        medium = self._vbox.create_medium("VDI", plan["disk"], mode.read_write, disk)
        self._done(below.create_diff_storage(medium, [library.MediumVariant.diff]))
        return medium

    def _opened(self, path: str, kind: Any, mode: Any) -> Any:
        return self._vbox.open_medium(path, kind, mode, False)

    @staticmethod
    def _attach(machine: Any, name: str, bus: Any, kind: Any, medium: Any) -> None:
        machine.add_storage_controller(name, bus)
        machine.attach_device(name, 0, 0, kind, medium)

    # A machine in any state

    def state(self) -> str:
        """Return the machine's state, by its name: the numbers have changed since pyvbox was made."""
        return self._state_name(self._machine()._i.state)

    def tags(self) -> list[str]:
        """Return the names of its snapshots."""
        found, machine = [], self._machine()
        left = [machine.find_snapshot("")] if machine.snapshot_count else []
        while left:
            found.append(left[-1].name)
            left += left.pop().children
        return found

    def take(self, tag: str) -> None:
        """Save memory and disks of one moment."""
        with self._locked() as session:
            self._done(session.machine.take_snapshot(tag, "", True)[0])

    def forget(self, tag: str) -> None:
        """Delete a snapshot."""
        with self._locked() as session:
            self._done(session.machine.delete_snapshot(session.machine.find_snapshot(tag).id_p))

    def go_back(self, tag: str) -> None:
        """Have the machine, which is off, begin next with a snapshot."""
        with self._locked() as session:
            self._done(session.machine.restore_snapshot(session.machine.find_snapshot(tag)))

    # A machine that runs

    def pause(self) -> None:
        """Stop its processors."""
        with self._locked() as session:
            session.console.pause()

    def resume(self) -> None:
        """Let it go on."""
        with self._locked() as session:
            session.console.resume()

    # What they are made of

    def _machine(self) -> Any:
        return self._vbox.find_machine(self._name)

    def _locked(self, lock: Any = None) -> Any:
        session = self._pyvbox.Session()
        self._machine().lock_machine(session, lock or self._library.LockType.shared)
        return session

    def _state_name(self, number: int) -> str:
        names = self._manager.constants.all_values("MachineState")
        special = ("FirstOnline", "LastOnline", "FirstTransient", "LastTransient")
        return next((name for name, value in names.items() if value == number and name not in special), str(number))

    @staticmethod
    def _done(progress: Any) -> None:
        progress.wait_for_completion(-1)
        if progress.result_code:
            raise RuntimeError(progress.error_info.text)

    def _listen(self, tell: Any) -> None:
        """Tell each state that the machine comes into; and, now and then, that the service lives."""
        library = self._library
        source = self._vbox.event_source
        listener = source.create_listener()
        source.register_listener(listener, [library.VBoxEventType.on_machine_state_changed], False)
        while True:
            event = source.get_event(listener, ALIVE_EVERY_MS)
            state = None
            if event._i is not None:  # pyvbox's own answer to `if event` is of Python 2
                changed = library.IMachineStateChangedEvent(event)
                state = self._state_name(changed._i.state)
                source.event_processed(listener, event)
            tell({"state": state})


def serve(worker: Worker, stream: Any) -> None:
    """Do what is asked, line by line, until nobody asks any more."""
    lock = threading.Lock()

    def tell(what: dict[str, Any]) -> None:
        with lock:
            stream.write((json.dumps(what) + "\n").encode())
            stream.flush()

    def listen() -> None:
        try:
            worker._listen(tell)
        except Exception as error:  # the service has gone, say; what is asked next says so
            tell({"deaf": str(error)})

    threading.Thread(target=listen, daemon=True).start()
    for line in stream:
        asked = json.loads(line.decode())
        try:
            tell({"number": asked["number"], "answer": getattr(worker, asked["verb"])(*asked["words"])})
        except Exception as error:
            tell({"number": asked["number"], "error": str(error) or repr(error)})


def main(words: list[str]) -> None:
    """Do as the words say; see above."""
    virtualbox = load(words[1])
    if words[0] == "check":
        print("Python " + ".".join(map(str, sys.version_info[:2])))
        return
    stream = os.fdopen(int(words[2]), "r+b", 0)
    serve(Worker(virtualbox, words[3]), stream)
    os._exit(0)  # without asking a service that may hang


if __name__ == "__main__":
    main(sys.argv[1:])
