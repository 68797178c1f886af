"""Every function of the library, from threads, children and a signal handler at once, under the sanitizers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from guest_side import include_dir
from guest_side.build import LIBRARY_SOURCES, build_library

from ..patience import AT_MOST_S
from ..sanitized import MEMORY, THREADS, compiled, flags
from .test_library_symbols import ELSEWHERE, IN_C, IN_CXX, STRING, names

CODE = Path(__file__).with_name("every_call.c")

NOT_CALLED = {
    "boinc_finish": "by boinc_finish_message",
    "boinc_finish_": "by boinc_finish_message",
    "boinc_catch_signal": "is the handler of a crash",
    "boinc_get_init_data_p": "inline, by vmbridge_init_data",
    "_Z19boinc_get_init_dataR13APP_INIT_DATA": "needs BOINC's headers",
    "_Z20boinc_temporary_exitiPKcb": "as boinc_temporary_exit",
    "_Z30boinc_set_signal_handler_forceiPFviE": "boinc_set_signal_handler_force",
    f"_Z17boinc_upload_fileR{STRING}": "as with the older std::string",
    f"_Z19boinc_upload_statusR{STRING}": "as with the older std::string",
    "got_heartbeat_message": "data",
    "main_exited": "data",
}


@pytest.mark.parametrize("sanitizers", [MEMORY, THREADS])
def test_every_call_is_clean(tmp_path: Path, sanitizers: str) -> None:
    if not flags(sanitizers):
        pytest.skip(f"this compiler has no {sanitizers} sanitizer")
    program = compiled(tmp_path / "every_call", [CODE, *LIBRARY_SOURCES], f"-I{include_dir()}", sanitizers=sanitizers)
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "save").write_text("0\n")
    (spool / "init_data").write_text("wu_name w\nncpus 2\n")
    for number in range(1, 20):
        (spool / f"trickle_down.{number}").write_text(f"text {number}\n")
        (spool / f"uploaded.{number}").write_text("status 0\n")
    (tmp_path / "link").write_text("<soft_link>there</soft_link>\n")
    # A child that ends without having freed what its parent had is no leak; of one process, test_library.py would tell.
    environment = {"ASAN_OPTIONS": "detect_leaks=0", "VMBRIDGE_SPOOL": str(spool), "VMBRIDGE_CHECKPOINT_PERIOD": "0.1"}
    done = subprocess.run(
        [program, "2"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, timeout=AT_MOST_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (spool / "finished").read_text() == "code 0\nmessage all was called\n"
    assert not (spool / "temporary_exit").exists(), "only a child has asked for it"


def test_none_is_left_out() -> None:
    code = CODE.read_text()
    functions = names(IN_C, IN_CXX, ELSEWHERE) - set(NOT_CALLED)
    inner = {name for name in functions if name.startswith(("diagnostics_", "options_"))}
    assert {name for name in functions - inner if not re.search(rf"\b{name}\b", code)} == set()


def built(folder: Path, source: Path) -> Path:
    """Compile a program with the library as scientists do."""
    build_library(folder)
    words = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{include_dir()}", str(source)]
    subprocess.run([*words, folder / "libboinc_api.a", "-lpthread", "-o", folder / "program"], check=True)
    return folder / "program"


IN_A_HANDLER = r"""
#include "boinc_api.h"
#include <signal.h>
#include <sys/time.h>
#include <time.h>
static void on_alarm(int number) { (void)number; boinc_fraction_done(0.5); }
int main(void) {
    struct itimerval often = {{0, 1000}, {0, 1000}};
    time_t begin = time(NULL);
    boinc_init();
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &often, NULL);
    while (time(NULL) < begin + 4)
        boinc_parse_init_data_file();
    return boinc_finish(0);
}
"""


def test_a_handler_does_not_wait_for_what_it_has_interrupted(tmp_path: Path) -> None:
    """The call that woke the library's thread took a lock, which the interrupted one held."""
    source = tmp_path / "handler.c"
    source.write_text(IN_A_HANDLER)
    program = built(tmp_path, source)
    subprocess.run([program], cwd=tmp_path, env={"VMBRIDGE_SPOOL": str(tmp_path)}, check=True, timeout=AT_MOST_S)
    assert (tmp_path / "fraction_done").read_text() == "1\n"


def test_hot_calls_take_nothing_of_the_system(tmp_path: Path) -> None:
    """Nine million calls: no allocation, and a system call only where one wakes the thread, at most twice a second.

    boinc_elapsed_time used to wait for the thread when that was just writing a report.
    """
    program = built(tmp_path, CODE.with_name("hot_calls_only.c"))
    (tmp_path / "save").write_text("0\n")
    environment = {"VMBRIDGE_SPOOL": str(tmp_path)}
    done = subprocess.run([program], env=environment, stdout=subprocess.PIPE, text=True, timeout=AT_MOST_S)
    if done.returncode == 77:
        pytest.skip("no filter of system calls is granted here")
    assert done.returncode == 0
    allocations, system_calls, seconds = map(float, done.stdout.split())
    assert allocations == 0
    assert system_calls <= 1 + 2 * (seconds + 1)
