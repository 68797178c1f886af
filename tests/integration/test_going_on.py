"""A job that is quit, killed or loses its machine goes on from its last checkpoint, in a real machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.failures import MOST_FAILURES
from bridge.life import checkpoints
from bridge.slots import look
from bridge.verdict import EXIT_CHILD_FAILED

from ..patience import AT_MOST_S, until
from .conftest import ENVIRONMENT, JobDirectory

# For a job of some seconds: the disk is copied with each second checkpoint, and one comes each second.
APP = [
    sys.executable,
    "-c",
    "from bridge.life import checkpoints; checkpoints.COPY_EVERY, checkpoints.COST_FACTOR = 2, 1.0; "
    "from bridge.app import main; "
    "raise SystemExit(main([]))",
]
STEPS = 30

# What it has in memory (n) and on its disk (out.txt) must stay together, whatever happens. Before its last step it
# waits to be let go: on a busy host it used to come to its end before the checkpoint that a test was waiting for.
COUNTER = f"""
n=0
while [ $n -lt {STEPS} ]; do
    n=$((n + 1))
    echo "step $n" >> out.txt
    awk "BEGIN {{ print $n / {STEPS} }}" > $VMBRIDGE_SPOOL/.new && mv $VMBRIDGE_SPOOL/.new $VMBRIDGE_SPOOL/fraction_done
    [ $n -lt {STEPS - 1} ] || until [ -e /run/vmbridge/host/go ]; do sleep 0.2; done
    sleep 0.1
done
"""
RESULT = "".join(f"step {n}\n" for n in range(1, STEPS + 1))


class App:
    """`vmbridge-app` in one directory, started as often as a test likes; without a client."""

    def __init__(self, job: JobDirectory) -> None:
        self.job = job
        self.path = job.path
        self.stderr = job.path / "stderr.txt"
        self.given = {*os.listdir(job.path), "worker", "job.xml"}

    def start(self) -> subprocess.Popen[str]:
        with self.stderr.open("a") as stderr:
            process = subprocess.Popen(APP, stderr=stderr, text=True, env=ENVIRONMENT, cwd=self.path)
        self.job.started.append(process)
        return process

    def said(self, text: str) -> bool:
        return text in self.stderr.read_text()

    def wait_until_said(self, text: str) -> None:
        until(lambda: self.said(text), self.stderr.read_text)

    def runs(self) -> int:
        """So often has a machine come up."""
        return self.stderr.read_text().count("booting -> running")

    def wait_until_runs(self, times: int) -> None:
        until(lambda: self.runs() >= times, self.stderr.read_text)

    def let_go(self) -> None:
        """Let the program of the machine that runs come to its end."""
        (self.path / "shared/host/go").touch()

    def wait_until_it_prepares(self) -> None:
        command = self.path / "shared/host/command"
        until(lambda: "state prepare" in command.read_text(), self.stderr.read_text)

    def states(self) -> list[str]:
        record = json.loads((self.path / "machine/checkpoints.json").read_text())
        return [state["tag"] for state in record["states"]]

    def finish(self) -> None:
        """Start it once more and let it come to its end, which must be the right one."""
        process, before = self.start(), self.runs()
        until(lambda: self.runs() > before or process.poll() is not None, self.stderr.read_text)
        with suppress(FileNotFoundError):  # a program that does not wait may be through
            self.let_go()
        assert process.wait(timeout=2 * AT_MOST_S) == 0
        assert (self.path / "boinc_finish_called").read_text().startswith("0\n"), self.stderr.read_text()
        assert (self.path / "out.txt").read_text() == RESULT
        left = set(os.listdir(self.path)) - {*self.given, "out.txt", "stderr.txt"}
        assert left == {"boinc_finish_called", ".vmbridge.home"}
        assert self.job.machines() == []


@pytest.fixture
def app(make_job: Callable[..., JobDirectory]) -> App:
    elements = "<copy_file_from_VM>out.txt</copy_file_from_VM><checkpoint_period>1</checkpoint_period>"
    return App(make_job(COUNTER, elements))


def end(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    return process.wait(timeout=AT_MOST_S)


def test_a_job_that_is_quit_again_and_again(app: App) -> None:
    for start in range(2):
        process = app.start()
        app.wait_until_said("running: up" if start == 0 else "restored from")
        assert end(process, signal.SIGTERM) == 0
        assert app.job.machines() == [] and not (app.path / "boinc_finish_called").exists()
        assert not (app.path / "shared").exists()
        assert app.states(), app.stderr.read_text()
    app.finish()


@pytest.mark.parametrize("victim", ["bridge", "machine"])
def test_what_is_killed_goes_on_from_its_last_checkpoint(app: App, victim: str) -> None:
    process = app.start()
    app.wait_until_said("checkpoint checkpoint-1 taken")
    if victim == "bridge":
        end(process, signal.SIGKILL)
        until(lambda: app.job.machines() == [])
    else:
        app.job.machines()[0].kill()
        assert process.wait(timeout=AT_MOST_S) == 0
        assert (app.path / "boinc_temporary_exit").read_text().startswith("300\n")
        (app.path / "boinc_temporary_exit").unlink()
    assert app.states()
    app.finish()
    assert app.said("restored from checkpoint-")


def test_a_bridge_that_is_killed_while_it_saves(app: App) -> None:
    """At moments spread over the whole of a checkpoint, from the command to the record."""
    for start, delay in enumerate((0.0, 0.05, 0.6, 1.1), 1):
        process = app.start()
        app.wait_until_runs(start)  # only then is the command of the last start gone
        app.wait_until_it_prepares()
        time.sleep(delay)
        end(process, signal.SIGKILL)
        until(lambda: app.job.machines() == [])
    app.finish()


def test_a_disk_that_breaks_leaves_its_copy(app: App) -> None:
    process = app.start()
    app.wait_until_said("the machine's disk was copied")
    end(process, signal.SIGKILL)
    until(lambda: app.job.machines() == [])
    [copy] = app.path.glob("machine/*.copy.qcow2")
    disk = app.path / "machine/work.qcow2"
    with disk.open("r+b") as opened:
        opened.write(b"\0" * 65_536)
    assert len(problems := look(app.path).problems) >= 2, problems
    assert look(app.path).checkpoints == [f"{copy.name.partition('.')[0]} (in a copy)"]
    for _ in range(checkpoints.MOST_TRIES):
        assert app.start().wait(timeout=AT_MOST_S) == 0
        (app.path / "boinc_temporary_exit").unlink()
        assert copy.exists()
    app.finish()
    assert app.said(f"a copy of {copy.name.partition('.')[0]} takes its place")


def test_a_checkpoint_that_cannot_be_restored_is_let_go(app: App) -> None:
    process = app.start()
    app.wait_until_said("checkpoint checkpoint-1 taken")
    assert end(process, signal.SIGTERM) == 0
    for start in range(2, 12):  # a quit so soon after a checkpoint may take none of its own
        if len(app.states()) > 1:
            break
        process = app.start()
        app.wait_until_runs(start)
        assert end(process, signal.SIGTERM) == 0
    assert len(app.states()) > 1
    disk = Path(app.path / "machine/work.qcow2")
    newest = app.states()[0]
    subprocess.run(["qemu-img", "snapshot", "-d", newest, disk], check=True)
    app.finish()
    assert app.said(f"{newest} cannot be restored")


def test_a_machine_that_always_fails_ends_the_job_with_its_console(make_job: Callable[..., JobDirectory]) -> None:
    """After its last checkpoint it used to be restored until the client's limit of a hundred starts."""
    crash = "echo 'the model is broken' > /dev/console; until [ -e /run/vmbridge/host/go ]; do sleep 0.1; done"
    app = App(make_job(f"{crash}; poweroff -f", "<checkpoint_period>1</checkpoint_period>"))
    process = app.start()
    app.wait_until_said("checkpoint checkpoint-1 taken")
    app.let_go()
    for start in range(1, MOST_FAILURES + 1):
        assert process.wait(timeout=AT_MOST_S) == (0 if start < MOST_FAILURES else EXIT_CHILD_FAILED)
        if start < MOST_FAILURES:
            reason = (app.path / "boinc_temporary_exit").read_text().split("\n")[1]
            assert reason == "the machine ended before the program had finished: the machine switched itself off"
            (app.path / "boinc_temporary_exit").unlink()
            process = app.start()
            app.wait_until_runs(start + 1)
            app.let_go()
    finished = (app.path / "boinc_finish_called").read_text()
    assert finished.startswith(f"{EXIT_CHILD_FAILED}\n") and "at this point" in finished
    assert app.said("the model is broken")
    assert set(os.listdir(app.path)) == {"worker", "job.xml", "stderr.txt", "boinc_finish_called"}
