"""The job file: what is to be run, as the project wrote it. `tags` reads its form, `schema` judges what it says."""

from .schema import Job, read_job

__all__ = ["Job", "read_job"]
