"""The stand-in for the client: every row of what the client concludes, what it takes from a message, how it starts."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from ..standin import Conclusion, End, Kind, StandIn
from ..standin.client import Sent
from ..standin.conclusion import ERR_TOO_MANY_EXITS, TaskState, conclude, conclude_at_start
from ..standin.data_directory import NEW, OLD, Version, init_data
from ..standin.memory import CONTROL, file_memory
from ..standin.task import Task, take_status

FINISHED = "0\ndone\n\n"
POSTPONED = "60\nthe lock is held\n\n"


@pytest.mark.parametrize("status", [0, 1, 194, 206, -signal.SIGKILL, -signal.SIGSEGV])
@pytest.mark.parametrize("files", [(None, None), (FINISHED, None), (None, POSTPONED)])
def test_after_an_abort_or_a_quit_nothing_that_the_process_leaves_counts(
    status: int, files: tuple[str | None, str | None]
) -> None:
    finish, temporary = files
    for state, end in ((TaskState.ABORT_PENDING, End.ABORTED), (TaskState.QUIT_PENDING, End.LATER)):
        assert conclude(status, finish_file=finish, temporary_exit=temporary, state=state) == Conclusion(end)


@pytest.mark.parametrize(
    ("status", "finish", "temporary", "expected"),
    [
        (0, FINISHED, None, Conclusion(End.SUCCESS, reason="done")),
        (0, "5\n", None, Conclusion(End.SUCCESS)),  # the number does not count while the client runs
        (0, "", None, Conclusion(End.SUCCESS)),
        (0, "0\nline 2\n", None, Conclusion(End.SUCCESS)),  # a message needs a third line
        (0, "0\nlook\nnotice\n", None, Conclusion(End.SUCCESS, reason="look", notice=True)),
        (0, None, None, Conclusion(End.PREMATURE_EXIT)),
        (7, None, None, Conclusion(End.ERROR, code=7)),
        (206, "206\nbroken\n\n", None, Conclusion(End.ERROR, code=206)),
        (7, FINISHED, None, Conclusion(End.ERROR, code=7)),
        (0, None, POSTPONED, Conclusion(End.TEMPORARY_EXIT, delay_s=60, reason="the lock is held")),
        (3, None, POSTPONED, Conclusion(End.TEMPORARY_EXIT, delay_s=60, reason="the lock is held")),
        (0, FINISHED, POSTPONED, Conclusion(End.TEMPORARY_EXIT, delay_s=60, reason="the lock is held")),
        (0, None, "60\nwhy\nnotice\n", Conclusion(End.TEMPORARY_EXIT, delay_s=60, reason="why", notice=True)),
        (0, None, f"60\n{'x' * 254}\nnotice\n", Conclusion(End.TEMPORARY_EXIT, 0, 60, "x" * 254, notice=True)),
        (0, None, f"60\n{'x' * 255}\nnotice\n", Conclusion(End.TEMPORARY_EXIT, 0, 60, "x" * 255)),
        (0, f"0\n{'x' * 1022}\nnotice\n", None, Conclusion(End.SUCCESS, reason="x" * 1022, notice=True)),
        (0, f"0\n{'x' * 1023}\nnotice\n", None, Conclusion(End.SUCCESS, reason="x" * 1023)),
        (0, None, "60\n\n", Conclusion(End.TEMPORARY_EXIT, delay_s=60)),
        (0, None, "60\n", Conclusion(End.PREMATURE_EXIT)),  # no reason, no exit: the delay is lost
        (9, None, "60\n", Conclusion(End.ERROR, code=9)),
        (0, None, "86400\nx\n", Conclusion(End.TEMPORARY_EXIT, delay_s=86_400, reason="x")),
        (0, None, "86401\nx\n", Conclusion(End.TEMPORARY_EXIT, delay_s=300, reason="x")),
        (0, None, "-1\nx\n", Conclusion(End.TEMPORARY_EXIT, delay_s=300, reason="x")),
        (0, None, "soon\nx\n", Conclusion(End.TEMPORARY_EXIT, delay_s=300, reason="x")),
    ],
)
def test_an_exit_and_the_files_beside_it(
    status: int, finish: str | None, temporary: str | None, expected: Conclusion
) -> None:
    assert conclude(status, finish_file=finish, temporary_exit=temporary) == expected


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM", "SIGSTOP"])
def test_a_signal_that_people_send_restarts_the_job_silently(name: str) -> None:
    assert conclude(-signal.Signals[name]) == Conclusion(End.RESTART)
    assert conclude(-signal.Signals[name], temporary_exit=POSTPONED) == Conclusion(End.RESTART)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE"])
def test_a_signal_of_a_crash_is_an_error(name: str) -> None:
    concluded = conclude(-signal.Signals[name], finish_file=FINISHED)
    assert (concluded.end, concluded.code) == (End.ERROR, signal.Signals[name])


def test_too_many_exits_without_a_checkpoint() -> None:
    for temporary, expected in ((None, End.PREMATURE_EXIT), (POSTPONED, End.TEMPORARY_EXIT)):
        assert conclude(0, temporary_exit=temporary, premature_exits=99).end is expected
        concluded = conclude(0, temporary_exit=temporary, premature_exits=100)
        assert concluded == Conclusion(End.ERROR, code=ERR_TOO_MANY_EXITS)
    assert conclude(-signal.SIGTERM, premature_exits=100).end is End.RESTART


@pytest.mark.parametrize(
    ("text", "end", "code"),
    [
        (FINISHED, End.SUCCESS, 0),
        ("1\nx\n\n", End.RESTART, 0),
        ("2\n", End.RESTART, 0),
        ("9\n", End.RESTART, 0),
        ("15\n", End.RESTART, 0),
        ("5\nx\n\n", End.ERROR, 5),
        ("195\nx\n\n", End.ERROR, 67),
        ("127\nx\n\n", End.ERROR, 127),
        ("256\n", End.ERROR, 1),
        ("", End.SUCCESS, 0),
    ],
)
def test_a_client_that_starts_takes_the_number_in_a_finish_file_for_a_wait_status(
    text: str, end: End, code: int
) -> None:
    concluded = conclude_at_start(text)
    assert (concluded.end, concluded.code) == (end, code)


def status(**fields: object) -> str:
    return "".join(f"<{tag}>{value}</{tag}>\n" for tag, value in fields.items())


def test_a_missing_cpu_time_is_zero_and_a_changed_one_is_a_checkpoint() -> None:
    task = take_status(Task(), status(current_cpu_time=5, checkpoint_cpu_time=2))
    assert (task.current_cpu_time, task.checkpoint_cpu_time, task.checkpoints) == (5, 2, 1)
    assert take_status(task, status(current_cpu_time=6, checkpoint_cpu_time=2)).checkpoints == 1
    bogus = take_status(task, status(fraction_done=0.5))
    assert (bogus.current_cpu_time, bogus.checkpoint_cpu_time, bogus.checkpoints) == (0, 0, 2)
    assert take_status(task, status(current_cpu_time=-5, checkpoint_cpu_time="nan")).current_cpu_time == 0


def test_a_fraction_of_zero_keeps_the_old_one() -> None:
    task = take_status(Task(), status(fraction_done="4.2e-01"))
    assert task.fraction_done == 0.42
    assert take_status(task, status(fraction_done=0)).fraction_done == 0.42
    assert take_status(task, "").fraction_done == 0.42
    assert take_status(task, status(fraction_done="inf")).fraction_done == 0.42
    assert take_status(task, status(fraction_done=1.5)).fraction_done == 1.5


def test_operations_are_taken_and_memory_only_by_newer_clients() -> None:
    text = status(fpops_cumulative="1e12", intops_cumulative=7, wss="5e8", want_network=1)
    old, new = take_status(Task(), text), take_status(Task(), text, version=(8, 2))
    assert (old.fpops_cumulative, old.intops_cumulative, old.want_network) == (1e12, 7, True)
    assert (old.wss, new.wss) == (None, 5e8)


@pytest.mark.parametrize("pid", [0, -1])
def test_a_pid_that_would_kill_the_client_is_never_taken(pid: int) -> None:
    with pytest.raises(AssertionError, match="own group"):
        take_status(Task(), status(current_cpu_time=1, checkpoint_cpu_time=1, other_pid=pid))


@pytest.mark.parametrize(("version", "tags"), [(OLD, {"proxy_info"}), (NEW, {"plan_class", "niu_cpu_usage_limit"})])
def test_each_client_writes_its_own_tags(version: Version, tags: set[str]) -> None:
    text = init_data(version, {"slot": 3, "wu_cpu_time": 12.5})
    assert {tag for tag in ("proxy_info", "plan_class", "niu_cpu_usage_limit") if f"<{tag}>" in text} == tags
    assert "<slot>3</slot>\n" in text and "<wu_cpu_time>12.500000</wu_cpu_time>\n" in text
    assert "<app_name>molecules & more</app_name>\n" in text, "not escaped"
    assert text.endswith("</app_init_data>\n")


def test_a_message_that_has_not_been_read_is_never_written_over(tmp_path: Path) -> None:
    with file_memory(tmp_path) as memory:
        assert memory.send(CONTROL, "<suspend/>") and not memory.send(CONTROL, "<quit/>")
        assert memory.receive(CONTROL) == "<suspend/>" and memory.receive(CONTROL) is None
        assert (tmp_path / "boinc_mmap_file").stat().st_size == 8192


APPLICATION = """\
#!{python}
import mmap, os, sys, time
memory = mmap.mmap(os.open("boinc_mmap_file", os.O_RDWR), 8192)
def say(text):
    while memory[5120]:
        time.sleep(0.001)
    memory[5121:5122 + len(text)] = text.encode() + b"\\0"
    memory[5120] = 1
say("<current_cpu_time>3</current_cpu_time>\\n<checkpoint_cpu_time>1</checkpoint_cpu_time>\\n")
open("seen", "w").write("\\n".join([sys.argv[0], os.getcwd(), os.environ["LD_LIBRARY_PATH"], str(os.getpgrp())]))
print("to nobody")
print("to the project", file=sys.stderr, flush=True)
{rest}
"""
UNTIL_ORDERED = """\
orders = []
while True:
    if memory[0]:
        orders.append(bytes(memory[1:1024]).partition(b"\\0")[0].decode())
        memory[0] = 0
        if "quit" in orders[-1]:
            break
    time.sleep(0.01)
    if not os.path.exists("hurry") and len(orders) == 1:
        time.sleep(0.5)
open("orders", "w").write(" ".join(orders))
"""


def start(client: StandIn, rest: str) -> str:
    program = client.directory.program(APPLICATION.format(python=sys.executable, rest=rest), "app_1")
    client.start(program)
    return program


def test_a_program_is_started_as_the_client_starts_it(tmp_path: Path) -> None:
    with StandIn(tmp_path / "data") as client:
        program = start(client, "open('boinc_finish_called', 'w').write('0\\nwell\\n\\n')")
        assert client.wait() == Conclusion(End.SUCCESS, reason="well")
        seen = (client.slot / "seen").read_text().splitlines()
        group = client.body.pid
    assert seen[0] == program.replace("//", "/") and seen[1] == str(tmp_path / "data" / "slots" / "0")
    assert seen[2].startswith("../../projects/project.example.org_vm:.:../..") and seen[3] == str(group)
    assert client.stderr() == "to the project\n", "and standard output goes nowhere"
    assert client.task == Task(3, 1, checkpoints=1)
    assert client.started_ns < client.statuses()[0].at_ns < time.monotonic_ns()


def test_orders_wait_for_each_other_and_an_order_that_waits_is_taken_back_by_its_opposite(tmp_path: Path) -> None:
    with StandIn(tmp_path / "data") as client:
        start(client, UNTIL_ORDERED)
        for order in ("suspend", "reread_app_info", "suspend", "resume", "quit"):
            client.order(order)
        (client.slot / "hurry").touch()
        assert client.wait() == Conclusion(End.LATER)
        assert (client.slot / "orders").read_text() == "<suspend/> <reread_app_info/> <quit/>"
    assert [one.order for one in client.sent] == ["suspend", "reread_app_info", "quit"]
    assert all(isinstance(one, Sent) and one.read_ns and one.read_ns >= one.at_ns for one in client.sent)


def test_a_next_start_begins_at_the_last_checkpoint(tmp_path: Path) -> None:
    with StandIn(tmp_path / "data", kind=Kind.FILE) as client:
        (client.slot / "boinc_temporary_exit").write_text(POSTPONED)
        start(client, "os.kill(os.getpid(), 15)")
        assert client.wait() == Conclusion(End.RESTART) and client.status == -signal.SIGTERM
        assert client.read("boinc_temporary_exit") is None, "the client removes an old one"
        start(client, "sys.exit(4)")
        assert client.wait() == Conclusion(End.ERROR, code=4)
        assert "<wu_cpu_time>1.000000</wu_cpu_time>" in (client.read("init_data.xml") or "")


def test_a_broken_rule_is_not_overlooked(tmp_path: Path) -> None:
    with StandIn(tmp_path / "data") as client:
        start(client, "say('<other_pid>0</other_pid>'); time.sleep(0.5)")
        with pytest.raises(AssertionError, match="own group"):
            client.wait()
        client._broken_rule = None
