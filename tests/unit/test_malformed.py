"""Job files that nobody can run, each with the sentence that says so; and what the old programs accept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import JobFileError
from bridge.job import Job, read_job
from bridge.job.advice import lint
from bridge.job.findings import Kind
from bridge.job.schema import MAX_JOB_FILE_BYTES, decode, parse_job
from bridge.job.words import explain

from ..malformed import LOOSE, MALFORMED, PLACE, Case, cases, said

BROKEN = [
    pytest.param(case, id=f"{file.stem}: {case.name}") for file in MALFORMED.glob("*.txt") for case in cases(file)
]
ACCEPTED = [pytest.param(case, id=f"{file.stem}: {case.name}") for file in LOOSE.glob("*.txt") for case in cases(file)]

WHERE = re.compile(r"(line [1-9][0-9]*: (<[^>]+>: )?)?\S")


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_said_of_a_malformed_file(case: Case) -> None:
    assert [said(case.data)] == case.expected
    assert WHERE.match(case.expected[0]) and case.expected[0].isprintable()


@pytest.mark.parametrize("case", BROKEN)
def test_the_linter_says_the_same_of_it(case: Case) -> None:
    try:
        found = lint(PLACE, decode(PLACE, case.data))
    except JobFileError as error:
        assert error.problem == case.expected[0]
        return
    first = next(finding for finding in found if finding.kind is Kind.ERROR)
    assert str(first.error(PLACE)).endswith(case.expected[0])


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_the_old_programs_accept(case: Case) -> None:
    job = parse_job(PLACE, decode(PLACE, case.data))
    assert case.expected
    for what in case.expected:
        assert eval(what, {"job": job, "tasks": job.tasks, "task": job.tasks[0]}), what


def test_there_are_enough_of_them() -> None:
    truncated = list(cases(MALFORMED / "truncated.txt"))
    assert len(BROKEN) >= 300 and len(truncated) <= len(BROKEN) / 5
    assert len(ACCEPTED) >= 40
    for together in (BROKEN, ACCEPTED):
        contents = [param.values[0].data for param in together]  # type: ignore[union-attr]
        assert len({param.id for param in together}) == len(together) == len(set(contents)), "each its own"


# What cannot be written down: what is no file, and what is too much


def _folder(place: Path) -> None:
    place.mkdir()


def _pipe(place: Path) -> None:
    os.mkfifo(place)


def _nothing(place: Path) -> None:
    del place


def _link_to_nothing(place: Path) -> None:
    place.symlink_to("job_1.xml")


def _link_to_itself(place: Path) -> None:
    place.symlink_to(place.name)


def _too_much(place: Path) -> None:
    place.write_bytes(b"<job_desc>" + b" " * MAX_JOB_FILE_BYTES)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_folder, "is no file. Put the job file in its place"),
        (_pipe, "is no file. Put the job file in its place"),
        (
            _nothing,
            "cannot be read: No such file or directory. A job directory holds a job.xml; see docs/scientists.md.",
        ),
        (
            _link_to_nothing,
            "cannot be read: No such file or directory. A job directory holds a job.xml; see docs/scientists.md.",
        ),
        (_link_to_itself, "cannot be read: Too many levels of symbolic links."),
        (_too_much, "has more than 1,048,576 bytes; a job file is small. Is it the right file?"),
    ],
)
def test_what_is_no_job_file_at_all(tmp_path: Path, make: Callable[[Path], None], sentence: str) -> None:
    make(tmp_path / "job.xml")
    with pytest.raises(JobFileError) as caught:
        read_job(tmp_path)
    assert str(caught.value) == f"{tmp_path}/job.xml: {sentence}"


DEEP = 90_000


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<a>" * DEEP, "line 1: <a>: a job file begins with <job_desc> or <vbox_job>"),
        ("<job_desc>" + "<task>" * DEEP, "line 1: <task>: has no </task>. Add it"),
        ("<job_desc>" + "<a>" * DEEP, "line 1: <job_desc>: has no </job_desc>. Add it"),
        ("<job_desc>" * DEEP, "line 1: <job_desc>: has no </job_desc>. Add it"),
        ("<job_desc>\n" * DEEP, "line 1: <job_desc>: has no </job_desc>. Add it"),
        ("<job_desc>" + "</a>" * DEEP, "line 1: <job_desc>: has no </job_desc>. Add it"),
        ("<job_desc>" + "&amp;" * DEEP, "line 1: <job_desc>: has no </job_desc>. Add it"),
        ("<job_desc>" + "<!-- -->" * DEEP, "line 1: <job_desc>: has no </job_desc>. Add it"),
        ("<" + "a" * DEEP + ">", f"line 1: <{'a' * 60}>: a job file begins with <job_desc> or <vbox_job>"),
        (
            "<job_desc>" + "<task/>" * DEEP + "</job_desc>",
            "line 1: <job_desc>: has no <task>. Add one with an <application>",
        ),
        (
            "<job_desc>" + "<task></task>" * (DEEP // 10) + "</job_desc>",
            "line 1: <task>: has no <application>. Name the program",
        ),
    ],
    ids=range(11),
)
def test_depth_and_size_take_no_time_and_no_stack(text: str, sentence: str) -> None:
    assert said(text.encode()) == sentence


# Any text at all

_WORDS = st.sampled_from(
    [
        *("<job_desc>", "</job_desc>", "<task>", "</task>", "<task/>", "<unzip_task>", "</unzip_task>", "<zip_output>"),
        *("</zip_output>", "<unzip_input>", "</unzip_input>", "<VMmanage_task>", "</VMmanage_task>"),
        *(
            "<application>worker</application>",
            "<virtualmachine>vm</virtualmachine>",
            "<daemon/>",
            "<weight>2</weight>",
        ),
        *("<zipfilename>a.zip</zipfilename>", "<filename>[a-z]*</filename>", "<command_line>", "</command_line>"),
        *("<copy_file_from_VM>out</copy_file_from_VM>", "<setenv>A=1</setenv>", "<!--", "-->", "<![CDATA[", "]]>"),
        *(
            *("<vbox_job>", "</vbox_job>", "<enable_shared_directory/>", "<port_forward>", "</port_forward>"),
            *("<completion_trigger_file>out</completion_trigger_file>", "<package>a.deb</package>", "<job_duration>"),
            "<ncpus>",
            "</ncpus>",
            "<image>",
            "</image>",
            "nan",
            "1e400",
            "-0",
            "..",
            "/",
            "\n",
            " ",
            "\0",
            "&lt;",
            "&#0;",
        ),
        *("<!DOCTYPE", "[", ">", "<", "</", "/>", "'", '"', "$NTHREADS", "boinc_resolve(", ")", "\udcff", "\ufeff"),
    ]
)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(_WORDS, st.text(max_size=5)), max_size=60).map("".join))
def test_any_text_is_a_job_or_one_error(text: str) -> None:
    begun = time.process_time()
    try:
        job = parse_job(PLACE, text)
    except JobFileError as error:
        assert str(error).startswith(str(PLACE)) and "\n" not in str(error) and error.problem
        assert 0 <= error.line <= text.count("\n") + 1
    else:
        assert isinstance(job, Job) and job.tasks
        assert explain(job)
    findings = lint(PLACE, text)
    assert all(0 <= finding.line <= text.count("\n") + 1 for finding in findings)
    assert time.process_time() - begun < 10


def test_any_bytes_are_a_text_or_one_error() -> None:
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=200))
    def judge(data: bytes) -> None:
        said(data)

    judge()


def test_no_file_of_the_largest_size_takes_for_ever() -> None:
    """Not only the reader: what the linter looks for must not be looked for again and again."""
    texts = {
        "unclosed": "'<job_desc>' + '<x>' * 300_000",
        "unknown": "'<job_desc>' + '<x/>' * 60_000 + TASK + '</task></job_desc>'",
        "outputs": "'<job_desc>' + TASK + '<copy_file_from_VM>o</copy_file_from_VM>' * 10_000 + '</task></job_desc>'",
        "quotes": "'<job_desc>' + TASK + '<command_line>' + QUOTE * 999_999 + '</command_line></task></job_desc>'",
    }
    code = (
        "from pathlib import Path\nfrom bridge.job.advice import lint\n"
        "TASK = '<task><application>a</application><virtualmachine>v</virtualmachine>'\nQUOTE = chr(39)\n"
        f"for text in {', '.join(texts.values())}:\n    print(len(lint(Path('job.xml'), text)) > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.split() == ["True"] * len(texts), done.stderr
