"""Runs commands and the programs of guest/ in the Linux kernel's NFSv3 client, through tools/with-kernel-client."""

import os
import subprocess
import sys
import time

from harness import check

HERE = os.path.dirname(os.path.abspath(__file__))
WITH_KERNEL_CLIENT = os.path.join(HERE, "../../tools/with-kernel-client")


def guest_command(port, shared, *command, options="", memory="1G", source="127.0.0.1"):
    return [WITH_KERNEL_CLIENT, "--server", f"127.0.0.1:{port}", "--share", shared, "--timeout", "900",
            "--memory", memory, "--from", source, *(["--options", options] if options else []), "--", *command]


def in_kernel_client(port, shared, *command, **settings):
    done = subprocess.run(
        guest_command(port, shared, *command, **settings), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", timeout=1000)
    check(done.returncode == 0, f"exit code {done.returncode}: {done.stdout}")
    return done.stdout


def guest_program(name):
    return [sys.executable, "-B", os.path.join(HERE, "guest", f"{name}.py")]


def run_steps(port, shared, name, *arguments, **settings):
    """Runs guest/NAME.py; prints its line for each step, also when one of them failed."""
    done = subprocess.run(
        guest_command(port, shared, *guest_program(name), *arguments, **settings), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=1000)
    print(done.stdout, end="", flush=True)
    check(done.returncode == 0, f"guest/{name}.py: exit code {done.returncode}, see above")


def wait_for(condition):
    """Polls what another kernel does; there is nothing to be woken by."""
    end = time.monotonic() + 600
    while not condition():
        check(time.monotonic() < end, "waited in vain for the guest")
        time.sleep(0.05)
