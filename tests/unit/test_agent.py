# SPDX-License-Identifier: Apache-2.0
"""The guest agent as an ordinary process, with shell scripts as science programs.

Most tests only look at what is left when an agent has ended. Their agents
run all at once (``ended``), because a run is mostly waiting.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guest_side.build import AGENT_SOURCES

from ..patience import AT_MOST_S, has_ended, until
from ..sanitized import compiled

RUN = "protocol 1\nseq 1\nstate run\n"


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("agent") / "agent", AGENT_SOURCES)


@dataclass
class Guest:
    """The folders of one agent, and the agent."""

    binary: Path
    root: Path
    process: subprocess.Popen[str] | None = None
    log: str = ""

    def __post_init__(self) -> None:
        (self.root / "host" / "in").mkdir(parents=True)
        (self.root / "guest").mkdir()

    def put(self, name: str, text: str) -> None:
        part = self.root / "host" / ".part"
        part.write_text(text)
        part.rename(self.root / "host" / name)

    def program(self, script: str, *task: str) -> None:
        self.put("in/program", f"#!/bin/sh\n{script}\n")
        self.put("task", "\n".join(["protocol 1", "program program", *task, ""]))

    def start(self) -> None:
        folders = [f"--{name}={self.root / name}" for name in ("host", "guest", "work", "spool")]
        self.process = subprocess.Popen([self.binary, *folders], stderr=subprocess.PIPE, text=True)

    def wait(self) -> int:
        assert self.process is not None
        self.log = self.process.communicate(timeout=AT_MOST_S)[1]
        return self.process.returncode

    def read(self, name: str) -> str | None:
        try:
            return (self.root / "guest" / name).read_text()
        except FileNotFoundError:
            return None

    def keys(self, name: str) -> dict[str, str]:
        lines = (self.read(name) or "").splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def await_status(self, **wanted: str) -> None:
        until(lambda: wanted.items() <= self.keys("status").items(), lambda: (wanted, self.keys("status")))

    def pid(self) -> int:
        """What the program wrote into `pid`, which may be a while after the status says that it runs."""
        path = self.root / "work" / "pid"
        until(lambda: path.exists() and path.read_text().endswith("\n"))
        return int(path.read_text())

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def guest(binary: Path, tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(binary, tmp_path)
    yield guest
    guest.kill()


def test_a_share_whose_folders_cannot_be_synced_is_as_good(tmp_path: Path) -> None:
    """VirtualBox's are such. A job failed at its end: `cannot write out: Invalid argument`."""
    code = [*AGENT_SOURCES, Path(__file__).with_name("no_folder_sync.c")]
    guest = Guest(compiled(tmp_path / "agent", code, sanitizers=None), tmp_path)
    guest.program("echo 42 > out.txt", "output out.txt")
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == 0, guest.log
    assert guest.keys("finished") == {"code": "0"} and guest.read("out/out.txt") == "42\n"


# ------------------------------------------------------- runs that end by themselves


@dataclass(frozen=True)
class Run:
    """What one agent finds, and how it exits."""

    script: str
    task: tuple[str, ...] = ()
    host: dict[str, str] = field(default_factory=dict)
    exit_status: int = 0
    prepare: Callable[[Guest], None] = lambda guest: None


def lay_a_link(guest: Guest) -> None:
    guest.root.joinpath("secret").write_text("0.75\n")


def lay_an_old_report(guest: Guest) -> None:
    guest.root.joinpath("spool").mkdir()
    guest.root.joinpath("spool/finished").write_text("code 9\n")


def lay_an_old_init_data(guest: Guest) -> None:
    guest.root.joinpath("spool").mkdir()
    guest.root.joinpath("spool/init_data").write_text("wu_name another\n")


LONG = "x" * 99
RUNS = {
    "whole": Run(
        'read line; echo "$line $1 $2 $A $VMBRIDGE_CHECKPOINT_PERIOD"; cat input.txt > result.txt\n'
        'echo complaint >&2; echo "$HOME" > home.txt; echo code 0 > "$VMBRIDGE_SPOOL/finished"',
        (
            "arg one",
            "arg two words",
            "env A=B C",
            "input input.txt",
            "output result.txt",
            "output said.txt",
            "output home.txt",
            "stdin input.txt",
            "stdout said.txt",
            "checkpoint_period 6e1",
        ),
        {"in/input.txt": "12\n"},
    ),
    "stderr tail": Run(f'i=0; while [ $i -lt 1000 ]; do echo "$i {LONG}" >&2; i=$((i+1)); done'),
    "one stream": Run("echo a; echo b >&2; echo c", ("stdout all", "stderr all", "output all")),
    "signal": Run("kill -SEGV $$"),
    "code": Run('echo "code 0" > $VMBRIDGE_SPOOL/finished; exit 5'),
    "code and message": Run('printf "code 195\\nmessage bad input" > $VMBRIDGE_SPOOL/finished; exit 195'),
    "wide code": Run('printf "code -1\\nmessage m\\n" > $VMBRIDGE_SPOOL/finished; exit 255'),
    "code in an exit of 0": Run('echo "code 7" > $VMBRIDGE_SPOOL/finished'),
    "finished and crashed": Run('echo "code 0" > $VMBRIDGE_SPOOL/finished; kill -9 $$'),
    "missing output": Run("echo > there", ("output missing", "output there")),
    "output is a pipe": Run("mkfifo pipe; echo > there", ("output pipe", "output there")),
    "not a program": Run("", host={"in/program": "\x7fELF nonsense"}),
    "no interpreter": Run("", host={"in/program": "#!/no/such/shell\n"}),
    "no stdin": Run("", ("stdin missing",)),
    "missing input": Run("", ("input missing",), exit_status=1),
    "version 2 task": Run("", host={"task": "protocol 2\nwhatever\n"}, exit_status=1),
    "version 2 command": Run("", host={"command": "protocol 2\nseq 1\n"}, exit_status=1),
    "garbage in the spool": Run(
        "cd $VMBRIDGE_SPOOL; echo 0.5 > fraction_done\n"
        "until [ -e ../guest/fraction_done ]; do sleep 0.02; done; echo 2 > fraction_done\n"
        "head -c 70000 /dev/zero > .p; mv .p checkpoint\n"
        "echo nonsense 1 > .dotted; echo > stranger; echo 'fpops -1' > creditreport; echo gibberish > finished"
    ),
    "link in the spool": Run(
        "ln -s ../secret $VMBRIDGE_SPOOL/fraction_done; mkfifo $VMBRIDGE_SPOOL/checkpoint", prepare=lay_a_link
    ),
    "reports": Run(
        "cd $VMBRIDGE_SPOOL; printf 0.375 > fraction_done\n"
        "printf 'count 2\\nnew_key 1\\ncpu_seconds 1.5\\n' > checkpoint; echo 'fpops 1.25e12' > creditreport\n"
        "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"
    ),
    "more cpu than we saw": Run("echo 'cpu_seconds 4000' > $VMBRIDGE_SPOOL/creditreport"),
    "init_data": Run("cat $VMBRIDGE_SPOOL/init_data", ("output s", "stdout s"), {"init_data": "wu_name w, 1 > 0\nx y"}),
    "broken init_data": Run("ls $VMBRIDGE_SPOOL", ("output s", "stdout s"), {"init_data": "p_fpops -1\n"}),
    "no init_data": Run("ls $VMBRIDGE_SPOOL", ("output s", "stdout s"), prepare=lay_an_old_init_data),
    "leftovers": Run("", prepare=lay_an_old_report),
    "background": Run("sleep 60 & echo $! > pid", ("output pid",)),
    "trickles at the end": Run(
        "cd $VMBRIDGE_SPOOL; i=0\n"
        "while [ $i -lt 40 ]; do i=$((i+1)); case $i in\n"
        "3) : > trickle_up.9;;\n"
        "11) echo nonsense > trickle_up.32; mkfifo trickle_up.33;;\n"
        '*) echo "variety v$i" > .t; mv .t trickle_up.$((i * 3));;\n'
        "esac; done; printf 'variety unfinished' > trickle_up.200"
    ),
    "upload at the end": Run(
        "echo early > a.txt; cd $VMBRIDGE_SPOOL; echo name b.txt > upload.1; echo name a.txt > upload.2",
        ("output a.txt",),
    ),
    "comes late": Run("", host={"command": "protocol 1\nseq 5\nstate run"}),
}


@pytest.fixture(scope="module")
def ended(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Guest]]:
    guests: dict[str, Guest] = {}
    for name, run in RUNS.items():
        guest = guests[name] = Guest(binary, tmp_path_factory.mktemp("run"))
        run.prepare(guest)
        guest.program(run.script, *run.task)
        for file, text in ({"command": RUN} | run.host).items():
            guest.put(file, text)
        guest.start()
    try:
        for name, guest in guests.items():
            assert guest.wait() == RUNS[name].exit_status, (name, guest.log)
        yield guests
    finally:
        for guest in guests.values():
            guest.kill()


@pytest.mark.behaviour("B11")
def test_a_whole_run(ended: dict[str, Guest]) -> None:
    guest = ended["whole"]
    assert guest.read("out/result.txt") == "12\n"
    assert guest.read("out/said.txt") == "12 one two words B C 60\n"
    assert guest.read("out/home.txt") == f"{(guest.root / 'work').resolve()}\n"
    assert guest.read("stderr") == "complaint\n"
    assert guest.read("finished") == "code 0\n"
    status = guest.keys("status")
    assert (status["state"], status["ack"]) == ("finished", "1")
    assert guest.log == ""


@pytest.mark.behaviour("B2", "B4")
def test_no_temporary_file_is_left(ended: dict[str, Guest]) -> None:
    for guest in ended.values():
        assert list((guest.root / "guest").rglob(".*")) == []


def test_the_end_of_stderr_is_kept(ended: dict[str, Guest]) -> None:
    text = ended["stderr tail"].read("stderr")
    assert text is not None and len(text) == 65536
    assert text.endswith(f"999 {LONG}\n")


def test_two_streams_in_one_file(ended: dict[str, Guest]) -> None:
    assert ended["one stream"].read("out/all") == ended["one stream"].read("stderr") == "a\nb\nc\n"


@pytest.mark.behaviour("B18")
@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("signal", "139", "killed by signal 11 (Segmentation fault)"),
        ("code", "5", None),
        ("code and message", "195", "bad input"),
        ("wide code", "-1", "m"),
        ("code in an exit of 0", "7", None),
        ("finished and crashed", "137", "killed by signal 9 (Killed)"),
        ("not a program", "126", "cannot execute program: Exec format error"),
        ("no interpreter", "127", "cannot execute program: No such file or directory"),
        ("no stdin", "127", "cannot open missing: No such file or directory"),
        ("leftovers", "0", None),
    ],
)
def test_how_the_program_ended(ended: dict[str, Guest], name: str, code: str, message: str | None) -> None:
    finished = ended[name].keys("finished")
    assert (finished["code"], finished.get("message")) == (code, message)


@pytest.mark.parametrize("name", ["missing output", "output is a pipe"])
def test_what_is_not_there_is_for_the_host_to_judge(ended: dict[str, Guest], name: str) -> None:
    guest = ended[name]
    assert guest.read("finished") == "code 0\n"
    assert [path.name for path in (guest.root / "guest/out").iterdir()] == ["there"]
    assert guest.log.startswith("agent: no output ")


@pytest.mark.behaviour("B16")
@pytest.mark.parametrize("name", ["task", "command"])
def test_another_version_is_refused_by_name(ended: dict[str, Guest], name: str) -> None:
    guest = ended[f"version 2 {name}"]
    status = guest.keys("status")
    assert status["state"] == "error"
    assert status["message"] == f"{name} is written in protocol 2; this agent knows protocol 1"
    assert guest.read("finished") is None


def test_a_task_that_cannot_be_fetched_is_an_error(ended: dict[str, Guest]) -> None:
    status = ended["missing input"].keys("status")
    assert status["state"] == "error"
    assert status["message"] == "cannot fetch in/missing: No such file or directory"


@pytest.mark.behaviour("B4", "B5")
def test_garbage_changes_nothing(ended: dict[str, Guest]) -> None:
    guest = ended["garbage in the spool"]
    assert guest.read("fraction_done") == "0.5\n"
    assert guest.read("checkpoint") is None
    assert list(guest.keys("creditreport")) == ["cpu_seconds"]
    assert guest.read("finished") == "code 0\n"
    for words in ("fraction_done breaks R15", "checkpoint breaks R1", "creditreport breaks R14", "finished breaks R9"):
        assert guest.log.count(words) == 1
    assert not {".dotted", "stranger"} & {path.name for path in (guest.root / "guest").iterdir()}


def test_links_and_pipes_in_the_spool_are_not_opened(ended: dict[str, Guest]) -> None:
    guest = ended["link in the spool"]
    assert guest.read("fraction_done") is None
    assert "fraction_done is not taken: Too many levels of symbolic links" in guest.log
    assert "checkpoint is not taken: Invalid argument" in guest.log


@pytest.mark.behaviour("B18", "B3")
def test_reports_are_mirrored(ended: dict[str, Guest]) -> None:
    guest = ended["reports"]
    assert guest.read("fraction_done") == "0.375\n"
    assert guest.read("checkpoint") == "count 2\ncpu_seconds 1.5\n"
    credit = guest.keys("creditreport")
    assert credit["fpops"] == "1250000000000"
    assert 0 < float(credit["cpu_seconds"]) < 5


def test_what_a_script_has_started_counts_while_it_runs(guest: Guest) -> None:
    """A script whose child computed for hours used to have no CPU time until the child had ended."""
    guest.program("(while kill -0 $$; do :; done) & wait")
    guest.put("command", RUN)
    guest.start()
    until(lambda: float(guest.keys("creditreport").get("cpu_seconds", 0)) > 1, lambda: guest.read("creditreport"))


@pytest.mark.behaviour("B18", "B5")
def test_the_program_finds_what_the_host_says_of_the_job(ended: dict[str, Guest]) -> None:
    assert ended["init_data"].read("out/s") == "wu_name w, 1 > 0\nx y\n", "as it stands, with its last newline"
    assert ended["broken init_data"].read("out/s") == "bin\nsave\n"
    assert "init_data breaks R14" in ended["broken init_data"].log
    assert ended["no init_data"].read("out/s") == "bin\nsave\n", "an earlier task's is not this one's"


def test_cpu_seconds_are_the_larger_number(ended: dict[str, Guest]) -> None:
    assert ended["more cpu than we saw"].keys("creditreport")["cpu_seconds"] == "4000"


def test_nothing_of_the_program_is_left_running(ended: dict[str, Guest]) -> None:
    pid = int(ended["background"].read("out/pid") or 0)
    until(lambda: has_ended(pid))


@pytest.mark.behaviour("B3")
def test_a_command_without_its_newline_is_taken_after_a_second(ended: dict[str, Guest]) -> None:
    assert ended["comes late"].keys("status")["ack"] == "5"


@pytest.mark.behaviour("B11", "B15")
def test_trickles_that_the_program_left_are_published_in_order_without_gaps(ended: dict[str, Guest]) -> None:
    guest = ended["trickles at the end"]
    numbers = sorted(int(path.suffix[1:]) for path in (guest.root / "guest").glob("trickle_up.*"))
    texts = [guest.read(f"trickle_up.{number}") for number in numbers]
    assert numbers == list(range(1, 40))
    varieties = [f"variety v{n}\n" for n in range(1, 41) if n not in (3, 11)]
    assert texts == [*varieties, "variety unfinished\n"]
    assert "trickle_up.32 breaks R" in guest.log
    assert "trickle_up.33 is not taken" in guest.log


def test_an_upload_at_the_end(ended: dict[str, Guest]) -> None:
    guest = ended["upload at the end"]
    assert guest.read("upload.1") == "name a.txt\n" and guest.read("upload.2") is None
    assert guest.read("out/a.txt") == "early\n"
    assert "upload.1 is not uploaded: b.txt is no output" in guest.log
    assert (guest.root / "spool/uploaded.1").read_text() == "status -108\n"


# ------------------------------------------------------------- runs with a dialogue


@pytest.mark.behaviour("B15")
def test_what_is_not_taken_stays_and_the_rest_waits(guest: Guest) -> None:
    """40 trickles at once: 16 lie in the share, and as many more as the host takes."""
    guest.program(
        "cd $VMBRIDGE_SPOOL; i=0\n"
        'while [ $i -lt 40 ]; do i=$((i+1)); echo "variety v$i" > .t; mv .t trickle_up.$i; done; exec sleep 60'
    )
    guest.put("command", RUN)
    guest.start()

    def lie_there(low: int, high: int) -> bool:
        names = {path.name for path in (guest.root / "guest").glob("trickle_up.*")}
        return names == {f"trickle_up.{number}" for number in range(low, high + 1)}

    until(lambda: lie_there(1, 16))
    guest.put("taken", "trickle_up 3\n")
    until(lambda: lie_there(4, 19))
    guest.put("taken", "trickle_up nonsense\n")
    guest.put("taken", "trickle_up 39\nupload 0\n")
    until(lambda: lie_there(40, 40))
    assert guest.read("trickle_up.40") == "variety v40\n"
    assert [path.name for path in (guest.root / "spool").glob("trickle_up.*")] == ["trickle_up.40"]
    guest.put("taken", "trickle_up 40\n")
    until(lambda: not list((guest.root / "guest").glob("trickle_up.*")))


@pytest.mark.behaviour("B15", "B18")
def test_an_upload_and_its_answer(guest: Guest) -> None:
    guest.program(
        "echo early > a.txt; cd $VMBRIDGE_SPOOL; echo name a.txt > upload.7\n"
        "while [ ! -e uploaded.7 ]; do sleep 0.05; done; read line < uploaded.7; echo variety $line > trickle_up.1\n"
        "exec sleep 60",
        "output a.txt",
    )
    guest.put("command", RUN)
    guest.start()
    until(lambda: guest.read("upload.1") == "name a.txt\n")
    assert guest.read("out/a.txt") == "early\n", "it was complete before it was asked for"
    guest.put("taken", "upload 1\n")
    until(lambda: guest.read("upload.1") is None)
    guest.put("uploaded.1", "status 0\n")
    until(lambda: guest.read("trickle_up.1") == "variety status 0\n")


@pytest.mark.behaviour("B15")
def test_messages_of_the_project_reach_the_spool_once(guest: Guest) -> None:
    guest.program(
        "cd $VMBRIDGE_SPOOL; for i in 1 2; do\n"
        "while [ ! -e trickle_down.$i ]; do sleep 0.05; done; mv trickle_down.$i ../got.$i\n"
        "done; exec sleep 60"
    )
    guest.put("command", RUN)
    guest.put("trickle_down.1", "text one\n")
    guest.start()
    until(lambda: (guest.root / "got.1").exists())
    guest.put("trickle_down.2", "text two\ntext\n")
    until(lambda: (guest.root / "got.2").exists())
    assert (guest.root / "got.2").read_text() == "text two\ntext\n"


def test_a_program_that_begins_again_goes_on_with_the_numbers(guest: Guest) -> None:
    """What the host may have read keeps its number, and what it has not read is not lost."""
    guest.program(
        "cd $VMBRIDGE_SPOOL; ls > ../left; [ -e ../second ] && v=second || v=first; : > ../second\n"
        'echo "variety $v" > .t; mv .t trickle_up.1; exec sleep 60'
    )
    guest.put("command", RUN)
    guest.start()
    until(lambda: guest.read("trickle_up.1") == "variety first\n")
    guest.put("command", "protocol 1\nseq 2\nstate stop\n")
    guest.await_status(state="ready", ack="2")
    guest.put("command", "protocol 1\nseq 3\nstate run\n")
    until(lambda: guest.read("trickle_up.2") == "variety second\n")
    assert guest.read("trickle_up.1") == "variety first\n"
    assert "trickle_up" not in (guest.root / "left").read_text()


# ------------------------------------------------------------------- rests

REST = """
rest() { printf "$1" > $VMBRIDGE_SPOOL/.rest; mv $VMBRIDGE_SPOOL/.rest $VMBRIDGE_SPOOL/temporary_exit; }
await() { until [ -e ../$1 ]; do sleep 0.02; done; }
"""


@pytest.mark.behaviour("B23")
def test_a_program_is_started_again_after_its_rest(guest: Guest) -> None:
    """In the same directory, and its streams go on. What it says while it runs means nothing."""
    guest.program(
        REST + "echo line >> result; echo said; echo 0.5 > $VMBRIDGE_SPOOL/fraction_done\n"
        'if [ ! -e ../second ]; then : > ../second; rest "delay 3\\nmessage no licence\\nnotice 1\\n"\n'
        "echo code 7 > $VMBRIDGE_SPOOL/finished; await go; exit 0; fi; ls $VMBRIDGE_SPOOL > left\n"
        "echo variety v > .t; mv .t $VMBRIDGE_SPOOL/trickle_up.1; echo code 0 > $VMBRIDGE_SPOOL/finished",
        *("output result", "output left", "output out.txt", "stdout out.txt"),
    )
    guest.put("command", RUN)
    guest.start()
    until(lambda: guest.read("fraction_done") == "0.5\n")
    assert guest.read("temporary_exit") is None, "it runs"
    guest.root.joinpath("go").touch()
    until(lambda: guest.read("temporary_exit") is not None)
    rest = guest.keys("temporary_exit")
    assert 0 < float(rest.pop("delay")) <= 3 and rest == {"message": "no licence", "notice": "1"}
    assert guest.wait() == 0
    assert guest.read("finished") == "code 0\n" and guest.read("temporary_exit") is None
    assert guest.read("out/result") == "line\nline\n" and guest.read("out/out.txt") == "said\nsaid\n"
    assert "temporary_exit" not in (guest.read("out/left") or "") and "finished" not in (guest.read("out/left") or "")
    assert guest.read("trickle_up.1") == "variety v\n" and "message" not in guest.keys("status")


@pytest.mark.behaviour("B23")
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ('rest "delay 0\n"; exit 3', "3"),
        ('rest "delay 0\n"; kill -9 $$', "137"),
        ('rest "delay 86401\n"', "0"),
        ('rest "message x\n"; echo code 4 > $VMBRIDGE_SPOOL/finished', "4"),
    ],
    ids=["another status", "killed", "too long", "broken"],
)
def test_any_other_end_is_the_end(guest: Guest, end: str, code: str) -> None:
    guest.program(REST + end.replace("\n", "\\n"))
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == 0
    assert guest.keys("finished")["code"] == code and guest.read("temporary_exit") is None


@pytest.mark.behaviour("B23")
def test_commands_during_a_rest(guest: Guest) -> None:
    """A checkpoint of the machine changes nothing, nothing can be saved, and `stop` ends the rest."""
    guest.program(REST + 'rest "delay 80000\\nmessage no licence\\n"; echo >> ../starts')
    guest.put("command", RUN)
    guest.start()
    guest.await_status(ack="1", state="ready")
    until(lambda: guest.read("temporary_exit") is not None)
    for seq, state, answer in ((2, "prepare", "ack"), (3, "run", "ack"), (4, "save", "refused")):
        guest.put("command", f"protocol 1\nseq {seq}\nstate {state}\n")
        guest.await_status(**{answer: str(seq)}, state="ready")
        assert guest.read("temporary_exit") is not None
    guest.put("command", "protocol 1\nseq 5\nstate stop\n")
    guest.await_status(state="ready", ack="5")
    assert guest.read("temporary_exit") is None
    assert (guest.root / "starts").read_text() == "\n"
    guest.put("command", "protocol 1\nseq 6\nstate run\n")
    until(lambda: (guest.root / "starts").read_text() == "\n\n")
    until(lambda: guest.read("temporary_exit") is not None)
    assert guest.process is not None
    guest.process.terminate()
    assert guest.wait() == 128 + signal.SIGTERM


@pytest.mark.behaviour("B23")
def test_what_was_saved_before_a_rest_is_carried_to_the_host(guest: Guest) -> None:
    guest.program(REST + SAVING + 'save 1; await second; save 2; rest "delay 80000\\n"', *STATE_FILES)
    guest.put("command", RUN)
    guest.start()
    until(lambda: guest.read("saved.1") is not None)
    allow(guest, "second")
    until(lambda: guest.read("temporary_exit") is not None)
    guest.put("command", "protocol 1\nseq 2\nstate save\n")
    time.sleep(0.6)  # time to look at it
    assert guest.keys("status")["ack"] == "1", "the newest cannot go before the host has taken the one before"
    guest.put("taken", "saved 1\n")
    guest.await_status(ack="2", state="ready")
    assert guest.read("saved/state") == "state 2\n" and guest.read("saved.2") is not None


@pytest.mark.behaviour("B23")
def test_a_program_that_only_rests_has_failed(binary: Path, tmp_path: Path) -> None:
    """A hundred times: with a library before it that lets its seconds pass at once, or the test would take as long."""
    source = tmp_path / "quick.c"
    source.write_text(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <time.h>\n"
        "int clock_gettime(clockid_t id, struct timespec *now)\n{\n"
        "    static int (*real)(clockid_t, struct timespec *);\n    static long more;\n"
        '    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");\n'
        "    int error = real(id, now);\n    if (id == CLOCK_REALTIME) now->tv_sec += more += 10;\n"
        "    return error;\n}\n"
    )
    quick = tmp_path / "quick.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(quick), str(source), "-ldl"], check=True)
    wrapper = tmp_path / "agent"
    wrapper.write_text(f'#!/bin/sh\nexec env ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD={quick} {binary} "$@"\n')
    wrapper.chmod(0o755)
    guest = Guest(wrapper, tmp_path / "guest")
    guest.program(REST + 'echo >> starts; rest "delay 0\\n"', "output starts")
    guest.put("command", RUN)
    guest.start()
    try:
        assert guest.wait() == 0
    finally:
        guest.kill()
    assert guest.keys("finished")["code"] == "-226"
    assert guest.read("out/starts") == 101 * "\n"


# -------------------------------------------------------------- the program's own state

SAVING = r"""
say() { echo "count $1" > $VMBRIDGE_SPOOL/.c; mv $VMBRIDGE_SPOOL/.c $VMBRIDGE_SPOOL/checkpoint; }
save() { echo "state $1" > .new; mv .new state; echo "line $1" >> log.txt; say $1; }
await() { until [ -e ../$1 ]; do sleep 0.02; done; }
"""
STATE_FILES = ("checkpoint_file state", "checkpoint_file log.txt", "output log.txt")


def allow(guest: Guest, name: str) -> None:
    """Let a program go on that awaits `name`."""
    guest.root.joinpath(name).touch()


@pytest.mark.behaviour("B21")
def test_the_programs_state_is_carried_to_the_host(guest: Guest) -> None:
    """One set at a time; of what the program saves meanwhile, the newest goes next."""
    guest.program(SAVING + "save 1; await second; save 2; save 3; echo after >> log.txt; exec sleep 60", *STATE_FILES)
    guest.put("command", RUN)
    guest.start()
    until(lambda: guest.read("saved.1") == "file state\nfile log.txt\n")
    assert guest.read("saved/state") == "state 1\n" and guest.read("saved/log.txt") == "line 1\n"
    allow(guest, "second")
    until(lambda: guest.read("checkpoint") == "count 3\n")
    assert guest.read("saved/state") == "state 1\n", "the host may be reading it"
    assert guest.read("saved.2") is None
    guest.put("taken", "saved 1\n")
    until(lambda: guest.read("saved.2") is not None)
    assert guest.read("saved.1") is None
    assert guest.read("saved/state") == "state 3\n"
    assert (guest.read("saved/log.txt") or "").startswith("line 1\nline 2\nline 3\n"), "an output may have grown"
    guest.put("taken", "saved 2\n")
    until(lambda: not list((guest.root / "guest/saved").iterdir()))


def test_a_torn_state_is_not_published(guest: Guest) -> None:
    """The program writes its next state before the last one was copied."""
    guest.program(
        SAVING + "for i in 1 2 3; do await go$i; save $i; sleep 0.1; echo torn $i > state; : > ../torn$i; done\n"
        "await whole; save 4; exec sleep 60",
        *STATE_FILES,
    )
    guest.put("command", RUN)
    guest.start()
    guest.await_status(state="running")
    assert guest.process is not None
    for number in (1, 2, 3):
        guest.process.send_signal(signal.SIGSTOP)
        allow(guest, f"go{number}")
        until((guest.root / f"torn{number}").exists)
        guest.process.send_signal(signal.SIGCONT)
        until(lambda: guest.read("saved/state") == f"torn {number}\n")  # noqa: B023
    guest.await_status(message="the program's state is not kept: state has changed before it was copied")
    assert guest.read("saved.1") is None
    allow(guest, "whole")
    until(lambda: guest.read("saved.1") is not None)
    assert guest.read("saved/state") == "state 4\n"
    until(lambda: "message" not in guest.keys("status"))


def test_a_state_with_a_file_missing_is_not_published(guest: Guest) -> None:
    guest.program(SAVING + "say 1; await go; save 2; exec sleep 60", *STATE_FILES)
    guest.put("command", RUN)
    guest.start()
    guest.await_status(message="the program's state is not kept: cannot open state: No such file or directory")
    assert guest.read("saved.1") is None
    allow(guest, "go")
    until(lambda: guest.read("saved.1") is not None)


@pytest.mark.behaviour("B21")
def test_numbers_that_the_host_knows_are_passed_over(guest: Guest) -> None:
    """As after a restore: the host has a state that is further than ours."""
    guest.put("taken", "saved 2\n")
    guest.program(SAVING + "save 1; await go2; save 2; await go3; save 3; exec sleep 60", *STATE_FILES)
    guest.put("command", RUN)
    guest.start()
    for number in (1, 2):
        until(lambda: guest.read("checkpoint") == f"count {number}\n")  # noqa: B023
        assert not (guest.root / "guest/saved").exists()
        allow(guest, f"go{number + 1}")
    until(lambda: guest.read("saved.3") is not None)
    assert guest.read("saved/state") == "state 3\n"


@pytest.mark.behaviour("B13", "B18")
def test_a_program_is_asked_to_save_its_state(guest: Guest) -> None:
    """The acknowledgement comes when the new state is published, and the program runs on."""
    guest.program(
        SAVING + "save 1\n"
        'n=1; while :; do read asked < $VMBRIDGE_SPOOL/save; if [ "$asked" = 1 ]; then\n'
        "printf 0 1<> $VMBRIDGE_SPOOL/save; n=$((n+1)); save $n; fi\n"
        "sleep 0.05; done",
        *STATE_FILES,
    )
    guest.put("command", RUN)
    guest.start()
    until(lambda: guest.read("saved.1") is not None)
    guest.put("command", "protocol 1\nseq 2\nstate save\n")
    until(lambda: guest.read("checkpoint") == "count 2\n")
    assert guest.keys("status")["ack"] == "1", "it lies in the working directory only"
    guest.put("taken", "saved 1\n")
    guest.await_status(ack="2", state="running")
    assert guest.read("saved/state") == "state 2\n" and guest.read("saved.2") is not None
    until(lambda: (guest.root / "spool/save").read_text() == "0\n")


@pytest.mark.behaviour("B13")
def test_a_task_without_checkpoint_files_cannot_be_asked_to_save(guest: Guest) -> None:
    guest.program("exec sleep 60")
    guest.put("command", RUN)
    guest.start()
    guest.await_status(state="running", ack="1")
    guest.put("command", "protocol 1\nseq 2\nstate save\n")
    guest.await_status(refused="2", ack="1", state="running")


def test_a_stream_that_is_part_of_the_state_goes_on(guest: Guest) -> None:
    guest.put("in/out.txt", "from before\n")
    guest.program("echo more", "stdout out.txt", "input out.txt", "output out.txt", "checkpoint_file out.txt")
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == 0
    assert guest.read("out/out.txt") == "from before\nmore\n"


@pytest.mark.behaviour("B13")
def test_commands(guest: Guest) -> None:
    """Stop, an old command, run again, prepare, and the end by SIGTERM: one program's life."""
    guest.program('trap "" HUP; echo 0.5 > $VMBRIDGE_SPOOL/fraction_done; echo $$ > pid; exec sleep 60')
    guest.put("command", "protocol 1\nseq 4\nstate stop\n")
    guest.start()
    guest.await_status(state="ready", ack="4")
    guest.put("command", "protocol 1\nseq 5\nstate run\n")
    guest.await_status(state="running", ack="5")
    guest.put("command", "protocol 1\nseq 3\nstate stop\n")
    time.sleep(0.6)  # time to look at it
    guest.put("command", "protocol 1\nseq 6\nstate prepare\n")
    guest.await_status(state="running", ack="6")
    guest.put("command", "protocol 1\nseq 7\nstate stop\n")
    guest.await_status(state="ready", ack="7")
    assert guest.read("finished") is None
    assert guest.process is not None
    guest.process.terminate()
    assert guest.wait() == 128 + signal.SIGTERM
    assert guest.log == ""


@pytest.mark.behaviour("B18")
def test_a_state_that_is_saved_knows_its_cpu_time(guest: Guest) -> None:
    """Between two heartbeats the host used to know an older one, and counted the rest twice after a restore."""
    guest.program("while :; do :; done")
    guest.put("command", RUN)
    guest.start()
    guest.await_status(state="running", ack="1")
    guest.put("command", "protocol 1\nseq 2\nstate prepare\n")
    guest.await_status(state="running", ack="2")
    assert float(guest.keys("creditreport")["cpu_seconds"]) >= 0


def test_ready_is_said_before_the_program_is_started(guest: Guest) -> None:
    guest.program('read line; echo "$line" > said', "stdin gate", "output said")
    (guest.root / "work").mkdir()
    os.mkfifo(guest.root / "work" / "gate")  # which holds up the start until somebody writes
    guest.put("command", RUN)
    guest.start()
    guest.await_status(state="ready")
    (guest.root / "work" / "gate").write_text("go on\n")
    assert guest.wait() == 0
    assert guest.read("out/said") == "go on\n"


def test_sigterm_ends_the_program_too(guest: Guest) -> None:
    guest.program("echo $$ > pid; sleep 60 & wait")
    guest.put("command", RUN)
    guest.start()
    guest.await_status(state="running")
    assert guest.process is not None
    pid = guest.pid()
    guest.process.terminate()
    assert guest.wait() == 128 + signal.SIGTERM
    assert not Path(f"/proc/{pid}").exists()


def test_the_program_dies_with_its_agent(guest: Guest) -> None:
    guest.program("echo $$ > pid; exec sleep 60")
    guest.put("command", RUN)
    guest.start()
    guest.await_status(state="running")
    pid = guest.pid()
    guest.kill()
    until(lambda: has_ended(pid))


@pytest.mark.behaviour("B6")
def test_at_most_two_publications_a_second(guest: Guest) -> None:
    guest.program(
        "i=100; work=$PWD; cd $VMBRIDGE_SPOOL\n"
        "until [ -e $work/enough ]; do echo 0.$i > .p; mv .p fraction_done; sleep 0.02; i=$((i+1)); done\n"
        "echo 0.75 > .p; mv .p fraction_done"
    )
    guest.put("command", RUN)
    guest.start()
    assert guest.process is not None
    seen: dict[str, list[float]] = {"fraction_done": [], "status": []}
    end = time.monotonic() + AT_MOST_S
    while guest.process.poll() is None:
        assert time.monotonic() < end, seen
        for name, times in seen.items():
            try:  # the time of writing, not that of seeing: the test may be late
                written = (guest.root / "guest" / name).stat().st_mtime
            except FileNotFoundError:
                continue
            if written not in times:
                times.append(written)
        if len(seen["fraction_done"]) > 3:
            (guest.root / "work" / "enough").touch()
        time.sleep(0.005)
    assert guest.read("fraction_done") == "0.75\n"
    for times in seen.values():
        assert all(third - first > 0.9 for first, third in zip(times, times[2:], strict=False))


def test_a_bad_task_is_an_error_because_nobody_will_mend_it(guest: Guest) -> None:
    guest.put("task", "protocol 1\narg 1\n")
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == 1
    guest.await_status(state="error", message="task breaks R9")


@pytest.fixture
def cramped(guest: Guest) -> Iterator[Callable[[], object]]:
    """Give `guest` a share of 64 KiB; what is passed makes it a larger one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(guest.root / "guest")]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("cannot mount a small file system here")
    try:
        yield lambda: subprocess.run([*mount[:3], "-o", "remount,size=1m", "tmpfs", mount[-1]], check=True)
    finally:
        guest.kill()
        subprocess.run(["umount", str(guest.root / "guest")], check=True)


def test_a_full_share(guest: Guest, cramped: Callable[[], object]) -> None:
    guest.program("head -c 100000 /dev/zero > big", "output big")
    guest.put("command", RUN)
    guest.start()
    guest.await_status(state="running", message="cannot write out/big: No space left on device")
    assert guest.read("finished") is None, "it used to be an error of the task, though it was the host's disk"
    assert list((guest.root / "guest/out").iterdir()) == []
    cramped()
    assert guest.wait() == 0
    assert (guest.root / "guest/out/big").stat().st_size == 100_000


@pytest.mark.behaviour("B21")
def test_a_full_share_does_not_stop_the_program_whose_state_waits(guest: Guest, cramped: Callable[[], object]) -> None:
    guest.program(SAVING + "head -c 100000 /dev/zero > state; say 1; await go; exec sleep 60", "checkpoint_file state")
    guest.put("command", RUN)
    guest.start()
    guest.await_status(state="running", message="cannot write saved/state: No space left on device")
    assert guest.read("saved.1") is None and not list((guest.root / "guest/saved").iterdir())
    allow(guest, "go")
    cramped()
    until(lambda: guest.read("saved.1") is not None)
    assert (guest.root / "guest/saved/state").stat().st_size == 100_000


@pytest.mark.parametrize("arguments", [[], ["--host", "x"], ["--nonsense"], ["stray"]])
def test_a_wrong_command_line(binary: Path, arguments: list[str]) -> None:
    done = subprocess.run([binary, *arguments], capture_output=True, check=False)
    assert done.returncode == 2 and done.stderr


def test_help(binary: Path) -> None:
    done = subprocess.run([binary, "--help"], capture_output=True, text=True, check=True)
    assert "--machine" in done.stdout
