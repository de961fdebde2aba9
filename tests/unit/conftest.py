"""Time is no pass mark of a unit test: the machine may be busy with something else."""

from hypothesis import settings

settings.register_profile("berth", deadline=None)
settings.load_profile("berth")
