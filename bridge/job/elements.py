"""All elements of `<job_desc>`: those of BOINC's wrapper, of CERN's VMwrapper of 2009, and ours, as tables.

docs/jobfile.md is written from them (`make reference`). A task that names a machine is read by one table, one that
does not by another.
"""

from __future__ import annotations

import re
from dataclasses import replace

from protocol.codec import is_name

from ..hypervisors import MACHINES, is_third_party
from .findings import Kind
from .model import PACKAGES, SYSTEM_PACKAGES
from .names import is_taken
from .table import Row, Table, Whose
from .values import (
    ARGUMENTS,
    FLAG,
    FOLDER,
    INPUT_NAME,
    LINE,
    OLD_FLAG,
    OLD_LIMIT,
    OLD_NUMBER,
    OLD_WEIGHT,
    PATTERN,
    PLAIN_NAME,
    SECONDS,
    SETTING,
    SLOT_FILE,
    TEXT,
    Said,
    Value,
    choice,
    result,
    whole,
)
from .vbox import VBOX_JOB

PRIORITIES = range(1, 6)
NORMAL_PRIORITY = 3

_OUTPUT = result(PLAIN_NAME, is_taken)
_HOST_OUTPUT = result(SLOT_FILE, lambda name: is_taken(name) or name.startswith(".vmbridge"))


def _host_stream(text: str | None) -> str:
    return "/dev/null" if text == "/dev/null" else str(_HOST_OUTPUT.check(text))


_HOST_STREAM = Value("a file in the job directory, or `/dev/null`", _host_stream)


def _copied(text: str | None) -> bool | None:
    if not text:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text, re.ASCII):
        raise Said(f"{text!r:.80} is neither 1 nor 0")
    return int(text) != 0


_COPIED = Value("1 or 0", _copied)


def _program(text: str | None) -> str:
    if text and text.startswith("/") and is_name(text.rpartition("/")[2]) and LINE.check(text):
        return text
    return str(INPUT_NAME.check(text))


_PROGRAM = Value("a plain file name, or an absolute path in the machine", _program)


def _package(text: str | None) -> str:
    if text and not text.endswith((*PACKAGES, *SYSTEM_PACKAGES)):
        raise Said(f"{text!r:.80} is no package. Its name would end with {', '.join((*PACKAGES, *SYSTEM_PACKAGES))}")
    return str(PLAIN_NAME.check(text))


_PACKAGE = Value("a plain file name that ends as one of a tar, a deb or an rpm", _package)


def _no_hypervisor(text: str) -> str:
    if text in ("local", "plain"):
        return f"{text!r} runs without a machine and is chosen on the command line only: --hypervisor {text}"
    return f"{text!r:.80} is not known here. Choose one of: {', '.join(MACHINES)}"


def _no_cpu_time(text: str) -> str:
    return (
        f"{text!r:.80} is neither 'host', the CPU time that the machine takes, nor 'guest', that of the program in it"
    )


def _foreign_program(name: str) -> tuple[Kind, str] | None:
    if name.startswith("/") or re.match(r"[A-Za-z]:|\\", name):
        return Kind.DANGEROUS, f"{name!r:.80} is a program of the volunteer's computer, not of the job. Send one along"
    return None


def _no_setting(text: str) -> tuple[Kind, str] | None:
    return None if "=" in text else (Kind.IGNORED, f"{text!r:.80} is not NAME=VALUE and sets nothing")


def _no_priority(number: int) -> tuple[Kind, str] | None:
    return None if number in PRIORITIES else (Kind.IGNORED, f"{number} is none from 1 to 5 and counts as 3, normal")


# What a task of either kind has.

_APPLICATION = Row(
    "application",
    TEXT,
    "The program: a file of the job, by its name in the slot, or one under `$PROJECT_DIR`.",
    Whose.WRAPPER,
    required="Name the program",
    remark=_foreign_program,
)
_COMMAND_LINE = Row("command_line", TEXT, "Its arguments.", Whose.WRAPPER, default="")
_SETENV = Row(
    "setenv",
    TEXT,
    "A variable of its environment. If there is one, the program gets these only.",
    Whose.WRAPPER,
    repeats=True,
    remark=_no_setting,
)
_WEIGHT = Row("weight", OLD_WEIGHT, "The task's share of the whole job's `fraction_done`.", Whose.WRAPPER, default=1.0)
_STDIN = Row("stdin_filename", TEXT, "The file that is its standard input.", Whose.WRAPPER)
_STDOUT = Row("stdout_filename", _HOST_STREAM, "The file that its standard output is appended to.", Whose.WRAPPER)
_STDERR = Row("stderr_filename", _HOST_STREAM, "The file that its standard error is appended to.", Whose.WRAPPER)
_APPEND = Row(
    "append_cmdline_args",
    OLD_FLAG,
    "The arguments of the bridge behind `--passthrough_child` are added to its own.",
    Whose.WRAPPER,
    default=False,
)

# A task on the host.

_EXEC_DIR = Row("exec_dir", TEXT, "The folder that it is started in; the slot if absent.", Whose.WRAPPER)
_CHECKPOINT = Row(
    "checkpoint_filename",
    TEXT,
    "A file whose change says that the program has saved its state.",
    Whose.WRAPPER,
)
_FRACTION = Row(
    "fraction_done_filename",
    _HOST_OUTPUT,
    "A file whose last number, from 0 to 1, is how far the program is; deleted before it starts.",
    Whose.WRAPPER,
)
_DAEMON = Row(
    "daemon",
    OLD_FLAG,
    "It is started before all tasks, not waited for, and ended with the last one.",
    Whose.WRAPPER,
    default=False,
)
_MULTI_PROCESS = Row(
    "multi_process",
    OLD_FLAG,
    "All that descends from it is suspended and resumed, not it alone.",
    Whose.WRAPPER,
    default=False,
)
_FORWARD_SLASHES = Row(
    "forward_slashes", OLD_FLAG, "On Windows, resolved paths are written with `/`.", Whose.WRAPPER, default=False
)
_TIME_LIMIT = Row(
    "time_limit",
    OLD_LIMIT,
    "Seconds of run time after which it is ended, and has succeeded; 0 for none.",
    Whose.WRAPPER,
    default_said="none",
)
_PRIORITY = Row(
    "priority",
    OLD_NUMBER,
    "1 is the lowest, 3 normal, 5 the highest; another number counts as 3.",
    Whose.WRAPPER,
    default=1,
    remark=_no_priority,
)

# A task in a machine.

_VIRTUALMACHINE = Row(
    "virtualmachine",
    LINE,
    "A name for the machine. Without one, it is a task on the host.",
    Whose.VMWRAPPER,
)
_MACHINE_ROWS = (
    Row(
        "image",
        FOLDER,
        "The image's folder, from the job's folder or absolute. Of several, the first is taken that is there and that "
        "the hypervisor can boot; none is converted.",
        Whose.VMWRAPPER,
        default_said="`image`",
        repeats=True,
    ),
    replace(
        _APPLICATION,
        value=_PROGRAM,
        meaning="The program: a file of the job, which is copied into the machine, or one that is there.",
        remark=None,
    ),
    Row(
        "copy_app_to_VM",
        _COPIED,
        "1: the program is copied into the machine. 0: it is there, in the image or by a `<package>`, and "
        "`<application>` is its absolute path or a name that is looked for in `PATH`.",
        Whose.VMWRAPPER,
        default=True,
    ),
    Row(
        "copy_file_to_VM",
        INPUT_NAME,
        "A file that is copied into the program's working directory before it starts.",
        Whose.VMWRAPPER,
        repeats=True,
    ),
    Row(
        "copy_file_from_VM",
        _OUTPUT,
        "A file that is brought from the program's working directory when it has ended.",
        Whose.VMWRAPPER,
        repeats=True,
    ),
    Row(
        "package",
        _PACKAGE,
        "A tar, deb or rpm that is installed in the machine before the program starts, and removed when it has ended.",
        Whose.OURS,
        repeats=True,
    ),
    Row(
        "stdin_filename",
        INPUT_NAME,
        "The file that is its standard input; it goes into the machine by itself.",
        Whose.WRAPPER,
    ),
    Row("stdout_filename", _OUTPUT, "The file for its standard output; it is brought by itself.", Whose.WRAPPER),
    Row("stderr_filename", _OUTPUT, "The file for its standard error; it is brought by itself.", Whose.WRAPPER),
    replace(_COMMAND_LINE, value=ARGUMENTS, default=()),
    replace(_SETENV, value=SETTING, meaning="A variable of its environment, NAME=VALUE.", remark=None),
    _WEIGHT,
    Row(
        "checkpoint_filename",
        PLAIN_NAME,
        "A file in which the program saves its state, carried out of the machine at each checkpoint.",
        Whose.WRAPPER,
        repeats=True,
    ),
    _APPEND,
    Row(
        "memory_size_mb",
        whole(64, 1_048_576, "MB"),
        "The machine's memory.",
        Whose.OURS,
        default=256,
    ),
    Row(
        "ncpus",
        whole(1, 256, "CPUs"),
        "The machine's processors.",
        Whose.OURS,
        default_said="what the client gives the job, else 1",
    ),
    Row(
        "enable_network",
        FLAG,
        "The machine gets a network card that reaches the internet, and nothing near.",
        Whose.OURS,
        default=False,
    ),
    Row(
        "hypervisor",
        choice(MACHINES, _no_hypervisor, also=is_third_party),
        "What runs the machine.",
        Whose.OURS,
        default_said="what is found",
    ),
    Row(
        "checkpoint_period",
        SECONDS,
        "Seconds between two checkpoints.",
        Whose.OURS,
        default_said="what the client wants, else 300",
    ),
    Row(
        "cpu_time",
        choice(("host", "guest"), _no_cpu_time),
        "Whose CPU time the client is told: that of the machine, or of the program in it.",
        Whose.OURS,
        default="host",
    ),
)
_NOT_IN_MACHINE = tuple(
    replace(row, refused="is not supported by this version of the bridge for a task in a machine. Leave it out")
    for row in (_EXEC_DIR, _FRACTION, _DAEMON, _TIME_LIMIT)
)
_OLD_LEFTOVERS = (
    Row(
        "copy_stdin_to_VM",
        TEXT,
        "Nothing: VMwrapper never read it.",
        Whose.VMWRAPPER,
        deprecated="has no meaning: the file of <stdin_filename> always goes into the machine. Leave it out",
    ),
    Row(
        "app_pathVM",
        TEXT,
        "Nothing: VMwrapper never read it.",
        Whose.VMWRAPPER,
        deprecated="has no meaning: the program lies in its working directory. Leave it out",
    ),
)
_OF_TASK = (Kind.IGNORED, "means something only in a <task> and is ignored")
_OF_HOST = (Kind.IGNORED, "means something only for a task on the host and is ignored")
_OF_MACHINE = (
    Kind.DANGEROUS,
    "is ignored: nothing in this task names a <virtualmachine>, so it runs on the volunteer's computer itself",
)

MACHINE_TASK = Table(
    "A task that names a `<virtualmachine>` runs in the job's machine. All such tasks share it: what describes the "
    "machine (`<virtualmachine>`, `<image>`, `<memory_size_mb>`, `<ncpus>`, `<enable_network>`, `<hypervisor>`) must "
    "be the same in all, and all but `<virtualmachine>` may be said once. Files are plain names in the job's folder; a "
    "`./` before them counts for nothing. For outputs, `shared`, `machine`, `job.xml`, `init_data.xml`, "
    "`wrapper_checkpoint.txt`, `initial_file_list` and the client's own names (`boinc_finish_called`, "
    "`boinc_lockfile`, `boinc_mmap_file`, `boinc_setup_complete`, `boinc_task_state.xml`, `boinc_temporary_exit`, what "
    "begins with `boinc_ufr_` or `boinc_ufs_`) are taken, and no name begins with a point.",
    (_VIRTUALMACHINE, *_MACHINE_ROWS, *_NOT_IN_MACHINE, *_OLD_LEFTOVERS),
    {row.name: _OF_HOST for row in (_MULTI_PROCESS, _FORWARD_SLASHES, _PRIORITY)},
)

_HOST_ROWS = (
    _APPLICATION,
    _COMMAND_LINE,
    _EXEC_DIR,
    _SETENV,
    _STDIN,
    _STDOUT,
    _STDERR,
    _CHECKPOINT,
    _FRACTION,
    _WEIGHT,
    _DAEMON,
    _MULTI_PROCESS,
    _APPEND,
    _FORWARD_SLASHES,
    _TIME_LIMIT,
    _PRIORITY,
)

HOST_TASK = Table(
    "A task without a `<virtualmachine>` runs on the volunteer's computer itself. In `<command_line>`, `<exec_dir>` "
    "and `<setenv>`, `$PROJECT_DIR`, `$NTHREADS`, `$GPU_DEVICE_NUM` and `$PWD` are replaced, and in `<command_line>` "
    "`boinc_resolve(NAME)`. There a word `./NAME` is resolved, too, if NAME is a link of the slot.",
    (_VIRTUALMACHINE, *_HOST_ROWS),
    {
        row.name: _OF_MACHINE
        for row in (*_MACHINE_ROWS, *_OLD_LEFTOVERS)
        if row.name not in {r.name for r in _HOST_ROWS}
    },
)

_HELPER = replace(
    HOST_TASK,
    about="",
    elsewhere=dict.fromkeys((*HOST_TASK.elsewhere, "virtualmachine", "daemon"), _OF_TASK),
    rows=tuple(row for row in _HOST_ROWS if row is not _DAEMON),
)

_TASK = Table(
    "",
    tuple({row.name: row for row in (*MACHINE_TASK.rows, *HOST_TASK.rows)}.values()),
)
"""Both kinds: what a reader of tags has to know before it is clear which one it is."""

UNZIP_INPUT = Table(
    "Archives that are unpacked into the slot before anything runs, once.",
    (Row("zipfilename", SLOT_FILE, "An archive of the job, by its name in the slot.", Whose.WRAPPER, repeats=True),),
)

ZIP_OUTPUT = Table(
    "What is packed when all tasks are done.",
    (
        Row("zipfilename", _HOST_OUTPUT, "The archive that is made; without it nothing is.", Whose.WRAPPER),
        Row(
            "filename",
            PATTERN,
            "All files that are new in the slot, and in whose names this is found, are packed.",
            Whose.WRAPPER,
            repeats=True,
        ),
    ),
)

JOB_DESC = Table(
    "The whole file.",
    (
        Row("task", _TASK, "What is run, one after the other.", Whose.WRAPPER, repeats=True),
        Row(
            "unzip_task",
            _HELPER,
            "A program of the host that is run before all tasks, once; it has what a task on the host has.",
            Whose.VMWRAPPER,
            repeats=True,
            deprecated="is a program run only to unpack a file. Write <unzip_input>, which needs none, for a .zip",
        ),
        Row(
            "VMmanage_task",
            _HELPER,
            "A program of the host that runs as long as tasks in a machine do; it has what a task on the host has.",
            Whose.VMWRAPPER,
            repeats=True,
            deprecated="is a helper that the bridge does not need to run machines. Leave it out if that is all it did",
        ),
        Row("unzip_input", UNZIP_INPUT, "Archives to be unpacked.", Whose.WRAPPER, repeats=True),
        Row("zip_output", ZIP_OUTPUT, "Files to be packed.", Whose.WRAPPER, repeats=True),
        Row(
            "enable_graphics_support",
            OLD_FLAG,
            "A file tells a screensaver how far the job is.",
            Whose.WRAPPER,
            default=False,
        ),
    ),
)

FORMS = {"job_desc": JOB_DESC.form, "vbox_job": VBOX_JOB.form}

TABLES = {
    "`<job_desc>`": JOB_DESC,
    "`<task>` in a machine": MACHINE_TASK,
    "`<task>` on the host": HOST_TASK,
    "`<unzip_input>`": UNZIP_INPUT,
    "`<zip_output>`": ZIP_OUTPUT,
    "`<vbox_job>`": VBOX_JOB,
}
"""All tables under their headings, for the page."""
