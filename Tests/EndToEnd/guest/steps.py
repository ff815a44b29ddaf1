"""What runs in the guest of tools/with-kernel-client: a program of steps, each on the mount and, to compare, on tmpfs.

A boot costs seconds and a program's start a tenth of one, so a theme is one Python program with many steps. Each gets
empty directories of its own. The program prints a line a step, goes on after a failure, and exits with 1 if one failed.
"""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import time
import traceback

MOUNT = "/mnt"
# A tmpfs of the guest: what a local file system answers to the same calls.
LOCAL = "/run/local"

steps = []


class Failure(AssertionError):
    pass


def check(condition, what):
    if not condition:
        raise Failure(what)


def equal(found, expected, what):
    """Names the first key or element that differs: the whole of a tree would be unreadable."""
    if found == expected:
        return
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys(), key=str):
            if key not in found or key not in expected:
                raise Failure(f"{what}: {key!r} is only {'expected' if key in expected else 'found'}")
            equal(found[key], expected[key], f"{what}: {key!r}")
    if isinstance(found, (list, tuple)) and isinstance(expected, (list, tuple)) and len(found) == len(expected):
        for at, (left, right) in enumerate(zip(found, expected)):
            equal(left, right, f"{what}[{at}]")
    if isinstance(found, (bytes, str)) and isinstance(expected, type(found)) and len(found) + len(expected) > 400:
        at = next((at for at, pair in enumerate(zip(found, expected)) if pair[0] != pair[1]),
                  min(len(found), len(expected)))
        raise Failure(f"{what}: {len(found)} found, {len(expected)} expected, the first difference at {at}: "
                      f"{found[at:at + 32]!r} instead of {expected[at:at + 32]!r}")
    raise Failure(f"{what}: found {found!r}, expected {expected!r}")


@contextlib.contextmanager
def fails(*codes, what="the call"):
    """The block must raise OSError with one of these errno values."""
    try:
        yield
    except OSError as error:
        check(error.errno in codes, f"{what}: {name_of(error.errno)}, expected {' or '.join(map(name_of, codes))}")
    else:
        raise Failure(f"{what} succeeded, expected {' or '.join(map(name_of, codes))}")


def name_of(code):
    return errno.errorcode.get(code, str(code))


def step(name):
    """A step on the mount: `def f(directory)`."""
    def register(function):
        steps.append((name, lambda key: function(fresh(MOUNT, key))))
        return function
    return register


def same(name):
    """A step done on tmpfs and on the mount: `def f(directory)` returns what it saw, which must be the same."""
    def register(function):
        def both(key):
            before = time.monotonic()
            local = function(fresh(LOCAL, key))
            check(local is not None, "the step saw nothing")
            print(f"         {time.monotonic() - before:6.1f} s  of it on tmpfs", flush=True)
            equal(function(fresh(MOUNT, key)), local, "on the mount, compared with tmpfs")
            shutil.rmtree(os.path.join(LOCAL, key))
        steps.append((name, both))
        return function
    return register


def fresh(parent, key):
    path = os.path.join(parent, key)
    os.makedirs(path)
    os.chmod(path, 0o755)
    return path


def run(*command, directory=None, environment=None, code=0):
    """Runs a program to its end and returns its standard output; fails on another exit code."""
    done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env={**os.environ, **(environment or {})})
    check(done.returncode == code,
          f"{command} exited with {done.returncode}: {(done.stdout + done.stderr)[-2000:].decode(errors='replace')}")
    return done.stdout


@contextlib.contextmanager
def another_mount(options=""):
    """Mounts the export once more with caches of its own, as another client would have; gives its path."""
    with open("/proc/mounts") as file:
        device, given = next((line.split()[0], line.split()[3]) for line in file if line.split()[1] == MOUNT)
    kept = [option for option in given.split(",")
            if option.partition("=")[0] in ("vers", "proto", "mountproto", "port", "mountport", "addr", "mountaddr")]
    path = f"/run/mount-{another_mount.count}"
    another_mount.count += 1
    os.mkdir(path)
    run("mount", "-i", "-t", "nfs", "-o", ",".join(["nolock", "nosharecache", *kept, *filter(None, [options])]),
        device, path)
    try:
        yield path
    finally:
        run("umount", path)


another_mount.count = 0


def elsewhere(path, mount):
    """The path of something on MOUNT as another mount has it."""
    return os.path.join(mount, os.path.relpath(path, MOUNT))


def in_child(function):
    """Runs a function in a process of its own, which may give up its rights; returns what it returned."""
    import pickle
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        try:
            result = (True, function())
        except BaseException:
            result = (False, traceback.format_exc())
        with os.fdopen(writable, "wb") as out:
            pickle.dump(result, out)
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as results:
        done, result = pickle.load(results)
    os.waitpid(child, 0)
    check(done, result)
    return result


def main(prefix=""):
    """Runs the steps that contain one of the words of the command line. Kernels at one export need a prefix each."""
    os.umask(0o022)
    os.mkdir(LOCAL)
    failed = 0
    for number, (name, function) in enumerate(steps):
        if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
            continue
        before = time.monotonic()
        try:
            function(f"{prefix}step-{number:02}")
            outcome = "ok  "
        except Exception:
            failed += 1
            outcome = "FAIL"
            traceback.print_exc(file=sys.stdout)
        print(f"  {outcome} {time.monotonic() - before:6.1f} s  {name}", flush=True)
    sys.exit(1 if failed or not steps else 0)
