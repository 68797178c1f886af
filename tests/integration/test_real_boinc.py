"""A program that is linked with BOINC's own library, as Debian ships it, runs under our agent as it is."""

from __future__ import annotations

import re
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import REPOSITORY
from ..patience import until
from ..unit.test_agent import RUN, Guest
from .conftest import BOINC_DEV, JobDirectory
from .test_going_on import App, end

AGENT = REPOSITORY / "build/guest/x86_64/agent"
HEADERS = BOINC_DEV / "usr/include/boinc"
LIBRARIES = BOINC_DEV / "usr/lib/x86_64-linux-gnu"
STEPS = 40

# A chain of numbers that no step can be left out of. Half-way it waits for a word of the project, if it is told to.
PROGRAM = r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <unistd.h>
#include "boinc_api.h"
#include "filesys.h"

static long n = 0;
static unsigned long long value = 1;

static void save() {
    FILE *file = fopen("state.new", "w");
    fprintf(file, "%ld %llu\n", n, value);
    fclose(file);
    boinc_rename("state.new", "state");
    boinc_checkpoint_completed();
}

static void work() {
    for (clock_t end = clock() + CLOCKS_PER_SEC / 30; clock() < end;)
        ;
    value = value * 6364136223846793005ULL + 1442695040888963407ULL;
    n++;
}

static void critical() {
    boinc_begin_critical_section();
    fclose(fopen("half", "w"));
    sleep(2);
    rename("half", "whole");
    boinc_end_critical_section();
}

static void send(std::string name) {
    char variety[] = "progress", text[] = "<half>1</half>\nlines";
    FILE *file = fopen(name.c_str(), "w");
    fprintf(file, "early\n");
    fclose(file);
    boinc_send_trickle_up(variety, text);
    boinc_upload_file(name);
}

static bool waits(std::string early) {
    char name[256];
    if (!boinc_receive_trickle_down(name, sizeof name) || boinc_upload_status(early) != 0)
        return true;
    boinc_delete_file(name);
    return false;
}

int main(int argc, char **argv) {
    long steps = atol(argv[1]);
    std::string input, early = "early.txt", mode = argc > 2 ? argv[2] : "";
    char line[64] = "";
    APP_INIT_DATA known;
    BOINC_STATUS status;

    boinc_init();
    boinc_get_init_data(known);
    boinc_resolve_filename_s("input.txt", input);
    FILE *file = boinc_fopen(input.c_str(), "r");
    if (file == NULL || fgets(line, sizeof line, file) == NULL)
        boinc_finish_message(3, "no input", false);
    fclose(file);
    if ((file = fopen("state", "r")) != NULL) {
        fscanf(file, "%ld %llu", &n, &value);
        fclose(file);
    }
    fprintf(stderr, "standalone %d, name %s, period %g, input %s", boinc_is_standalone(), known.wu_name,
        known.checkpoint_period, line);
    fprintf(stderr, "goes on from %ld\n", n);
    while (n < steps) {
        if (n == steps / 2 && mode == "talk")
            for (send(early); waits(early);)
                usleep(10000);
        work();
        boinc_fraction_done((double) n / steps);
        if (boinc_time_to_checkpoint() || n % 10 == 0)
            save();
        if (n == steps / 2 && mode == "critical")
            critical();
    }
    boinc_get_status(&status);
    fprintf(stderr, "memory is known: %d\n", status.working_set_size > 1e5 && status.max_working_set_size > 1e7);
    file = fopen("out.txt", "w");
    fprintf(file, "%ld %llu\n", n, value);
    fclose(file);
    boinc_finish_message(0, "all steps done", false);
}
"""


def result() -> str:
    value = 1
    for _ in range(STEPS):
        value = (value * 6364136223846793005 + 1442695040888963407) % (1 << 64)
    return f"{STEPS} {value}\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with `worker` and with what it needs to start, in `libraries.tar.gz`."""
    if not HEADERS.is_dir():
        pytest.fail(f"there is no {HEADERS}: run `make integration`")
    folder = tmp_path_factory.mktemp("worker")
    (folder / "worker.cpp").write_text(PROGRAM)
    libraries = [f"-L{LIBRARIES}", "-lboinc_api", "-lboinc", "-lpthread", f"-Wl,-rpath,{LIBRARIES}"]
    words = ["c++", "-O1", "-w", f"-I{HEADERS}", "worker.cpp", "-o", "worker", *libraries]
    subprocess.run(words, check=True, cwd=folder)
    listed = subprocess.run(["ldd", "worker"], cwd=folder, check=True, capture_output=True, text=True).stdout
    with tarfile.open(folder / "libraries.tar.gz", "w:gz", dereference=True, compresslevel=1) as archive:
        for path in re.findall(r"/\S+", listed):
            archive.add(path, Path(path).name)
    return folder


@pytest.fixture
def make_guest(program: Path, tmp_path: Path) -> Iterator[Callable[..., Guest]]:
    guests: list[Guest] = []

    def make(*arguments: str) -> Guest:
        guest = Guest(AGENT, tmp_path / str(len(guests)))
        guests.append(guest)
        (guest.root / "host/in/worker").write_bytes((program / "worker").read_bytes())
        guest.put("in/input.txt", "an input\n")
        lines = ["input input.txt", "output out.txt", "output early.txt", "checkpoint_file state"]
        task = ["protocol 1", "program worker", *(f"arg {word}" for word in arguments), *lines, "checkpoint_period 60"]
        guest.put("task", "\n".join([*task, ""]))
        guest.put("init_data", "wu_name w_1\nwu_cpu_time 1000.5\n")
        guest.put("command", RUN)
        return guest

    yield make
    for guest in guests:
        guest.kill()


def saved(guest: Guest, number: int) -> tuple[str, int]:
    """Return the state that the program has saved half-way, and how many it was seen to save. Of two that it saves
    within the second in which the library tells nothing, one is seen.
    """
    until(lambda: guest.read(f"saved.{number}") is not None)
    state = guest.read("saved/state") or ""
    if state.startswith(f"{STEPS // 2} "):
        return state, number
    guest.put("taken", f"saved {number}\n")
    return saved(guest, number + 1)


def test_a_whole_life(make_guest: Callable[..., Guest]) -> None:
    first = make_guest(str(STEPS), "talk")
    first.start()
    until(lambda: first.read("fraction_done") == "0.5\n")
    state, count = saved(first, 1)
    assert (
        first.keys("checkpoint")["count"] == str(count) and 0.1 < float(first.keys("checkpoint")["cpu_seconds"]) < 100
    )
    until(lambda: first.read("trickle_up.1") == "variety progress\ntext <half>1</half>\ntext lines\n")
    until(lambda: first.read("upload.1") == "name early.txt\n")
    assert first.read("out/early.txt") == "early\n"
    first.kill()

    second = make_guest(str(STEPS), "talk")
    second.put("in/state", state)
    second.put("task", (second.root / "host/task").read_text() + "input state\n")
    second.start()
    until(lambda: second.read("upload.1") is not None)
    second.put("uploaded.1", "status 0\n")
    second.put("trickle_down.1", "text go on\n")
    assert second.wait() == 0
    assert second.read("finished") == "code 0\nmessage all steps done\n"
    assert second.read("out/out.txt") == result()
    stderr = second.read("stderr") or ""
    assert "standalone 0, name w_1, period 60, input an input\ngoes on from 20\nmemory is known: 1\n" in stderr
    assert "called boinc_finish(0)" in stderr
    assert second.log == ""


def test_a_critical_section(make_guest: Callable[..., Guest]) -> None:
    guest = make_guest(str(STEPS), "critical")
    guest.start()
    until((guest.root / "work/half").exists)
    guest.put("command", "protocol 1\nseq 2\nstate stop\n")
    guest.await_status(state="ready", ack="2")
    assert (guest.root / "work/whole").exists() and not (guest.root / "work/half").exists()
    assert not (guest.root / "work/boinc_lockfile").exists(), "the library has removed it"


def test_in_a_machine(program: Path, make_job: Callable[..., JobDirectory]) -> None:
    """It is quit half-way, and goes on from a checkpoint of the machine."""
    start = (
        'libs=$VMBRIDGE_PACKAGES/libraries.tar.gz\nexec "$libs/ld-linux-x86-64.so.2" --library-path "$libs" ./program'
    )
    elements = (
        "<copy_file_to_VM>program</copy_file_to_VM><copy_file_to_VM>input.txt</copy_file_to_VM>"
        "<package>libraries.tar.gz</package><copy_file_from_VM>out.txt</copy_file_from_VM>"
        "<checkpoint_filename>state</checkpoint_filename><checkpoint_period>1</checkpoint_period>"
    )
    job = make_job(f"{start} {STEPS}", elements)
    (job.path / "program").write_bytes((program / "worker").read_bytes())
    (job.path / "libraries.tar.gz").write_bytes((program / "libraries.tar.gz").read_bytes())
    (job.path / "input.txt").write_text("an input\n")
    app = App(job)
    process = app.start()
    app.wait_until_said("what the program has saved itself is kept")
    assert end(process, signal.SIGTERM) == 0
    assert app.start().wait() == 0
    assert (app.path / "boinc_finish_called").read_text().startswith("0\n"), app.stderr.read_text()
    assert (app.path / "out.txt").read_text() == result()
    assert app.said("restored from")
