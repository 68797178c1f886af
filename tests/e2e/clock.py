"""The client's clock, which runs faster than ours: its steps of one second, five and sixty are what a test waits for.

Programs that the client starts have the true time, so of the minute that the client leaves them to quit or abort they
get 60 / SPEED true seconds.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SPEED = 5.0


@dataclass(frozen=True, slots=True)
class FastClock:
    """The compiled library, and the moment at which it agrees with the true time."""

    library: Path
    agreed: float
    speed: float = SPEED

    def now(self) -> float:
        """Return the client's time, in seconds since 1970."""
        return self.agreed + (time.time() - self.agreed) * self.speed

    def environment(self) -> dict[str, str]:
        """Return the variables that make a program's clock fast, and only that program's."""
        return {
            "LD_PRELOAD": str(self.library),
            "FAST_CLOCK_SPEED": str(self.speed),
            "FAST_CLOCK_FROM": f"{self.agreed:.3f}",
        }


def build_fast_clock(folder: Path) -> Path:
    """Compile the library into `folder`."""
    library = folder / "fast_clock.so"
    source = Path(__file__).with_name("fast_clock.c")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library
