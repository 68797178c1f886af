"""Machines of VirtualBox's: the real one up to the start, which needs its kernel driver; the rest with a stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.errors import Hindered, HostError, HypervisorError, OverBound
from bridge.hypervisors import DISK_CONTROLLERS, SWITCHED_OFF, Hardware, MachineSpec, MachineState
from bridge.hypervisors.contract import (
    Case,
    Ground,
    a_machine_that_dies_underneath_is_gone,
    each_verb_does_in_each_state_what_it_must,
    no_machine_outlives_the_bridge,
)
from bridge.hypervisors.explain import explained
from bridge.hypervisors.said import recognised
from bridge.hypervisors.virtualbox import VirtualBox, api
from bridge.hypervisors.virtualbox.api import ByApi
from bridge.hypervisors.virtualbox.box import Box, disks_left, tags_in_box
from bridge.hypervisors.virtualbox.control import Control
from bridge.hypervisors.virtualbox.manage import ByManage, manage
from bridge.hypervisors.virtualbox.plan import (
    BOX,
    CONSOLE,
    box_of,
    environment,
    machine_name,
    made,
    plan,
    socket_folder,
)
from bridge.hypervisors.virtualbox.service import end_service
from bridge.image import Image
from bridge.image.bare import load_disk
from protocol.layout import GUEST_TAG, HOST_TAG, Share

from .. import virtualbox


def make_spec(folder: Path, image: Path) -> MachineSpec:
    folder.mkdir(exist_ok=True)
    share = Share.one_folder(folder / "shared")
    (folder / "machine").mkdir(exist_ok=True)
    share.host.mkdir(exist_ok=True)
    hardware = Hardware("sata", "e1000", (("shared", share.host),))
    return MachineSpec("test", folder / "machine", share, load_disk(image), 256, 1, hardware=hardware)


# --- the real one ---


@pytest.fixture(scope="module")
def root() -> Path:
    """The folder with the real VirtualBox."""
    if not (found := os.environ.get("VIRTUALBOX_ROOT")):
        pytest.skip("this is for make test-virtualbox")
    return Path(found)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that an ordinary user may enter, and does own."""
    with tempfile.TemporaryDirectory(prefix="vb", dir="/tmp") as made:
        os.chown(made, 65534, 65534)
        os.chmod(made, 0o755)
        yield Path(made)


def prepared(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch, user: str = "65534:65534", controller: str = "sata"
) -> MachineSpec:
    programs = virtualbox.real(folder / "programs", root, user)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(folder))
    image = folder / "image.vdi"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vdi", image, "10M"], check=True)
    spec = make_spec(folder / "job", image)
    subprocess.run(["chown", "-R", "65534:65534", folder / "job", image], check=True)
    assert spec.hardware is not None
    return replace(spec, hardware=replace(spec.hardware, disk_controller=controller))


def services(spec: MachineSpec) -> list[psutil.Process]:
    """The services of this machine's own."""
    home = environment(spec.directory)["VBOX_USER_HOME"]
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"] == "VBoxSVC" and process.environ().get("VBOX_USER_HOME") == home:
                found.append(process)
    return found


def users(home: Path) -> list[psutil.Process]:
    """The services of whoever lives there, in whichever registry."""
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"] == "VBoxSVC" and process.environ().get("HOME") == str(home):
                found.append(process)
    return found


def test_without_the_driver_the_start_says_so_and_leaves_nothing(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    spec = prepared(folder, root, monkeypatch)
    api._FOUND.clear()
    image = folder / "image.vdi"
    content = image.read_bytes()

    async def start_in_vain() -> None:
        found = VirtualBox(spec)
        said = await found.probe()
        assert said.startswith("VirtualBox 7.") and said.endswith(
            "by its API (Python 3.14)" if by == "api" else "by VBoxManage"
        )
        assert not users(folder) and os.listdir(spec.directory) == [], "to look what is there starts nothing that stays"
        for _ in range(2):  # the second goes on with the disk of the first
            with pytest.raises(HypervisorError) as failed:
                await found.start()
            assert found.examine().state is MachineState.ABSENT
            reason = recognised(str(failed.value))
            assert reason is not None and reason.reason.code == "vboxdrv"
            told = await explained(failed.value, "virtualbox")
            assert isinstance(told, Hindered) and "vboxdrv is not loaded" in str(told)
            assert Path(plan(spec).disk).exists()
        assert not services(spec)
        for _ in range(2):
            await found.remove()

    asyncio.run(start_in_vain())
    assert os.listdir(spec.directory) == [] and not socket_folder(spec.directory).exists()
    assert image.read_bytes() == content, "other jobs use the image"
    registries = list(folder.rglob("VirtualBox.xml"))
    assert all("image.vdi" not in file.read_text() for file in registries), "the user's own is as it was"


@pytest.fixture(params=["api", "manage"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What VirtualBox is told by."""
    if request.param == "manage":
        monkeypatch.setattr(api, "interpreters", tuple)
    return str(request.param)


async def control_of(spec: MachineSpec) -> Control:
    """What the machine would be told by."""
    return await VirtualBox(spec)._opened()


@pytest.mark.parametrize("controller", DISK_CONTROLLERS)
def test_it_is_what_it_was_to_be(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, controller: str, by: str
) -> None:
    spec = prepared(folder, root, monkeypatch, controller=controller)

    async def make() -> dict[str, str]:
        control = await control_of(spec)
        assert isinstance(control, ByApi if by == "api" else ByManage)
        await control.make(plan(spec))
        assert await control.state() in ("PoweredOff", "poweroff")
        made(spec.directory).touch()
        name = machine_name(spec.directory)
        said = await manage(spec.directory, "showvminfo", name, "--machinereadable")
        media = await manage(spec.directory, "list", "hdds")
        await control.close()
        end_service(spec.directory)
        shutil.rmtree(environment(spec.directory)["VBOX_USER_HOME"])
        shutil.rmtree(box_of(spec.directory) / name)
        assert media.count("Location:") == 2, "the image and the disk"
        lines = (line.partition("=") for line in said.splitlines())
        return {key.strip('"'): value.strip('"') for key, _, value in lines}

    async def make_twice() -> tuple[dict[str, str], dict[str, str]]:
        return await make(), await make()

    first, again = asyncio.run(make_twice())
    for found in (first, again):
        assert found["memory"] == "256" and found["cpus"] == "1"
        assert {found[f"nic{number}"] for number in range(1, 9)} == {"none"}
        assert found["usb"] == found["ehci"] == found["xhci"] == found["vrde"] == found["audio_out"] == "off"
        assert found["clipboard"] == found["draganddrop"] == "disabled"
        assert found["ioapic"] == found["rtcuseutc"] == "on" and found["vram"] == "16"
        assert found["uart1"] == "0x03f8,4" and found["uartmode1"] == f"file,{spec.directory / CONSOLE}"
        assert [found[f"boot{number}"] for number in range(1, 5)] == ["disk", "none", "none", "none"]
        assert found["SharedFolderNameMachineMapping1"] == "shared"
        assert found["SharedFolderPathMachineMapping1"] == str(spec.share.host)
        assert "SharedFolderNameMachineMapping2" not in found
        assert found["disks-0-0"] == plan(spec).disk
    assert first["disks-ImageUUID-0-0"] == again["disks-ImageUUID-0-0"], "the same disk"


def test_both_make_the_same_machine(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = prepared(folder, root, monkeypatch)

    async def make(control: Control) -> dict[str, str]:
        await control.make(plan(spec))
        said = await manage(spec.directory, "showvminfo", machine_name(spec.directory), "--machinereadable")
        await control.close()
        end_service(spec.directory)
        shutil.rmtree(box_of(spec.directory))
        lines = (line.partition("=") for line in said.splitlines())
        return {key.strip('"'): value.strip('"') for key, _, value in lines}

    async def make_both() -> tuple[dict[str, str], dict[str, str]]:
        control = await control_of(spec)
        assert isinstance(control, ByApi)
        return await make(control), await make(ByManage(spec.directory))

    by_api, by_manage = asyncio.run(make_both())
    different = {key for key in by_api.keys() | by_manage.keys() if by_api.get(key) != by_manage.get(key)}
    assert {key for key in different if "uuid" not in key.lower()} <= {"VMStateChangeTime"}


def test_snapshots_of_a_machine_that_is_off(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """Memory is in none of them; all else is as in one of a machine that runs."""
    spec = prepared(folder, root, monkeypatch)

    async def go() -> None:
        control = await control_of(spec)
        await control.make(plan(spec))
        assert await control.tags() == []
        for tag in ("one", "two"):
            await control.take(tag)
        assert await control.tags() == ["one", "two"]
        await control.go_back("one")
        await control.take("three")
        assert sorted(await control.tags()) == ["one", "three", "two"]
        with pytest.raises(HypervisorError, match="four"):
            await control.go_back("four")
        await control.forget("two")
        await control.forget("one")
        assert await control.tags() == ["three"]
        assert tags_in_box(box_of(spec.directory)) == {"three"}
        await control.close()
        end_service(spec.directory)  # as a power cut would
        again = await control_of(spec)
        assert await again.tags() == ["three"]
        await again.go_back("three")
        with pytest.raises(HypervisorError):
            await again.pause()
        await again.close()
        end_service(spec.directory)

    asyncio.run(go())
    assert not services(spec)


def test_whatever_is_cut_short_what_was_saved_before_is_gone_back_to(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is killed while it saves, or deletes: at each of these moments something else is half done."""
    spec = prepared(folder, root, monkeypatch)

    async def go() -> int:
        control = await control_of(spec)
        await control.make(plan(spec))
        await control.take("good")
        cut_short = 0
        for number in range(20):
            verb, tag = [("take", f"s{number}"), ("forget", f"s{number - 1}"), ("go_back", "good")][number % 3]
            work = asyncio.ensure_future(getattr(control, verb)(tag))
            await asyncio.sleep(number % 7 * 0.003)
            cut_short += not work.done()
            end_service(spec.directory)
            with contextlib.suppress(HypervisorError):
                await work
            await control.close()
            Box(spec.directory).mend()
            control = await control_of(spec)
            tags = await control.tags()
            assert "good" in tags and tags_in_box(box_of(spec.directory)) == set(tags)
            await control.go_back("good")
            Box(spec.directory).forget_strays()
            end_service(spec.directory)
            await control.close()
            control = await control_of(spec)
            await control.go_back("good")
        await control.close()
        end_service(spec.directory)
        return cut_short

    assert asyncio.run(go()) > 5, "or nothing was tried"


def test_a_machine_goes_on_with_the_disk_of_another(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    first = prepared(folder, root, monkeypatch)

    async def run(spec: MachineSpec, left: Sequence[str]) -> str:
        control = await control_of(spec)
        await control.make(plan(spec, left))
        for tag in ("one", "two"):
            await control.take(tag)
        await control.go_back("one")
        media = await manage(spec.directory, "list", "hdds")
        await control.close()
        end_service(spec.directory)
        return media

    async def go() -> None:
        await run(first, ())
        aside = first.directory.rename(folder / "job" / "aside")
        for _ in range(2):
            await VirtualBox.leave_disk(aside)
            assert os.listdir(aside) == [BOX]
        left = disks_left(aside)
        assert [Path(disk).suffix for disk in left] == [".vdi", ".vdi", ".vdi"] and all(map(os.path.exists, left))
        before = {disk: Path(disk).read_bytes() for disk in left}
        subprocess.run(["chown", "-R", "65534:65534", aside], check=True)
        second = replace(first, directory=folder / "job" / "second", before=aside)
        second.directory.mkdir()
        os.chown(second.directory, 65534, 65534)
        media = await run(second, left)
        assert media.count("Location:") == 6, "those, its own, one for each snapshot that was not deleted"
        assert {disk: Path(disk).read_bytes() for disk in left} == before

    asyncio.run(go())


def test_an_image_of_ours_has_its_cd_and_a_folder_that_is_read_only(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    spec = prepared(folder, root, monkeypatch)
    disk, cd = folder / "work.vmdk", folder / "boot.iso"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", disk, "10M"], check=True)
    cd.write_bytes(bytes(1 << 20))
    for file in (disk, cd):
        os.chown(file, 65534, 65534)
    image = Image("x86_64", cd, cd, disk, "", True, "", "vmdk", cd)
    spec = replace(spec, image=image, hardware=None)

    async def go() -> str:
        control = await control_of(spec)
        await control.make(plan(spec))
        said = await manage(spec.directory, "showvminfo", machine_name(spec.directory), "--machinereadable")
        await control.close()
        end_service(spec.directory)
        return said

    said = asyncio.run(go())
    assert 'boot1="dvd"' in said and f'"cd-0-0"="{cd}"' in said and f'"disks-0-0"="{plan(spec).disk}"' in said
    description = next(box_of(spec.directory).glob("*/*.vbox")).read_text()
    for tag, writable in ((HOST_TAG, "false"), (GUEST_TAG, "true")):
        assert re.search(f'<SharedFolder name="{tag}" hostPath="[^"]*" writable="{writable}"', description)


def test_what_happens_is_told(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = prepared(folder, root, monkeypatch)

    async def go() -> None:
        control = await control_of(spec)
        assert isinstance(control, ByApi)
        await control.make(plan(spec))
        control.news.clear()
        await control.take("one")  # the machine is "Snapshotting" meanwhile
        await asyncio.wait_for(control.news.wait(), 30)
        assert await control.now() == "PoweredOff"
        heard_at = control._heard_at
        while control._heard_at == heard_at:  # that the service lives, within five seconds
            await asyncio.sleep(0.1)
        assert not control._deaf
        await control.close()
        end_service(spec.directory)

    asyncio.run(go())


def test_as_root_vboxmanage_would_write_into_the_image(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """It mends the heads of images that others have made, also of one that another machine uses. The API can be told
    to open them for reading.
    """
    spec = prepared(folder, root, monkeypatch, user="0:0")
    before = (folder / "image.vdi").read_bytes()

    async def start() -> None:
        found = VirtualBox(spec)
        with pytest.raises(HypervisorError, match="Error -1908" if by == "api" else "has written into the image"):
            await found.start()
        await found.remove()

    asyncio.run(start())
    assert os.listdir(spec.directory) == []
    assert ((folder / "image.vdi").read_bytes() == before) == (by == "api")


def test_a_service_that_hangs_is_told_of_and_ended(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    spec = prepared(folder, root, monkeypatch)
    monkeypatch.setattr(api, "HEARD_EVERY_S", 1.0)
    monkeypatch.setattr(VirtualBox, "call_within_s", 3.0)

    async def hang() -> None:
        found = VirtualBox(spec)
        control = await found._opened()
        await control.make(plan(spec))
        [service] = services(spec)
        service.suspend()
        if by == "api":
            control.news.clear()
            with pytest.raises(Hindered, match="service does not answer"):
                while True:  # nobody asks
                    await control.now()
                    await asyncio.sleep(0.1)
        with pytest.raises(Hindered, match="service does not answer"):
            await control.state()
        await found.remove()
        assert not service.is_running() or service.status() == psutil.STATUS_ZOMBIE

    asyncio.run(hang())
    assert os.listdir(spec.directory) == []


# --- the stand-in ---


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = virtualbox.standin(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{found}:{os.environ['PATH']}")
    return found


@pytest.fixture
def spec(tmp_path: Path, programs: Path) -> MachineSpec:
    return make_spec(tmp_path / "job", disk(tmp_path))


def disk(folder: Path) -> Path:
    image = folder / "image.vdi"
    image.write_bytes(bytes(64) + b"\x7f\x10\xda\xbe" + bytes(4096))
    return image


class Booting(VirtualBox):
    """Boots a disk whatever the suite gives it."""

    look_every_s = 0.05

    def __init__(self, spec: MachineSpec) -> None:
        exports = (("host", spec.share.host), ("guest", spec.share.guest))
        image = load_disk(disk(spec.directory.parent))
        super().__init__(replace(spec, image=image, hardware=Hardware("sata", "e1000", exports)))


@pytest.mark.parametrize(
    "body",
    [
        each_verb_does_in_each_state_what_it_must,
        a_machine_that_dies_underneath_is_gone,
        no_machine_outlives_the_bridge,
    ],
    ids=lambda body: body.__name__,
)
def test_contract(body: Any, tmp_path: Path, image: Path, programs: Path) -> None:
    """Those cases for which nothing need be in the machine."""
    Case(body, lambda backend: True)(Ground(Booting, tmp_path, image))


def test_a_machine_that_switches_itself_off(spec: MachineSpec, programs: Path) -> None:
    async def run() -> None:
        found = VirtualBox(spec)
        await found.start()
        (programs / "off").touch()
        assert await found.wait() == SWITCHED_OFF
        condition = found.examine()
        assert condition.state is MachineState.GONE and condition.console == "booting\n"
        await found.remove()

    asyncio.run(run())
    assert os.listdir(spec.directory) == []


def test_a_disk_goes_on_in_a_new_registry(spec: MachineSpec, programs: Path) -> None:
    async def run() -> None:
        for content in ("a disk", "written by the guest"):
            found = VirtualBox(spec)
            await found.start()
            assert Path(plan(spec).disk).read_text() == content
            await found.stop()
            Path(plan(spec).disk).write_text("written by the guest")
        made(spec.directory).unlink()  # the power failed while it was made
        found = VirtualBox(spec)
        await found.start()
        assert Path(plan(spec).disk).read_text() == "a disk"
        await found.remove()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [("paused", HostError, "cannot write its disk"), ("gurumeditation", HypervisorError, "has failed")],
)
def test_a_machine_that_virtualbox_stops(
    spec: MachineSpec, state: str, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VirtualBox, "look_every_s", 0.05)

    async def run() -> None:
        found = VirtualBox(spec)
        await found.start()
        (Path(environment(spec.directory)["VBOX_USER_HOME"]) / "state").write_text(state)
        with pytest.raises(error, match=said):
            await found.wait()
        await found.remove()

    asyncio.run(run())


def test_a_console_beyond_the_bound(spec: MachineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VirtualBox, "look_every_s", 0.05)

    async def run() -> None:
        found = VirtualBox(replace(spec, largest_file=1 << 20))
        await found.start()
        (spec.directory / CONSOLE).write_bytes(bytes(1 + (1 << 20)))
        with pytest.raises(OverBound):
            await found.wait()
        await found.remove()

    asyncio.run(run())


def test_a_service_that_hangs_ends_the_machine_and_not_the_bridge(
    spec: MachineSpec, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VirtualBox, "look_every_s", 0.05)

    async def run() -> None:
        found = VirtualBox(spec)
        await found.start()
        (programs / "hangs").touch()
        monkeypatch.setattr(found._there, "_within_s", 0.5)
        for verb in (found.pause, found.wait):
            with pytest.raises(Hindered, match="service does not answer") as hindered:
                await verb()
            assert hindered.value.delay_s > 0
        await found.remove()

    asyncio.run(run())
    assert os.listdir(spec.directory) == []


def test_a_start_without_the_driver(spec: MachineSpec, programs: Path) -> None:
    async def run() -> None:
        found = VirtualBox(spec)
        (programs / "no driver").touch()
        with pytest.raises(HypervisorError, match="Error -1908"):
            await found.start()
        (programs / "no driver").unlink()
        await found.start()
        assert found.examine().state is MachineState.RUNNING
        await found.remove()

    asyncio.run(run())
