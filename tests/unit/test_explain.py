"""`vmbridge explain`: what would be done, in words, for whoever does not know the bridge."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import vmbridge
from bridge.job.schema import parse_job
from bridge.job.words import explain

from ..conftest import REPOSITORY

SAMPLES = REPOSITORY / "tests/jobs"
FILE = Path("/project/job.xml")


def words(inside: str) -> list[str]:
    return explain(parse_job(FILE, f"<job_desc>{inside}</job_desc>"))


def machine(inner: str = "") -> str:
    return f"<task><virtualmachine>vm</virtualmachine><application>worker</application>{inner}</task>"


def host(inner: str = "") -> str:
    return f"<task><application>worker</application>{inner}</task>"


def after(lines: list[str], beginning: str) -> str:
    """The text behind a beginning, with the lines that belong to it, in one line."""
    number = next(n for n, line in enumerate(lines) if line.startswith(beginning))
    indent = len(beginning)
    more = []
    for line in lines[number + 1 :]:
        if not line.startswith(" " * 19):
            break
        more.append(line.strip())
    return " ".join([lines[number][indent:].strip(), *more])


@pytest.mark.parametrize("sample", sorted(path.stem for path in SAMPLES.glob("*.xml")))
def test_the_samples(sample: str) -> None:
    """If they are meant to change: vmbridge explain tests/jobs/X.xml > tests/jobs/explained/X.txt"""
    told = CliRunner().invoke(vmbridge, ["explain", str(SAMPLES / f"{sample}.xml")])
    assert told.exit_code == 0
    assert told.stdout == (SAMPLES / "explained" / f"{sample}.txt").read_text()


def test_everything_that_an_element_changes_is_told() -> None:
    """Each of these changes what is done, so it must change what is said."""
    plain = words(machine("<copy_file_from_VM>out</copy_file_from_VM>"))
    for element in (
        "<image>debian</image>",
        "<image>image</image><image>debian</image>",
        "<memory_size_mb>512</memory_size_mb>",
        "<ncpus>2</ncpus>",
        "<enable_network/>",
        "<hypervisor>qemu</hypervisor>",
        "<copy_file_to_VM>in</copy_file_to_VM>",
        "<stdin_filename>in</stdin_filename>",
        "<stdout_filename>log</stdout_filename>",
        "<stderr_filename>log</stderr_filename>",
        "<command_line>-n 5</command_line>",
        "<setenv>A=1</setenv>",
        "<checkpoint_filename>state</checkpoint_filename>",
        "<checkpoint_period>60</checkpoint_period>",
        "<cpu_time>guest</cpu_time>",
        "<append_cmdline_args/>",
        "<package>lib.tar</package>",
        "<copy_app_to_VM>0</copy_app_to_VM>",
    ):
        assert words(machine(f"<copy_file_from_VM>out</copy_file_from_VM>{element}")) != plain, element
    plain = words(host())
    for element in (
        "<command_line>-n 5</command_line>",
        "<exec_dir>data</exec_dir>",
        "<setenv>A=1</setenv>",
        "<stdin_filename>in</stdin_filename>",
        "<stdout_filename>log</stdout_filename>",
        "<stderr_filename>log</stderr_filename>",
        "<checkpoint_filename>state</checkpoint_filename>",
        "<fraction_done_filename>progress</fraction_done_filename>",
        "<append_cmdline_args/>",
        "<time_limit>60</time_limit>",
        "<priority>3</priority>",
    ):
        assert words(host(element)) != plain, element


def test_the_shares_of_the_tasks() -> None:
    lines = words(host("<weight>1</weight>") + machine("<weight>2</weight>") + host("<weight>0</weight>"))
    heads = [line for line in lines if line.startswith("Task ")]
    assert heads == [
        "Task 1: worker, 33.3 % of the job",
        "Task 2: worker, 66.7 % of the job",
        "Task 3: worker, 0 % of the job",
    ]
    assert words(host("<weight>7</weight>"))[2] == "Task 1: worker", "one task is all of it"


def test_how_it_ends() -> None:
    ends = [
        "The project is then told the code 195.",
        "The project is then told the program's code (195 where that is none from 1 to 255).",
        "The project is then told the program's code "
        "(195 where that is none from 1 to 255, and for programs on the computer).",
    ]
    for inside, expected in zip((host(), machine(), machine() + host()), ends, strict=True):
        assert expected in " ".join(line.strip() for line in words(inside))


def test_an_interruption_depends_on_what_runs() -> None:
    stopped = [" ".join(words(inside)) for inside in (host(), machine(), machine() + host())]
    assert ["The machine is saved on the disk" in text for text in stopped] == [False, True, True]
    assert ["asked to end (SIGTERM)" in text for text in stopped] == [True, False, True]
    assert ["Tasks that are done are not done again" in text for text in stopped] == [False, False, True]


def test_macros_are_said_once_and_only_where_they_are_meant() -> None:
    lines = words(host("<command_line>$PWD/a $PWD/b boinc_resolve(in) $PWDx</command_line>"))
    assert after(lines, "  arguments:") == (
        "$PWD/a $PWD/b boinc_resolve(in) $PWDx $PWD is the job's folder (the slot) "
        "boinc_resolve(in) is the place where the file in really lies"
    )
    assert not any("$PWD is" in line for line in words(machine("<command_line>$PWD</command_line>")))


def test_lines_are_short_and_long_names_are_not_broken() -> None:
    name = "n" * 200
    lines = words(machine(f"<copy_file_to_VM>{name}</copy_file_to_VM><command_line>{'word ' * 100}</command_line>"))
    assert max(len(line) for line in lines if name not in line) <= 100
    assert any(line.strip() == name or name in line for line in lines)


def test_foreign_text_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "job.xml"
    file.write_bytes(
        b"<job_desc>" + host("<command_line>\x1b[31m\x07 \xff</command_line>").encode("latin-1") + b"</job_desc>"
    )
    told = CliRunner().invoke(vmbridge, ["explain", str(file)])
    assert told.exit_code == 0
    assert all(char.isprintable() or char == "\n" for char in told.stdout)


def test_a_job_that_cannot_be_run_is_not_explained(tmp_path: Path) -> None:
    file = tmp_path / "job.xml"
    file.write_text("<job_desc>")
    told = CliRunner().invoke(vmbridge, ["explain", str(file)])
    assert told.exit_code != 0 and told.stdout == ""
    assert f"{file}, line 1: <job_desc>: has no </job_desc>" in str(told.exception)
