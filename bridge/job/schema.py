"""How a `Job` is read from its file, by the tables of `elements`.

A file that the old programs accept is not refused: what they ignore is ignored with a warning. What they refuse, what
is wrong with an element of ours, and names of files that lead out of the job directory are errors.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from protocol.codec import encode
from protocol.errors import LocalProtocolError

from ..errors import JobFileError
from .elements import (
    FORMS,
    HOST_TASK,
    JOB_DESC,
    JOB_FILE,
    MACHINE_TASK,
    OWN_NAMES,
)
from .findings import Finding, Kind, first_error, in_order
from .model import HostTask, Job, MachineTask, ZipOutput, itself
from .table import Table, Values, read
from .tags import Element, TagError, parse
from .values import split_command_line

__all__ = [
    "JOB_FILE",
    "OWN_NAMES",
    "Examined",
    "examine_job",
    "parse_job",
    "read_job",
    "read_text",
    "split_command_line",
]

logger = logging.getLogger(__name__)

MAX_JOB_FILE_BYTES = 1_048_576

IMAGE = "image"
"""The folder of a project's only image, which need not be named."""

_WARNINGS_LOGGED = 20
"""More would fill the `stderr.txt` that a project sees."""

_OF_MACHINE = ("virtualmachine", "image", "memory_size_mb", "ncpus", "enable_network", "hypervisor")
"""What describes the machine, which all tasks in one share."""

_OF_VMWRAPPER = frozenset({"virtualmachine", "image", "copy_app_to_VM", "copy_file_to_VM", "copy_file_from_VM"})
"""What tells a VMwrapper's file from a wrapper's."""


@dataclass(frozen=True, slots=True)
class Examined:
    """All that is to be said of a job file, by line; and the job, if none of it is an error."""

    findings: tuple[Finding, ...]
    job: Job | None = None


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
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00<\x00" in data[:64]:
        raise JobFileError(file, 0, "", "is UTF-16. Save it as UTF-8")
    # What is no UTF-8 stays what it is, and is refused only where a guest would have to be told of it.
    return data.decode("utf-8", "surrogateescape")


def parse_job(file: Path, text: str) -> Job:
    """Read a job from the text of its file; `file` says where it lies. What is no error is logged.

    :raise JobFileError: as `read_job`; of several errors it is the first.
    """
    examined = examine_job(file, text)
    warnings = [finding for finding in examined.findings if finding.kind is not Kind.ERROR]
    for finding in warnings[:_WARNINGS_LOGGED]:
        logger.warning("%s", finding.error(file))
    if len(warnings) > _WARNINGS_LOGGED:
        logger.warning("%s: %d more of the kind", file, len(warnings) - _WARNINGS_LOGGED)
    if examined.job is None:
        error = first_error(examined.findings)
        assert error is not None
        raise error.error(file)
    return examined.job


def examine_job(file: Path, text: str) -> Examined:
    """Read a job and say all that is to be said of its file. Pure."""
    try:
        root, findings = parse(text, FORMS)
    except TagError as error:
        return Examined((Finding(error.line, error.name, str(error)),))
    job = _Reader(file, root, findings).job()
    found = in_order(findings)
    return Examined(found, None if first_error(found) else job)


class _Reader:
    """Reads one file's tree; `findings` grows."""

    def __init__(self, file: Path, root: Element, findings: list[Finding]) -> None:
        self._file = file
        self._root = root
        self._findings = findings

    def job(self) -> Job | None:
        """Return the job, if there is no error in it."""
        whole = read(JOB_DESC, self._root, self._findings)
        holders = whole.holders if whole else []
        read_of: dict[str, list[Values]] = {row.name: [] for row in JOB_DESC.rows}
        for holder in holders:
            if values := read(_table(holder), holder, self._findings):
                read_of[holder.name].append(values)
        tasks = [values for values in read_of["task"] if not values.of.get("daemon")]
        machine = self._machine([values for values in tasks if _in_machine(values)])
        self._refuse_no_task([holder for holder in holders if holder.name == "task"], read_of["task"], tasks)
        weights = self._weights(tasks)
        if whole is None or first_error(self._findings):
            return None
        old = any(_is_vmwrappers(holder) for holder in holders)
        job = Job(
            self._file,
            tuple(
                self._machine_task(values, machine, weight) if _in_machine(values) else _host_task(values, old, weight)
                for values, weight in zip(tasks, weights, strict=True)
            ),
            unzip_input=tuple(name for values in read_of["unzip_input"] for name in values["zipfilename"]),
            unzip_tasks=tuple(_host_task(values, old) for values in read_of["unzip_task"]),
            helpers=tuple(_host_task(values, old) for values in read_of["VMmanage_task"]),
            daemons=tuple(_host_task(values, old) for values in read_of["task"] if values.of.get("daemon")),
            zip_output=self._zip_output(read_of["zip_output"]),
            graphics=whole["enable_graphics_support"],
        )
        for values, task in zip(tasks, job.tasks, strict=True):
            if isinstance(task, MachineTask):
                self._refuse_untellable(values, task)
        return job

    def _error(self, element: Element, sentence: str) -> None:
        self._findings.append(Finding(element.line, element.name, sentence))

    def _ignored(self, element: Element, sentence: str) -> None:
        self._findings.append(Finding(element.line, element.name, sentence, Kind.IGNORED))

    def _refuse_no_task(self, written: list[Element], read_: list[Values], tasks: list[Values]) -> None:
        """Refuse a job that does nothing: BOINC's wrapper calls it a success, and the project would pay for it."""
        if not written:
            self._error(self._root, "has no <task>. Add one with an <application>")
        elif not tasks and len(read_) == len(written):
            self._error(self._root, "has no <task> but <daemon>s, which are ended when the last task is done. Add one")

    def _machine(self, tasks: Iterable[Values]) -> dict[str, Any]:
        """Return what describes the machine of all tasks that are in one, and find where they contradict each other."""
        machine: dict[str, Any] = {}
        first: dict[str, Element] = {}
        for values in tasks:
            for name in _OF_MACHINE:
                if name not in values.given or values[name] in (None, ""):
                    continue
                if name not in first:
                    first[name], machine[name] = values.given[name], values[name]
                elif machine[name] != values[name]:
                    self._error(
                        values.given[name],
                        f"is {_spell(values[name])} here and {_spell(machine[name])} in line {first[name].line}. All "
                        "tasks of a job share one machine: say the same in all, or leave it out of the later ones"
                        if name != "virtualmachine"
                        else f"{values[name]!r:.80} is another machine than {machine[name]!r:.80} in line "
                        f"{first[name].line}. All tasks of a job share one machine: give it one name",
                    )
        return machine

    def _weights(self, tasks: list[Values]) -> list[float]:
        """Return the tasks' weights, of which one at least is not 0."""
        weights: list[float] = [values["weight"] for values in tasks]
        if weights and not any(weights):
            self._ignored(tasks[0].given["weight"], "all tasks have the weight 0; each counts as 1")
            return [1.0] * len(weights)
        return weights

    def _zip_output(self, read_: list[Values]) -> ZipOutput | None:
        """Return all such elements as one, as the wrapper takes them: the last name, all patterns."""
        names = [values["zipfilename"] for values in read_ if values["zipfilename"]]
        if not names:
            for values in read_:
                self._ignored(values.element, "has no <zipfilename>, so nothing is packed. Name the archive")
            return None
        return ZipOutput(names[-1], tuple(pattern for values in read_ for pattern in values["filename"]))

    def _machine_task(self, values: Values, machine: dict[str, Any], weight: float) -> MachineTask:
        def shared(name: str) -> Any:
            return machine.get(name, MACHINE_TASK.row[name].default)

        return MachineTask(
            file=self._file,
            machine=shared("virtualmachine"),
            image=self._file.parent / (shared("image") or IMAGE),
            application=values["application"],
            arguments=values["command_line"],
            environment=values["setenv"],
            inputs=values["copy_file_to_VM"],
            outputs=values["copy_file_from_VM"],
            stdin=values["stdin_filename"] or None,
            stdout=values["stdout_filename"] or None,
            stderr=values["stderr_filename"] or None,
            hypervisor=shared("hypervisor"),
            memory_mb=shared("memory_size_mb"),
            cpus=shared("ncpus"),
            checkpoint_period=values["checkpoint_period"],
            checkpoint_files=values["checkpoint_filename"],
            cpu_time=values["cpu_time"],
            takes_more_arguments=values["append_cmdline_args"],
            network=shared("enable_network"),
            weight=weight,
        )

    def _refuse_untellable(self, values: Values, task: MachineTask) -> None:
        if task.application in task.checkpoint_files:
            self._error(values.element, f"names the program {task.application!r} as a <checkpoint_filename>")
        try:
            encode(task.task(task.checkpoint_files))
        except LocalProtocolError as error:
            self._error(values.element, f"cannot be told to a guest: {error.reason}")


def _host_task(values: Values, of_vmwrapper: bool, weight: float = 1.0) -> HostTask:
    command_line = values["command_line"]
    return HostTask(
        application=values["application"],
        command_line=_resolved(command_line) if of_vmwrapper else command_line,
        line=values.element.line,
        exec_dir=values["exec_dir"] or None,
        environment=values["setenv"],
        stdin=values["stdin_filename"] or None,
        stdout=values["stdout_filename"] or None,
        stderr=values["stderr_filename"] or None,
        checkpoint_filename=values["checkpoint_filename"] or None,
        fraction_done_filename=values["fraction_done_filename"] or None,
        weight=weight,
        time_limit=values["time_limit"],
        priority=values["priority"],
        multi_process=values["multi_process"],
        forward_slashes=values["forward_slashes"],
        takes_more_arguments=values["append_cmdline_args"],
    )


def _resolved(command_line: str) -> str:
    """Say VMwrapper's `./name`, a file of the job, in the wrapper's words."""
    return re.sub(r"(?<!\S)(\./[^\s()]+)(?!\S)", r"boinc_resolve(\1)", command_line)


def _table(holder: Element) -> Table:
    """Return the table by which an element in `<job_desc>` is read."""
    if holder.name == "task":
        return MACHINE_TASK if _text(holder, "virtualmachine") else HOST_TASK
    table = JOB_DESC.row[holder.name].value
    assert isinstance(table, Table)
    return table


def _text(holder: Element, name: str) -> str:
    """Return the text that counts of an element in `holder`, before it is judged."""
    texts = [child.text or "" for child in holder.children if child.name == name and not child.fault]
    return texts[-1] if texts else ""


def _in_machine(values: Values) -> bool:
    return bool(values.of.get("virtualmachine"))


def _is_vmwrappers(holder: Element) -> bool:
    return holder.name in ("unzip_task", "VMmanage_task") or any(c.name in _OF_VMWRAPPER for c in holder.children)


def _spell(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else f"{str(value)!r:.80}"
