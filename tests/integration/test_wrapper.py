"""Side by side with BOINC's own wrapper: the same job directories, the same client, and what is different is known.

Run where `BOINC_WRAPPER` names a wrapper, as in `make bench`. Each case is run by both, in slots of their own, and what
can be seen from outside is compared: what the client concludes, the files and their bytes, the messages. What is meant
to be different stands in `WANTED`, with the reason; that it still is different is tested too.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from ..bench.app import WRAPPER, wrapper
from ..patience import AT_MOST_S, until
from ..standin import End, StandIn
from ..standin.data_directory import PROJECT
from .slots import PROGRAM

pytestmark = pytest.mark.skipif(wrapper() is None, reason=f"{WRAPPER} names no wrapper of BOINC's")

THEIRS, OURS = "theirs", "ours"

NOT_COMPARED = {
    *("init_data.xml", "boinc_mmap_file", "stderr.txt", "boinc_lockfile", "boinc_finish_called"),
    *(
        "wrapper_checkpoint.txt",
        "initial_file_list",
        ".vmbridge.home",
        ".vmbridge.lock",
        "graphics_status.xml",
        "pid",
        "child",
    ),
}
"""Files of a slot that say more than has to agree; what has to is looked at by itself."""


class Client(StandIn):
    """A client with one job for either program. `seen` is what a case wants to be compared besides."""

    def __init__(self, path: Path, which: str, case: Case) -> None:
        super().__init__(path, killed_after_s=AT_MOST_S, **case.init_data)
        self.which = which
        self.root = str(path).removesuffix(f"/{case.folder}") if case.folder else str(path)
        self.seen: dict[str, Any] = {}
        self.case = case
        self.directory.add("job.xml", f"<job_desc>\n{case.job}\n</job_desc>\n")
        for name, script in case.programs.items():
            text = script.replace("WAIT", "until [ -e DATA/$GO ]; do sleep 0.05; done").replace("DATA", str(path))
            self.directory.add(name, f"#!/bin/sh\n{text}\n").chmod(0o755)
        for name, content in case.inputs.items():
            self.directory.add(name, content)
        for name in case.outputs:
            self.directory.output(name, f"{name}_0")
        for name, text in case.left.items():
            (self.slot / name).write_text(text)

    def begin(self, which: str | None = None) -> None:
        """Start the program, or `which` of the two."""
        program = wrapper() if (which or self.which) == THEIRS else PROGRAM
        assert program is not None
        path = self.directory.program(program, f"app_{which or self.which}")
        self.start(path, *self.case.words, environment={**os.environ, "OF_THE_CLIENT": "yes"})

    def go(self, name: str = "go") -> None:
        """Let a script go on that waits for `name`."""
        (self.directory.path / name).touch()

    def until_there(self, name: str) -> Path:
        """Wait until the slot has a file that is not empty."""
        file = self.slot / name
        self.until(lambda: file.exists() and file.stat().st_size, name)
        return file

    def until_done(self, fraction: float) -> None:
        """Wait until the client has been told this `fraction_done`."""
        self.until(lambda: abs(self.task.fraction_done - fraction) < 1e-4, f"fraction_done of {fraction}")


Steps = Callable[[Client], None]


def nothing(client: Client) -> None:
    """The job needs nobody."""


@dataclass(frozen=True)
class Case:
    """A job: `job` is what stands in its `<job_desc>`, `steps` what is done while it runs.

    In a program, `WAIT` waits for the file that `$GO` names. `inputs` and `outputs` lie behind links; what earlier
    starts have `left` lies in the slot.
    """

    job: str
    programs: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, bytes] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    folder: str = ""
    init_data: Mapping[str, Any] = field(default_factory=dict)
    steps: Steps = nothing


def task(name: str, elements: str = "") -> str:
    """Return a task of the host."""
    return f"<task><application>{name}</application>{elements}</task>"


def archive(*members: tuple[str, bytes, int]) -> bytes:
    """Return a .zip with files (or folders, with `/` at the end) of these names, contents and modes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name, (2020, 2, 2, 2, 2, 2))
            info.create_system = 3
            kind = stat.S_IFDIR if name.endswith("/") else stat.S_IFREG
            info.external_attr = (mode if stat.S_IFMT(mode) else kind | mode) << 16
            file.writestr(info, content)
    return data.getvalue()


def quit_and_again(client: Client) -> None:
    """Quit in the middle of the second task, and start again."""
    client.until_there("two")
    client.order("quit")
    client.seen["after quit"] = client.wait().end.value
    client.seen["tasks done at quit"] = tasks_done(client)
    client.go()
    client.begin()


def quit_once(client: Client) -> None:
    """Quit, and leave it at that."""
    client.until_there("pid")
    client.order("quit")
    client.wait()
    nobody(client)


def change_hands(client: Client) -> None:
    """The other program goes on with what one has left."""
    client.until_there("two")
    client.order("quit")
    client.wait()
    client.go()
    client.begin(OURS if client.which == THEIRS else THEIRS)


def abort(client: Client) -> None:
    client.until_there("pid")
    client.order("abort")
    client.wait()
    nobody(client)


def suspend_and_resume(client: Client) -> None:
    """Look at what stands still: the program itself, and one that it has started."""
    pids = {name: int(client.until_there(name).read_text()) for name in ("pid", "child")}

    def still() -> dict[str, bool]:
        return {name: psutil.Process(pid).status() == psutil.STATUS_STOPPED for name, pid in pids.items()}

    client.order("suspend")
    client.until(lambda: still()["pid"], "standing still")
    client.seen["stands still"] = still()
    client.order("resume")
    client.until(lambda: not any(still().values()), "running again")
    client.go()


def told_points(*points: float) -> Steps:
    """Return steps that see each fraction told before the program goes on."""

    def steps(client: Client) -> None:
        for number, point in enumerate(points):
            client.until_done(point)
            client.go(f"go{number}")

    return steps


def checkpoint(client: Client) -> None:
    client.until(lambda: client.task.checkpoint_cpu_time > 0, "a checkpoint is told")
    client.seen["tasks done at the checkpoint"] = tasks_done(client)
    client.go()


def graphics(client: Client) -> None:
    file = client.until_there("graphics_status.xml")
    client.order("suspend")
    client.until(lambda: "<suspended>1</suspended>" in file.read_text(), "a suspension in the file")
    client.order("resume")
    client.until(lambda: "<suspended>0</suspended>" in file.read_text(), "no suspension in the file")
    text = file.read_text()
    client.seen["graphics tags"] = [line.partition(">")[0].strip() for line in text.splitlines()]
    client.until_done(0.25)
    said = file.read_text().partition("<fraction_done>")[2].partition("<")[0]
    client.seen["graphics fraction"] = float(said)
    client.go()


def daemon(client: Client) -> None:
    client.until_there("daemon.txt")
    client.go()
    client.wait()
    nobody(client)


def leftovers(client: Client) -> None:
    """Count what still runs when the job is over; a client would have to end it."""
    client.wait()
    client.seen["left over"] = len(client.others())


def nobody(client: Client) -> None:
    until(lambda: not client.others(), lambda: str(client.others()))
    client.seen["left over"] = 0


ORDER = {
    name: f"echo {name} >> log; echo {name} > {name}; GO=go; [ {name} != two ] || WAIT"
    for name in ("one", "two", "three")
}
THREE = task("p1") + task("p2") + task("p3")
ORDERED = {f"p{number}": ORDER[name] for number, name in enumerate(("one", "two", "three"), start=1)}

STANDS = "sleep 1000 & echo $! > child; echo $$ > pid; until [ -e DATA/go ]; do :; done; kill $!"
"""It starts nothing while it waits: between vfork(2) and exec(2) a parent cannot be stopped, and need not be."""

SAY = 'for word; do printf "%s\\n" "$word"; done > words'
FRACTIONS = """
echo 0.5 > fraction; GO=$1; WAIT
"""

CASES: dict[str, Case] = {
    "three tasks": Case(THREE, ORDERED, steps=lambda client: client.go()),
    "quit in task 2 of 3": Case(THREE, ORDERED, steps=quit_and_again),
    "a quit is heeded": Case(
        task("p"),
        {"p": "trap 'echo saved > saved; exit 0' TERM; echo $$ > pid; while :; do sleep 0.1; done"},
        steps=quit_once,
    ),
    "a slot changes hands": Case(THREE, ORDERED, steps=change_hands),
    "abort": Case(task("p"), {"p": "echo $$ > pid; exec sleep 1000"}, steps=abort),
    "weights and fractions": Case(
        task("p", "<fraction_done_filename>fraction</fraction_done_filename><command_line>go0</command_line>")
        + task(
            "p",
            "<fraction_done_filename>fraction</fraction_done_filename><command_line>go1</command_line><weight>3</weight>",
        ),
        {"p": FRACTIONS},
        steps=told_points(0.125, 0.625),
    ),
    "many lines of fractions": Case(
        task("p", "<fraction_done_filename>fraction</fraction_done_filename>"),
        {
            "p": "seq -f '%.4f' 0 0.0001 0.75 > fraction; GO=go0; WAIT;"
            "echo nonsense >> fraction; echo 2 >> fraction; GO=go1; WAIT"
        },
        steps=told_points(0.75, 1.0),
    ),
    "a failing task": Case(task("p") + task("q"), {"p": "echo no >&2; exit 3", "q": "touch ran"}),
    "killed by a signal": Case(task("p") + task("q"), {"p": "kill -SEGV $$; sleep 9", "q": "touch ran"}),
    "killed by SIGKILL": Case(task("p") + task("q"), {"p": "kill -KILL $$; sleep 9", "q": "touch ran"}),
    "exit status 256 times 1": Case(task("p"), {"p": "exit 255"}),
    "no program": Case(task("p") + task("q"), {"p": "touch ran"}),
    "not executable": Case(task("p.txt"), inputs={"p.txt": b"#!/bin/sh\ntouch ran\n"}),
    "no input": Case(task("p", "<stdin_filename>in</stdin_filename>"), {"p": "touch ran"}),
    "no folder": Case(task("$PROJECT_DIR/p_1", "<exec_dir>nowhere</exec_dir>"), {"p": "touch ran"}),
    "no tasks": Case(""),
    "no job file's end": Case("<task><application>p</application>", {"p": "touch ran"}),
    "streams": Case(
        2
        * task(
            "p",
            "<stdin_filename>in</stdin_filename><stdout_filename>out</stdout_filename>"
            "<stderr_filename>err</stderr_filename>",
        ),
        {"p": "cat; echo trouble >&2"},
        {"in": b"some text\n"},
        outputs=("out",),
    ),
    "streams without a file": Case(
        task("p"), {"p": "echo in stderr.txt >&2; cat > got; readlink /proc/self/fd/1 > fd"}
    ),
    "words": Case(
        task("p", """<command_line>a "b c" 'd e' f"g h "  --x=1 &amp; \\ ü "" end</command_line>"""), {"p": SAY}
    ),
    "macros": Case(
        task(
            "p",
            "<command_line>$NTHREADS $GPU_DEVICE_NUM $PWD $PROJECT_DIR $HOME x$NTHREADSy $PWD/$PWD</command_line>",
        ),
        {"p": SAY},
    ),
    "blanks in the path": Case(
        task("p", "<command_line>$PWD</command_line>"),
        {"p": SAY},
        folder="a b",
    ),
    "threads and a device": Case(
        task("p", "<command_line>$NTHREADS $GPU_DEVICE_NUM</command_line>"),
        {"p": SAY},
        words=("--nthreads", "4", "--device", "3"),
    ),
    "the client's device": Case(
        task("p", "<command_line>$GPU_DEVICE_NUM</command_line>"),
        {"p": SAY},
        words=("--device", "3"),
        init_data={"gpu_device_num": 1},
    ),
    "half a thread": Case(task("p", "<command_line>$NTHREADS</command_line>"), {"p": SAY}, words=("--nthreads", "1.5")),
    "boinc_resolve": Case(
        task("p", "<command_line>x boinc_resolve(in) --f=boinc_resolve(in),boinc_resolve(none)</command_line>"),
        {"p": f"{SAY}; cat $2 > copy; realpath $2 > real"},
        {"in": b"text\n"},
    ),
    "arguments passed through": Case(
        task("p", "<command_line>a</command_line><append_cmdline_args/>") + task("q", "<command_line>a</command_line>"),
        {"p": SAY, "q": SAY.replace("words", "words2")},
        words=("--nthreads", "2", "--passthrough_child", "b", "--nthreads", "7"),
    ),
    "environment": Case(
        task("p", "<setenv>ONE=1 and $NTHREADS</setenv><setenv>TWO=$PWD</setenv><setenv>P=$PROJECT_DIR</setenv>"),
        {"p": "/usr/bin/env | /usr/bin/sed s/VMBRIDGE_TASK=.*/VMBRIDGE_TASK/ | /usr/bin/sort > env"},
    ),
    "environment kept": Case(task("p"), {"p": "env | grep -e ^PATH -e ^PWD -e ^OF_THE -e ^LD_ > env"}),
    "another folder": Case(
        task("p")
        + task("$PROJECT_DIR/q_1", "<exec_dir>sub</exec_dir>")
        + task("$PROJECT_DIR/q_1", "<exec_dir>$PWD/sub</exec_dir>"),
        {"p": "mkdir sub", "q": "pwd >> where"},
    ),
    "another folder, a program of the slot": Case(
        task("p") + task("q", "<exec_dir>sub</exec_dir>"), {"p": "mkdir sub", "q": "pwd >> where"}
    ),
    "unzip": Case(
        "<unzip_input><zipfilename>a.zip</zipfilename><zipfilename>b.zip</zipfilename></unzip_input>" + task("p"),
        {"p": "./run > ran; cat lib.so > lib"},
        {
            "a.zip": archive(
                ("x", b"from a\n", 0o644),
                ("run", b"#!/bin/sh\necho ran\n", 0o755),
                ("d/", b"", 0o755),
                ("d/e/f", b"deep\n", 0o640),
                (".hidden", b"h\n", 0o600),
                ("read_only", b"r\n", 0o444),
                ("empty/", b"", 0o750),
                ("lib.so.1", b"lib\n", 0o755),
                ("lib.so", b"lib.so.1", stat.S_IFLNK | 0o777),
            ),
            "b.zip": archive(("x", b"from b\n", 0o644), ("y z", b"blank\n", 0o644)),
        },
    ),
    "no archive": Case("<unzip_input><zipfilename>a.zip</zipfilename></unzip_input>" + task("p"), {"p": "touch ran"}),
    "a broken archive": Case(
        "<unzip_input><zipfilename>a.zip</zipfilename></unzip_input>" + task("p"),
        {"p": "touch ran"},
        {"a.zip": b"no archive"},
    ),
    "an archive that leads out": Case(
        "<unzip_input><zipfilename>a.zip</zipfilename></unzip_input>" + task("p"),
        {"p": "touch ran"},
        {"a.zip": archive(("../up", b"outside\n", 0o644))},
    ),
    "a link that leads out": Case(
        "<unzip_input><zipfilename>a.zip</zipfilename></unzip_input>" + task("p"),
        {"p": "touch ran"},
        {"a.zip": archive(("name", b"/etc/hostname", stat.S_IFLNK | 0o777))},
    ),
    "unzipped once": Case(
        "<unzip_input><zipfilename>a.zip</zipfilename></unzip_input>" + THREE,
        ORDERED | {"p1": "cat x > first; echo changed > x; " + ORDER["one"]},
        {"a.zip": archive(("x", b"as sent\n", 0o644))},
        steps=quit_and_again,
    ),
    "zip": Case(
        "<zip_output><zipfilename>out.zip</zipfilename><filename>[.]txt$</filename><filename>^b</filename>"
        "<filename>n\\d+</filename></zip_output>" + task("p"),
        {
            "p": "for n in a.txt b b.dat c n12 n x.txt.old; do echo $n > $n; done; mkdir b.d sub; echo s > sub/s.txt;"
            "chmod 755 b; chmod 640 n12; touch -d 2020-02-02 a.txt"
        },
        {"in.txt": b"an input\n"},
        outputs=("out.zip",),
    ),
    "zip nothing": Case(
        "<zip_output><zipfilename>out.zip</zipfilename><filename>[.]none$</filename></zip_output>" + task("p"),
        {"p": "touch a"},
        outputs=("out.zip",),
    ),
    "zip what the program has zipped": Case(
        "<zip_output><zipfilename>out.zip</zipfilename><filename>a</filename></zip_output>" + task("p"),
        {"p": "echo mine > out.zip; touch a"},
    ),
    "zip stderr.txt": Case(
        "<zip_output><zipfilename>out.zip</zipfilename><filename>stderr</filename></zip_output>" + task("p"),
        {"p": "touch a"},
    ),
    "zip a bad pattern": Case(
        "<zip_output><zipfilename>out.zip</zipfilename><filename>a(</filename></zip_output>" + task("p"),
        {"p": "touch ran"},
    ),
    "a checkpoint of the program's": Case(
        task("p", "<checkpoint_filename>state</checkpoint_filename>"),
        {
            "p": "until [ -e DATA/go ]; do n=0; while [ $n -lt 40000 ]; do n=$((n + 1)); done; echo s > state;"
            "sleep 0.5; done"
        },
        steps=checkpoint,
    ),
    "a time limit": Case(
        task("p", "<time_limit>2</time_limit>") + task("q"), {"p": "echo 1 > begun; sleep 1000", "q": "touch ran"}
    ),
    "suspend and resume": Case(task("p"), {"p": STANDS}, steps=suspend_and_resume),
    "suspend and resume all": Case(
        task("p", "<multi_process/>"),
        {"p": STANDS},
        steps=suspend_and_resume,
    ),
    "a daemon": Case(
        task("d", "<daemon/><command_line>x $NTHREADS</command_line>") + task("p"),
        {"d": "echo $$ > pid; echo $* > daemon.txt; exec sleep 1000", "p": "GO=go; WAIT"},
        steps=daemon,
    ),
    "priorities": Case(
        "".join(task("p", f"<command_line>{n}</command_line><priority>{n}</priority>") for n in range(1, 6))
        + task("p", "<command_line>0</command_line>"),
        {"p": "echo $1 $(cut -d ' ' -f 19 /proc/$$/stat) >> nice"},
    ),
    "what a program leaves behind": Case(task("p"), {"p": "sleep 1000 & touch ran"}, steps=leftovers),
    "graphics": Case(
        "<enable_graphics_support/>"
        + task("p", "<fraction_done_filename>fraction</fraction_done_filename>")
        + task("q"),
        {"p": "echo 0.5 > fraction; GO=go; WAIT", "q": "true"},
        steps=graphics,
    ),
    "no graphics": Case(task("p"), {"p": "test -e graphics_status.xml; echo $? > none"}),
    "more tasks done than there are": Case(
        task("p"), {"p": "touch ran"}, left={"wrapper_checkpoint.txt": "2 1.000000 1.000000\n"}
    ),
    "a record that makes no sense": Case(task("p"), {"p": "touch ran"}, left={"wrapper_checkpoint.txt": "x\n"}),
    "all tasks done": Case(
        "<zip_output><zipfilename>out.zip</zipfilename><filename>made</filename></zip_output>" + task("p"),
        {"p": "touch ran"},
        left={"wrapper_checkpoint.txt": "1 1.000000 1.000000\n", "made": "result\n"},
    ),
    "not XML": Case(
        "stray & text <unknown a=1><task><application> p </application>\n<command_line>a & b</command_line>"
        "<!-- <weight>no --><weight>abc</weight></task></unknown>",
        {"p": SAY},
    ),
}


@dataclass(frozen=True)
class Difference:
    """What both show, and why it is to be so."""

    theirs: object
    ours: object
    why: str


NOTHING = "nothing"


def link(physical: str) -> str:
    """Return what `files` yields for the client's link to a file of the project."""
    return f"'<soft_link>../../projects/{PROJECT}/{physical}</soft_link>\\n', 0o644"


_SENTENCE = "206, and a sentence that names the element: the wrapper's codes are those of whatever gave up"
_ARCHIVES = "a start that is cut off while it unpacks does it again, and so needs the archive"
_ABSOLUTE = "paths are absolute, and mean the same in every folder"
_EMPTY = "195, and a sentence, instead of the zip library's own code"
_INSIDE = "nothing of a job lies outside of its slot"


def refused(case: str, why: str) -> dict[tuple[str, str], Difference]:
    """A job of one task that the wrapper runs, and that does not begin with us; its archive `a.zip` stays."""
    return {
        (case, "end"): Difference("success 0", "computation error 206", why),
        (case, "finish file"): Difference("0", "206", why),
        (case, "tasks done"): Difference(1, 0, why),
        (case, "told fraction"): Difference(1.0, 0.0, why),
        (case, "slot: ran"): Difference("'', 0o644", NOTHING, why),
        (case, "slot: a.zip"): Difference(NOTHING, link("a.zip_1"), why),
    }


WANTED: dict[tuple[str, str], Difference] = {
    **refused("an archive that leads out", _INSIDE),
    ("an archive that leads out", "slot: up"): Difference("'outside\\n', 0o644", NOTHING, _INSIDE),
    **refused("a link that leads out", _INSIDE),
    ("a link that leads out", "slot: name"): Difference("a link to /etc/hostname", NOTHING, _INSIDE),
    ("no program", "end"): Difference("computation error 1", "computation error 206", _SENTENCE),
    ("no program", "finish file"): Difference(None, "206", _SENTENCE),
    ("no input", "end"): Difference("computation error 195", "computation error 206", _SENTENCE),
    ("no input", "finish file"): Difference("195", "206", _SENTENCE),
    ("no folder", "end"): Difference("computation error 195", "computation error 206", _SENTENCE),
    ("no folder", "finish file"): Difference("195", "206", _SENTENCE),
    ("no tasks", "end"): Difference("success 0", "computation error 206", "a job that does nothing is a mistake"),
    ("no tasks", "finish file"): Difference("0", "206", "a job that does nothing is a mistake"),
    ("no job file's end", "end"): Difference("computation error 144", "computation error 206", _SENTENCE),
    ("no job file's end", "finish file"): Difference(None, "206", _SENTENCE),
    ("a broken archive", "end"): Difference("computation error 1", "computation error 206", _SENTENCE),
    ("a broken archive", "finish file"): Difference(None, "206", _SENTENCE),
    ("zip a bad pattern", "end"): Difference("computation error 1", "computation error 206", _SENTENCE),
    ("zip a bad pattern", "finish file"): Difference(None, "206", _SENTENCE),
    ("more tasks done than there are", "end"): Difference("computation error 1", "computation error 206", _SENTENCE),
    ("more tasks done than there are", "finish file"): Difference("1", "206", _SENTENCE),
    ("zip nothing", "end"): Difference("computation error 12", "computation error 195", _EMPTY),
    ("zip nothing", "finish file"): Difference(None, "195", _EMPTY),
    ("zip stderr.txt", "end"): Difference("computation error 12", "computation error 195", _EMPTY),
    ("zip stderr.txt", "finish file"): Difference(None, "195", _EMPTY),
    ("unzip", "slot: a.zip"): Difference(NOTHING, link("a.zip_1"), _ARCHIVES),
    ("unzip", "slot: b.zip"): Difference(NOTHING, link("b.zip_1"), _ARCHIVES),
    ("unzipped once", "slot: a.zip"): Difference(NOTHING, link("a.zip_1"), _ARCHIVES),
    ("zip", "project: out.zip_0"): Difference(
        "a.txt 'a.txt\\n' 100644, b 'b\\n' 100755, b.dat 'b.dat\\n' 100644, boinc_lockfile '' 100644, "
        "n12 'n12\\n' 100640",
        "a.txt 'a.txt\\n' 100644, b 'b\\n' 100755, b.dat 'b.dat\\n' 100644, n12 'n12\\n' 100640",
        "files that are BOINC's are no results",
    ),
    ("half a thread", "slot: words"): Difference(
        "'1\\n', 0o644", "'2\\n', 0o644", "one rule for programs and machines, as vboxwrapper has it"
    ),
    ("boinc_resolve", "slot: words"): Difference(
        f"'x\\n../../projects/{PROJECT}/in_1\\n--f=../../projects/{PROJECT}/in_1,none\\n', 0o644",
        f"'x\\nDATA/projects/{PROJECT}/in_1\\n--f=DATA/projects/{PROJECT}/in_1,DATA/slots/0/none\\n', 0o644",
        _ABSOLUTE,
    ),
    ("blanks in the path", "slot: words"): Difference(
        "'DATA/a\\nb/slots/0\\n', 0o644",
        "'DATA/a b/slots/0\\n', 0o644",
        "a path is one word, whatever is in it",
    ),
    ("another folder, a program of the slot", "end"): Difference("computation error 195", "success 0", _ABSOLUTE),
    ("another folder, a program of the slot", "finish file"): Difference("195", "0", _ABSOLUTE),
    ("another folder, a program of the slot", "tasks done"): Difference(1, 2, _ABSOLUTE),
    ("another folder, a program of the slot", "told fraction"): Difference(0.0, 1.0, _ABSOLUTE),
    ("another folder, a program of the slot", "slot: sub/where"): Difference(
        NOTHING, "'DATA/slots/0/sub\\n', 0o644", _ABSOLUTE
    ),
    ("not executable", "end"): Difference(
        "computation error 195", "success 0", "a program is given the right to be run"
    ),
    ("not executable", "finish file"): Difference("195", "0", "a program is given the right to be run"),
    ("not executable", "tasks done"): Difference(0, 1, "a program is given the right to be run"),
    ("not executable", "told fraction"): Difference(0.0, 1.0, "a program is given the right to be run"),
    ("not executable", "project: p.txt_1"): Difference(
        "'#!/bin/sh\\ntouch ran\\n', 0o644",
        "'#!/bin/sh\\ntouch ran\\n', 0o744",
        "a program is given the right to be run",
    ),
    ("not executable", "slot: ran"): Difference(NOTHING, "'', 0o644", "a program is given the right to be run"),
    ("environment", "slot: env"): Difference(
        f"'ONE=1 and 1\\nP=DATA/projects/{PROJECT}\\nPWD=DATA/slots/0\\nTWO=DATA/slots/0\\n', 0o644",
        f"'ONE=1 and 1\\nP=DATA/projects/{PROJECT}\\nPWD=DATA/slots/0\\nTWO=DATA/slots/0\\nVMBRIDGE_TASK\\n', 0o644",
        "the mark by which processes are found that a killed bridge has left",
    ),
    ("a daemon", "slot: daemon.txt"): Difference(
        "'x $NTHREADS\\n', 0o644", "'x 1\\n', 0o644", "macros mean the same in every task"
    ),
    ("suspend and resume", "stands still"): Difference(
        {"pid": True, "child": False}, {"pid": True, "child": True}, "suspended means that nothing computes"
    ),
    ("what a program leaves behind", "left over"): Difference(1, 0, "what a task has started ends with it"),
    ("graphics", "graphics fraction"): Difference(
        0.5, 0.25, "how far the job is, not how far it will be when the present task is done"
    ),
}


def tasks_done(client: Client) -> int:
    """Return how many tasks the record says are done, none if there is no record."""
    words = (client.read("wrapper_checkpoint.txt") or "").split("\n")[0].split()
    return int(words[0]) if len(words) == 3 else 0


def files(client: Client, folder: Path, without: set[str]) -> Iterator[tuple[str, object]]:
    """Yield the names below `folder` and what is there, with paths that are the same for both programs."""
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if name in without:
            continue
        mode = oct(file.lstat().st_mode & 0o7777)
        if file.is_symlink():
            yield name, f"a link to {os.readlink(file)}"
        elif file.is_dir():
            yield name, f"a folder, {mode}"
        elif zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as opened:
                members = sorted((one.filename, opened.read(one), one.external_attr >> 16) for one in opened.infolist())
            yield name, ", ".join(f"{member} {data.decode()!r} {mode:o}" for member, data, mode in members)
        else:
            text = file.read_bytes().replace(os.fsencode(client.root), b"DATA")
            yield name, f"{text.decode()!r}, {mode}"


def seen(client: Client) -> dict[str, object]:
    """Return what can be seen from outside when a job is over."""
    concluded = client.wait()
    finish = client.read("boinc_finish_called")
    inputs = {"job.xml_1", f"app_{THEIRS}", f"app_{OURS}", *(f"{name}_1" for name in client.case.programs)}
    return {
        "end": f"{concluded.end.value} {concluded.code}",
        "finish file": finish and finish.splitlines()[0],
        "tasks done": tasks_done(client),
        "told fraction": round(client.task.fraction_done, 4) if concluded.end is End.SUCCESS else 0.0,
        **{f"slot: {name}": what for name, what in files(client, client.slot, NOT_COMPARED)},
        **{f"project: {name}": what for name, what in files(client, client.directory.project, inputs)},
        "initial files": sorted(set((client.read("initial_file_list") or "").splitlines()) - NOT_COMPARED),
        "printed": sorted(word for word in ("in stderr.txt", "no\n") if word in client.stderr()),
        **client.seen,
    }


def observed(path: Path, which: str, case: Case) -> dict[str, object]:
    with Client(path / which / case.folder, which, case) as client:
        client.begin()
        case.steps(client)
        return seen(client)


@pytest.mark.parametrize("name", CASES)
def test_side_by_side(tmp_path: Path, name: str) -> None:
    theirs, ours = (observed(tmp_path, which, CASES[name]) for which in (THEIRS, OURS))
    both = {what: (theirs.get(what, NOTHING), ours.get(what, NOTHING)) for what in theirs | ours}
    found = {what: pair for what, pair in both.items() if pair[0] != pair[1]}
    wanted = {what: (one.theirs, one.ours) for (case, what), one in WANTED.items() if case == name}
    assert found == wanted, "\n".join(f"{what}\n  {theirs}\n  {ours}" for what, (theirs, ours) in found.items())


def test_each_difference_belongs_to_a_case() -> None:
    assert {case for case, _ in WANTED} <= set(CASES)
