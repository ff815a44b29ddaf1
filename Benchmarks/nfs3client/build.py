"""Builds the NFSv3 clients in C: each is a directory beside this one, with the RPC and NFSv3 of this directory."""

import os
import subprocess

BENCHMARKS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def sources(name):
    """The C files of which the client is made."""
    directories = (os.path.join(BENCHMARKS, name), os.path.join(BENCHMARKS, "nfs3client"))
    return [os.path.join(directory, file) for directory in directories
            for file in sorted(os.listdir(directory)) if file.endswith(".c")]


def build(name, program, *flags):
    """Compiles Benchmarks/NAME into `program`; raises CalledProcessError when that fails."""
    subprocess.run(["cc", "-O2", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", *flags,
                    "-I", os.path.join(BENCHMARKS, "nfs3client"), "-o", program, *sources(name)], check=True)
