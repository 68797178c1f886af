"""The objects that pyvbox calls: those of VirtualBox's API that the bridge has it call, with the names of 7.2."""

from __future__ import annotations

import os
import sys
import time
import types
import uuid
from pathlib import Path
from typing import Any

from .service import STATES, Service, ServiceError, make_disk

__all__ = ["VirtualBoxManager", "g_sVBoxSdkDir"]

g_sVBoxSdkDir = "/nonexistent"

for _name in ("xpcom", "xpcom.vboxxpcom"):
    sys.modules.setdefault(_name, types.ModuleType(_name))


class _Constants:
    PlatformArchitecture_x86 = 1

    @staticmethod
    def all_values(name: str) -> dict[str, int]:
        return {"MachineState": {**STATES, "FirstOnline": STATES["Running"]}}[name]


class VirtualBoxManager:
    """What `vboxapi` has."""

    def __init__(self, style: object = None, params: object = None) -> None:
        self.constants = _Constants()
        self._vbox = _VirtualBox(Service(Path(os.environ["VBOX_USER_HOME"])))

    @property
    def mgr(self) -> VirtualBoxManager:
        return self

    def getVirtualBox(self) -> _VirtualBox:
        return self._vbox

    def getSessionObject(self, _: object = None) -> _Session:
        return _Session()

    @staticmethod
    def queryInterface(found: Any, name: str) -> Any:
        return found


class _Progress:
    """Of something that has been done, or has failed."""

    def __init__(self, error: str = "") -> None:
        self.resultCode = -2147467259 if error else 0
        self.errorInfo = types.SimpleNamespace(text=error)

    def waitForCompletion(self, timeout: int) -> None:
        pass


def _tried(work: Any, *words: Any) -> tuple[_Progress, Any]:
    try:
        return _Progress(), work(*words)
    except ServiceError as error:
        if error.errno != 0x80004005:
            raise
        return _Progress(error.msg), ""


class _VirtualBox:
    version = "7.2.22_StandIn"

    def __init__(self, service: Service) -> None:
        self._service = service
        self.eventSource = _EventSource(service)

    def createMachine(
        self, settings: str, name: str, platform: int, groups: list[str], system: str, flags: str,
        cipher: str, password_id: str, password: str,
    ) -> _Machine:  # fmt: skip
        assert platform == 1 and system == "Linux_64"
        os.makedirs(os.path.dirname(settings))
        with self._service.machine() as machine:
            machine.update(id=str(uuid.uuid4()), name=name, settings=settings)
        return _Machine(self._service)

    def registerMachine(self, machine: _Machine) -> None:
        with self._service.machine() as found:
            found["registered"] = True

    def findMachine(self, name: str) -> _Machine:
        with self._service.machine() as found:
            if not found["registered"] or name not in (found["name"], found["id"]):
                raise ServiceError(0x80BB0001, f"Could not find a registered machine named '{name}'")
        return _Machine(self._service)

    def openMedium(self, location: str, kind: int, mode: int, new_id: bool) -> _Medium:
        if not os.path.exists(location):
            raise ServiceError(0x80BB0004, f"Could not find file for the medium '{location}'")
        if kind == 3 and mode == 1:
            with self._service.machine() as found:
                found["opened"].append(location)
        return _Medium(location)

    @staticmethod
    def createMedium(form: str, location: str, mode: int, kind: int) -> _Medium:
        assert form == "VDI"
        return _Medium(location)


class _Medium:
    def __init__(self, location: str) -> None:
        self.location = location

    def createDiffStorage(self, target: _Medium, variants: list[int]) -> _Progress:
        make_disk(target.location, self.location)
        return _Progress()


class _Session:
    machine: _Machine
    console: _Console

    def unlockMachine(self) -> None:
        pass


class _Console:
    def __init__(self, service: Service) -> None:
        self._service = service

    def pause(self) -> None:
        self._service.tell("stop", "Running", "Paused")

    def resume(self) -> None:
        self._service.tell("cont", "Paused", "Running")


class _Part:
    """A part of a machine whose attributes are those of an entry in its file."""

    def __init__(self, service: Service, *path: str) -> None:
        self.__dict__.update(_service=service, _path=path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        with self._service.machine() as found:
            for step in self._path:
                found = found[step]
            if name not in found:
                raise AttributeError(name)
            return found[name]

    def __setattr__(self, name: str, value: Any) -> None:
        with self._service.machine() as found:
            for step in self._path:
                found = found[step]
            found[name] = value


class _Machine(_Part):
    def __init__(self, service: Service) -> None:
        super().__init__(service)
        board = types.SimpleNamespace
        self.__dict__.update(firmwareSettings=board(), platform=board(), graphicsAdapter=board(VRAMSize=0))

    @property
    def state(self) -> int:
        with self._service.machine() as found:
            return STATES[found["state"]]

    @property
    def snapshotCount(self) -> int:
        with self._service.machine() as found:
            return len(found["snapshots"])

    def lockMachine(self, session: _Session, lock: int) -> None:
        session.machine, session.console = self, _Console(self._service)

    def saveSettings(self) -> None:
        pass

    def setBootOrder(self, position: int, kind: int) -> None:
        with self._service.machine() as found:
            found["boot"][str(position)] = kind

    def getNetworkAdapter(self, slot: int) -> _Switch:
        return _Switch(self._service, "adapters", str(slot))

    @property
    def VRDEServer(self) -> _Switch:
        return _Switch(self._service, "", "vrde")

    def getSerialPort(self, slot: int) -> _Part:
        return _Part(self._service, "serial")

    def addStorageController(self, name: str, bus: int) -> object:
        with self._service.machine() as found:
            found["controllers"][name] = {1: "IDE", 2: "SATA", 3: "SCSI", 5: "SAS"}[bus]
        return object()

    def attachDevice(self, name: str, port: int, device: int, kind: int, medium: _Medium) -> None:
        with self._service.machine() as found:
            found["devices"].append({"controller": name, "type": kind, "medium": medium.location})

    def createSharedFolder(self, name: str, folder: str, writable: bool, automount: bool, point: str) -> None:
        with self._service.machine() as found:
            found["folders"].append([name, folder, writable])

    def findSnapshot(self, named: str) -> _Snapshot:
        return _Snapshot(self._service, self._service.find_snapshot(named))

    def takeSnapshot(self, name: str, description: str, pause: bool) -> tuple[_Progress, str]:
        with self._service.machine() as found:
            if not pause and found["state"] not in ("Running", "Paused"):
                raise ServiceError(0x80BB0002, "Cannot take a live snapshot of a virtual machine unless it is running")
        return _tried(self._service.take, name)

    def deleteSnapshot(self, number: str) -> _Progress:
        return _tried(self._service.forget, number)[0]

    def restoreSnapshot(self, snapshot: _Snapshot) -> _Progress:
        return _tried(self._service.go_back, snapshot.id)[0]


class _Switch:
    """Something that is on or off."""

    def __init__(self, service: Service, part: str, name: str) -> None:
        self.__dict__.update(_service=service, _part=part, _name=name)

    def __setattr__(self, name: str, value: bool) -> None:
        assert name == "enabled"
        with self._service.machine() as found:
            (found[self._part] if self._part else found)[self._name] = value

    def __getattr__(self, name: str) -> Any:
        return self.__dict__[name] if name.startswith("_") else None


class _Snapshot:
    def __init__(self, service: Service, number: str) -> None:
        self._service, self.id = service, number

    @property
    def name(self) -> str:
        with self._service.machine() as found:
            return str(found["snapshots"][self.id]["name"])

    @property
    def children(self) -> list[_Snapshot]:
        with self._service.machine() as found:
            numbers = [number for number, entry in found["snapshots"].items() if entry["parent"] == self.id]
        return [_Snapshot(self._service, number) for number in numbers]


class _Listener:
    seen = 0


class _EventSource:
    def __init__(self, service: Service) -> None:
        self._service = service

    def createListener(self) -> _Listener:
        return _Listener()

    def registerListener(self, listener: _Listener, kinds: list[int], active: bool) -> None:
        with self._service.machine() as found:
            listener.seen = len(found["history"])

    def getEvent(self, listener: _Listener, timeout_ms: int) -> object:
        until = time.monotonic() + timeout_ms / 1000
        while time.monotonic() < until:
            with self._service.machine() as found:
                if len(found["history"]) > listener.seen:
                    state = found["history"][listener.seen]
                    listener.seen += 1
                    return types.SimpleNamespace(machineId=found["id"], state=STATES[state])
            time.sleep(0.02)
        return None

    def eventProcessed(self, listener: _Listener, event: object) -> None:
        pass
