"""Builds the NFSv3 clients in C: each is a directory beside this one, with the RPC and NFSv3 of this directory."""

import os
import subprocess

BENCHMARKS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def files(name, *ends):
    """The files of the client and of what all have in common, with one of these ends."""
    directories = (os.path.join(BENCHMARKS, name), os.path.join(BENCHMARKS, "nfs3client"))
    return [os.path.join(directory, file) for directory in directories
            for file in sorted(os.listdir(directory)) if file.endswith(ends)]


def build(name, program, *flags):
    """Compiles Benchmarks/NAME into `program`; raises CalledProcessError when that fails."""
    subprocess.run(["cc", "-O2", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror",
                    "-I", os.path.join(BENCHMARKS, "nfs3client"), "-o", program, *files(name, ".c"), *flags], check=True)


def build_if_older(name, directory, *flags):
    """Compiles Benchmarks/NAME into the directory unless nothing has changed since; returns the program's path."""
    program = os.path.join(directory, name)
    newest = max(map(os.path.getmtime, [__file__, *files(name, ".c", ".h")]))
    if not os.path.exists(program) or os.path.getmtime(program) < newest:
        os.makedirs(directory, exist_ok=True)
        # Another may be building, too, or running the old one.
        new = f"{program}.{os.getpid()}"
        build(name, new, *flags)
        os.rename(new, program)
    return program
