"""One of two kernels that have the export mounted; they meet by files in a directory that both share."""

import os
import random
import sys
import time

from steps import MOUNT, check, equal, main, step

SIDE, SHARED = int(sys.argv.pop()), sys.argv.pop()
ROUNDS = 40


def meet(word):
    """Waits until the other side says the same word."""
    with open(os.path.join(SHARED, f"{word}-{SIDE}"), "w"):
        pass
    end = time.monotonic() + 100
    while not os.path.exists(os.path.join(SHARED, f"{word}-{1 - SIDE}")):
        check(time.monotonic() < end, f"the other kernel didn't come to {word!r}")
        time.sleep(0.01)


def report(word, text):
    with open(os.path.join(SHARED, f"{word}-{SIDE}.partial"), "w") as file:
        file.write(text)
    os.rename(os.path.join(SHARED, f"{word}-{SIDE}.partial"), os.path.join(SHARED, f"{word}-{SIDE}"))


@step("names made by both at once with O_EXCL, mkdir, symlink, link and rename are made by exactly one")
def races(directory):
    del directory
    if SIDE == 0:
        os.mkdir(f"{MOUNT}/races")
        os.mkdir(f"{MOUNT}/races/sources")
    for number in range(ROUNDS):
        with open(f"{MOUNT}/races-source-{SIDE}-{number}", "w") as file:
            file.write(f"{SIDE}")
        if SIDE == 0:
            os.mkdir(f"{MOUNT}/races/sources/{number}")
    meet("ready")
    won = []
    for number in range(ROUNDS):
        for what, action in (
            ("create", lambda: os.close(os.open(f"{MOUNT}/races/create{number}",
                                                os.O_CREAT | os.O_EXCL | os.O_WRONLY))),
            ("mkdir", lambda: os.mkdir(f"{MOUNT}/races/mkdir{number}")),
            ("symlink", lambda: os.symlink(f"{SIDE}", f"{MOUNT}/races/symlink{number}")),
            ("link", lambda: os.link(f"{MOUNT}/races-source-{SIDE}-{number}", f"{MOUNT}/races/link{number}")),
            ("rename", lambda: os.rename(f"{MOUNT}/races/sources/{number}", f"{MOUNT}/races/rename{number}")),
        ):
            try:
                action()
                won.append(f"{what} {number}")
            except FileExistsError:
                check(what != "rename", "rename to a name that the other has just made is no error")
            except FileNotFoundError:
                check(what == "rename", f"{what} found no directory")
    report("won", "\n".join(won))
    meet("done")
    for number in range(ROUNDS):
        if f"symlink {number}" in won:
            equal(os.readlink(f"{MOUNT}/races/symlink{number}"), f"{SIDE}", "the target of who won")
        if f"link {number}" in won:
            with open(f"{MOUNT}/races/link{number}") as file:
                equal(file.read(), f"{SIDE}", "the file that was linked by who won")


@step("both write their halves of one file, shuffled and synced; then each reads all")
def halves(directory):
    del directory
    piece, count = 4096 * 5, 1000
    expected = random.Random(77).randbytes(piece * count)
    path = f"{MOUNT}/halves"
    if SIDE == 0:
        with open(path, "wb") as file:
            file.truncate(len(expected))
    meet("halves")
    mine = list(range(SIDE, count, 2))
    random.Random(SIDE).shuffle(mine)
    with open(path, "r+b", buffering=0) as file:
        for done, number in enumerate(mine):
            os.pwrite(file.fileno(), expected[number * piece:(number + 1) * piece], number * piece)
            if done % 100 == 0:
                os.fsync(file.fileno())
        os.fsync(file.fileno())
    meet("written")
    with open(path, "rb") as file:
        equal(file.read(), expected, "all bytes")


@step("close-to-open by turns: each adds a line to what the other closed")
def turns(directory):
    del directory
    path = f"{MOUNT}/turns"
    for turn in range(30):
        if turn % 2 == SIDE:
            with open(path, "ab") as file:
                file.write(b"%d\n" % turn)
        meet(f"turn-{turn}")
        with open(path, "rb") as file:
            equal(file.read(), b"".join(b"%d\n" % number for number in range(turn + 1)), f"the lines after turn {turn}")
        meet(f"read-{turn}")


if __name__ == "__main__":
    sys.exit(main(f"side-{SIDE}-"))
