"""All C code of the guest that reads messages, with vectors that have been changed a little, under the sanitizers.

``make fuzz SECONDS=n SEED=s`` for longer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from guest_side import SOURCES

from ..patience import AT_MOST_S
from ..sanitized import MEMORY, compiled
from .test_vectors import VECTORS

MEMORY_FOLDER = Path("/dev/shm")
"""A disk would be what takes the time: each round writes four files."""

CODE = Path(__file__).with_name("fuzz.c")
READERS = (
    *sorted((SOURCES / "wire").glob("*.c")),
    *(SOURCES / "agent" / f"{name}.c" for name in ("command", "task", "watch")),
    *(SOURCES / "libboinc" / f"{name}.c" for name in ("init_data", "numbered")),
)


def test_nothing_that_is_read_harms(tmp_path: Path) -> None:
    program = compiled(tmp_path / "fuzz", [CODE, *READERS], "-lm", sanitizers=f"{MEMORY},float-cast-overflow")
    vectors = sorted(path for folder in ("valid", "invalid") for path in (VECTORS / folder).glob("R*"))
    duration, seed = os.environ.get("FUZZ_SECONDS", "3"), os.environ.get("FUZZ_SEED", "1")
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None) as folder:
        done = subprocess.run(
            [program, duration, seed, *(path for path in vectors if path.suffix != ".line")],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=AT_MOST_S + float(duration),
        )
        found = Path(folder) / "found"
        if found.exists():
            shutil.copy(found, tmp_path)
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, ""), f"seed {seed}; the bytes are in {tmp_path / 'found'}"
