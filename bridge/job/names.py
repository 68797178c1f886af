"""Names in a job directory that have a meaning."""

from __future__ import annotations

from ..workplace import MACHINE, SHARED

JOB_FILE = "job.xml"
VBOX_JOB_FILE = "vbox_job.xml"

OWN_NAMES = frozenset({SHARED, MACHINE, JOB_FILE, "init_data.xml", "wrapper_checkpoint.txt", "initial_file_list"})
"""Names in the job directory that are the bridge's own or the client's; no output may be called so."""
