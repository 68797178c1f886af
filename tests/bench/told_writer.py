"""The other process of `told`: `python -m tests.bench.told_writer FILE FORM LEAST MOST COUNT SCALE`.

Replaces FILE again and again by FORM, in which {} is the seconds since it began, divided by SCALE; LEAST to MOST
seconds apart. Prints when it began and then all seconds.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path


def main() -> None:
    """Write, at random moments, so that no side is helped by a rhythm."""
    name, form, least, most, count, scale = sys.argv[1:]
    file = Path(name)
    temporary = file.with_name(f".{file.name}.tmp")
    began = time.monotonic()
    written = []
    for _ in range(int(count)):
        time.sleep(random.uniform(float(least), float(most)))
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        seconds = time.monotonic() - began
        os.write(fd, f"{form.format(f'{seconds / float(scale):.9f}')}\n".encode())
        os.close(fd)
        temporary.replace(file)
        written.append(seconds)
    print(f"{began:.9f}", *(f"{seconds:.6f}" for seconds in written))


if __name__ == "__main__":
    main()
