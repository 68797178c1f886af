"""Judge what lies in a slot or a job directory, without touching it: for `vmbridge check` and `vmbridge status`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .client.init_data import Unreadable, read_init_data
from .client.slot import FINISH, LOCK, TEMPORARY_EXIT, Slot
from .done import DONE, Recorded
from .errors import HostError, NotInstalled
from .hypervisors.qemu.command_line import WORK_DISK
from .hypervisors.qemu.copies import copies_in, copy_name
from .hypervisors.qemu.probe import find
from .hypervisors.virtualbox.box import tags_in_box
from .hypervisors.virtualbox.plan import BOX, copy_of, is_copy
from .hypervisors.vmware.states import States
from .hypervisors.vmware.vmx import FOLDER as VMWARE
from .job.names import JOB_FILE, VBOX_JOB_FILE
from .life.accounting import Progress
from .life.checkpoints import RECORD, SavedState, recorded
from .life.program_state import FOLDER, NEW, any_saved, newest_set
from .workplace import MACHINE, MARK, SHARED, Workplace


@dataclass(slots=True)
class Look:
    """What was found: `job` is the client's name for the job, `problems` are sentences, none if all is as it should be.

    `tasks_done` is how many tasks of several are done. `checkpoints` are the tags that can be restored, newest first,
    then what the program has saved itself; `progress` is the job's at the first of them. `p_fpops` is how many
    operations the host's benchmark does in a second, 0 if nobody knows.
    """

    directory: Path
    job: str = ""
    running: bool = False
    ended: str = ""
    tasks_done: int = 0
    checkpoints: list[str] = field(default_factory=list)
    progress: Progress | None = None
    p_fpops: float = 0.0
    problems: list[str] = field(default_factory=list)


def look(directory: Path) -> Look:
    """Look at `directory`. Of a slot whose job runs, only what does not change is judged."""
    found = Look(directory)
    slot = Slot(directory)
    try:
        if (init_data := read_init_data(directory)) is not None:
            found.job, found.p_fpops = init_data.result_name, init_data.p_fpops
    except (Unreadable, OSError) as error:
        found.problems.append(f"init_data.xml cannot be read: {error}")
    found.running = _locked(directory / LOCK)
    if (code := slot.finished()) is not None:
        found.ended = f"finished with code {code}"
    elif (directory / TEMPORARY_EXIT).exists():
        found.ended = "waiting to be started again"
    if found.running:
        with suppress(ValueError):
            found.progress = next((state.progress for state in recorded(directory / MACHINE)[0]), None)
    else:
        with suppress(HostError):
            if (done := Recorded(directory).read()) is not None:
                found.tasks_done, found.progress = done.tasks, done.progress
        _judge_leavings(found)
        _judge_checkpoints(found)
        _judge_saved(found)
    return found


def _locked(file: Path) -> bool:
    """Say whether a process holds the record lock of the slot. Only asks, so it is never in anybody's way."""
    if sys.platform != "linux" or not file.exists():
        return False
    import fcntl
    import struct

    form = "hhlli"  # struct flock: l_type, l_whence, l_start, l_len, l_pid
    try:
        with file.open("rb+") as opened:
            asked = struct.pack(form, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = struct.unpack(form, fcntl.fcntl(opened, fcntl.F_GETLK, asked))
    except OSError:
        return False
    return bool(answer[0] != fcntl.F_UNLCK)


def _judge_leavings(found: Look) -> None:
    # There, the share is the client's and the guest's, and the machine's disk goes on without a checkpoint.
    plain = (found.directory / VBOX_JOB_FILE).exists() and not (found.directory / JOB_FILE).exists()
    ours = (MACHINE, MARK) if plain else (SHARED, MACHINE, MARK)
    names = {name for name in ours if (found.directory / name).exists()}
    place = Workplace(found.directory / SHARED, found.directory / MACHINE)
    aside = {path.name for path in place.aside().values()}
    goes_on = plain or (found.directory / DONE).exists()
    if SHARED in names:
        found.problems.append(f"{SHARED}/ was left behind by a bridge that was killed; the next start removes it")
    machine = found.directory / MACHINE
    if aside and not goes_on:
        found.problems.append(f"{', '.join(sorted(aside))} left behind; the next start removes what it does not need")
    if MACHINE in names and not goes_on and not (machine / RECORD).exists() and not any_saved(machine):
        found.problems.append(f"{MACHINE}/ was left behind and holds no checkpoint; the next start removes it")
    if MARK not in names and names:
        found.problems.append(f"{', '.join(sorted(names))} without {MARK} beside it: not the bridge's, and in its way")
    if MARK in names and len(names) == 1:
        found.problems.append(f"{MARK} was left behind; the next start removes it")
    if FINISH in os.listdir(found.directory) and MACHINE in names:
        found.problems.append(f"the job has finished, and {MACHINE}/ is still there")
    temporary = [name for name in os.listdir(found.directory) if name.startswith(".") and name.endswith(".tmp")]
    found.problems += [f"{name} was left behind by a write that did not end" for name in sorted(temporary)]


def _judge_checkpoints(found: Look) -> None:
    machine = found.directory / MACHINE
    if not (machine / RECORD).exists():
        return
    try:
        states, copy = recorded(machine)
    except ValueError as error:
        found.problems.append(f"{MACHINE}/{RECORD} cannot be read: {error}")
        return
    where, there = _states(machine, found)
    for state in states:
        if there is None or state.tag in there:
            found.checkpoints.append(state.tag)
            found.progress = found.progress or state.progress
        else:
            found.problems.append(f"{state.tag} is recorded and is not in {MACHINE}/{where}")
    strays = sorted((there or set()) - {state.tag for state in states})
    found.problems += [f"{tag} is in {MACHINE}/{where} and not recorded; it goes at the next one" for tag in strays]
    _judge_copies(found, machine, copy)


def _states(machine: Path, found: Look) -> tuple[str, set[str] | None]:
    """Return where a machine's states are, and their tags; None where nobody can tell."""
    if (machine / VMWARE).is_dir():
        return VMWARE, set(States(machine / VMWARE).tags())
    if _is_virtualbox(machine):
        return BOX, _tags_in_box(machine / BOX, found)
    return WORK_DISK, _tags(machine / WORK_DISK, found)


def _is_virtualbox(machine: Path) -> bool:
    return any(name == BOX or is_copy(name) for name in os.listdir(machine))


def _judge_copies(found: Look, machine: Path, copy: SavedState | None) -> None:
    boxes = _is_virtualbox(machine)
    wanted = None if copy is None else copy_of(machine, copy.tag).name if boxes else copy_name(copy.tag)
    if copy is not None and wanted is not None:
        there = _tags_in_box(machine / wanted, found) if boxes else _tags(machine / wanted, found)
        if there is None or copy.tag in there:
            found.checkpoints.append(f"{copy.tag} (in a copy)")
            found.progress = found.progress or copy.progress
        else:
            found.problems.append(f"{copy.tag} is recorded and is not in {MACHINE}/{wanted}")
    copies = filter(is_copy, os.listdir(machine)) if boxes else copies_in(machine)
    strays = [name for name in sorted(copies) if name != wanted]
    found.problems += [f"{MACHINE}/{name} is a copy and not recorded; it goes at the next one" for name in strays]


def _judge_saved(found: Look) -> None:
    machine = found.directory / MACHINE
    try:
        saved = newest_set(machine)
    except (ValueError, OSError) as error:
        found.problems.append(f"what the program has saved in {MACHINE}/{FOLDER}/ cannot be used: {error}")
    else:
        if saved is not None:
            found.checkpoints.append("what the program has saved")
            found.progress = found.progress or saved.progress
    if (machine / FOLDER / NEW).exists():
        found.problems.append(f"{MACHINE}/{FOLDER}/{NEW} was left behind by a copy that did not end")


def _tags_in_box(box: Path, found: Look) -> set[str] | None:
    """Return the tags of the states in a box of VirtualBox's; None where nobody can tell."""
    if box.exists():
        return tags_in_box(box)
    found.problems.append(f"{MACHINE}/{box.name} is missing")
    return set()


def _tags(disk: Path, found: Look) -> set[str] | None:
    """Return the tags of the states in a disk; None where nobody can tell."""
    if not disk.exists():
        found.problems.append(f"{MACHINE}/{disk.name} is missing")
        return set()
    try:
        program = str(find("qemu-img"))
    except NotInstalled:
        return None
    for command, trouble in (("check", "is damaged"), ("info", "cannot be read")):
        words = [program, command, "--output=json", str(disk)]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        # 3: there are clusters that nobody uses, which a killed QEMU leaves behind and the next restore tidies up
        if done.returncode not in (0, 3):
            found.problems.append(f"{MACHINE}/{disk.name} {trouble}: {done.stderr.strip()[-200:]}")
            return set()
    info: Any = json.loads(done.stdout)
    return {snapshot["name"] for snapshot in info.get("snapshots", [])}
