"""Twenty thousand files: made by several processes, found, measured and removed by the usual programs."""

import os
import random
import sys
import time

from steps import another_mount, check, elsewhere, equal, main, run, step

FILES, DIRECTORIES, WRITERS = 20_000, 100, 16
LARGE = 3_000  # in one directory


def size(number):
    return (0, 10, 1000)[number % 3] if number % 40 else 20_000


def place(number):
    if number < LARGE:
        return f"large/file-{number}"
    return f"tree/{number % 10}/{number % DIRECTORIES}/file-{number}"


@step("20,000 files: made by 16 processes, seen by find, du, ls -R, grep and another mount, removed by rm -r")
def many_files(directory):
    clock = time.monotonic()

    def lap(what, count=FILES):
        nonlocal clock
        took, clock = time.monotonic() - clock, time.monotonic()
        print(f"  {what}: {took:.1f} s, {count / took:.0f} a second", flush=True)

    os.mkdir(os.path.join(directory, "large"))
    for number in range(DIRECTORIES):
        os.makedirs(os.path.join(directory, os.path.dirname(place(LARGE + number))), exist_ok=True)
    children = []
    for writer in range(WRITERS):
        child = os.fork()
        if child == 0:
            for number in range(writer, FILES, WRITERS):
                # Not synced here: the client sends what it has at the close, which is a COMMIT or FILE_SYNC.
                with open(os.path.join(directory, place(number)), "wb", buffering=0) as file:
                    if size(number):
                        file.write(b"%d\n" % number * (size(number) // (len(str(number)) + 1)))
            os._exit(0)
        children.append(child)
    equal([os.waitpid(child, 0)[1] for child in children], [0] * WRITERS, "the exit codes")
    lap("made")
    expected = sorted(f"./{place(number)}" for number in range(FILES))
    with another_mount() as mount:
        other = elsewhere(directory, mount)
        for where, path in (("here", directory), ("by a mount that has cached nothing", other)):
            equal(sorted(run("find", ".", "-type", "f", directory=path).decode().split()), expected, f"find {where}")
            lap(f"find {where}")
        bytes_expected = sum(size(number) // (len(str(number)) + 1) * (len(str(number)) + 1) for number in range(FILES))
        listed = run("find", ".", "-type", "f", "-printf", "%s\\n", directory=other).decode().split()
        equal(sum(map(int, listed)), bytes_expected, "the sum of sizes")
        lap("find with sizes")
        check(int(run("du", "-s", "--apparent-size", "-B1", other).split()[0]) >= bytes_expected, "du")
        lap("du")
        equal(run("ls", "-lR", other).decode().count(" file-"), FILES, "ls -lR")
        lap("ls -lR")
        found = run("grep", "-rlx", "--include=file-*7", "19987\\|1237", ".", directory=other).decode().split()
        equal(sorted(found), sorted(f"./{place(number)}" for number in (1237, 19987) if size(number)), "grep -r")
        lap("grep -r", FILES // 10)
        for number in random.Random(3).sample(range(FILES), 300):
            with open(os.path.join(other, place(number)), "rb") as file:
                equal(file.read(), b"%d\n" % number * (size(number) // (len(str(number)) + 1)), place(number))
        lap("read", 300)
    removals = [os.spawnlp(os.P_NOWAIT, "rm", "rm", "-r", os.path.join(directory, path))
                for path in ("large", *(f"tree/{number}" for number in range(10)))]
    equal([os.waitpid(child, 0)[1] for child in removals], [0] * 11, "the exit codes of rm -r")
    lap("removed")
    equal(os.listdir(directory), ["tree"], "what is left")
    run("rm", "-r", os.path.join(directory, "tree"))
    with another_mount() as mount:
        equal(os.listdir(elsewhere(directory, mount)), [], "what another mount sees at the end")


if __name__ == "__main__":
    sys.exit(main())
