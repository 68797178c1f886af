"""The sample of our own elements, as it stands: packages, processors, a network, checkpoints of the program's own."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from ..integration.conftest import JobDirectory
from ..samples import JOBS

PI = """#!/bin/sh
set -e
{
    cat /usr/share/tables/first
    triple 14
    echo $OMP_NUM_THREADS $(nproc) $(ls /sys/class/net | grep -vc '^lo$')
} > pi.txt
echo 1 > energy.txt
echo half > state
"""


def test_our_own_elements(tmp_path: Path, image: Path) -> None:
    job = JobDirectory(tmp_path / "job")
    job.path.mkdir()
    (job.path / "job.xml").write_bytes((JOBS / "own.xml").read_bytes())
    (job.path / "image").symlink_to(image)
    (job.path / "pi").write_text(PI)
    deb = tmp_path / "tables"
    (deb / "DEBIAN").mkdir(parents=True)
    (deb / "DEBIAN/control").write_text(
        "Package: tables\nVersion: 2.1\nArchitecture: all\nMaintainer: test <t@example.org>\nDescription: tables\n"
    )
    (deb / "usr/share/tables").mkdir(parents=True)
    (deb / "usr/share/tables/first").write_text("2 4 6\n")
    target = job.path / "tables_2.1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", deb, target], check=True, capture_output=True)
    with tarfile.open(job.path / "lib.tar.gz", "w:gz") as archive:
        program = b"#!/bin/sh\necho $((3 * $1))\n"
        info = tarfile.TarInfo("bin/triple")
        info.size, info.mode = len(program), 0o755
        archive.addfile(info, io.BytesIO(program))
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert (job.path / "pi.txt").read_text() == "2 4 6\n42\n2 2 1\n"
    assert job.left() == []
