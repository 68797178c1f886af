"""Packaging: a wheel carries the guest's sources, and its agents as `make guest` built them."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ARCHITECTURES = ("x86_64", "aarch64")


class BuildWithAgents(build_py):
    """Adds build/guest/ARCH/agent as guest_side/prebuilt/ARCH/agent, where an installed bridge looks for it."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for arch in ARCHITECTURES:
            agent = Path("build/guest", arch, "agent")
            if not agent.exists():
                raise SystemExit(f"{agent} is missing: run `make guest` before building a wheel.")
            target = Path(self.build_lib, "guest_side/prebuilt", arch, "agent")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(agent, target)


setup(cmdclass={"build_py": BuildWithAgents})
