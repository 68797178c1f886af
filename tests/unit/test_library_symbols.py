# SPDX-License-Identifier: Apache-2.0
"""The fake BOINC library in the place of BOINC's own: its symbols, and programs that were made for BOINC's.

With ``BOINC_DEV=FOLDER`` (default ``/``), below which Debian's libboinc-app-dev lies, also against the real one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli.library import library as vmbridge_library
from guest_side import include_dir
from guest_side.build import build_library

from ..conftest import REPOSITORY
from ..patience import AT_MOST_S, until

PROGRAMS = REPOSITORY / "tests" / "programs"

DEV = Path(os.environ.get("BOINC_DEV", "/"))
REAL_HEADERS = DEV / "usr" / "include" / "boinc"
REAL_LIBRARY = next(DEV.glob("usr/lib/*/libboinc_api.so.7"), DEV / "libboinc_api.so.7")

needs_cxx = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler here")
needs_real = pytest.mark.skipif(
    not (REAL_HEADERS / "boinc_api.h").is_file() or not REAL_LIBRARY.exists(),
    reason="there is no libboinc-app-dev here; BOINC_DEV=FOLDER names a place where it is unpacked",
)

STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"

IN_C = """
boinc_begin_critical_section boinc_checkpoint_completed boinc_end_critical_section boinc_finish boinc_fraction_done
boinc_get_fraction_done boinc_get_init_data_p boinc_get_status boinc_init boinc_init_options boinc_init_parallel
boinc_is_standalone boinc_need_network boinc_network_done boinc_network_poll boinc_network_usage
boinc_parse_init_data_file boinc_receive_trickle_down boinc_register_timer_callback boinc_remote_desktop_addr
boinc_report_app_status boinc_send_trickle_up boinc_set_min_checkpoint_period boinc_time_to_checkpoint
boinc_web_graphics_url boinc_worker_thread_cpu_time
"""

IN_CXX = f"""
_Z16boinc_msg_prefixPci _Z17boinc_upload_fileR{STRING} _Z17boinc_wu_cpu_timeRd _Z18boinc_elapsed_timev
_Z18start_timer_threadv _Z19boinc_get_init_dataR13APP_INIT_DATA _Z19boinc_upload_statusR{STRING}
_Z20boinc_finish_messageiPKcb _Z20boinc_temporary_exitiPKcb _Z24boinc_graphics_get_shmemPKc
_Z25boinc_graphics_make_shmemPKci _Z26boinc_init_options_generalR13BOINC_OPTIONS
_Z27boinc_parse_graphics_statusPdS_S_S_P12BOINC_STATUS _Z27boinc_report_app_status_auxdddidd
_Z27boinc_write_graphics_statusddd
"""

DATA = "api_version app_client_shm boinc_disable_timer_thread boinc_status"

EXCUSED = {
    "app_min_checkpoint_period": "no header declares it: boinc_set_min_checkpoint_period sets it",
    "mutex": "no header declares it, and the name would meet the program's own",
    "remote_desktop_addr": "no header declares it: boinc_remote_desktop_addr sets it",
    "send_remote_desktop_addr": "no header declares it",
    "send_web_graphics_url": "no header declares it",
    "web_graphics_url": "no header declares it: boinc_web_graphics_url sets it",
    "_ZN17REDUCED_ARRAY_GEN9init_dataEii": "draws arrays, on a screen that there is not",
    "_ZN17REDUCED_ARRAY_GEN4fullEv": "as above",
    "_ZN17REDUCED_ARRAY_GEN10update_maxEi": "as above",
    "_ZN17REDUCED_ARRAY_GEN14add_source_rowEPf": "as above",
    "_ZN17REDUCED_ARRAY_GEN17reduce_source_rowEPfS0_": "as above",
}
"""What Debian's libboinc_api 7.20.5 has and ours has not, and why nobody misses it."""

ELSEWHERE = """
boinc_ops_cumulative boinc_ops_per_cpu_sec boinc_set_credit_claim boinc_suspend_other_activities
boinc_resume_other_activities boinc_resolve_filename _Z16options_defaultsR13BOINC_OPTIONS
_Z25boinc_waiting_for_networkb _Z27boinc_sporadic_set_ac_state17SPORADIC_AC_STATE
_Z27boinc_sporadic_get_ca_statev _Z18boinc_sporadic_dirPKc got_heartbeat_message
_Z27boinc_report_app_status_auxdddiddd _Z17boinc_upload_fileRSs _Z19boinc_upload_statusRSs
boinc_init_ boinc_finish_ boinc_is_standalone_ boincrf_ boinc_parse_init_data_file_ boinc_time_to_checkpoint_
boinc_checkpoint_completed_ boinc_begin_critical_section_ boinc_end_critical_section_ boinc_fraction_done_
boinc_get_fraction_done_ boinc_wu_cpu_time_ boinc_calling_thread_cpu_time_
boinc_init_diagnostics boinc_init_graphics_diagnostics boinc_install_signal_handlers boinc_finish_diag
boinc_set_signal_handler boinc_set_signal_handler_force _Z30boinc_set_signal_handler_forceiPFviE
boinc_catch_signal diagnostics_init diagnostics_is_initialized diagnostics_is_flag_set
diagnostics_set_max_file_sizes boinc_trace boinc_info set_signal_exit_code
diagnostics_finish diagnostics_thread_init diagnostics_cycle_logs diagnostics_get_boinc_dir
diagnostics_get_boinc_install_dir diagnostics_get_symstore diagnostics_set_symstore diagnostics_get_proxy
diagnostics_is_proxy_enabled diagnostics_is_aborted_via_gui diagnostics_set_aborted_via_gui
diagnostics_trace_to_debugger main_exited
"""
"""Declared and never defined, of other versions, compiled by the program (Fortran), or of libboinc (diagnostics)."""

OUR_OWN = {
    *("vmbridge_init_data", "boinc_wu_cpu_time", "boinc_elapsed_time"),
    *("boinc_temporary_exit", "boinc_upload_file", "boinc_upload_status"),
}

NOT_CALLED = {
    "c": {"vmbridge_init_data": "what boinc_get_init_data_p is made of"},
    "cpp": {
        "options_defaults": "BOINC has boinc_options_defaults now",
        "boinc_sporadic_set_ac_state": "newer than the headers for which the program is made",
        "boinc_sporadic_get_ca_state": "as above",
        "boinc_sporadic_dir": "as above",
        "boinc_waiting_for_network": "as above",
    },
}

ANOTHER_VERSION = """\
#include <string>
struct HOST_INFO { char before[77]; int p_ncpus; double p_fpops, p_iops, m_nbytes; };
struct APP_INIT_DATA {
    char app_name[10]; int gpu_device_num, gpu_opencl_dev_index; HOST_INFO host_info; std::string user;
    char wu_name[256], result_name[256], project_dir[256], boinc_dir[1024];
    int major_version, minor_version, release, app_version; double ncpus, rsc_fpops_est, rsc_fpops_bound;
    double rsc_memory_bound, rsc_disk_bound, wu_cpu_time, starting_elapsed_time, computation_deadline;
    double resource_share_fraction, fraction_done_start, fraction_done_end, checkpoint_period;
    void clear();
};
extern "C" int boinc_get_init_data_p(struct APP_INIT_DATA*);
extern int boinc_get_init_data(APP_INIT_DATA&);
extern int boinc_resolve_filename_s(const char*, std::string&);
"""
"""What BOINC's headers are to us: a structure whose members have these names, of whatever form."""


def names(*lists: str) -> set[str]:
    return {name for text in lists for name in text.split()}


def symbols(library: Path, *options: str) -> set[str]:
    listing = subprocess.run(
        ["nm", "--defined-only", *options, str(library)], check=True, stdout=subprocess.PIPE, text=True
    )
    return {line.split()[2] for line in listing.stdout.splitlines() if len(line.split()) == 3}


def sonames(library: Path) -> str:
    return subprocess.run(["objdump", "-p", library], check=True, stdout=subprocess.PIPE, text=True).stdout


def compile_and_run(folder: Path, source: str, words: Sequence[str], **env: str) -> str:
    """Compile a program by ``words`` and run it in ``folder``; return what it says, which ends with ``ok``."""
    (folder / "program.cpp").write_text(source)
    subprocess.run([words[0], "program.cpp", *words[1:], "-lpthread", "-o", "program"], cwd=folder, check=True)
    return run(folder, **env)


def run(folder: Path, *words: str, **env: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("VMBRIDGE_")} | env
    done = subprocess.run(
        [folder / "program", *words], cwd=folder, env=clean, stdout=subprocess.PIPE, text=True, timeout=AT_MOST_S
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    build_library(folder)
    return folder


@pytest.fixture(scope="module")
def for_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library for another version of BOINC's headers, which are here."""
    folder = tmp_path_factory.mktemp("version")
    headers = folder / "headers"
    headers.mkdir()
    (headers / "boinc_api.h").write_text(ANOTHER_VERSION)
    (headers / "version.h").write_text("#define BOINC_MAJOR_VERSION 8\n#define BOINC_MINOR_VERSION 9\n")
    done = CliRunner().invoke(vmbridge_library, [str(folder), "--headers", str(headers)])
    assert done.exit_code == 0, done.output
    return folder


# ------------------------------------------------------------------ symbols


def test_whatever_the_real_library_has_ours_has(plain: Path) -> None:
    wanted = names(IN_C, IN_CXX, DATA, ELSEWHERE)
    only_with_headers = {"boinc_get_init_data_p", "_Z19boinc_get_init_dataR13APP_INIT_DATA"}
    shared = symbols(plain / "libboinc_api.so", "-D")
    assert wanted - shared == only_with_headers
    assert shared - wanted == OUR_OWN, "nothing that nobody knows of"
    assert shared <= symbols(plain / "libboinc_api.a", "-g")
    assert not shared & set(EXCUSED)


@needs_cxx
def test_with_boinc_s_headers_nothing_is_missing(for_version: Path) -> None:
    resolve = f"_Z24boinc_resolve_filename_sPKcR{STRING}"  # since 8.2
    missing = names(IN_C, IN_CXX, DATA, ELSEWHERE, resolve) - symbols(for_version / "libboinc_api.so.8", "-D")
    assert missing == set()
    assert "SONAME               libboinc_api.so.8" in sonames(for_version / "libboinc_api.so")


@needs_real
def test_the_list_is_that_of_the_real_library() -> None:
    assert symbols(REAL_LIBRARY, "-D") == names(IN_C, IN_CXX, DATA) | set(EXCUSED)


@needs_real
def test_no_name_is_twice_in_a_static_program_with_libboinc(plain: Path) -> None:
    """Ours yields (nm: W) where both define the same."""
    listing = subprocess.run(
        ["nm", "-g", "--defined-only", f"{plain}/libboinc_api.a"], check=True, stdout=subprocess.PIPE, text=True
    )
    fields = [line.split() for line in listing.stdout.splitlines()]
    ours = {words[2] for words in fields if len(words) == 3 and words[1] not in "WV"}
    assert not ours & symbols(REAL_LIBRARY.parent / "libboinc.a", "-g")


def test_a_program_of_ours_calls_every_function(plain: Path) -> None:
    """`tests/programs` stands in for programs that others wrote; a function that is new is called there, too."""
    header = (include_dir() / "boinc_api.h").read_text()
    for_c, _, for_cxx = header.partition("#ifdef __cplusplus\n}\n")
    declared = {
        kind: set(re.findall(r"^(?:extern )?[a-zA-Z_]+ \*?\*?([a-z]\w+)\(", text, re.MULTILINE))
        for kind, text in (("c", for_c), ("cpp", for_cxx))
    }
    assert len(declared["c"]) > 40 and len(declared["cpp"]) > 12
    for kind, names_of_kind in declared.items():
        calls = (PROGRAMS / f"every.{kind}").read_text()
        assert {name for name in names_of_kind if not re.search(rf"\b{name}\(", calls)} == set(NOT_CALLED[kind])
    in_fortran = {name.rstrip("_") for name in symbols(plain / "libboinc_api.so", "-D") if name.endswith("_")}
    calls = (PROGRAMS / "every.f90").read_text()
    assert len(in_fortran) == 13 and {name for name in in_fortran if f"call {name}(" not in calls} == set()


# ------------------------------------------------------------------ C++


FACES = r"""
#include "boinc_api.h"
#include <cstdio>
#include <cstring>
#define CHECK(what) if (!(what)) { printf("not so: %s\n", #what); return 1; }
int main(int words, char **) {
    if (words > 1)
        return boinc_temporary_exit(60, "later");
    char buffer[64], cut[5];
    BOINC_OPTIONS options;
    BOINC_STATUS status;
    double x = 7;
    std::string name("result"), found("before");
    options_defaults(options);
    CHECK(options.main_program == 1 && options.direct_process_action == 1 && options.multi_thread == 0);
    boinc_disable_timer_thread = true;
    CHECK(boinc_init_options_general(options) == 0);
    CHECK(start_timer_thread() == 0 && start_timer_thread() == 0);
    CHECK(boinc_msg_prefix(buffer, sizeof buffer) == buffer && buffer[4] == '-' && strstr(buffer, "):"));
    CHECK(boinc_msg_prefix(cut, sizeof cut) == cut && strlen(cut) == 4);
    CHECK(boinc_resolve_filename_s("input", found) == 0 && found == "input");
    CHECK(boinc_upload_file(name) == -108 && boinc_upload_status(name) == -161);
    CHECK(boinc_wu_cpu_time(x) == 0 && x >= 0 && x < 7);
    CHECK(boinc_report_app_status_aux(1, 1, 0.25, 0, 1, 2) == 0);
    CHECK(boinc_report_app_status_aux(2, 2, 0.5, 0, 1, 2, 3) == 0 && boinc_get_fraction_done() == -1);
    CHECK(boinc_graphics_get_shmem("gfx") == NULL && boinc_graphics_make_shmem("gfx", 0) == NULL);
    char *memory = (char *)boinc_graphics_make_shmem("gfx", 5000);
    CHECK(memory && memory[0] == 0 && memory[4999] == 0);
    memory[4999] = 'x';
    CHECK(((char *)boinc_graphics_get_shmem("gfx"))[4999] == 'x');
    CHECK(boinc_write_graphics_status(1, 2, 3) == 0 && boinc_parse_graphics_status(&x, &x, &x, &x, &status) == -108);
    boinc_sporadic_set_ac_state(AC_WANT_COMPUTE);
    boinc_waiting_for_network(true);
    CHECK(boinc_sporadic_get_ca_state() == CA_NONE && boinc_sporadic_dir(".") == 0 && got_heartbeat_message);
    CHECK(boinc_get_status(&status) == 0 && status.ca_state == CA_NONE && sizeof status == 48);
    CHECK(!strncmp(api_version, "API_VERSION_", 12));
    boinc_set_credit_claim(2);
    puts("ok");
    fflush(stdout);
    return boinc_finish_message(0, "the end", false);
}
"""


@needs_cxx
@pytest.mark.parametrize("static", [True, False], ids=["static", "shared"])
def test_what_only_cxx_programs_call(plain: Path, tmp_path: Path, static: bool) -> None:
    link = ["-static"] if static else [f"-Wl,-rpath,{plain}"]
    words = ["c++", "-Wall", "-Wextra", "-Werror", f"-I{include_dir()}", *link, f"-L{plain}", "-lboinc_api"]
    assert compile_and_run(tmp_path, FACES, words, VMBRIDGE_SPOOL=str(tmp_path)) == "ok\n"
    assert (tmp_path / "checkpoint").read_text().startswith("count 2\n"), "one for each rise of the CPU time"
    assert (tmp_path / "creditreport").read_text().startswith("fpops 1728000000000\nintops 0\n")
    assert (tmp_path / "finished").read_text() == "code 0\nmessage the end\n"
    assert run(tmp_path, "rest", VMBRIDGE_SPOOL=str(tmp_path)) == ""
    assert (tmp_path / "temporary_exit").read_text() == "delay 60\nmessage later\nnotice 0\n"


WITH_THEIR_STRUCTURE = r"""
#include <boinc_api.h>
#include <cstdio>
#include <cstring>
#define CHECK(what) if (!(what)) { printf("not so: %s\n", #what); return 1; }
#ifdef ANOTHER_VERSION
void APP_INIT_DATA::clear() { memset(wu_name, 'c', 200); memset(result_name, 0, sizeof result_name); user = "-"; }
#endif
int main() {
    APP_INIT_DATA a, b;
    CHECK(boinc_get_init_data(a) == 0 && boinc_get_init_data_p(&b) == 0);
#ifdef ANOTHER_VERSION
    std::string name("before");
    CHECK(boinc_resolve_filename_s(NULL, name) == -116 && name == "before");
    CHECK(boinc_resolve_filename_s("input", name) == 0 && name == "input");
#endif
    printf("%s|%s|%s|%d|%g|%g|%d|%d\n", a.app_name, a.wu_name, b.result_name, a.app_version, b.wu_cpu_time,
           a.host_info.p_fpops, a.gpu_device_num, a.host_info.p_ncpus > 0 && a.host_info.m_nbytes > 1e6 && a.ncpus > 0);
    return 0;
}
"""

INIT_DATA = "app_name 12345678901\nwu_name w\napp_version 3\nwu_cpu_time 1.5\np_fpops 2e9\n"


@needs_cxx
def test_what_is_known_comes_in_the_form_of_their_headers(for_version: Path, tmp_path: Path) -> None:
    """APP_INIT_DATA differs from version to version: texts are cut to its room, and what it clears is cleared."""
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "init_data").write_text(INIT_DATA)
    words = ["c++", "-DANOTHER_VERSION", f"-I{for_version / 'headers'}", f"{for_version}/libboinc_api.a"]
    source = WITH_THEIR_STRUCTURE.replace("APP_INIT_DATA a, b;", "APP_INIT_DATA a, b; boinc_parse_init_data_file();")
    source = 'extern "C" int boinc_parse_init_data_file(void);\n' + source
    said = compile_and_run(tmp_path, source, words, VMBRIDGE_SPOOL=str(spool))
    assert said == "123456789|w||3|1.5|2e+09|-1|1\n"


# ------------------------------------------------------------------ Fortran


FORTRAN = r"""
#include <cstdio>
#include <cstring>
#define CHECK(what) if (!(what)) { printf("not so: %s\n", #what); return 1; }
extern "C" {
void boinc_init_(), boinc_finish_(int *), boinc_is_standalone_(int *), boinc_parse_init_data_file_();
void boincrf_(const char *, char *, int, int), boinc_time_to_checkpoint_(int *), boinc_checkpoint_completed_();
void boinc_begin_critical_section_(), boinc_end_critical_section_(), boinc_fraction_done_(double *);
void boinc_get_fraction_done_(double *), boinc_wu_cpu_time_(double *), boinc_calling_thread_cpu_time_(double *);
}
int main() {
    int n = 9;
    double x = 0.75, y = 9;
    char name[8];
    boinc_init_();
    boinc_is_standalone_(&n); CHECK(n == 0);
    boinc_parse_init_data_file_();
    memset(name, 'x', sizeof name);
    boincrf_("link    ", name, 8, 6); CHECK(!memcmp(name, "there xx", 8));
    boincrf_("no_link__", name, 7, 8); CHECK(!memcmp(name, "no_link ", 8));
    boincrf_("too_long_", name, 9, 8); CHECK(!memcmp(name, "        ", 8));
    boinc_begin_critical_section_(); boinc_end_critical_section_();
    boinc_time_to_checkpoint_(&n); CHECK(n == 0);
    boinc_checkpoint_completed_();
    boinc_fraction_done_(&x); boinc_get_fraction_done_(&y); CHECK(y == 0.75);
    boinc_wu_cpu_time_(&x); boinc_calling_thread_cpu_time_(&y); CHECK(x >= 0 && y >= x && y < 9);
    puts("ok"); fflush(stdout);
    n = 0;
    boinc_finish_(&n);
}
"""


@needs_cxx
def test_the_names_that_fortran_calls(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "link").write_text("<soft_link>there</soft_link>\n")
    words = ["c++", "-Wall", f"{plain}/libboinc_api.a"]
    assert compile_and_run(tmp_path, FORTRAN, words, VMBRIDGE_SPOOL=str(tmp_path)) == "ok\n"
    assert (tmp_path / "checkpoint").read_text().startswith("count 1\n")
    assert (tmp_path / "finished").read_text() == "code 0\n"


NEEDED = r"""
#include <pthread.h>
#pragma weak pthread_mutex_init
#pragma weak pthread_mutex_destroy
#pragma weak pthread_cond_destroy
#pragma weak pthread_cond_broadcast
extern void boinc_init_(void);
int main(void) {
    boinc_init_();
    return !pthread_mutex_init + !pthread_mutex_destroy + !pthread_cond_destroy + !pthread_cond_broadcast;
}
"""


def test_a_static_program_has_what_libgfortran_calls(plain: Path, tmp_path: Path) -> None:
    """It used to call address 0 when the program ended: its references are weak, as these are."""
    (tmp_path / "program.c").write_text(NEEDED)
    link = ["-static", "program.c", f"{plain}/libboinc_api.a", "-lpthread", "-o", "program"]
    subprocess.run(["cc", *link], cwd=tmp_path, check=True)
    run(tmp_path)


IN_FORTRAN = """\
program worker
  implicit none
  double precision :: seconds
  character(len=64) :: name
  call boinc_init()
  call boincrf('link', name)
  if (trim(name) /= 'there') stop 3
  call boinc_fraction_done(0.25d0)
  call boinc_checkpoint_completed()
  call boinc_wu_cpu_time(seconds)
  if (seconds < 0) stop 4
  print *, 'ok'
  call boinc_finish(0)
end program
"""


@pytest.mark.skipif(shutil.which("gfortran") is None, reason="there is no gfortran here")
def test_a_fortran_program(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "program.f90").write_text(IN_FORTRAN)
    (tmp_path / "link").write_text("<soft_link>there</soft_link>\n")
    link = ["-static", "program.f90", f"{plain}/libboinc_api.a", "-lpthread", "-o", "program"]
    subprocess.run(["gfortran", *link], cwd=tmp_path, check=True)
    assert run(tmp_path, VMBRIDGE_SPOOL=str(tmp_path)).strip() == "ok"
    assert (tmp_path / "finished").read_text() == "code 0\n"


# ------------------------------------------------------------------ calls


def c_program(folder: Path, library: Path, body: str) -> None:
    includes = "".join(f"#include <{name}.h>\n" for name in ("pthread", "signal", "stdio", "stdlib", "unistd"))
    (folder / "program.c").write_text('#include "boinc_api.h"\n' + includes + body)
    words = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{include_dir()}", "program.c"]
    subprocess.run([*words, f"{library}/libboinc_api.a", "-lpthread", "-o", "program"], cwd=folder, check=True)


CALLBACK = r"""
static int pipe_ends[2];
static pthread_t main_thread;
static void tick(void) {
    static int count;
    char here = pthread_equal(pthread_self(), main_thread) ? 'm' : 't';
    boinc_fraction_done(0.25 * ++count);
    boinc_checkpoint_completed();
    if (write(pipe_ends[1], &here, 1) != 1) _exit(3);
    if (count == 3) { boinc_register_timer_callback(NULL); close(pipe_ends[1]); }
}
int main(void) {
    char c;
    if (pipe(pipe_ends)) return 2;
    main_thread = pthread_self();
    boinc_register_timer_callback(tick);
    boinc_init();
    while (read(pipe_ends[0], &c, 1) == 1) putchar(c);
    printf(" %g\n", boinc_get_fraction_done());
    return 0;
}
"""


def test_a_function_is_called_every_second_and_may_call_everything(plain: Path, tmp_path: Path) -> None:
    c_program(tmp_path, plain, CALLBACK)
    assert run(tmp_path, VMBRIDGE_SPOOL=str(tmp_path)) == "ttt 0.75\n"
    assert (tmp_path / "checkpoint").read_text().startswith("count 3\n")


FINISHED_IN_CALLBACK = r"""
static void tick(void) { boinc_finish(0); }
int main(void) { boinc_init_parallel(); boinc_register_timer_callback(tick); for (;;) pause(); }
"""


def test_it_may_even_end_the_program(plain: Path, tmp_path: Path) -> None:
    c_program(tmp_path, plain, FINISHED_IN_CALLBACK)
    run(tmp_path, VMBRIDGE_SPOOL=str(tmp_path))
    assert (tmp_path / "finished").read_text() == "code 0\n"


LEAST_PERIOD = r"""
static int step;
static void tick(void) { step++; }
int main(void) {
    boinc_set_min_checkpoint_period(%d);
    boinc_register_timer_callback(tick);
    boinc_init();
    while (*(volatile int *)&step < 2 && !boinc_time_to_checkpoint()) usleep(1000);
    printf("%%d\n", boinc_time_to_checkpoint());
    return 0;
}
"""


@pytest.mark.parametrize(("seconds", "due"), [(0, 1), (-5, 1), (3600, 0), (2147483647, 0)])
def test_a_period_is_only_raised(plain: Path, tmp_path: Path, seconds: int, due: int) -> None:
    c_program(tmp_path, plain, LEAST_PERIOD % seconds)
    assert run(tmp_path, VMBRIDGE_SPOOL=str(tmp_path), VMBRIDGE_CHECKPOINT_PERIOD="0.1") == f"{due}\n"


NOTHING = r"""
int main(void) {
    char text[] = "http://here";
    boinc_need_network(); boinc_network_usage(1, 2); boinc_network_done();
    boinc_ops_per_cpu_sec(1, 2); boinc_web_graphics_url(text); boinc_remote_desktop_addr(text);
    printf("%d %d %d\n", boinc_network_poll(), boinc_suspend_other_activities(), boinc_resume_other_activities());
    return 0;
}
"""


def test_what_has_no_meaning_lets_a_program_go_on(plain: Path, tmp_path: Path) -> None:
    c_program(tmp_path, plain, NOTHING)
    assert run(tmp_path) == "0 0 0\n"


CRASH = r"""
static void own(int number) { (void)number; _exit(7); }
int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) signal(SIGABRT, own);
    if (diagnostics_is_initialized() || boinc_init_diagnostics(0x20 | 0x80) != -178) return 2;
    if (boinc_init_diagnostics(0x221) || boinc_init_diagnostics(0x221) != -178) return 3;
    if (!diagnostics_is_initialized() || !diagnostics_is_flag_set(0x20) || diagnostics_is_flag_set(0x40)) return 4;
    boinc_trace("at %g\n", 0.5);
    if (argc > 2) set_signal_exit_code(5);
    abort();
}
"""


def test_a_crash_says_where_and_leaves_others_handlers_alone(plain: Path, tmp_path: Path) -> None:
    c_program(tmp_path, plain, CRASH)
    done = subprocess.run([tmp_path / "program"], stderr=subprocess.PIPE, text=True, timeout=AT_MOST_S)
    assert done.returncode == 193
    first, second, *stack = done.stderr.splitlines()
    assert first == "at 0.5" and second == f"ended by signal {signal.SIGABRT:02}"
    assert os.confstr("CS_GNU_LIBC_VERSION") is None or len(stack) > 1
    assert subprocess.run([tmp_path / "program", "own"], stderr=subprocess.DEVNULL, timeout=AT_MOST_S).returncode == 7


BY_ITSELF = r"""
int main(int argc, char **argv) {
    (void)argv;
    struct sigaction now;
    boinc_init();
    if (!diagnostics_is_initialized() || !diagnostics_is_flag_set(0x20)) return 2;
    if (boinc_init_diagnostics(0x221) != -178) return 2;
    sigaction(SIGFPE, NULL, &now);
    if (now.sa_handler != SIG_DFL) return 3;
    if (argc > 1) signal(SIGSEGV, SIG_DFL);
    fprintf(stderr, "last words\n");
    raise(SIGSEGV);
    return 4;
}
"""


def test_boinc_init_brings_the_diagnostics_along(plain: Path, tmp_path: Path) -> None:
    """A program that called nothing else used to end by the signal, and nobody was told where."""
    c_program(tmp_path, plain, BY_ITSELF)
    done = subprocess.run([tmp_path / "program"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=AT_MOST_S)
    assert done.returncode == 193
    assert done.stderr.startswith(f"last words\nended by signal {signal.SIGSEGV:02}\n")
    assert not (tmp_path / "stderr.txt").exists(), "where nobody in a machine would read it"
    done = subprocess.run([tmp_path / "program", "own"], stderr=subprocess.PIPE, text=True, timeout=AT_MOST_S)
    assert (done.returncode, done.stderr) == (-signal.SIGSEGV, "last words\n")


LINE_BY_LINE = r"""
int main(void) {
    if (boinc_init_diagnostics(0x40)) return 2;
    printf("a whole line\n");
    raise(SIGSEGV);
    return 3;
}
"""


def test_what_was_printed_before_a_crash_is_not_lost(plain: Path, tmp_path: Path) -> None:
    """As with the real one, which moves standard output to a file that it writes line by line."""
    c_program(tmp_path, plain, LINE_BY_LINE)
    done = subprocess.run([tmp_path / "program"], capture_output=True, text=True, timeout=AT_MOST_S)
    assert (done.returncode, done.stdout) == (193, "a whole line\n")


MESSAGE = r"""
extern int finish_message(int, const char *, _Bool) __asm__("_Z20boinc_finish_messageiPKcb");
int main(int argc, char **argv) { boinc_init(); return argc > 1 ? finish_message(9, argv[1], 0) : 2; }
"""


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"no such molecule", "no such molecule"),
        (b"two\nlines", "two?lines"),
        (b"caf\xe9 \x1b[1m", "caf? ?[1m"),
        ("é".encode() * 600, 512 * "é"),
        (b"x" * 5000, 1024 * "x"),
    ],
)
def test_the_message_of_an_end_is_told(plain: Path, tmp_path: Path, message: bytes, told: str) -> None:
    """It used to go to standard error alone, and the client heard nothing of it."""
    c_program(tmp_path, plain, MESSAGE)
    command: list[bytes] = [os.fsencode(tmp_path / "program"), message]
    assert subprocess.run(command, env={"VMBRIDGE_SPOOL": str(tmp_path)}, timeout=AT_MOST_S).returncode == 9
    assert (tmp_path / "finished").read_text() == f"code 9\nmessage {told}\n"


STATUS = r"""
int main(void) {
    boinc_init();
    boinc_fraction_done(0.125);
    boinc_report_app_status(1, 0, 0.5);
    printf("%g\n", boinc_get_fraction_done());
    char c = (char)getchar();
    if (c == 'f') boinc_fraction_done(0.25);
    return boinc_finish(c == '0' ? 0 : 3);
}
"""


@pytest.mark.parametrize(("key", "told"), [("x", "0.5"), ("f", "0.25"), ("0", "1")])
def test_a_status_is_reported_and_not_remembered(plain: Path, tmp_path: Path, key: str, told: str) -> None:
    """It used to change what boinc_get_fraction_done returns. The last word counts, whichever function said it."""
    c_program(tmp_path, plain, STATUS)
    environment = {"VMBRIDGE_SPOOL": str(tmp_path)}
    with subprocess.Popen(
        [tmp_path / "program"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        report = tmp_path / "fraction_done"
        until(lambda: report.exists() and report.read_text() == "0.5\n")
        assert program.communicate(key, AT_MOST_S)[0] == "0.125\n"
    assert (tmp_path / "fraction_done").read_text() == f"{told}\n"


# ------------------------------------------------------------------ with the real one


REAL_PROGRAM = r"""
#include "boinc_api.h"
#include "diagnostics.h"
#include "filesys.h"
#include "graphics2.h"
#include "mfile.h"
#include <cstdio>
#include <cstring>
#define CHECK(what) if (!(what)) { printf("not so: %s\n", #what); return 1; }
int main(int argc, char **argv) {
    BOINC_OPTIONS options;
    BOINC_STATUS status;
    APP_INIT_DATA data;
    std::string name;
    char text[512], prefix[64];
    double cpu = -1;
    MFILE file;
    CHECK(boinc_init_diagnostics(BOINC_DIAG_DEFAULTS) == 0);
    boinc_options_defaults(options);
    CHECK(boinc_init_options(&options) == 0);
    CHECK(boinc_get_init_data(data) == 0 && boinc_wu_cpu_time(cpu) == 0 && cpu >= 0);
    CHECK(boinc_resolve_filename_s("link", name) == 0 && name == "there");
    CHECK(boinc_resolve_filename("link", text, sizeof text) == 0 && !strcmp(text, "there"));
    CHECK(file.open("out", "w") == 0 && file.printf("%d\n", 5) > 0 && file.close() == 0 && boinc_file_exists("out"));
    boinc_begin_critical_section(); boinc_end_critical_section();
    CHECK(boinc_time_to_checkpoint() == 0 && boinc_checkpoint_completed() == 0 && boinc_fraction_done(0.5) == 0);
    CHECK(boinc_get_fraction_done() == 0.5 && boinc_get_status(&status) == 0 && status.quit_request == 0);
    CHECK(boinc_status.suspended == 0 && boinc_elapsed_time() >= 0 && boinc_worker_thread_cpu_time() >= 0);
    CHECK(boinc_msg_prefix(prefix, sizeof prefix) == prefix);
    CHECK(boinc_report_app_status_aux(1, 1, 0.6, 0, 0, 0) == 0 && boinc_network_poll() == 0);
    CHECK(boinc_graphics_make_shmem("gfx", 100) != NULL && boinc_write_graphics_status(1, 2, 3) == 0);
    (void)argv;
    if (argc > 1) printf("%s|%s|%d|%g|", data.app_name, data.wu_name, data.app_version, data.host_info.p_fpops);
    printf("%g %d ok\n", boinc_get_fraction_done(), boinc_is_standalone());
    fflush(stdout);
    boinc_finish(0);
}
"""


@pytest.fixture(scope="module")
def for_real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    build_library(folder, headers=[REAL_HEADERS])
    return folder


def run_real(folder: Path, *libraries: Path) -> str:
    """Run a program for the real library, with what a client says of the job if it asks ours."""
    spool = folder / "spool"
    spool.mkdir(exist_ok=True)
    (folder / "link").write_text("<soft_link>there</soft_link>\n")
    (spool / "init_data").write_text(INIT_DATA)
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "VMBRIDGE_SPOOL": str(spool)}
    command: list[str | Path] = [folder / "program", "all"]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, timeout=AT_MOST_S)
    assert done.returncode == 0, done
    return done.stdout


@needs_cxx
@needs_real
def test_a_program_that_was_linked_with_the_real_library_runs_with_ours(for_real: Path, tmp_path: Path) -> None:
    real = REAL_LIBRARY.parent
    (tmp_path / "program.cpp").write_text(REAL_PROGRAM)
    link = [f"-I{REAL_HEADERS}", f"-I{REAL_HEADERS / 'api'}", f"-L{real}", "-lboinc_api", "-lboinc", "-lpthread"]
    subprocess.run(["c++", "program.cpp", *link, "-o", "program"], cwd=tmp_path, check=True)
    assert run_real(tmp_path, real).endswith("ok\n"), "with the real one, standalone"
    assert not (tmp_path / "spool" / "finished").exists()
    (tmp_path / "stderr.txt").unlink()
    assert run_real(tmp_path, for_real, real) == "12345678901|w|3|2e+09|0.5 0 ok\n"
    assert (tmp_path / "spool" / "finished").read_text() == "code 0\n"
    assert not (tmp_path / "stderr.txt").exists(), "where nobody in a machine would read it"


@needs_cxx
@needs_real
def test_a_program_for_the_real_library_links_statically_with_ours(for_real: Path, tmp_path: Path) -> None:
    (tmp_path / "program.cpp").write_text(REAL_PROGRAM)
    libraries = [f"{for_real}/libboinc_api.a", f"{REAL_LIBRARY.parent}/libboinc.a", "-lpthread"]
    words = [f"-I{REAL_HEADERS}", f"-I{REAL_HEADERS / 'api'}", *libraries]
    subprocess.run(["c++", "-static", "program.cpp", *words, "-o", "program"], cwd=tmp_path, check=True)
    assert run_real(tmp_path) == "12345678901|w|3|2e+09|0.5 0 ok\n"
    assert (tmp_path / "spool" / "finished").read_text() == "code 0\n"
    assert not (tmp_path / "stderr.txt").exists()
