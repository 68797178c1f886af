# SPDX-License-Identifier: Apache-2.0
"""The fake BOINC library for Python, as the one file that a program brings along, and as the agent sees it.

A program runs the lines that it reads and answers each, so that no test guesses times.
"""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest_side.python.bundle import bundle

from ..patience import AT_MOST_S, until

DRIVER = """
import sys
from boinc import *
import boinc
for line in sys.stdin:
    try:
        answer = eval(line)
    except boinc.error as trouble:
        answer = trouble.number
    except ValueError:
        answer = "ValueError"
    print(answer, flush=True)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the one file, as `vmbridge library` leaves it."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "boinc.py").write_text(bundle(), encoding="utf-8")
    return folder


class Program:
    """A Python program in a folder of its own, that reports into `spool`."""

    def __init__(self, library: Path, root: Path, source: str = DRIVER, spool: bool = True, period: str = "") -> None:
        self.work, self.spool = root / "work", root / "spool"
        self.work.mkdir(exist_ok=True)
        self.spool.mkdir(exist_ok=True)
        (self.spool / "save").write_text("0\n")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VMBRIDGE_")}
        environment |= {"PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"VMBRIDGE_SPOOL": str(self.spool)} if spool else {}
        environment |= {"VMBRIDGE_CHECKPOINT_PERIOD": period} if period else {}
        self.process = subprocess.Popen(
            [sys.executable, "-c", source],
            cwd=self.work,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def do(self, line: str) -> str:
        """Evaluate one expression there."""
        self.send(line)
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self, *lines: str) -> int:
        out, err = self.process.communicate("".join(line + "\n" for line in lines), timeout=AT_MOST_S)
        self.out, self.err = out, err
        return self.process.returncode

    def read(self, name: str) -> str | None:
        try:
            return (self.spool / name).read_text()
        except FileNotFoundError:
            return None

    def keys(self, name: str) -> dict[str, str]:
        return dict(line.split(" ", 1) for line in (self.read(name) or "").splitlines())

    def names(self) -> list[str]:
        return sorted(os.listdir(self.spool))


@pytest.fixture
def program(library: Path, tmp_path: Path) -> Iterator[Program]:
    made = Program(library, tmp_path)
    yield made
    made.process.kill()
    made.process.communicate()


# The one file


def test_no_two_parts_of_it_have_a_name_in_common() -> None:
    names = Counter(
        target.id if isinstance(target, ast.Name) else ""
        for node in ast.parse(bundle()).body
        for target in (node.targets if isinstance(node, ast.Assign) else [])
    )
    names += Counter(
        node.name for node in ast.parse(bundle()).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_it_needs_nothing_that_debians_smallest_python_lacks() -> None:
    small = {"__future__", "collections", "contextlib", "enum", "functools", "math", "os", "re", "signal", "sys"}
    imported = {
        name
        for node in ast.parse(bundle(), feature_version=(3, 7)).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    assert imported == small | {"threading", "time"}


# Reports


def test_the_first_change_is_told_at_once_and_the_last_one_too(program: Program) -> None:
    program.do("boinc_init()")
    program.do("boinc_fraction_done(0.25)")
    until(lambda: program.read("fraction_done") == "0.25\n", lambda: program.read("fraction_done"))
    program.do("[boinc_fraction_done(i / 200000) for i in range(100001)][:0]")
    until(lambda: program.read("fraction_done") == "0.5\n", lambda: program.read("fraction_done"))
    assert program.do("boinc_get_fraction_done()") == "0.5"
    program.do("boinc_ops_cumulative(1.5e12)")
    until(lambda: float(program.keys("creditreport").get("fpops", 0)) == 1.5e12, lambda: program.keys("creditreport"))


def test_what_cannot_be_told_is_passed_over_and_what_is_out_of_bounds_is_cut(program: Program) -> None:
    program.do("boinc_init()")
    program.do("boinc_fraction_done(7)")
    until(lambda: program.read("fraction_done") == "1.0\n")
    program.do("boinc_fraction_done(float('nan'))")
    assert program.do("boinc_get_fraction_done()") == "7.0"
    program.do("boinc_fraction_done(-3)")
    until(lambda: program.read("fraction_done") == "0.0\n")
    program.do("boinc_ops_cumulative(1e99, -1)")
    until(lambda: "fpops" in program.keys("creditreport"))
    assert float(program.keys("creditreport")["fpops"]) == 1e30


def test_a_program_that_looks_after_others(program: Program) -> None:
    """What was reported for others used to be the program's own fraction, and their checkpoints were none."""
    program.do("boinc_init()")
    program.do("boinc_fraction_done(0.25)")
    program.do("boinc_report_app_status(3, 2, 0.5)")
    until(lambda: program.read("fraction_done") == "0.5\n")
    assert program.do("boinc_get_fraction_done()") == "0.25"
    until(lambda: program.keys("checkpoint").get("count") == "1")
    program.do("boinc_report_app_status(4, 2, 0.75)")
    program.do("boinc_fraction_done(0.875)")
    until(lambda: program.read("fraction_done") == "0.875\n")
    assert program.keys("checkpoint")["count"] == "1"


def test_the_end(program: Program) -> None:
    program.do("boinc_init()")
    assert program.end("boinc_finish(300, 'an é and\\na line')") == 300 & 0xFF
    assert program.read("finished") == "code 300\nmessage an é and?a line\n"
    assert "cpu_seconds" in program.keys("creditreport")
    assert program.read("fraction_done") is None, "it has said nothing of it"


def test_success_is_all_of_the_work(program: Program) -> None:
    program.do("boinc_init()")
    assert program.end("boinc_finish()") == 0
    assert (program.read("finished"), program.read("fraction_done")) == ("code 0\n", "1.0\n")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("boinc_temporary_exit(7200, 'an é and\\na line', True)", "delay 7200.0\nmessage an é and?a line\nnotice 1\n"),
        ("boinc_temporary_exit(-1)", "delay 300.0\nnotice 0\n"),
        ("boinc_temporary_exit(1e10, 1000000 * 'x')", f"delay 300.0\nmessage {1024 * 'x'}\nnotice 0\n"),
        ("boinc_temporary_exit(float('nan'))", "delay 300.0\nnotice 0\n"),
        ("boinc.Task().rest(0, 'busy')", "delay 0.0\nmessage busy\nnotice 0\n"),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
def test_a_program_may_ask_to_be_started_again_later(program: Program, call: str, told: str, begun: bool) -> None:
    if begun:
        program.do("boinc_init()")
        program.do("boinc_fraction_done(0.25)")
    assert program.end(call) == 0
    assert program.read("temporary_exit") == told and program.read("finished") is None
    assert program.read("fraction_done") == ("0.25\n" if begun else None)


def test_a_rest_in_a_task_is_not_its_end(library: Path, tmp_path: Path) -> None:
    source = "import boinc\nwith boinc.task() as task:\n    task.fraction_done = 0.5\n    task.rest(60)\n"
    made = Program(library, tmp_path, source)
    assert made.end() == 0
    assert made.names() == ["creditreport", "fraction_done", "save", "temporary_exit"]
    assert made.read("fraction_done") == "0.5\n"


def test_a_rest_that_cannot_be_told_is_none(program: Program) -> None:
    program.do("boinc_init()")
    (program.spool / "temporary_exit").mkdir()
    assert program.do("boinc_temporary_exit(60)") == "-108"
    assert program.end("boinc_finish()") == 0 and program.read("finished") == "code 0\n"


def test_on_another_thread_the_end_ends_the_process(program: Program) -> None:
    program.do("boinc_init()")
    program.do("__import__('threading').Thread(target=boinc_finish, args=(4,)).start()")
    assert program.process.wait(AT_MOST_S) == 4
    assert program.read("finished") == "code 4\n"


def test_without_the_bridge_all_works_and_nothing_is_written(library: Path, tmp_path: Path) -> None:
    alone = Program(library, tmp_path, spool=False, period="0")
    answers = [
        alone.do(line)
        for line in (
            "boinc_init()",
            "boinc_is_standalone()",
            "boinc_time_to_checkpoint()",
            "boinc_checkpoint_completed()",
            "boinc_send_trickle_up('v', 'text')",
            "boinc_receive_trickle_down()",
            "boinc_fraction_done(0.5)",
        )
    ]
    assert answers == ["None", "1", "1", "None", "None", "None", "None"]
    assert alone.end("boinc_finish(0)") == 0
    assert alone.names() == ["save"] and os.listdir(alone.work) == []


def test_a_spool_that_is_gone_hurts_nobody(library: Path, tmp_path: Path) -> None:
    lost = Program(library, tmp_path)
    lost.do("boinc_init()")
    (lost.spool / "save").unlink()
    lost.spool.rmdir()
    lost.do("boinc_fraction_done(0.5)")
    assert lost.do("boinc_checkpoint_completed()") == "None"
    assert lost.do("boinc_send_trickle_up('v', 'text')") == "-103"
    assert lost.end("boinc_finish(0)") == 0


# Checkpoints and critical sections


def test_a_checkpoint_when_the_period_is_over(library: Path, tmp_path: Path) -> None:
    made = Program(library, tmp_path, period="1000")
    made.do("boinc_init()")
    assert made.do("boinc_time_to_checkpoint()") == "0"
    made.do("boinc_checkpoint_completed()")
    assert made.keys("checkpoint")["count"] == "1"
    assert made.do("boinc._state.__setattr__('period', 0)") == "None"
    made.do("boinc_checkpoint_completed()")
    assert made.do("(boinc_time_to_checkpoint(), boinc_time_to_checkpoint())") == "(1, 1)", "until it is written"
    assert made.keys("checkpoint")["count"] == "2"
    made.end()


@pytest.mark.behaviour("B18")
def test_a_checkpoint_that_the_host_asks_for(program: Program) -> None:
    program.do("boinc_init()")
    assert program.do("boinc_time_to_checkpoint()") == "0"
    (program.spool / "save").write_text("1\n")
    until(lambda: program.do("boinc_time_to_checkpoint()") == "1")
    program.do("boinc_checkpoint_completed()")
    assert program.read("save") == "0\n", "taken back in place, newline and all"
    assert program.do("boinc_time_to_checkpoint()") == "0"


def test_sigterm_waits_for_the_end_of_all_sections(program: Program) -> None:
    program.do("boinc_init()")
    program.do("boinc_begin_critical_section()")
    program.do("boinc_begin_critical_section()")
    program.process.send_signal(signal.SIGTERM)
    until(lambda: program.do("boinc_get_status()['quit_request']") == "1")
    program.do("boinc_end_critical_section()")
    assert program.process.poll() is None
    program.send("boinc_end_critical_section()")
    assert program.process.wait(AT_MOST_S) == -signal.SIGTERM
    assert program.read("finished") is None


def test_sigterm_waits_for_the_checkpoint(library: Path, tmp_path: Path) -> None:
    made = Program(library, tmp_path, period="0")
    made.do("boinc_init()")
    assert made.do("boinc_time_to_checkpoint()") == "1"
    made.process.send_signal(signal.SIGTERM)
    until(lambda: made.do("boinc_get_status()['quit_request']") == "1")
    made.send("boinc_checkpoint_completed()")
    assert made.process.wait(AT_MOST_S) == -signal.SIGTERM
    assert made.keys("checkpoint")["count"] == "1"
    made.process.communicate()


def test_a_program_that_wants_to_end_by_itself(program: Program) -> None:
    assert program.do("boinc_init_options(1, 1, 1, 1, 0, 0, 0)") == "0"
    program.process.send_signal(signal.SIGTERM)
    until(lambda: program.do("boinc_get_status()['quit_request']") == "1")
    assert program.end("boinc_finish(0)") == 0


def test_a_forked_child_reports_nothing_and_ends_at_once(library: Path, tmp_path: Path) -> None:
    source = """
import os, signal, boinc
boinc.boinc_init()
boinc.boinc_fraction_done(0.25)
boinc.boinc_begin_critical_section()
child = os.fork()
if child == 0:
    boinc.boinc_fraction_done(0.9)
    boinc.boinc_checkpoint_completed()
    boinc.boinc_send_trickle_up("v", "child")
    grandchild = os.fork()
    if grandchild == 0:
        boinc.boinc_finish(5)
    print(os.waitpid(grandchild, 0)[1] >> 8, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
print(os.waitpid(child, 0)[1], flush=True)
boinc.boinc_end_critical_section()
boinc.boinc_finish(0)
"""
    made = Program(library, tmp_path, source)
    assert made.end() == 0, made.err
    assert made.out.split() == ["5", str(int(signal.SIGTERM))]
    assert made.names() == ["creditreport", "finished", "fraction_done", "save"]
    assert made.read("finished") == "code 0\n"


# Messages


def test_trickles_up(program: Program) -> None:
    program.do("boinc_init()")
    (program.spool / "trickle_up.7").write_text("variety other\n")
    assert program.do(r"boinc_send_trickle_up('progress', '<a>\r\n\n\tb c \n')") == "None"
    assert program.do("boinc_send_trickle_up('progress', 'two')") == "None"
    assert program.read("trickle_up.8") == "variety progress\ntext <a>\ntext \ntext \tb c \ntext \n"
    assert program.read("trickle_up.9") == "variety progress\ntext two\n"
    assert program.names() == ["save", "trickle_up.7", "trickle_up.8", "trickle_up.9"]


@pytest.mark.parametrize(
    "arguments",
    [
        "'', 'x'",
        r"'a\nb', 'x'",
        "'<v>', 'x'",
        "'v' * 256, 'x'",
        r"'v', 'a\x1bb'",
        r"'v', '\ud800'",
        "'v', 'x' * 1025",
        r"'v', '\n' * 1000",
        r"'v', ('x' * 1000 + '\n') * 60",
    ],
)
def test_a_trickle_that_cannot_be_sent(program: Program, arguments: str) -> None:
    program.do("boinc_init()")
    assert program.do(f"boinc_send_trickle_up({arguments})") == "-178"
    assert program.names() == ["save"]


def test_no_more_trickles_than_may_wait(program: Program) -> None:
    program.do("boinc_init()")
    assert program.do("len([boinc_send_trickle_up('v', 'again') for _ in range(256)])") == "256"
    assert program.do("boinc_send_trickle_up('v', 'again')") == "-103"


def test_trickles_down(program: Program) -> None:
    program.do("boinc_init()")
    assert program.do("boinc_receive_trickle_down()") == "None"
    (program.spool / "trickle_down.10").write_text("text later\n")
    (program.spool / "trickle_down.9").write_text("text <a>\ntext \n")
    assert program.do("boinc_receive_trickle_down()") == "trickle_down_9"
    assert (program.work / "trickle_down_9").read_bytes() == b"<a>\n"
    assert program.do("boinc_receive_trickle_down()") == "trickle_down_9", "until it is deleted"
    (program.work / "trickle_down_9").unlink()
    assert program.do("boinc.Task().receive()") == "later"
    assert program.do("boinc_receive_trickle_down()") == "None"


def test_uploads(program: Program) -> None:
    program.do("boinc_init()")
    (program.work / "out.txt").write_text("x")
    assert program.do("boinc_upload_file('absent')") == "-108"
    assert program.do("boinc_upload_file('../out.txt')") == "-178"
    assert program.do("boinc_upload_status('out.txt')") == "ValueError"
    program.do("boinc_upload_file('out.txt')")
    program.do("boinc_upload_file('out.txt')")
    assert program.read("upload.1") == "name out.txt\n" and program.read("upload.2") is None
    (program.spool / "uploaded.1").write_text("status -108\n")
    assert program.do("boinc_upload_status('out.txt')") == "-108"


def test_what_is_known_of_the_job(program: Program) -> None:
    assert program.do("boinc_parse_init_data_file()") == "-108"
    (program.spool / "init_data").write_text("app_name worker\nwu_cpu_time 12.5\np_fpops 4.1e9\nncpus 3\n")
    program.do("boinc_init()")
    known = ("app_name", "wu_name", "wu_cpu_time", "p_fpops", "ncpus", "fraction_done_end", "checkpoint_period")
    answer = program.do(f"[boinc_get_init_data()[name] for name in {known}]")
    assert answer == "['worker', '', 12.5, 4100000000.0, 3.0, 1.0, 300.0]"
    assert float(program.do("boinc_wu_cpu_time()")) > 12.5
    (program.spool / "init_data").write_text("app_name\x07\n")
    assert program.do("boinc_parse_init_data_file()") == "-108"


def test_names_of_files(program: Program) -> None:
    (program.work / "link").write_text("<soft_link>../../projects/p/x</soft_link>\n")
    (program.work / "plain").write_bytes(b"\xff<soft\n")
    names = "[boinc_resolve_filename(name) for name in ('link', 'plain', 'absent')]"
    assert program.do(names) == "['../../projects/p/x', 'plain', 'absent']"


# The smaller interface


def test_a_task_from_its_begin_to_its_end(library: Path, tmp_path: Path) -> None:
    source = """
import boinc
with boinc.task() as task:
    for step in boinc.progress(range(2, 4), total=4, done=2):
        print(step, task.fraction_done)
        task.ops(step, step)
        if task.checkpoint_due():
            with task.checkpoint("state") as file:
                file.write(str(step))
    print(task.fraction_done)
"""
    made = Program(library, tmp_path, source, period="0")
    assert made.end() == 0, made.err
    assert made.out == "2 -1.0\n3 0.75\n1.0\n"
    assert (made.work / "state").read_text() == "3" and os.listdir(made.work) == ["state"]
    assert made.keys("checkpoint")["count"] == "2"
    assert made.keys("creditreport").items() >= {"fpops": "3.0", "intops": "3.0"}.items()
    assert (made.read("finished"), made.read("fraction_done")) == ("code 0\n", "1.0\n")


@pytest.mark.parametrize(
    ("end", "code", "finished"),
    [
        ("raise ValueError('no\\n such x')", 1, "code 1\nmessage ValueError: no? such x\n"),
        ("import sys; sys.exit(3)", 3, "code 3\n"),
        ("import sys; sys.exit()", 0, "code 0\n"),
        ("import sys; sys.exit('broken')", 1, "code 1\nmessage broken\n"),
        ("boinc.boinc_finish(6, 'why')", 6, "code 6\nmessage why\n"),
    ],
)
def test_how_a_task_may_end(library: Path, tmp_path: Path, end: str, code: int, finished: str) -> None:
    made = Program(library, tmp_path, f"import boinc\nwith boinc.task():\n    {end}\n")
    assert made.end() == code, made.err
    assert made.read("finished") == finished


def test_a_file_that_is_replaced_is_the_old_one_or_the_new_one(library: Path, tmp_path: Path) -> None:
    source = """
import boinc
for content, trouble in (("old", None), ("new", OSError("no room"))):
    try:
        with boinc.replacing("state") as file:
            file.write(content)
            if trouble:
                raise trouble
    except OSError as error:
        print(error)
"""
    made = Program(library, tmp_path, source)
    assert made.end() == 0, made.err
    assert made.out == "no room\n"
    assert (made.work / "state").read_text() == "old" and os.listdir(made.work) == ["state"]
