"""cp -a and rsync -aH of a tree that has everything, and hard links, symbolic links and fifos one by one."""

import errno
import os
import random
import socket
import stat
import sys
import threading

from steps import LOCAL, another_mount, check, elsewhere, equal, fails, main, run, same, step
from trees import describe, make


def source():
    """The tree, on tmpfs, made once."""
    path = os.path.join(LOCAL, "source")
    if not os.path.exists(path):
        os.makedirs(path)
        make(os.fsencode(path), random.Random(17))
        os.utime(path, ns=(0, 10**18))
    return path


def compared(directory, name):
    """The copy equals the tree, here and on a mount that has cached nothing; holes have no blocks."""
    path = os.path.join(directory, name)
    expected = describe(source())
    equal(describe(path), expected, name)
    with another_mount() as mount:
        other = elsewhere(path, mount)
        equal(describe(other), expected, f"{name} on another mount")
        equal(os.stat(other).st_mtime_ns, 10**18, f"the mtime of {name} itself")
        equal(run("diff", "-r", "--no-dereference", "--exclude=special", source(), other), b"", "diff -r")


@step("cp -a keeps names, types, modes, owners, times, links and holes")
def copy(directory):
    run("cp", "-a", source(), os.path.join(directory, "copy"))
    compared(directory, "copy")
    for name in ("front", "behind", "all", "between"):
        status = os.stat(os.path.join(directory, "copy/holes", name))
        check(status.st_blocks * 512 < 1 << 20,
              f"{name}: {status.st_blocks} blocks for {status.st_size} bytes with holes")
    # From the mount to itself.
    run("cp", "-a", os.path.join(directory, "copy"), os.path.join(directory, "copy of copy"))
    compared(directory, "copy of copy")


@step("rsync -aH copies all, and a second time nothing; what changes is found")
def rsync(directory):
    tree, copy = source() + "/", os.path.join(directory, "copy")

    def transferred(*options):
        return run("rsync", "-aH", "--sparse", "--numeric-ids", "--itemize-changes", *options, tree, copy).decode(
            errors="surrogateescape").splitlines()

    check(len(transferred()) > 80, "rsync lists little")
    compared(directory, "copy")
    equal(transferred(), [], "what the second rsync does")
    equal(transferred("--checksum"), [], "what rsync --checksum does")
    os.chmod(os.path.join(copy, "size-5"), 0o600)
    with open(os.path.join(copy, "size-6"), "r+b") as file:
        file.write(b"changed")
    os.unlink(os.path.join(copy, "links/two"))
    os.unlink(os.path.join(copy, "links/relative"))
    os.symlink("elsewhere", os.path.join(copy, "links/relative"))
    names = {line.split()[1] for line in transferred("--checksum")}
    equal(names, {"links/", "links/two", "links/relative", "size-5", "size-6"}, "what is mended")
    # rsync touches a directory's time only with -t after its files: all is as it was.
    compared(directory, "copy")


@step("rsync and cp -a bring the tree back from the mount as it was")
def bring_back(directory):
    run("cp", "-a", source(), os.path.join(directory, "copy"))
    back = os.path.join(LOCAL, "back")
    with another_mount() as mount:
        run("rsync", "-aH", "--numeric-ids", elsewhere(os.path.join(directory, "copy"), mount) + "/", back)
        equal(describe(back), describe(source()), "rsync from the mount")
        run("rm", "-rf", back)
        run("cp", "-a", elsewhere(os.path.join(directory, "copy"), mount), back)
        equal(describe(back), describe(source()), "cp -a from the mount")
        run("rm", "-rf", back)


@step("tar with hard links, symbolic links and fifos goes in and comes out")
def tar(directory):
    archive = os.path.join(LOCAL, "tree.tar")
    run("tar", "--format=pax", "--exclude=socket", "--exclude=fifo too", "--sparse", "-cf", archive, "-C", source(),
        ".")
    os.mkdir(os.path.join(directory, "tree"))
    run("tar", "--numeric-owner", "-xpf", archive, "-C", os.path.join(directory, "tree"))
    expected = describe(source())
    for name in (b"special/socket", b"special/fifo too"):  # of which tar would make two
        del expected[name]
    expected[b"special/fifo"] |= {"links": 1, "names": [b"special/fifo"]}
    equal(describe(os.path.join(directory, "tree")), expected, "the tree from tar")
    equal(run("tar", "--compare", "--numeric-owner", "-f", archive, "-C", os.path.join(directory, "tree")), b"",
          "tar --compare")


@same("hard links: counts, one content, unlink and rename of single names, directories refused")
def hard_links(directory):
    def at(name):
        return os.path.join(directory, name)

    seen = []

    def look():
        seen.append({name.decode(): (entry["links"], entry.get("sha256")) for name, entry in
                     describe(directory, times=False).items()})

    os.mkdir(at("sub"))
    with open(at("a"), "wb") as file:
        file.write(b"first")
        file.flush()
        os.link(at("a"), at("sub/b"))  # while it is being written
        file.write(b" second")
    look()
    with open(at("sub/b"), "ab") as file:
        file.write(b" third")
    look()
    os.chmod(at("sub/b"), 0o640)
    seen.append(oct(os.stat(at("a")).st_mode))
    os.rename(at("a"), at("sub/b"))  # two names of one file: POSIX says nothing happens
    look()
    os.link(at("a"), at("c"))
    os.unlink(at("a"))
    look()
    os.rename(at("c"), at("sub/d"))
    os.link(at("sub/d"), at("a"))
    look()
    for source_name, target in (("sub", "sub2"), ("a", "sub/b"), ("a", "sub"), ("none", "x"), ("a", "none/x"),
                                ("a", "a/x"), ("a", "x" * 256)):
        try:
            os.link(at(source_name), at(target))
            seen.append("ok")
        except OSError as error:
            seen.append((source_name, target, errno.errorcode[error.errno]))
    # An open file whose names all go, of which one is put back by /proc.
    with open(at("a"), "r+b") as file:
        os.unlink(at("sub/b"))
        os.unlink(at("sub/d"))
        file.write(b"FIRST")
        file.flush()
        seen.append(os.fstat(file.fileno()).st_nlink)
    look()
    return seen


@same("symbolic links: followed, read, replaced, refused where a link is no file or directory")
def symbolic_links(directory):
    def at(name):
        return os.path.join(directory, name)

    def outcome(function, *arguments, **named):
        try:
            return function(*arguments, **named)
        except OSError as error:
            return errno.errorcode[error.errno]

    os.mkdir(at("sub"))
    with open(at("sub/file"), "w") as file:
        file.write("content")
    for name, target in (("link", "sub/file"), ("directory", "sub"), ("dangling", "none"), ("loop", "loop"),
                         ("chain", "link"),
                         ("1023", "z" * 1023), ("4095", "z/" * 2047 + "z"), ("slash", "sub/"), ("up", "sub/../link")):
        os.symlink(target, at(name))
    seen = [outcome(os.symlink, "x" * 4096, at("too long")), outcome(os.symlink, "", at("empty")),
            outcome(os.symlink, "x", at("link"))]
    for name in ("link", "directory", "dangling", "loop", "chain", "1023", "4095", "slash", "up", "sub", "sub/file"):
        status = os.lstat(at(name))
        size = status.st_size if stat.S_ISLNK(status.st_mode) or stat.S_ISREG(status.st_mode) else None
        seen.append((name, outcome(os.readlink, at(name)), oct(status.st_mode), size, os.path.isfile(at(name)),
                     os.path.isdir(at(name))))
        seen.append((name, outcome(lambda name=name: open(at(name)).read())))
        seen.append((name, outcome(lambda name=name: os.close(os.open(at(name), os.O_RDONLY | os.O_NOFOLLOW)))))
    seen.append(outcome(lambda: open(at("dangling"), "w").close()))  # makes the file
    seen.append(sorted(os.listdir(directory)))
    os.rename(at("link"), at("directory"))  # the link, not what it points to
    seen += [os.readlink(at("directory")), outcome(os.rmdir, at("slash")), outcome(os.unlink, at("slash")),
             os.path.isdir(at("sub"))]
    seen.append(outcome(os.chown, at("up"), 5, 6, follow_symlinks=False))
    os.utime(at("up"), ns=(10**18, 10**18 + 5), follow_symlinks=False)
    status = os.lstat(at("up"))
    seen.append((status.st_uid, status.st_gid, status.st_mtime_ns, os.stat(at("sub/file")).st_uid))
    return seen


@same("fifos and sockets join processes of one client")
def special(directory):
    fifo, path = os.path.join(directory, "fifo"), os.path.join(directory, "s")
    os.mkfifo(fifo, 0o600)
    received = []
    reader = threading.Thread(target=lambda: received.append(open(fifo, "rb").read()))
    reader.start()
    with open(fifo, "wb") as out:
        out.write(b"through the fifo")
    reader.join()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        client.send(b"through the socket")
        received.append(server.accept()[0].recv(100))
    return received, {name.decode(): (entry["type"], entry["mode"], entry["links"])
                      for name, entry in describe(directory, times=False).items()}


@step("devices are refused, since the store was not told to allow them")
def devices(directory):
    with fails(errno.EPERM, what="mknod of a device"):
        os.mknod(os.path.join(directory, "null"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    equal(os.listdir(directory), [], "what is there")


if __name__ == "__main__":
    sys.exit(main())
