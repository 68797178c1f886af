"""The elements of `<job_desc>`: what old files mean, what is refused, and what a linter is told."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.archives import INITIAL_FILES
from bridge.done import DONE
from bridge.errors import JobFileError
from bridge.job import HostTask, Job, ZipOutput
from bridge.job.elements import FORMS, HOST_TASK, JOB_DESC, MACHINE_TASK
from bridge.job.findings import Kind
from bridge.job.names import OWN_NAMES
from bridge.job.patterns import file_pattern
from bridge.job.schema import Examined, examine_job, parse_job
from bridge.job.table import Table, Whose
from bridge.job.tags import Element, parse
from bridge.job.values import Value
from bridge.workplace import MACHINE, SHARED

from .. import reference

FILE = Path("/slot/job.xml")
SAMPLES = Path(__file__).parent.parent / "jobs"


def examine(text: str) -> Examined:
    return examine_job(FILE, text)


def job_of(text: str) -> Job:
    return parse_job(FILE, text)


def host(inner: str = "") -> str:
    return f"<job_desc><task><application>app</application>{inner}</task></job_desc>"


def host_task(inner: str = "") -> HostTask:
    [task] = job_of(host(inner)).tasks
    assert isinstance(task, HostTask)
    return task


def machine(*tasks: str) -> str:
    each = "".join(
        f"\n<task><virtualmachine>vm</virtualmachine><application>app</application>{inner}</task>" for inner in tasks
    )
    return f"<job_desc>{each}\n</job_desc>"


def said(text: str) -> list[str]:
    return [f"{found.kind.value} {found.line} <{found.element}> {found.sentence}" for found in examine(text).findings]


# The page and the samples


def test_the_page_is_up_to_date() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run: make reference"


def sample(name: str) -> str:
    return (SAMPLES / name).read_text(encoding="utf-8")


def all_samples() -> list[str]:
    return sorted(path.name for path in SAMPLES.glob("*.xml"))


def used(table: Table, element: Element, path: str = "") -> Iterator[str]:
    """Every element that a sample has, with the table that it is read by."""
    for child in element.children:
        name = child.name
        yield f"{path}{name}"
        value = table.row[name].value if name in table.row else None
        if name == "task":
            in_machine = any(inner.name == "virtualmachine" and inner.text for inner in child.children)
            yield from used(MACHINE_TASK if in_machine else HOST_TASK, child, "machine/" if in_machine else "host/")
        elif isinstance(value, Table):
            yield from used(value, child, f"{name}/")


def wanted(table: Table, path: str = "") -> Iterator[str]:
    for row in table.rows:
        if row.refused:
            continue
        yield f"{path}{row.name}"
        if row.name == "task":
            yield from wanted(MACHINE_TASK, "machine/")
            yield from wanted(HOST_TASK, "host/")
        elif isinstance(row.value, Table) and not row.deprecated:  # the deprecated ones hold what a host task holds
            yield from wanted(row.value, f"{row.name}/")


def test_every_element_occurs_in_a_sample() -> None:
    there = {name for file in all_samples() for name in used(JOB_DESC, parse(sample(file), FORMS)[0])}
    assert set(wanted(JOB_DESC)) - there == set(), "add them to a file in tests/jobs/"


@pytest.mark.parametrize("name", all_samples())
def test_a_sample_is_read_without_errors_and_unknown_elements(name: str) -> None:
    examined = examine(sample(name))
    assert examined.job is not None
    assert [found for found in examined.findings if found.kind in (Kind.ERROR, Kind.UNKNOWN)] == []


def test_a_file_for_wrapper() -> None:
    job = job_of(sample("wrapper.xml"))
    assert job.unzip_input == ("data.zip", "more_data.zip")
    assert job.zip_output == ZipOutput("results.zip", (r"result_[0-9]+\.txt$", r"^service\.log$"))
    assert job.graphics
    assert job.daemons == (HostTask("service", line=7, stdout="service.log"),)
    assert job.tasks == (
        HostTask(
            "prepare",
            "--threads $NTHREADS boinc_resolve(settings) 'two words'",
            line=12,
            exec_dir="$PWD/data",
            environment=("LD_LIBRARY_PATH=$PROJECT_DIR/lib", "PATH=/usr/bin:/bin"),
            stdin="in",
            stdout="out",
            stderr="/dev/null",
            time_limit=3600.0,
            priority=2,
        ),
        HostTask(
            "$PROJECT_DIR/compute",
            line=25,
            checkpoint_filename="state",
            fraction_done_filename="progress",
            weight=9.0,
            multi_process=True,
            forward_slashes=True,
            takes_more_arguments=True,
        ),
    )


def test_a_file_for_vmwrapper() -> None:
    job = job_of(sample("vmwrapper.xml"))
    assert job.unzip_tasks == (HostTask("unpack", "./inputs.tar", line=3),)
    assert [helper.application for helper in job.helpers] == ["helper"]
    first, between, last = job.tasks
    assert isinstance(between, HostTask) and between.command_line == "./events_out"
    assert between.checkpoint_filename == "sorted_so_far"
    assert job.machine_tasks == (first, last)
    assert {(task.machine, task.image) for task in job.machine_tasks} == {("CernVM", Path("/slot/cernvm"))}
    assert job.machine_tasks[0].arguments == ("--events", "1000", "./geometry"), "the guest's own working directory"
    assert [task.weight for task in job.tasks] == [6.0, 1.0, 3.0]


def test_the_worker_of_the_slides() -> None:
    job = job_of(sample("worker.xml"))
    [worker] = job.machine_tasks
    assert (worker.application, worker.arguments) == ("worker.py", ("5",))
    assert worker.image == Path("/slot/image"), "the project's only one"
    assert (worker.inputs, worker.outputs) == (("in", "stdin_worker"), ("out",))
    assert job.unzip_tasks[0].command_line == "-xf ./cctools.tar"
    assert [helper.application for helper in job.helpers] == ["./activemq/bin/activemq", "python"]
    assert job.helpers[0].stdin is None


# What BOINC's parser takes: all of these were tried with the real one (libboinc 7.20.5).


@pytest.mark.parametrize(
    ("inner", "name", "value"),
    [
        ("<weight>0x10</weight>", "weight", 16.0),
        ("<weight>1e3</weight>", "weight", 1000.0),
        ("<weight> .5\n</weight>", "weight", 0.5),
        ("<weight>abc</weight>", "weight", 1.0),
        ("<weight>1_0</weight>", "weight", 1.0),
        ("<weight>2</weight><weight>1 2</weight>", "weight", 2.0),
        ("<weight>2</weight><weight>3</weight>", "weight", 3.0),
        ("<weight/>", "weight", 1.0),
        ("<weight><![CDATA[4]]></weight>", "weight", 4.0),
        ("<priority>010</priority>", "priority", 3),
        ("<priority>0x2</priority>", "priority", 2),
        ("<priority>+4</priority>", "priority", 4),
        ("<priority>2.0</priority>", "priority", 1),
        ("<priority></priority>", "priority", 3),
        ("<priority>9</priority>", "priority", 3),
        ("<priority>9999999999999999999999</priority>", "priority", 1),
        ("<time_limit>0</time_limit>", "time_limit", None),
        ("<time_limit></time_limit>", "time_limit", None),
        ("<time_limit>1.5</time_limit>", "time_limit", 1.5),
        ("<multi_process/>", "multi_process", True),
        ("<multi_process />", "multi_process", True),
        ("<multi_process>1</multi_process>", "multi_process", True),
        ("<multi_process>-7</multi_process>", "multi_process", True),
        ("<multi_process>9999999999999999999999</multi_process>", "multi_process", True),
        ("<multi_process>0</multi_process>", "multi_process", False),
        ("<multi_process>true</multi_process>", "multi_process", False),
        ("<multi_process></multi_process>", "multi_process", False),
        ("<multi_process/><multi_process>0</multi_process>", "multi_process", False),
        ("<stdout_filename>a</stdout_filename><stdout_filename/>", "stdout", None),
        ("<stdout_filename a='1'>a</stdout_filename >", "stdout", "a"),
        ("<stdout_filename a='1' />a", "stdout", None),
        ("<stdout_filename>a<!-- b -->c</stdout_filename>", "stdout", None),
        ("<stdout_filename><!-- b -->c</stdout_filename>", "stdout", "c"),
        ("<stdout_filename><![CDATA[&lt;]]></stdout_filename>", "stdout", "&lt;"),
        ("<stdout_filename>a</stderr_filename>", "stdout", None),
        ("<stdout_filename>a</stderr_filename>", "stderr", None),
        ("<command_line>a > b && c &lt; d &#65;&quot;</command_line>", "command_line", 'a > b && c < d A"'),
        ("<command_line>a < b</command_line><weight>2</weight>", "weight", 2.0),
        ("<setenv>no value</setenv>", "environment", ("no value",)),
        ("<colour><weight>2</weight></colour>", "weight", 2.0),
        ("<colour><weight>2</weight>", "weight", 2.0),
        ("</colour>text<weight>2</weight>", "weight", 2.0),
        ("<stdin_filename><weight>2</weight>", "weight", 1.0),
        ("<weight>x<priority>2</priority>", "priority", 2),
        ("<image>i</image><copy_file_to_VM>../x</copy_file_to_VM><ncpus>lots</ncpus>", "weight", 1.0),
        ("<stdin_filename>../../in</stdin_filename>", "stdin", "../../in"),
        ("<stdout_filename>/dev/null</stdout_filename>", "stdout", "/dev/null"),
        ("<stdout_filename>logs/out..txt</stdout_filename>", "stdout", "logs/out..txt"),
        ("<stdout_filename>boinc_output</stdout_filename>", "stdout", "boinc_output"),
    ],
)
def test_what_old_files_mean(inner: str, name: str, value: object) -> None:
    assert getattr(host_task(inner), name) == value


@pytest.mark.parametrize(
    "text",
    [
        "<?xml version='1.0' encoding='ISO-8859-1'?>" + host(),
        "\n<!-- <job_desc> -->\n" + host(),
        "<?xml version='1.0'?><!DOCTYPE job_desc>" + host(),
        "\ufeff" + host(),
        host() + "<never closed",
        host() + "</job_desc></task>",
        host().replace("<task>", "stray text <task class='x'> more"),
        host().replace("<job_desc>", "<job_desc><foo><bar>"),
        host().replace("</task>", "</task></task>"),
        host().replace("<task>", "<task><task>"),
        host("<!-- <weight>3</weight>"[:4] + " -->"),
    ],
)
def test_loose_form(text: str) -> None:
    assert [task.application for task in job_of(text).tasks if isinstance(task, HostTask)] == ["app"]


def test_two_tasks_without_an_end_between_them_are_one_as_they_always_were() -> None:
    text = "<job_desc>\n<task><application>a</application>\n<task><application>b</application></task>\n</job_desc>"
    assert [task.application for task in job_of(text).tasks if isinstance(task, HostTask)] == ["b"]
    assert said(text)[0] == "ignored 3 <task> begins again before its end; the one from line 2 goes on here"


TAGS = ("<job_desc>", "</job_desc>", "<task>", "</task>", "<weight>", "</weight>", "1", "x", "<foo/>")


@settings(deadline=None)
@given(st.lists(st.sampled_from(TAGS)))
def test_any_tags_are_a_job_or_errors(tags: list[str]) -> None:
    examined = examine("\n".join(["<job_desc>", *tags]))
    assert (examined.job is None) == any(found.kind is Kind.ERROR for found in examined.findings)
    assert all(1 <= found.line <= len(tags) + 1 for found in examined.findings)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(all_samples()), st.floats(0, 1), st.integers(0, 40), st.text(max_size=8))
def test_a_sample_with_anything_in_it_is_a_job_or_errors(name: str, where: float, cut: int, put: str) -> None:
    text = sample(name)
    begin = int(where * len(text))
    examined = examine(text[:begin] + put + text[begin + cut :])
    assert (examined.job is None) == any(found.kind is Kind.ERROR for found in examined.findings)
    assert all(found.sentence and "\n" not in found.sentence for found in examined.findings)


# Absurd numbers


@pytest.mark.parametrize("number", ["-1", "nan", "-nan", "inf", "-inf", "1e308", "1e999", "0x1p9999", "9" * 5000])
def test_an_absurd_weight_counts_as_none(number: str) -> None:
    assert host_task(f"<weight>{number}</weight>").weight == 1.0
    assert len(examine(host(f"<weight>{number}</weight>")).findings) == 1


def test_weights_that_are_all_0_would_divide_by_it() -> None:
    two = "<task><application>app</application><weight>0</weight></task>"
    assert [task.weight for task in job_of(f"<job_desc>{two}{two}</job_desc>").tasks] == [1.0, 1.0]
    assert [task.weight for task in job_of(f"<job_desc>{two}{two.replace('0', '2')}</job_desc>").tasks] == [0.0, 2.0]


@pytest.mark.parametrize("number", ["-1", "nan", "inf", "1e308", "1e999"])
def test_an_absurd_time_limit_is_none(number: str) -> None:
    assert host_task(f"<time_limit>{number}</time_limit>").time_limit is None


def test_no_file_takes_for_ever() -> None:
    """Linear: a file of the largest size takes a few seconds here, and not hours."""
    many = 40_000
    texts = [
        "<job_desc>" + "<task></task>" * many,
        "<job_desc>" + "<task><application>a</application><daemon/></task>" * (many // 4),
        machine(*[""] * (many // 8)),
        "<job_desc><task>" + "".join(f"<a{number}>x" for number in range(many)),
        host("<weight>abc</weight>" * many),
        host("</weight>" * many),
    ]
    begun = time.process_time()
    for text in texts:
        examine(text)
    assert time.process_time() - begun < 60


# Machine tasks


def test_tasks_share_the_machine() -> None:
    first = "<image>i</image><memory_size_mb>512</memory_size_mb><hypervisor>qemu</hypervisor>"
    tasks = job_of(machine(first, "<ncpus>2</ncpus><enable_network/>", "<memory_size_mb>512</memory_size_mb>"))
    assert {(task.image, task.memory_mb, task.cpus, task.network, task.hypervisor) for task in tasks.machine_tasks} == {
        (Path("/slot/i"), 512, 2, True, "qemu")
    }


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ("<memory_size_mb>512</memory_size_mb>", "<memory_size_mb>256</memory_size_mb>", "is '256' here and '512' in"),
        ("<enable_network/>", "<enable_network>0</enable_network>", "is 0 here and 1 in line 2. All tasks of a job sh"),
        ("<image>a</image>", "<image>b</image>", "line 3: <image>: is 'b' here and 'a' in line 2. All tasks"),
        ("", "<virtualmachine>other</virtualmachine>", "<virtualmachine>: 'other' is another machine than 'vm' in li"),
    ],
)
def test_tasks_that_contradict_each_other(first: str, second: str, sentence: str) -> None:
    with pytest.raises(JobFileError, match=re.escape(sentence)):
        job_of(machine(first, second))


def test_several_images() -> None:
    """The last of several used to count, alone."""
    images = "<image>tiny</image><image>/images/arm</image>"
    first, second = job_of(machine(images, "")).machine_tasks
    assert first.images == second.images == (Path("/slot/tiny"), Path("/images/arm"))
    assert job_of(machine("")).machine_tasks[0].images == (Path("/slot/image"),)
    with pytest.raises(JobFileError, match=r"is 'b' here and 'a' and 'b' in line 2"):
        job_of(machine("<image>a</image><image>b</image>", "<image>b</image>"))


def test_a_point_and_a_slash_before_a_name() -> None:
    [task] = job_of(machine("<copy_file_to_VM>./in</copy_file_to_VM><stdout_filename>.//out</stdout_filename>")).tasks
    assert task in job_of(machine("<copy_file_to_VM>in</copy_file_to_VM><stdout_filename>out</stdout_filename>")).tasks


@pytest.mark.parametrize("form", ["<{0}/>", "<{0}></{0}>"])
@pytest.mark.parametrize(("task", "table"), [(host, HOST_TASK), (machine, MACHINE_TASK)])
def test_an_empty_text_is_none(task: Callable[[str], str], table: Table, form: str) -> None:
    """An empty `<command_line>` in a machine used to be one that no guest can be told."""
    for row in table.rows:
        switch_or_number = isinstance(row.value, Value) and (row.value.lenient or row.name == "enable_network")
        if row.name != "application" and not switch_or_number:
            assert job_of(task(form.format(row.name))) == job_of(task("")), row.name


def test_an_empty_second_name_does_not_send_a_program_to_the_host() -> None:
    """VMwrapper skipped what is empty; BOINC's wrapper, which lets the last of two count, has no such element."""
    assert job_of(machine("<virtualmachine/>")) == job_of(machine("<virtualmachine></virtualmachine>"))
    assert job_of(machine("<virtualmachine/>")) == job_of(machine(""))


def test_a_slash_in_an_attribute_sends_no_program_to_the_host() -> None:
    """To BOINC's parser such a tag is one without a text."""
    attributes = machine("").replace("<task>", "<task a='b/c'>").replace("<virtualmachine>", "<virtualmachine a='b/c'>")
    assert job_of(attributes) == job_of(machine(""))


# What is refused


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            host().replace("<application>app</application>", ""),
            "line 1: <task>: has no <application>. Name the program",
        ),
        (host().replace("app<", "<"), "line 1: <task>: has no <application>. Name the program"),
        (host("<daemon/>"), "<job_desc>: has no <task> but <daemon>s, which are ended when the last task is done"),
        ("text" + host(), "line 1: a job file begins with <job_desc> or <vbox_job>, not with 'text'"),
        (host().replace("</job_desc>", ""), "line 1: <job_desc>: has no </job_desc>"),
        ("<job_desc>\n<task><weight>1</job_desc>", "line 2: <weight>: has no </weight>"),
        ("<job_desc>\n<task><application>a</task></job_desc>", "line 2: <application>: has no </application>"),
        ("<job_desc><task><!-- </task></job_desc>", "line 1: a comment begins here and has no end"),
        (
            "<!DOCTYPE x [<!ENTITY a 'b'>]>" + host(),
            "line 1: <!DOCTYPE>: declares entities, which a job file has no use",
        ),
        (host("<stdout_filename>../out</stdout_filename>"), "'../out' leaves the job directory. Name a file in it"),
        (host("<stdout_filename>/out</stdout_filename>"), "'/out' leaves the job directory"),
        (
            host("<stderr_filename>a/../../b</stderr_filename>"),
            "<stderr_filename>: 'a/../../b' leaves the job directory",
        ),
        (host("<stderr_filename>C:\\b</stderr_filename>"), "<stderr_filename>: 'C:\\\\b' leaves the job directory"),
        (host("<fraction_done_filename>..</fraction_done_filename>"), "'..' leaves the job directory"),
        (host("<stdout_filename>./job.xml</stdout_filename>"), "'./job.xml' is a name that the bridge or the BOINC cl"),
        (host("<stdout_filename>boinc_finish_called</stdout_filename>"), "is a name that the bridge or the BOINC clie"),
        (host("<command_line>a\x00b</command_line>"), "<command_line>: 'a\\x00b' holds the control character U+0000"),
        (
            host().replace("<task>", "<unzip_input><zipfilename>/a</zipfilename></unzip_input><task>"),
            "<zipfilename>: '/a' leaves the job directory",
        ),
        (
            host().replace("<task>", "<zip_output><zipfilename>../a</zipfilename></zip_output><task>"),
            "<zipfilename>: '../a' leaves the job directory",
        ),
        (
            host().replace("<task>", "<zip_output><filename>a(</filename></zip_output><task>"),
            "<filename>: 'a(' is no regular expression: missing ), unterminated subpattern",
        ),
        (
            machine("<time_limit>5</time_limit>"),
            "<time_limit>: is not supported by this version of the bridge for a tas",
        ),
        (machine("<exec_dir>x</exec_dir>"), "<exec_dir>: is not supported by this version of the bridge"),
        (machine("<memory_size_mb>64</memory_size_mb>" * 2), "<memory_size_mb>: is there already, in line 2. Keep one"),
        (machine("<memory_size_mb>64<ncpus>"), "line 2: <memory_size_mb>: has no </memory_size_mb> behind its text"),
        (machine("<enable_network>yes</enable_network>"), "<enable_network>: 'yes' is not a switch"),
        (machine("<copy_app_to_VM>yes</copy_app_to_VM>"), "<copy_app_to_VM>: 'yes' is neither 1 nor 0"),
        (machine("<copy_file_to_VM>../in</copy_file_to_VM>"), "<copy_file_to_VM>: '../in' is no plain file name"),
        (
            machine("<checkpoint_filename>app</checkpoint_filename>"),
            "names the program 'app' as a <checkpoint_filename>",
        ),
    ],
)
def test_what_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(JobFileError) as caught:
        job_of(text)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("/slot/job.xml, line ")


def test_a_file_in_utf_16(tmp_path: Path) -> None:
    from bridge.job import read_job

    (tmp_path / "job.xml").write_text(host(), encoding="utf-16")
    with pytest.raises(JobFileError, match=r"job\.xml: is UTF-16 or UTF-32\. Save it as UTF-8"):
        read_job(tmp_path)


# What is said


def test_all_is_said_in_order() -> None:
    text = """<job_desc>
<task>
<application>/bin/sh</application>
<colour>blue</colour>
<weight>heavy</weight>
<weight>1</weight>
<weight>2</weight>
<ncpus>2</ncpus>
<setenv>PATH</setenv> <priority>9</priority>
</task>
<VMmanage_task><application>../x</application><daemon/></VMmanage_task>
<unzip_input/>
</surprise> and text
<zip_output><filename>a</filename></zip_output>
<task/>
<task><virtualmachine>vm</virtualmachine><application>../a</application>
<memory_size_mb>1</memory_size_mb>
<priority>2</priority></task>
</job_desc>"""
    assert said(text) == [
        "dangerous 3 <application> '/bin/sh' is a program of the volunteer's computer, not of the job. Send one along",
        "unknown 4 <colour> is not known here and ignored",
        "ignored 5 <weight> 'heavy' is not a number from 0 to 1e12; it is ignored",
        "ignored 7 <weight> is there already, in line 6; this one counts",
        "dangerous 8 <ncpus> is ignored: nothing in this task names a <virtualmachine>, so it runs on the volunteer's "
        "computer itself",
        "ignored 9 <setenv> 'PATH' is not NAME=VALUE and sets nothing",
        "ignored 9 <priority> 9 is none from 1 to 5 and counts as 3, normal",
        "deprecated 11 <VMmanage_task> is a helper that the bridge does not need to run machines. Leave it out if that "
        "is all it did",
        "ignored 11 <daemon> means something only in a <task> and is ignored",
        "ignored 12 <unzip_input> is empty and ignored",
        "unknown 13 <surprise> ends here, but never began; it is ignored",
        "unknown 13 <job_desc> 'and text' is text of no element and ignored",
        "ignored 14 <zip_output> has no <zipfilename>, so nothing is packed. Name the archive",
        "ignored 15 <task> is empty and ignored",
        "error 16 <application> '../a' is no plain file name. Files lie in the job directory itself, without a path",
        "error 17 <memory_size_mb> '1' is not a whole number of MB from 64 to 1048576",
        "ignored 18 <priority> means something only for a task on the host and is ignored",
    ]


def test_a_run_logs_some_warnings_and_not_thousands(caplog: pytest.LogCaptureFixture) -> None:
    job_of(host("<colour/>" * 1000))
    assert len(caplog.records) == 21
    assert caplog.messages[-1] == "/slot/job.xml: 980 more of the kind"


def test_numbers_of_the_old_programs_alone_are_lenient() -> None:
    for table in (JOB_DESC, HOST_TASK, MACHINE_TASK):
        for row in table.rows:
            if isinstance(row.value, Value) and row.value.lenient:
                assert row.whose is not Whose.OURS


def test_starting_imports_no_schema() -> None:
    """The client waits for a first status; the schema's library alone took a quarter of the time before it."""
    code = "import sys, bridge.for_client; print('voluptuous' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Patterns


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("out", "my_output", True),
        ("^out$", "my_output", False),
        (r"\.txt$", "a.txt", True),
        ("[[:digit:]]+", "a7", True),
        ("[^[:alpha:].]", "a.txt", False),
        ("[^]", "a", True),
        ("a[]|b", "a", False),
        (r"[[\]]", "[", True),
        (r"\cA", "\x01", True),
        (r"[\w&&]", "&", True),
        (r"\w", "é", False),
    ],
)
def test_patterns_are_those_of_c_plus_plus(pattern: str, name: str, found: bool) -> None:
    assert bool(file_pattern(pattern).search(name)) is found


@pytest.mark.parametrize(
    "pattern", ["a(", "[a", "[[:digit:", "*a", "[[:nonsense:]]", "a{2,1}", "a" * 9 + "{99999999999}"]
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(re.error):
        file_pattern(pattern)


def test_no_output_is_where_the_bridge_keeps_its_own_records() -> None:
    """A program's output could take the place of the record of what is done, or the machine's disk."""
    assert {DONE, INITIAL_FILES, SHARED, MACHINE} <= OWN_NAMES
