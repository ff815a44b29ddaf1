"""Runs a program that mounts disks of its own: as root, and in a mount namespace that ends with it."""

import os
import subprocess
import sys

import gateway

HERE = os.path.dirname(os.path.abspath(__file__))


def run(program, directory, *more):
    """`program` is a file beside this one. What it prints is printed; returns the ended process."""
    command = [
        "unshare", "--mount", sys.executable, os.path.join(HERE, program), "--binary", gateway.binary,
        "--directory", directory, *more]
    if os.geteuid() != 0:
        command = ["sudo", "-n", *command]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1100)
    print(done.stdout, end="")
    return done
