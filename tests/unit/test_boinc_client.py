# SPDX-License-Identifier: Apache-2.0
"""The agent as a BOINC client: programs that know nothing but BOINC's own way, and what of it reaches the share.

The programs are Python scripts that do what BOINC's library does, or what somebody hostile would. With BOINC's own
library, see ``tests/integration/test_real_boinc.py``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guest_side.build import AGENT_SOURCES

from ..patience import until
from .test_agent import RUN, Guest

LIBRARY = (
    f"#!{sys.executable}\n"
    + r"""
import mmap, os, sys, time

CONTROL, HEARTBEAT, STATUS, UP, DOWN = 0, 4, 5, 6, 7

def until(condition):
    while not condition():
        time.sleep(0.01)

def attach():
    global shared
    file = os.open("boinc_mmap_file", os.O_RDWR)
    assert os.fstat(file).st_size == 8192
    shared = mmap.mmap(file, 8192)

def take():
    attach()
    open("boinc_lockfile", "w").close()

def has(channel):
    return shared[channel * 1024] != 0

def put(channel, text):
    at = channel * 1024
    data = text if isinstance(text, bytes) else text.encode()
    shared[at + 1 : at + 2 + len(data)] = data + b"\0"
    shared[at] = 1

def send(channel, text):
    '''Send, and wait until it was taken.'''
    put(channel, text)
    until(lambda: not has(channel))

def get(channel):
    until(lambda: has(channel))
    at = channel * 1024
    text = bytes(shared[at + 1 : at + 1024]).split(b"\0")[0].decode()
    shared[at] = 0
    return text

def status(cpu, checkpoint, more=""):
    send(STATUS, f"<current_cpu_time>{cpu:e}</current_cpu_time>\n<checkpoint_cpu_time>{checkpoint:e}"
         f"</checkpoint_cpu_time>\n{more}")

def write(name, text):
    with open(name, "w") as file:
        file.write(text)

def finish(code=0, number=None, more=""):
    write("boinc_finish_called", f"{code if number is None else number}\n{more}")
    os.remove("boinc_lockfile")
    sys.exit(code)

def await_file(name):
    until(lambda: os.path.exists(f"../{name}"))
"""
)


def program(guest: Guest, script: str, *task: str) -> None:
    guest.put("in/program", LIBRARY + script)
    guest.put("task", "\n".join(["protocol 1", "program program", *task, ""]))


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("agent") / "agent"
    code = [str(path) for path in AGENT_SOURCES]
    subprocess.run(["cc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", *code, "-o", str(target)], check=True)
    return target


@pytest.fixture
def guest(binary: Path, tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(binary, tmp_path)
    yield guest
    guest.kill()


def allow(guest: Guest, name: str) -> None:
    """Let a program go on that awaits this file."""
    guest.root.joinpath(name).touch()


# ------------------------------------------------------- runs that end by themselves


@dataclass(frozen=True)
class Run:
    """What one agent finds."""

    script: str
    task: tuple[str, ...] = ()
    host: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Guest], None] = lambda guest: None


INIT_DATA = (
    "app_name worker\nwu_name w_1\nresult_name w_1_0\nmajor_version 8\nminor_version 2\nrelease 15\nncpus 3\n"
    "wu_cpu_time 12.5\nfraction_done_start 0.25\nfraction_done_end 0.5\np_fpops 4.1e9\nrsc_memory_bound 3e8\n"
)


def lay_leftovers(guest: Guest) -> None:
    work = guest.root / "work"
    work.mkdir()
    for name in ("boinc_finish_called", "boinc_lockfile", "boinc_temporary_exit", "boinc_ufs_a", "trickle_down_4"):
        (work / name).write_text("9\nold\n\n")
    (work / "stderr.txt").symlink_to("../secret")
    (work / "boinc_mmap_file").symlink_to("../secret")
    (guest.root / "secret").write_text("secret\n")


def lay_own_ending(guest: Guest) -> None:
    (guest.root / "work").mkdir()
    (guest.root / "work/boinc_finish_called").write_text("7")


def lay_secret(guest: Guest) -> None:
    (guest.root / "secret").write_text("<variety>secret</variety>\n9\n")


RUNS = {
    "whole": Run(
        "take(); status(13, 12.5); status(14, 12.5, '<fraction_done>2.5e-1</fraction_done>')\n"
        "status(15, 14.5, '<fraction_done>5e-1</fraction_done>'); status(15.5, 14.5)\n"
        "status(16, 15.75, '<fraction_done>7.5e-1</fraction_done>'); finish(0, more='all done\\n\\n')",
        host={"init_data": INIT_DATA},
    ),
    "nothing known": Run("take(); status(0.5, 0); status(1, 0.75); finish()"),
    "ends between two looks": Run(
        "attach(); put(STATUS, '<checkpoint_cpu_time>1</checkpoint_cpu_time><fraction_done>1</fraction_done>')\n"
        "write('trickle_up.xml', '<variety>last</variety>\\nword'); put(UP, '<have_new_trickle_up/>\\n')\n"
        "write('early.txt', 'early\\n'); write('boinc_ufr_early.txt', '')\n"
        "write('boinc_finish_called', '0\\n')",
        ("output early.txt",),
    ),
    "operations": Run(
        "take(); send(STATUS, '<fpops_per_cpu_sec>1</fpops_per_cpu_sec><fpops_cumulative>1.5e12</fpops_cumulative>'\n"
        "'<intops_cumulative>3e6</intops_cumulative>'); finish()"
    ),
    "code": Run("take(); finish(195, more='bad input\\nnotice\\n')"),
    "negative code": Run("take(); finish(255, -1)"),
    "number without meaning": Run("take(); finish(0, 5)"),
    "finished and crashed": Run("take(); write('boinc_finish_called', '0\\n'); os.abort()"),
    "message is no text": Run("take(); open('boinc_finish_called', 'wb').write(b'0\\n\\xff\\xfe\\n\\n')"),
    "finish file is nothing": Run("take(); write('boinc_finish_called', ''); sys.exit(3)"),
    "leftovers": Run("print(sorted(os.listdir('.')), open('stderr.txt').read())", ("output s", "stdout s")),
    "no program of BOINC's": Run(
        "attach(); time.sleep(1.5); print(bytes(shared) == bytes(8192), os.path.exists('boinc_finish_called'))",
        ("output s", "stdout s"),
    ),
    "own files": Run(
        "print(open('init_data.xml').read(), open('boinc_mmap_file').read(), open('stderr.txt').read())\n"
        "print(open('boinc_finish_called').read(), 'said', file=sys.stderr)",
        (
            "output s",
            "stdout s",
            "input init_data.xml",
            "input boinc_mmap_file",
            "input stderr.txt",
            "checkpoint_file boinc_finish_called",
        ),
        {f"in/{name}": f"own {name}" for name in ("init_data.xml", "boinc_mmap_file", "stderr.txt")},
        prepare=lay_own_ending,
    ),
    "standard error": Run(
        "print('first', file=sys.stderr, flush=True); file = open('stderr.txt', 'a'); os.dup2(file.fileno(), 2)\n"
        "print('second', file=sys.stderr)"
    ),
    "own standard error": Run(
        "file = open('stderr.txt', 'a'); os.dup2(file.fileno(), 2); print('said', file=sys.stderr)",
        ("stderr errors", "output errors"),
    ),
    "many trickles": Run(
        "take()\n"
        "for n in range(3):\n"
        "    write('trickle_up.xml', f'<variety>v{n}</variety>\\n<a>{n}</a>\\n\\n\\tb')\n"
        "    send(UP, '<have_new_trickle_up/>\\n'); assert not os.path.exists('trickle_up.xml')\n"
        "finish()"
    ),
    "bad trickles": Run(
        "take()\n"
        "bad = ['', 'no variety', '<variety>', '</variety><variety>', '<variety>a\\nb</variety>', 'x' * 70000,\n"
        "    '<variety>v</variety>\\n' + 'x' * 2000, '<variety>v</variety>\\n\\0',\n"
        "    '<variety>v</variety>\\n' + 2000 * 'y\\n']\n"
        "for text in bad:\n"
        "    write('trickle_up.xml', text); send(UP, '<have_new_trickle_up/>\\n')\n"
        "    until(lambda: not os.path.exists('trickle_up.xml'))\n"
        "os.symlink('../secret', 'trickle_up.xml'); send(UP, '<have_new_trickle_up/>\\n')\n"
        "until(lambda: not os.path.lexists('trickle_up.xml'))\n"
        "os.mkfifo('trickle_up.xml'); send(UP, '<have_new_trickle_up/>\\n')\n"
        "until(lambda: not os.path.lexists('trickle_up.xml'))\n"
        "write('trickle_up.xml', '<variety>good</variety>'); finish()",
        prepare=lay_secret,
    ),
    "garbage in the channels": Run(
        "take(); status(1, 0, '<fraction_done>0.5</fraction_done>')\n"
        "for word in ('inf', '-1', 'nan', '1e999', '', 'x' * 900):\n"
        "    send(STATUS, f'<fraction_done>{word}<checkpoint_cpu_time>{word}<fpops_cumulative>{word}')\n"
        "send(STATUS, b'\\xff' * 900); shared[5121:6144] = b'<fraction_done>' * 68 + b'xyz'; shared[5120] = 255\n"
        "until(lambda: not has(STATUS)); send(STATUS, '<fraction_done>7</fraction_done>'); finish()"
    ),
    "a pipe as the lock file": Run(
        "attach(); os.mkfifo('boinc_lockfile'); get(HEARTBEAT); status(1, 0, '<fraction_done>0.5</fraction_done>')\n"
        "finish()"
    ),
    "channels cut off": Run(
        "take(); get(HEARTBEAT); os.truncate('boinc_mmap_file', 0); time.sleep(1.2)\n"
        "os.truncate('boinc_mmap_file', 8192)\n"
        "status(1, 0, '<fraction_done>0.5</fraction_done>'); get(HEARTBEAT); finish()"
    ),
    "channels of its own": Run(
        "take(); get(HEARTBEAT); os.remove(os.readlink('boinc_mmap_file')); os.mkfifo(os.readlink('boinc_mmap_file'))\n"
        "os.remove('boinc_mmap_file'); os.mkfifo('boinc_mmap_file'); os.mkfifo('stderr_'); status(1, 1); finish()"
    ),
    "endings that are pipes": Run(
        "take(); os.mkfifo('boinc_finish_called'); os.mkfifo('boinc_temporary_exit'); sys.exit(4)"
    ),
    "endings that are links": Run(
        "take(); os.symlink('../secret', 'boinc_finish_called'); sys.exit(4)", prepare=lay_secret
    ),
}


@pytest.fixture(scope="module")
def ended(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Guest]]:
    guests: dict[str, Guest] = {}
    for name, run in RUNS.items():
        guest = guests[name] = Guest(binary, tmp_path_factory.mktemp("run"))
        run.prepare(guest)
        program(guest, run.script, *run.task)
        for file, text in ({"command": RUN} | run.host).items():
            guest.put(file, text)
        guest.start()
    try:
        for name, guest in guests.items():
            assert guest.wait() == 0, (name, guest.log)
            assert "Traceback" not in (guest.read("stderr") or ""), (name, guest.read("stderr"))
        yield guests
    finally:
        for guest in guests.values():
            guest.kill()


def test_a_whole_run(ended: dict[str, Guest]) -> None:
    """What the client counts from the beginning of the job, the share counts from the start of the machine."""
    guest = ended["whole"]
    assert guest.read("fraction_done") == "0.75\n", "the host scales it"
    assert guest.read("checkpoint") == "count 2\ncpu_seconds 3.25\n"
    assert guest.read("finished") == "code 0\nmessage all done\n"
    assert list(guest.keys("creditreport")) == ["cpu_seconds"]
    assert guest.log == ""


def tags(guest: Guest) -> dict[str, str]:
    """The values of init_data.xml, one a line as libraries of all ages want them."""
    lines = (guest.root / "work/init_data.xml").read_text().splitlines()
    assert lines[0] == "<app_init_data>" and lines[-2:] == ["</host_info>", "</app_init_data>"]
    assert lines.count("<host_info>") == 1
    values = {}
    for line in lines[1:-2]:
        if line != "<host_info>":
            name, rest = line[1:].split(">", 1)
            assert rest.endswith(f"</{name}>")
            values[name] = rest.removesuffix(f"</{name}>")
    return values


def test_what_the_program_can_know(ended: dict[str, Guest]) -> None:
    values = tags(ended["whole"])
    expected = {
        "app_name": "worker",
        "wu_name": "w_1",
        "result_name": "w_1_0",
        "major_version": "8",
        "minor_version": "2",
        "release": "15",
        "ncpus": "3",
        "p_fpops": "4.1e9",
        "rsc_memory_bound": "3e8",
        "fraction_done_start": "0",
        "fraction_done_end": "1",
        "shm_key": "-1",
        "slot": "0",
        "gpu_device_num": "-1",
    }
    assert expected.items() <= values.items()
    assert float(values["wu_cpu_time"]) == 12.5 and float(values["checkpoint_period"]) == 300
    assert int(values["client_pid"]) > 1 and float(values["m_nbytes"]) > 1e6
    assert not {"authenticator", "user_name", "team_name", "host_cpid"} & values.keys()


def test_where_nothing_is_known(ended: dict[str, Guest]) -> None:
    values = tags(ended["nothing known"])
    assert values["major_version"] == "7" and float(values["wu_cpu_time"]) == 0 and int(values["ncpus"]) > 0
    assert "wu_name" not in values
    assert ended["nothing known"].read("checkpoint") == "count 1\ncpu_seconds 0.75\n"


def test_the_last_words_are_heard(ended: dict[str, Guest]) -> None:
    """Also of a program that never saw us, and of a trickle that it had no time to tell."""
    guest = ended["ends between two looks"]
    assert guest.read("fraction_done") == "1\n" and guest.read("checkpoint") == "count 1\ncpu_seconds 1\n"
    assert guest.read("trickle_up.1") == "variety last\ntext word\n"
    assert guest.read("upload.1") == "name early.txt\n"


def test_operations(ended: dict[str, Guest]) -> None:
    credit = ended["operations"].keys("creditreport")
    assert (credit["fpops"], credit["intops"]) == ("1500000000000", "3000000")


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("code", "195", "bad input"),
        ("negative code", "-1", None),
        ("number without meaning", "0", None),
        ("finished and crashed", "134", "killed by signal 6 (Aborted)"),
        ("message is no text", "0", None),
        ("finish file is nothing", "3", None),
        ("endings that are pipes", "4", None),
        ("endings that are links", "4", None),
        ("leftovers", "0", None),
    ],
)
def test_how_the_program_ended(ended: dict[str, Guest], name: str, code: str, message: str | None) -> None:
    finished = ended[name].keys("finished")
    assert (finished["code"], finished.get("message")) == (code, message)


def test_what_an_earlier_program_has_left_is_gone(ended: dict[str, Guest]) -> None:
    names = [".stderr", "boinc_mmap_file", "init_data.xml", "program", "s", "stderr.txt"]
    assert ended["leftovers"].read("out/s") == f"{names} \n"


def test_a_program_that_knows_no_client_is_left_alone(ended: dict[str, Guest]) -> None:
    guest = ended["no program of BOINC's"]
    assert guest.read("out/s") == "True False\n"
    assert guest.log == ""


def test_files_of_the_task_are_not_touched(ended: dict[str, Guest]) -> None:
    guest = ended["own files"]
    assert guest.read("out/s") == "own init_data.xml own boinc_mmap_file own stderr.txt\n"
    assert guest.read("stderr") == "7 said\n"


def test_what_the_library_writes_is_the_standard_error(ended: dict[str, Guest]) -> None:
    assert ended["standard error"].read("stderr") == "first\nsecond\n"
    assert ended["own standard error"].read("out/errors") == ended["own standard error"].read("stderr") == "said\n"


def test_trickles(ended: dict[str, Guest]) -> None:
    guest = ended["many trickles"]
    texts = [guest.read(f"trickle_up.{n}") for n in (1, 2, 3, 4)]
    assert texts == [f"variety v{n}\ntext <a>{n}</a>\ntext \ntext \tb\n" for n in range(3)] + [None]


def test_trickles_that_cannot_be_sent(ended: dict[str, Guest]) -> None:
    guest = ended["bad trickles"]
    assert guest.log.count("trickle_up.xml is no message that can be sent") == 11
    assert guest.read("trickle_up.1") == "variety good\ntext \n" and guest.read("trickle_up.2") is None


def test_garbage_changes_nothing(ended: dict[str, Guest]) -> None:
    guest = ended["garbage in the channels"]
    assert guest.read("fraction_done") == "1\n", "7 is more than all"
    assert guest.read("checkpoint") is None


@pytest.mark.parametrize("name", ["a pipe as the lock file", "channels cut off"])
def test_strange_files_stop_nobody(ended: dict[str, Guest], name: str) -> None:
    assert ended[name].read("fraction_done") == "0.5\n"


def test_channels_that_the_program_replaces(ended: dict[str, Guest]) -> None:
    assert ended["channels of its own"].read("checkpoint") == "count 1\ncpu_seconds 1\n"


# ------------------------------------------------------------- runs with a dialogue


def test_an_upload_and_its_answer(guest: Guest) -> None:
    program(
        guest,
        "take(); write('a.txt', 'early'); write('boinc_ufr_a.txt', ''); write('boinc_ufr_b.txt', '')\n"
        "send(UP, '<have_new_upload_file/>\\n'); assert not os.path.exists('boinc_ufr_a.txt')\n"
        "told = get(DOWN); write('../told', told + open('boinc_ufs_a.txt').read()); time.sleep(60)",
        "output a.txt",
    )
    guest.put("command", RUN)
    guest.start()
    until(lambda: guest.read("upload.1") == "name a.txt\n")
    assert guest.read("out/a.txt") == "early" and guest.read("upload.2") is None
    guest.put("uploaded.1", "status -224\n")
    told = guest.root / "told"
    until(lambda: told.exists() and told.read_text() == "<upload_file_status/>\n<status>-224</status>\n")


def test_a_trickle_waits_until_there_is_room_for_it(guest: Guest) -> None:
    """Until then the program is not told that it was taken."""
    program(
        guest,
        "spool = os.environ['VMBRIDGE_SPOOL']\n"
        "for n in range(1, 301): write(f'{spool}/trickle_up.{n}', f'variety v{n}\\n')\n"
        "take(); write('trickle_up.xml', '<variety>last</variety>'); put(UP, '<have_new_trickle_up/>\\n')\n"
        "get(HEARTBEAT); get(HEARTBEAT); write('../waits', str(has(UP) and os.path.exists('trickle_up.xml')))\n"
        "until(lambda: not has(UP)); write('../taken', str(os.path.exists('trickle_up.xml'))); time.sleep(60)",
    )
    guest.put("command", RUN)
    guest.start()
    until((guest.root / "waits").exists)
    guest.put("taken", "trickle_up 60\n")
    until(lambda: (guest.root / "taken").exists())
    until(lambda: (guest.root / "taken").read_text())
    assert (guest.root / "waits").read_text() == "True" and (guest.root / "taken").read_text() == "False"
    assert (guest.root / "spool/trickle_up.301").exists()


def test_messages_of_the_project(guest: Guest) -> None:
    """All of them arrive, also while the program does not listen."""
    program(
        guest,
        "take(); await_file('both'); told = get(DOWN)\n"
        "until(lambda: os.path.exists('trickle_down_1') and os.path.exists('trickle_down_2'))\n"
        "write('../told', told + open('trickle_down_1').read() + '|' + open('trickle_down_2').read()); time.sleep(60)",
    )
    guest.put("command", RUN)
    guest.put("trickle_down.1", "text one\n")
    guest.start()
    spool = guest.root / "spool"
    until((guest.root / "work/trickle_down_1").exists)
    guest.put("trickle_down.2", "text two\ntext\n")
    until((guest.root / "work/trickle_down_2").exists)
    assert not list(spool.glob("trickle_down.*"))
    allow(guest, "both")
    until(lambda: (guest.root / "told").exists())
    assert (guest.root / "told").read_text() == "<have_trickle_down/>\none|two\n"


def test_a_heart_beats(guest: Guest) -> None:
    program(guest, "take(); write('../told', get(HEARTBEAT)); get(HEARTBEAT); write('../again', ''); time.sleep(60)")
    guest.put("command", RUN)
    guest.start()
    until((guest.root / "again").exists)
    text = (guest.root / "told").read_text()
    assert text.startswith("<heartbeat/><wss>") and text.endswith("</max_wss>")
    assert 1e5 < float(text.split("<wss>")[1].split("<")[0]) < float(text.split("<max_wss>")[1].split("<")[0])


STOP = "protocol 1\nseq 2\nstate stop\n"


@pytest.mark.behaviour("B13")
def test_a_program_that_is_stopped_comes_out_of_its_critical_section(guest: Guest) -> None:
    """It used to get SIGTERM at once, which kills a program of BOINC's wherever it is."""
    program(
        guest,
        "take(); status(1, 0); word = get(CONTROL); write('half', ''); time.sleep(1); os.rename('half', 'whole')\n"
        "write('../told', word); sys.exit(0)",
    )
    guest.put("command", RUN)
    guest.start()
    until(lambda: (guest.root / "work/boinc_lockfile").exists())
    until(lambda: "ack" in guest.keys("status"))
    guest.put("command", STOP)
    guest.await_status(state="ready", ack="2")
    assert (guest.root / "told").read_text() == "<quit/>\n" and (guest.root / "work/whole").exists()
    assert guest.read("finished") is None


@pytest.mark.behaviour("B13")
def test_a_program_that_does_not_listen_is_ended(guest: Guest) -> None:
    program(
        guest,
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (write('../told', str(has(CONTROL))), os._exit(0)))\n"
        "take(); write('pid', f'{os.getpid()}\\n'); time.sleep(60)",
    )
    guest.put("command", RUN)
    guest.start()
    until(lambda: (guest.root / "work/pid").exists())
    guest.await_status(state="running", ack="1")
    guest.put("command", STOP)
    guest.await_status(state="ready", ack="2")
    assert (guest.root / "told").read_text() == "True"


def test_a_local_agent_that_ends_lets_the_program_quit(guest: Guest) -> None:
    program(guest, "take(); get(HEARTBEAT); write('ready', ''); get(CONTROL); write('../told', 'quit'); sys.exit(0)")
    guest.put("command", RUN)
    guest.start()
    until((guest.root / "work/ready").exists)
    assert guest.process is not None
    guest.process.send_signal(signal.SIGTERM)
    assert guest.wait() == 128 + signal.SIGTERM
    assert (guest.root / "told").read_text() == "quit"


@pytest.mark.behaviour("B21")
def test_the_programs_state_is_carried_to_the_host(guest: Guest) -> None:
    """A checkpoint is what the client takes for one; the program says no more than its CPU time at that moment."""
    program(
        guest,
        "take(); write('state', 'one'); status(2, 1); await_file('second')\n"
        "write('new', 'two'); os.rename('new', 'state')\n"
        "status(3, 2.5); time.sleep(60)",
        "checkpoint_file state",
    )
    guest.put("command", RUN)
    guest.start()
    until(lambda: guest.read("saved.1") == "file state\ncpu_seconds 1\n")
    assert guest.read("saved/state") == "one"
    guest.put("taken", "saved 1\n")
    allow(guest, "second")
    until(lambda: guest.read("saved.2") == "file state\ncpu_seconds 2.5\n")
    assert guest.read("saved/state") == "two"


def test_a_program_that_starts_again_counts_on(guest: Guest) -> None:
    program(
        guest,
        "take(); line = [line for line in open('init_data.xml') if 'wu_cpu_time' in line][0]\n"
        "cpu = float(line.split('>')[1].split('<')[0])\n"
        "end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
        "status(cpu + 1, cpu); status(cpu + 2, cpu + 1)\n"
        "write(f'../{cpu > 12.7}', ''); get(CONTROL); sys.exit(0)",
    )
    guest.put("init_data", INIT_DATA)
    guest.put("command", RUN)
    guest.start()
    until((guest.root / "False").exists)
    guest.put("command", STOP)
    guest.await_status(state="ready", ack="2")
    guest.put("command", "protocol 1\nseq 3\nstate run\n")
    until((guest.root / "True").exists)
    until(lambda: abs(float(guest.keys("checkpoint").get("cpu_seconds", 0)) - 1) < 0.001)
    assert guest.keys("checkpoint")["count"] == "1"


@pytest.mark.behaviour("B23")
def test_a_program_that_ends_without_a_word_is_started_again(guest: Guest) -> None:
    """So the client does it: an exit with 0 is no end if the library has not said so."""
    program(
        guest,
        "take(); print('start', file=sys.stderr)\n"
        "if not os.path.exists('begun'): write('begun', ''); sys.exit(0)\n"
        "finish(0, more='at last\\n\\n')",
    )
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == 0
    assert guest.read("finished") == "code 0\nmessage at last\n"
    assert guest.read("stderr") == "start\nstart\n"
    assert "the program has ended without saying that it has finished" in guest.log


@pytest.mark.behaviour("B23")
@pytest.mark.parametrize(
    ("text", "delay", "message", "notice"),
    [
        ("1000\nwait for me\n", 1000, "wait for me", None),
        ("86400\nlook here\nnotice\n", 86400, "look here", "1"),
        ("86401\ntoo long\n\n", 300, "too long", None),
        ("soon\nno number\n", 300, "no number", None),
    ],
)
def test_a_temporary_exit(guest: Guest, text: str, delay: int, message: str, notice: str | None) -> None:
    """It goes before the end, as with the client."""
    program(
        guest,
        f"take(); write('boinc_temporary_exit', {text!r}); write('boinc_finish_called', '0\\n'); sys.exit(0)",
    )
    guest.put("command", RUN)
    guest.start()
    until(lambda: guest.read("temporary_exit") is not None)
    said = guest.keys("temporary_exit")
    assert delay - 150 < float(said["delay"]) <= delay
    assert (said["message"], said.get("notice")) == (message, notice)
    assert guest.read("finished") is None


@pytest.mark.behaviour("B23")
def test_a_temporary_exit_without_a_reason(guest: Guest) -> None:
    """The client does not wait for one that gives none: the program is started again at once."""
    program(
        guest,
        "take()\nif os.path.exists('begun'): finish()\n"
        "write('begun', ''); write('boinc_temporary_exit', '80000\\n'); sys.exit(0)",
    )
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == 0
    assert guest.read("finished") == "code 0\n"


def test_nothing_of_this_disturbs_where_the_disk_is_not_ours(guest: Guest) -> None:
    """A working directory in which links cannot be made: there is a word of it, and the program runs."""
    if os.geteuid() != 0:
        pytest.skip("a small file system is mounted only by root")
    work = guest.root / "work"
    work.mkdir()
    (work / "stderr.txt").mkdir()
    (work / "boinc_mmap_file").mkdir()
    (work / "init_data.xml").mkdir()
    program(guest, "print('ran', file=sys.stderr)")
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == 0
    assert guest.read("stderr") == "ran\n" and "cannot write init_data.xml: Is a directory" in guest.log
