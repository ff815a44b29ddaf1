"""A raw NFSv3 and MOUNTv3 client (RFC 1813): every procedure, nothing cached, nothing retried."""

from dataclasses import dataclass
from enum import IntEnum

from rpc import Connection
from xdr import Encoder

NFS, MOUNT, VERSION = 100003, 100005, 3
UNSTABLE, DATA_SYNC, FILE_SYNC = 0, 1, 2
REGULAR, DIRECTORY = 1, 2
READ, LOOKUP, MODIFY, EXTEND, DELETE, EXECUTE = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


class Status(IntEnum):
    """nfsstat3, RFC 1813 §2.6."""
    OK = 0
    PERM = 1
    NOENT = 2
    IO = 5
    ACCES = 13
    EXIST = 17
    NOTDIR = 20
    ISDIR = 21
    INVAL = 22
    FBIG = 27
    NOSPC = 28
    ROFS = 30
    MLINK = 31
    NAMETOOLONG = 63
    NOTEMPTY = 66
    STALE = 70
    BADHANDLE = 10001
    NOT_SYNC = 10002
    BAD_COOKIE = 10003
    NOTSUPP = 10004
    TOOSMALL = 10005
    SERVERFAULT = 10006
    BADTYPE = 10007
    JUKEBOX = 10008


class NFSError(Exception):
    def __init__(self, procedure, status, reply):
        super().__init__(f"{procedure}: {status.name if isinstance(status, Status) else status}")
        self.status = status
        self.reply = reply  # the failure body


@dataclass(frozen=True, order=True)
class Time:
    seconds: int
    nanoseconds: int


@dataclass(frozen=True)
class Attributes:
    """fattr3."""
    type: int
    mode: int
    links: int
    uid: int
    gid: int
    size: int
    used: int
    device: tuple
    file_system: int
    file_id: int
    accessed: Time
    modified: Time
    changed: Time


@dataclass
class Reply:
    """What a reply may hold; each procedure fills in its own part."""
    status: int = 0
    attributes: Attributes | None = None  # post_op_attr of the object
    before: tuple | None = None  # pre_op_attr: size, mtime, ctime
    directory: Attributes | None = None
    directory_before: tuple | None = None
    to_directory: Attributes | None = None
    to_directory_before: tuple | None = None
    handle: bytes | None = None
    access: int = 0
    data: bytes = b""
    count: int = 0
    eof: bool = False
    committed: int = 0
    verifier: bytes = b""
    entries: tuple = ()
    numbers: tuple = ()


@dataclass(frozen=True)
class Entry:
    """An entry of READDIR, with attributes and handle from READDIRPLUS."""
    file_id: int
    name: bytes
    cookie: int
    attributes: Attributes | None = None
    handle: bytes | None = None


def time(decoder):
    return Time(decoder.uint32(), decoder.uint32())


def attributes(decoder):
    return Attributes(
        decoder.uint32(), decoder.uint32(), decoder.uint32(), decoder.uint32(), decoder.uint32(), decoder.uint64(),
        decoder.uint64(), (decoder.uint32(), decoder.uint32()), decoder.uint64(), decoder.uint64(), time(decoder),
        time(decoder), time(decoder))


def post_op(decoder):
    return decoder.optional(attributes)


def wcc(decoder):
    before = decoder.optional(lambda d: (d.uint64(), time(d), time(d)))
    return before, post_op(decoder)


SERVER_TIME = "server time"


def settable(encoder, mode=None, uid=None, gid=None, size=None, atime=None, mtime=None):
    """sattr3; a time is None, SERVER_TIME or a Time."""
    for value in (mode, uid, gid):
        encoder.boolean(value is not None)
        if value is not None:
            encoder.uint32(value)
    encoder.boolean(size is not None)
    if size is not None:
        encoder.uint64(size)
    for value in (atime, mtime):
        if value is None:
            encoder.uint32(0)
        elif value == SERVER_TIME:
            encoder.uint32(1)
        else:
            encoder.uint32(2).uint32(value.seconds).uint32(value.nanoseconds)
    return encoder


class Pending:
    """A call whose reply has not been fetched yet."""

    def __init__(self, client, name, xid, success, failure):
        self.client, self.name, self.xid, self.success, self.failure = client, name, xid, success, failure

    def reply(self):
        """The reply, whatever its status."""
        decoder = self.client.connection.reply(self.xid)
        reply = Reply(status=decoder.uint32())
        if reply.status in Status._value2member_map_:
            reply.status = Status(reply.status)
        (self.success if reply.status == Status.OK else self.failure)(decoder, reply)
        decoder.end()
        return reply

    def result(self):
        """The reply; raises NFSError unless it is NFS3_OK."""
        reply = self.reply()
        if reply.status != Status.OK:
            raise NFSError(self.name, reply.status, reply)
        return reply


def _nothing(decoder, reply):
    pass


def _post_op(decoder, reply):
    reply.attributes = post_op(decoder)


def _wcc(decoder, reply):
    reply.before, reply.attributes = wcc(decoder)


def _directory_post_op(decoder, reply):
    reply.directory = post_op(decoder)


def _directory_wcc(decoder, reply):
    reply.directory_before, reply.directory = wcc(decoder)


class Client:
    """Calls of one user over one connection.

    A procedure waits for its reply and raises NFSError; with `wait=False` it returns a Pending at once.
    """

    def __init__(self, port, uid=0, gid=0, groups=(), export=b"/", source="127.0.0.1"):
        self.connection = Connection(port, uid, gid, groups, source)
        self.root = self.mount(export)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.connection.close()

    def _call(self, procedure, name, encoder, success, failure, wait=True):
        xid = self.connection.send(NFS, VERSION, procedure, encoder.data())
        pending = Pending(self, name, xid, success, failure)
        return pending.result() if wait else pending

    # MOUNT, RFC 1813 appendix I

    def mount(self, path):
        decoder = self.connection.reply(self.connection.send(MOUNT, VERSION, 1, Encoder().opaque(path).data()))
        status = decoder.uint32()
        if status != 0:
            raise NFSError("MNT", status, None)
        handle = decoder.opaque()
        self.flavors = [decoder.uint32() for _ in range(decoder.uint32())]
        decoder.end()
        return handle

    def unmount(self, path):
        self.connection.reply(self.connection.send(MOUNT, VERSION, 3, Encoder().opaque(path).data())).end()

    def exports(self):
        decoder = self.connection.reply(self.connection.send(MOUNT, VERSION, 5, b""))
        exports = []
        while decoder.boolean():
            exports.append(decoder.opaque())
            while decoder.boolean():
                decoder.opaque()
        decoder.end()
        return exports

    # NFS, RFC 1813 §3.3

    def null(self):
        self.connection.reply(self.connection.send(NFS, VERSION, 0, b"")).end()

    def getattr(self, handle, wait=True):
        def success(decoder, reply):
            reply.attributes = attributes(decoder)
        return self._call(1, "GETATTR", Encoder().opaque(handle), success, _nothing, wait)

    def setattr(self, handle, guard=None, wait=True, **changes):
        encoder = settable(Encoder().opaque(handle), **changes).boolean(guard is not None)
        if guard is not None:
            encoder.uint32(guard.seconds).uint32(guard.nanoseconds)
        return self._call(2, "SETATTR", encoder, _wcc, _wcc, wait)

    def lookup(self, directory, name, wait=True):
        def success(decoder, reply):
            reply.handle = decoder.opaque()
            reply.attributes = post_op(decoder)
            reply.directory = post_op(decoder)
        return self._call(
            3, "LOOKUP", Encoder().opaque(directory).opaque(name), success, _directory_post_op, wait)

    def access(self, handle, rights, wait=True):
        def success(decoder, reply):
            reply.attributes = post_op(decoder)
            reply.access = decoder.uint32()
        return self._call(4, "ACCESS", Encoder().opaque(handle).uint32(rights), success, _post_op, wait)

    def readlink(self, handle, wait=True):
        def success(decoder, reply):
            reply.attributes = post_op(decoder)
            reply.data = decoder.opaque()
        return self._call(5, "READLINK", Encoder().opaque(handle), success, _post_op, wait)

    def read(self, handle, offset, count, wait=True):
        def success(decoder, reply):
            reply.attributes = post_op(decoder)
            reply.count = decoder.uint32()
            reply.eof = decoder.boolean()
            reply.data = decoder.opaque()
            if len(reply.data) != reply.count:
                raise ValueError("READ: count and data differ")
        return self._call(
            6, "READ", Encoder().opaque(handle).uint64(offset).uint32(count), success, _post_op, wait)

    def write(self, handle, offset, data, stable=UNSTABLE, wait=True):
        def success(decoder, reply):
            _wcc(decoder, reply)
            reply.count = decoder.uint32()
            reply.committed = decoder.uint32()
            reply.verifier = decoder.fixed_opaque(8)
        encoder = Encoder().opaque(handle).uint64(offset).uint32(len(data)).uint32(stable).opaque(data)
        return self._call(7, "WRITE", encoder, success, _wcc, wait)

    @staticmethod
    def _created(decoder, reply):
        reply.handle = decoder.optional(lambda d: d.opaque())
        reply.attributes = post_op(decoder)
        _directory_wcc(decoder, reply)

    def create(self, directory, name, guarded=True, wait=True, **changes):
        """GUARDED by default; UNCHECKED otherwise."""
        encoder = settable(Encoder().opaque(directory).opaque(name).uint32(1 if guarded else 0), **changes)
        return self._call(8, "CREATE", encoder, self._created, _directory_wcc, wait)

    def create_exclusive(self, directory, name, verifier, wait=True):
        encoder = Encoder().opaque(directory).opaque(name).uint32(2).fixed_opaque(verifier)
        return self._call(8, "CREATE", encoder, self._created, _directory_wcc, wait)

    def mkdir(self, directory, name, wait=True, **changes):
        encoder = settable(Encoder().opaque(directory).opaque(name), **changes)
        return self._call(9, "MKDIR", encoder, self._created, _directory_wcc, wait)

    def symlink(self, directory, name, target, wait=True, **changes):
        encoder = settable(Encoder().opaque(directory).opaque(name), **changes).opaque(target)
        return self._call(10, "SYMLINK", encoder, self._created, _directory_wcc, wait)

    def mknod(self, directory, name, kind, device=None, wait=True, **changes):
        """`device`: (major, minor) of a block or character device."""
        encoder = settable(Encoder().opaque(directory).opaque(name).uint32(kind), **changes)
        if device:
            encoder.uint32(device[0]).uint32(device[1])
        return self._call(11, "MKNOD", encoder, self._created, _directory_wcc, wait)

    def remove(self, directory, name, wait=True):
        return self._call(
            12, "REMOVE", Encoder().opaque(directory).opaque(name), _directory_wcc, _directory_wcc, wait)

    def rmdir(self, directory, name, wait=True):
        return self._call(
            13, "RMDIR", Encoder().opaque(directory).opaque(name), _directory_wcc, _directory_wcc, wait)

    def rename(self, directory, name, to_directory, to_name, wait=True):
        def done(decoder, reply):
            _directory_wcc(decoder, reply)
            reply.to_directory_before, reply.to_directory = wcc(decoder)
        encoder = Encoder().opaque(directory).opaque(name).opaque(to_directory).opaque(to_name)
        return self._call(14, "RENAME", encoder, done, done, wait)

    def link(self, handle, directory, name, wait=True):
        def done(decoder, reply):
            reply.attributes = post_op(decoder)
            _directory_wcc(decoder, reply)
        return self._call(15, "LINK", Encoder().opaque(handle).opaque(directory).opaque(name), done, done, wait)

    def readdir(self, directory, cookie=0, verifier=bytes(8), count=8192, wait=True):
        def success(decoder, reply):
            reply.directory = post_op(decoder)
            reply.verifier = decoder.fixed_opaque(8)
            entries = []
            while decoder.boolean():
                entries.append(Entry(decoder.uint64(), decoder.opaque(), decoder.uint64()))
            reply.entries = tuple(entries)
            reply.eof = decoder.boolean()
        encoder = Encoder().opaque(directory).uint64(cookie).fixed_opaque(verifier).uint32(count)
        return self._call(16, "READDIR", encoder, success, _directory_post_op, wait)

    def readdirplus(self, directory, cookie=0, verifier=bytes(8), dircount=8192, maxcount=32768, wait=True):
        def success(decoder, reply):
            reply.directory = post_op(decoder)
            reply.verifier = decoder.fixed_opaque(8)
            entries = []
            while decoder.boolean():
                entries.append(Entry(
                    decoder.uint64(), decoder.opaque(), decoder.uint64(), post_op(decoder),
                    decoder.optional(lambda d: d.opaque())))
            reply.entries = tuple(entries)
            reply.eof = decoder.boolean()
        encoder = Encoder().opaque(directory).uint64(cookie).fixed_opaque(verifier).uint32(dircount).uint32(maxcount)
        return self._call(17, "READDIRPLUS", encoder, success, _directory_post_op, wait)

    def fsstat(self, handle, wait=True):
        """numbers: total, free, available bytes; total, free, available files; invarsec."""
        def success(decoder, reply):
            _post_op(decoder, reply)
            reply.numbers = (*(decoder.uint64() for _ in range(6)), decoder.uint32())
        return self._call(18, "FSSTAT", Encoder().opaque(handle), success, _post_op, wait)

    def fsinfo(self, handle, wait=True):
        """numbers: rtmax, rtpref, rtmult, wtmax, wtpref, wtmult, dtpref; maxfilesize; time_delta; properties."""
        def success(decoder, reply):
            _post_op(decoder, reply)
            reply.numbers = (
                *(decoder.uint32() for _ in range(7)), decoder.uint64(), time(decoder), decoder.uint32())
        return self._call(19, "FSINFO", Encoder().opaque(handle), success, _post_op, wait)

    def pathconf(self, handle, wait=True):
        """numbers: linkmax, name_max, no_trunc, chown_restricted, case_insensitive, case_preserving."""
        def success(decoder, reply):
            _post_op(decoder, reply)
            reply.numbers = (decoder.uint32(), decoder.uint32(), *(decoder.boolean() for _ in range(4)))
        return self._call(20, "PATHCONF", Encoder().opaque(handle), success, _post_op, wait)

    def commit(self, handle, offset=0, count=0, wait=True):
        def success(decoder, reply):
            _wcc(decoder, reply)
            reply.verifier = decoder.fixed_opaque(8)
        return self._call(
            21, "COMMIT", Encoder().opaque(handle).uint64(offset).uint32(count), success, _wcc, wait)

    # Several calls at once

    def walk(self, path):
        """The handle of a slash-separated path below the root."""
        handle = self.root
        for name in path.split(b"/"):
            if name:
                handle = self.lookup(handle, name).handle
        return handle

    def write_pieces(self, handle, pieces, stable=UNSTABLE, window=16):
        """Writes (offset, data) pairs in the order given, `window` calls under way; returns the replies."""
        replies, under_way = [], []
        for offset, data in pieces:
            under_way.append(self.write(handle, offset, data, stable, wait=False))
            if len(under_way) == window:
                replies.append(under_way.pop(0).result())
        return replies + [pending.result() for pending in under_way]

    def read_file(self, handle, piece=1 << 20, window=8):
        """All bytes of a file, read until EOF is said at the size that GETATTR tells."""
        size = self.getattr(handle).attributes.size
        parts, under_way = [], []

        def finish():
            offset, pending = under_way.pop(0)
            reply = pending.result()
            expected = min(piece, size - offset)
            if reply.count != expected or reply.eof != (offset + expected == size):
                raise ValueError(
                    f"READ at {offset} of {size}: {reply.count} bytes, eof {reply.eof}, {expected} expected")
            parts.append(reply.data)

        for offset in range(0, size, piece):
            under_way.append((offset, self.read(handle, offset, piece, wait=False)))
            if len(under_way) == window:
                finish()
        while under_way:
            finish()
        return b"".join(parts)

    def list(self, directory, count=8192):
        """All entries of a directory, "." and ".." included, by READDIR."""
        entries, cookie, verifier = [], 0, bytes(8)
        while True:
            reply = self.readdir(directory, cookie, verifier, count)
            entries += reply.entries
            if reply.eof:
                return entries
            if not reply.entries:
                raise ValueError("READDIR: no entry and no end")
            cookie, verifier = reply.entries[-1].cookie, reply.verifier
