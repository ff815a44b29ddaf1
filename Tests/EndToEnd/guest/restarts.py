"""Work that goes on while the server is killed and started again; files in a shared directory tell when.

NFSv3 lets a call that is repeated after a restart fail where it has been done (MKDIR: EEXIST; REMOVE, RENAME: ENOENT),
so nothing here makes directories, removes or renames while the server may die.
"""

import hashlib
import mmap
import os
import random
import sys
import time

from steps import MOUNT, another_mount, equal, main, run, step

SHARED = sys.argv.pop()


def tell(word):
    with open(os.path.join(SHARED, word), "w"):
        pass


def told(word):
    return os.path.exists(os.path.join(SHARED, word))


def wait(word):
    while not told(word):
        time.sleep(0.05)


@step("msync and fsync: what they have promised is there after kill -9, before this client could send it again")
def mapped(directory):
    del directory
    data = random.Random(21).randbytes(5_000_001)
    with open(f"{MOUNT}/mapped", "w+b") as file:
        file.truncate(len(data))
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[:] = data
            memory.flush()
        os.fsync(file.fileno())
        tell("mapped")
        wait("compared")
        equal(os.pread(file.fileno(), len(data), 0), data, "the bytes after the restart")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@step("copies, shuffled writes with and without fsync, mmap and appends end right though the server dies thrice")
def busy(directory):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"  seed {seed}")
    source = "/run/source"
    os.mkdir(source)
    chance = random.Random(seed)
    for number in range(40):
        with open(f"{source}/small{number}", "wb") as file:
            file.write(chance.randbytes(chance.choice((0, 10, 5000, 200_000))))
    with open(f"{source}/big", "wb") as file:
        file.write(chance.randbytes(40_000_000))

    def copies(turn):
        run("cp", "-r", source, f"{directory}/copies/{turn % 2}", "-T")

    def shuffled(turn):
        """Each turn overwrites the whole file in another order, with an fsync now and then."""
        mine = random.Random(seed + turn)
        pieces = list(range(300))
        mine.shuffle(pieces)
        with open(f"{directory}/shuffled", "r+b" if turn else "w+b", buffering=0) as file:
            for number in pieces:
                os.pwrite(file.fileno(), random.Random(seed + turn * 1000 + number).randbytes(20_011), number * 20_011)
                if mine.random() < 0.05:
                    os.fsync(file.fileno())
            os.fsync(file.fileno())

    def mapping(turn):
        with open(f"{directory}/mapping", "r+b" if turn else "w+b") as file:
            file.truncate(6_000_000)
            with mmap.mmap(file.fileno(), 0) as memory:
                memory[:] = random.Random(seed + turn).randbytes(6_000_000)
                memory.flush()

    def appending(turn):
        with open(f"{directory}/log", "ab", buffering=0) as file:
            for number in range(50):
                file.write(b"%06d " % (turn * 50 + number) + b"." * 500 + b"\n")
            os.fsync(file.fileno())

    os.makedirs(f"{directory}/copies/0")
    os.makedirs(f"{directory}/copies/1")
    children = []
    for work in (copies, shuffled, mapping, appending):
        child = os.fork()
        if child == 0:
            turn = 0
            while turn == 0 or not told("enough"):
                work(turn)
                turn += 1
                with open(f"/run/turns-{work.__name__}", "w") as file:
                    file.write(str(turn))
                if turn == 1:
                    tell(f"once-{work.__name__}")
            os._exit(0)
        children.append(child)
    tell("busy")
    codes = [os.waitpid(child, 0)[1] for child in children]
    equal(codes, [0] * 4, "the exit codes of the children")
    turns = {}
    for name in ("copies", "shuffled", "mapping", "appending"):
        with open(f"/run/turns-{name}") as file:
            turns[name] = int(file.read())
    print(f"  turns: {turns}")
    with another_mount() as mount:
        for here in (directory, os.path.join(mount, os.path.basename(directory))):
            for turn in range(min(2, turns["copies"])):
                for name in os.listdir(source):
                    equal(digest(f"{here}/copies/{turn}/{name}"), digest(f"{source}/{name}"), f"{name} of copy {turn}")
            last = turns["shuffled"] - 1
            with open(f"{here}/shuffled", "rb") as file:
                equal(file.read(), b"".join(random.Random(seed + last * 1000 + number).randbytes(20_011)
                                            for number in range(300)), "the shuffled file")
            with open(f"{here}/mapping", "rb") as file:
                equal(file.read(), random.Random(seed + turns["mapping"] - 1).randbytes(6_000_000), "the mapped file")
            with open(f"{here}/log", "rb") as file:
                lines = (b"%06d " % number + b"." * 500 + b"\n" for number in range(turns["appending"] * 50))
                equal(file.read(), b"".join(lines), "the log")


if __name__ == "__main__":
    sys.exit(main())
