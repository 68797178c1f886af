"""The other process of `notice`: `python -m tests.bench.notice_writer COUNT FOLDER ...`.

Writes reports into the folders in turn and, when all is done, prints what it wrote.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from pathlib import Path

from protocol.layout import CREDITREPORT

GAP_S = (0.010, 0.060)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def main() -> None:
    """Write, at random moments, so that no side is helped by a rhythm."""
    count, *folders = sys.argv[1:]
    time.sleep(0.5)
    written = []
    for folder in itertools.islice(itertools.cycle(folders), int(count)):
        time.sleep(random.uniform(*GAP_S))
        written.append(publish(Path(folder)))
    print("\n".join(written))


def publish(folder: Path) -> str:
    """Replace the report in `folder` by one that says which time it is, and return that time."""
    temporary, target = folder / f".{CREDITREPORT}.tmp", folder / CREDITREPORT
    fd = os.open(temporary, _NEW, 0o644)
    now = f"{time.monotonic():.6f}"
    os.write(fd, f"cpu_seconds {now}\n".encode())
    os.close(fd)
    temporary.replace(target)
    return now


if __name__ == "__main__":
    main()
