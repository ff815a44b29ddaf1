"""A power cut right after a promise, on loop-mounted disks; see power_cut.py. Needs root or sudo."""

import os
import subprocess
import sys

import gateway
from harness import check, equal, test
from power_cut import LOST
from test_data import SEED

HERE = os.path.dirname(os.path.abspath(__file__))


def cut(directory, policy, rounds, *more):
    command = [
        "unshare", "--mount", sys.executable, os.path.join(HERE, "power_cut.py"), "--binary", gateway.binary,
        "--directory", directory, "--policy", policy, "--rounds", str(rounds), "--seed", str(SEED), *more]
    if os.geteuid() != 0:
        command = ["sudo", "-n", *command]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1100)
    print(done.stdout, end="")
    return done


@test("a power cut after any promise loses none of it, nor does losing two volumes of RS-3-2 with it")
def power_cut_3_2(directory):
    equal(cut(directory, "3,2", 8).returncode, 0, "the exit code")


@test("a power cut after any promise loses none of it, nor does losing three volumes of RS-6-3 with it")
def power_cut_6_3(directory):
    equal(cut(directory, "6,3", 3).returncode, 0, "the exit code")


@test("the same test sees the loss when the gateway's syncs do nothing")
def power_cut_without_sync(directory):
    library = os.path.join(directory, "no_sync.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, os.path.join(HERE, "no_sync.c")], check=True)
    done = cut(directory, "3,2", 1, "--preload", library)
    equal(done.returncode, LOST, "the exit code: a gateway that never syncs was not found out")
    check("lost: " in done.stdout, "no loss was named")
