"""`vmbridge run` as its user sees it: real QEMU, a real guest, results, and what is said when something is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from guest_side import include_dir
from guest_side.build import build_library

from ..conftest import REPOSITORY
from ..patience import AT_MOST_S, until
from .conftest import ENVIRONMENT, VMBRIDGE, JobDirectory

MakeJob = Callable[..., JobDirectory]

BOTH = pytest.mark.parametrize("hypervisor", ["qemu", "local"])


@BOTH
def test_a_script_with_inputs_arguments_streams_and_outputs(make_job: MakeJob, hypervisor: str) -> None:
    job = make_job(
        'read -r line; echo "$line $1 $2 $COLOUR"; cat in.txt > out.txt; echo oops >&2; ls',
        "<copy_file_to_VM>in.txt</copy_file_to_VM><stdin_filename>stdin.txt</stdin_filename>"
        "<stdout_filename>stdout.txt</stdout_filename><stderr_filename>complaints.txt</stderr_filename>"
        "<copy_file_from_VM>out.txt</copy_file_from_VM><command_line>'a b' c</command_line>"
        "<setenv>COLOUR=blue</setenv>",
    )
    (job.path / "in.txt").write_bytes(bytes(range(256)) * 1000)
    (job.path / "stdin.txt").write_text("hello\n")
    done = job.run("--hypervisor", hypervisor)
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_bytes() == bytes(range(256)) * 1000
    assert (job.path / "stdout.txt").read_text().splitlines()[0] == "hello a b c blue"
    assert (job.path / "complaints.txt").read_text() == "oops\n"
    assert f"result:      {job.path / 'out.txt'}" in done.stdout
    assert job.left() == [] and job.machines() == []


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake BOINC library as a scientist builds it."""
    folder = tmp_path_factory.mktemp("library")
    build_library(folder)
    return folder


def compile_static(source: str, folder: Path, library: Path, *options: str) -> Path:
    program = folder / "program"
    (folder / "program.c").write_text(source)
    command = ["cc", "-O2", *options, "-o", str(program), str(folder / "program.c")]
    subprocess.run([*command, f"-I{include_dir()}", f"-L{library}", "-lboinc_api", "-lpthread", "-lm"], check=True)
    return program


REPORTING = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "boinc_api.h"
static const struct timespec tenth = {0, 100000000};
static void wait_until_seen(int percent) {
    char path[4096];
    snprintf(path, sizeof path, "%s/seen.%d", getenv("HOST"), percent);
    while (access(path, F_OK) != 0)
        nanosleep(&tenth, 0);
}
int main(void) {
    int checkpoints = 0;
    boinc_init();
    for (int step = 0; step < 30; step++) {
        boinc_fraction_done(step / 30.0);
        boinc_ops_cumulative(1e6 * step, 1e3 * step);
        if (step == 10 || step == 20) {
            while (!boinc_time_to_checkpoint())
                nanosleep(&tenth, 0);
            checkpoints++;
            boinc_checkpoint_completed();
        }
        if (step == 6 || step == 12 || step == 18 || step == 24)
            wait_until_seen(step * 10 / 3);
        nanosleep(&tenth, 0);
    }
    FILE *out = fopen("out.txt", "w");
    fprintf(out, "%d %d\\n", checkpoints, boinc_is_standalone());
    fclose(out);
    boinc_finish(0);
}
"""


@BOTH
def test_a_program_with_the_library_reports_all_it_has(
    make_job: MakeJob, library: Path, tmp_path: Path, hypervisor: str
) -> None:
    program = compile_static(REPORTING, tmp_path, library, "-static")
    elements = "<copy_file_from_VM>out.txt</copy_file_from_VM><checkpoint_period>1</checkpoint_period>"
    job = make_job(program)
    host = job.path / "shared" / "host"
    seen_as = host if hypervisor == "local" else "/run/vmbridge/host"
    job = make_job(program, f"{elements}<setenv>HOST={seen_as}</setenv>", directory=job.path)
    process = job.start("--hypervisor", hypervisor)
    assert process.stdout and process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if tenth := re.fullmatch(r"test: ([2468]0) % done\n", line):
            (host / f"seen.{tenth[1]}").touch()
    done = process.stdout.read()
    assert process.wait(AT_MOST_S) == 0, said
    checkpoints, standalone = (job.path / "out.txt").read_text().split()
    assert (checkpoints, standalone) == ("2", "0")
    assert f"checkpoints: {checkpoints}" in done
    assert "operations:  2.9e+07 floating-point, 2.9e+04 integer" in done
    tenths = [int(line.split()[1]) for line in said if "% done" in line]
    assert {20, 40, 60, 80} < set(tenths) and tenths == sorted(tenths), said


def test_the_example_gives_the_right_answer_and_the_same_bits_in_the_machine(
    make_job: MakeJob, library: Path, tmp_path: Path
) -> None:
    example = REPOSITORY / "guest_side" / "examples" / "lennard_jones"
    program = compile_static((example / "lj.c").read_text(), tmp_path, library, "-static", "-std=c11")
    results = []
    for hypervisor in ("qemu", "local"):
        job = make_job(
            program, "<copy_file_to_VM>lj.in</copy_file_to_VM><copy_file_from_VM>energy.txt</copy_file_from_VM>"
        )
        (job.path / "lj.in").write_text((example / "lj.in").read_text().replace("steps 1200", "steps 120"))
        done = job.run("--hypervisor", hypervisor)
        assert done.returncode == 0, done.stderr
        results.append((job.path / "energy.txt").read_text())
    assert results[0] == results[1]
    *energies, drift = results[0].splitlines()
    assert energies[-1].split()[0] == "120"
    assert drift.split()[0] == "drift" and float(drift.split()[1]) < 1e-4


@pytest.mark.behaviour("B20")
def test_a_program_that_knows_nothing_of_us_writes_into_tmp(make_job: MakeJob) -> None:
    script = "printf 'fpops 5e9\\nintops 7000\\n' > /tmp/creditreport; echo 0.5 > /tmp/fraction_done; sleep 2"
    done = make_job(script).run()
    assert done.returncode == 0, done.stderr
    assert "operations:  5e+09 floating-point, 7000 integer" in done.stdout
    assert "test: 50 % done" in done.stderr


def test_a_dynamic_program_is_refused_at_staging(make_job: MakeJob, library: Path, tmp_path: Path) -> None:
    job = make_job(compile_static(REPORTING, tmp_path, library, f"-Wl,-rpath,{library}"))
    done = job.run()
    assert done.returncode == 1
    assert "Programs for the tiny image are linked with -static." in done.stderr
    assert "/lib64/ld-linux-x86-64.so.2" in done.stderr
    assert job.left() == []


def test_of_several_images_the_first_that_can_be_booted(make_job: MakeJob, image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in image.iterdir():
        (other / file.name).symlink_to(file)
    (other / "image.json").unlink()
    (other / "image.json").write_text((image / "image.json").read_text().replace('"x86_64"', '"riscv64"'))
    missing = tmp_path / "missing"
    output = "<copy_file_from_VM>out</copy_file_from_VM>"
    job = make_job("uname -m > out", f"<image>{missing}</image><image>{image}</image>{output}", image_path=other)
    done = job.run("--hypervisor", "qemu")
    assert done.returncode == 0, done.stderr
    assert (job.path / "out").read_text() == "x86_64\n"
    assert f"the image {other} cannot be booted here: it is for riscv64, and QEMU here boots x86_64" in done.stderr


def test_the_work_disk_is_the_machines_own_and_empty_each_time(make_job: MakeJob) -> None:
    job = make_job('ls -A > before; df -m . > disk; echo x > left', "<copy_file_from_VM>before</copy_file_from_VM>"
                   "<copy_file_from_VM>disk</copy_file_from_VM>")  # fmt: skip
    for _ in range(2):
        assert job.run().returncode == 0
        assert "left" not in (job.path / "before").read_text().split()
        assert int((job.path / "disk").read_text().split("\n")[1].split()[1]) > 1000, "more than memory holds"


@BOTH
def test_a_program_that_crashes(make_job: MakeJob, hypervisor: str) -> None:
    job = make_job("echo about to crash >&2; kill -SEGV $$")
    done = job.run("--hypervisor", hypervisor)
    assert done.returncode == 1
    assert "the program ended with code 139: killed by signal 11 (Segmentation fault)" in done.stderr
    assert "about to crash" in done.stderr
    assert job.left() == [] and job.machines() == []


@BOTH
def test_a_program_that_fails_with_a_code(make_job: MakeJob, hypervisor: str) -> None:
    done = make_job("echo no such molecule >&2; exit 7").run("--hypervisor", hypervisor)
    assert done.returncode == 1
    assert "the program ended with code 7" in done.stderr and "no such molecule" in done.stderr


@BOTH
def test_an_output_that_is_missing(make_job: MakeJob, hypervisor: str) -> None:
    elements = "<copy_file_from_VM>a</copy_file_from_VM><copy_file_from_VM>b</copy_file_from_VM>"
    job = make_job("echo here > b", elements)
    done = job.run("--hypervisor", hypervisor)
    assert done.returncode == 1
    assert "the output a is missing: the program did not write it" in done.stderr
    assert (job.path / "b").read_text() == "here\n"


def test_a_link_to_the_hosts_secrets_planted_as_an_output(make_job: MakeJob) -> None:
    out = "/run/vmbridge/guest/out"
    job = make_job(f"mkdir {out}; ln -s /etc/hostname {out}/a", "<copy_file_from_VM>a</copy_file_from_VM>")
    done = job.run()
    assert done.returncode == 0, "9p makes the link a plain file with the text of the link in it"
    assert (job.path / "a").read_text() == "/etc/hostname" and not (job.path / "a").is_symlink()


def test_a_guest_that_never_comes_up(make_job: MakeJob, image: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("vmlinux", "work.qcow2"):
        (broken / name).symlink_to(image / name)
    (broken / "initramfs.cpio").write_bytes(b"this is no initramfs")
    (broken / "image.json").write_text((image / "image.json").read_text().replace("panic=-1", "panic=0"))  # hang
    job = make_job("true", image_path=broken)
    done = job.run("--boot-timeout", "12")  # time enough for a slow machine to say why
    assert done.returncode == 1
    said = re.search(r"the guest never came up: silent for (\d+) seconds", done.stderr)
    assert said and int(said[1]) >= 12, done.stderr
    assert "Kernel panic" in done.stderr, "the console's last lines"
    assert job.left() == [] and job.machines() == []


def test_a_machine_that_dies_on_the_way(make_job: MakeJob) -> None:
    job = make_job("echo 0.5 > $VMBRIDGE_SPOOL/fraction_done; sleep 60")
    process = job.start()
    job.wait_for("shared/guest/fraction_done")
    [machine] = job.machines()
    machine.kill()
    _, err = process.communicate(timeout=AT_MOST_S)
    assert process.returncode == 1
    assert "the machine ended before the program had finished: QEMU was ended by signal 9" in err
    assert job.left() == []


@pytest.mark.parametrize("moment", ["staging", "machine", "shared/guest/status", "shared/guest/fraction_done"])
def test_a_killed_bridge_leaves_no_machine_and_the_next_start_begins_anew(make_job: MakeJob, moment: str) -> None:
    job = make_job("echo 0.5 > $VMBRIDGE_SPOOL/fraction_done; sleep ${NAP:-60}; echo ok > out",
                   "<copy_file_from_VM>out</copy_file_from_VM>")  # fmt: skip
    process = job.start()
    if moment == "staging":
        until(lambda: ".vmbridge.lock" in job.left())
    elif moment == "machine":
        until(job.machines)
    else:
        job.wait_for(moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: not job.machines())
    assert job.left() != []
    (job.path / "worker").write_text("#!/bin/sh\necho ok > out\n")
    again = job.run()
    assert again.returncode == 0, again.stderr
    assert (job.path / "out").read_text() == "ok\n"
    assert job.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_removes_everything(make_job: MakeJob, number: signal.Signals) -> None:
    job = make_job("echo 0.5 > $VMBRIDGE_SPOOL/fraction_done; sleep 60")
    process = job.start()
    job.wait_for("shared/guest/fraction_done")
    process.send_signal(number)
    _, err = process.communicate(timeout=AT_MOST_S)
    assert process.returncode == 130 and "interrupted" in err
    assert job.left() == [] and job.machines() == []


def test_two_bridges_in_one_directory(make_job: MakeJob) -> None:
    job = make_job("sleep 60")
    job.start()
    job.wait_for("shared")
    done = job.run()
    assert done.returncode == 1
    assert f"another bridge is at work in {job.path}" in done.stderr


def test_a_missing_image(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("true", image_path=tmp_path / "absent")
    done = job.run()
    assert done.returncode == 1
    assert "absent" in done.stderr and "vmbridge image build" in done.stderr
    assert job.left() == []


def test_qemu_is_missing(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("true")
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [*VMBRIDGE, "run", job.path], env={**ENVIRONMENT, "PATH": str(empty)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert (
        "no hypervisor is installed. Install QEMU (Debian: apt-get install qemu-system-x86 qemu-utils)" in done.stderr
    )


def test_a_missing_program_and_a_missing_input(make_job: MakeJob) -> None:
    job = make_job("true", "<copy_file_to_VM>in</copy_file_to_VM>")
    done = job.run()
    assert f"{job.path / 'job.xml'}: <copy_file_to_VM>: {job.path / 'in'} does not exist" in done.stderr
    (job.path / "worker").unlink()
    assert f"<application>: {job.path / 'worker'} does not exist" in job.run().stderr
    assert job.left() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of three megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a file system")
    return folder


@BOTH
def test_a_full_share(make_job: MakeJob, small_disk: Path, hypervisor: str) -> None:
    """The work is done, and the volunteer's disk is full: that is told, and when there is room the results come."""
    try:
        job = make_job(
            "head -c 6000000 /dev/zero > big",
            "<copy_file_from_VM>big</copy_file_from_VM>",
            directory=small_disk / "job",
        )
        if hypervisor == "local":  # its working directory would be on the small disk too
            (job.path / "worker").write_text(
                "#!/bin/sh\nhead -c 900000 /dev/zero > big\nhead -c 1500000 /dev/zero > pad\n"
            )
        log = small_disk.with_name("log")
        with log.open("w") as stderr:
            command = [*VMBRIDGE, "run", str(job.path), "--hypervisor", hypervisor]
            process = subprocess.Popen(command, stderr=stderr, text=True, env=ENVIRONMENT)
        job.started.append(process)
        until(lambda: "cannot write out/big: No space left on device" in log.read_text(), log.read_text)
        assert process.poll() is None, "it waits for room"
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        assert process.wait(2 * AT_MOST_S) == 0, log.read_text()
        assert (job.path / "big").stat().st_size == (6_000_000 if hypervisor == "qemu" else 900_000)
        assert job.left() == [] and job.machines() == []
    finally:
        subprocess.run(["umount", small_disk], check=False)


def test_the_wheel_brings_the_guest_along(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, REPOSITORY],
        check=True,
        capture_output=True,
    )
    site = tmp_path / "site"
    [wheel] = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, site], check=True)
    for arch in ("x86_64", "aarch64"):
        code = f"import sys, guest_side; sys.stdout.buffer.write(guest_side.read_agent('{arch}'))"
        found = subprocess.run(
            [sys.executable, "-c", code], cwd=site, env={**os.environ, "PYTHONPATH": ""}, capture_output=True
        )
        assert found.stdout == (REPOSITORY / "build" / "guest" / arch / "agent").read_bytes()
        assert (site / f"guest_side/prebuilt/{arch}/mount_hook").is_file()
    for name in ("guest_side/libboinc/boinc_api.c", "guest_side/libboinc/boinc_init_data.cpp", "guest_side/hook/hook.h",
                 "guest_side/wire/wire.h", "guest_side/examples/lennard_jones/job.xml", "protocol/verify_share.sh",
                 "bridge/bundle/main_program"):  # fmt: skip
        assert (site / name).is_file(), name
