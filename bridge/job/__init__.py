"""The job file: what is to be run, as the project wrote it. `tags` reads its form, `schema` judges what it says."""

from .schema import CHECKPOINT_PERIOD_S, Job, read_job

__all__ = ["CHECKPOINT_PERIOD_S", "Job", "read_job"]
