"""The page about images, tried by doing literally what it says in an empty folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ..conftest import REPOSITORY
from ..integration.test_docs import do_what_it_says, shell

__all__ = ["shell"]

TINY = REPOSITORY / "build" / "image"


def test_images(tmp_path: Path, shell: dict[str, str]) -> None:  # pytest's way to share a fixture
    done = do_what_it_says("images.md", tmp_path / "empty", shell)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2.0"
    assert "image: ready after" in done.stdout


def test_existing_programs(tmp_path: Path, shell: dict[str, str]) -> None:
    boinc = Path(os.environ.get("BOINC_DEV", "/"))
    if not (boinc / "usr/include/boinc/boinc_api.h").exists():
        pytest.skip("there is no libboinc-app-dev here; BOINC_DEV=FOLDER names a place where it is unpacked")
    if shutil.which("gfortran") is None or shutil.which("c++") is None:
        pytest.skip("gfortran or a C++ compiler is missing here")
    folder = tmp_path / "folder"
    folder.mkdir()
    if TINY.exists():
        (folder / "image").symlink_to(TINY)
    libraries = {"LIBRARY_PATH": str(boinc / "usr/lib/x86_64-linux-gnu")}
    done = do_what_it_says("existing.md", folder, {**shell, **libraries}, boinc=boinc)
    assert done.returncode == 0, done.stderr
    outputs = {
        name: (folder / f"job_{name}" / "out").read_text() for name in ("c", "cpp", "shared", "fortran", "python")
    }
    assert outputs == {
        "c": "500500\n",
        "cpp": "IT WAS IN SMALL LETTERS\n",
        "shared": "IT WAS IN SMALL LETTERS\n",
        "fortran": " 3.33338E+14\n",
        "python": "be=2 not=1 or=1 to=2\n",
    }
    assert done.stderr.count("on QEMU") == 6, "each in a machine"
