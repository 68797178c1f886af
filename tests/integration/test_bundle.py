"""The bundle as a volunteer's computer gets it: a folder of files, a slot of links, nothing of ours installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bridge import __version__
from bridge.bundle import write_bundle
from bridge.hypervisors.virtualbox.api import _words

from .. import vboxapi
from .conftest import ENVIRONMENT, VMBRIDGE

JOB = """<job_desc>
  <task>
    <virtualmachine>bundled</virtualmachine>
    <image>image</image>
    <application>worker</application>
    <copy_file_to_VM>in.txt</copy_file_to_VM>
    <copy_file_from_VM>out.txt</copy_file_from_VM>
  </task>
</job_desc>
"""
SYSTEM_PYTHON = "/usr/bin/python3"
VERSION = "import sys; print(repr(sys.version_info[:2]), end='')"
CLEAN = {"PATH": "/usr/bin:/bin"}
"""An environment in which nothing of ours can be found."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("job") / "the job.xml"
    file.write_text(JOB)
    return file


@dataclass(frozen=True)
class Bundle:
    """A written bundle and what its version.xml says."""

    folder: Path
    files: list[Mapping[str, str | None]]

    def one(self, tag: str) -> Path:
        """The only file with this element."""
        [name] = [file["physical_name"] for file in self.files if tag in file]
        assert name is not None
        return self.folder / name


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, image: Path, job: Path) -> Bundle:
    folder = tmp_path_factory.mktemp("boinc") / "projects" / "example.org_vm"
    done = subprocess.run(
        [*VMBRIDGE, "package", folder, "--image", image, "--job", job.rename(job.with_name("job.xml"))],
        env=ENVIRONMENT, cwd="/", capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "with QEMU and Python 3." in done.stdout and "apps/APP/VERSION/x86_64-pc-linux-gnu" in done.stdout
    root = ElementTree.parse(folder / "version.xml")
    return Bundle(folder, [{child.tag: child.text for child in file} for file in root.findall("file")])


def python(bundle: Bundle) -> list[str]:
    """The Python that a volunteer's computer has; where it is too old, the one that runs the tests."""
    [oldest] = re.findall(r"^OLDEST_PYTHON = (.*)", bundle.one("main_program").read_text(), re.MULTILINE)
    new_enough = [SYSTEM_PYTHON, "-c", f"import sys; sys.exit(sys.version_info < {oldest})"]
    there = os.access(SYSTEM_PYTHON, os.X_OK) and subprocess.run(new_enough).returncode == 0
    return [SYSTEM_PYTHON if there else sys.executable, "-IS"]


def test_the_server_finds_what_it_needs(bundle: Bundle, image: Path) -> None:
    names = [file["physical_name"] for file in bundle.files]
    assert sorted(os.listdir(bundle.folder)) == sorted([*map(str, names), "version.xml"])
    assert len(set(names)) == len(names) == 8
    version = ElementTree.parse(bundle.folder / "version.xml")
    assert version.findtext("api_version") == "7.20.0" and version.find("is_wrapper") is not None
    opened = {str(file["logical_name"]): str(file["physical_name"]) for file in bundle.files if "logical_name" in file}
    assert set(opened) == {"job.xml", *(f"image/{name}" for name in os.listdir(image))}
    for name in os.listdir(image):
        assert (bundle.folder / opened[f"image/{name}"]).read_bytes() == (image / name).read_bytes()
    # The server takes the user's right to execute for the client's.
    executable = [path.name for path in bundle.folder.iterdir() if path.stat().st_mode & 0o100]
    assert executable == [bundle.one("main_program").name]


def test_strings_finds_the_api_version_as_the_server_looks_for_it(bundle: Bundle) -> None:
    if shutil.which("strings") is None:
        pytest.skip("there is no strings(1) here")
    found = subprocess.run(["strings", bundle.one("main_program")], capture_output=True, text=True, check=True).stdout
    assert re.search(r"API_VERSION_[0-9]+\.[0-9]+\.[0-9]+$", found, re.MULTILINE)


def test_the_same_inputs_give_the_same_bytes_and_take_the_place_of_the_former(
    bundle: Bundle, image: Path, job: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    for _ in range(2):
        write_bundle(again, image=image, job=job.with_name("job.xml"))
        assert sorted(os.listdir(again)) == sorted(os.listdir(bundle.folder))
        for path in again.iterdir():
            assert path.read_bytes() == (bundle.folder / path.name).read_bytes(), path
    assert os.listdir(tmp_path) == ["again"]


def test_another_job_is_another_file_and_the_rest_keeps_its_name(bundle: Bundle, image: Path, tmp_path: Path) -> None:
    (tmp_path / "job.xml").write_text(JOB.replace("bundled", "another"))
    (tmp_path / "worker").write_text("#!/bin/sh\n")
    write_bundle(tmp_path / "out", image=image, job=tmp_path / "job.xml", more=[tmp_path / "worker"])
    new = set(os.listdir(tmp_path / "out")) - set(os.listdir(bundle.folder))
    assert {re.sub("_[0-9a-f]{12}", "", name) for name in new} == {"job.xml", "worker"}


def test_a_job_of_the_host_needs_no_image(bundle: Bundle, tmp_path: Path) -> None:
    """And its program runs below a keeper that comes out of the zip."""
    (tmp_path / "job.xml").write_text(
        "<job_desc><task><application>worker</application><stdout_filename>out.txt</stdout_filename></task></job_desc>"
    )
    (tmp_path / "worker").write_text("#!/bin/sh\n(sleep 1000 &)\necho done\n")
    write_bundle(tmp_path / "out", image=None, job=tmp_path / "job.xml", more=[tmp_path / "worker"])
    assert len(os.listdir(tmp_path / "out")) == 6
    hosts = Bundle(tmp_path / "out", bundle.files)
    slot = tmp_path / "slots" / "0"
    slot.mkdir(parents=True)
    for name in ("job.xml", "worker"):
        shutil.copy(tmp_path / name, slot)
    done = start(hosts, slot=slot)
    assert done.returncode == 0, done.stderr
    assert (slot / "out.txt").read_text() == "done\n"


def start(bundle: Bundle, *words: str, slot: Path) -> subprocess.CompletedProcess[str]:
    """Start the main program as the client does: by a relative path, in the slot."""
    slot.mkdir(parents=True, exist_ok=True)
    command = [os.path.relpath(bundle.one("main_program"), slot), *words]
    if python(bundle)[0] != SYSTEM_PYTHON:
        command = [*python(bundle), *command]
    return subprocess.run(command, cwd=slot, env=CLEAN, capture_output=True, text=True, timeout=120)


def test_it_runs_where_nothing_of_ours_is_installed(bundle: Bundle, tmp_path: Path) -> None:
    done = start(bundle, "--version", slot=tmp_path / "slot")
    assert (done.returncode, done.stdout) == (0, f"vmbridge-app {__version__}\n"), done.stderr
    assert os.listdir(tmp_path / "slot") == []


def test_nothing_is_imported_from_outside_the_bundle_and_pythons_own_library(bundle: Bundle, tmp_path: Path) -> None:
    """Run the main program, then import all that is in the zip, and look where every module came from."""
    modules = bundle.one("main_program").read_text()
    [archive] = re.findall(r'^MODULES = "(.*)"', modules, re.MULTILINE)
    spy = f"""
import json, runpy, sys, sysconfig, zipfile
sys.argv = [{str(bundle.one("main_program"))!r}, "--version"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
for name in zipfile.ZipFile({str(bundle.folder / archive)!r}).namelist():
    package = name.partition("/")[0]
    if name.endswith(".py") and package in ("bridge", "protocol", "guest_side", "qemu"):
        __import__(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
import psutil, watchdog.observers
psutil.Process().cpu_times()
print(json.dumps([
    [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")],
    {{name: getattr(module, "__file__", None) for name, module in sys.modules.items() if name != "__main__"}},
    psutil.__version__, watchdog.observers.Observer.__name__]))
"""
    done = subprocess.run([*python(bundle), "-c", spy], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folders, files, _, observer = json.loads(done.stdout.splitlines()[-1])
    allowed = tuple(f"{folder}/" for folder in (bundle.folder, *folders))
    outside = {file for file in files.values() if file and ("-packages/" in file or not file.startswith(allowed))}
    assert outside == set()
    own = (
        subprocess.run([*python(bundle), "-c", VERSION], capture_output=True).stdout
        == repr(sys.version_info[:2]).encode()
    )
    assert files["bridge.app"] == f"{bundle.folder / archive}/bridge/app.py{'c' * own}"
    assert files["psutil._psutil_linux"].startswith(f"{bundle.folder}/_psutil_linux_")
    assert "bridge.hypervisors.qemu.machine" in files and "qemu.qmp" in files and observer == "InotifyObserver"
    assert not [name for name in files if name.startswith(("bridge.cli.", "bridge.bundle", "click", "rich"))]
    assert os.listdir(tmp_path) == []


def test_the_licences_come_along(bundle: Bundle) -> None:
    [archive] = bundle.folder.glob("vmbridge_*.zip")
    names = zipfile.ZipFile(archive).namelist()
    for package in ("boinc-vm-bridge", "filelock", "psutil", "qemu.qmp", "watchdog"):
        assert [name for name in names if re.match(f"licences/{package}-[0-9.]+/LICENSE$", name)], package
    # What qemu.qmp has under GPL 2 alone is not shipped.
    assert "qemu/qmp/qmp_client.py" in names and "qemu/qmp/legacy.py" not in names
    assert "guest_side/agent/main.c" in names and "guest_side/prebuilt/x86_64/agent" in names
    assert not [name for name in names if "vectors" in name or "/tests/" in name or "__pycache__" in name]


def soft_link(slot: Path, name: str, target: Path) -> None:
    """Put a link into the slot as the client does."""
    (slot / name).parent.mkdir(parents=True, exist_ok=True)
    (slot / name).write_text(f"<soft_link>{os.path.relpath(target, slot)}</soft_link>\n")


@pytest.mark.parametrize("links", ["soft links", "symlinks"])
def test_a_job_in_a_slot_in_a_real_machine(bundle: Bundle, links: str, tmp_path: Path) -> None:
    slot, project = tmp_path / "slot", bundle.folder
    program = project / "worker_1"
    program.write_text("#!/bin/sh\ntr a-z A-Z < in.txt > out.txt\n")
    (project / "in_1").write_text("hello\n")
    (project / "result_1").unlink(missing_ok=True)
    slot.mkdir()
    for name, target in {
        **{str(file.get("logical_name") or file["physical_name"]): str(file["physical_name"]) for file in bundle.files},
        "worker": "worker_1",
        "in.txt": "in_1",
        "out.txt": "result_1",
    }.items():
        if links == "soft links":
            soft_link(slot, name, project / target)
        else:
            (slot / name).parent.mkdir(exist_ok=True)
            (slot / name).symlink_to(os.path.relpath(project / target, (slot / name).parent))
    before = {path.relative_to(slot) for path in slot.rglob("*")}
    try:
        done = start(bundle, slot=slot)
        assert done.returncode == 0, done.stderr
        assert (project / "result_1").read_text() == "HELLO\n", done.stderr
        assert (slot / "boinc_finish_called").read_text().startswith("0\n")
        assert "the machine runs on QEMU" in done.stderr
        left = {str(path) for path in {path.relative_to(slot) for path in slot.rglob("*")} - before}
        assert left == {"boinc_finish_called", ".vmbridge.home"}
    finally:
        for name in ("worker_1", "in_1", "result_1"):
            (project / name).unlink(missing_ok=True)


def test_without_qemu_the_job_is_postponed_with_a_notice(bundle: Bundle, tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    slot.mkdir()
    soft_link(slot, "job.xml", bundle.folder / next(path.name for path in bundle.folder.glob("job_*")))
    command = [*python(bundle), str(bundle.one("main_program"))]
    done = subprocess.run(command, cwd=slot, env={"PATH": "/nonexistent"}, capture_output=True, text=True)
    assert done.returncode == 0
    delay, reason, notice, _ = (slot / "boinc_temporary_exit").read_text().split("\n")
    assert (delay, notice) == ("3600", "notice") and "qemu-system-x86_64 is not in PATH. Install QEMU" in reason


def test_virtualbox_is_reached_by_another_python_from_the_zip(bundle: Bundle, tmp_path: Path) -> None:
    """Its API is mostly another Python's, which can load nothing of the bridge; pyvbox lies in the zip."""
    vboxapi.install(tmp_path)
    [modules] = bundle.folder.glob("*.zip")
    folder = f"{modules}/bridge/hypervisors/virtualbox"
    words = [*_words(str(tmp_path / "python3"))[:-1], folder, "check", str(modules)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith("Python 3."), done.stderr
