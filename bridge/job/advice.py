"""What an experienced administrator would say of a job file: how its elements go together, and what surprises.

None of it keeps a job from being run, so a run says none of it; `vmbridge lint` does. A rule is a function from all
that is written in a file to what is to be told; each looks at the tree, which is there also where a job is not. Pure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from .command_line import split_command_line
from .elements import FORMS, HOST_TASK, JOB_DESC, MACHINE_TASK, UNZIP_INPUT, ZIP_OUTPUT
from .findings import Finding, Kind, in_order
from .patterns import file_pattern
from .schema import examine_job
from .table import Table
from .tags import Element, TagError, parse
from .vbox import VBOX_JOB

_MACRO = re.compile(r"\$(PROJECT_DIR|NTHREADS|GPU_DEVICE_NUM|PWD)")
_FOREIGN_MACRO = re.compile(r"\$(?!PROJECT_DIR|NTHREADS|GPU_DEVICE_NUM|PWD)(\{[A-Za-z_]\w*\}|[A-Za-z_]\w*)", re.ASCII)
_OF_SHELL = frozenset({"<", ">", ">>", "2>", "2>&1", "|", "||", "&&", "&", ";"})
_OUTSIDE = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|\Z)", re.DOTALL)
_ANY_NAMES = ("a", "stderr.txt", "Z9_-~ x", "wrapper_checkpoint.txt", "q.tar.gz")
"""Names that have nothing in common: a pattern that finds itself in all of them finds itself anywhere."""

_TABLES = {
    "job_desc": JOB_DESC,
    "task": HOST_TASK,
    "unzip_task": HOST_TASK,
    "VMmanage_task": HOST_TASK,
    "unzip_input": UNZIP_INPUT,
    "zip_output": ZIP_OUTPUT,
    "vbox_job": VBOX_JOB,
}


def lint(file: Path, text: str) -> tuple[Finding, ...]:
    """Return all that is to be said of a job file, by line."""
    found = examine_job(file, text).findings
    try:
        root, _ = parse(text, FORMS)
    except TagError:
        return in_order((*_not_utf_8(text), *found))
    job = Written(root)
    return in_order(
        [*_not_utf_8(text), *_with_hints(found, root), *(advice for rule in _RULES for advice in rule(job))]
    )


class Part:
    """One element of `<job_desc>` that has a program, and what stands in it, as it is written."""

    def __init__(self, element: Element) -> None:
        self.element = element
        self.in_machine = element.name == "task" and bool(self.text("virtualmachine"))
        self.daemon = not self.in_machine and self.said("daemon")
        self.aside = element.name != "task" or self.daemon

    def all(self, *names: str) -> list[Element]:
        """All elements of these names that have a text, in the order of the file."""
        return [child for child in self.element.children if child.name in names and child.text and not child.fault]

    def one(self, name: str) -> Element | None:
        """The element that counts, of those that have a text."""
        return next(reversed(self.all(name)), None)

    def text(self, name: str) -> str:
        """Its text; empty where there is none."""
        found = self.one(name)
        return "" if found is None else found.text or ""

    def said(self, name: str) -> bool:
        """Whether a switch is on."""
        found = [child for child in self.element.children if child.name == name and not child.fault]
        return bool(found) and found[-1].text not in ("", "0")

    @property
    def inputs(self) -> list[Element]:
        """The files that it takes, by the elements that name them."""
        if not self.in_machine:
            return self.all("application", "stdin_filename")
        program = ("application",) if self.copies_program else ()
        return self.all(*program, "copy_file_to_VM", "package", "stdin_filename")

    @property
    def copies_program(self) -> bool:
        """Whether the program goes from the job into the machine."""
        return self.text("copy_app_to_VM") != "0"

    @property
    def results(self) -> list[Element]:
        """The files that it writes, as far as the job file names them."""
        if self.in_machine:
            return self.all("copy_file_from_VM", "stdout_filename", "stderr_filename")
        return self.all("stdout_filename", "stderr_filename", "fraction_done_filename")


class Written:
    """A job file: its parts in order."""

    def __init__(self, root: Element) -> None:
        self.root = root
        self.parts = [Part(child) for child in root.children if child.name in ("unzip_task", "VMmanage_task", "task")]
        self.tasks = [part for part in self.parts if not part.aside]

    def inside(self, holder: str, name: str) -> list[Element]:
        """All elements `name` with a text in elements `holder`."""
        holders = [child for child in self.root.children if child.name == holder]
        return [child for found in holders for child in found.children if child.name == name and child.text]


Rule = Callable[[Written], Iterable[Finding]]


def _say(element: Element, kind: Kind, sentence: str) -> Finding:
    return Finding(element.line, element.name, sentence, kind)


def _name(element: Element) -> str:
    return re.sub(r"\A(\./+)+", "", element.text or "")


# Files


def _inputs_written_over(job: Written) -> Iterator[Finding]:
    """In a slot a name stands for the project's own file, which is verified, kept, and used by other jobs."""
    taken: dict[str, Element] = {}
    made: set[str] = set()
    for part in job.tasks:
        for element in part.inputs:
            if _name(element) not in made:
                taken.setdefault(_name(element), element)
        for element in part.results:
            if earlier := taken.get(_name(element)):
                yield _say(
                    element,
                    Kind.DANGEROUS,
                    f"{_name(element)!r:.80} is an input too, in line {earlier.line}: the project's own file would be "
                    "written over, which other jobs may use. Give the result another name",
                )
        made |= {_name(element) for element in part.results}


def _results_lost(job: Written) -> Iterator[Finding]:
    """What a machine brings replaces what is there; streams of programs on the host are appended."""
    made: dict[str, Element] = {}
    for part in job.tasks:
        taken = {_name(element) for element in part.inputs}
        for element in part.results:
            earlier = made.get(_name(element))
            if earlier and part.in_machine and _name(element) not in taken:
                yield _say(
                    element,
                    Kind.DANGEROUS,
                    f"{_name(element)!r:.80} is what the task before writes too, in line {earlier.line}, and is "
                    "lost when this one is brought. Give each a name of its own",
                )
        made |= {_name(element): element for element in part.results}


def _listed_twice(job: Written) -> Iterator[Finding]:
    for part in job.tasks:
        for name in (
            ("copy_file_to_VM", "copy_file_from_VM", "package", "checkpoint_filename") if part.in_machine else ()
        ):
            yield from _again(part.all(name), "once is enough")
        if application := part.one("application"):
            for element in part.all("copy_file_to_VM") if part.in_machine and part.copies_program else ():
                if _name(element) == _name(application):
                    yield _say(
                        element, Kind.IGNORED, "is the program, which goes into the machine by itself. Leave it out"
                    )
    yield from _again(job.inside("unzip_input", "zipfilename"), "it is unpacked once more, over what is there")


def _again(elements: Iterable[Element], what: str) -> Iterator[Finding]:
    first: dict[str, Element] = {}
    for element in elements:
        if (earlier := first.setdefault(_name(element), element)) is not element:
            yield _say(element, Kind.IGNORED, f"{_name(element)!r:.80} stands in line {earlier.line} already: {what}")


def _own_log(job: Written) -> Iterator[Finding]:
    for part in job.parts:
        for element in part.results:
            if _name(element) == "stderr.txt" and (part.in_machine or element.name != "stderr_filename"):
                yield _say(
                    element,
                    Kind.IGNORED,
                    "'stderr.txt' is the job's own log under a client, which uploads it by itself, and nothing else is "
                    "put in its place. Choose another name",
                )


def _names_of_several(job: Written) -> Iterator[Finding]:
    for part in job.parts:
        names = ("copy_file_to_VM", "copy_file_from_VM", "package", "checkpoint_filename") if part.in_machine else ()
        for element in part.all(*names):
            if re.search(r"[,;] *\S|[*?]", element.text or ""):
                yield _say(
                    element,
                    Kind.DANGEROUS,
                    f"{element.text!r:.80} is the name of one file, not a list or a pattern. Write an element for each",
                )


def _images_twice(job: Written) -> Iterator[Finding]:
    for part in job.parts:
        first: dict[str, int] = {}
        for element in part.all("image") if part.in_machine else ():
            if element.text and element.text in first:
                yield _say(
                    element,
                    Kind.IGNORED,
                    f"{element.text!r:.80} is there already, in line {first[element.text]}. Leave it out",
                )
            first.setdefault(element.text or "", element.line)


def _outside(job: Written) -> Iterator[Finding]:
    for part in job.parts:
        for element in part.all("image") if part.in_machine else ():
            if _OUTSIDE.match(element.text or ""):
                yield _say(
                    element,
                    Kind.DANGEROUS,
                    f"{element.text!r:.80} lies outside the job's folder: good for `vmbridge run`, but no volunteer "
                    "has it. For them write <image>image</image>",
                )
        for element in part.all("stdin_filename", "exec_dir") if not part.in_machine else ():
            if _OUTSIDE.match(element.text or "") and element.text != "/dev/null":
                yield _say(
                    element,
                    Kind.DANGEROUS,
                    f"{element.text!r:.80} lies outside the slot, on a computer that you do not know. Name what lies "
                    "in the slot, or begin with $PROJECT_DIR"
                    if element.name == "exec_dir"
                    else f"{element.text!r:.80} lies outside the slot, on a computer that you do not know. Send the "
                    "file along and give its name in the slot",
                )
        for element in part.all("application") if not part.in_machine else ():
            if re.match(r"(.*[/\\])?\.\.[/\\]", element.text or ""):
                yield _say(
                    element,
                    Kind.DANGEROUS,
                    f"{element.text!r:.80} lies outside the slot. Give the program's name in the slot, or begin with "
                    "$PROJECT_DIR",
                )


def _brings_nothing(job: Written) -> Iterator[Finding]:
    if job.tasks and all(part.in_machine and not part.results for part in job.tasks):
        first = job.tasks[0].element
        yield _say(
            first,
            Kind.DANGEROUS,
            "brings no file out of the machine, and no other task does: all that its program writes is lost. Add a "
            "<copy_file_from_VM> or a <stdout_filename>",
        )


# Archives of results


def _archive_of_results(job: Written) -> Iterator[Finding]:
    names = job.inside("zip_output", "zipfilename")
    patterns = job.inside("zip_output", "filename")
    for name in names[:-1]:
        if name.text != names[-1].text:
            yield _say(name, Kind.IGNORED, f"another archive is named in line {names[-1].line}, and there is one only")
    if not names:
        return
    results = [element for part in job.tasks for element in part.results]
    for element in results:
        if _name(element) == _name(names[-1]):
            yield _say(
                names[-1],
                Kind.DANGEROUS,
                f"{_name(element)!r:.80} is what a task writes, in line {element.line}; an archive that is there "
                "already is not made. Choose another name",
            )
    if not patterns:
        yield _say(
            names[-1], Kind.IGNORED, "has no <filename> beside it, so nothing is packed. Say which files are meant"
        )
    for element in patterns:
        yield from _judge_pattern(element, job, results)


def _judge_pattern(element: Element, job: Written, results: list[Element]) -> Iterator[Finding]:
    try:
        pattern = file_pattern(element.text or "")
    except re.error:
        return
    if all(pattern.search(name) for name in _ANY_NAMES):
        yield _say(
            element,
            Kind.DANGEROUS,
            f"{element.text!r:.80} is found in any name: logs and saved states are packed too. Name what you want",
        )
    elif all(part.in_machine for part in job.parts) and not any(pattern.search(_name(made)) for made in results):
        yield _say(
            element,
            Kind.IGNORED,
            f"{element.text!r:.80} is found in no name of a file that the tasks bring, so nothing is packed for it. "
            "It is a regular expression: .*\\.txt$, not *.txt",
        )


# Programs and their words


def _words(job: Written) -> Iterator[Finding]:
    for part in job.parts:
        if element := part.one("command_line"):
            yield from _judge_words(element, part)
        if (element := part.one("application")) and re.search(r"\s-", element.text or ""):
            yield _say(
                element, Kind.DANGEROUS, "is the name of a file, blanks and all. Arguments stand in <command_line>"
            )
        if not part.in_machine:
            for element in part.all("exec_dir", "setenv"):
                if "boinc_resolve(" in (element.text or ""):
                    yield _say(element, Kind.IGNORED, "boinc_resolve() has a meaning only in a <command_line>")
                yield from _foreign_macros(element)


def _judge_words(element: Element, part: Part) -> Iterator[Finding]:
    text = element.text or ""
    for word in split_command_line(text):
        if word in _OF_SHELL:
            yield _say(
                element,
                Kind.IGNORED,
                f"there is no shell: {word!r} is an argument like others. Streams have elements, <stdout_filename> say",
            )
            break
    if _open_quote(text):
        yield _say(element, Kind.IGNORED, "has a quote without its end: all behind it is one argument. Close it")
    if part.in_machine:
        if found := _MACRO.search(text):
            more = ". The program can ask its system (nproc)" if found[1] == "NTHREADS" else ""
            yield _say(
                element,
                Kind.IGNORED,
                f"{found[0]} is not replaced for a program in a machine, which has no such thing{more}",
            )
        if "boinc_resolve(" in text:
            yield _say(
                element,
                Kind.IGNORED,
                "boinc_resolve() is not replaced for a program in a machine, where files lie under their names. Write "
                "the name alone",
            )
        return
    yield from _foreign_macros(element)
    if re.search(r"boinc_resolve\([^)]*\Z", text):
        yield _say(element, Kind.DANGEROUS, "boinc_resolve( has no ')', and the task cannot be started. Close it")
    if part.element.name == "task" and (found := re.search(r"(?<!\S)\./([^\s()]+)", text)):
        yield _say(
            element, Kind.DEPRECATED, f"{found[0]!r:.80} is VMwrapper's way to name a file of the job. Write "
            f"boinc_resolve({found[1]:.60}), which BOINC's wrapper knows too"
        )  # fmt: skip


def _open_quote(text: str) -> bool:
    """Say whether a word that begins with a quote runs to the end of the text without another."""
    return any(
        not word.endswith(word[0]) or len(word) == 1
        for word in re.findall(r"'[^']*'?|\"[^\"]*\"?|\S+", text)
        if word[0] in "'\""
    )


def _foreign_macros(element: Element) -> Iterator[Finding]:
    if found := _FOREIGN_MACRO.search(element.text or ""):
        yield _say(
            element,
            Kind.IGNORED,
            f"{found[0]:.60} stays as it is: there is no shell, and known are $PROJECT_DIR, $NTHREADS, "
            "$GPU_DEVICE_NUM and $PWD",
        )


def _environment(job: Written) -> Iterator[Finding]:
    for part in job.parts:
        first: dict[str, Element] = {}
        for element in part.all("setenv"):
            variable, equals, _ = (element.text or "").partition("=")
            if equals and (earlier := first.setdefault(variable, element)) is not element:
                yield _say(element, Kind.IGNORED, f"{variable:.60} is set in line {earlier.line} already. Keep one")


# What runs when


def _beside(job: Written) -> Iterator[Finding]:
    what = {
        "unzip_task": "a program that runs before the tasks",
        "VMmanage_task": "a helper",
        "task": "a <daemon>",
    }
    for part in job.parts:
        for name in ("weight", "checkpoint_filename", "fraction_done_filename", "time_limit") if part.aside else ():
            element = part.one(name)
            if element and (name, part.element.name) != ("time_limit", "unzip_task"):
                yield _say(
                    element,
                    Kind.IGNORED,
                    f"has no meaning for {what[part.element.name]}, which nobody asks how far it is",
                )
    if any(part.in_machine for part in job.tasks):
        return
    for part in job.parts:
        if part.element.name == "VMmanage_task":
            yield _say(part.element, Kind.IGNORED, "is never started, because no task runs in a machine. Leave it out")


def _on_foreign_computers(job: Written) -> Iterator[Finding]:
    for part in job.parts:
        cpus, priority = part.one("ncpus"), part.one("priority")
        if part.in_machine and cpus and re.fullmatch(r"[0-9]{1,9}", cpus.text or "") and int(cpus.text or 0) > 1:
            yield _say(
                cpus,
                Kind.DANGEROUS,
                f"the machine takes {cpus.text} processors, whatever the client has given the job. Leave it out, and "
                "let a plan class (mt) give it so many",
            )
        if not part.in_machine and priority and priority.text in ("4", "5"):
            yield _say(
                priority, Kind.DANGEROUS, "goes before what the volunteer does. 1, the default, does not disturb"
            )


def _first_counts(job: Written) -> Iterator[Finding]:
    machines = [part for part in job.tasks if part.in_machine]
    for part in machines[1:]:
        for name in ("checkpoint_period", "cpu_time"):
            element, first = part.one(name), machines[0].text(name)
            if element and element.text != (first or {"cpu_time": "host"}.get(name)):
                yield _say(
                    element,
                    Kind.IGNORED,
                    f"has an effect only in the first task in the machine, in line {machines[0].element.line}. "
                    "Say it there",
                )


def _limits(job: Written) -> Iterator[Finding]:
    for part in job.tasks:
        limit = part.one("time_limit")
        if limit and limit.text != "0" and not part.in_machine and part.one("checkpoint_filename"):
            yield _say(
                limit,
                Kind.DANGEROUS,
                "counts anew each time the job goes on, so a program that goes on from what it has saved runs longer "
                "in all. Let the program itself count",
            )


# vbox_job.xml

_ROLES = (
    "fraction_done_filename",
    "heartbeat_filename",
    "completion_trigger_file",
    "temporary_exit_trigger_file",
    "trickle_trigger_file",
    "intermediate_upload_file",
)


def _plain_guest(job: Written) -> Iterator[Finding]:
    if job.root.name != "vbox_job":
        return
    whole = Part(job.root)
    if whole.said("enable_shared_directory"):
        element = next(child for child in reversed(job.root.children) if child.name == "enable_shared_directory")
        yield _say(
            element,
            Kind.DANGEROUS,
            "the guest must mount the folder by 9p (mount -t 9p -o trans=virtio shared /mnt), for QEMU has nothing of "
            "VirtualBox's vboxsf. See to it that the image does",
        )
    first: dict[str, Element] = {}
    for name in _ROLES:
        for element in whole.all(name):
            earlier = first.setdefault(_name(element), element)
            if earlier.name != element.name:
                yield _say(
                    element,
                    Kind.DANGEROUS,
                    f"{_name(element)!r:.80} is the <{earlier.name}> too, in line {earlier.line}: one file cannot say "
                    "both. Give each a name of its own",
                )
    for element in whole.all("copy_to_shared"):
        if said := first.get(_name(element)):
            yield _say(
                element,
                Kind.DANGEROUS,
                f"{_name(element)!r:.80} is the <{said.name}>, in line {said.line}, which would be there from the "
                "start. Give it another name",
            )
    interval = whole.one("minimum_heartbeat_interval")
    if interval and not whole.one("heartbeat_filename"):
        yield _say(interval, Kind.IGNORED, "has no meaning without a <heartbeat_filename>")


# Unknown elements and bytes


def _with_hints(findings: Iterable[Finding], root: Element) -> Iterator[Finding]:
    """Say of elements that are not known which may be meant, or where they belong."""
    holders = [holder for holder in (root, *root.children) if holder.name in _TABLES]
    tables = {(child.line, child.name): _table(holder) for holder in holders for child in holder.children}
    for finding in findings:
        table = tables.get((finding.line, finding.element))
        if finding.kind is Kind.UNKNOWN and table and finding.element not in table.row:
            yield replace(finding, sentence=f"{finding.sentence}. {_meant(finding.element, table)}")
        else:
            yield finding


def _table(holder: Element) -> Table:
    return MACHINE_TASK if holder.name == "task" and Part(holder).in_machine else _TABLES[holder.name]


def _meant(name: str, table: Table) -> str:
    known = [*table.elsewhere, *table.row]
    same = {word.lower().replace("_", ""): word for word in known}
    if word := same.get(name.lower().replace("_", "").replace("-", "")):
        return f"Write <{word}>"
    if close := difflib.get_close_matches(name, known, 1, 0.75):
        return f"If <{close[0]}> is meant, write that"
    homes = [holder for holder, other in _TABLES.items() if name in other.row]
    if not homes and name in MACHINE_TASK.row:
        homes = ["task"]
    return f"It belongs into <{homes[0]}>" if homes else "Leave it out"


def _not_utf_8(text: str) -> list[Finding]:
    found = re.search("[\udc80-\udcff]", text)
    if found is None:
        return []
    line = text.count("\n", 0, found.start()) + 1
    byte = ord(found[0]) - 0xDC00
    return [Finding(line, "", f"the byte 0x{byte:02X} is no UTF-8. Save the file as UTF-8", Kind.UNKNOWN)]


_RULES: tuple[Rule, ...] = (
    _inputs_written_over,
    _results_lost,
    _listed_twice,
    _own_log,
    _names_of_several,
    _images_twice,
    _outside,
    _brings_nothing,
    _archive_of_results,
    _words,
    _environment,
    _beside,
    _on_foreign_computers,
    _first_counts,
    _limits,
    _plain_guest,
)
