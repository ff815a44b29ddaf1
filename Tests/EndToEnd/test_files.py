"""Files and directories as RFC 1813 has them, through the raw client."""

import os
import struct

from harness import check, equal, fails, test
from nfs3 import (
    DELETE, EXECUTE, EXTEND, FILE_SYNC, LOOKUP, MODIFY, READ, Client, NFSError, Status, Time)
from rpc import RPCError
from store import Store


def served(function):
    """Gives the test a gateway on a fresh store of small cells, and a client of root's."""
    def wrapped(directory):
        with Store(directory, 3, 2, cell_kib=64).serve() as gateway, gateway.client() as client:
            function(gateway, client)
    return wrapped


def make(client, name, data=b"", mode=0o644, directory=None):
    """A new file with these bytes, promised; returns its handle."""
    handle = client.create(directory or client.root, name, mode=mode).handle
    if data:
        client.write_pieces(handle, [(at, data[at:at + 65536]) for at in range(0, len(data), 65536)])
        client.commit(handle)
    return handle


def names(client, directory):
    return sorted(entry.name for entry in client.list(directory))


@test("holes read as zeros and hold no bytes")
@served
def holes(gateway, client):
    handle = make(client, b"sparse")
    end = 5 << 30
    for offset, data in ((end, b"end"), (1 << 20, b"middle"), (3, b"x")):
        client.write(handle, offset, data)
    client.commit(handle)
    attributes = client.getattr(handle).attributes
    equal(attributes.size, end + 3, "the size")
    check(attributes.used < 8 << 20, f"a sparse file of 9 bytes uses {attributes.used}")
    equal(client.read(handle, 0, 10).data, b"\0\0\0x" + bytes(6), "around the first byte")
    equal(client.read(handle, (1 << 20) - 5, 20).data, bytes(5) + b"middle" + bytes(9), "around the middle")
    reply = client.read(handle, end - 10, 100)
    equal((reply.data, reply.eof), (bytes(10) + b"end", True), "the end")
    reply = client.read(handle, 2 << 30, 65536)
    equal((reply.data, reply.eof), (bytes(65536), False), "a READ inside a hole")


@test("bytes cut off by a truncate do not come back when the file grows again")
@served
def truncate(gateway, client):
    data = os.urandom(400_000)
    for committed in (True, False):
        handle = client.create(client.root, b"truncated %d" % committed, mode=0o644).handle
        client.write(handle, 0, data)
        if committed:
            client.commit(handle)
        client.setattr(handle, size=100_001)
        equal(client.getattr(handle).attributes.size, 100_001, "the size after truncating")
        reply = client.read(handle, 100_000, 10)
        equal((reply.data, reply.eof), (data[100_000:100_001], True), "the last byte")
        client.setattr(handle, size=300_000)
        equal(client.read_file(handle), data[:100_001] + bytes(199_999), "truncated, then extended")
        client.write(handle, 350_000, b"beyond")
        client.commit(handle)
        equal(client.read_file(handle), data[:100_001] + bytes(249_999) + b"beyond", "extended by a WRITE")
        client.setattr(handle, size=0)
        equal(client.read(handle, 0, 10).data, b"", "an emptied file")


@test("READ says eof exactly at the end (RFC 1813 3.3.6)")
@served
def eof(gateway, client):
    handle = make(client, b"file", b"0123456789")
    for offset, count, data, at_end in (
            (0, 9, b"012345678", False), (0, 10, b"0123456789", True), (0, 11, b"0123456789", True),
            (9, 1, b"9", True), (10, 1, b"", True), (11, 5, b"", True), (1 << 40, 5, b"", True)):
        reply = client.read(handle, offset, count)
        equal((reply.data, reply.eof), (data, at_end), f"READ of {count} at {offset}")
    equal(client.read(handle, 3, 0).data, b"", "READ of nothing")
    # §3.3.6 lists INVAL for what is no regular file; servers and clients use ISDIR for directories.
    with fails(Status.INVAL, Status.ISDIR, what="READ of a directory"):
        client.read(client.root, 0, 10)


@test("names are bytes: canonically equal Unicode names are two files")
@served
def names_are_bytes(gateway, client):
    composed, decomposed, invalid = "é".encode(), "e\u0301".encode(), b"\xff\xfe not UTF-8 \x01\n"
    for name in (composed, decomposed, invalid, b"a", b"A"):
        make(client, name, b"I am " + name)
    equal(names(client, client.root), sorted([b".", b"..", composed, decomposed, invalid, b"a", b"A"]), "the listing")
    for name in (composed, decomposed, invalid, b"a", b"A"):
        equal(client.read_file(client.lookup(client.root, name).handle), b"I am " + name, "the file under its name")
    client.remove(client.root, decomposed)
    client.lookup(client.root, composed)
    with fails(Status.NOENT):
        client.lookup(client.root, decomposed)
    make(client, b"n" * 255)
    with fails(Status.NAMETOOLONG):
        client.create(client.root, b"n" * 256)
    for name in (b"", b"a/b", b"a\0b"):
        with fails(Status.INVAL, Status.ACCES, what=f"{name}"):
            client.create(client.root, name)


@test("READDIR lists each name once while names are removed and added between its calls")
@served
def readdir_changes(gateway, client):
    directory = client.mkdir(client.root, b"dir", mode=0o755).handle
    for number in range(300):
        client.create(directory, b"name %03d" % number, mode=0o644)
    seen, removed, cookie, verifier, round = [], set(), 0, bytes(8), 0
    while True:
        reply = client.readdir(directory, cookie, verifier, 1024)
        equal(reply.verifier, verifier if round else reply.verifier, "the cookie verifier")
        seen += [entry.name for entry in reply.entries]
        if reply.eof:
            break
        cookie, verifier = reply.entries[-1].cookie, reply.verifier
        # Removes the last one that was listed, on which the next call will continue, and others.
        client.remove(directory, reply.entries[-1].name)
        if round == 3:
            removed = {b"name %03d" % number for number in range(250, 260)}.difference(seen)
            for name in removed:
                client.remove(directory, name)
        client.create(directory, b"added %03d" % round, mode=0o644)
        round += 1
    check(round > 5, "the listing took too few calls to test anything")
    equal(len(seen), len(set(seen)), "names listed more than once")
    listed = set(seen)
    for number in range(300):
        name = b"name %03d" % number
        check((name in listed) != (name in removed), f"{name} was listed: {name in listed}")
    plus = client.readdirplus(directory, dircount=65536, maxcount=1 << 20)
    for entry in plus.entries:
        if entry.name not in (b".", b".."):
            equal(client.getattr(entry.handle).attributes.file_id, entry.file_id, f"the handle of {entry.name}")
            equal(entry.attributes.file_id, entry.file_id, f"the attributes of {entry.name}")
    with fails(Status.TOOSMALL):
        client.readdir(directory, count=16)
    with fails(Status.NOTDIR):
        client.readdir(make(client, b"file"))


@test("RENAME replaces what it may, refuses the rest, and keeps the handle (RFC 1813 3.3.14)")
@served
def rename(gateway, client):
    root = client.root
    one, two = make(client, b"one", b"1"), make(client, b"two", b"2")
    equal(client.rename(root, b"one", root, b"two").status, Status.OK, "RENAME over a file")
    equal(client.read_file(one), b"1", "the file under its old handle")
    equal(client.lookup(root, b"two").handle, one, "the handle under the new name")
    with fails(Status.STALE):
        client.getattr(two)
    with fails(Status.NOENT):
        client.lookup(root, b"one")
    with fails(Status.NOENT):
        client.rename(root, b"one", root, b"three")
    client.rename(root, b"two", root, b"two")
    equal(client.read_file(one), b"1", "a file renamed to itself")

    upper = client.mkdir(root, b"upper", mode=0o755).handle
    lower = client.mkdir(upper, b"lower", mode=0o755).handle
    with fails(Status.INVAL, what="RENAME of a directory into itself"):
        client.rename(root, b"upper", lower, b"inside")
    # §3.3.14: what is not compatible is EXIST; POSIX says ENOTDIR and EISDIR, which servers pass on.
    with fails(Status.EXIST, Status.NOTDIR, what="RENAME of a directory over a file"):
        client.rename(root, b"upper", root, b"two")
    with fails(Status.EXIST, Status.ISDIR, what="RENAME of a file over a directory"):
        client.rename(root, b"two", root, b"upper")
    client.mkdir(root, b"empty", mode=0o755)
    client.rename(upper, b"lower", root, b"empty")
    equal(names(client, upper), [b".", b".."], "the directory that was moved out of")
    equal(client.lookup(lower, b"..").attributes.file_id, client.getattr(root).attributes.file_id, "the new parent")
    make(client, b"in it", directory=upper)
    client.mkdir(root, b"other", mode=0o755)
    with fails(Status.NOTEMPTY, Status.EXIST, what="RENAME over a directory with entries"):
        client.rename(root, b"other", root, b"upper")
    with fails(Status.NOTEMPTY):
        client.rmdir(root, b"upper")
    for name in (b".", b".."):
        with fails(Status.INVAL, Status.EXIST, Status.ISDIR, what=f"RENAME to {name}"):
            client.rename(root, b"two", root, name)


@test("link counts of directories follow MKDIR, RMDIR and RENAME")
@served
def link_counts(gateway, client):
    root = client.root

    def links(handle):
        return client.getattr(handle).attributes.links

    equal(links(root), 2, "an empty root")
    first = client.mkdir(root, b"first", mode=0o755).handle
    second = client.mkdir(root, b"second", mode=0o755).handle
    client.mkdir(first, b"child", mode=0o755)
    equal((links(root), links(first), links(second)), (4, 3, 2), "after MKDIR")
    client.rename(first, b"child", second, b"child")
    equal((links(root), links(first), links(second)), (4, 2, 3), "after RENAME")
    client.rmdir(second, b"child")
    client.rmdir(root, b"first")
    equal((links(root), links(second)), (3, 2), "after RMDIR")
    equal(links(make(client, b"file")), 1, "a file")


@test("the owner may read and write a file whatever its mode, others may not; supplementary groups count")
@served
def permissions(gateway, client):
    open_directory = client.mkdir(client.root, b"open", mode=0o777).handle
    with gateway.client(1000, 1000) as owner, gateway.client(1001, 1001) as other, \
            gateway.client(1002, 1002, (5, 1000)) as member:
        for mode in (0o444, 0o000):
            handle = owner.create(open_directory, b"mode %o" % mode, mode=mode).handle
            owner.write(handle, 0, b"mine", FILE_SYNC)
            equal(owner.read(handle, 0, 10).data, b"mine", f"the owner's READ, mode {mode:o}")
            with fails(Status.ACCES, what=f"another's WRITE, mode {mode:o}"):
                other.write(handle, 0, b"not yours")
        with fails(Status.ACCES, what="another's READ, mode 0"):
            other.read(handle, 0, 10)
        equal(client.read(handle, 0, 10).data, b"mine", "root's READ, mode 0")
        with fails(Status.PERM, what="another's chmod"):
            other.setattr(handle, mode=0o777)
        with fails(Status.PERM, what="the owner's chown"):
            owner.setattr(handle, uid=1001)
        for_group = owner.create(open_directory, b"group", mode=0o060).handle
        member.write(for_group, 0, b"group", FILE_SYNC)
        equal(member.read(for_group, 0, 10).data, b"group", "a member's READ")
        with fails(Status.ACCES):
            other.read(for_group, 0, 10)
        granted = READ | MODIFY | EXTEND
        equal(member.access(for_group, 0x3F).access & (granted | EXECUTE), granted, "ACCESS of a member")
        equal(other.access(for_group, 0x3F).access & (granted | EXECUTE), 0, "ACCESS of another")
        private = owner.mkdir(open_directory, b"private", mode=0o700).handle
        owner.create(private, b"file", mode=0o666)
        for call in (lambda: other.lookup(private, b"file"), lambda: other.readdir(private),
                     lambda: other.create(private, b"new"), lambda: other.remove(private, b"file")):
            with fails(Status.ACCES):
                call()
        equal(other.access(private, 0x3F).access & (LOOKUP | READ | MODIFY | EXTEND | DELETE), 0, "ACCESS, private")
        sticky = client.mkdir(client.root, b"sticky", mode=0o1777).handle
        owner.create(sticky, b"file", mode=0o666)
        with fails(Status.ACCES, Status.PERM, what="REMOVE in a sticky directory"):
            other.remove(sticky, b"file")


@test("a handle is valid after a restart, stale after REMOVE, and no forged one is taken")
def handles(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    with store.serve() as gateway, gateway.client() as client:
        kept, removed = make(client, b"kept", b"bytes"), make(client, b"removed", b"gone")
        # RFC 1813 has no open files: who holds the handle gets STALE.
        client.remove(client.root, b"removed")
        with fails(Status.STALE):
            client.read(removed, 0, 10)
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    with store.serve() as gateway, gateway.client() as client:
        equal(client.read(kept, 0, 10).data, b"bytes", "READ by a handle of the gateway's last life")
        with fails(Status.STALE):
            client.getattr(removed)
        for position in range(len(kept)):
            for bit in (0x01, 0x80):
                forged = bytearray(kept)
                forged[position] ^= bit
                # STALE: where the handle names its store, a changed one is another store's.
                with fails(Status.BADHANDLE, Status.STALE, what=f"a handle with bit {bit:#x} of byte {position} changed"):
                    client.getattr(bytes(forged))
        for forged in (b"", kept[:-1], kept + b"\0", bytes(len(kept)), bytes(64)):
            with fails(Status.BADHANDLE, what=f"the handle {forged.hex()}"):
                client.getattr(forged)
        # A new file never gets an old handle.
        check(make(client, b"removed") != removed, "a handle was used again")


@test("a handle of one store is refused by another")
def handle_of_another_store(directory):
    handles = []
    for name in ("one", "two"):
        path = os.path.join(directory, name)
        os.mkdir(path)
        with Store(path, 3, 2, cell_kib=64).serve() as gateway, gateway.client() as client:
            for handle in handles:
                with fails(Status.STALE, Status.BADHANDLE, what="a foreign handle"):
                    client.getattr(handle)
            handles.append(make(client, b"file"))


@test("ctime goes up with each change, also within one clock tick")
@served
def ctime_increases(gateway, client):
    handle = make(client, b"file")
    last = client.getattr(handle).attributes.changed
    for number in range(200):
        if number % 2:
            client.write(handle, number, b"x")
        else:
            client.setattr(handle, mode=0o600 + number % 64)
        now = client.getattr(handle).attributes.changed
        check(now > last, f"change {number}: ctime went from {last} to {now}")
        last = now
    root = client.getattr(client.root).attributes
    client.create(client.root, b"another")
    after = client.getattr(client.root).attributes
    check(after.modified > root.modified and after.changed > root.changed, "CREATE did not change the directory's times")


@test("the times of a WRITE are those of its arrival: COMMIT, stop, kill and restart leave them alone")
def write_times(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    with store.serve() as gateway, gateway.client() as client:
        handle = make(client, b"file")
        client.write(handle, 0, os.urandom(200_000))
        written = client.getattr(handle).attributes
        client.commit(handle)
        equal(client.getattr(handle).attributes.modified, written.modified, "mtime after COMMIT")
        equal(client.getattr(handle).attributes.changed, written.changed, "ctime after COMMIT")
        gateway.kill()
    for _ in range(2):
        with store.serve() as gateway, gateway.client() as client:
            equal(client.getattr(handle).attributes.modified, written.modified, "mtime after a restart")
            equal(client.getattr(handle).attributes.changed, written.changed, "ctime after a restart")
            equal(gateway.stop(), 0, "the exit code of SIGTERM")
    with store.serve() as gateway, gateway.client() as client:
        client.write(handle, 0, b"uncommitted")
        written = client.getattr(handle).attributes
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    with store.serve() as gateway, gateway.client() as client:
        equal(client.getattr(handle).attributes.modified, written.modified, "mtime of a WRITE settled by SIGTERM")
        equal(client.read(handle, 0, 11).data, b"uncommitted", "bytes settled by SIGTERM")


@test("SETATTR: times, mode and owner are set; a size that grows sets mtime; a wrong guard refuses all of it")
@served
def setattr(gateway, client):
    handle = make(client, b"file", b"12345")
    client.setattr(handle, atime=Time(1, 2), mtime=Time(3, 4), mode=0o711, uid=7, gid=8)
    found = client.getattr(handle).attributes
    equal((found.accessed, found.modified, found.mode, found.uid, found.gid),
          (Time(1, 2), Time(3, 4), 0o711, 7, 8), "the attributes set")
    client.setattr(handle, size=10)
    check(client.getattr(handle).attributes.modified > Time(3, 4), "a growing size did not set mtime")
    before = client.getattr(handle).attributes
    with fails(Status.NOT_SYNC):
        client.setattr(handle, guard=Time(before.changed.seconds - 1, 0), size=0, mode=0)
    equal(client.getattr(handle).attributes, before, "the attributes after a refused SETATTR")
    client.setattr(handle, guard=before.changed, size=3)
    equal(client.read_file(handle), b"123", "the bytes after a guarded truncate")
    with fails(Status.INVAL, what="a time with 10^9 nanoseconds"):
        client.setattr(handle, mtime=Time(1, 1_000_000_000))


@test("CREATE: GUARDED fails on a name in use, UNCHECKED takes it, EXCLUSIVE knows its own retransmission")
def create(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    with store.serve() as gateway, gateway.client() as client:
        handle = make(client, b"file", b"12345")
        with fails(Status.EXIST):
            client.create(client.root, b"file")
        equal(client.create(client.root, b"file", guarded=False, mode=0o600).handle, handle, "UNCHECKED on a file")
        equal(client.read_file(handle), b"12345", "the bytes after UNCHECKED")
        client.create(client.root, b"file", guarded=False, size=0)
        equal(client.read_file(handle), b"", "the bytes after UNCHECKED with size 0")
        exclusive = client.create_exclusive(client.root, b"exclusive", b"ABCDEFGH").handle
        equal(client.create_exclusive(client.root, b"exclusive", b"ABCDEFGH").handle, exclusive, "the retransmission")
        for verifier in (b"ABCDEFGh", b"aBCDEFGH"):  # all eight bytes count
            with fails(Status.EXIST):
                client.create_exclusive(client.root, b"exclusive", verifier)
        # Two machines that were started alike make the same verifier now and then.
        with Client(gateway.port, source="127.0.0.2") as other, fails(Status.EXIST):
            other.create_exclusive(other.root, b"exclusive", b"ABCDEFGH")
        gateway.kill()
    with store.serve() as gateway, gateway.client() as client:
        equal(client.create_exclusive(client.root, b"exclusive", b"ABCDEFGH").handle, exclusive,
              "the retransmission after a restart")
        # Linux follows with SETATTR of mode and times; from then on the name is simply in use.
        client.setattr(exclusive, mode=0o644, atime=Time(5, 6), mtime=Time(5, 6))
        with fails(Status.EXIST):
            client.create(client.root, b"exclusive")
        with fails(Status.EXIST, what="the verifier of another client that happens to be the same"):
            client.create_exclusive(client.root, b"exclusive", b"ABCDEFGH")


@test("MKDIR, RMDIR and REMOVE refuse what they must")
@served
def refusals(gateway, client):
    root = client.root
    client.mkdir(root, b"dir", mode=0o755)
    file = make(client, b"file")
    with fails(Status.EXIST):
        client.mkdir(root, b"dir")
    with fails(Status.NOTDIR):
        client.rmdir(root, b"file")
    with fails(Status.ISDIR):
        client.remove(root, b"dir")
    with fails(Status.NOENT):
        client.remove(root, b"nothing")
    with fails(Status.NOTDIR):
        client.lookup(file, b"x")
    with fails(Status.NOTDIR):
        client.create(file, b"x")
    with fails(Status.INVAL):
        client.rmdir(root, b".")
    equal(client.lookup(root, b".").handle, root, "LOOKUP of .")
    equal(client.lookup(root, b"..").handle, root, "LOOKUP of .. in the root")
    client.rmdir(root, b"dir")
    equal(names(client, root), [b".", b"..", b"file"], "what is left")


@test("wcc data: what is before and after an operation on a directory fits together")
@served
def wcc_data(gateway, client):
    before = client.getattr(client.root).attributes
    reply = client.create(client.root, b"file", mode=0o644)
    if reply.directory_before is not None:
        equal(reply.directory_before, (before.size, before.modified, before.changed), "the directory before")
    equal(reply.directory, client.getattr(client.root).attributes, "the directory after")
    attributes = client.getattr(reply.handle).attributes
    written = client.write(reply.handle, 0, b"12345")
    if written.before is not None:
        equal(written.before, (attributes.size, attributes.modified, attributes.changed), "the file before")
    equal(written.attributes.size, 5, "the size after")
    with fails(Status.NOENT):
        try:
            client.remove(client.root, b"nothing")
        except NFSError as error:
            equal(error.reply.directory, client.getattr(client.root).attributes, "the failure's post-op attributes")
            raise


@test("READ sees what WRITE has taken before any COMMIT")
@served
def read_your_writes(gateway, client):
    handle = make(client, b"file", b"a" * 300_000)
    client.write(handle, 100_000, b"b" * 50_000)
    client.write(handle, 400_000, b"c" * 10)
    with gateway.client() as other:
        equal(other.read_file(handle),
              b"a" * 100_000 + b"b" * 50_000 + b"a" * 150_000 + bytes(100_000) + b"c" * 10, "the bytes")


@test("WRITEs that one connection sends without waiting are applied in the order sent, new file or old")
def arrival_order(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    last = b"last" * 10_000

    def overwrite(client, handle):
        pieces = [(0, b"%04d" % number * 10_000) for number in range(11)]
        client.write_pieces(handle, [*pieces, (0, last)])
        equal(client.read(handle, 0, len(last)).data, last, "what a READ gives after twelve overwrites")

    with store.serve() as gateway, gateway.client() as client:
        for number in range(100):
            overwrite(client, client.create(client.root, b"file %d" % number, mode=0o644).handle)
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    with store.serve() as gateway, gateway.client() as client:
        for number in range(100):
            overwrite(client, client.lookup(client.root, b"file %d" % number).handle)


@test("COMMIT covers the pieces between gaps, and an untouched file")
def commit_gaps(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    with store.serve() as gateway, gateway.client() as client:
        handle = make(client, b"gaps")
        for offset in (900_000, 500_000, 100):
            client.write(handle, offset, b"piece at %d" % offset)
        client.commit(handle)
        client.commit(make(client, b"untouched"))
        gateway.kill()
    with store.serve() as gateway, gateway.client() as client:
        for offset in (900_000, 500_000, 100):
            expected = b"piece at %d" % offset
            equal(client.read(handle, offset, len(expected)).data, expected, "a piece between gaps")
        equal(client.getattr(handle).attributes.size, 900_000 + len(b"piece at 900000"), "the size")


@test("FSSTAT, FSINFO and PATHCONF tell the truth about this store")
@served
def limits(gateway, client):
    total, free, available, _, _, _, _ = client.fsstat(client.root).numbers
    check(total >= free >= available > 0, f"FSSTAT: {total} total, {free} free, {available} available")
    numbers = client.fsinfo(client.root).numbers
    rtmax, wtmax, properties = numbers[0], numbers[3], numbers[9]
    check(rtmax >= 65536 and wtmax >= 65536, f"FSINFO: {numbers}")
    check(properties & 0x1B == 0x1B, "FSINFO: LINK, SYMLINK, HOMOGENEOUS and CANSETTIME are not all set")
    # What is at most offered is also taken.
    handle = make(client, b"file")
    data = os.urandom(wtmax)
    equal(client.write(handle, 0, data, FILE_SYNC).count, wtmax, "a WRITE of wtmax")
    equal(client.read(handle, 0, rtmax).data, data[:rtmax], "a READ of rtmax")
    with fails(Status.FBIG, Status.INVAL):
        client.write(handle, (1 << 64) - 10, b"beyond the end of all files")
    _, name_max, no_trunc, _, insensitive, preserving = client.pathconf(client.root).numbers
    equal((name_max, no_trunc, insensitive, preserving), (255, True, False, True), "PATHCONF")


@test("nothing that is not a sound call ends the gateway")
@served
def bad_calls(gateway, client):
    for program, version, procedure, arguments, status in (
            (100003, 4, 0, b"", 2), (100003, 2, 0, b"", 2), (100005, 1, 0, b"", 2), (100099, 1, 0, b"", 1),
            (100003, 3, 22, b"", 3), (100005, 3, 6, b"", 3), (100003, 3, 1, b"", 4),
            (100003, 3, 1, struct.pack(">I", 0xFFFFFFFF), 4)):
        connection = client.connection
        try:
            connection.reply(connection.send(program, version, procedure, arguments))
        except RPCError as error:
            equal(str(error), f"accept status {status}", f"call {program}/{version}/{procedure}")
        else:
            check(False, f"call {program}/{version}/{procedure} was accepted")
    for raw in (struct.pack(">I", 0xFFFFFFFF), b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 0x80000003) + b"abc"):
        with gateway.client() as stranger:
            stranger.connection.socket.sendall(raw)
    client.null()
    with fails(2, what="MNT of an unknown path"):
        client.mount(b"/nothing here")
    equal(client.exports(), [b"/"], "EXPORT")
    equal(client.mount(b"/"), client.root, "MNT of the root")
