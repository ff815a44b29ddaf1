"""A disk that hangs, on loop-mounted disks; see frozen_disk.py. Needs root or sudo."""

from as_root import run
from harness import equal, test


@test("a disk that hangs holds up whoever commits once, for some seconds, and what is committed then is kept")
def frozen_disk(directory):
    equal(run("frozen_disk.py", directory).returncode, 0, "the exit code")
