"""The bundle's parts: names that are contents, a zip that is its contents, the main program, what the server reads."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipimport
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bridge.bundle import write_bundle
from bridge.bundle.archive import archive
from bridge.bundle.compiled import compile_all
from bridge.bundle.files import BundleFile, bundle_file, given_file
from bridge.bundle.folder import new_folder
from bridge.bundle.program import main_program
from bridge.bundle.version import files_named_in, version_xml
from bridge.bundle.write import _image_files, _vbox_files
from bridge.errors import BridgeError, HostError, ImageError, JobFileError
from bridge.image import load_image
from bridge.job.schema import parse_job

from .test_image import GOOD, write

# --- names ---


def test_a_name_is_the_content(tmp_path: Path) -> None:
    (tmp_path / "work.v1.qcow2").write_bytes(b"1")
    first = given_file(tmp_path / "work.v1.qcow2", "image/work.v1.qcow2")
    assert first.name == "work_6b86b273ff34.v1.qcow2" and first.open_name == "image/work.v1.qcow2"
    (tmp_path / "work.v1.qcow2").write_bytes(b"2")
    assert given_file(tmp_path / "work.v1.qcow2", "x").name == "work_d4735e3a265e.v1.qcow2"
    assert bundle_file("app_0.1.0", b"1", suffix=".zip").name == "app_0.1.0_6b86b273ff34.zip"


@pytest.mark.parametrize("name", ["it's", "a b", "x.sig", ".hidden", "-x", "a;b", "a&b", "a%b", "x" * 101, "é"])
def test_a_name_that_the_server_would_trip_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(HostError, match=r"cannot be a file of a BOINC project. Rename it"):
        given_file(tmp_path / name, name)


def test_large_files_may_travel_compressed_but_not_the_program() -> None:
    large = b"x" * (1 << 20)
    assert bundle_file("a", large, open_name="image/a").gzip
    assert not bundle_file("a", large[1:], open_name="image/a").gzip
    assert not bundle_file("a", large, suffix=".qcow2", open_name="image/a.qcow2").gzip
    assert not bundle_file("a", large).gzip


# --- the zip ---

SOURCES = {
    "pack/__init__.py": b"NAMES = frozenset(('a', 'b', 'c', 'd'))\n",
    "pack/inner.py": b"def where() -> str:\n    return where.__code__.co_filename\n",
}


def test_the_zip_depends_on_nothing_but_its_contents() -> None:
    assert archive(SOURCES) == archive(dict(reversed(SOURCES.items())))
    assert archive(SOURCES) != archive({**SOURCES, "pack/__init__.py": b"\n"})


def test_the_same_sources_compile_to_the_same_bytes_whatever_is_known_already() -> None:
    before = compile_all(SOURCES)
    held = [sys.intern(name) for name in ("NAMES", "where", "__code__", "co_filename")]
    assert compile_all(dict(reversed(SOURCES.items()))) == before
    assert held


def test_a_source_that_is_not_python() -> None:
    with pytest.raises(HostError, match=r"(?s)cannot compile.*bad\.py.*SyntaxError"):
        compile_all({"bad.py": b"def"})


@pytest.mark.parametrize("magic", [True, False])
def test_a_compiled_module_is_used_by_its_own_python_and_the_source_by_others(tmp_path: Path, magic: bool) -> None:
    compiled = {f"{name}c": data for name, data in compile_all(SOURCES).items()}
    if not magic:
        compiled = {name: b"\0\0\r\n" + data[4:] for name, data in compiled.items()}
    # What the sources say now differs from what was compiled, to tell the two apart.
    changed = {name: data.replace(b"'d'", b"'e'") for name, data in SOURCES.items()}
    (tmp_path / "x.zip").write_bytes(archive({**changed, **compiled}))
    code = zipimport.zipimporter(str(tmp_path / "x.zip")).get_code("pack")
    assert code is not None
    names: dict[str, frozenset[str]] = {}
    exec(code, names)
    assert names["NAMES"] == set("abcd" if magic else "abce")


# --- the main program ---

PROGRAM = main_program("modules.zip", {"psutil._psutil_linux": "extension.so"}, (3, 11))


def test_the_main_program_is_shell_and_python_and_tells_the_server_its_api() -> None:
    assert PROGRAM.startswith(b"#!/bin/sh\n") and not re.search(rb"@[A-Z_]+@", PROGRAM)
    ast.parse(PROGRAM)
    for_the_shell, end, _ = PROGRAM.partition(b"exit 0\n")  # it reads no further
    subprocess.run(["sh", "-n"], input=for_the_shell + end, check=True)
    texts = re.findall(rb"[\x20-\x7e\t]{4,}", PROGRAM)  # as strings(1) finds them
    found = [text for text in texts if re.search(rb"API_VERSION_[0-9]+\.[0-9]+\.[0-9]+$", text)]
    assert found == [b"# API_VERSION_7.20.0"]
    # Nothing in it is too new to be read by an old Python, which is to say so: no f-strings, annotations, walruses.
    ast.parse(PROGRAM, feature_version=(3, 4))
    assert not [node for node in ast.walk(ast.parse(PROGRAM)) if isinstance(node, ast.JoinedStr)]


def run_program(program: bytes, folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "program").write_bytes(program)
    (folder / "program").chmod(0o755)
    slot = folder / "slot"
    slot.mkdir()
    return subprocess.run(["../program", *words], cwd=slot, env=environment, capture_output=True, text=True)


def postponed(folder: Path) -> str:
    """The reason for which the job in the slot is postponed."""
    delay, reason, notice, *rest = (folder / "slot" / "boinc_temporary_exit").read_text().split("\n")
    assert (delay, notice, rest) == ("3600", "notice", [""])
    return reason


def test_without_python_the_job_is_postponed(tmp_path: Path) -> None:
    done = run_program(PROGRAM.replace(b"/usr/bin/python3", b"/nonexistent/python3"), tmp_path, PATH="/nonexistent")
    assert done.returncode == 0
    assert postponed(tmp_path).startswith("The VM bridge needs Python 3.11 or newer, and there is no python3")
    assert done.stderr == f"vmbridge-app: {postponed(tmp_path)}\n"


def this_python(program: bytes) -> bytes:
    """The program as if this Python were the only one."""
    return program.replace(b"/usr/bin/python3", os.fsencode(sys.executable))


def test_with_an_old_python_the_job_is_postponed(tmp_path: Path) -> None:
    program = this_python(main_program("modules.zip", {}, (3, 99)))
    done = run_program(program, tmp_path)
    assert done.returncode == 0
    assert re.fullmatch(r"The VM bridge needs Python 3\.99 or newer, and this computer's is 3\.\d+\..*",
                        postponed(tmp_path))  # fmt: skip
    assert done.stderr == f"vmbridge-app: {postponed(tmp_path)}\n"


def test_a_newer_python_beside_the_old_one_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").symlink_to(sys.executable)
    newer = folder / "python3.99"
    newer.write_text('#!/bin/sh\necho "$@"\n')
    newer.chmod(0o755)
    program = main_program("modules.zip", {}, (3, 99)).replace(b'"/usr/local/bin"', f'"{folder}"'.encode())
    program = program.replace(b"/usr/bin/python3", os.fsencode(folder / "python3"))
    done = run_program(program, tmp_path, "--nthreads", "2")
    assert done.stdout == "-IS ../program --nthreads 2\n", done.stderr


def test_with_a_python_that_is_not_whole_the_job_is_postponed(tmp_path: Path) -> None:
    app = "import asynciø\n".encode()
    (tmp_path / "modules.zip").write_bytes(archive({"bridge/__init__.py": b"", "bridge/app.py": app}))
    done = run_program(this_python(main_program("modules.zip", {}, (3, 10))), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cannot run the VM bridge: No module named 'asynci?'. Is all of it installed" in postponed(tmp_path)
    assert "Traceback" not in done.stderr


def test_the_exit_status_and_the_words_are_the_applications(tmp_path: Path) -> None:
    app = b"import sys\ndef main():\n    print(sys.argv)\n    return 206\n"
    (tmp_path / "modules.zip").write_bytes(archive({"bridge/__init__.py": b"", "bridge/app.py": app}))
    done = run_program(this_python(main_program("modules.zip", {}, (3, 10))), tmp_path, "--x", "a b", PYTHONPATH="/x")
    assert done.returncode == 206 and done.stdout == "['../program', '--x', 'a b']\n"
    assert os.listdir(tmp_path / "slot") == []


# --- version.xml ---


def test_what_the_server_reads() -> None:
    files = [
        BundleFile("app_1", b"", main_program=True),
        BundleFile("zip_1", bytes(1 << 20)),
        BundleFile("vmlinux_1", bytes(1 << 20), "image/vmlinux"),
        BundleFile("job_1.xml", b"", "job.xml"),
    ]
    root = ElementTree.fromstring(version_xml(files))
    assert root.findtext("api_version") == "7.20.0" and root.find("is_wrapper") is not None
    assert [{child.tag: child.text for child in file} for file in root.findall("file")] == [
        {"physical_name": "app_1", "main_program": None},
        {"physical_name": "zip_1"},
        {"physical_name": "vmlinux_1", "logical_name": "image/vmlinux", "gzip": None},
        {"physical_name": "job_1.xml", "logical_name": "job.xml"},
    ]
    assert files_named_in(version_xml(files)) == frozenset(file.name for file in files)
    assert files_named_in("<version/>") is None


# --- what is refused before anything is written ---

JOB = """<job_desc>
  <task>
    <virtualmachine>vm</virtualmachine>
    <image>image</image>
    <application>worker</application>
  </task>
</job_desc>
"""


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    for name in ("vmlinux", "initramfs.cpio", "work.qcow2"):
        (tmp_path / name).touch()
    write(tmp_path)
    (tmp_path / "job.xml").write_text(JOB)
    return tmp_path


def refused(inputs: Path, kind: type[BridgeError], because: str, *more: Path, out: str = "out") -> None:
    before = sorted(os.listdir(inputs))
    with pytest.raises(kind, match=because):
        write_bundle(inputs / out, image=inputs, job=inputs / "job.xml", more=more)
    assert sorted(os.listdir(inputs)) == before


def test_a_job_that_looks_for_its_image_elsewhere(inputs: Path) -> None:
    (inputs / "job.xml").write_text(JOB.replace("<image>image<", "<image>../tiny<"))
    refused(
        inputs, JobFileError, r"job\.xml: <image>: .*/tiny is not where a bundle has its image. Write <image>image<"
    )


def test_a_job_that_needs_an_image(inputs: Path) -> None:
    with pytest.raises(JobFileError, match=r"<virtualmachine>: needs an image. Name its folder: --image DIR"):
        write_bundle(inputs / "out", image=None, job=inputs / "job.xml")


def test_an_image_travels_with_all_its_files(inputs: Path) -> None:
    (inputs / "boot.iso").touch()
    write(inputs, boot_cd="boot.iso", sha256={**GOOD["sha256"], "boot.iso": GOOD["sha256"]["vmlinux"]})
    found = _image_files(load_image(inputs), inputs / "image.json")
    assert [file.open_name for file in found] == [
        f"image/{name}" for name in ("image.json", "vmlinux", "initramfs.cpio", "work.qcow2", "boot.iso")
    ]


VBOX_JOB = "<vbox_job><enable_shared_directory/><job_duration>60</job_duration>{}</vbox_job>"


def test_a_disk_and_the_job_file_of_vboxwrapper(inputs: Path) -> None:
    job, disk = inputs / "vbox_job.xml", inputs / "science.vdi"
    job.write_text(VBOX_JOB.format(""))
    disk.write_bytes(b"\0" * 510 + b"\x55\xaa")
    [image, file] = _vbox_files(job, parse_job(job, job.read_text()).machine_tasks, disk, ())
    assert (image.open_name, file.open_name) == ("vm_image.vdi", "vbox_job.xml")
    assert re.fullmatch(r"science_[0-9a-f]{12}\.vdi", image.name)


@pytest.mark.parametrize(
    ("elements", "disk", "because"),
    [
        ("", None, r"needs the disk that is vm_image.vdi in a slot. Name its file: --image FILE"),
        ("", b"#!/bin/sh\n", r"is no disk"),
        ("<multiattach_vdi_file>a.vdi</multiattach_vdi_file>", b"\0" * 510 + b"\x55\xaa", r"Leave it out for vm_image"),
    ],
)
def test_what_is_wrong_with_a_disk_or_its_job_file(
    inputs: Path, elements: str, disk: bytes | None, because: str
) -> None:
    job, image = inputs / "vbox_job.xml", inputs / "science.vdi"
    job.write_text(VBOX_JOB.format(elements))
    if disk is not None:
        image.write_bytes(disk)
    with pytest.raises(BridgeError, match=because):
        write_bundle(inputs / "out", image=None if disk is None else image, job=job)


def test_a_broken_job(inputs: Path) -> None:
    (inputs / "job.xml").write_text(JOB.replace("application", "aplication"))
    refused(inputs, JobFileError, r"has no <application>")


def test_an_image_that_is_not_what_it_promises(inputs: Path) -> None:
    write(inputs, sha256={**GOOD["sha256"], "vmlinux": "3" * 64})
    refused(inputs, ImageError, r"vmlinux is not what .*image\.json promises. Build the image again")


def test_a_dynamic_program_for_an_image_without_libraries(inputs: Path) -> None:
    (inputs / "worker").symlink_to("/bin/sh")
    refused(inputs, ImageError, r"linked with -static", inputs / "worker")


@pytest.mark.parametrize("name", ["job.xml", "image", "shared", "boinc_finish_called"])
def test_a_file_whose_name_is_taken_in_a_slot(inputs: Path, name: str) -> None:
    folder = inputs / "more"
    folder.mkdir()
    (folder / name).touch()
    refused(inputs, HostError, r"is a name that the bridge or the BOINC client uses itself", folder / name)


def test_two_files_of_one_name(inputs: Path) -> None:
    folder = inputs / "more"
    folder.mkdir()
    for path in (inputs / "data", folder / "data"):
        path.touch()
    refused(inputs, HostError, r"two files are called data", inputs / "data", folder / "data")


def test_a_file_that_is_not_there(inputs: Path) -> None:
    refused(inputs, HostError, r"absent is no file", inputs / "absent")


def test_somebody_elses_folder_is_not_replaced(inputs: Path) -> None:
    (inputs / "out").mkdir()
    (inputs / "out" / "thesis.tex").touch()
    refused(inputs, HostError, r"out is there and was not written by vmbridge package")
    (inputs / "out" / "version.xml").write_text(version_xml([BundleFile("app_1", b"")]))
    refused(inputs, HostError, r"out holds 'thesis.tex', which this program has not put there")
    refused(inputs, HostError, r"vmlinux is there and is no folder", out="vmlinux")
    assert (inputs / "out" / "thesis.tex").exists()


@pytest.mark.parametrize("before", [True, False])
def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, before: bool) -> None:
    out = tmp_path / "deep" / "out"
    if before:
        out.mkdir(parents=True)
        (out / "old").touch()
    with pytest.raises(HostError, match=r"cannot write .*out: No space left"), new_folder(out) as folder:
        (folder / "new").touch()
        raise OSError(28, "No space left on device")
    assert not before or os.listdir(out) == ["old"]
    with new_folder(out) as folder:
        (folder / "new").touch()
        assert not before or os.listdir(out) == ["old"]
    assert os.listdir(out) == ["new"] and os.listdir(out.parent) == ["out"]
