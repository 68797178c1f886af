"""What the client says about the job: `init_data.xml` -> `InitData`, read by tag as the client's own library does.

The file is not XML: values are not escaped, and project preferences are whatever a project put there (lib/app_ipc.cpp,
boinc-runtime facts of clients 7.20 and 8.2). Each value that counts stands on a line of its own.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

FILE = "init_data.xml"

_LAST_TAG = "</app_init_data>"
_FOREIGN = ("project_preferences", "global_preferences", "host_info", "proxy_info")
"""Blocks whose lines are not the job's; a project chooses the tags in its preferences."""

_HOST = "host_info"

_ATTEMPTS = 20
_ATTEMPT_EVERY_S = 0.1


class Unreadable(Exception):
    """There is a file, but no complete one."""


@dataclass(frozen=True, slots=True)
class InitData:
    """The part of `init_data.xml` that the bridge needs.

    `wu_cpu_time` is the CPU time at the last checkpoint of earlier episodes, in seconds, `starting_elapsed_time` the
    run time; `checkpoint_period` the volunteer's "at most every" in seconds; `ncpus` the CPUs of the job,
    `rsc_disk_bound` the bytes that its slot may hold, `rsc_fpops_est` and `rsc_fpops_bound` the operations that it
    should and may take.
    `client_pid` is 0 when the client is too old to say. `shm_key` is -1 for the file in the slot, else a System V key;
    `comm_obj_name` is Windows' name of the memory. `p_fpops` and `p_iops` are operations per second of one processor,
    by the client's benchmark; 0 before there was one. `gpu_device_num` is the GPU of the job, -1 without one.
    `process_priority` is the volunteer's wish, 0 (lowest) to 5, -1 without one; with `no_priority_change` priorities
    are to be left alone.
    """

    major_version: int = 0
    minor_version: int = 0
    release: int = 0
    app_version: int = 0
    app_name: str = ""
    wu_name: str = ""
    result_name: str = ""
    project_dir: str = ""
    slot: int = 0
    client_pid: int = 0
    shm_key: int = -1
    comm_obj_name: str = ""
    wu_cpu_time: float = 0.0
    checkpoint_period: float = 0.0
    ncpus: float = 0.0
    gpu_device_num: int = -1
    process_priority: int = -1
    no_priority_change: bool = False
    rsc_fpops_est: float = 0.0
    rsc_fpops_bound: float = 0.0
    rsc_memory_bound: float = 0.0
    rsc_disk_bound: float = 0.0
    starting_elapsed_time: float = 0.0
    computation_deadline: float = 0.0
    resource_share_fraction: float = 0.0
    fraction_done_start: float = 0.0
    fraction_done_end: float = 1.0
    p_fpops: float = 0.0
    p_iops: float = 0.0

    @property
    def client_version(self) -> str:
        """The client's version as it writes it, 0.0.0 if it does not say."""
        return f"{self.major_version}.{self.minor_version}.{self.release}"


def read_init_data(directory: Path) -> InitData | None:
    """Read the slot's `init_data.xml`; None if there is none, which means that no client has started us.

    The client deletes the file and writes it anew while a job runs, so an incomplete one is looked at again, for two
    seconds.

    :raise Unreadable: it stays incomplete.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_ATTEMPT_EVERY_S)
        try:
            text = (directory / FILE).read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            if attempt == 0:
                return None
            continue
        if _LAST_TAG in text:
            return parse_init_data(text)
    raise Unreadable(f"{directory / FILE} has no {_LAST_TAG}: the client has not written it to its end")


def parse_init_data(text: str) -> InitData:
    """Read the job's values from the text of the file; what is missing or is no number keeps its default. Pure."""
    found = _values(text)

    def number(tag: str, default: float = 0.0) -> float:
        try:
            value = float(found.get(tag, default))
        except ValueError:
            return default
        return value if math.isfinite(value) else default

    def amount(tag: str) -> float:
        return max(0.0, number(tag))

    return InitData(
        major_version=int(amount("major_version")),
        minor_version=int(amount("minor_version")),
        release=int(amount("release")),
        app_version=int(amount("app_version")),
        app_name=found.get("app_name", ""),
        wu_name=found.get("wu_name", ""),
        result_name=found.get("result_name", ""),
        project_dir=found.get("project_dir", ""),
        slot=int(number("slot")),
        client_pid=int(amount("client_pid")),
        shm_key=int(number("shm_key", -1.0)),
        comm_obj_name=found.get("comm_obj_name", ""),
        wu_cpu_time=amount("wu_cpu_time"),
        checkpoint_period=amount("checkpoint_period"),
        ncpus=amount("ncpus"),
        gpu_device_num=int(number("gpu_device_num", -1.0)),
        process_priority=int(number("process_priority", -1.0)),
        no_priority_change=bool(number("no_priority_change")),
        rsc_fpops_est=amount("rsc_fpops_est"),
        rsc_fpops_bound=amount("rsc_fpops_bound"),
        rsc_memory_bound=amount("rsc_memory_bound"),
        rsc_disk_bound=amount("rsc_disk_bound"),
        starting_elapsed_time=amount("starting_elapsed_time"),
        computation_deadline=amount("computation_deadline"),
        resource_share_fraction=amount("resource_share_fraction"),
        fraction_done_start=number("fraction_done_start"),
        fraction_done_end=number("fraction_done_end", 1.0),
        p_fpops=amount(f"{_HOST}/p_fpops"),
        p_iops=amount(f"{_HOST}/p_iops"),
    )


def _values(text: str) -> dict[str, str]:
    """Return the value of each tag that stands with its end on one line, outside of the foreign blocks.

    Those about the host are there too, as `host_info/TAG`.
    """
    values: dict[str, str] = {}
    inside = ""
    for line in map(str.strip, text.splitlines()):
        if line == f"</{inside}>":
            inside = ""
            continue
        if inside not in ("", _HOST):
            continue
        tag, closed, rest = line[1:].partition(">")
        if not (line.startswith("<") and closed):
            continue
        value, ended, _ = rest.partition(f"</{tag}>")
        if ended:
            values.setdefault(f"{inside}/{tag}" if inside else tag, value)
        elif not inside and tag in _FOREIGN and f"</{tag}>" not in rest:
            inside = tag
    return values
