"""What the sample job files in `tests/jobs/` name: programs and files, each as small as it can be."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

JOBS = Path(__file__).with_name("jobs")


def zipped(**members: str) -> bytes:
    """Return an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def tarred(**members: str) -> bytes:
    """Return an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def script(text: str) -> bytes:
    """Return a shell script that ends at its first trouble."""
    return f"#!/bin/sh\nset -e\n{text}\n".encode()


COMPUTE = script(
    """
[ "$*" = "--seed 5" ]
grep -q '^--threads 3 .*settings.* two words$' out
echo 0.5 > progress
echo half > state
grep -q '^serving$' service.log
(sleep 1000 &)
cat data/numbers more/numbers > result_1.txt
cat out > result_2.txt
echo no > result_x.txt
"""
)
"""It is the project's, and stands in its folder."""

WRAPPER: dict[str, bytes] = {
    "data.zip": zipped(**{"data/numbers": "1\n"}),
    "more_data.zip": zipped(**{"more/numbers": "2\n"}),
    "service": script("echo serving; exec sleep 1000"),
    "prepare": script(
        """
until grep -q '^serving$' ../service.log; do sleep 0.1; done
echo "$@"
basename "$PWD"
read line && echo "$line"
basename "$LD_LIBRARY_PATH"
[ -z "$HOME" ]
echo nobody reads this >&2
"""
    ),
    "settings": b"strict\n",
    "in": b"a line\n",
}

VMWRAPPER: dict[str, bytes] = {
    "inputs.tar": tarred(geometry="flat\n", events_in="3\n1\n2\n"),
    "unpack": script('tar -xf "$1"'),
    "helper": script("echo helping >&2; exec sleep 1000"),
    "simulate": script(
        """
[ "$1 $2" = "--events 1000" ] && read first && echo "first $first"
echo "no trouble" >&2
cat geometry > kept
cat events_in > events_out
"""
    ),
    "sort": script('sort "$1"; echo sorted > sorted_so_far'),
    "analyse": script("cat kept events_sorted > histogram"),
}
HISTOGRAM = "flat\n1\n2\n3\n"

VBOX_SCRIPT = """
touch heartbeat
echo 0.25 > fraction_done
printf '<steps>1</steps>' > news
while [ -e news ]; do sleep 0.2; done
printf early > early.dat
[ -e init_data.xml ] && [ -e cmdline ] && touch /scratch/was_here
touch heartbeat
printf '0\\n0\\nwell done\\n' > shutdown
sleep 1000
"""
