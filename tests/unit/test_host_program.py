"""What a task of the job file means on this host."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bridge.client.slot import Slot
from bridge.errors import JobFileError
from bridge.host.program import Program, Surroundings, prepare
from bridge.job import HostTask


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "projects" / "example.org"
    folder.mkdir(parents=True)
    (tmp_path / "slots" / "0").mkdir(parents=True)
    return folder


@pytest.fixture
def slot(project: Path) -> Path:
    return project.parents[1] / "slots" / "0"


def link(slot: Path, name: str, target: str, content: str | None = "x") -> Path:
    """Put into the slot what a client puts there for a file of the project; return the file."""
    file = slot.parents[1] / "projects" / "example.org" / target
    if content is not None:
        file.write_text(content)
    (slot / name).write_text(f"<soft_link>../../projects/example.org/{target}</soft_link>\n")
    return file


def program(slot: Path, task: HostTask, **around: object) -> Program:
    values: dict[str, object] = {
        "directory": slot,
        "resolve": Slot(slot).resolve,
        "project_dir": str(slot.parents[1] / "projects" / "example.org"),
        "nthreads": 3,
        "device": None,
        "arguments": ("--more",),
    }
    return prepare(task, Surroundings(**{**values, **around}))  # type: ignore[arg-type]


def words(slot: Path, command_line: str, **task: object) -> tuple[str, ...]:
    link(slot, "app", "app_1.0")
    return program(slot, HostTask("app", command_line, **task)).argv[1:]  # type: ignore[arg-type]


def test_all_of_a_task(slot: Path, project: Path) -> None:
    link(slot, "app", "app_1.0")
    link(slot, "in", "in_7")
    link(slot, "out", "out_7", None)
    (slot / "sub").mkdir()
    task = HostTask(
        "app",
        "-n $NTHREADS 'a b'",
        exec_dir="$PWD/sub",
        environment=("HERE=$PROJECT_DIR", "X="),
        stdin="in",
        stdout="out",
        stderr="err",
        checkpoint_filename="state",
        fraction_done_filename="done",
        time_limit=9.0,
        priority=2,
        multi_process=True,
        takes_more_arguments=True,
    )
    assert program(slot, task) == Program(
        name="app",
        argv=(str(project / "app_1.0"), "-n", "3", "a b", "--more"),
        slot=slot,
        cwd=slot / "sub",
        env=(f"HERE={project}", "X="),
        stdin=project / "in_7",
        stdout=project / "out_7",
        stderr=slot / "err",
        checkpoint=slot / "state",
        fraction=slot / "done",
        time_limit=9.0,
        priority=2,
        multi_process=True,
    )


def test_a_bare_task(slot: Path, project: Path) -> None:
    link(slot, "app", "app_1.0")
    made = program(slot, HostTask("app"))
    assert made == Program(name="app", argv=(str(project / "app_1.0"),), slot=slot, cwd=slot, priority=1)
    assert made.env is None and made.time_limit is None


# Command lines


def test_macros(slot: Path, project: Path) -> None:
    assert words(slot, "$NTHREADS/$NTHREADS x$PWD $PROJECT_DIR/d") == ("3/3", f"x{slot}", f"{project}/d")


def test_without_a_project_folder_it_is_here(slot: Path) -> None:
    link(slot, "app", "app_1.0")
    assert program(slot, HostTask("app", "$PROJECT_DIR/d"), project_dir="").argv[1] == "./d"


def test_the_number_of_a_gpu_stands_where_there_is_one(slot: Path) -> None:
    link(slot, "app", "app_1.0")
    task = HostTask("app", "-d $GPU_DEVICE_NUM")
    assert program(slot, task, device=0).argv[2] == "0"
    assert program(slot, task).argv[2] == "$GPU_DEVICE_NUM", "as BOINC's wrapper leaves it"


def test_a_path_with_spaces_and_quotes_is_one_word(slot: Path, tmp_path: Path) -> None:
    """As on every Mac: /Library/Application Support/BOINC Data. BOINC's wrapper makes two words of it."""
    link(slot, "app", "app_1.0")
    odd = '/Library/Application "Support" \'/x'
    task = HostTask("app", "-a $PROJECT_DIR/a '$PROJECT_DIR/b c'")
    assert program(slot, task, project_dir=odd).argv[1:] == ("-a", f"{odd}/a", f"{odd}/b c")


def test_boinc_resolve(slot: Path, project: Path) -> None:
    link(slot, "in", "in_7")
    link(slot, "my in", "in_8")
    assert words(slot, "-i boinc_resolve(in) --x=boinc_resolve(my in),boinc_resolve(here)") == (
        "-i",
        f"{project}/in_7",
        f"--x={project}/in_8,{slot}/here",
    )
    assert words(slot, "boinc_resolve($NTHREADS)") == (f"{slot}/3",)


def test_boinc_resolve_without_an_end(slot: Path) -> None:
    with pytest.raises(JobFileError, match=r"job.xml, line 5: <command_line>: 'boinc_resolve\(' has no '\)'"):
        words(slot, "x boinc_resolve(in", line=5)


def test_words_that_begin_with_a_dot_and_a_slash_are_resolved_where_there_is_a_link(slot: Path, project: Path) -> None:
    link(slot, "in", "in_7")
    (slot / "own").write_text("")
    (slot / "sub").mkdir()
    assert words(slot, "./in ./own ./nothing in x./in") == (f"{project}/in_7", "./own", "./nothing", "in", "x./in")
    assert words(slot, "./in", exec_dir="sub") == ("./in",), "which lies in sub"


def test_a_setting_without_a_value_sets_nothing(slot: Path) -> None:
    """The start of the program used to break off with a traceback. The job file's reader warns of it."""
    (slot / "worker").write_text("x")
    assert program(slot, HostTask("worker", environment=("DEBUG", "A=$NTHREADS"))).env == ("A=3",)
    assert program(slot, HostTask("worker", environment=("DEBUG",))).env == ()


def test_a_nul_cannot_be_given(slot: Path) -> None:
    with pytest.raises(JobFileError, match="holds a NUL"):
        words(slot, "a\0b")


# The program


def test_a_program_of_the_project_folder(slot: Path, project: Path) -> None:
    (project / "tool").write_text("")
    assert program(slot, HostTask("$PROJECT_DIR/tool")).argv == (str(project / "tool"),)


def test_a_program_becomes_executable(slot: Path) -> None:
    file = link(slot, "app", "app_1.0")
    assert not os.access(file, os.X_OK) or os.getuid() == 0
    program(slot, HostTask("app"))
    assert file.stat().st_mode & 0o100


@pytest.mark.parametrize("name", ["tar", "sh"])
def test_a_program_of_the_system(slot: Path, name: str) -> None:
    found = program(slot, HostTask(name)).argv[0]
    assert found.startswith("/") and found.endswith(f"/{name}")


def test_a_file_of_the_slot_comes_first(slot: Path, project: Path) -> None:
    link(slot, "tar", "our_tar")
    assert program(slot, HostTask("tar")).argv == (str(project / "our_tar"),)


def test_no_such_program(slot: Path) -> None:
    with pytest.raises(JobFileError) as caught:
        program(slot, HostTask("nowhere", line=7))
    assert re.fullmatch(
        r"/\S+/job\.xml, line 7: <application>: there is no file 'nowhere'\. Send it along .* under this name",
        str(caught.value),
    )


def test_a_link_to_nothing(slot: Path, project: Path) -> None:
    link(slot, "app", "gone", None)
    with pytest.raises(JobFileError, match=rf"no file 'app' \(it stands for {project}/gone\)"):
        program(slot, HostTask("app"))


def test_a_folder_is_no_program(slot: Path) -> None:
    (slot / "app").mkdir()
    with pytest.raises(JobFileError, match="'app' is no file that could be run"):
        program(slot, HostTask("app"))


def test_no_such_input(slot: Path) -> None:
    link(slot, "app", "app_1.0")
    with pytest.raises(JobFileError, match=r"line 3: <stdin_filename>: there is no file 'in'\. Send it along"):
        program(slot, HostTask("app", line=3, stdin="in"))


def test_no_such_folder(slot: Path) -> None:
    link(slot, "app", "app_1.0")
    with pytest.raises(JobFileError, match=r"line 3: <exec_dir>: there is no folder \S+/0/sub"):
        program(slot, HostTask("app", line=3, exec_dir="sub"))
