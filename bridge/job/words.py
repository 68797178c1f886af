"""A job in plain words, for whoever wants to know what its file will do: `vmbridge explain`. Pure.

It speaks of what the job file says and of nothing else: what lies on the disk, and what a volunteer has, is not known.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

from ..workplace import MACHINE
from .model import CHECKPOINT_PERIOD_S, HostTask, Job, MachineTask, PlainGuest

Lines = Iterator[str]

_PRIORITIES = {1: "the lowest", 2: "low", 3: "normal", 4: "above normal", 5: "high"}
_MACROS = {
    "$PROJECT_DIR": "the project's folder on the volunteer's computer",
    "$NTHREADS": "how many processors the program may use",
    "$GPU_DEVICE_NUM": "the number of the graphics processor that the job is given; without one it stays as it is",
    "$PWD": "the job's folder (the slot)",
}
_MACRO = re.compile(r"\$(?:PROJECT_DIR|NTHREADS|GPU_DEVICE_NUM|PWD)|boinc_resolve\([^)]*\)")
_COLUMNS = 100
_NAME = 17


def explain(job: Job) -> list[str]:
    """Return what would be done, in order, as lines."""
    paragraphs = [
        [_count(job)],
        list(_machine(job)),
        list(_before(job)),
        list(_beside(job)),
        *(list(_task(job, number)) for number in range(len(job.tasks))),
        list(_after(job)),
        list(_told(job)),
        list(_stopped(job)),
    ]
    return [line for paragraph in paragraphs if paragraph for line in (*paragraph, "")][:-1]


def _count(job: Job) -> str:
    inside, total = len(job.machine_tasks), len(job.tasks)
    if total == 1:
        return f"One task, {'in a virtual machine' if inside else 'on the computer itself, without a machine'}."
    if not inside:
        return f"{total} tasks, one after the other, on the computer itself, without a machine."
    if inside == total:
        return f"{total} tasks, one after the other, in a virtual machine."
    return f"{total} tasks, one after the other: {inside} in a virtual machine, the others on the computer itself."


def _said(text: str, head: str = "  ") -> Lines:
    """Lay out a text behind `head`, the lines below under its beginning."""
    lines = textwrap.wrap(text, _COLUMNS - len(head), break_long_words=False, break_on_hyphens=False)
    return (f"{head if number == 0 else ' ' * len(head)}{line}" for number, line in enumerate(lines or [""]))


def _rows(rows: Iterable[tuple[str, str]], indent: str = "  ") -> Lines:
    """Lay out names and texts in two columns; a text without a name belongs to the one above."""
    for name, text in rows:
        yield from _said(text, f"{indent}{name + ':' if name else '':<{_NAME}}")


# The machine


def _machine(job: Job) -> Lines:
    if not job.machine_tasks:
        return
    task = job.machine_tasks[0]
    yield f"The machine, called {task.machine}" if task.plain is None else "The machine"
    yield from _rows(_what_the_machine_is(job, task))
    if len(job.machine_tasks) > 1:
        yield from _said(
            "It is started anew for each task in it, with the disk as the task before left it: files and installed "
            "programs are still there, running programs are not."
        )


def _what_the_machine_is(job: Job, task: MachineTask) -> Iterator[tuple[str, str]]:
    stays = "the machine writes to a disk of its own, the image stays as it is"
    if task.plain is not None and task.plain.multiattach_vdi_file:
        yield "image", f"the disk {task.plain.multiattach_vdi_file} in the project's folder; {stays}"
    elif task.plain is not None:
        yield "image", f"the disk {task.image.name}, which boots by itself; {stays}"
    else:
        folders = [
            str(image.relative_to(job.directory) if image.is_relative_to(job.directory) else image)
            for image in task.images
        ]
        one = f"the one in the folder {folders[0]}"
        several = f"the first that is there and that the hypervisor can boot, in the folders {', '.join(folders)}"
        yield "image", f"{one if len(folders) == 1 else several}; {stays}"
    yield "run by", task.hypervisor or "whatever runs machines on the computer"
    yield "memory", f"{task.memory_mb} MB"
    yield "processors", str(task.cpus or "as many as the client gives the job, without a client 1")
    if task.network:
        yield (
            "network",
            "the internet, when the volunteer allows it; neither the volunteer's computer nor the network around it",
        )
    else:
        yield "network", "none"


# Before, beside


def _before(job: Job) -> Lines:
    if not (job.unzip_input or job.unzip_tasks):
        return
    yield "First, once"
    for name in job.unzip_input:
        yield from _said(f"The archive {name} is unpacked in the job's folder.")
    for task in job.unzip_tasks:
        yield from _program_aside("The program", task, "runs on the computer itself, and the job waits for its end.")


def _beside(job: Job) -> Lines:
    if not (job.daemons or job.helpers):
        return
    yield "While tasks run"
    for task in job.daemons:
        yield from _program_aside(
            "The daemon", task, "runs on the computer itself. It is ended with the last task, and not started again."
        )
    for task in job.helpers:
        yield from _program_aside(
            "The helper", task, "runs on the computer itself, if a task in the machine is still to come when the tasks "
            "begin. It is ended with the last task, and not started again."
        )  # fmt: skip


def _program_aside(what: str, task: HostTask, how: str) -> Lines:
    yield from _said(f"{what} {task.application} {how}")
    yield from _rows(_on_host(task, aside=True), "    ")


# The tasks


def _task(job: Job, number: int) -> Lines:
    task = job.tasks[number]
    total = sum(other.weight for other in job.tasks)
    share = "" if len(job.tasks) == 1 else f", {100 * task.weight / total:.3g} % of the job"
    yield f"Task {number + 1}: {task.application or 'what the image itself starts'}{share}"
    if isinstance(task, MachineTask) and task.plain is not None:
        yield from _rows(_in_plain_machine(task, task.plain))
    elif isinstance(task, MachineTask):
        yield from _rows(_in_machine(task))
    else:
        yield from _rows(_on_host(task, aside=False))


def _in_machine(task: MachineTask) -> Iterator[tuple[str, str]]:
    yield "where", f"in the machine {task.machine}"
    if task.packages:
        yield "packages", f"installed before it starts, and removed when it has ended: {', '.join(task.packages)}"
    if task.copies_application:
        yield "program", f"the file {task.application} of the job, copied into the machine"
    else:
        yield "program", f"{task.application}, which is in the machine, from its image or a package"
    yield "arguments", _spelled(task.arguments) + _more(task)
    if task.environment:
        yield "environment", f"with {', '.join(task.environment)}"
    inputs = [name for name in task.task().input if name != task.stdin]
    yield "files in", _listed(inputs)
    yield "files out", _listed(task.outputs) + ("" if not task.outputs else "; one that is missing is an error")
    yield "input stream", task.stdin or "empty"
    yield "output stream", task.stdout or "not kept"
    yield "error stream", task.stderr or "not kept; its end is told when the program fails"
    asked = CHECKPOINT_PERIOD_S if task.checkpoint_period is None else task.checkpoint_period
    yield "checkpoints", f"the whole machine is saved every {asked:g} seconds, or as seldom as the client wants"
    if task.checkpoint_files:
        yield (
            "",
            f"what the program itself saves is carried out of the machine: {', '.join(task.checkpoint_files)}. Where "
            "no saved machine can be used, a new one goes on from that",
        )
    else:
        yield "", "where no saved machine can be used, the task begins anew"


def _in_plain_machine(task: MachineTask, guest: PlainGuest) -> Iterator[tuple[str, str]]:
    yield "where", "in the machine, whose system knows nothing of the bridge"
    if guest.shared:
        yield (
            "shared folder",
            "the guest mounts the folder shared (9p, by this tag), and reads and writes plain files in it",
        )
    else:
        yield "shared folder", "none, so the guest can say nothing"
    if guest.shared and guest.copy_to_shared:
        yield "", f"from the start these are in it: {', '.join(guest.copy_to_shared)}"
        if "init_data.xml" in guest.copy_to_shared:
            yield "", "init_data.xml says what the work is, and of the volunteer nothing"
    if guest.shared and guest.copy_cmdline_to_shared:
        yield "", "its file cmdline has the arguments of the bridge"
    if guest.scratch:
        yield "scratch", "the guest can also mount a folder of the project that outlives the job (9p, tag scratch)"
    done = guest.fraction_done_filename
    if done:
        yield "progress", f"the last number in its file {done}"
    elif guest.job_duration:
        yield "progress", "how much of its time is over"
    else:
        yield "progress", "not known before it ends"
    if guest.heartbeat_filename:
        yield (
            "sign of life",
            f"its file {guest.heartbeat_filename} must change every {guest.minimum_heartbeat_interval:g} seconds that "
            "the machine runs, or it is started again; after six such in a row the job fails",
        )
    if guest.completion_trigger_file:
        yield (
            "end",
            f"when there is a file {guest.completion_trigger_file}; the number in its first line is the job's code",
        )
    if guest.job_duration:
        yield (
            "end" if not guest.completion_trigger_file else "",
            (f"after {guest.job_duration:g} seconds in which it ran, which counts as success"),
        )
    if guest.temporary_exit_trigger_file:
        yield (
            "a pause",
            f"when there is a file {guest.temporary_exit_trigger_file}, the job waits as many seconds as its first "
            "line says, and is started again",
        )
    if guest.trickle_trigger_files:
        yield "trickles", f"the texts of its files {', '.join(guest.trickle_trigger_files)}, which are then deleted"
    if guest.intermediate_upload_files:
        yield "early uploads", f"its files {', '.join(guest.intermediate_upload_files)}, when they are whole"
    yield "checkpoints", "none of the machine: its disk and the shared folder stay, and it boots again with them"


def _on_host(task: HostTask, *, aside: bool) -> Iterator[tuple[str, str]]:
    if not aside:
        yield "where", "on the computer itself, like any program of the project"
        from_project = task.application.startswith("$PROJECT_DIR")
        here = (
            "below the project's folder" if from_project else "of the job; one that is not there is looked for in PATH"
        )
        yield "program", f"the file {task.application} {here}"
    if task.command_line or not aside or task.takes_more_arguments:
        yield "arguments", (task.command_line or "none") + _more(task)
    texts = (task.application, task.command_line, task.exec_dir or "", *task.environment)
    for macro in dict.fromkeys(found for text in texts for found in _MACRO.findall(text)):
        yield "", f"{macro} is {_macro(macro)}"
    if task.exec_dir:
        yield "folder", task.exec_dir
    if task.environment:
        yield "environment", f"{', '.join(task.environment)}, and nothing else, not even PATH if it is not named here"
    if not aside or task.stdin:
        yield "input stream", task.stdin or "empty"
    if not aside or task.stdout:
        yield "output stream", _appended(task.stdout, "not kept")
    if not aside or task.stderr:
        yield "error stream", _appended(task.stderr, "in the log of the job (stderr.txt)")
    if aside:
        return
    yield "priority", _PRIORITIES[task.priority]
    if task.fraction_done_filename:
        yield "progress", f"the last number in the file {task.fraction_done_filename}, from 0 to 1"
    else:
        yield "progress", "not known before it ends"
    if task.checkpoint_filename:
        yield "checkpoints", f"when the file {task.checkpoint_filename} has changed, the program has saved its state"
    else:
        yield "checkpoints", "none: when it is stopped, it begins anew"
    if task.time_limit:
        yield "time limit", f"after {task.time_limit:g} seconds it is ended, which counts as success"


def _appended(stream: str | None, otherwise: str) -> str:
    if stream == "/dev/null":
        return "not kept"
    return otherwise if stream is None else f"appended to {stream}"


def _macro(text: str) -> str:
    if text in _MACROS:
        return _MACROS[text]
    name = text.removeprefix("boinc_resolve(").removesuffix(")").removeprefix("./")
    return f"the place where the file {name} really lies"


def _spelled(words: Iterable[str]) -> str:
    return " ".join(f"'{word}'" if not word or re.search(r"\s", word) else word for word in words) or "none"


def _more(task: MachineTask | HostTask) -> str:
    return (
        ", and those behind --passthrough_child on the bridge's own command line" if task.takes_more_arguments else ""
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


# The end


def _after(job: Job) -> Lines:
    yield "In the end"
    if job.zip_output is not None and job.zip_output.patterns:
        patterns = " or ".join(job.zip_output.patterns)
        yield from _said(
            f"All files that are new in the job's folder, and in whose names {patterns} is found, are packed into "
            f"{job.zip_output.zipfilename}."
        )
    elif job.zip_output is not None:
        yield from _said(
            f"The archive {job.zip_output.zipfilename} is made, with nothing in it: no <filename> says what."
        )
    if job.machine_tasks:
        yield from _said("The machine and its disk are deleted; what was not brought out of it is gone.")
    if _is_plain(job):
        yield from _said(
            "The job has succeeded when the guest has said so, with the code 0, or its time is over; with another code "
            "it has failed, and the project is told that."
        )
        return
    yield from _said(
        "The job has succeeded when every task has ended with code 0. The first that does not ends the job."
    )
    if not job.machine_tasks:
        yield from _said("The project is then told the code 195.")
    else:
        others = "" if _all_inside(job) else ", and for programs on the computer"
        yield from _said(f"The project is then told the program's code (195 where that is none from 1 to 255{others}).")


def _all_inside(job: Job) -> bool:
    """Say whether all that a job runs is in its machine."""
    aside = (*job.unzip_tasks, *job.helpers, *job.daemons)
    return not aside and len(job.machine_tasks) == len(job.tasks)


def _told(job: Job) -> Lines:
    yield "The client is told"
    if job.graphics:
        yield from _said("in a file for a screensaver, how far the job is (<enable_graphics_support>);")
    if len(job.tasks) > 1:
        yield from _said("how far the job is: each task by its share, as far as it says itself how far it is;")
    elif job.machine_tasks:
        yield from _said(f"how far the job is, as far as the {'guest' if _is_plain(job) else 'program'} says so;")
    elif isinstance(task := job.tasks[0], HostTask) and task.fraction_done_filename:
        yield from _said(f"how far the job is, by the file {task.fraction_done_filename};")
    else:
        yield from _said("nothing of how far the job is, until it has ended;")
    of_programs = "of the programs on the computer, with all that they start"
    if not job.machine_tasks:
        yield from _said(f"the CPU time {of_programs}.")
        return
    of_machine = (
        "that the programs took in the machine, as the machine counts it"
        if job.machine_tasks[0].cpu_time == "guest"
        else "that the machine took on the computer, with all that goes on in it"
    )
    yield from _said(f"the CPU time {of_machine}{'' if _all_inside(job) else f', and {of_programs}'};")
    if _is_plain(job):
        yield from _said("the trickles and early uploads of the guest, if there are any.")
    else:
        yield from _said("the operations, trickles and early uploads of programs in the machine, if there are any.")


def _is_plain(job: Job) -> bool:
    return any(task.plain is not None for task in job.machine_tasks)


def _stopped(job: Job) -> Lines:
    inside, outside = bool(job.machine_tasks), not _all_inside(job)
    what = {
        (True, False): "The machine stands still, in memory, until it may go on.",
        (False, True): "Programs, with all that they have started, stand still, in memory, until they may go on.",
        (True, True): "The machine, and programs on the computer with all that they have started, stand still, in "
        "memory, until they may go on.",
    }
    yield "When the volunteer's computer is busy, or BOINC suspends the job"
    yield from _said(what[inside, outside])
    yield ""
    yield "When BOINC ends, or the job is to go on another time"
    if _is_plain(job):
        yield from _said(
            "The machine is ended; its disk and the shared folder stay for the next start, where it boots again."
        )
    elif inside:
        yield from _said(
            f"The machine is saved on the disk (the folder {MACHINE}), and goes on from there. If there is no time or "
            "no room for that, it goes on from its last checkpoint."
        )
    if outside:
        yield from _said(
            "Programs on the computer are asked to end (SIGTERM), and ended after some seconds. A task that was "
            "running is started again: it goes on only if the program itself goes on from what it has saved."
        )
    if len(job.tasks) > 1:
        yield from _said("Tasks that are done are not done again.")
    yield ""
    yield "When the job is aborted"
    yield from _said("All is ended at once and deleted; nothing is kept.")
