"""Trees of files with all that a file system can keep, and what can be seen of a tree."""

import hashlib
import os
import stat


def describe(directory, times=True, owners=True):
    """What is seen of a tree: path → type, mode, links, which names are one file, size, content, target, times.

    Sizes of directories are each file system's own affair.
    """
    directory = os.fsencode(directory)
    found, names_of = {}, {}
    for parent, directories, files in os.walk(directory):
        for name in directories + files:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            entry = {"type": oct(kind), "mode": oct(stat.S_IMODE(status.st_mode)), "links": status.st_nlink}
            if times:
                entry["mtime"] = status.st_mtime_ns
            if owners:
                entry["owner"] = (status.st_uid, status.st_gid)
            if kind == stat.S_IFLNK:
                entry["target"] = os.readlink(path)
            elif kind == stat.S_IFREG:
                entry["size"] = status.st_size
                with open(path, "rb") as file:
                    entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                entry["device"] = status.st_rdev
            if kind != stat.S_IFDIR:
                names_of.setdefault(status.st_ino, []).append(os.path.relpath(path, directory))
            found[os.path.relpath(path, directory)] = entry
    for names in names_of.values():
        for name in names:
            found[name]["names"] = sorted(names)
    return found


def make(directory, random):
    """A tree with everything that `cp -a` and `rsync -aH` are to keep. `directory` is bytes and is there."""
    def path(*parts):
        return os.path.join(directory, *parts)

    def write(name, data):
        with open(path(name), "wb") as file:
            file.write(data)

    os.makedirs(path(b"deep", *[b"d%d" % level for level in range(20)]))
    for name in (b"empty", b"holes", b"links", b"modes", b"names", b"special", b"times"):
        os.mkdir(path(name))
    for number, size in enumerate((0, 1, 4095, 4096, 4097, 100_000, 1 << 20, 3_500_001)):
        write(b"size-%d" % number, random.randbytes(size))

    # Names: whatever is neither a slash nor NUL, up to 255 bytes.
    for name in (b" ", b"  two  spaces ", b"new\nline", b"\xff\xfe\x80", b"caf\xc3\xa9", b"cafe\xcc\x81", b"tab\t",
                 b"*?[a]",
                 b"-rf", b"back\\slash", b"\"'`$x", b"x" * 255, b"\xc3\xa9" * 127, b"...", b".hidden", b"\x01\x7f"):
        write(os.path.join(b"names", name), b"content of " + name)
    os.mkdir(path(b"names", b"directory \xf0\n"))
    write(b"names/directory \xf0\n/inside", b"inside")

    # Hard links: within a directory and across, of a file and of a symbolic link.
    write(b"links/one", b"one file")
    os.link(path(b"links/one"), path(b"links/two"))
    os.link(path(b"links/one"), path(b"deep/d0/d1/three"))
    for name, target in ((b"relative", b"one"), (b"up", b"../names/\xff\xfe\x80"), (b"dangling", b"nowhere/at/all"),
                         (b"absolute", b"/usr/bin/env"), (b"to itself", b"to itself"), (b"odd", b"a\nb\xff "),
                         (b"directory", b"../deep"), (b"long", b"/" + b"/".join([b"y" * 99] * 40))):
        os.symlink(target, path(b"links", name))
    os.link(path(b"links/dangling"), path(b"links/dangling too"), follow_symlinks=False)

    # Holes: in front, between, behind, and nothing else.
    for name, size, pieces in ((b"front", 0, [(5 << 20, b"end")]), (b"behind", 7_000_001, [(0, b"begin")]),
                               (b"all", 3 << 20, []),
                               (b"between", 0, [(0, b"a" * 5000), (9 << 20, b"b" * 5000)])):
        with open(path(b"holes", name), "wb") as file:
            for offset, data in pieces:
                file.seek(offset)
                file.write(data)
            if size:
                file.truncate(size)

    os.mkfifo(path(b"special/fifo"), 0o640)
    os.mknod(path(b"special/socket"), 0o755 | stat.S_IFSOCK)
    os.link(path(b"special/fifo"), path(b"special/fifo too"))

    for mode in (0o000, 0o400, 0o444, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o6777, 0o7777):
        write(b"modes/file-%04o" % mode, b"%o" % mode)
        os.chmod(path(b"modes/file-%04o" % mode), mode)
        os.mkdir(path(b"modes/directory-%04o" % mode))
        os.chmod(path(b"modes/directory-%04o" % mode), mode)
    for number, owner in enumerate(((0, 0), (1000, 1000), (65534, 4), (4_000_000_000, 3_000_000_000))):
        write(b"modes/owner-%d" % number, b"mine")
        os.chown(path(b"modes/owner-%d" % number), *owner)

    # Times: NFSv3 has 32 bits of seconds without a sign, and nanoseconds; Linux drops those of the first and the last.
    for number, nanoseconds in enumerate((0, 10**9 + 1, 1_999_999_999, 10**18 + 123_456_789, 2**31 * 10**9 + 5,
                                          (2**32 - 2) * 10**9 + 999_999_999)):
        write(b"times/file-%d" % number, b"t")
        os.utime(path(b"times/file-%d" % number), ns=(nanoseconds, nanoseconds))
    os.utime(path(b"links/dangling"), ns=(10**18, 10**18 + 7), follow_symlinks=False)
    os.utime(path(b"special/fifo"), ns=(10**18, 10**18 + 9))
    for parent, directories, _ in os.walk(directory, topdown=False):
        for name in directories:
            seconds = random.randrange(10**9, 2 * 10**9)
            os.utime(os.path.join(parent, name), ns=(0, seconds * 10**9 + random.randrange(10**9)))
