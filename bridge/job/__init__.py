"""The job file: what is to be run, as the project wrote it.

tags    its form: elements and their lines
schema  what it may say
model   what a job is to the rest of the bridge
"""

from .model import CHECKPOINT_PERIOD_S, HostTask, Job, MachineTask, ZipOutput
from .schema import read_job

__all__ = ["CHECKPOINT_PERIOD_S", "HostTask", "Job", "MachineTask", "ZipOutput", "read_job"]
