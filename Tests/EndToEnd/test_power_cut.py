"""A power cut right after a promise, on loop-mounted disks, and at any moment under load; see power_cut.py and power_load.py.

Needs root or sudo. `SLUICE_CUTS=50 Tests/EndToEnd/run "under load"` is the long variant of the latter.
"""

import os
import random
import subprocess

from as_root import HERE, run
from harness import check, equal, test
from power_cut import LOST
from test_data import SEED


def cut(directory, policy, rounds, *more):
    return run("power_cut.py", directory, "--policy", policy, "--rounds", str(rounds), "--seed", str(SEED), *more)


def cut_under_load(directory, policy, cuts, *more):
    seed = random.SystemRandom().randrange(1 << 32)
    return run("power_load.py", directory, "--policy", policy, "--cuts", str(cuts), "--seed", str(seed), *more)


def no_sync(directory):
    library = os.path.join(directory, "no_sync.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, os.path.join(HERE, "no_sync.c")], check=True)
    return library


@test("a power cut after any promise loses none of it, nor does losing two volumes of RS-3-2 with it")
def power_cut_3_2(directory):
    equal(cut(directory, "3,2", 8).returncode, 0, "the exit code")


@test("a power cut after any promise loses none of it, nor does losing three volumes of RS-6-3 with it")
def power_cut_6_3(directory):
    equal(cut(directory, "6,3", 3).returncode, 0, "the exit code")


@test("the same test sees the loss when the gateway's syncs do nothing")
def power_cut_without_sync(directory):
    done = cut(directory, "3,2", 1, "--preload", no_sync(directory))
    equal(done.returncode, LOST, "the exit code: a gateway that never syncs was not found out")
    check("lost: " in done.stdout, "no loss was named")


@test("power cuts at random moments under load lose nothing that was promised, nor does losing two volumes with the last")
def power_cut_under_load(directory):
    equal(cut_under_load(directory, "3,2", int(os.environ.get("SLUICE_CUTS", 5))).returncode, 0, "the exit code")


@test("a power cut under load is seen to lose promises when the gateway's syncs do nothing")
def power_cut_under_load_without_sync(directory):
    done = cut_under_load(directory, "3,2", 2, "--preload", no_sync(directory))
    equal(done.returncode, LOST, "the exit code: a gateway that never syncs was not found out")
    check("lost: " in done.stdout, "no loss was named")
