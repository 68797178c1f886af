"""What VirtualBox is told, and what it is refused for. (What it does with that: the integration tests.)"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import HypervisorError, NotInstalled
from bridge.hypervisors import DISK_CONTROLLERS, MACHINES, Hardware, MachineSpec, choose, load
from bridge.hypervisors.virtualbox import VirtualBox, api
from bridge.hypervisors.virtualbox.box import Box, disks_in, disks_left, leave_disks
from bridge.hypervisors.virtualbox.plan import (
    BOX,
    CONSOLE,
    Plan,
    copy_of,
    environment,
    forgotten,
    machine_name,
    plan,
    socket_folder,
)
from bridge.hypervisors.virtualbox.words import making, state_in, tags_in
from bridge.image.bare import BareDisk

from .test_qemu import IMAGE, SPEC

DISK = BareDisk(Path("/project/a disk.vdi"), "vdi", "vdi 1 2")
PARTS = Path("/images/an image")
WITH_CD = replace(IMAGE, work_disk=PARTS / "work.vmdk", work_disk_format="vmdk", boot_cd=PARTS / "boot.iso")
BARE = replace(SPEC, image=DISK, hardware=Hardware("sata", "e1000", (("shared", Path("/slot/a, b")),)))


def made(spec: MachineSpec, *, new_disk: bool = True) -> Plan:
    return replace(plan(spec), new_disk=new_disk)


def test_a_machine_is_made_in_a_registry_of_its_own() -> None:
    verbs = [words[:2] if words[0] in ("createmedium", "sharedfolder") else words[:1] for words in making(made(BARE))]
    assert verbs == [
        ["createvm"],
        ["modifyvm"],
        ["createmedium", "disk"],
        ["storagectl"],
        ["storageattach"],
        ["sharedfolder", "add"],
    ]
    words = [word for call in making(made(BARE)) for word in call]
    assert words[words.index("--diffparent") + 1] == str(DISK.work_disk)
    assert words[words.index("--hostpath") + 1] == "/slot/a, b"
    assert words[words.index("--nic1") + 1] == "none"
    assert not {"startvm", "--natpf1"} & set(words)


def test_a_disk_that_is_there_is_attached_and_the_spare_one_deleted() -> None:
    calls = making(made(BARE, new_disk=False))
    created = next(words for words in calls if words[0] == "createmedium")
    attached = next(words for words in calls if words[0] == "storageattach")
    closed = next(words for words in calls if words[0] == "closemedium")
    assert created[created.index("--filename") + 1] == closed[2] != attached[-1]
    assert closed[-1] == "--delete" and calls.index(closed) > calls.index(attached)


@pytest.mark.parametrize("controller", DISK_CONTROLLERS)
def test_each_controller_has_the_disk(controller: str) -> None:
    calls = making(made(replace(BARE, hardware=Hardware(controller, "e1000", ()))))
    assert ["storagectl", machine_name(BARE.directory), "--name", "disks", "--add", controller] in [
        words[:6] for words in calls
    ]


def test_all_that_is_made_lies_in_the_machines_folder() -> None:
    box, found = BARE.directory / BOX, plan(BARE)
    for path in (*map(str, forgotten(BARE.directory)), found.settings, found.disk):
        assert path == str(BARE.directory / CONSOLE) or Path(path).is_relative_to(box)
    assert found.console == str(BARE.directory / CONSOLE)
    assert Path(environment(BARE.directory)["VBOX_USER_HOME"]).parent == box
    assert Path(found.disk) not in forgotten(BARE.directory)
    assert len(str(socket_folder(BARE.directory) / "ipcd")) < 100, "a socket's path"


def test_names_are_of_the_place() -> None:
    one, other = machine_name(Path("/slots/0/machine")), machine_name(Path("/slots/1/machine"))
    assert one != other and one.startswith("vmbridge-")
    assert one == machine_name(Path("/slots/1/../0/machine"))


def test_the_state() -> None:
    assert state_in('name="x"\nVMState="running"\nVMStateChangeTime="2026"\n') == "Running"
    assert state_in('VMState="gurumeditation"\n') == "Stuck" and state_in('VMState="saved"\n') == "saved"
    assert state_in("WARNING: nothing\n") == ""


def test_the_snapshots() -> None:
    said = 'SnapshotName="one"\nSnapshotUUID="1"\nSnapshotName-1="two"\nSnapshotName-1-1="three"\n'
    said += 'CurrentSnapshotName="two"\n'
    assert tags_in(said) == ["one", "two", "three"]


DESCRIPTION = """<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.19-linux">
  <Machine uuid="{m}" name="vm" currentSnapshot="{s}">
    <MediaRegistry><HardDisks>
      <HardDisk uuid="{i}" location="/images/work.vmdk" format="VMDK" type="Normal">
        <HardDisk uuid="{d}" location="/slot/machine/box/disk.vdi" format="VDI">
          <HardDisk uuid="{2}" location="Snapshots/{2}.vdi" format="VDI"/>
          <HardDisk uuid="{1}" location="Snapshots/{1}.vdi" format="VDI"/>
        </HardDisk>
      </HardDisk>
    </HardDisks></MediaRegistry>
    <Snapshot uuid="{s}" name="one"><Hardware><StorageControllers><StorageController name="disks">
      <AttachedDevice type="HardDisk"><Image uuid="{d}"/></AttachedDevice>
    </StorageController></StorageControllers></Hardware></Snapshot>
    <Hardware><StorageControllers><StorageController name="disks">
      <AttachedDevice type="DVD"><Image uuid="{c}"/></AttachedDevice>
      <AttachedDevice type="HardDisk"><Image uuid="{1}"/></AttachedDevice>
    </StorageController></StorageControllers></Hardware>
  </Machine>
</VirtualBox>
"""
"""What the real 7.2.22 writes, shortened."""


def test_the_disks_that_a_machine_has_now() -> None:
    assert disks_in(DESCRIPTION) == ["/images/work.vmdk", "/slot/machine/box/disk.vdi", "Snapshots/{1}.vdi"]
    for broken in ("", "<VirtualBox/>", DESCRIPTION.replace('type="HardDisk"', 'type="DVD"')):
        with pytest.raises(ValueError):
            disks_in(broken)


def test_only_the_disks_are_left_and_the_next_machine_lies_over_them(tmp_path: Path) -> None:
    """The folder has got another name by then."""
    machine = tmp_path / BOX / "vm"
    names = ("disk.vdi", "vm/Snapshots/{1}.vdi", "vm/Snapshots/{2}.vdi", "vm/Snapshots/1.sav", "home/x")
    for file in (*(tmp_path / BOX / name for name in names), tmp_path / "one.copy" / "y"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with pytest.raises(HypervisorError, match="not known which disks"):
        leave_disks(tmp_path)
    (machine / "vm.vbox").write_text(DESCRIPTION)
    for _ in range(2):
        leave_disks(tmp_path)
        assert set(content(tmp_path)) == {
            f"{BOX}/{name}" for name in ("disk.vdi", "disks.json", "vm/Snapshots/{1}.vdi")
        }
    left = disks_left(tmp_path)
    assert left == ["/images/work.vmdk", f"{tmp_path}/{BOX}/disk.vdi", f"{tmp_path}/{BOX}/vm/Snapshots/{{1}}.vdi"]
    calls = making(plan(BARE, left))
    over = [words[words.index("--diffparent") + 1] for words in calls if words[0] == "createmedium"]
    assert over == left, "VirtualBox must know each of them"
    assert len([words for words in calls if words[0] == "closemedium"]) == 2


def test_an_image_of_ours_boots_from_its_cd() -> None:
    spec = replace(SPEC, image=WITH_CD)
    found = plan(spec)
    assert (found.cd, found.parents, found.controller) == (str(PARTS / "boot.iso"), (str(PARTS / "work.vmdk"),), "sata")
    assert found.exports == (
        ("vmbridge_host", str(spec.share.host), False),
        ("vmbridge_guest", str(spec.share.guest), True),
    )
    calls = making(found)
    modify = next(words for words in calls if words[0] == "modifyvm")
    assert modify[modify.index("--boot1") + 1] == "dvd"
    assert [words[4:6] for words in calls if words[0] == "storagectl"] == [["--add", "sata"], ["--add", "ide"]]
    assert [words[-1] == "--readonly" for words in calls if words[0] == "sharedfolder"] == [True, False]


def test_only_disks_and_cds_are_booted_and_nothing_is_converted() -> None:
    assert VirtualBox.refuses(WITH_CD) is None
    assert "kernel" in (VirtualBox.refuses(IMAGE) or "")
    assert "qcow2" in (VirtualBox.refuses(replace(DISK, work_disk_format="qcow2")) or "")
    assert "aarch64" in (VirtualBox.refuses(replace(DISK, arch="aarch64")) or "")
    assert VirtualBox.refuses(DISK) is None and VirtualBox.refuses(replace(DISK, work_disk_format="vmdk")) is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (replace(BARE, network=True), "reaches nothing near"),
        (SPEC, "boots only disks"),
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


# --- its folder ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / BOX / "home"
    home.mkdir(parents=True)
    (home / "VirtualBox.xml").write_text('<HardDisk location="disk.vdi"/>')
    machine = tmp_path / BOX / "m"
    (machine / "Snapshots").mkdir(parents=True)
    (machine / "m.vbox").write_text('<Snapshot stateFile="Snapshots/1.sav"/><HardDisk location="Snapshots/{1}.vdi"/>')
    for name in ("1.sav", "2.sav", "{1}.vdi", "{2}.vdi"):
        (machine / "Snapshots" / name).write_text(name)
    return tmp_path


def content(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_what_is_named_nowhere_goes(folder: Path) -> None:
    Box(folder).forget_strays()
    assert sorted(file.name for file in (folder / BOX / "m" / "Snapshots").iterdir()) == ["1.sav", "{1}.vdi"]


@pytest.mark.parametrize(
    ("new", "expected"), [("<VirtualBox/>", "<VirtualBox/>"), ("<VirtualBox>", "<before/>"), ("", "<before/>")]
)
def test_a_description_that_virtualbox_was_about_to_put_there(folder: Path, new: str, expected: str) -> None:
    """Killed between its two renames, VirtualBox knew the machine no more."""
    machine = folder / BOX / "m"
    (machine / "m.vbox").unlink()
    (machine / "m.vbox-prev").write_text("<before/>")
    if new:
        (machine / "m.vbox-tmp").write_text(new)
    for _ in range(2):
        Box(folder).mend()
        assert (machine / "m.vbox").read_text() == expected


def test_a_copy_takes_the_place_of_the_box(folder: Path) -> None:
    async def go() -> None:
        box, before = Box(folder), content(folder / BOX)
        await box.copy("one")
        await box.sync_copy("one")
        assert content(copy_of(folder, "one")) == before and box.bytes() == sum(map(len, before.values()))
        (folder / BOX / "m" / "m.vbox").write_text("broken")
        await box.copy("two")
        box.forget_copies("one")
        assert not copy_of(folder, "two").exists()
        for _ in range(2):
            await box.put_back("one")
            assert content(folder) == {f"{BOX}/{name}": text for name, text in before.items()}
        box.remove()
        assert list(folder.iterdir()) == []

    asyncio.run(go())


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_a_copy_is_put_back_whatever_has_stopped_it(folder: Path, renamed: int) -> None:
    async def go() -> None:
        box, before = Box(folder), content(folder / BOX)
        await box.copy("one")
        (folder / BOX / "m" / "m.vbox").write_text("broken")
        if renamed:
            (folder / BOX).rename(folder / f"{BOX}.old")
        if renamed == 2:
            copy_of(folder, "one").rename(folder / BOX)
        await box.put_back("one")
        assert content(folder) == {f"{BOX}/{name}": text for name, text in before.items()}

    asyncio.run(go())


# --- its API ---


def test_no_python_here_has_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "interpreters", lambda: ("/bin/false", "/nonexistent/python3"))
    assert asyncio.run(api.interpreter(Path("/nonexistent"))) is None


def test_the_worker_imports_nothing_of_the_bridge() -> None:
    text = (Path(api._words("python3")[-1]) / "worker.py").read_text()
    assert text.startswith('"""') and "bridge" not in {
        line.split()[1] for line in text.splitlines() if " import " in line
    }
    assert all(len(word) < 300 for word in api._words("python3")), "the job's log has them"
