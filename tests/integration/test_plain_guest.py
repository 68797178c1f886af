"""Guests without our agent, as BOINC's vboxwrapper has them: a disk with its own loader, plain files, real QEMU."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import ImageError
from bridge.hypervisors import NETWORK_CARDS, Hardware, MachineSpec, MachineState
from bridge.hypervisors.qemu import Qemu
from bridge.hypervisors.qemu.disks import refuse_dependent
from bridge.image.bare import load_disk
from protocol.layout import Share

from ..patience import until
from ..plain_guest import build_disk
from ..standin import Conclusion, End
from .conftest import JobDirectory
from .slots import MakeSlot, Slot

MakeVboxJob = Callable[..., JobDirectory]

VBOX_JOB = """
<vbox_job>
  <os_name>Linux26_64</os_name>
  <vm_disk_controller_type>{controller}</vm_disk_controller_type>
  <memory_size_mb>256</memory_size_mb>
  <fraction_done_filename>fraction_done</fraction_done_filename>
  <heartbeat_filename>heartbeat</heartbeat_filename>
  <completion_trigger_file>shutdown</completion_trigger_file>
  <temporary_exit_trigger_file>try_again</temporary_exit_trigger_file>
  <enable_shared_directory/>
  <enable_scratch_directory/>
  <copy_to_shared>job.sh</copy_to_shared>
  <copy_to_shared>init_data.xml</copy_to_shared>
  <copy_cmdline_to_shared/>
  <trickle_trigger_file>news</trickle_trigger_file>
  <intermediate_upload_file>early.dat</intermediate_upload_file>
</vbox_job>
"""


@pytest.fixture(scope="session")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The guest's disk in each format."""
    formats = ("raw", "qcow2", "vdi", "vmdk")
    return dict(zip(formats, build_disk(tmp_path_factory.mktemp("disks"), formats), strict=True))


@pytest.fixture
def make_vbox_job(make_job: Callable[..., JobDirectory]) -> MakeVboxJob:
    """Make job directories from a disk and what its guest does."""

    def make(disk: Path, script: str, controller: str = "sata") -> JobDirectory:
        job = make_job("true")
        for name in ("worker", "job.xml"):
            (job.path / name).unlink()
        (job.path / "vbox_job.xml").write_text(VBOX_JOB.format(controller=controller))
        (job.path / "vm_image.vdi").symlink_to(disk)
        (job.path / "job.sh").write_text(script)
        return job

    return make


WHOLE_LIFE = """
touch heartbeat
echo 0.25 > fraction_done
printf '<energy>-4.25</energy>' > news
while [ -e news ]; do sleep 0.2; done
printf 'half of it' > early.dat
grep -q '<authenticator></authenticator>' init_data.xml && cp init_data.xml cmdline /scratch/
touch heartbeat
printf 'all of it' > out.dat
printf '0\\n0\\nwell ' > shutdown
sleep 0.3
printf 'done\\n' >> shutdown
sleep 1000
"""


@pytest.mark.parametrize(("controller", "kind"), [("sata", "vdi"), ("ide", "vmdk"), ("virtio", "raw")])
def test_a_whole_life(make_vbox_job: MakeVboxJob, disks: dict[str, Path], controller: str, kind: str) -> None:
    before = disks[kind].read_bytes()
    job = make_vbox_job(disks[kind], WHOLE_LIFE, controller)
    done = job.run("--hypervisor", "qemu")
    assert done.returncode == 0, done.stderr
    assert "<energy>-4.25</energy>" in done.stderr and "cannot be saved while it runs" in done.stderr
    assert (job.path / "shared" / "out.dat").read_text() == "all of it"
    assert f"result:      {job.path / 'shared'}" in done.stdout
    assert sorted(os.listdir(job.path / "scratch")) == ["cmdline", "init_data.xml"]
    assert not (job.path / "shared" / "shutdown").exists(), "another run would believe it"
    assert disks[kind].read_bytes() == before, "the machine wrote into its overlay"
    assert job.left() == ["shared"] and job.machines() == []


def test_a_person_plays_the_guest_with_plain_files(make_vbox_job: MakeVboxJob, disks: dict[str, Path]) -> None:
    job = make_vbox_job(disks["vdi"], "true")
    process = job.start("--hypervisor", "plain")
    job.wait_for("shared/job.sh")
    (job.path / "shared" / "fraction_done").write_text("0.5\n")
    (job.path / "shared" / "shutdown").write_text("7\n1\nno input\n")
    _, err = process.communicate()
    assert process.returncode == 1 and "the program ended with code 7: no input" in err


def test_a_guest_cannot_do_without_a_machine(make_vbox_job: MakeVboxJob, disks: dict[str, Path]) -> None:
    done = make_vbox_job(disks["vdi"], "true").run("--hypervisor", "local")
    assert done.returncode == 1 and "cannot run without a machine" in done.stderr and "Traceback" not in done.stderr


# Under a client


class VboxSlot:
    """A slot of the stand-in for the client, with such a job."""

    def __init__(self, slot: Slot, disk: Path, script: str, elements: str = "") -> None:
        self.slot = slot
        for name in ("worker", "job.xml"):
            (slot.slot / name).unlink()
        (slot.directory.project / "science.vdi").symlink_to(disk)
        slot.directory.link("vm_image.vdi", "science.vdi")
        job_file = VBOX_JOB.format(controller="sata").replace("</vbox_job>", f"{elements}</vbox_job>")
        slot.directory.add("vbox_job.xml", job_file)
        slot.directory.add("job.sh", script)
        self.shared = slot.slot / "shared"
        slot.names = {*os.listdir(slot.slot), "shared"}

    def until_there(self, name: str) -> None:
        self.slot.until((self.shared / name).exists, name)


GOING_ON = """
touch heartbeat
if [ -e state.2 ]; then
    printf '3\\n1\\nthe disk is full\\n' > shutdown
elif [ -e state.1 ]; then
    touch state.2
    printf '60\\n0\\nno licence\\n' > try_again
else
    echo 0.5 > fraction_done
    touch state.1
fi
sleep 1000
"""


def test_a_quit_a_temporary_exit_and_the_guests_own_code(make_slot: MakeSlot, disks: dict[str, Path]) -> None:
    slot = make_slot(hypervisor="qemu")
    job = VboxSlot(slot, disks["qcow2"], GOING_ON)
    slot.run()
    job.until_there("state.1")
    slot.until(lambda: slot.task.fraction_done == 0.5, "the progress")
    spent = slot.task.current_cpu_time
    slot.order("quit")
    assert slot.wait().end is End.LATER
    assert (slot.slot / "machine" / "work.qcow2").exists(), "the machine's disk goes on"
    assert slot.task.checkpoint_cpu_time == 0.0, "no checkpoint was told, for there was none"
    slot.run()
    assert slot.wait() == Conclusion(End.TEMPORARY_EXIT, delay_s=60, reason="no licence"), slot.stderr()
    assert (job.shared / "state.2").exists()
    slot.run()
    ended = slot.wait()
    assert (ended.end, ended.code) == (End.ERROR, 3) and "the disk is full" in slot.stderr()
    assert slot.task.current_cpu_time > spent
    slot.until_nobody()
    assert slot.left() == set()


def test_a_bridge_that_is_killed_takes_its_machine_along_and_goes_on(
    make_slot: MakeSlot, disks: dict[str, Path]
) -> None:
    slot = make_slot(hypervisor="qemu")
    job = VboxSlot(
        slot, disks["qcow2"], "touch heartbeat; [ ! -e state ] || echo 0 > shutdown; touch state; sleep 1000"
    )
    slot.run()
    job.until_there("state")
    os.kill(slot.pid, signal.SIGKILL)
    slot.wait()
    slot.until_nobody()
    slot.run()
    assert slot.wait().end is End.SUCCESS, slot.stderr()
    assert slot.left() == set()


def test_results_are_where_the_client_takes_them_from(make_slot: MakeSlot, disks: dict[str, Path]) -> None:
    script = "touch heartbeat; cp input shared.out; cp input linked.out; echo secret; echo 0 > shutdown; poweroff -f"
    slot = make_slot(hypervisor="qemu")
    job = VboxSlot(slot, disks["vdi"], script)
    linked = slot.directory.output("linked.out", "molecule_42_0_0")
    job.shared.mkdir()
    (job.shared / "input").write_text("from the client, by <copy_file/> and the name shared/input")
    slot.names |= {"linked.out"}
    slot.run()
    assert slot.wait() == Conclusion(End.SUCCESS, reason="finished"), slot.stderr()
    text = (job.shared / "input").read_text()
    assert linked.read_text() == text and (job.shared / "shared.out").read_text() == text
    assert slot.left() == set()


def test_a_job_ends_when_its_time_is_over(make_slot: MakeSlot, disks: dict[str, Path]) -> None:
    slot = make_slot(hypervisor="qemu")
    VboxSlot(slot, disks["vdi"], "touch heartbeat; sleep 1000", "<job_duration>3</job_duration>")
    slot.run()
    ended = slot.wait()
    assert ended.end is End.SUCCESS and "as long as it was to" in ended.reason, slot.stderr()


def test_what_is_refused_is_refused_before_anything_starts(make_slot: MakeSlot, disks: dict[str, Path]) -> None:
    slot = make_slot(hypervisor="qemu")
    VboxSlot(slot, disks["vdi"], "true", "<enable_floppyio/>")
    slot.run()
    ended = slot.wait()
    assert (ended.end, ended.code) == (End.ERROR, 206) and "<enable_floppyio>" in slot.stderr()
    assert slot.left() == set() and not (slot.slot / "shared").exists()


# Hardware


@pytest.mark.parametrize("card", NETWORK_CARDS)
def test_a_machine_with_each_network_card(tmp_path: Path, disks: dict[str, Path], card: str) -> None:
    share = Share.one_folder(tmp_path / "shared")
    share.guest.mkdir()
    (tmp_path / "machine").mkdir()
    hardware = Hardware("scsi", card, (("shared", share.guest),))
    image = load_disk(disks["qcow2"])
    spec = MachineSpec("cards", tmp_path / "machine", share, image, 128, 1, network=True, hardware=hardware)

    async def go() -> None:
        qemu = Qemu(spec)
        try:
            await qemu.start()
            await qemu.connect(False)
            await qemu.connect(True)
            assert qemu.examine().state is MachineState.RUNNING
            await qemu.stop()
            first = (tmp_path / "machine" / "work.qcow2").stat().st_ino
            again = Qemu(spec)
            await again.start()
            assert (tmp_path / "machine" / "work.qcow2").stat().st_ino == first, "it goes on with its disk"
            await again.remove()
        finally:
            await qemu.remove()

    asyncio.run(go())
    assert os.listdir(tmp_path / "machine") == []


# Disks


def qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


def test_every_format_of_qemus_own_is_recognised(disks: dict[str, Path]) -> None:
    for kind, file in disks.items():
        disk = load_disk(file)
        assert disk.work_disk_format == kind
        asyncio.run(refuse_dependent(disk))


def test_disks_that_would_show_the_guest_other_files(tmp_path: Path, disks: dict[str, Path]) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret".ljust(65536, b"\0"))
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", secret, tmp_path / "over.qcow2")
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'},data_file_raw=on", tmp_path / "out", "1M")
    qemu_img("create", "-f", "vmdk", "-F", "vmdk", "-b", disks["vmdk"], tmp_path / "over.vmdk")
    qemu_img("convert", "-O", "vmdk", "-o", "subformat=monolithicFlat", disks["raw"], tmp_path / "flat.vmdk")
    for name in ("over.qcow2", "out", "flat.vmdk"):
        with pytest.raises(ImageError, match="needs other files"):
            load_disk(tmp_path / name)
    with pytest.raises(ImageError, match=r"needs another file, .*vm_image\.vmdk"):
        asyncio.run(refuse_dependent(load_disk(tmp_path / "over.vmdk")))


def test_a_disk_that_is_broken_is_told(tmp_path: Path, disks: dict[str, Path]) -> None:
    shutil.copy(disks["qcow2"], tmp_path / "disk")
    with (tmp_path / "disk").open("r+b") as file:
        file.seek(20)
        file.write(b"\xff" * 4)
    with pytest.raises(ImageError, match="no disk that QEMU can read"):
        asyncio.run(refuse_dependent(load_disk(tmp_path / "disk")))


def test_an_abort_leaves_no_machine(make_slot: MakeSlot, disks: dict[str, Path]) -> None:
    slot = make_slot(hypervisor="qemu")
    job = VboxSlot(slot, disks["vdi"], "touch heartbeat state; sleep 1000")
    slot.run()
    job.until_there("state")
    slot.order("abort")
    assert slot.wait().end is End.ABORTED
    slot.until_nobody()
    until(lambda: slot.left() == set(), lambda: str(slot.left()))
