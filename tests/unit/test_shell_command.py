# SPDX-License-Identifier: Apache-2.0
"""`boinc-guest`, with which a shell script reports: by itself in a spool, and as the agent's program finds it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .test_agent import RUN, Guest, binary, guest

__all__ = ["binary", "guest"]


@dataclass
class Shell:
    """A script's working directory, its spool, and the command."""

    command: Path
    root: Path
    more: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, given: str = "", spool: bool = True) -> int:
        environment = {"VMBRIDGE_SPOOL": str(self.root / "spool")} if spool else {}
        self.done = subprocess.run(
            [self.command, *words],
            cwd=self.root / "work",
            env=environment | self.more,
            input=given,
            capture_output=True,
            text=True,
        )
        return self.done.returncode

    def read(self, name: str) -> str:
        return (self.root / "spool" / name).read_text()

    def names(self) -> list[str]:
        return sorted(name for name in os.listdir(self.root / "spool") if not name.startswith("."))


@pytest.fixture
def shell(binary: Path, tmp_path: Path) -> Shell:
    for folder in ("work", "spool"):
        (tmp_path / folder).mkdir()
    (tmp_path / "boinc-guest").symlink_to(binary)
    (tmp_path / "spool" / "save").write_text("0\n")
    return Shell(tmp_path / "boinc-guest", tmp_path)


def test_reports(shell: Shell) -> None:
    assert shell("fraction-done", "0.4") == 0 and shell.read("fraction_done") == "0.4\n"
    assert shell("ops", "1.5e12") == 0 and shell.read("creditreport") == "fpops 1.5e12\nintops 0\n"
    assert shell("ops", "1.5e12", "7") == 0 and shell.read("creditreport") == "fpops 1.5e12\nintops 7\n"
    assert shell.names() == ["creditreport", "fraction_done", "save"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("frobnicate",),
        ("fraction-done",),
        ("fraction-done", "40%"),
        ("fraction-done", "1.5"),
        ("fraction-done", "0.5", "0.6"),
        ("fraction-done", "0" * 100),
        ("ops", "-1"),
        ("ops", "1\nfpops 2"),
        ("ops", "1", "2\nevil 3"),
        ("ops", "1" * 300),
        ("finish", "bad"),
        ("finish", "1\nmessage x"),
        ("temporary-exit",),
        ("temporary-exit", "-1"),
        ("temporary-exit", "86401"),
        ("temporary-exit", "soon", "why"),
        ("temporary-exit", "1\nnotice 1"),
        ("temporary-exit", "1" * 60),
        ("temporary-exit", "60", "why", "notice"),
        ("temporary-exit", "60", "why", "--notice", "more"),
        ("upload", "../x"),
        ("upload", "absent"),
        ("trickle", "<v>"),
        ("trickle", "v", "absent"),
    ],
)
def test_what_makes_no_sense_is_said_and_not_written(shell: Shell, words: tuple[str, ...]) -> None:
    before = shell.names()
    assert shell(*words) == 2 and shell.done.stderr
    assert shell.names() == before


@pytest.mark.parametrize(
    ("words", "status", "finished"),
    [
        (("0",), 0, "code 0\n"),
        (("300", "an é\nand a line"), 300 & 0xFF, "code 300\nmessage an é?and a line\n"),
        (("-1",), 255, "code -1\n"),
    ],
)
def test_the_end_is_told_and_is_its_own_exit_status(
    shell: Shell, words: tuple[str, ...], status: int, finished: str
) -> None:
    assert shell("finish", *words) == status
    assert shell.read("finished") == finished
    assert ("fraction_done" in shell.names()) == (words[0] == "0")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("60",), "delay 60\nnotice 0\n"),
        (("1.5e3", "an é and\na line"), "delay 1.5e3\nmessage an é and?a line\nnotice 0\n"),
        (("60", "why", "--notice"), "delay 60\nmessage why\nnotice 1\n"),
        (("0", "--notice"), "delay 0\nnotice 1\n"),
        (("86400", "x" * 100_000), f"delay 86400\nmessage {1024 * 'x'}\nnotice 0\n"),
        (("60", b"a\xe9".decode(errors="surrogateescape")), "delay 60\nmessage a?\nnotice 0\n"),
    ],
)
def test_a_script_may_ask_to_be_started_again_later(shell: Shell, words: tuple[str, ...], told: str) -> None:
    assert shell("temporary-exit", *words) == 0 and shell.read("temporary_exit") == told
    assert shell.names() == ["save", "temporary_exit"]


def test_checkpoints(shell: Shell) -> None:
    shell.more["VMBRIDGE_CHECKPOINT_PERIOD"] = "1000"
    assert shell("time-to-checkpoint") == 1, "the period begins with the first question"
    assert shell("time-to-checkpoint") == 1
    shell.more["VMBRIDGE_CHECKPOINT_PERIOD"] = "0"
    assert shell("time-to-checkpoint") == 0
    assert shell("checkpointed") == 0 and shell.read("checkpoint") == "count 1\n"
    assert shell("checkpointed") == 0 and shell.read("checkpoint") == "count 2\n"
    shell.more["VMBRIDGE_CHECKPOINT_PERIOD"] = "1000"
    assert shell("time-to-checkpoint") == 1, "the period begins anew"
    (shell.root / "spool" / ".boinc-guest").write_text("99999999999.5\n")
    assert shell("time-to-checkpoint") == 0, "the clock is another computer start's"


@pytest.mark.behaviour("B18")
def test_a_checkpoint_that_the_host_asks_for(shell: Shell) -> None:
    assert shell("time-to-checkpoint") == 1
    (shell.root / "spool" / "save").write_text("1\n")
    assert shell("time-to-checkpoint") == 0
    assert shell("checkpointed") == 0
    assert shell.read("save") == "0\n" and shell("time-to-checkpoint") == 1


def test_messages(shell: Shell) -> None:
    work = shell.root / "work"
    (work / "news.xml").write_text("<a>\n\tb")
    (work / "out.txt").write_text("x")
    assert shell("trickle", "progress", "news.xml") == 0
    assert shell("trickle", "progress", given="from a pipe\n") == 0
    assert shell("trickle", "progress", given="a\x1bb") == 2
    assert shell("upload", "out.txt") == 0
    assert shell.read("trickle_up.1") == "variety progress\ntext <a>\ntext \tb\n"
    assert shell.read("trickle_up.2") == "variety progress\ntext from a pipe\ntext \n"
    assert shell.read("upload.1") == "name out.txt\n"
    assert shell("receive") == 1
    (shell.root / "spool" / "trickle_down.3").write_text("text orders\n")
    assert shell("receive") == 0 and shell.done.stdout == "trickle_down_3\n"
    assert (work / "trickle_down_3").read_text() == "orders"


def test_without_the_bridge_it_does_nothing(shell: Shell) -> None:
    (shell.root / "work" / "out.txt").write_text("x")
    said = [
        shell(*words, spool=False)
        for words in (
            ("fraction-done", "0.5"),
            ("ops", "1"),
            ("time-to-checkpoint",),
            ("checkpointed",),
            ("trickle", "v"),
            ("upload", "out.txt"),
            ("receive",),
            ("temporary-exit", "60"),
            ("finish", "3"),
        )
    ]
    assert said == [0, 0, 1, 0, 0, 0, 1, 0, 3]
    assert shell.names() == ["save"]


def test_a_spool_that_is_gone_is_told(shell: Shell) -> None:
    (shell.root / "spool" / "save").unlink()
    (shell.root / "spool").rmdir()
    assert shell("fraction-done", "0.5") == 1 and "cannot write" in shell.done.stderr
    assert shell("temporary-exit", "60") == 1
    assert shell("finish", "0") == 1 and shell("finish", "7") == 7


def test_the_agents_program_finds_it(guest: Guest) -> None:
    script = (
        "set -e; boinc-guest fraction-done 0.25; boinc-guest ops 5e9 3; boinc-guest checkpointed\n"
        "echo news | boinc-guest trickle progress\necho result > out; boinc-guest upload out\n"
        "boinc-guest fraction-done 40% || echo refused >> out\nboinc-guest finish 7 'enough of it'"
    )
    guest.program(script, "output out")
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == 0, guest.log
    assert guest.read("finished") == "code 7\nmessage enough of it\n"
    assert guest.read("fraction_done") == "0.25\n" and guest.keys("checkpoint")["count"] == "1"
    assert guest.keys("creditreport").items() >= {"fpops": "5000000000", "intops": "3"}.items()
    assert guest.read("trickle_up.1") == "variety progress\ntext news\ntext \n"
    assert guest.read("upload.1") == "name out\n"


def test_the_agents_program_rests_by_it(guest: Guest) -> None:
    guest.program("[ -e again ] && exec boinc-guest finish 0\n: > again; boinc-guest temporary-exit 0 busy")
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == 0
    assert guest.read("finished") == "code 0\n" and "the program rests" in guest.log


def test_a_command_of_that_name_that_the_guest_has_goes_before(guest: Guest) -> None:
    own = guest.root / "own"
    own.mkdir()
    (own / "boinc-guest").write_text("#!/bin/sh\nexit 9\n")
    (own / "boinc-guest").chmod(0o755)
    guest.program("boinc-guest finish 0", f"env PATH={own}:{os.environ['PATH']}")
    guest.put("command", RUN)
    guest.start()
    assert guest.wait() == 0, guest.log
    assert guest.read("finished") == "code 9\n"
