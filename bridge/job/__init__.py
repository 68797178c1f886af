"""The job file: what is to be run, as the project wrote it.

names         names in a job directory that have a meaning
command_line  how a command line is split
tags          its form: elements and their lines
values        the kinds of text that elements have
patterns      one of them: regular expressions
table         what an element may hold, and how it is read and judged
elements      all elements of <job_desc>, in tables
vbox          all elements of <vbox_job>, in a table
findings      what is wrong or odd in a file
advice        what lint says beyond that
words         what a job would do, in plain words
reader        from a file's text to a job, and all that is to be said of it
schema        the door to all of these
model         what a job is to the rest of the bridge
"""

from .model import CHECKPOINT_PERIOD_S, HostTask, Job, MachineTask, PlainGuest, ZipOutput
from .schema import read_job

__all__ = ["CHECKPOINT_PERIOD_S", "HostTask", "Job", "MachineTask", "PlainGuest", "ZipOutput", "read_job"]
