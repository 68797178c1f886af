# SPDX-License-Identifier: Apache-2.0
"""The fake BOINC library, seen as a science program and an agent see it.

Small C programs are linked with the library and write into a spool; a
``step`` of theirs is a line on standard input, so that no test guesses times.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from guest_side import SOURCES, include_dir
from guest_side.build import LIBRARY_SOURCES, BuildError, build_library

from ..patience import AT_MOST_S, until
from ..sanitized import compiled

PROGRAM = r"""
#include "boinc_api.h"
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_t thread_goes, thread_went;
static void *in_thread(void *unused) {
    boinc_begin_critical_section(); sem_post(&thread_went);
    sem_wait(&thread_goes);
    boinc_end_critical_section(); boinc_end_critical_section(); sem_post(&thread_went);
    return unused;
}
static volatile sig_atomic_t own_handler;
static void on_term(int number) { own_handler = number; }

static pthread_t main_thread;
static void on_signal(int number) {
    (void)number;
    _exit(pthread_equal(pthread_self(), main_thread) ? 7 : 8);
}

int main(void) {
    char word[64], name[64], small[4];
    double a, b;
    main_thread = pthread_self();
    while (scanf("%63s", word) == 1) {
        if (!strcmp(word, "init")) printf("%d\n", boinc_init());
        else if (!strcmp(word, "fraction")) { scanf("%lf", &a); printf("%d\n", boinc_fraction_done(a)); }
        else if (!strcmp(word, "nan")) printf("%d\n", boinc_fraction_done(NAN));
        else if (!strcmp(word, "get")) printf("%.17g\n", boinc_get_fraction_done());
        else if (!strcmp(word, "ops")) { scanf("%lf %lf", &a, &b); boinc_ops_cumulative(a, b); puts("0"); }
        else if (!strcmp(word, "due")) printf("%d\n", boinc_time_to_checkpoint());
        else if (!strcmp(word, "checkpoint")) printf("%d\n", boinc_checkpoint_completed());
        else if (!strcmp(word, "standalone")) printf("%d\n", boinc_is_standalone());
        else if (!strcmp(word, "hot")) {
            scanf("%lf", &a);
            for (long i = 0; i < (long)a; i++) {
                boinc_fraction_done((double)i / a); boinc_ops_cumulative((double)i, 1);
            }
            puts("0");
        }
        else if (!strcmp(word, "same")) {
            scanf("%lf", &a);
            for (long i = 0; i < (long)a; i++) boinc_fraction_done(0.5);
            puts("0");
        }
        else if (!strcmp(word, "fork")) {
            pid_t child = fork(); int status;
            if (child == 0) {
                boinc_fraction_done(0.9); boinc_checkpoint_completed(); boinc_send_trickle_up("v", "child");
                usleep(600000); fclose(stdin); boinc_finish(3);
            }
            waitpid(child, &status, 0);
            printf("%d\n", WEXITSTATUS(status));
        }
        else if (!strcmp(word, "resolve")) {
            scanf("%63s", word); int rc = boinc_resolve_filename(word, name, sizeof name);
            printf("%d %s\n", rc, name);
        }
        else if (!strcmp(word, "resolve_bad")) {
            int null = boinc_resolve_filename(NULL, name, sizeof name);
            strcpy(small, "xyz");
            int cut = boinc_resolve_filename("long_name", small, sizeof small);
            printf("%d %d [%s]\n", null, cut, small);
        }
        else if (!strcmp(word, "trickle")) {
            scanf("%63s %63s", word, name); printf("%d\n", boinc_send_trickle_up(word, name));
        }
        else if (!strcmp(word, "lines")) printf("%d\n", boinc_send_trickle_up("v", "<a>\r\n\n\tb c \n"));
        else if (!strcmp(word, "flood")) {
            scanf("%lf", &a); int sent = 0;
            for (long i = 0; i < (long)a; i++) sent += boinc_send_trickle_up("v", "again") == 0;
            printf("%d\n", sent);
        }
        else if (!strcmp(word, "bad_trickles")) {
            char *big = malloc(70000);
            printf("%d %d", boinc_send_trickle_up(NULL, "x"), boinc_send_trickle_up("v", NULL));
            printf(" %d %d", boinc_send_trickle_up("", "x"), boinc_send_trickle_up("a\nb", "x"));
            printf(" %d %d", boinc_send_trickle_up("v", "a\033b"), boinc_send_trickle_up("v", "\xe9t\xe9"));
            memset(big, 'x', 69999); big[69999] = 0; big[1025] = 0;
            printf(" %d", boinc_send_trickle_up("v", big));
            big[1025] = 'x';
            for (int i = 1000; i < 69999; i += 1001) big[i] = '\n';
            printf(" %d", boinc_send_trickle_up("v", big));
            memset(big, '\n', 1500); big[1500] = 0;
            printf(" %d\n", boinc_send_trickle_up("v", big));
            free(big);
        }
        else if (!strcmp(word, "down")) {
            strcpy(name, "-"); int rc = boinc_receive_trickle_down(name, sizeof name);
            printf("%d %s\n", rc, name);
        }
        else if (!strcmp(word, "down_short")) printf("%d\n", boinc_receive_trickle_down(small, sizeof small));
        else if (!strcmp(word, "upload")) { scanf("%63s", word); printf("%d\n", boinc_upload_file(word)); }
        else if (!strcmp(word, "uploaded")) { scanf("%63s", word); printf("%d\n", boinc_upload_status(word)); }
        else if (!strcmp(word, "init_options")) {
            BOINC_OPTIONS o = {0, 1, 1, 1, 1, 1, 0, 0};
            scanf("%d %d %d", &o.main_program, &o.handle_process_control, &o.direct_process_action);
            printf("%d\n", boinc_init_options(&o));
        }
        else if (!strcmp(word, "begin")) { boinc_begin_critical_section(); puts("0"); }
        else if (!strcmp(word, "end")) { boinc_end_critical_section(); puts("0"); }
        else if (!strcmp(word, "thread_begin")) {
            pthread_t thread;
            sem_init(&thread_goes, 0, 0); sem_init(&thread_went, 0, 0);
            pthread_create(&thread, NULL, in_thread, NULL); sem_wait(&thread_went); puts("0");
        }
        else if (!strcmp(word, "thread_end")) { sem_post(&thread_goes); sem_wait(&thread_went); puts("0"); }
        else if (!strcmp(word, "handle")) { signal(SIGTERM, on_term); puts("0"); }
        else if (!strcmp(word, "handled")) printf("%d\n", (int)own_handler);
        else if (!strcmp(word, "fork_term")) {
            pid_t child; int status;
            boinc_begin_critical_section();
            if ((child = fork()) == 0) { boinc_begin_critical_section(); for (;;) pause(); }
            kill(child, SIGTERM); waitpid(child, &status, 0); boinc_end_critical_section();
            printf("%d\n", WTERMSIG(status));
        }
        else if (!strcmp(word, "status")) {
            BOINC_STATUS s; memset(&s, 'x', sizeof s);
            int rc = boinc_get_status(&s);
            printf("%d %d %d%d%d%d%d %g\n", rc, s.quit_request, s.no_heartbeat, s.suspended, s.reread_init_data_file,
                   s.abort_request, s.network_suspended, s.working_set_size + s.max_working_set_size);
        }
        else if (!strcmp(word, "parse")) printf("%d\n", boinc_parse_init_data_file());
        else if (!strcmp(word, "names")) {
            struct APP_INIT_DATA d; boinc_get_init_data_p(&d);
            printf("%s|%s|%s|%s|%s%s%s%s\n", d.app_name, d.wu_name, d.result_name, d.project_dir, d.authenticator,
                   d.user_name, d.team_name, d.project_preferences ? "!" : "");
        }
        else if (!strcmp(word, "numbers")) {
            struct APP_INIT_DATA d; boinc_get_init_data_p(&d);
            printf("%d %d.%d.%d ", d.app_version, d.major_version, d.minor_version, d.release);
            printf("%.17g %.17g %.17g %.17g ", d.ncpus, d.rsc_fpops_est, d.rsc_memory_bound, d.wu_cpu_time);
            printf("%.17g %.17g ", d.fraction_done_end, d.checkpoint_period);
            printf("%.17g %.17g ", d.host_info.p_fpops, d.host_info.p_iops);
            printf("%d %d\n", d.userid + d.teamid + d.hostid + d.slot, d.gpu_device_num);
        }
        else if (!strcmp(word, "times")) {
            double cpu; boinc_wu_cpu_time(&cpu);
            printf("%.3f %.3f %.3f\n", cpu, boinc_worker_thread_cpu_time(), boinc_elapsed_time());
        }
        else if (!strcmp(word, "locale")) printf("%d\n", setlocale(LC_ALL, "") != NULL);
        else if (!strcmp(word, "signal")) { signal(SIGUSR1, on_signal); puts("0"); fflush(stdout); for (;;) pause(); }
        else if (!strcmp(word, "rest")) {
            scanf("%lf %63s", &a, word); printf("%d\n", boinc_temporary_exit((int)a, word, a > 3600)); fflush(stdout);
        }
        else if (!strcmp(word, "rest_bad")) {
            char *big = malloc(1000001);
            memset(big, 'x', 1000000); strcpy(big + 1000000, ""); memcpy(big, "\xe9\n\x1b[", 4);
            boinc_temporary_exit(-1, big, 0);
        }
        else if (!strcmp(word, "rest_silently")) boinc_temporary_exit(0, NULL, 0);
        else if (!strcmp(word, "finish")) { scanf("%lf", &a); boinc_finish((int)a); }
        fflush(stdout);
    }
    return 99;
}
"""

CC = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Wno-unused-result"]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    build_library(folder)
    return folder


@pytest.fixture(scope="session")
def binary(library: Path) -> Path:
    source = library / "program.c"
    source.write_text(PROGRAM)
    return compiled(library / "program", [source, *LIBRARY_SOURCES], f"-I{include_dir()}")


class Program:
    """One running program; ``do`` lets it take one step and returns its answer."""

    running: ClassVar[list[subprocess.Popen[str]]] = []

    def __init__(self, binary: Path, cwd: Path, **env: str) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("VMBRIDGE_")}
        self.spool = cwd / "spool"
        self.process = subprocess.Popen(
            [binary],
            cwd=cwd,
            env=clean | env,
            text=True,
            bufsize=1,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

        self.running.append(self.process)

    def do(self, step: str) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(step + "\n")
        return self.process.stdout.readline().rstrip("\n")

    def finish(self, code: int) -> int:
        self.do(f"finish {code}")
        return self.process.wait(AT_MOST_S)

    def read(self, name: str) -> str | None:
        try:
            return (self.spool / name).read_text()
        except FileNotFoundError:
            return None

    def wait_for(self, name: str, text: str) -> None:
        until(lambda: self.read(name) == text, lambda: (name, text, self.read(name)))


@pytest.fixture
def program(binary: Path, tmp_path: Path) -> Program:
    (tmp_path / "spool").mkdir()
    return Program(binary, tmp_path, VMBRIDGE_SPOOL=str(tmp_path / "spool"))


@pytest.fixture(autouse=True)
def no_program_stays() -> Iterator[None]:
    """A test that fails leaves its program at the prompt."""
    yield
    while Program.running:
        process = Program.running.pop()
        process.kill()
        process.communicate()


def values(text: str | None) -> dict[str, float]:
    assert text is not None and text.endswith("\n")
    return {key: float(value) for key, value in (line.split() for line in text.splitlines())}


def test_the_first_change_is_published_at_once(program: Program) -> None:
    assert program.do("get") == "-1"
    assert program.do("init") == "0"
    assert program.do("standalone") == "0"
    assert program.do("fraction 0.123456789") == "0"
    program.wait_for("fraction_done", "0.123456789\n")
    assert program.finish(0) == 0


@pytest.mark.behaviour("B19")
def test_the_end_is_reported_with_the_last_values(program: Program) -> None:
    program.do("init")
    for i in range(50):
        program.do(f"fraction {i / 100}")
        program.do(f"ops {i * 1e18} {i}")
    assert program.finish(0) == 0
    assert program.read("fraction_done") == "1\n"
    report = program.read("creditreport")
    assert report is not None and report.startswith("fpops 49000000000000000000\nintops 49\n")
    assert 0 < values(report)["cpu_seconds"] < 5
    assert program.read("finished") == "code 0\n"


def test_a_failure_keeps_its_fraction(program: Program) -> None:
    program.do("init")
    program.do("fraction 0.25")
    assert program.finish(195) == 195
    assert program.read("fraction_done") == "0.25\n"
    assert program.read("finished") == "code 195\n"


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (("init", "fraction 0.25", "rest 7200 busy"), "delay 7200\nmessage busy\nnotice 1\n"),
        (("rest 60 missing",), "delay 60\nmessage missing\nnotice 0\n"),
        (("init", "rest_silently"), "delay 0\nnotice 0\n"),
        (("init", "rest 86400 busy"), "delay 86400\nmessage busy\nnotice 1\n"),
        (("init", "rest 86401 busy"), "delay 300\nmessage busy\nnotice 1\n"),
        (("init", "rest 2e9 busy"), "delay 300\nmessage busy\nnotice 1\n"),
        (("init", "rest_bad"), f"delay 300\nmessage ???[{1020 * 'x'}\nnotice 0\n"),
    ],
    ids=["", "before boinc_init", "no reason", "a day", "more than a day", "ages", "nonsense"],
)
def test_a_program_may_ask_to_be_started_again_later(program: Program, steps: tuple[str, ...], told: str) -> None:
    """It used to be told that this cannot be written."""
    for step in steps:
        program.do(step)
    assert program.process.wait(AT_MOST_S) == 0
    assert program.read("temporary_exit") == told and program.read("finished") is None
    assert program.read("creditreport"), "the last values, too"
    assert program.read("fraction_done") == ("0.25\n" if "fraction 0.25" in steps else None)


def test_a_rest_that_cannot_be_told_is_none(program: Program) -> None:
    program.do("init")
    (program.spool / "temporary_exit").mkdir()
    assert program.do("rest 60 busy") == "-108"
    assert program.do("fraction 0.5") == "0", "it goes on"
    assert program.finish(0) == 0 and program.read("finished") == "code 0\n"


def test_finish_without_any_report(program: Program) -> None:
    program.do("init")
    assert program.finish(-1) == 255
    assert program.read("finished") == "code -1\n"
    assert program.read("fraction_done") is None
    assert list(values(program.read("creditreport"))) == ["cpu_seconds"]


def test_fractions_are_held_between_0_and_1_and_nan_is_not_reported(program: Program) -> None:
    program.do("init")
    program.do("fraction 1.5")
    assert program.do("get") == "1.5"
    program.wait_for("fraction_done", "1\n")
    program.do("nan")
    assert program.do("get") == "nan", "the last value set, whatever it is"
    time.sleep(1.2)
    assert program.read("fraction_done") == "1\n"
    program.do("fraction -3")
    program.wait_for("fraction_done", "0\n")
    program.finish(0)


def test_checkpoints_are_counted_at_once(program: Program) -> None:
    program.do("init")
    for count in (1, 2, 3):
        assert program.do("checkpoint") == "0"
        report = values(program.read("checkpoint"))
        assert report["count"] == count and 0 <= report["cpu_seconds"] < 5
    program.finish(0)


def test_time_to_checkpoint_stays_until_it_is_done(binary: Path, tmp_path: Path) -> None:
    program = Program(binary, tmp_path, VMBRIDGE_CHECKPOINT_PERIOD="0.2")
    for begin in ("init", "checkpoint", "checkpoint"):
        begun = time.monotonic()
        program.do(begin)
        until(lambda: program.do("due") == "1")
        assert time.monotonic() - begun >= 0.2, f"the time runs from {begin}"
        assert program.do("due") == program.do("due") == "1"
    program.finish(0)


def test_the_host_asks_for_a_checkpoint(program: Program) -> None:
    """By a byte that the agent writes in place: nobody has to wake up and look."""
    flag = program.spool / "save"
    flag.write_text("0\n")
    program.do("init")
    assert program.do("due") == "0"
    with flag.open("r+") as file:
        file.write("1")
    assert program.do("due") == program.do("due") == "1"
    program.do("checkpoint")
    assert program.do("due") == "0" and flag.read_text() == "0\n", "it used to ask again until the agent had looked"
    program.finish(0)


@pytest.mark.parametrize("content", [None, b""])
def test_without_an_agent_nobody_asks(program: Program, content: bytes | None) -> None:
    if content is not None:
        (program.spool / "save").write_bytes(content)
    program.do("init")
    assert program.do("due") == "0" and program.do("checkpoint") == "0"
    program.finish(0)


@pytest.mark.parametrize("period", ["", "soon", "-1", "1e-3", "0,1", "99999999999999999999"])
def test_a_senseless_period_is_not_a_short_one(binary: Path, tmp_path: Path, period: str) -> None:
    program = Program(binary, tmp_path, VMBRIDGE_CHECKPOINT_PERIOD=period)
    program.do("init")
    time.sleep(0.01)
    assert program.do("due") == "0"
    program.finish(0)


def test_hot_calls_do_not_flood_the_spool(program: Program) -> None:
    """Half a second of work may be published at the begin, and once after that."""
    program.do("init")
    before = time.monotonic()
    program.do("hot 2e7")
    inode, publications = 0, 0
    while time.monotonic() < before + 0.9:
        try:
            now = (program.spool / "fraction_done").stat()
        except FileNotFoundError:
            continue
        publications += now.st_mtime_ns != inode
        inode = now.st_mtime_ns
        time.sleep(0.002)
    assert publications <= 3
    program.finish(0)


def context_switches(pid: int) -> int:
    """How often all threads of a process went to sleep of their own will."""
    return sum(
        int(line.split()[1])
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        for line in status.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


def sleeps_through(pid: int, seconds: float) -> bool:
    """Nothing in the process wakes up for so long: more than the half second that its thread waits at most."""
    before = context_switches(pid)
    time.sleep(seconds)
    return context_switches(pid) == before


def test_nothing_wakes_up_while_nothing_changes(program: Program) -> None:
    program.do("init")
    program.do("fraction 0.5")
    until(lambda: sleeps_through(program.process.pid, 0.8))
    program.do("fraction 0.75")
    program.wait_for("fraction_done", "0.75\n")
    program.finish(0)


def test_the_same_value_a_million_times_wakes_nobody_much(program: Program) -> None:
    """The first library woke its thread with every call that changed nothing."""
    program.do("init")
    program.do("fraction 0.5")
    until(lambda: sleeps_through(program.process.pid, 0.8))
    before = context_switches(program.process.pid)
    program.do("same 5e6")
    assert context_switches(program.process.pid) - before < 20
    program.finish(0)


def test_a_forked_child_reports_nothing(program: Program) -> None:
    program.do("init")
    program.do("fraction 0.5")
    program.wait_for("fraction_done", "0.5\n")
    assert program.do("fork") == "3"
    assert program.read("fraction_done") == "0.5\n"
    assert program.read("checkpoint") is None
    assert program.read("finished") is None
    assert program.finish(0) == 0
    assert program.read("finished") == "code 0\n"


def test_standalone(binary: Path, tmp_path: Path) -> None:
    program = Program(binary, tmp_path)
    assert program.do("standalone") == "1"
    assert program.do("init") == "0"
    program.do("fraction 0.5")
    program.do("checkpoint")
    assert program.do("get") == "0.5"
    assert program.finish(4) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_missing_spool_does_not_hurt_and_may_come_later(binary: Path, tmp_path: Path) -> None:
    program = Program(binary, tmp_path, VMBRIDGE_SPOOL=str(tmp_path / "spool"))
    program.do("init")
    assert program.do("fraction 0.5") == "0"
    assert program.do("checkpoint") == "0"
    program.spool.mkdir()
    assert program.finish(0) == 0
    assert program.read("fraction_done") == "1\n"


def test_no_temporary_file_is_left(program: Program) -> None:
    program.do("init")
    program.do("checkpoint")
    program.finish(0)
    names = sorted(path.name for path in program.spool.iterdir())
    assert names == ["checkpoint", "creditreport", "finished", "fraction_done"]


def test_a_link_under_the_temporary_name_is_not_written_through(program: Program) -> None:
    victim = program.spool.parent / "victim"
    victim.write_text("precious")
    (program.spool / f".checkpoint.{program.process.pid}").symlink_to(victim)
    program.do("init")
    program.do("checkpoint")
    assert victim.read_text() == "precious"
    assert values(program.read("checkpoint"))["count"] == 1
    program.finish(0)


def test_resolve_filename(program: Program) -> None:
    cwd = program.spool.parent
    (cwd / "input").write_text("plain data")
    (cwd / "link").write_text("<soft_link>../../projects/p/real</soft_link>\n")
    (cwd / "late").write_text("first line\n<soft_link>no</soft_link>\n")
    os.mkfifo(cwd / "pipe")
    assert program.do("resolve input") == "0 input"
    assert program.do("resolve absent") == "0 absent"
    assert program.do("resolve link") == "0 ../../projects/p/real"
    assert program.do("resolve late") == "0 late"
    assert program.do("resolve pipe") == "0 pipe"
    assert program.do("resolve_bad") == "-116 -118 []"


def test_signals_are_left_to_the_program(program: Program) -> None:
    program.do("init")
    program.do("signal")
    os.kill(program.process.pid, 10)
    assert program.process.wait(AT_MOST_S) == 7


def test_what_it_writes_cannot_depend_on_the_locale() -> None:
    """By construction, for a German locale is not everywhere: nothing formats or parses doubles."""
    for name in (
        "libboinc/boinc_api.c",
        "libboinc/graphics.c",
        "libboinc/init_data.c",
        "libboinc/numbered.c",
        "wire/encode.c",
        "wire/publish.c",
    ):
        code = (SOURCES / name).read_text()
        code = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith("*"))
        for word in ("%g", "%f", "%e", "strtod(", "atof(", "sscanf"):
            assert word not in code, (name, word)


def test_what_is_not_the_interface_cannot_meet_the_program_s_names(library: Path) -> None:
    """What is the interface: test_library_symbols.py."""

    def names(*argv: str) -> set[str]:
        listing = subprocess.run(["nm", *argv], check=True, capture_output=True, text=True)
        return {line.split()[-1] for line in listing.stdout.splitlines() if len(line.split()) == 3}

    shared = names("-D", "--defined-only", str(library / "libboinc_api.so"))
    inside = names("-g", "--defined-only", str(library / "libboinc_api.a")) - shared
    assert inside and all(name.startswith("vmbridge_") for name in inside)


@pytest.mark.parametrize("compiler", [["cc", "-xc", "-std=c99"], ["c++", "-xc++", "-std=c++98"]], ids=["c", "c++"])
def test_the_header_is_good_for_c_and_cxx(compiler: list[str]) -> None:
    if compiler[0] == "c++" and shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler here, and nothing else needs one")
    strict = ["-pedantic", "-Werror", "-Wall", "-fsyntax-only"]
    subprocess.run([*compiler, *strict, str(include_dir() / "boinc_api.h")], check=True)


def test_the_library_is_built_once_and_always_alike(library: Path, tmp_path: Path) -> None:
    archive = library / "libboinc_api.a"
    before = archive.stat().st_mtime_ns
    build_library(library)
    assert archive.stat().st_mtime_ns == before
    build_library(tmp_path)
    for name in ("libboinc_api.a", "libboinc_api.so", "libboinc_api.so.7"):
        assert (tmp_path / name).read_bytes() == (library / name).read_bytes()
    assert os.fsencode(SOURCES.parent) not in archive.read_bytes()


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no-such-cc not found\. Install"):
        build_library(tmp_path, cc="no-such-cc")


def test_the_example_conserves_energy_and_resumes_to_the_same_bits(library: Path, tmp_path: Path) -> None:
    example = SOURCES / "examples" / "lennard_jones"
    binary = tmp_path / "lj"
    link = [f"-I{include_dir()}", str(example / "lj.c"), f"-L{library}", "-lboinc_api"]
    subprocess.run(
        ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", *link, "-lpthread", "-o", str(binary)],
        check=True,
    )

    def run(name: str, interrupt: bool) -> str:
        cwd = tmp_path / name
        (cwd / "spool").mkdir(parents=True)
        (cwd / "lj.in").write_text("steps 8000\nparticles 64\ndensity 0.8\ndt 0.002\n")
        env = {"VMBRIDGE_SPOOL": str(cwd / "spool"), "VMBRIDGE_CHECKPOINT_PERIOD": "0.05"}
        if interrupt:
            first = subprocess.Popen([binary], cwd=cwd, env=env)
            until((cwd / "spool/checkpoint").exists)
            first.kill()
            first.wait()
            assert (cwd / "lj.checkpoint").exists()
            env["VMBRIDGE_CHECKPOINT_PERIOD"] = "300"
        subprocess.run([binary], cwd=cwd, env=env, check=True, timeout=AT_MOST_S)
        assert (cwd / "spool/finished").read_text() == "code 0\n"
        return (cwd / "energy.txt").read_text()

    whole, resumed = run("whole", False), run("resumed", True)
    assert whole == resumed
    assert float(whole.splitlines()[-1].split()[1]) < 1e-3


# ------------------------------------------------------------- trickles and uploads


def test_a_trickle_lies_in_the_spool_when_the_call_returns(program: Program) -> None:
    program.do("init")
    assert program.do("trickle progress <steps>5</steps>") == "0"
    assert program.read("trickle_up.1") == "variety progress\ntext <steps>5</steps>\n"
    assert program.do("lines") == "0"
    assert program.read("trickle_up.2") == "variety v\ntext <a>\ntext \ntext \tb c \ntext \n", "each byte of it"
    assert program.finish(0) == 0
    assert not [name for name in os.listdir(program.spool) if name.startswith(".")]


def test_numbers_go_on_after_those_of_an_earlier_process(binary: Path, program: Program, tmp_path: Path) -> None:
    program.do("init")
    assert program.do("flood 3") == "3"
    (program.spool / "trickle_up.1").unlink()
    (program.spool / "trickle_up.2").unlink()
    program.finish(0)
    for name in ("trickle_up.04", "trickle_up.x", "trickle_up.9999999999", "trickle_up", "trickle_upper.77"):
        (program.spool / name).write_text("not a trickle")
    second = Program(binary, tmp_path, VMBRIDGE_SPOOL=str(program.spool))
    second.do("init")
    assert second.do("flood 1") == "1"
    (program.spool / "trickle_up.5").write_text("of another process")
    assert second.do("flood 1") == "1"
    assert second.read("trickle_up.4") == second.read("trickle_up.6") == "variety v\ntext again\n"
    assert second.read("trickle_up.5") == "of another process"


def test_too_many_waiting_trickles_are_refused(program: Program) -> None:
    program.do("init")
    assert program.do("flood 1000") == "256"
    assert program.do("trickle v later") == "-103"
    for number in range(1, 101):
        (program.spool / f"trickle_up.{number}").unlink()
    assert program.do("flood 1000") == "100"
    assert program.read("trickle_up.356") is not None and program.read("trickle_up.357") is None


def test_a_trickle_that_cannot_be_told_as_it_is_is_refused(program: Program) -> None:
    program.do("init")
    assert program.do("bad_trickles") == "-116 -116" + 7 * " -178"
    assert os.listdir(program.spool) == []


def test_a_message_of_the_project_becomes_a_file(program: Program, tmp_path: Path) -> None:
    program.do("init")
    assert program.do("down") == "0 -"
    (program.spool / "trickle_down.12").write_text("text second\n")
    (program.spool / "trickle_down.9").write_text("text <a>\ntext\ntext  b\ntext \n")
    assert program.do("down_short") == "0"
    assert program.do("down") == program.do("down") == "1 trickle_down_9"
    assert (tmp_path / "trickle_down_9").read_text() == "<a>\n\n b\n"
    assert not (program.spool / "trickle_down.9").exists()
    (tmp_path / "trickle_down_9").unlink()
    assert program.do("down") == "1 trickle_down_12"
    assert (tmp_path / "trickle_down_12").read_text() == "second"
    program.finish(0)


def test_a_message_that_an_earlier_program_left_is_found(program: Program, tmp_path: Path) -> None:
    (tmp_path / "trickle_down_3").write_text("left")
    program.do("init")
    assert program.do("down") == "1 trickle_down_3"


def test_uploads(program: Program, tmp_path: Path) -> None:
    program.do("init")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    assert program.do("upload missing.txt") == "-108"
    assert program.do("upload ../a.txt") == program.do("upload .a") == "-178"
    assert program.do("uploaded a.txt") == "-161"
    assert program.do("upload a.txt") == program.do("upload b.txt") == program.do("upload a.txt") == "0"
    assert (program.read("upload.1"), program.read("upload.2")) == ("name a.txt\n", "name b.txt\n")
    assert program.read("upload.3") is None
    assert program.do("uploaded b.txt") == "-161"
    # A minus alone used to be 0: the file was at the server. A number that is too long was cut to its low bits.
    for text in ("", "status", "status x\n", "status 1x\n", "nothing 3\n", "status -\n", "status 4294967296\n"):
        (program.spool / "uploaded.2").write_text(text)
        assert program.do("uploaded b.txt") == "-161"
    (program.spool / "uploaded.2").write_text("status -131\n")
    (program.spool / "uploaded.1").write_text("status \t0 \r\n")
    assert program.do("uploaded b.txt") == "-131"
    assert program.do("uploaded a.txt") == "0"
    program.finish(0)


def test_standalone_trickles_and_uploads_go_nowhere(binary: Path, tmp_path: Path) -> None:
    program = Program(binary, tmp_path)
    program.do("init")
    (tmp_path / "a.txt").write_text("a")
    assert program.do("trickle v text") == program.do("upload a.txt") == "0"
    assert program.do("down") == "0 -"
    assert program.do("uploaded a.txt") == "-161"
    assert program.finish(0) == 0


# ----------------------------------------------------------------- critical sections


QUIET = "00000 0"
"""What a status says of all that a machine cannot see."""


def ask_to_end(program: Program) -> None:
    """Send SIGTERM and wait until the program has taken it."""
    program.process.send_signal(signal.SIGTERM)
    until(lambda: program.do("status") == f"0 1 {QUIET}")


def has_ended_by_the_signal(program: Program) -> bool:
    return program.process.wait(AT_MOST_S) == -signal.SIGTERM


def test_outside_of_a_section_a_program_ends_at_once(program: Program) -> None:
    program.do("init")
    program.do("begin")
    program.do("end")
    assert program.do("status") == f"0 0 {QUIET}"
    program.process.send_signal(signal.SIGTERM)
    assert has_ended_by_the_signal(program)


def test_inside_it_ends_when_the_last_section_does(program: Program) -> None:
    program.do("init")
    program.do("end")  # one too many
    program.do("begin")
    program.do("begin")
    ask_to_end(program)
    program.process.send_signal(signal.SIGTERM)
    assert program.do("end") == "0"
    assert program.do("end") == "", "it has no more to say"
    assert has_ended_by_the_signal(program)


def test_a_section_of_another_thread(program: Program) -> None:
    program.do("init")
    program.do("thread_begin")
    ask_to_end(program)
    program.do("begin")
    assert program.do("end") == "0", "the other thread is still in its own"
    assert program.do("thread_end") == ""
    assert has_ended_by_the_signal(program)


def test_from_being_told_to_save_until_it_is_saved(binary: Path, tmp_path: Path) -> None:
    """A program asks as often as it likes, and says once that it is done."""
    (tmp_path / "spool").mkdir()
    program = Program(binary, tmp_path, VMBRIDGE_CHECKPOINT_PERIOD="0.1", VMBRIDGE_SPOOL=str(tmp_path / "spool"))
    program.do("init")
    until(lambda: program.do("due") == "1")
    assert program.do("due") == "1"
    ask_to_end(program)
    assert program.do("checkpoint") == ""
    assert has_ended_by_the_signal(program)
    assert values(program.read("checkpoint"))["count"] == 1, "what was saved is told before"


def test_a_program_that_only_wants_to_be_asked(program: Program) -> None:
    assert program.do("init_options 1 1 0") == "0"
    ask_to_end(program)
    program.do("begin")
    assert program.do("end") == "0"
    assert program.finish(3) == 3


@pytest.mark.parametrize("steps", [("handle", "init"), ("init", "handle"), ("init_options 1 0 1", "handle")])
def test_a_program_that_handles_the_signal_itself_is_left_alone(program: Program, steps: tuple[str, str]) -> None:
    for step in steps:
        program.do(step)
    program.process.send_signal(signal.SIGTERM)
    until(lambda: program.do("handled") == str(int(signal.SIGTERM)))
    assert program.do("status") == f"0 0 {QUIET}"
    assert program.finish(0) == 0


def test_a_forked_child_ends_at_once(program: Program) -> None:
    program.do("init")
    assert program.do("fork_term") == str(int(signal.SIGTERM))
    assert program.finish(0) == 0


def test_a_helper_process_reports_nothing(program: Program) -> None:
    program.do("init_options 0 1 1")
    program.do("fraction 0.5")
    program.do("checkpoint")
    assert program.finish(0) == 0
    assert os.listdir(program.spool) == []


IN_AND_OUT = r"""
#include "boinc_api.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile char *inside; /* a byte for each thread, in a file */
static void *work(void *number) {
    volatile char *mine = inside + (long)number;
    for (;;) {
        boinc_begin_critical_section();
        *mine = 1;
        for (volatile int i = 0; i < 300; i++) ;
        *mine = 0;
        boinc_end_critical_section();
    }
    return NULL;
}

int main(int argc, char **argv) {
    int file = open(argv[argc - 1], O_RDWR);
    pthread_t thread;
    inside = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    boinc_init();
    for (long i = 1; i < 4; i++) pthread_create(&thread, NULL, work, (void *)i);
    inside[8] = 1;
    work((void *)0);
}
"""


def test_no_thread_is_ever_ended_inside(library: Path, tmp_path: Path) -> None:
    """Four threads go in and out all the time, so that nearly any moment would be a wrong one."""
    source, binary = tmp_path / "in_and_out.c", tmp_path / "in_and_out"
    source.write_text(IN_AND_OUT)
    subprocess.run(
        [*CC, f"-I{include_dir()}", str(source), str(library / "libboinc_api.a"), "-lpthread", "-o", str(binary)],
        check=True,
    )
    state = tmp_path / "state"
    for attempt in range(40):
        state.write_bytes(bytes(16))
        with subprocess.Popen([binary, state]) as process:
            until(lambda: state.read_bytes()[8] == 1)
            time.sleep(attempt % 7 / 1000)
            process.terminate()
            try:
                process.wait(AT_MOST_S)
            finally:
                process.kill()
        assert process.returncode == -signal.SIGTERM and not any(state.read_bytes()[:4]), attempt


# ------------------------------------------------------------------ what is known


INIT_DATA = """\
app_name worker
wu_name \tspaces are kept
result_name {long}
app_version 100
major_version 7
minor_version  20\t
release 99999999999
ncpus 3.5
a_later_key 1
rsc_fpops_est 2.5E+14
rsc_memory_bound 300000000.000
wu_cpu_time 12.5
p_fpops 4100000000.25
p_iops 25e-1
authenticator secret
user_name Jane
"""


def test_what_the_client_says_of_the_job(program: Program, tmp_path: Path) -> None:
    (program.spool / "init_data").write_text(INIT_DATA.format(long="x" * 300))
    assert program.do("parse") == "0", "also before boinc_init"
    before = program.do("numbers")
    program.do("init")
    assert program.do("names") == f"worker|\tspaces are kept|{'x' * 255}|{tmp_path}|"
    numbers = "100 7.20.2147483647 3.5 250000000000000 300000000 12.5 1 300 4100000000.25 2.5 0 -1"
    assert program.do("numbers") == before == numbers
    (program.spool / "init_data").write_text("wu_name again\r\nncpus 2\r\n")
    assert program.do("names").startswith("worker|"), "until it is asked to read anew"
    assert program.do("parse") == "0"
    assert program.do("names") == f"|again||{tmp_path}|"
    program.finish(0)


@pytest.mark.parametrize("spool", [True, False])
def test_without_a_client_there_are_defaults(binary: Path, tmp_path: Path, spool: bool) -> None:
    (tmp_path / "spool").mkdir()
    environment = {"VMBRIDGE_SPOOL": str(tmp_path / "spool")} if spool else {}
    program = Program(binary, tmp_path, VMBRIDGE_CHECKPOINT_PERIOD="60", **environment)
    assert program.do("parse") == "-108"
    program.do("init")
    assert program.do("parse") == "-108"
    assert program.do("names") == f"|||{tmp_path}|"
    cpus = os.sysconf("SC_NPROCESSORS_ONLN")
    assert program.do("numbers") == f"0 0.0.0 {cpus} 0 0 0 1 60 0 0 0 -1"
    program.finish(0)


def test_times(program: Program) -> None:
    (program.spool / "init_data").write_text("wu_cpu_time 1000\n")
    assert program.do("times").endswith(" 0.000"), "before boinc_init"
    program.do("init")
    program.do("same 5e6")
    wu, own, elapsed = map(float, program.do("times").split())
    assert 1000 < wu < 1100 and 0 < own < 100 and 0 < elapsed < AT_MOST_S
    assert abs(wu - 1000 - own) < 1
    program.finish(0)


CXX = r"""
#include <string>
#include "boinc_api.h"
int main() {
    APP_INIT_DATA data;
    BOINC_OPTIONS options;
    BOINC_STATUS status;
    double cpu = -1;
    boinc_options_defaults(options);
    options.direct_process_action = 0;
    if (boinc_init_options(&options) || boinc_get_init_data(data) || boinc_wu_cpu_time(cpu)) return 1;
    boinc_get_status(&status);
    if (boinc_status.quit_request || status.quit_request || data.ncpus < 1 || cpu < 0) return 2;
    return std::string(data.wu_name) == "w" ? 0 : 3;
}
"""


def test_as_cxx_programs_call_it(library: Path, tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler here, and nothing else needs one")
    (tmp_path / "program.cpp").write_text(CXX)
    (tmp_path / "init_data").write_text("wu_name w\n")
    words = ["c++", "-Wall", "-Wextra", "-Werror", f"-I{include_dir()}", "program.cpp", str(library / "libboinc_api.a")]
    subprocess.run([*words, "-lpthread", "-o", "program"], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "program"], env={"VMBRIDGE_SPOOL": str(tmp_path)}, check=True)


def test_a_program_with_another_structure_does_not_link(library: Path) -> None:
    """BOINC's own APP_INIT_DATA is a hundred thousand bytes of another form: better no program than nonsense in it.

    (Unless the library was built with BOINC's headers.)
    """
    listing = subprocess.run(["nm", "-D", str(library / "libboinc_api.so")], check=True, capture_output=True, text=True)
    assert "vmbridge_init_data" in listing.stdout and "boinc_get_init_data" not in listing.stdout
