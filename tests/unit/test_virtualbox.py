"""What VirtualBox is told, and what it is refused for. (What it does with that: the integration tests.)"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import HypervisorError, NotInstalled
from bridge.hypervisors import DISK_CONTROLLERS, MACHINES, Hardware, MachineSpec, choose, load
from bridge.hypervisors.virtualbox import VirtualBox
from bridge.hypervisors.virtualbox.words import environment, machine_name, making, own_files, socket_folder, state_in
from bridge.image.bare import BareDisk

from .test_qemu import IMAGE, SPEC

DISK = BareDisk(Path("/project/a disk.vdi"), "vdi", "vdi 1 2")
BARE = replace(SPEC, image=DISK, hardware=Hardware("sata", "e1000", (("shared", Path("/slot/a, b")),)))


def test_a_machine_is_made_in_a_registry_of_its_own() -> None:
    verbs = [
        words[:2] if words[0] in ("createmedium", "sharedfolder") else words[:1]
        for words in making(BARE, has_disk=False)
    ]
    assert verbs == [
        ["createvm"],
        ["modifyvm"],
        ["createmedium", "disk"],
        ["storagectl"],
        ["storageattach"],
        ["sharedfolder", "add"],
    ]
    words = [word for call in making(BARE, has_disk=False) for word in call]
    assert words[words.index("--diffparent") + 1] == str(DISK.work_disk)
    assert words[words.index("--hostpath") + 1] == "/slot/a, b"
    assert words[words.index("--nic1") + 1] == "none"
    assert not {"startvm", "--natpf1"} & set(words)


def test_a_disk_that_is_there_is_attached_and_the_spare_one_deleted() -> None:
    calls = making(BARE, has_disk=True)
    created = next(words for words in calls if words[0] == "createmedium")
    attached = next(words for words in calls if words[0] == "storageattach")
    closed = next(words for words in calls if words[0] == "closemedium")
    assert created[created.index("--filename") + 1] == closed[2] != attached[-1]
    assert closed[-1] == "--delete" and calls.index(closed) > calls.index(attached)


@pytest.mark.parametrize("controller", DISK_CONTROLLERS)
def test_each_controller_has_the_disk(controller: str) -> None:
    calls = making(replace(BARE, hardware=Hardware(controller, "e1000", ())), has_disk=False)
    assert ["storagectl", machine_name(BARE.directory), "--name", "disks", "--add", controller] in [
        words[:6] for words in calls
    ]


def test_all_that_is_made_lies_in_the_machines_folder() -> None:
    for file in own_files(BARE.directory):
        assert file.parent == BARE.directory
    assert Path(environment(BARE.directory)["VBOX_USER_HOME"]).parent == BARE.directory
    assert len(str(socket_folder(BARE.directory) / "ipcd")) < 100, "a socket's path"


def test_names_are_of_the_place() -> None:
    one, other = machine_name(Path("/slots/0/machine")), machine_name(Path("/slots/1/machine"))
    assert one != other and one.startswith("vmbridge-")
    assert one == machine_name(Path("/slots/1/../0/machine"))


def test_the_state() -> None:
    assert state_in('name="x"\nVMState="running"\nVMStateChangeTime="2026"\n') == "running"
    assert state_in("WARNING: nothing\n") == ""


def test_only_disks_are_booted_and_nothing_is_converted() -> None:
    assert "kernel" in (VirtualBox.refuses(IMAGE) or "")
    assert "qcow2" in (VirtualBox.refuses(replace(DISK, work_disk_format="qcow2")) or "")
    assert "aarch64" in (VirtualBox.refuses(replace(DISK, arch="aarch64")) or "")
    assert VirtualBox.refuses(DISK) is None and VirtualBox.refuses(replace(DISK, work_disk_format="vmdk")) is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (replace(BARE, network=True), "reaches nothing near"),
        (SPEC, "boots only disks"),
        (replace(BARE, hardware=None), "boots only disks"),
    ],
)
def test_what_it_cannot_do_is_said_before_anything_is_done(spec: MachineSpec, said: str) -> None:
    with pytest.raises(HypervisorError, match=said):
        asyncio.run(VirtualBox(spec).probe())


def test_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NotInstalled, match="VBoxHeadless"):
        asyncio.run(VirtualBox(BARE).probe())


def test_it_is_used_only_where_it_is_named() -> None:
    def which(name: str) -> str | None:
        return name if name.startswith("VBox") else None

    assert "virtualbox" in MACHINES and load("virtualbox") is VirtualBox
    with pytest.raises(NotInstalled):
        choose(None, None, which)
    assert choose(None, "virtualbox") is VirtualBox
