"""What system calls on files do, on tmpfs and on the mount."""

import ctypes
import fcntl
import mmap
import os
import random
import signal
import socket
import stat
import sys
import threading
import time

from steps import MOUNT, another_mount, check, elsewhere, equal, fails, in_child, main, name_of, run, same, step

libc = ctypes.CDLL(None, use_errno=True)


def put(path, data=b"", mode=0o644):
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    return path


def get(path):
    with open(path, "rb") as file:
        return file.read()


def attempt(function, *arguments, **named):
    """What came of a call: the name of its error, or its result where that is the same everywhere."""
    try:
        result = function(*arguments, **named)
    except OSError as error:
        return name_of(error.errno)
    return result if isinstance(result, (bytes, str, bool)) else "ok"


def hidden(directory):
    return [name for name in os.listdir(directory) if name.startswith(".nfs")]


def gone(directory):
    """Waits for the removal that the close has begun: the kernel doesn't wait for its reply."""
    end = time.monotonic() + 60
    while hidden(directory):
        check(time.monotonic() < end, f"still there after the close: {hidden(directory)}")
        time.sleep(0.01)


@step("a file stays usable after its name is removed; its .nfs name goes at the close")
def silly_rename(directory):
    path = os.path.join(directory, "file")
    with open(path, "w+b", buffering=0) as file:
        file.write(b"before ")
        os.unlink(path)
        equal(len(hidden(directory)), 1, "names .nfs* while it is open")
        check(not os.path.exists(path), "the removed name is still there")
        file.write(b"after")
        os.fsync(file.fileno())
        file.seek(0)
        equal(file.read(), b"before after", "the bytes after the unlink")
        put(path, b"another")  # the name can be used again
        file.seek(0)
        equal(file.read(), b"before after", "the bytes after the name was used again")
        file.truncate(3)
        equal(os.fstat(file.fileno()).st_size, 3, "the size after a truncate")
        with another_mount() as mount:
            equal(sorted(os.listdir(elsewhere(directory, mount))), sorted(["file", *hidden(directory)]),
                  "names elsewhere")
    gone(directory)
    equal(os.listdir(directory), ["file"], "the names after the close")
    equal(get(path), b"another", "the new file")


@step("a file that another name replaces stays usable while it is open")
def rename_over_open(directory):
    old, new = (os.path.join(directory, name) for name in ("old", "new"))
    put(old, b"old")
    put(new, b"new")
    with open(old, "r+b", buffering=0) as file:
        os.rename(new, old)
        equal(get(old), b"new", "the name")
        equal(file.read(), b"old", "the open file")
        file.write(b" and more")
        os.fsync(file.fileno())
        equal(os.pread(file.fileno(), 100, 0), b"old and more", "the open file after a write")
    gone(directory)
    equal(os.listdir(directory), ["old"], "the names after the close")
    equal(get(old), b"new", "the name after the close")


@same("a file keeps its descriptor across renames, also into another directory")
def open_across_rename(directory):
    os.mkdir(os.path.join(directory, "sub"))
    path = os.path.join(directory, "a")
    with open(path, "w+b", buffering=0) as file:
        file.write(b"one ")
        for name in ("b", "sub/c", "sub/d", "a"):
            os.rename(path, os.path.join(directory, name))
            path = os.path.join(directory, name)
            file.write(name.encode() + b" ")
            os.fsync(file.fileno())
    return get(path), sorted(os.listdir(directory))


@same("mmap: shared writes, msync, growth by truncate, private writes that stay private")
def mapped(directory):
    path = put(os.path.join(directory, "file"), b"x" * 10_000)
    with open(path, "r+b") as file:
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[4090:4100] = b"0123456789"
            memory.flush()
            seen = [get(path)]
            os.pwrite(file.fileno(), b"written", 9000)
            seen.append(memory[8990:9010])
        os.truncate(path, 3 << 20)
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[(2 << 20) + 5:(2 << 20) + 8] = b"end"
            memory[-3:] = b"EOF"
            memory.flush()
        with mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as memory:
            memory[0:5] = b"AAAAA"
    return seen, get(path)


@step("mmap: what msync wrote another mount reads")
def mapped_elsewhere(directory):
    chance = random.Random(5)
    path = os.path.join(directory, "file")
    size = 9_000_001
    with open(path, "w+b") as file, another_mount() as mount:
        file.truncate(size)
        model = bytearray(size)
        for _ in range(3):
            with mmap.mmap(file.fileno(), 0) as memory:
                for _ in range(60):
                    offset = chance.randrange(size)
                    data = chance.randbytes(min(chance.choice((1, 4096, 70_000)), size - offset))
                    memory[offset:offset + len(data)] = data
                    model[offset:offset + len(data)] = data
                memory.flush()
            equal(get(elsewhere(path, mount)), bytes(model), "the bytes elsewhere")


@step("random writes, appends, truncates, mmap and O_DIRECT on one file end like a model's, here and elsewhere")
def random_operations(directory):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"  seed {seed}")
    chance = random.Random(seed)
    path = put(os.path.join(directory, "file"))
    model = bytearray()
    limit = 6 << 20
    plain, direct = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR | os.O_DIRECT)
    appending, synced = os.open(path, os.O_WRONLY | os.O_APPEND), os.open(path, os.O_WRONLY | os.O_DSYNC)

    def place(data, offset):
        model.extend(bytes(max(0, offset + len(data) - len(model))))
        model[offset:offset + len(data)] = data

    with another_mount() as mount:
        for number in range(250):
            data = chance.randbytes(chance.choice((1, 100, 4096, 5000, 65536, 300_000)))
            offset = chance.choice((chance.randrange(limit), len(model), chance.randrange(len(model) + 1)))
            match chance.choice(("write", "write", "append", "truncate", "map", "direct", "synced", "fsync", "read",
                                 "drop")):
                case "write":
                    os.pwrite(plain, data, offset)
                    place(data, offset)
                case "append":
                    os.write(appending, data)
                    place(data, len(model))
                case "truncate":
                    os.ftruncate(plain, offset)
                    del model[offset:]
                    model.extend(bytes(offset - len(model)))
                case "map" if offset + len(data) < len(model):
                    with mmap.mmap(plain, len(model)) as memory:
                        memory[offset:offset + len(data)] = data
                    place(data, offset)
                case "direct":
                    with mmap.mmap(-1, 1 << 20) as memory:  # aligned
                        offset, length = offset // 512 * 512, min(1 << 20, len(data) + 511) // 512 * 512
                        memory[:length] = data.ljust(length, b"d")[:length]
                        os.pwritev(direct, [memoryview(memory)[:length].toreadonly()], offset)
                        place(data.ljust(length, b"d")[:length], offset)
                case "synced":
                    os.pwrite(synced, data, offset)
                    place(data, offset)
                case "fsync":
                    os.fsync(plain)
                case "read":
                    equal(os.pread(plain, len(data), offset), bytes(model[offset:offset + len(data)]), f"read {number}")
                case "drop":
                    with open("/proc/sys/vm/drop_caches", "w") as file:
                        file.write("1")
            equal(os.fstat(plain).st_size, len(model), f"the size after {number}")
            if number % 50 == 49:
                os.fsync(plain)
                equal(get(elsewhere(path, mount)), bytes(model), f"the bytes elsewhere after {number}")
        for descriptor in (plain, direct, appending, synced):
            os.close(descriptor)
        equal(get(path), bytes(model), "the bytes at the end")
        equal(get(elsewhere(path, mount)), bytes(model), "the bytes elsewhere at the end")


@same("open flags: O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_CREAT on what is there")
def open_flags(directory):
    def opened(name, flags, mode=0o600):
        path = os.path.join(directory, name)
        try:
            descriptor = os.open(path, flags, mode)
        except OSError as error:
            return name_of(error.errno)
        status = os.fstat(descriptor)
        os.close(descriptor)
        return oct(status.st_mode), status.st_size if stat.S_ISREG(status.st_mode) else None

    os.mkdir(os.path.join(directory, "sub"))
    put(os.path.join(directory, "full"), b"1234")
    read, write, both = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
    create, exclusive = os.O_CREAT, os.O_CREAT | os.O_EXCL
    return [opened(name, flags, mode) for name, flags, mode in (
        ("new", exclusive | both, 0o640), ("new", exclusive | both, 0o640), ("new", create | both, 0o777),
        ("full", create | write, 0), ("full", os.O_TRUNC | write, 0), ("full", read, 0), ("none", read, 0),
        ("read-only", exclusive | write, 0o444), ("no mode", exclusive | both, 0o000),
        ("special", exclusive | write, 0o7755),
        ("sub", read, 0), ("sub", write, 0), ("sub", create | read, 0), ("sub", exclusive | read, 0),
        ("sub", os.O_DIRECTORY | read, 0), ("full", os.O_DIRECTORY | read, 0), ("full/x", read, 0),
        ("full/x", create | write, 0),
        ("none/x", create | write, 0), ("x" * 255, create | write, 0o600), ("x" * 256, create | write, 0o600),
        ("x" * 256, read, 0), ("sub/", create | write, 0), ("new/", read, 0), ("dangling/", create | write, 0))]


@same("appends by several processes neither overwrite nor lose bytes of one client")
def appends(directory):
    path = put(os.path.join(directory, "log"))
    children = []
    for writer in range(4):
        child = os.fork()
        if child == 0:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            for number in range(50):
                os.write(descriptor, b"%d:%03d;" % (writer, number) + b"." * 100 + b"\n")
            os._exit(0)
        children.append(child)
    codes = [os.waitpid(child, 0)[1] for child in children]
    return codes, sorted(get(path).splitlines())


@same("rename, rmdir and unlink are refused as on tmpfs, and do what they do there")
def names(directory):
    def at(name):
        return os.path.join(directory, name)

    for name in ("empty", "empty2", "full", "full/sub", "full/sub/below"):
        os.mkdir(at(name))
    for name in ("file", "other", "full/inside"):
        put(at(name), name.encode())
    pairs = [("file", "other"), ("other", "empty"), ("empty", "other"), ("empty", "full"), ("full", "empty"),
             ("empty", "empty/x"),
             ("empty", "empty/x/y"), ("none", "x"), ("empty2", "none/x"), ("empty2", "empty2"), ("other", "other"),
             ("empty2", "other/x"),
             ("empty2/.", "x"), ("empty2/..", "x"), ("empty", "full/sub/."), ("other", "x" * 255),
             ("x" * 255, "x" * 256),
             ("empty/sub", "empty/sub/below"), ("empty", "empty/sub/below"), ("x" * 255, "other")]
    seen = [(pair, attempt(os.rename, at(pair[0]), at(pair[1]))) for pair in pairs]
    seen += [(name, attempt(os.rmdir, at(name))) for name in ("empty", "other", "none", "empty2", "empty/.",
                                                              "empty/..", "empty2")]
    seen += [(name, attempt(os.unlink, at(name))) for name in ("empty", "none", "other/", "other", "other")]
    seen += [(name, attempt(os.mkdir, at(name))) for name in ("empty", "x" * 255, "x" * 256, "none/x", "empty/.",
                                                              "new/")]
    left = sorted((os.path.relpath(os.path.join(parent, name), directory),
                   os.lstat(os.path.join(parent, name)).st_nlink)
                  for parent, directories, files in os.walk(directory) for name in directories + files)
    return seen, left


def as_user(uid, gid, groups, function):
    def child():
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
        return function()
    return in_child(child)


@same("permissions: what owner, group, others and root may do, setuid, setgid and sticky included")
def permissions(directory):
    def at(name):
        return os.path.join(directory, name)

    os.chmod(directory, 0o777)
    for name, mode, owner, group in (("mine", 0o755, 1000, 1000), ("sticky", 0o1777, 0, 0), ("setgid", 0o2777, 0, 4000),
                                     ("closed", 0o700, 0, 0), ("listed", 0o744, 0, 0), ("passed", 0o711, 0, 0)):
        os.mkdir(at(name))
        os.chown(at(name), owner, group)
        os.chmod(at(name), mode)
        put(at(f"{name}/inside"), name.encode())
    for name, mode, owner, group in (("own", 0o640, 1000, 1000), ("own-none", 0o000, 1000, 1000),
                                     ("group", 0o060, 0, 2000),
                                     ("group-write", 0o620, 0, 2000), ("other", 0o006, 1000, 2000),
                                     ("root", 0o600, 0, 0),
                                     ("public", 0o666, 0, 0), ("public-setuid", 0o6777, 0, 3000),
                                     ("own-setuid", 0o6755, 1000, 1000),
                                     ("own-foreign-group", 0o2775, 1000, 9000), ("lock", 0o2660, 0, 3000),
                                     ("sticky/own", 0o644, 1000, 0), ("sticky/foreign", 0o666, 5, 5),
                                     ("program", 0o711, 0, 0)):
        put(at(name), name.encode())
        os.chown(at(name), owner, group)
        os.chmod(at(name), mode)

    def write(name):
        with open(at(name), "r+b", buffering=0) as file:
            file.write(b"W")
            os.fsync(file.fileno())

    def create(name, mode=0o666):
        os.close(os.open(at(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    def tries():
        seen = {}

        def look(what, function, *arguments, **named):
            seen[what] = attempt(function, *arguments, **named)

        files = ("own", "own-none", "group", "group-write", "other", "root", "public", "public-setuid", "own-setuid",
                 "own-foreign-group", "lock", "sticky/own", "sticky/foreign")
        for name in files:
            look(f"read {name}", get, at(name))
            look(f"write {name}", write, name)
            look(f"truncate {name}", os.truncate, at(name), 3)
            for right in (os.R_OK, os.W_OK, os.X_OK):
                look(f"access {name} {right}", os.access, at(name), right)
            look(f"touch {name}", os.utime, at(name))
            look(f"set times of {name}", os.utime, at(name), ns=(10**18, 10**18))
        for name in ("mine", "sticky", "setgid", "closed", "listed", "passed"):
            look(f"list {name}", lambda name=name: " ".join(sorted(os.listdir(at(name)))))
            look(f"read {name}/inside", get, at(f"{name}/inside"))
            look(f"create in {name}", create, f"{name}/new")
            look(f"mkdir in {name}", os.mkdir, at(f"{name}/directory"))
        for name, mode in (("own", 0o6755), ("own", 0o600), ("public", 0o777), ("own-foreign-group", 0o2775),
                           ("mine", 0o2755),
                           ("mine", 0o3777), ("root", 0o666), ("setgid/directory", 0o777)):
            look(f"chmod {name} {mode:o}", os.chmod, at(name), mode)
        for name, uid, gid in (("own", 1000, -1), ("own", 1001, -1), ("own", -1, 3000), ("own", -1, 9000),
                               ("own", 1000, 2000),
                               ("public", -1, 2000), ("own-setuid", -1, 2000), ("own-setuid", 1000, -1),
                               ("root", -1, -1),
                               ("sticky/own", 0, -1), ("own-foreign-group", -1, 9000)):
            look(f"chown {name} {uid} {gid}", os.chown, at(name), uid, gid)
        for source, target in (("sticky/foreign", "sticky/x"), ("sticky/own", "sticky/y"), ("own", "sticky/foreign"),
                               ("sticky/new", "mine/from sticky"), ("root", "renamed root"), ("closed/inside", "x"),
                               ("mine/inside", "out of mine"), ("closed", "mine/closed"), ("mine", "sticky/mine")):
            look(f"rename {source} {target}", os.rename, at(source), at(target))
        for name in ("sticky/foreign", "sticky/y", "closed/inside", "listed/inside", "passed/inside", "public-setuid"):
            look(f"unlink {name}", os.unlink, at(name))
        look("rmdir sticky/directory", os.rmdir, at("sticky/directory"))
        look("rmdir listed", os.rmdir, at("listed"))
        return seen

    seen = [as_user(1000, 1000, [1000, 2000, 3000], tries), as_user(7, 7, [], tries), as_user(0, 0, [0], tries)]
    left = {}
    for parent, directories, files in os.walk(directory):
        for name in directories + files:
            status = os.lstat(os.path.join(parent, name))
            left[os.path.relpath(os.path.join(parent, name), directory)] = (
                oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink)
    return seen, left


@same("times: kept to the nanosecond, set by writes, truncates and renames as on tmpfs; ctime goes up")
def times(directory):
    path = put(os.path.join(directory, "file"), b"12345678")
    seen, changed = [], [os.stat(path).st_ctime_ns]

    def look(what, function):
        os.utime(path, ns=(10**18 + 1, 10**18 + 123_456_789))
        before = os.stat(path)
        function()
        after = os.stat(path)
        changed.extend((before.st_ctime_ns, after.st_ctime_ns))
        seen.append((what, after.st_mtime_ns if after.st_mtime_ns == before.st_mtime_ns else "new", after.st_size))

    def write(data):
        with open(path, "r+b") as file:
            file.write(data)

    look("write", lambda: write(b"x"))
    look("write nothing", lambda: write(b""))
    look("truncate down", lambda: os.truncate(path, 4))
    look("truncate up", lambda: os.truncate(path, 100))
    look("chmod", lambda: os.chmod(path, 0o600))
    look("chown", lambda: os.chown(path, 1, 1))
    look("open with O_TRUNC", lambda: open(path, "wb").close())
    look("open with O_TRUNC when it is empty", lambda: open(path, "wb").close())
    check(all(left <= right for left, right in zip(changed, changed[1:])), f"ctime went back: {changed}")
    for number in (0, 10**9 + 1, 1_999_999_999, 2**31 * 10**9, (2**32 - 2) * 10**9 + 999_999_999):
        os.utime(path, ns=(number, number))
        status = os.stat(path)
        seen.append((number, status.st_atime_ns, status.st_mtime_ns))
    os.utime(directory, ns=(5, 5))
    put(os.path.join(directory, "another"))
    seen.append(os.stat(directory).st_mtime_ns > 10**18)
    os.utime(directory, ns=(5, 5))
    os.unlink(os.path.join(directory, "another"))
    seen.append(os.stat(directory).st_mtime_ns > 10**18)
    return seen


@step("what NFSv3 has no procedure for is refused at once and clearly: fallocate, extended attributes, ACLs")
def refused(directory):
    path = put(os.path.join(directory, "file"), b"1234")
    with open(path, "r+b") as file:
        for mode in (0, 1, 3):  # allocate, keep the size, punch a hole
            result = libc.fallocate(file.fileno(), mode, ctypes.c_long(0), ctypes.c_long(1 << 20))
            equal((result, name_of(ctypes.get_errno())), (-1, "ENOTSUP"), f"fallocate with mode {mode}")
        equal(libc.posix_fallocate(file.fileno(), ctypes.c_long(0), ctypes.c_long(10_000)), 0,
              "posix_fallocate, by writing")
    equal(get(path), b"1234" + bytes(9996), "the bytes")
    for name in ("user.x", "system.posix_acl_access"):
        equal(attempt(os.getxattr, path, name), "ENOTSUP", f"getxattr {name}")
    equal(attempt(os.setxattr, path, "user.x", b"x"), "ENOTSUP", "setxattr")


@step("statfs says what there is: names of 255 bytes, room, and that less is free after 32 MiB")
def file_system(directory):
    before = os.statvfs(MOUNT)
    equal(before.f_namemax, 255, "f_namemax")
    check(0 < before.f_bavail <= before.f_bfree <= before.f_blocks, f"blocks: {before}")
    check(0 < before.f_favail <= before.f_ffree <= before.f_files, f"files: {before}")
    path = put(os.path.join(directory, "file"), os.urandom(32 << 20))
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    check(os.stat(path).st_blocks * 512 >= 32 << 20, f"st_blocks: {os.stat(path).st_blocks}")
    printed = run("df", "-k", MOUNT).decode()
    check(MOUNT in printed, f"df: {printed}")


@step("a directory that changes lists each name that stays exactly once")
def listing_while_changing(directory):
    stay = {f"stay-{number:04}" for number in range(600)}
    for name in stay:
        put(os.path.join(directory, name))
    stop = threading.Event()

    def change():
        number = 0
        while not stop.is_set():
            put(os.path.join(directory, f"come-{number}"))
            if number >= 20:
                os.unlink(os.path.join(directory, f"come-{number - 20}"))
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for turn in range(6):
            found = os.listdir(directory)
            equal(sorted(name for name in found if name in stay), sorted(stay), f"listing {turn}")
            equal(len(found), len(set(found)), f"names of listing {turn}, without those that are twice")
    finally:
        stop.set()
        thread.join()
    # As `rm -r` does: remove while listing.
    with os.scandir(directory) as entries:
        for entry in entries:
            os.unlink(entry.path)
    equal(os.listdir(directory), [], "what is left")


@same("locks: flock and fcntl work between processes of one client on a mount with nolock")
def locks(directory):
    path = put(os.path.join(directory, "file"), b"1234")
    with open(path, "r+b") as file:
        def other(lock):
            def child():
                with open(path, "r+b") as again:
                    return attempt(lock, again, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return in_child(child)

        seen = []
        for lock in (fcntl.flock, fcntl.lockf):
            lock(file, fcntl.LOCK_EX)
            seen.append(other(lock))
            lock(file, fcntl.LOCK_UN)
            seen.append(other(lock))
    return seen


@same("signals: a process that is killed in the middle of writing leaves a prefix")
def killed_writer(directory):
    path = os.path.join(directory, "file")
    child = os.fork()
    if child == 0:
        with open(path, "wb", buffering=0) as file:
            for number in range(1 << 20):
                file.write(b"%08d" % number * 512)
    while not os.path.exists(path) or os.path.getsize(path) < 1 << 20:
        os.sched_yield()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    data = get(path)
    whole = b"".join(b"%08d" % number * 512 for number in range(len(data) // 4096 + 1))
    return whole.startswith(data), len(data) >= 1 << 20


if __name__ == "__main__":
    sys.exit(main())
