"""`vmbridge lint`: what an administrator is told of a job file, and that of a good one nothing is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import vmbridge
from bridge.job.advice import lint
from bridge.job.findings import Kind

from ..conftest import REPOSITORY

SAMPLES = REPOSITORY / "tests/jobs"
FILE = Path("/project/job.xml")


def told(text: str) -> list[str]:
    """What is said of a job file: line, element, kind, sentence."""
    return [f"{found.line} <{found.element}> {found.kind.value}: {found.sentence}" for found in lint(FILE, text)]


def job(*parts: str) -> str:
    """A job file with one part a line, beginning with line 2."""
    return "\n".join(["<job_desc>", *parts, "</job_desc>"])


def host(inner: str = "", name: str = "task") -> str:
    return f"<{name}><application>worker</application>{inner}</{name}>"


def vbox(*inner: str) -> str:
    return "\n".join(["<vbox_job>", *inner, "<job_duration>60</job_duration>", "</vbox_job>"])


def machine(inner: str = "<copy_file_from_VM>out</copy_file_from_VM>") -> str:
    return f"<task><virtualmachine>vm</virtualmachine><application>worker</application>{inner}</task>"


def out(name: str) -> str:
    return f"<copy_file_from_VM>{name}</copy_file_from_VM>"


def into(name: str) -> str:
    return f"<copy_file_to_VM>{name}</copy_file_to_VM>"


def packed(*patterns: str, name: str = "out.zip") -> str:
    files = "".join(f"<filename>{pattern}</filename>" for pattern in patterns)
    return f"<zip_output><zipfilename>{name}</zipfilename>{files}</zip_output>"


UNKNOWN = "is not known here and ignored"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # files
        (
            job(machine(into("data") + out("data"))),
            "2 <copy_file_from_VM> dangerous: 'data' is an input too, in line 2: the project's own file would be "
            "written "
            "over, which other jobs may use. Give the result another name",
        ),
        (
            job(machine("<stdin_filename>data</stdin_filename>" + out("./data"))),
            "2 <copy_file_from_VM> dangerous: 'data' is an input too",
        ),
        (
            job(machine(into("data") + out("a")), machine(out("data"))),
            "3 <copy_file_from_VM> dangerous: 'data' is an input",
        ),
        (
            job(host("<stdout_filename>worker</stdout_filename>")),
            "2 <stdout_filename> dangerous: 'worker' is an input too",
        ),
        (
            job(host("<stdin_filename>a</stdin_filename><fraction_done_filename>a</fraction_done_filename>")),
            "2 <fraction_done_filename> dangerous: 'a' is an input too",
        ),
        (
            job(machine(), machine()),
            "3 <copy_file_from_VM> dangerous: 'out' is what the task before writes too, in line 2, and is lost "
            "when this "
            "one is brought. Give each a name of its own",
        ),
        (
            job(machine(out("a") + into("b") + into("b"))),
            "2 <copy_file_to_VM> ignored: 'b' stands in line 2 already: once",
        ),
        (
            job(machine(out("a") + out("./a"))),
            "2 <copy_file_from_VM> ignored: 'a' stands in line 2 already: once is enough",
        ),
        (
            job(machine(out("a") + into("worker"))),
            "2 <copy_file_to_VM> ignored: is the program, which goes into the machine by itself. Leave it out",
        ),
        (
            job("<unzip_input><zipfilename>a</zipfilename>", "<zipfilename>a</zipfilename></unzip_input>", host()),
            "3 <zipfilename> ignored: 'a' stands in line 2 already: it is unpacked once more, over what is there",
        ),
        (
            job(host("<stdout_filename>stderr.txt</stdout_filename>")),
            "2 <stdout_filename> ignored: 'stderr.txt' is the job's own log under a client, which uploads it by itself",
        ),
        (
            job(machine(out("a, b"))),
            "2 <copy_file_from_VM> dangerous: 'a, b' is the name of one file, not a list or a pattern. Write an",
        ),
        (
            job(machine(out("a") + into("*.dat"))),
            "2 <copy_file_to_VM> dangerous: '*.dat' is the name of one file, not a",
        ),
        (
            job(machine(out("a") + "<image>/images/tiny</image>")),
            "2 <image> dangerous: '/images/tiny' lies outside the job's folder: good for `vmbridge run`, but no "
            "volunteer "
            "has it. For them write <image>image</image>",
        ),
        (job(machine(out("a") + "<image>../image</image>")), "2 <image> dangerous: '../image' lies outside"),
        (
            job(machine(out("a") + "<image>image</image><image>arm</image><image>image</image>")),
            "2 <image> ignored: 'image' is there already, in line 2. Leave it out",
        ),
        (
            job(host("<stdin_filename>/etc/hosts</stdin_filename>")),
            "2 <stdin_filename> dangerous: '/etc/hosts' lies outside the slot, on a computer that you do not "
            "know. Send",
        ),
        (
            job(host("<exec_dir>/tmp</exec_dir>")),
            "2 <exec_dir> dangerous: '/tmp' lies outside the slot, on a computer that you do not know. Name what "
            "lies in "
            "the slot, or begin with $PROJECT_DIR",
        ),
        (
            job("<task><application>../worker</application></task>"),
            "2 <application> dangerous: '../worker' lies outside the slot. Give the program's name in the slot, "
            "or begin",
        ),
        (
            job("<task><application>/usr/bin/python3</application></task>"),
            "2 <application> dangerous: '/usr/bin/python3' is a program of the volunteer's computer, not of the "
            "job. Send",
        ),
        (
            job(machine(""), machine("")),
            "2 <task> dangerous: brings no file out of the machine, and no other task does: all that its program "
            "writes "
            "is lost. Add a <copy_file_from_VM> or a <stdout_filename>",
        ),
        # archives of results
        (
            job(host(), packed(".*")),
            "3 <filename> dangerous: '.*' is found in any name: logs and saved states are packed",
        ),
        (job(host(), packed("^")), "3 <filename> dangerous: '^' is found in any name"),
        (
            job(machine(), packed(r"\.txt$")),
            r"3 <filename> ignored: '\\.txt$' is found in no name of a file that the tasks bring, so nothing is packed",
        ),
        (
            job(machine(), packed()),
            "3 <zipfilename> ignored: has no <filename> beside it, so nothing is packed. Say which files are meant",
        ),
        (
            job(machine(), packed("out", name="out")),
            "3 <zipfilename> dangerous: 'out' is what a task writes, in line 2; an archive that is there already "
            "is not",
        ),
        (
            job(host(), packed("a", name="a.zip"), packed("b", name="b.zip")),
            "3 <zipfilename> ignored: another archive is named in line 4, and there is one only",
        ),
        (
            job(host(), "<zip_output><filename>a</filename></zip_output>"),
            "3 <zip_output> ignored: has no <zipfilename>, so",
        ),
        # programs and their words
        (
            job(host("<command_line>-n 5 > out</command_line>")),
            "2 <command_line> ignored: there is no shell: '>' is an argument like others. Streams have elements, "
            "<stdout_filename> say",
        ),
        (
            job(machine(out("a") + "<command_line>a | b</command_line>")),
            "2 <command_line> ignored: there is no shell: '|' is",
        ),
        (
            job(host("<command_line>-name 'two words</command_line>")),
            "2 <command_line> ignored: has a quote without its end: all behind it is one argument. Close it",
        ),
        (
            job(machine(out("a") + "<command_line>--threads $NTHREADS</command_line>")),
            "2 <command_line> ignored: $NTHREADS is not replaced for a program in a machine, which has no such "
            "thing. The "
            "program can ask its system (nproc)",
        ),
        (
            job(machine(out("a") + "<command_line>$PROJECT_DIR/data</command_line>")),
            "2 <command_line> ignored: $PROJECT_DIR is not replaced for a program in a machine, which has no "
            "such thing",
        ),
        (
            job(machine(out("a") + "<command_line>boinc_resolve(a)</command_line>")),
            "2 <command_line> ignored: boinc_resolve() is not replaced for a program in a machine, where files "
            "lie under "
            "their names. Write the name alone",
        ),
        (
            job(host("<command_line>--home $HOME</command_line>")),
            "2 <command_line> ignored: $HOME stays as it is: there is no shell, and known are $PROJECT_DIR, $NTHREADS, "
            "$GPU_DEVICE_NUM and $PWD",
        ),
        (job(host("<setenv>PATH=${PATH}:.</setenv>")), "2 <setenv> ignored: ${PATH} stays as it is"),
        (
            job(host("<command_line>boinc_resolve(a</command_line>")),
            "2 <command_line> dangerous: boinc_resolve( has no ')', and the task cannot be started. Close it",
        ),
        (
            job(host("<setenv>A=boinc_resolve(a)</setenv>")),
            "2 <setenv> ignored: boinc_resolve() has a meaning only in a <command_line>",
        ),
        (
            job(host("<command_line>-f ./data</command_line>")),
            "2 <command_line> deprecated: './data' is VMwrapper's way to name a file of the job. Write "
            "boinc_resolve(data), which BOINC's wrapper knows too",
        ),
        (
            job("<task><application>worker -n 5</application></task>"),
            "2 <application> dangerous: is the name of a file, blanks and all. Arguments stand in <command_line>",
        ),
        (job(host("<setenv>A</setenv>")), "2 <setenv> ignored: 'A' is not NAME=VALUE and sets nothing"),
        (
            job(host("<setenv>A=1</setenv><setenv>B=1</setenv><setenv>A=2</setenv>")),
            "2 <setenv> ignored: A is set in line 2 already. Keep one",
        ),
        # what runs when
        (
            job(host("<daemon/><weight>3</weight>"), host()),
            "2 <weight> ignored: has no meaning for a <daemon>, which nobody asks how far it is",
        ),
        (
            job(host("<daemon/><time_limit>3</time_limit>"), host()),
            "2 <time_limit> ignored: has no meaning for a <daemon>",
        ),
        (
            job(host("<priority>0</priority>")),
            "2 <priority> ignored: 0 is none from 1 to 5 and counts as 3, normal",
        ),
        (
            job(host("<priority>5</priority>")),
            "2 <priority> dangerous: goes before what the volunteer does. 1, the default, does not disturb",
        ),
        (
            job(machine(out("a") + "<ncpus>4</ncpus>")),
            "2 <ncpus> dangerous: the machine takes 4 processors, whatever the client has given the job. Leave it out, "
            "and let a plan class (mt) give it so many",
        ),
        (
            job(machine(out("a")), machine(out("b") + "<cpu_time>guest</cpu_time>")),
            "3 <cpu_time> ignored: has an effect only in the first task in the machine, in line 2. Say it there",
        ),
        (
            job(host("<time_limit>60</time_limit><checkpoint_filename>state</checkpoint_filename>")),
            "2 <time_limit> dangerous: counts anew each time the job goes on, so a program that goes on from "
            "what it has "
            "saved runs longer in all. Let the program itself count",
        ),
        # vbox_job.xml
        (
            vbox("<enable_shared_directory/>"),
            "2 <enable_shared_directory> dangerous: the guest must mount the folder by 9p (mount -t 9p -o trans=virtio "
            "shared /mnt), for QEMU has nothing of VirtualBox's vboxsf. See to it that the image does",
        ),
        (
            vbox(
                "<trickle_trigger_file>a</trickle_trigger_file>", "<fraction_done_filename>a</fraction_done_filename>"
            ),
            "2 <trickle_trigger_file> dangerous: 'a' is the <fraction_done_filename> too, in line 3: one file "
            "cannot say",
        ),
        (
            vbox("<minimum_heartbeat_interval>60</minimum_heartbeat_interval>"),
            "2 <minimum_heartbeat_interval> ignored: has no meaning without a <heartbeat_filename>",
        ),
        (vbox("<enable_netwrok/>"), f"2 <enable_netwrok> unknown: {UNKNOWN}. If <enable_network> is meant, write that"),
        (vbox("<ncpus>2</ncpus>"), f"2 <ncpus> unknown: {UNKNOWN}. It belongs into <task>"),
        # unknown elements and bytes
        (job(host("<colour>blue</colour>")), f"2 <colour> unknown: {UNKNOWN}. Leave it out"),
        (
            job(host("<comand_line>-n</comand_line>")),
            f"2 <comand_line> unknown: {UNKNOWN}. If <command_line> is meant,",
        ),
        (job(host("<Weight>2</Weight>")), f"2 <Weight> unknown: {UNKNOWN}. Write <weight>"),
        (job(host("<commandline>-n</commandline>")), f"2 <commandline> unknown: {UNKNOWN}. Write <command_line>"),
        (job("<weight>2</weight>", host()), f"2 <weight> unknown: {UNKNOWN}. It belongs into <task>"),
        (
            job("<memory_size_mb>512</memory_size_mb>", host()),
            f"2 <memory_size_mb> unknown: {UNKNOWN}. It belongs into",
        ),
        (
            job(host("<zipfilename>a</zipfilename>")),
            f"2 <zipfilename> unknown: {UNKNOWN}. It belongs into <unzip_input>",
        ),
        (
            job(host("<command_line>Gr\udcf6</command_line>")),
            "2 <> unknown: the byte 0xF6 is no UTF-8. Save the file as",
        ),
        (job(host(), "surprise"), "3 <job_desc> unknown: 'surprise' is text of no element and ignored"),
        # behind the end
        (
            job(host()) + "\n" + host(),
            "4 <task> ignored: stands behind </job_desc>, where nobody reads on",
        ),
        (
            job(host()) + " more <!-- -->",
            "3 <job_desc> ignored: 'more' stands behind </job_desc>, where nobody reads on",
        ),
        # what only a run would meet
        (job(machine(out("a") + "<daemon/>")), "2 <daemon> error: is not supported by this version"),
        ("", "1 <> error: there is no element in it"),
    ],
)
def test_what_is_told(text: str, expected: str) -> None:
    found = told(text)
    assert len(found) == 1 and found[0].startswith(expected), found


@pytest.mark.parametrize(
    "text",
    [
        job(host()),
        job(machine()),
        job(host("<stdout_filename>log</stdout_filename>"), host("<stdout_filename>log</stdout_filename>")),
        job(host("<stdout_filename>a</stdout_filename>"), host("<stdin_filename>a</stdin_filename>")),
        job(machine(out("a")), machine(into("a") + out("a"))),
        job(machine(out("a")), host("<command_line>boinc_resolve(a)</command_line>")),
        job(machine("<stdout_filename>out</stdout_filename>"), packed("^out$")),
        job(machine(into("data") + "<stdin_filename>data</stdin_filename>" + out("out"))),
        job(machine(out("log") + "<stdout_filename>log</stdout_filename>")),
        job(machine(), machine("")),
        job(host("<stderr_filename>stderr.txt</stderr_filename>")),
        job(machine(out("a") + into("worker") + "<copy_app_to_VM>0</copy_app_to_VM><package>b.deb</package>")),
        job(machine(out("a") + "<checkpoint_filename>a</checkpoint_filename>")),
        job(host("<command_line>'a > b' it's \"c\" -x=&gt; --cost=$5</command_line>")),
        job(host("<stdin_filename>/dev/null</stdin_filename><exec_dir>$PROJECT_DIR/data</exec_dir>")),
        job("<task><application>$PROJECT_DIR/worker</application></task>", packed("result")),
        job(machine(out("a") + "<ncpus>1</ncpus>"), machine(out("b") + "<cpu_time>host</cpu_time>")),
        job(host("<time_limit>0</time_limit><checkpoint_filename>state</checkpoint_filename>")),
        job(host("<priority>2</priority>"), host("<daemon>0</daemon><weight>3</weight>")),
        "\ufeff<?xml version='1.0'?>\r\n" + job(host()),
        job(host()) + "\n<!-- the end -->\n",
    ],
)
def test_no_noise(text: str) -> None:
    assert told(text) == []


def test_a_trigger_that_is_there_from_the_start() -> None:
    text = vbox(
        "<enable_shared_directory>1</enable_shared_directory>",
        "<completion_trigger_file>done</completion_trigger_file>",
        "<copy_to_shared>done</copy_to_shared>",
    )
    assert told(text)[1] == (
        "4 <copy_to_shared> dangerous: 'done' is the <completion_trigger_file>, in line 3, which would be "
        "there from the "
        "start. Give it another name"
    )


def test_all_is_told_not_only_the_first_and_not_only_errors() -> None:
    found = told(
        job(machine("<ncpus>x</ncpus><colour/>"), host("<priority>0</priority>"), machine("<hypervisor>x</hypervisor>"))
    )
    expected = ["2 <colour> unknown", "2 <ncpus> error", "3 <priority> ignored", "4 <hypervisor> error"]
    assert sorted(line.split(":")[0] for line in found) == expected


DEPRECATED = {
    "own.xml": [],
    "wrapper.xml": [],
    "vmwrapper.xml": ["unzip_task", "VMmanage_task", "copy_stdin_to_VM", "app_pathVM", "command_line"],
    "worker.xml": ["unzip_task"] * 3 + ["VMmanage_task"] * 2,
}


@pytest.mark.parametrize("sample", sorted(path.name for path in SAMPLES.glob("*.xml") if path.name != "vbox_job.xml"))
def test_the_samples(sample: str) -> None:
    """Those of old programs have old habits; nothing else is to be said, but for the processors of ours."""
    found = [(finding.element, finding.kind.value) for finding in lint(FILE, (SAMPLES / sample).read_text())]
    expected = [(element, "deprecated") for element in DEPRECATED[sample]]
    if sample == "own.xml":
        expected = [("ncpus", "dangerous")]
    assert found == expected


def test_the_sample_of_vboxwrappers() -> None:
    """What only VirtualBox knows is ignored; what nobody can see from here is whether the guest mounts its folder."""
    found = lint(FILE, (SAMPLES / "vbox_job.xml").read_text())
    assert [one.element for one in found if one.kind is not Kind.IGNORED] == ["enable_shared_directory"]
    assert len(found) == 8


def written() -> list[tuple[str, str]]:
    """All job files in the pages of docs/ and beside the examples."""
    found = [(str(path), path.read_text()) for path in REPOSITORY.glob("guest_side/examples/*/job.xml")]
    for page in sorted(REPOSITORY.glob("docs/*.md")):
        found += [
            (page.name, text) for text in re.findall(r"^<job_desc>.*?^</job_desc>", page.read_text(), re.M | re.S)
        ]
    return found


def test_the_job_files_that_we_show() -> None:
    files = written()
    assert len(files) >= 3
    for name, text in files:
        # On some pages the job is run by hand, from a folder beside the image's.
        expected = ["image"] if "<image>../" in text else []
        assert [finding.element for finding in lint(FILE, text)] == expected, (name, told(text))


# The command


def test_lines_and_exit_codes(tmp_path: Path) -> None:
    good, odd, bad = (tmp_path / name for name in ("good.xml", "odd.xml", "bad.xml"))
    good.write_text(job(host()))
    odd.write_text(job(host("<colour>\x1b[31m</colour>"), host("<priority>0</priority>")))
    bad.write_bytes(job(host("<stdout_filename>../\x1b[31m</stdout_filename>")).encode())
    run = CliRunner().invoke
    assert (run(vmbridge, ["lint", str(good)]).output, run(vmbridge, ["lint", str(good)]).exit_code) == ("", 0)
    told_of_odd = run(vmbridge, ["lint", str(odd)])
    assert told_of_odd.exit_code == 1
    assert told_of_odd.output.splitlines() == [
        f"{odd}:2: warning: <colour>: is not known here and ignored. Leave it out [unknown]",
        f"{odd}:3: warning: <priority>: 0 is none from 1 to 5 and counts as 3, normal [ignored]",
    ]
    told_of_all = run(vmbridge, ["lint", str(good), str(odd), str(bad)])
    assert told_of_all.exit_code == 2 and len(told_of_all.output.splitlines()) == 3
    assert told_of_all.output.splitlines()[2].startswith(f"{bad}:2: error: <stdout_filename>: '../\\x1b[31m' leaves")


def test_standard_input_and_what_cannot_be_read(tmp_path: Path) -> None:
    run = CliRunner().invoke
    told_of_input = run(vmbridge, ["lint", "-"], input=job(host("<colour/>")).encode())
    assert (told_of_input.exit_code, told_of_input.output.count("\n")) == (1, 1)
    assert told_of_input.output.startswith("-:2: warning: <colour>: ")
    for name, words in [("none.xml", "cannot be read: No such file or directory"), (".", "is no file")]:
        told_of_nothing = run(vmbridge, ["lint", str(tmp_path / name)])
        assert told_of_nothing.exit_code == 2
        assert told_of_nothing.output.startswith(f"{tmp_path / name}: error: {words}")
        assert told_of_nothing.output.count("\n") == 1
    wide = run(vmbridge, ["lint", "-"], input=job(host()).encode("utf-16"))
    assert (wide.exit_code, wide.output) == (2, "-: error: is UTF-16 or UTF-32. Save it as UTF-8\n")
