"""What a job file may say, as one table, and how a `Job` is read by it.

The elements are those of CERN's VMwrapper of 2009, which are those of BOINC's wrapper plus the ones for machines
(`<virtualmachine>`, `<image>`, `<copy_file_to_VM>`, ...). An element that nobody here knows is ignored with a warning,
as the old programs do; one that asks for something this bridge cannot do yet is refused by name.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from protocol.codec import encode, is_name
from protocol.errors import LocalProtocolError

from ..errors import JobFileError
from ..hypervisors import MACHINES
from ..workplace import MACHINE, SHARED
from .model import Job, MachineTask, itself
from .tags import Element, TagError, parse

logger = logging.getLogger(__name__)

JOB_FILE = "job.xml"
MAX_JOB_FILE_BYTES = 1_048_576

OWN_NAMES = frozenset({SHARED, MACHINE, JOB_FILE, "init_data.xml"})
"""Names in the job directory that are the bridge's own or the client's; no output may be called so."""


def read_job(directory: Path, resolve: Callable[[Path], Path] = itself) -> Job:
    """Read `directory/job.xml`; `resolve` tells which file a path in `directory` stands for.

    :raise JobFileError: it is missing or broken, or asks for what cannot be done; the message names the file, the line
        and the element, and says what to do.
    """
    file = Path(os.path.abspath(directory)) / JOB_FILE  # so that no name in a command begins with "-" or holds "x:"
    job = parse_job(file, read_text(file, resolve(file)))
    tasks = (replace(task, resolve=resolve) if isinstance(task, MachineTask) else task for task in job.tasks)
    return replace(job, tasks=tuple(tasks), resolve=resolve)


def read_text(file: Path, real: Path) -> str:
    """Return the text of a job file that is known as `file` and lies at `real`.

    :raise JobFileError: it is missing, cannot be read, or is too large for one.
    """
    if real.exists() and not real.is_file():
        raise JobFileError(file, 0, "", "is no file")  # opening a pipe would wait for its writer
    try:
        with real.open("rb") as opened:
            data = opened.read(MAX_JOB_FILE_BYTES + 1)
    except OSError as error:
        hint = (
            "A job directory holds a job.xml; see docs/scientists.md." if isinstance(error, FileNotFoundError) else ""
        )
        which = "" if real == file else f"it stands for {real}, which "
        raise JobFileError(file, 0, "", f"{which}cannot be read: {error.strerror}. {hint}".rstrip()) from error
    if len(data) > MAX_JOB_FILE_BYTES:
        raise JobFileError(file, 0, "", f"has more than {MAX_JOB_FILE_BYTES:,} bytes; a job file is small")
    # What is no UTF-8 stays what it is, and is refused only where a guest would have to be told of it.
    return data.decode("utf-8", "surrogateescape")


def parse_job(file: Path, text: str) -> Job:
    """Read a job from the text of its file; `file` says where it lies. Pure.

    :raise JobFileError: as `read_job`.
    """
    try:
        root = parse(text)
    except TagError as error:
        raise JobFileError(file, error.line, error.name, str(error)) from error
    if root.name != "job_desc":
        raise JobFileError(file, root.line, root.name, "a job file begins with <job_desc>")
    reader = _Reader(file)
    task = _machine_task(reader, root)
    job = MachineTask(file=file, **reader.values(task))
    if job.application in job.checkpoint_files:
        raise reader.error(task, f"names the program {job.application!r} as a <checkpoint_filename>")
    try:
        encode(job.task(job.checkpoint_files))
    except LocalProtocolError as error:
        raise reader.error(task, f"cannot be told to a guest: {error.reason}") from error
    return Job(file, (replace(job, image=file.parent / job.image),))


def _machine_task(reader: _Reader, root: Element) -> Element:
    tasks = []
    for child in root.children:
        if child.name == "task":
            tasks.append(child)
        elif child.name in _NOT_YET_IN_JOB:
            raise reader.error(child, "is not supported by this version of the bridge")
        else:
            reader.ignore(child)
    if not tasks:
        raise reader.error(root, "has no <task>. Add one with <virtualmachine> and <image>")
    if len(tasks) > 1:
        raise reader.error(tasks[1], "is the second one; this version of the bridge runs one task a job")
    return tasks[0]


class _Reader:
    """Reads the elements of one file by the table, keeping the file's name for messages."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def error(self, element: Element, problem: str) -> JobFileError:
        return JobFileError(self._file, element.line, element.name, problem)

    def ignore(self, element: Element) -> None:
        logger.warning("%s, line %d: <%s> is not known here and ignored", self._file, element.line, element.name)

    def values(self, task: Element) -> dict[str, Any]:
        """Return the fields of `MachineTask` that the elements of `task` set."""
        values: dict[str, Any] = {}
        for child in task.children:
            row = _TABLE.get(child.name)
            if row is None:
                if child.name in _NOT_YET_IN_TASK:
                    raise self.error(child, "is not supported by this version of the bridge")
                self.ignore(child)
                continue
            value = self._value(child, row)
            if row.many:
                values[row.field] = (*values.get(row.field, ()), *value)
            elif value is not None:
                values[row.field] = value
        for name, row in _TABLE.items():
            if row.required and row.field not in values:
                raise self.error(task, f"has no <{name}>. {row.required}")
        return {field: value for field, value in values.items() if field != _NO_FIELD}

    def _value(self, element: Element, row: _Row) -> Any:
        try:
            return row.read(element.text)
        except ValueError as error:
            raise self.error(element, str(error)) from None


# Readers of one element's text. Each raises ValueError with the problem and what to do.


def _word(text: str) -> str | None:
    if found := re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError(f"{text!r} holds the control character U+{ord(found[0]):04X}")
    return text or None


def _path(text: str) -> Path | None:
    word = _word(text)
    return None if word is None else Path(word)


def _file_name(text: str) -> str | None:
    if text and not is_name(text):
        raise ValueError(f"{text!r} is no plain file name. Files lie in the job directory itself, without a path")
    return text or None


def _result_name(text: str) -> str | None:
    if text in OWN_NAMES or text.startswith("boinc_"):
        raise ValueError(f"{text!r} is a name that the bridge or the BOINC client uses itself. Choose another")
    return _file_name(text)


def _file_names(text: str) -> tuple[str, ...]:
    name = _file_name(text)
    return () if name is None else (name,)


def _result_names(text: str) -> tuple[str, ...]:
    name = _result_name(text)
    return () if name is None else (name,)


def _setting(text: str) -> tuple[str, ...]:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=[^\x00-\x08\x0a-\x1f\x7f]*", text):
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return (text,)


def split_command_line(text: str) -> tuple[str, ...]:
    """Split as BOINC's wrappers do: at white space; a word that begins with a quote runs to the next such quote.

    There are no escapes, and a quote in the middle of a word stands for itself.
    """
    words = re.findall(r"'([^']*)'?|\"([^\"]*)\"?|(\S+)", text)
    return tuple(single or double or plain for single, double, plain in words)


def _flag(text: str) -> bool:
    return text.strip() not in ("0", "false")


def _copied(text: str) -> bool:
    if not _flag(text):
        raise ValueError("0 means a program that is in the image already; this version of the bridge cannot start one")
    return True


def _whole(low: int, high: int, unit: str) -> Callable[[str], int | None]:
    def read(text: str) -> int | None:
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,9}(\.0*)?", text) or not low <= int(text.partition(".")[0]) <= high:
            raise ValueError(f"{text!r} is not a whole number of {unit} from {low} to {high}")
        return int(text.partition(".")[0])

    return read


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 1e9:
        raise ValueError(f"{text!r} is not a number of seconds from 0 to 1e9")
    return seconds


def _hypervisor(text: str) -> str | None:
    if text in ("local", "plain"):
        raise ValueError(f"{text!r} runs without a machine and is chosen on the command line only: --hypervisor {text}")
    if text and text not in MACHINES:
        raise ValueError(f"{text!r} is not known here. Choose one of: {', '.join(MACHINES)}")
    return text or None


def _whose(text: str) -> str | None:
    if text and text not in ("host", "guest"):
        raise ValueError(
            f"{text!r} is neither 'host', the CPU time that the machine takes, nor 'guest', that of the program in it"
        )
    return text or None


_NO_FIELD = ""
"""The field of an element that is only checked."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One element of a task: the field that it sets, how its text is read, what to do where it must stand."""

    field: str
    read: Callable[[str], Any]
    many: bool = False
    required: str = ""


_TABLE = {
    "virtualmachine": _Row("machine", _word, required="Tasks that run on the host itself are not supported yet"),
    "image": _Row("image", _path, required="Name the image's folder; `vmbridge image build DIR` makes one"),
    "application": _Row("application", _file_name, required="Name the program"),
    "copy_app_to_VM": _Row(_NO_FIELD, _copied),
    "copy_file_to_VM": _Row("inputs", _file_names, many=True),
    "copy_file_from_VM": _Row("outputs", _result_names, many=True),
    "stdin_filename": _Row("stdin", _file_name),
    "stdout_filename": _Row("stdout", _result_name),
    "stderr_filename": _Row("stderr", _result_name),
    "command_line": _Row("arguments", split_command_line, many=True),
    "setenv": _Row("environment", _setting, many=True),
    "weight": _Row(_NO_FIELD, _word),
    "hypervisor": _Row("hypervisor", _hypervisor),
    "memory_size_mb": _Row("memory_mb", _whole(64, 1_048_576, "MB")),
    "ncpus": _Row("cpus", _whole(1, 256, "CPUs")),
    "checkpoint_period": _Row("checkpoint_period", _seconds),
    "checkpoint_filename": _Row("checkpoint_files", _file_names, many=True),
    "cpu_time": _Row("cpu_time", _whose),
    "enable_network": _Row("network", _flag),
    "append_cmdline_args": _Row("takes_more_arguments", _flag),
}

_NOT_YET_IN_JOB = frozenset({"unzip_task", "VMmanage_task", "unzip_input", "zip_output"})
_NOT_YET_IN_TASK = frozenset({"exec_dir", "daemon", "time_limit", "fraction_done_filename"})
