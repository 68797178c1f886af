"""Job files: what they mean, and what is said when they are broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyfakefs.fake_filesystem import FakeFilesystem

from bridge.errors import JobFileError
from bridge.job import MachineTask, read_job
from bridge.job.command_line import split_command_line
from bridge.job.elements import FORMS
from bridge.job.schema import MAX_JOB_FILE_BYTES, parse_job
from bridge.job.tags import Element, TagError, parse

FILE = Path("/slot/job.xml")

MINIMAL = """<job_desc>
  <task>
    <virtualmachine>vm</virtualmachine>
    <image>image</image>
    <application>worker</application>
  </task>
</job_desc>
"""

VMWRAPPER_2009 = """<job_desc>
<task>
  <virtualmachine>CernVM</virtualmachine>
  <image>cern.image</image>
  <application>worker</application>
  <copy_app_to_VM>1</copy_app_to_VM>
  <copy_file_to_VM>in</copy_file_to_VM>
  <copy_file_to_VM>stdin_worker</copy_file_to_VM>
  <stdin_filename>stdin_worker</stdin_filename>
  <stdout_filename>stdout_worker</stdout_filename>
  <stderr_filename>stderr_worker</stderr_filename>
  <copy_file_from_VM>out</copy_file_from_VM>
  <command_line>5 'two words' --name="x y" ""</command_line>
  <weight>2</weight>
</task>
</job_desc>"""


def only_task(text: str) -> MachineTask:
    """The task of a job that has one."""
    [task] = parse_job(FILE, text).machine_tasks
    return task


def with_task(inner: str) -> str:
    return MINIMAL.replace("  </task>", f"    {inner}\n  </task>")


def test_the_smallest_job() -> None:
    assert only_task(MINIMAL) == MachineTask(FILE, "vm", Path("/slot/image"), "worker")


def test_a_job_of_2009_runs_unchanged() -> None:
    job = only_task(VMWRAPPER_2009)
    assert job.machine == "CernVM"
    assert job.inputs == ("in", "stdin_worker")
    assert job.arguments == ("5", "two words", '--name="x', 'y"', "")
    assert job.results == ("out", "stdout_worker", "stderr_worker")
    task = job.task()
    assert task.input == ("in", "stdin_worker"), "each file once"
    assert (task.stdin, task.stdout, task.stderr) == ("stdin_worker", "stdout_worker", "stderr_worker")


def test_the_other_elements() -> None:
    elements = (
        "<memory_size_mb>512</memory_size_mb><ncpus>2</ncpus><checkpoint_period>12.5</checkpoint_period>"
        "<enable_network/>"
        "<setenv>A=1</setenv><setenv>B=x y</setenv><hypervisor>qemu</hypervisor>"
    )
    job = only_task(with_task(elements))
    assert (job.memory_mb, job.cpus, job.checkpoint_period, job.network) == (512, 2, 12.5, True)
    assert job.environment == ("A=1", "B=x y") and job.hypervisor == "qemu"


@pytest.mark.parametrize(("text", "whose"), [("host", "host"), ("guest", "guest"), ("", "host")])
def test_whose_cpu_time_the_client_is_told(text: str, whose: str) -> None:
    assert only_task(with_task(f"<cpu_time>{text}</cpu_time>")).cpu_time == whose
    assert only_task(MINIMAL).cpu_time == "host"


def test_an_absolute_image_path_stays_absolute() -> None:
    job = only_task(MINIMAL.replace("<image>image", "<image>/images/tiny"))
    assert job.image == Path("/images/tiny")


def test_packages_and_a_program_that_one_of_them_brings() -> None:
    text = with_task("<copy_app_to_VM>0</copy_app_to_VM><package>b_1.0_amd64.deb</package><package>a.tar.gz</package>")
    job = only_task(text.replace("worker", "/usr/bin/worker"))
    assert (job.application, job.copies_application) == ("/usr/bin/worker", False)
    assert job.task().package == ("b_1.0_amd64.deb", "a.tar.gz")
    assert (job.task().program, job.task().program_path) == ("worker", "/usr/bin/worker")
    assert only_task(text).task().program_path == "worker"
    assert only_task(MINIMAL).task().program_path is None


def test_loose_form_is_fine() -> None:
    loose = (
        '<?xml version="1.0"?>\n<!-- <task> in a comment -->\n<job_desc  version="2">\n<task >'
        "<virtualmachine> vm </virtualmachine><image>image</image><application>worker</application>"
        "<command_line>a & b &lt;c&gt; &amp;amp;</command_line><copy_file_from_VM/></task>\n</job_desc> trailing"
    )
    job = only_task(loose)
    assert job.arguments == ("a", "&", "b", "<c>", "&amp;") and job.outputs == ()


def test_unknown_elements_are_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert only_task(with_task("<colour>blue</colour>")).machine == "vm"
    assert "/slot/job.xml, line 6: <colour>: is not known here and ignored" in caplog.text


def test_results_may_be_called_what_begins_as_the_client_s_files_do() -> None:
    """SixTrack's results are. They used to be refused."""
    text = with_task("<copy_file_from_VM>boinc_summary.dat</copy_file_from_VM>")
    assert only_task(text).results == ("boinc_summary.dat",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "/slot/job.xml, line 1: there is no element in it"),
        ("just text", "line 1: there is no element in it"),
        ("<job_desc>\n<task>\n", "line 2: <task>: has no </task>"),
        ("<job_desc>\n<task>\n</job_desc>", "line 3: <job_desc>: ends here, but <task> from line 2 is still open"),
        ("</task>", "line 1: <task>: ends here, but never began"),
        ("<vbox></vbox>", "line 1: <vbox>: a job file begins with <job_desc> or <vbox_job>"),
        ("<job_desc></job_desc>", "line 1: <job_desc>: has no <task>"),
        (MINIMAL.replace("worker", "../worker"), "line 5: <application>: '../worker' is no plain file name"),
        (
            with_task("<copy_file_from_VM>/etc/passwd</copy_file_from_VM>"),
            "line 6: <copy_file_from_VM>: '/etc/passwd' is no",
        ),
        (
            with_task("<copy_file_from_VM>job.xml</copy_file_from_VM>"),
            "'job.xml' is a name that the bridge or the BOINC client uses itself",
        ),
        (
            with_task("<copy_file_from_VM>boinc_ufr_out</copy_file_from_VM>"),
            "'boinc_ufr_out' is a name that the bridge or the BOINC client uses itself",
        ),
        (
            with_task("<copy_file_from_VM>boinc_task_state.xml</copy_file_from_VM>"),
            "'boinc_task_state.xml' is a name that the bridge or the BOINC client uses itself",
        ),
        (
            with_task("<stdout_filename>shared</stdout_filename>"),
            "'shared' is a name that the bridge or the BOINC client uses itself",
        ),
        (with_task("<memory_size_mb>lots</memory_size_mb>"), "'lots' is not a whole number of MB from 64 to 1048576"),
        (with_task("<memory_size_mb>63</memory_size_mb>"), "'63' is not a whole number of MB"),
        (with_task("<ncpus>0</ncpus>"), "<ncpus>: '0' is not a whole number of CPUs from 1 to 256"),
        (with_task("<checkpoint_period>nan</checkpoint_period>"), "'nan' is not a number of seconds"),
        (
            with_task("<cpu_time>wall</cpu_time>"),
            "'wall' is neither 'host', the CPU time that the machine takes, nor 'guest'",
        ),
        (with_task("<checkpoint_period>-1</checkpoint_period>"), "'-1' is not a number of seconds"),
        (with_task("<setenv>novalue</setenv>"), "<setenv>: 'novalue' is not NAME=VALUE"),
        (
            with_task("<hypervisor>bochs</hypervisor>"),
            "line 6: <hypervisor>: 'bochs' is not known here. Choose",
        ),
        (MINIMAL.replace(">image<", ">im\x00age<"), "line 4: <image>: 'im\\x00age' holds the control character U+0000"),
        (with_task("<hypervisor>local</hypervisor>"), "chosen on the command line only: --hypervisor local"),
        (
            MINIMAL.replace("worker", "/bin/worker"),
            "line 5: <application>: '/bin/worker' is no plain file name. For a program that is in the image or in a "
            "package, say <copy_app_to_VM>0</copy_app_to_VM>",
        ),
        (
            with_task("<copy_app_to_VM>0</copy_app_to_VM>").replace("worker", "bin/worker"),
            "<application>: 'bin/worker' is no plain file name. Files lie in the job directory itself, without a path",
        ),
        (
            with_task("<copy_app_to_VM>0</copy_app_to_VM>").replace("worker", "/usr/bin/"),
            "<application>: '/usr/bin/' is no plain file name",
        ),
        (with_task("<package>p.zip</package>"), "<package>: 'p.zip' is no package. Its name would end with .tar, "),
        (with_task("<package>debs/p.deb</package>"), "<package>: 'debs/p.deb' is no plain file name"),
        (
            with_task("<package>p.deb</package><checkpoint_filename>p.deb</checkpoint_filename>"),
            "<task>: names the package 'p.deb' as a <checkpoint_filename>",
        ),
        (with_task("<daemon/>"), "line 6: <daemon>: is not supported by this version of the bridge"),
        (
            MINIMAL.replace("<task>", "<unzip_task></unzip_task><task>"),
            "line 2: <unzip_task>: has no <application>. Name the program",
        ),
        (MINIMAL.replace("</job_desc>", "<task></task></job_desc>"), "line 7: <task>: has no <application>. Name the"),
        (
            with_task("<command_line>" + "x" * 1025 + "</command_line>"),
            "line 6: <command_line>: '" + "x" * 79 + " has 1,025 bytes, and a guest can be told 1,024. Put it",
        ),
        (
            with_task("<command_line>a\x00b</command_line>"),
            "line 6: <command_line>: 'a\\x00b' holds the control character U+0000. Leave it out",
        ),
        ("<a>" * 40, "line 1: <a>: a job file begins with <job_desc>"),
    ],
)
def test_what_is_said_of_a_broken_job(text: str, message: str) -> None:
    with pytest.raises(JobFileError) as caught:
        parse_job(FILE, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("/slot/job.xml")


def test_a_missing_job_file(fs: FakeFilesystem) -> None:
    fs.create_dir("/slot")
    with pytest.raises(JobFileError, match=r"/slot/job\.xml: cannot be read: No such file or directory\. A job dir"):
        read_job(Path("/slot"))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_job_file_that_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "job.xml")
    with pytest.raises(JobFileError, match=r"job\.xml: is no file"):
        read_job(tmp_path)


def test_a_huge_job_file(fs: FakeFilesystem) -> None:
    fs.create_file(FILE, contents=MINIMAL + " " * MAX_JOB_FILE_BYTES)
    with pytest.raises(JobFileError, match="more than 1,048,576 bytes"):
        read_job(FILE.parent)


def test_a_job_file_that_is_not_utf_8(fs: FakeFilesystem) -> None:
    fs.create_file(FILE, contents=MINIMAL.replace(">vm<", ">Zürich<").encode("latin-1"))
    assert read_job(FILE.parent).machine_tasks[0].image.name == "image"


def test_a_name_that_is_not_utf_8_is_refused_before_the_work_not_after(fs: FakeFilesystem) -> None:
    named = with_task("<copy_file_from_VM>Größe</copy_file_from_VM>".replace("öß", "ö"))
    fs.create_file(FILE, contents=named.encode("latin-1"))
    with pytest.raises(JobFileError, match=r"line 6: <copy_file_from_VM>: .* is not UTF-8\. Save the file as UTF-8"):
        read_job(FILE.parent)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet="<>/abtask& \n!-\"'", max_size=300))
def test_any_text_is_a_tree_or_an_error_with_a_line(text: str) -> None:
    try:
        assert isinstance(parse(text, FORMS)[0], Element)
    except TagError as error:
        assert 1 <= error.line <= text.count("\n") + 1


def test_no_text_takes_for_ever() -> None:
    """Some of these used to take a time that grows with the square of the size: hours, for a file of this size."""
    texts = '["<!--" * 100_000, "<a " * 100_000, "<" + "a" * 500_000, "<a>" + "<b/>" * 80_000, "</" * 200_000]'
    code = (
        "from bridge.job.elements import FORMS\nfrom bridge.job.tags import TagError, parse\n"
        f"for text in {texts}:\n"
        "    try:\n        parse(text, FORMS)\n"
        "    except TagError as error:\n        print(error.line)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.split() == ["1"] * 5


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ()),
        ("  a\tb\n c ", ("a", "b", "c")),
        ("'a b' c", ("a b", "c")),
        ('"a \'b" c', ("a 'b", "c")),
        ("a'b c'd", ("a'b", "c'd")),
        ("'open end", ("open end",)),
        ("''", ("",)),
        (r"a\ b", ("a\\", "b")),
    ],
)
def test_command_lines_are_split_as_boinc_does(line: str, words: tuple[str, ...]) -> None:
    assert split_command_line(line) == words
