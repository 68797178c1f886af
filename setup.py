"""Packaging: a wheel carries the guest's sources, and its agents and mount hooks as `make guest` built them."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ARCHITECTURES = ("x86_64", "aarch64")
PROGRAMS = ("agent", "mount_hook")


class BuildWithAgents(build_py):
    """Adds build/guest/ARCH/agent as guest_side/prebuilt/ARCH/agent, where an installed bridge looks; so the hook."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for arch, name in itertools.product(ARCHITECTURES, PROGRAMS):
            program = Path("build/guest", arch, name)
            if not program.exists():
                raise SystemExit(f"{program} is missing: run `make guest` before building a wheel.")
            target = Path(self.build_lib, "guest_side/prebuilt", arch, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(program, target)


setup(cmdclass={"build_py": BuildWithAgents})
