"""Names in a job directory that have a meaning."""

from __future__ import annotations

from ..workplace import MACHINE, SHARED

JOB_FILE = "job.xml"
VBOX_JOB_FILE = "vbox_job.xml"

OWN_NAMES = frozenset({SHARED, MACHINE, JOB_FILE, "init_data.xml", "wrapper_checkpoint.txt", "initial_file_list"})
"""Names in the job directory that are the bridge's own or its files of the client's."""

_CLIENT_NAMES = frozenset(
    {
        "boinc_finish_called",
        "boinc_lockfile",
        "boinc_mmap_file",
        "boinc_setup_complete",
        "boinc_task_state.xml",
        "boinc_temporary_exit",
    }
)
_CLIENT_STEMS = ("boinc_ufr_", "boinc_ufs_")


def is_taken(name: str) -> bool:
    """Say whether the bridge or the BOINC client has a file of this name; no output may be called so.

    What else begins with ``boinc_`` is free: SixTrack's results are called ``boinc_summary.dat``.
    """
    return name in OWN_NAMES or name in _CLIENT_NAMES or name.startswith(_CLIENT_STEMS)
