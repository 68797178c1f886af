"""Read a `Job` by the tables of `elements`. Pure.

A file that the old programs accept is not refused: what they ignore is ignored with a warning. What they refuse, what
is wrong with an element of ours, and names of files that lead out of the job directory are errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from protocol.codec import encode
from protocol.errors import LocalProtocolError

from .elements import FORMS, HOST_TASK, JOB_DESC, MACHINE_TASK, NORMAL_PRIORITY, PRIORITIES
from .findings import Finding, Kind, first_error, in_order
from .model import HostTask, Job, MachineTask, ZipOutput
from .table import Table, Values, read
from .tags import Element, TagError, parse
from .vbox import vbox_job

IMAGE = "image"
"""The folder of a project's only image, which need not be named."""

_OF_MACHINE = ("virtualmachine", "image", "memory_size_mb", "ncpus", "enable_network", "hypervisor")
"""What describes the machine, which all tasks in one share."""


def examine(file: Path, text: str) -> tuple[Job | None, tuple[Finding, ...]]:
    """Return the job, if there is no error in its file, and all that is to be said of it, by line."""
    try:
        root, findings = parse(text, FORMS)
    except TagError as error:
        return None, (Finding(error.line, error.name, str(error)),)
    job = vbox_job(file, root, findings) if root.name == "vbox_job" else _Reader(file, root, findings).job()
    found = in_order(findings)
    return None if first_error(found) else job, found


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
        zip_output = self._zip_output(read_of["zip_output"])
        if whole is None or first_error(self._findings):
            return None
        job = Job(
            self._file,
            tuple(
                self._machine_task(values, machine, weight) if _in_machine(values) else _host_task(values, weight)
                for values, weight in zip(tasks, weights, strict=True)
            ),
            unzip_input=tuple(name for values in read_of["unzip_input"] for name in values["zipfilename"]),
            unzip_tasks=tuple(_host_task(values) for values in read_of["unzip_task"]),
            helpers=tuple(_host_task(values) for values in read_of["VMmanage_task"]),
            daemons=tuple(_host_task(values) for values in read_of["task"] if values.of.get("daemon")),
            zip_output=zip_output,
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
                if name not in values.given or values[name] in (None, "", ()):
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

        first, *others = (self._file.parent / image for image in shared("image") or (IMAGE,))
        return MachineTask(
            file=self._file,
            machine=shared("virtualmachine"),
            image=first,
            more_images=tuple(others),
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
            packages=values["package"],
            copies_application=values["copy_app_to_VM"],
            cpu_time=values["cpu_time"],
            takes_more_arguments=values["append_cmdline_args"],
            network=shared("enable_network"),
            weight=weight,
        )

    def _refuse_untellable(self, values: Values, task: MachineTask) -> None:
        if task.copies_application and task.application.startswith("/"):
            self._error(
                values.given["application"],
                f"{task.application!r:.80} is no plain file name. For a program that is in the image or in a package, "
                "say <copy_app_to_VM>0</copy_app_to_VM>",
            )
        for kind, names in (("program", (task.application,)), ("package", task.packages)):
            if twice := sorted(set(names) & set(task.checkpoint_files)):
                self._error(
                    values.element, f"names the {kind} {twice[0]!r:.80} as a <checkpoint_filename>. Name what it saves"
                )
        try:
            encode(task.task(task.checkpoint_files))
        except LocalProtocolError as error:
            self._error(values.element, f"cannot be told to a guest: {error.reason}")


def _host_task(values: Values, weight: float = 1.0) -> HostTask:
    return HostTask(
        application=values["application"],
        command_line=values["command_line"],
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
        priority=values["priority"] if values["priority"] in PRIORITIES else NORMAL_PRIORITY,
        multi_process=values["multi_process"],
        forward_slashes=values["forward_slashes"],
        takes_more_arguments=values["append_cmdline_args"],
    )


def _table(holder: Element) -> Table:
    """Return the table by which an element in `<job_desc>` is read."""
    if holder.name == "task":
        return MACHINE_TASK if _names_a_machine(holder) else HOST_TASK
    table = JOB_DESC.row[holder.name].value
    assert isinstance(table, Table)
    return table


def _names_a_machine(holder: Element) -> bool:
    return any(child.text for child in holder.children if child.name == "virtualmachine")


def _in_machine(values: Values) -> bool:
    return bool(values.of.get("virtualmachine"))


def _spell(value: Any) -> str:
    if isinstance(value, tuple):
        return " and ".join(map(_spell, value))
    return str(int(value)) if isinstance(value, bool) else f"{str(value)!r:.80}"
