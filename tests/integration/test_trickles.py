"""Trickles and an upload from a program in a real machine to the client and back; nothing twice when we are killed."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.client.app_ipc import SIZE, AppIpc

from ..conftest import REPOSITORY
from ..patience import AT_MOST_S
from .conftest import ENVIRONMENT, JobDirectory

APP = [sys.executable, "-c", "from bridge.app import main; raise SystemExit(main(['--trickle', '600']))"]
GUEST = REPOSITORY / "build" / "guest"

# What it does after "ready" lies behind the checkpoint that is taken while it waits for "go".
PROGRAM = r"""
#include "boinc_api.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void wait_for(const char *text)
{
    char name[64], line[64] = "";
    while (!boinc_receive_trickle_down(name, sizeof name))
        usleep(50000);
    FILE *file = fopen(name, "r");
    if (!file || !fgets(line, sizeof line, file) || strcmp(line, text))
        boinc_finish(3);
    fclose(file);
    remove(name);
}

static void say(const char *text)
{
    if (boinc_send_trickle_up("test", text))
        boinc_finish(4);
}

int main(void)
{
    boinc_init();
    say("ready");
    wait_for("go\n");
    say("one\n");
    say("two\n\n");
    say("three");
    FILE *early = fopen("early.txt", "w");
    fputs("early\n", early);
    fclose(early);
    if (boinc_upload_file("early.txt"))
        boinc_finish(5);
    while (boinc_upload_status("early.txt") == -161)
        usleep(50000);
    if (boinc_upload_status("early.txt"))
        boinc_finish(6);
    FILE *out = fopen("out.txt", "w");
    fputs("done\n", out);
    fclose(out);
    say("last");
    boinc_finish(0);
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "worker.c").write_text(PROGRAM)
    link = [f"-I{GUEST / 'include'}", f"-L{GUEST / os.uname().machine}", "-lboinc_api", "-lpthread"]
    subprocess.run(["cc", "-O1", "-static", "-o", folder / "worker", folder / "worker.c", *link], check=True)
    return folder / "worker"


class Client:
    """The client's side of one slot, as far as this job sees it; it looks whenever a test waits for something."""

    def __init__(self, job: JobDirectory) -> None:
        self.job = job
        self.slot = job.path
        self.stderr = self.slot / "stderr.txt"
        self.got: list[str] = []
        self.uploads: list[str] = []
        file = self.slot / "boinc_mmap_file"
        file.write_bytes(bytes(SIZE))
        with file.open("r+b") as opened:
            self.memory = mmap.mmap(opened.fileno(), SIZE)
        self.ipc = AppIpc(memoryview(self.memory))
        (self.slot / "init_data.xml").write_text(
            "<app_init_data>\n<major_version>7</major_version>\n<result_name>job_0</result_name>\n"
            f"<slot>0</slot>\n<client_pid>{os.getpid()}</client_pid>\n<shm_key>-1</shm_key>\n"
            "<checkpoint_period>1.0</checkpoint_period>\n</app_init_data>\n"
        )

    def start(self) -> subprocess.Popen[str]:
        self.memory[:] = bytes(SIZE)
        with self.stderr.open("a") as stderr:
            process = subprocess.Popen(APP, stderr=stderr, text=True, env=ENVIRONMENT, cwd=self.slot)
        self.job.started.append(process)
        return process

    def look(self) -> None:
        """What the client does once a second, more often."""
        self.ipc.heartbeat.send("<heartbeat/>")
        self.ipc.app_status.receive()
        message = self.ipc.trickle_up.receive() or b""
        file = self.slot / "trickle_up.xml"
        if b"<have_new_trickle_up/>" in message and file.exists():
            self.got.append(file.read_text())
            file.unlink()
        if b"<have_new_upload_file/>" in message:
            for request in self.slot.glob("boinc_ufr_*"):
                self.uploads.append(request.name[len("boinc_ufr_") :])
                request.unlink()

    def until(self, condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
        deadline = time.monotonic() + AT_MOST_S
        while not condition():
            assert time.monotonic() < deadline, self.stderr.read_text()
            assert process is None or process.poll() is None, self.stderr.read_text()
            self.look()
            time.sleep(0.05)

    def checkpoints(self) -> int:
        return self.stderr.read_text().count(" taken, the machine stood still")

    def message(self, text: str) -> None:
        (self.slot / ".new").write_text(text)
        (self.slot / ".new").rename(self.slot / "trickle_down_1700000000")
        self.ipc.trickle_down.send("<have_trickle_down/>\n")

    def answer(self) -> None:
        (self.slot / "boinc_ufs_early.txt").write_text("<status>0</status>\n")
        self.ipc.trickle_down.send("<upload_file_status/>\n")


def texts(*trickles: str) -> list[str]:
    return [f"<variety>test</variety>\n{text}" for text in trickles]


@pytest.fixture
def client(make_job: Callable[..., JobDirectory], program: Path, tmp_path: Path) -> Iterator[Client]:
    slot = tmp_path / "slots/0"
    slot.mkdir(parents=True)
    (tmp_path / "projects/p").mkdir(parents=True)
    (slot / "early.txt").write_text("<soft_link>../../projects/p/job_0_r0</soft_link>\n")
    elements = "<copy_file_from_VM>early.txt</copy_file_from_VM><copy_file_from_VM>out.txt</copy_file_from_VM>"
    client = Client(make_job(program, elements, directory=slot))
    yield client
    client.ipc = AppIpc(memoryview(bytearray(SIZE)))


def test_all_of_it_once_although_the_bridge_is_killed(client: Client) -> None:
    process = client.start()
    client.until(lambda: client.got, process)
    client.until(client.checkpoints, process)
    client.message("go\n")
    client.until(lambda: len(client.got) >= 3 and client.uploads, process)
    process.send_signal(signal.SIGKILL)
    process.wait(AT_MOST_S)
    client.until(lambda: client.job.machines() == [])
    assert (client.slot.parent.parent / "projects/p/job_0_r0").read_text() == "early\n", "resolved, and whole"

    process = client.start()
    client.until(lambda: "restored from" in client.stderr.read_text(), process)
    client.answer()
    client.until(lambda: process.poll() is not None)
    assert process.returncode == 0, client.stderr.read_text()
    assert (client.slot / "boinc_finish_called").read_text().startswith("0\n")
    assert client.got == texts("ready", "one\n", "two\n\n", "three", "last"), "the last one before the finish file"
    assert client.uploads == ["early.txt"]
    assert (client.slot / "out.txt").read_text() == "done\n"
    assert (client.slot / "early.txt").read_text().startswith("<soft_link>")
    left = {name for name in os.listdir(client.slot) if name.startswith(".")}
    assert left == {".vmbridge.home", ".vmbridge.trickle_down.1"}


def test_without_a_client_they_are_told(make_job: Callable[..., JobDirectory]) -> None:
    """Also: what a program in no language of ours can do, with echo and mv."""
    program = (
        "echo early > early.txt; cd $VMBRIDGE_SPOOL\n"
        "echo name early.txt > .u; mv .u upload.1\n"
        "while [ ! -e uploaded.1 ]; do sleep 0.1; done\n"
        "for i in 1 2 3; do printf 'variety v%s\\ntext hello\\n' $i > .t; mv .t trickle_up.$i; done\n"
    )
    job = make_job(program, "<copy_file_from_VM>early.txt</copy_file_from_VM>")
    done = job.run()
    assert done.returncode == 0, done.stderr
    for line in ("upload 1: early.txt", *(f"trickle {n} to the project, v{n}: hello" for n in (1, 2, 3))):
        assert done.stderr.count(line) == 1, done.stderr
    assert (job.path / "early.txt").read_text() == "early\n"
    assert "result:      " in done.stdout and "early.txt" in done.stdout
    assert job.left() == []
