"""The agent as an ordinary process: what it leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.hypervisors import MachineSpec, MachineState
from bridge.hypervisors.local import Local
from protocol.layout import AGENT, Share

from ..patience import AT_MOST_S, has_ended, until


def test_what_a_killed_agents_program_has_started_ends(tmp_path: Path) -> None:
    """It used to live on: only children of the bridge got the kernel's death signal."""
    share = Share.two_folders(tmp_path / "shared")
    machine = tmp_path / "machine"
    for folder in (share.host, machine):
        folder.mkdir(parents=True)
    pid = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ >{pid}; sleep 1000' & while [ ! -s {pid} ]; do :; done; echo so long; kill -9 $$"
    agent = share.host / AGENT
    agent.write_text(f"#!/bin/sh\n{script}\n")
    agent.chmod(0o755)

    async def go() -> None:
        local = Local(MachineSpec("local", machine, share, None, 64, 1))
        try:
            await local.start()
            assert await local.wait() == "the agent ended with status -9"
            until(lambda: has_ended(int(pid.read_text())))
            condition = local.examine()
            assert condition.state is MachineState.GONE and condition.console == "so long\n"
        finally:
            await local.remove()

    asyncio.run(asyncio.wait_for(go(), AT_MOST_S))
