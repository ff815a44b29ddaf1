"""Two mounts at once, with caches of their own, as two clients have them: close-to-open, races, and what is gone."""

import errno
import mmap
import multiprocessing
import os
import random
import sys

from steps import another_mount, check, elsewhere, equal, fails, main, run, step


def put(path, data):
    with open(path, "wb") as file:
        file.write(data)


def get(path):
    with open(path, "rb") as file:
        return file.read()


def both_ways(directory, options):
    """What one wrote and closed is seen by the other that opens afterwards."""
    with another_mount(options) as mount:
        other = elsewhere(directory, mount)
        for turn in range(20):
            writer, reader = (directory, other) if turn % 2 == 0 else (other, directory)
            data = os.urandom(1 + turn * 5003 % 70_000)
            put(os.path.join(writer, "file"), data)
            equal(get(os.path.join(reader, "file")), data, f"the bytes of turn {turn}")
        for turn in range(20):
            with open(os.path.join(directory if turn % 2 == 0 else other, "log"), "ab") as file:
                file.write(b"%d\n" % turn)
        equal(get(os.path.join(other, "log")), b"".join(b"%d\n" % turn for turn in range(20)), "appends by turns")
        # The same size again, in the middle: nothing but the times says that it has changed.
        for turn in range(10):
            writer, reader = (directory, other) if turn % 2 == 0 else (other, directory)
            with open(os.path.join(writer, "log"), "r+b") as file:
                file.seek(10)
                file.write(b"%d" % turn)
            equal(get(os.path.join(reader, "log"))[10:11], b"%d" % turn, f"one byte in turn {turn}")
        os.truncate(os.path.join(other, "log"), 7)
        equal(get(os.path.join(directory, "log")), b"0\n1\n2\n3", "after the other truncated it")


@step("close-to-open between two mounts, with attributes cached as usual")
def close_to_open(directory):
    both_ways(directory, "")


@step("close-to-open between two mounts, the second with noac")
def close_to_open_noac(directory):
    both_ways(directory, "noac")


@step("with noac and lookupcache=none the other sees names, sizes and modes at once")
def names_at_once(directory):
    with another_mount("noac,lookupcache=none") as mount:
        other = elsewhere(directory, mount)
        for number in range(10):
            name, new = f"file{number}", f"new{number}"
            check(not os.path.exists(os.path.join(other, name)), "there before it is made")
            put(os.path.join(directory, name), b"x" * number)
            equal(os.stat(os.path.join(other, name)).st_size, number, "the size")
            os.chmod(os.path.join(directory, name), 0o600 + number % 8)
            equal(os.stat(os.path.join(other, name)).st_mode & 0o777, 0o600 + number % 8, "the mode")
            os.rename(os.path.join(directory, name), os.path.join(directory, new))
            check(not os.path.exists(os.path.join(other, name)), "the old name is still there")
            equal(get(os.path.join(other, new)), b"x" * number, "under the new name")
            equal(sorted(os.listdir(other)), sorted(f"new{index}" for index in range(number + 1)), "the listing")
        for number in range(10):
            os.unlink(os.path.join(directory, f"new{number}"))
        equal(os.listdir(other), [], "the listing after all are removed")


@step("a file that another mount removes while it is open is ESTALE, and its name can be made anew")
def removed_elsewhere(directory):
    path = os.path.join(directory, "file")
    put(path, b"1234")
    with another_mount() as mount:
        with open(path, "r+b", buffering=0) as file:
            os.unlink(elsewhere(path, mount))
            with fails(errno.ESTALE, what="write and fsync"):
                file.write(b"5678")
                os.fsync(file.fileno())
            with open("/proc/sys/vm/drop_caches", "w") as drop:
                drop.write("3")
            with fails(errno.ESTALE, what="read"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                os.pread(file.fileno(), 4, 0)
        put(path, b"new")
        equal(get(elsewhere(path, mount)), b"new", "the new file elsewhere")
        # Replaced by another file under the same name: the one that is open is gone, the name is not.
        with open(path, "rb") as file:
            put(elsewhere(path + "2", mount), b"replaced")
            os.rename(elsewhere(path + "2", mount), elsewhere(path, mount))
            equal(get(path), b"replaced", "the name after it was replaced elsewhere")


@step("of two mounts that create with O_EXCL exactly one succeeds, and mkdir and rename races have one winner too")
def exclusive_races(directory):
    with another_mount("lookupcache=none") as mount:
        other = elsewhere(directory, mount)
        for number in range(60):
            put(os.path.join(directory, f"source{number}"), b"s")
        together = multiprocessing.Barrier(2)
        children = []
        for place in (directory, other):
            results, report = os.pipe()
            child = os.fork()
            if child == 0:
                won = []
                for number in range(60):
                    for what, action in (
                        ("create", lambda: os.close(os.open(os.path.join(place, f"c{number}"),
                                                            os.O_CREAT | os.O_EXCL))),
                        ("mkdir", lambda: os.mkdir(os.path.join(place, f"d{number}"))),
                        ("rename", lambda: os.rename(os.path.join(place, f"source{number}"),
                                                     os.path.join(place, f"r{number}")))):
                        together.wait()
                        if (number + len(children)) % 2:
                            os.sched_yield()  # the other one first
                        try:
                            action()
                            won.append(f"{what} {number}")
                        except FileExistsError:
                            if what == "rename":
                                won.append(f"unexpected: {what} {number} exists")
                        except FileNotFoundError:
                            if what != "rename":
                                won.append(f"unexpected: {what} {number} not found")
                os.write(report, "\n".join(won).encode())
                os._exit(0)
            os.close(report)
            children.append((child, results))
        won = []
        for child, results in children:
            with os.fdopen(results) as lines:
                won.append(lines.read().splitlines())
            equal(os.waitpid(child, 0)[1], 0, "the exit status of a child")
        all_names = sorted(f"{what} {number}" for what in ("create", "mkdir", "rename") for number in range(60))
        equal(sorted(won[0] + won[1]), all_names, "the winners")
        print(f"  the first mount won {len(won[0])} of 180")


@step("two mounts write disjoint ranges of one file out of order, in the same stripes; all bytes are there")
def disjoint_ranges(directory):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"  seed {seed}")
    path = os.path.join(directory, "file")
    # Pages, not less: a client writes back the part of a page that it changed, but it may first read the whole page.
    piece, count = 4096 * 3, 1500
    expected = random.Random(seed).randbytes(piece * count)
    put(path, b"")
    os.truncate(path, len(expected))
    with another_mount() as mount:
        children = []
        for writer, place in enumerate((path, elsewhere(path, mount))):
            child = os.fork()
            if child == 0:
                chance = random.Random(seed + writer)
                mine = list(range(writer, count, 2))
                chance.shuffle(mine)
                with open(place, "r+b", buffering=0) as file:
                    for done, number in enumerate(mine):
                        os.pwrite(file.fileno(), expected[number * piece:(number + 1) * piece], number * piece)
                        if done % 150 == 0:
                            os.fsync(file.fileno())
                os._exit(0)
            children.append(child)
        equal([os.waitpid(child, 0)[1] for child in children], [0, 0], "the exit codes")
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
        equal(get(path), expected, "the bytes on one mount")
        equal(get(elsewhere(path, mount)), expected, "the bytes on the other")


@step("O_DIRECT of two mounts on one file: each write is seen by the other's next read, down to single bytes")
def direct(directory):
    path = os.path.join(directory, "file")
    model = bytearray(100_000)
    put(path, bytes(model))
    chance = random.Random(9)
    with another_mount() as mount, mmap.mmap(-1, 1 << 20) as memory:
        sides = [os.open(each, os.O_RDWR | os.O_DIRECT) for each in (path, elsewhere(path, mount))]
        for number in range(60):
            offset = chance.randrange(len(model))
            data = chance.randbytes(min(chance.choice((1, 511, 4096, 30_000)), len(model) - offset))
            model[offset:offset + len(data)] = data
            memory[:len(data)] = data
            os.pwritev(sides[number % 2], [memoryview(memory)[:len(data)].toreadonly()], offset)
            with memoryview(memory) as view:
                length = os.preadv(sides[1 - number % 2], [view[:len(model)]], 0)
            equal(bytes(memory[:length]), bytes(model), f"the bytes after write {number}")
        for side in sides:
            os.close(side)


@step("dd overwrites pieces inside a large file that another mount reads, fsync after each; the rest stays")
def overwrite_inside(directory):
    chance = random.Random(13)
    path = os.path.join(directory, "file")
    model = bytearray(chance.randbytes(24 << 20))
    put(path, bytes(model))
    patch = "/run/patch"
    with another_mount() as mount:
        for size, at in ((512, 12_345), (65_536, 77), (1 << 20, 5), (3_000, 2_000)):
            data = chance.randbytes(size)
            put(patch, data)
            run("dd", f"if={patch}", f"of={path}", f"bs={size}", f"seek={at}", "conv=notrunc,fsync", "status=none")
            model[at * size:(at + 1) * size] = data
            equal(get(elsewhere(path, mount)), bytes(model), f"the bytes elsewhere after {size} at {at * size}")


@step("a loop of small writes, each with fsync, by four processes in four files and one")
def sync_loops(directory):
    shared = os.path.join(directory, "shared")
    put(shared, bytes(4 * 100 * 100))
    children = []
    for writer in range(4):
        child = os.fork()
        if child == 0:
            own = os.open(os.path.join(directory, f"own{writer}"), os.O_CREAT | os.O_WRONLY)
            common = os.open(shared, os.O_WRONLY)
            for number in range(30):
                record = b"%d %02d " % (writer, number) + b"x" * 94 + b"\n"
                os.write(own, record)
                os.fsync(own)
                os.pwrite(common, record[:100], (writer * 100 + number) * 100)
                os.fsync(common)
            os._exit(0)
        children.append(child)
    equal([os.waitpid(child, 0)[1] for child in children], [0] * 4, "the exit codes")
    with another_mount() as mount:
        for writer in range(4):
            lines = [b"%d %02d " % (writer, number) + b"x" * 94 + b"\n" for number in range(30)]
            equal(get(elsewhere(os.path.join(directory, f"own{writer}"), mount)), b"".join(lines), "an own file")
            equal(get(elsewhere(shared, mount))[writer * 10_000:writer * 10_000 + 3000],
                  b"".join(line[:100] for line in lines),
                  "the shared file")


if __name__ == "__main__":
    sys.exit(main())
