"""Random operations on a tree, the same on tmpfs and the mount: outcomes of calls, and the trees, must be equal."""

import os
import random
import sys

from steps import LOCAL, MOUNT, another_mount, check, elsewhere, equal, fresh, main, name_of, step
from trees import describe

# Few, so that operations meet; some are long or odd.
NAMES = ["a", "b", "c", "\udcff\n", "n" * 255]


def operations(chance, count):
    """(name of the operation, its arguments) with paths relative to the tree."""
    def path():
        return "/".join(chance.choices(NAMES, k=chance.choice((1, 1, 2, 2, 3))))

    kinds = {"write": 5, "append": 2, "truncate": 2, "mkdir": 4, "symlink": 2, "link": 3, "mkfifo": 1, "rename": 6,
             "unlink": 3,
             "rmdir": 1, "chmod": 2, "chown": 1, "utime": 2, "lutime": 1, "list": 1, "readlink": 1, "read": 2,
             "keep": 1}
    for directory in ("a", "b", "a/b", "b/b")[:count]:
        yield "mkdir", directory
    for _ in range(count - 4):
        kind = chance.choices(list(kinds), list(kinds.values()))[0]
        match kind:
            case "write" | "append":
                offset = chance.choice((0, 0, 7, 30_000))
                yield kind, path(), chance.randbytes(chance.choice((0, 10, 5000, 40_000))), offset
            case "truncate":
                yield kind, path(), chance.choice((0, 5, 4096, 100_000))
            case "symlink":
                yield kind, chance.choice((path(), "../" + path(), "t" * chance.choice((1, 300, 2000)))), path()
            case "link" | "rename":
                yield kind, path(), path()
            case "chmod":
                # The owner's bits stay: root is asked to do everything here.
                yield kind, path(), 0o700 | chance.randrange(0o10000)
            case "chown":
                yield kind, path(), chance.randrange(3), chance.randrange(3)
            case "utime" | "lutime":
                yield kind, path(), chance.randrange(10**9, 4 * 10**18)
            case _:
                yield kind, path()


def apply(root, kept, kind, name, *arguments):
    def at(relative):
        return os.path.join(root, relative)

    def write(flags, data, offset):
        descriptor = os.open(at(name), os.O_CREAT | os.O_WRONLY | flags, 0o644)
        try:
            return os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def read(path):
        with open(path, "rb") as file:
            return file.read()

    def keep():
        """Keeps a file open, and tells about the one that was kept before."""
        file = open(at(name), "r+b", buffering=0)
        kept.append(file)
        if len(kept) < 2:
            return None
        old = kept.pop(0)
        old.write(b"kept open")
        old.seek(0)
        data = old.read()
        old.close()
        return data

    try:
        match kind:
            case "write": return write(0, *arguments)
            case "append": return write(os.O_APPEND, *arguments)
            case "truncate": return os.truncate(at(name), *arguments)
            case "mkdir": return os.mkdir(at(name))
            case "symlink": return os.symlink(name, at(arguments[0]))
            case "link": return os.link(at(name), at(arguments[0]), follow_symlinks=False)
            # A fifo that somebody opens would wait for the other side.
            case "mkfifo": return os.mknod(at(name), 0o644 | 0o140000)
            case "rename": return os.rename(at(name), at(arguments[0]))
            case "unlink": return os.unlink(at(name))
            case "rmdir": return os.rmdir(at(name))
            case "chmod": return os.chmod(at(name), *arguments)
            case "chown": return os.chown(at(name), *arguments, follow_symlinks=False)
            case "utime": return os.utime(at(name), ns=(arguments[0], arguments[0]))
            case "lutime": return os.utime(at(name), ns=(arguments[0], arguments[0]), follow_symlinks=False)
            case "list": return sorted(entry for entry in os.listdir(at(name)) if not entry.startswith(".nfs"))
            case "readlink": return os.readlink(at(name))
            case "read": return read(at(name))
            case "keep": return keep()
    except OSError as error:
        return name_of(error.errno)


def walk(key, seed, count, options):
    local, mounted = fresh(LOCAL, key), fresh(MOUNT, key)
    kept = [], []
    with another_mount(options) as mount:
        for number, operation in enumerate(operations(random.Random(seed), count)):
            expected, found = apply(local, kept[0], *operation), apply(mounted, kept[1], *operation)
            short = [argument[:20] if isinstance(argument, (bytes, str)) else argument for argument in operation]
            equal(found, expected, f"seed {seed}, operation {number}, {short}")
            if number % 150 == 149 or number == count - 1:
                if number == count - 1:
                    for file in kept[0] + kept[1]:
                        file.close()
                # Times that no call has set are new on each side. A tree with a name .nfs* has more in it.
                trees = [describe(path, times=False) for path in (local, mounted)]
                hidden = [name for name in trees[1] if b".nfs" in name]
                if not hidden:
                    equal(trees[1], trees[0], f"seed {seed}, the tree after operation {number}")
                    equal(describe(elsewhere(mounted, mount), times=False), trees[0],
                          f"seed {seed}, the tree on another mount after operation {number}")
    check(len(trees[0]) > 3, "the tree has nearly nothing in it")


@step("random operations on names, links, modes and bytes have the same outcomes and leave the same tree as on tmpfs")
def random_tree(directory):
    for turn in range(3):
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"  seed {seed}")
        walk(f"{os.path.basename(directory)}-walk-{turn}", seed, 600,
             ("actimeo=0", "actimeo=0,rsize=4096", "noac,nordirplus")[turn])


if __name__ == "__main__":
    sys.exit(main())
