"""vbox_job.xml: what is served, what is refused by name, and what is ignored with a word to a linter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import JobFileError
from bridge.for_client import _adapted
from bridge.job import Job, MachineTask, PlainGuest, read_job
from bridge.job.findings import Kind
from bridge.job.schema import examine_job, parse_job
from bridge.job.vbox import VBOX_JOB
from bridge.options import OptionError, parse_options

FILE = Path("/slot/vbox_job.xml")
SAMPLE = Path(__file__).parent.parent / "jobs" / "vbox_job.xml"
SHARED = "<enable_shared_directory/><completion_trigger_file>shutdown</completion_trigger_file>"


def vbox(inner: str = "", shared: str = SHARED) -> str:
    return f"<vbox_job>{shared}\n{inner}</vbox_job>"


def task_of(text: str) -> MachineTask:
    [task] = parse_job(FILE, text).machine_tasks
    return task


def guest_of(inner: str) -> PlainGuest:
    guest = task_of(vbox(inner)).plain
    assert guest is not None
    return guest


def found(text: str) -> list[str]:
    return [f"{one.kind.value} <{one.element}> {one.sentence}" for one in examine_job(FILE, text).findings]


def test_a_job_with_everything() -> None:
    job = parse_job(FILE, SAMPLE.read_text())
    [task] = job.machine_tasks
    assert (task.memory_mb, task.network, task.image) == (256, True, Path("/slot/vm_image.vdi")) and job.graphics
    assert task.plain == PlainGuest(
        fraction_done_filename="fraction_done",
        heartbeat_filename="heartbeat",
        minimum_heartbeat_interval=600.0,
        completion_trigger_file="shutdown",
        temporary_exit_trigger_file="try_again",
        job_duration=86400.0,
        trickle_trigger_files=("news",),
        intermediate_upload_files=("early.dat",),
        copy_to_shared=("job.sh", "init_data.xml"),
        copy_cmdline_to_shared=True,
        multiattach_vdi_file="science_2026_11.vdi",
        scratch=True,
        disk_controller="ide",
        network_card="e1000",
    )


REFUSED = {
    "network_bridged_mode": "volunteer's own network",
    "share_slot_dir": "read the authenticator",
    "share_project_dir": "other jobs rely on",
    "enable_floppyio": "as good as a password",
    "enable_cern_dataformat": "as good as a password",
    "enable_cache_disk": "boots from a disk",
    "enable_isocontextualization": "boots from a disk",
    "boot_iso": "boots from a disk",
    "enable_remotedesktop": "without a password",
    "pf_guest_port": "no way in",
    "pf_host_port": "no way in",
    "port_forward": "no way in",
}


@pytest.mark.parametrize(("name", "why"), REFUSED.items())
def test_what_is_refused_is_named(name: str, why: str) -> None:
    inside = "<host_port>80</host_port><guest_port>80</guest_port>" if name == "port_forward" else "8080"
    with pytest.raises(JobFileError) as caught:
        parse_job(FILE, vbox(f"<{name}>{inside}</{name}>"))
    assert f"line 2: <{name}>" in str(caught.value) and why in str(caught.value)


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "port_forward"])
def test_what_is_not_asked_for_is_not_refused(name: str) -> None:
    assert found(vbox(f"<{name}>0</{name}>")) == []


def test_every_element_is_in_the_sample_or_refused() -> None:
    in_sample = {row.name for row in VBOX_JOB.rows if f"<{row.name}" in SAMPLE.read_text()}
    assert in_sample | REFUSED.keys() == {row.name for row in VBOX_JOB.rows}


def test_what_means_something_only_to_virtualbox_is_told_to_a_linter() -> None:
    told = examine_job(FILE, SAMPLE.read_text()).findings
    assert {one.kind for one in told} == {Kind.IGNORED}
    assert {one.element for one in told} == {
        *("os_name", "vm_disk_controller_model", "vram_size_mb", "minimum_checkpoint_interval"),
        *("enable_nat_dns_host_resolver", "enable_screenshots_on_error", "enable_vm_savestate_usage"),
    }


def test_without_a_word_it_is_vboxwrappers_default() -> None:
    task = task_of(vbox())
    assert task.plain == PlainGuest(completion_trigger_file="shutdown")
    assert (task.memory_mb, task.network, task.cpus, task.hypervisor) == (512, False, None, None)


@pytest.mark.parametrize(
    ("written", "controller"),
    [("IDE", "ide"), ("sata", "sata"), ("SCSI", "scsi"), ("SAS", "sas"), ("virtio", "virtio"), ("", "sata")],
)
def test_controllers(written: str, controller: str) -> None:
    assert guest_of(f"<vm_disk_controller_type>{written}</vm_disk_controller_type>").disk_controller == controller


def test_a_controller_that_is_not_there_is_refused() -> None:
    assert found(vbox("<vm_disk_controller_type>floppy</vm_disk_controller_type>")) == [
        "error <vm_disk_controller_type> 'floppy' is no disk controller that a machine has here. "
        "Write one of: ide, sata, scsi, sas, virtio"
    ]


@pytest.mark.parametrize(
    ("written", "card"), [("virtio", "virtio"), ("Am79C973", "pcnet"), ("82545EM", "e1000"), ("none", "e1000")]
)
def test_network_cards(written: str, card: str) -> None:
    assert guest_of(f"<vm_network_driver>{written}</vm_network_driver>").network_card == card


@pytest.mark.parametrize("name", ["init_data.xml", "vbox_job.xml", "boinc_finish_called", "shared", "../../x", "/x"])
def test_an_upload_never_has_a_name_that_is_the_clients_or_ours(name: str) -> None:
    """The guest would write the file of that name in the slot."""
    with pytest.raises(JobFileError, match="intermediate_upload_file"):
        parse_job(FILE, vbox(f"<intermediate_upload_file>{name}</intermediate_upload_file>"))


@pytest.mark.parametrize("name", ["copy_to_shared", "completion_trigger_file", "trickle_trigger_file"])
def test_a_name_never_leads_out_of_the_share(name: str) -> None:
    with pytest.raises(JobFileError, match=name):
        parse_job(FILE, vbox(f"<{name}>../init_data.xml</{name}>"))


def test_numbers_that_are_none_are_ignored_as_vboxwrapper_does() -> None:
    task = task_of(vbox("<memory_size_mb>much</memory_size_mb><job_duration>-1</job_duration>"))
    assert task.memory_mb == 512 and task.plain is not None and task.plain.job_duration is None
    assert task_of(vbox("<memory_size_mb>1024.0</memory_size_mb>")).memory_mb == 1024


def test_a_job_that_cannot_end_is_told() -> None:
    assert "dangerous <vbox_job> has neither a <completion_trigger_file>" in found(vbox(shared=""))[-1]
    assert found("<vbox_job><job_duration>60</job_duration></vbox_job>") == []


def test_what_needs_the_share_is_told() -> None:
    told = found("<vbox_job><job_duration>60</job_duration><copy_to_shared>a</copy_to_shared></vbox_job>")
    assert told == ["ignored <copy_to_shared> counts for nothing without <enable_shared_directory/>"]


def test_it_is_read_where_there_is_no_job_xml(tmp_path: Path) -> None:
    (tmp_path / "vbox_job.xml").write_text(vbox())
    assert read_job(tmp_path).machine_tasks[0].plain is not None
    (tmp_path / "job.xml").write_text("<job_desc><task><application>app</application></task></job_desc>")
    assert read_job(tmp_path).machine_tasks == ()


def test_it_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.xml").write_text(vbox())
    job = read_job(tmp_path, lambda path: tmp_path / "real.xml" if path.name == "vbox_job.xml" else path)
    assert job.file == tmp_path / "vbox_job.xml"


def adapted(line: str, text: str = vbox()) -> MachineTask:  # a text
    job: Job = parse_job(FILE, text)
    [task] = _adapted(job, None, parse_options(line.split())).machine_tasks
    return task


def test_vboxwrappers_options() -> None:
    task = adapted("--nthreads 3.5 --memory_size_mb 2048 --vmimage 7 --trickle 600")
    assert (task.cpus, task.memory_mb, task.image) == (4, 2048, Path("/slot/vm_image_7.vdi"))
    assert task.arguments == ("--nthreads", "3.5", "--memory_size_mb", "2048", "--vmimage", "7", "--trickle", "600")
    with pytest.raises(OptionError, match=r"--vmimage is not served with a job\.xml"):
        adapted(
            "--vmimage 7",
            "<job_desc><task><virtualmachine>vm</virtualmachine><application>a</application></task></job_desc>",
        )
    for refused in ("--register_only", "--sporadic"):
        with pytest.raises(OptionError, match=refused):
            parse_options([refused])


def test_a_guest_is_told_apart_by_what_it_needs() -> None:
    guest = guest_of("<heartbeat_filename>beat</heartbeat_filename>")
    assert replace(guest, heartbeat_filename=None) == guest_of("")
