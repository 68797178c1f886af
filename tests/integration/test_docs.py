"""The pages for users, tried by doing literally what they say in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bridge import __version__
from bridge.job import read_job

from ..conftest import REPOSITORY
from ..patience import AT_MOST_S
from .conftest import BOINC_DEV, ENVIRONMENT, VMBRIDGE


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment with `vmbridge` in its PATH."""
    program = tmp_path / "bin" / "vmbridge"
    program.parent.mkdir()
    quoted = " ".join(f"'{word}'" for word in VMBRIDGE)
    program.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
    program.chmod(0o755)
    return {**ENVIRONMENT, "PATH": f"{program.parent}:{ENVIRONMENT['PATH']}"}


def do_what_it_says(
    page: str, folder: Path, environment: dict[str, str], *, until: str = "", boinc: Path = Path("/")
) -> subprocess.CompletedProcess[str]:
    """Run all `sh` blocks of a page, one after the other, in an empty folder.

    :param until: a heading; what comes behind it is left out.
    :param boinc: where BOINC's development files are unpacked, if not in their places.
    """
    folder.mkdir(exist_ok=True)
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    if until:
        text, found, _ = text.partition(f"\n{until}\n")
        assert found, f"{page} has no {until}"
    text = re.sub(r"/usr/(include/boinc|lib/x86_64-linux-gnu/libboinc)", lambda name: f"{boinc / name[0][1:]}", text)
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 3
    script = "set -e\n" + "\n".join(blocks)
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=5 * AT_MOST_S
    )


def with_boincs_library() -> dict[str, str]:
    """What a compiler and a program need to find the library where it is unpacked and not installed."""
    libraries = str(BOINC_DEV / "usr/lib/x86_64-linux-gnu")
    headers = str(BOINC_DEV / "usr/include/boinc")
    return {"CPATH": headers, "LIBRARY_PATH": libraries, "LD_LIBRARY_PATH": libraries}


def test_testers(tmp_path: Path, shell: dict[str, str]) -> None:
    done = do_what_it_says("testers.md", tmp_path / "empty", shell)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "state run" in lines and "program worker" in lines
    begin = lines.index("42")
    assert lines[begin : begin + 4] == ["42", "answer.txt", "job.xml", "worker"]
    assert lines[-1] == "my own result" and "trickle 1 to the project, news: <energy>-4.25</energy>" in done.stderr
    assert "fraction_done is not taken: fraction_done is '150', not a number from 0 to 1 (R15)" in done.stderr
    assert "operations:  1.5e+09 floating-point, 2e+06 integer" in done.stdout
    assert done.stderr.count("is not taken") == 1


def test_scientists(tmp_path: Path, shell: dict[str, str]) -> None:
    done = do_what_it_says("scientists.md", tmp_path / "empty", {**shell, **with_boincs_library()})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "empty" / "job" / "pi.txt").read_text() == "3.1415926536\n"
    assert (tmp_path / "empty" / "job_python" / "pi.txt").read_text() == "3.14159265\n"
    assert (tmp_path / "empty" / "job_shell" / "sum.txt").read_text() == "2870\n"
    assert (tmp_path / "empty" / "job_boinc" / "sum.txt").read_text() == "5000050000\n"
    assert "progress: the sum of 20 squares" in done.stderr
    assert "on QEMU" in done.stderr


def test_existing_programs(tmp_path: Path, shell: dict[str, str], image: Path) -> None:
    """What needs no more than a compiler and BOINC's headers; the rest of the page is tried by `make images`."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "image").symlink_to(image)
    boinc = Path(os.environ.get("BOINC_DEV", "/"))
    has_boinc = (boinc / "usr/include/boinc/boinc_api.h").exists() and shutil.which("c++") is not None
    until = "## 5. Linked already" if has_boinc else "## 4. C++, with BOINC's headers and libboinc"
    environment = {**shell, "LIBRARY_PATH": str(boinc / "usr/lib/x86_64-linux-gnu")}
    done = do_what_it_says("existing.md", folder, environment, until=until, boinc=boinc)
    assert done.returncode == 0, done.stderr
    assert (folder / "job_c" / "out").read_text() == "500500\n"
    assert (folder / "job_any" / "largest").read_text() == "1000\n999\n998\n"
    if has_boinc:
        assert (folder / "job_cpp" / "out").read_text() == "IT WAS IN SMALL LETTERS\n"
    assert done.stderr.count("on QEMU") == 2 + has_boinc


def test_admins(tmp_path: Path, shell: dict[str, str]) -> None:
    done = do_what_it_says("admins.md", tmp_path / "empty", shell)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HELLO"
    names = {re.sub("_[0-9a-f]{12}", "_…", name) for name in os.listdir(tmp_path / "empty" / "bundle")}
    text = (REPOSITORY / "docs" / "admins.md").read_text(encoding="utf-8")
    table = {name.replace("VERSION", __version__) for name in re.findall(r"`([^`]*)`", text.partition("| file | |")[2])}
    assert names <= table, "the page says what is in a bundle"
    check_templates(text, tmp_path / "empty")


def check_templates(text: str, folder: Path) -> None:
    """The server's templates, which cannot be tried here, name the files that the job file of the page names."""
    [job] = read_job(folder).machine_tasks
    _, for_inputs, for_outputs = re.findall(r"^```xml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    opened = [element.text for element in ElementTree.fromstring(for_inputs).iter("open_name")]
    assert opened == [job.application, *job.inputs]
    # The server replaces its macros before anybody reads the XML.
    outputs = ElementTree.fromstring(for_outputs.replace("<OUTFILE_0/>", "o").replace("<UPLOAD_URL/>", "u"))
    assert [element.text for element in outputs.iter("open_name")] == [*job.results]
    assert "<file_info>\n" in for_outputs, "the server looks for this very line to sign what may be uploaded"
