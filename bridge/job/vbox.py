"""All elements of `<vbox_job>`, BOINC's vboxwrapper's, as a table, and how a `Job` is read by it. Pure.

What a machine of ours cannot have, or should not, is refused by name before anything starts. What means something only
to VirtualBox is ignored, and a linter says so.
"""

from __future__ import annotations

from pathlib import Path

from ..hypervisors import DISK_CONTROLLERS
from .findings import Finding, Kind, first_error
from .model import Job, MachineTask, PlainGuest
from .names import VBOX_JOB_FILE, is_taken
from .table import Remark, Row, Table, Values, Whose, read
from .tags import Element
from .values import LINE, OLD_FLAG, OLD_LIMIT, OLD_MEMORY, OLD_NUMBER, PLAIN_NAME, Said, Value, result

VM_IMAGE = "vm_image.vdi"
"""The image's name in the slot, whatever kind of disk it is; `--vmimage N` has another."""

LEAST_MEMORY_MB = 512
"""vboxwrapper's, for a job that does not say."""

_CARDS = {
    "am79c970a": "pcnet",
    "am79c973": "pcnet",
    "82540em": "e1000",
    "82543gc": "e1000",
    "82545em": "e1000",
    "virtio": "virtio",
}
"""VirtualBox's network cards, and the nearest that there is."""


def _controller(text: str | None) -> str:
    if not text:
        return "sata"
    if text.lower() not in DISK_CONTROLLERS:
        raise Said(f"{text!r:.80} is no disk controller that a machine has here. Write one of: {_OR}")
    return text.lower()


_OR = ", ".join(DISK_CONTROLLERS)
_CONTROLLER = Value(" or ".join(f"`{word}`" for word in DISK_CONTROLLERS), _controller)

_OUTPUT = result(PLAIN_NAME, lambda name: name == VBOX_JOB_FILE or is_taken(name))


def _ignored(sentence: str) -> Remark:
    """Return a remark about whatever is asked for."""
    return lambda value: (Kind.IGNORED, sentence) if value else None


def _card(text: str) -> tuple[Kind, str] | None:
    if text.lower() in _CARDS:
        return None
    return Kind.IGNORED, f"{text!r:.80} is no network card that is known here; the machine gets an e1000"


def _row(name: str, value: Value | Table, meaning: str, default: object = None, **more: object) -> Row:
    return Row(name, value, meaning, Whose.VBOXWRAPPER, default, **more)  # type: ignore[arg-type]  # a Row's own


def _flag(name: str, meaning: str, **more: object) -> Row:
    return _row(name, OLD_FLAG, meaning, False, **more)


def _of_virtualbox(name: str, value: Value, meaning: str, sentence: str) -> Row:
    return _row(name, value, meaning, False if value is OLD_FLAG else None, remark=_ignored(f"{sentence}; ignored"))


_NO_WAY_IN = (
    "opens a port into the machine, and there is no way in: nobody on the host or the network may call it. Let the "
    "guest write what is to be seen into `shared`, and leave it out"
)
_NO_ACCOUNT = (
    "hands the volunteer's name and the authenticator, which is as good as a password, to the guest on a floppy disk. "
    "What a guest may know of its work it gets by <copy_to_shared>init_data.xml</copy_to_shared>"
)
_NO_SLOT = (
    "lets the guest write where the client reads its orders, and read the authenticator. Use "
    "<enable_shared_directory/>, and <copy_to_shared> for inputs"
)
_NO_OTHER_DISK = "boots from a disk that machines here do not have. Make one image of it that boots by itself"

_PORT_FORWARD = Table(
    "A port of the machine for others to call.",
    (
        _flag("is_remote", "Not only the computer itself may."),
        _row("host_port", OLD_NUMBER, "The computer's port."),
        _row("guest_port", OLD_NUMBER, "The machine's port."),
        _row("nports", OLD_NUMBER, "How many."),
    ),
)

VBOX_JOB = Table(
    "The whole file `vbox_job.xml`, which is read where there is no `job.xml`. The job is one machine, which boots "
    f"`{VM_IMAGE}` by itself: a disk of any kind (VDI, VMDK, qcow2, raw), in one file. The guest mounts the folder "
    "`shared` by this tag (9p) and writes plain files into it, whose names are given here. "
    "[admins.md](admins.md#from-vboxwrapper) says what is different from vboxwrapper.",
    (
        _of_virtualbox("os_name", LINE, "VirtualBox's name for the guest's system.", "no machine here needs to know"),
        _row("vm_disk_controller_type", _CONTROLLER, "What the disk is behind.", default="sata"),
        _of_virtualbox("vm_disk_controller_model", LINE, "Its make.", "the type decides"),
        _row(
            "vm_network_driver",
            LINE,
            "The network card: virtio, an e1000 (`82540EM` and the like) or a PCnet (`Am79C973` and the like).",
            default_said="an e1000",
            remark=_card,
        ),
        _of_virtualbox("vram_size_mb", OLD_MEMORY, "The screen's memory.", "nobody sees the screen"),
        _row(
            "memory_size_mb",
            OLD_MEMORY,
            "The machine's memory; `--memory_size_mb` has the last word.",
            default_said=str(LEAST_MEMORY_MB),
        ),
        _row("job_duration", OLD_LIMIT, "Seconds of run time, over all starts, after which the job is done."),
        _of_virtualbox(
            "minimum_checkpoint_interval",
            OLD_LIMIT,
            "Seconds between two snapshots.",
            "a machine whose share is mounted cannot be saved, so there are none",
        ),
        _row(
            "minimum_heartbeat_interval",
            OLD_LIMIT,
            "How seldom the heartbeat may change, in seconds that the machine really gets.",
            default_said="600",
        ),
        _row("fraction_done_filename", PLAIN_NAME, "The file whose last number says how far the job is."),
        _row("heartbeat_filename", PLAIN_NAME, "The file whose change, of any kind, is a sign of life."),
        _row("completion_trigger_file", PLAIN_NAME, "The file with which the guest says that it is done."),
        _row("temporary_exit_trigger_file", PLAIN_NAME, "The file with which it asks to be started again later."),
        _row(
            "multiattach_vdi_file",
            PLAIN_NAME,
            "The image, by its name in the project's folder. It is never copied, whatever it is called.",
        ),
        _flag("enable_network", "The machine reaches the internet, and nothing near."),
        _flag(
            "network_bridged_mode",
            "The machine is in the volunteer's network.",
            refused="puts the guest into the volunteer's own network, whose owner has not invited it. Leave it out: "
            "<enable_network/> reaches the internet",
        ),
        _of_virtualbox("enable_nat_dns_host_resolver", OLD_FLAG, "The host looks up names.", "it always does"),
        _flag("enable_shared_directory", "The guest can mount `shared`."),
        _row(
            "copy_to_shared",
            PLAIN_NAME,
            "A file of the job that is copied there, unless it is there. `init_data.xml` is made for the guest: it "
            "says what the work is, and of the volunteer nothing.",
            repeats=True,
        ),
        _flag("copy_cmdline_to_shared", "The file `cmdline` there has the arguments of the bridge."),
        _flag("share_slot_dir", "The slot is shared.", refused=_NO_SLOT),
        _flag(
            "enable_scratch_directory", "The guest can mount `scratch`, a folder of the project that outlives the job."
        ),
        _flag(
            "share_project_dir",
            "The project's folder is shared.",
            refused="lets the guest change files that other jobs rely on. Use <copy_to_shared> for inputs, and "
            "<enable_scratch_directory/> for what is to stay",
        ),
        _flag("enable_floppyio", "Account data on a floppy disk.", refused=_NO_ACCOUNT),
        _flag("enable_cern_dataformat", "Their form.", refused=_NO_ACCOUNT),
        _flag("enable_cache_disk", "A second disk.", refused=_NO_OTHER_DISK),
        _flag("enable_isocontextualization", "A CD.", refused=_NO_OTHER_DISK),
        _flag("boot_iso", "A CD.", refused=_NO_OTHER_DISK),
        _flag(
            "enable_remotedesktop",
            "A screen for others to see.",
            refused="opens the machine's screen and keyboard to whoever calls, without a password. Leave it out",
        ),
        _flag("enable_graphics_support", "A file tells a screensaver how far the job is."),
        _of_virtualbox(
            "enable_screenshots_on_error",
            OLD_FLAG,
            "A picture of the screen.",
            "the end of the console is told instead",
        ),
        _of_virtualbox(
            "enable_vm_savestate_usage",
            OLD_FLAG,
            "The machine is saved at a quit.",
            "a machine whose share is mounted cannot be saved; its disk and its share stay",
        ),
        _flag("disable_automatic_checkpoints", "No snapshots are taken, as here always."),
        _row("pf_guest_port", OLD_NUMBER, "A port of the machine.", 0, refused=_NO_WAY_IN),
        _row("pf_host_port", OLD_NUMBER, "The computer's for it.", 0, refused=_NO_WAY_IN),
        _row("port_forward", _PORT_FORWARD, "Another one.", repeats=True),
        _row("trickle_trigger_file", PLAIN_NAME, "A file there that becomes a trickle, and goes.", repeats=True),
        _row(
            "intermediate_upload_file",
            _OUTPUT,
            "A file there that is uploaded once it is whole: an output of the job, by its name in the slot.",
            repeats=True,
        ),
    ),
)


def vbox_job(file: Path, root: Element, findings: list[Finding]) -> Job | None:
    """Return the job in the element `root`; None if there is an error in it. `findings` grows."""
    values = read(VBOX_JOB, root, findings)
    for holder in root.children:
        if holder.name == "port_forward":
            findings.append(Finding(holder.line, holder.name, _NO_WAY_IN))
    if values is None or first_error(findings):
        return None
    _remark(values, findings)
    guest = PlainGuest(
        fraction_done_filename=values["fraction_done_filename"] or None,
        heartbeat_filename=values["heartbeat_filename"] or None,
        minimum_heartbeat_interval=values["minimum_heartbeat_interval"] or 600.0,
        completion_trigger_file=values["completion_trigger_file"] or None,
        temporary_exit_trigger_file=values["temporary_exit_trigger_file"] or None,
        job_duration=values["job_duration"],
        trickle_trigger_files=_once(values["trickle_trigger_file"]),
        intermediate_upload_files=_once(values["intermediate_upload_file"]),
        copy_to_shared=_once(values["copy_to_shared"]),
        copy_cmdline_to_shared=values["copy_cmdline_to_shared"],
        multiattach_vdi_file=values["multiattach_vdi_file"] or None,
        shared=values["enable_shared_directory"],
        scratch=values["enable_scratch_directory"],
        disk_controller=values["vm_disk_controller_type"],
        network_card=_CARDS.get((values["vm_network_driver"] or "").lower(), "e1000"),
    )
    task = MachineTask(
        file=file,
        machine="vbox_job",
        image=file.parent / VM_IMAGE,
        application="",
        memory_mb=values["memory_size_mb"] or LEAST_MEMORY_MB,
        network=values["enable_network"],
        plain=guest,
    )
    return Job(file, (task,), graphics=values["enable_graphics_support"])


def _remark(values: Values, findings: list[Finding]) -> None:
    """Say what the elements do not say one by one."""
    if not values["enable_shared_directory"]:
        for name in ("copy_to_shared", "copy_cmdline_to_shared", "completion_trigger_file", "heartbeat_filename"):
            if values[name]:
                sentence = "counts for nothing without <enable_shared_directory/>"
                findings.append(Finding(values.given[name].line, name, sentence, Kind.IGNORED))
    if not (values["completion_trigger_file"] or values["job_duration"]):
        sentence = "has neither a <completion_trigger_file> nor a <job_duration>, so the job never ends well"
        findings.append(Finding(values.element.line, values.element.name, sentence, Kind.DANGEROUS))


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
