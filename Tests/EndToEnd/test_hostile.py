"""Clients that repeat themselves, break off, or mean harm; others notice nothing."""

import os
import random
import resource
import socket
import struct
import threading
import time

from harness import check, equal, fails, test, test_each
from nfs3 import FILE_SYNC, NFS, UNSTABLE, VERSION, Status
from rpc import Connection, RPCError
from store import Store
from xdr import Encoder

READ, WRITE, REMOVE = 6, 7, 12


def write_arguments(handle, offset, data, stability=FILE_SYNC):
    return (Encoder().opaque(handle).uint64(offset).uint32(len(data)).uint32(stability).opaque(data)).data()


@test("a REMOVE that is sent again on a new connection gets the answer of the first one")
def remove_again(directory):
    with Store(directory, 3, 2).serve() as gateway, gateway.client() as client:
        client.create(client.root, b"file", mode=0o644)
        arguments = Encoder().opaque(client.root).opaque(b"file").data()
        xid = client.connection.send(NFS, VERSION, REMOVE, arguments)
        equal(client.connection.reply(xid).uint32(), Status.OK, "REMOVE")
        with gateway.client() as other:
            for connection in (client.connection, other.connection):
                connection.send(NFS, VERSION, REMOVE, arguments, xid)
                equal(connection.reply(xid).uint32(), Status.OK, "the same REMOVE")
            xid = other.connection.send(NFS, VERSION, REMOVE, arguments)
            equal(other.connection.reply(xid).uint32(), Status.NOENT, "another REMOVE")


@test("of two connections that are opened at once the later one gets the answer to a call sent on both")
def younger_connection(directory):
    with Store(directory, 3, 2).serve() as gateway, gateway.client() as client:
        for number in range(100):
            pair = [Connection(gateway.port) for _ in range(2)]
            name = b"file %d" % number
            client.create(client.root, name, mode=0o644)
            arguments = Encoder().opaque(client.root).opaque(name).data()
            xid = pair[0].send(NFS, VERSION, REMOVE, arguments)
            equal(pair[0].reply(xid).uint32(), Status.OK, "REMOVE")
            pair[1].send(NFS, VERSION, REMOVE, arguments, xid)
            equal(pair[1].reply(xid).uint32(), Status.OK, "the same REMOVE")
            for connection in pair:
                connection.close()


@test_each("a WRITE left in a connection that was {end} never lands on newer bytes",
           end=("given up", "closed", "reset"))
def left_over_write(directory, end):
    with Store(directory, 3, 2).serve() as gateway, gateway.client() as client:
        large = client.create(client.root, b"large", mode=0o644).handle
        client.write(large, 0, bytes(1 << 20))
        handle = client.create(client.root, b"file", mode=0o644).handle
        client.write(handle, 0, b"-")

        old = gateway.client().connection
        # 40 MiB of replies that nobody takes: more than the gateway keeps for a connection and the sockets hold.
        read = Encoder().opaque(large).uint64(0).uint32(1 << 20).data()
        reads = [old.send(NFS, VERSION, READ, read) for _ in range(40)]
        first = write_arguments(handle, 0, b"A" * 1000)
        xid = old.send(NFS, VERSION, WRITE, first)
        if end == "closed":
            old.socket.shutdown(socket.SHUT_WR)
        elif end == "reset":
            old.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            old.close()

        with gateway.client() as new:
            new.connection.send(NFS, VERSION, WRITE, first, xid)
            equal(new.connection.reply(xid).uint32(), Status.OK, "the WRITE that was sent again")
            new.write(handle, 0, b"B" * 1000, FILE_SYNC)
            if end != "reset":
                # The old connection has room again and comes to its WRITE, or forgot it.
                taken = 0
                try:
                    while True:
                        old.receive_record()
                        taken += 1
                except ConnectionError:
                    pass
                check(taken <= len(reads), "the left over WRITE was answered")
            equal(new.read(handle, 0, 1000).data, b"B" * 1000, "the file")
            new.write(handle, 0, b"C" * 1000, FILE_SYNC)
            equal(client.read(handle, 0, 1000).data, b"C" * 1000, "the file in the end")


class Witness:
    """A well-behaved client that writes, commits and reads back all the time, while the block runs."""

    # Without the harm done a round takes some hundredths of a second; a slow machine takes some seconds.
    MAX_SECONDS = 10

    def __init__(self, gateway):
        self.gateway = gateway
        self.rounds, self.slowest, self.error = 0, 0, None
        self.started = threading.Event()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            with self.gateway.client() as client:
                handle = client.create(client.root, b"witness", mode=0o644).handle
                while self.rounds < 5 or not self.stopped.is_set():
                    before = time.monotonic()
                    data = random.randbytes(300_000)
                    client.write(handle, self.rounds % 7 * 1000, data, UNSTABLE)
                    client.commit(handle)
                    if client.read(handle, self.rounds % 7 * 1000, len(data)).data != data:
                        raise ValueError("the witness read other bytes than it wrote")
                    self.slowest = max(self.slowest, time.monotonic() - before)
                    self.rounds += 1
                    self.started.set()
        except Exception as error:  # told by __exit__
            self.error = error

    def __enter__(self):
        self.thread.start()
        check(self.started.wait(120), f"the well-behaved client can't begin: {self.error!r}")
        return self

    def wait_for_round(self):
        """Returns when a round that began after this has ended; soon, if the client has failed."""
        wanted, ends = self.rounds + 2, time.monotonic() + 120
        while self.rounds < wanted and self.error is None and time.monotonic() < ends:
            time.sleep(0.001)

    def __exit__(self, kind, *_):
        self.stopped.set()
        self.thread.join(120)
        if kind is None:
            check(self.error is None, f"the well-behaved client failed: {self.error!r}")
            check(not self.thread.is_alive(), "the well-behaved client hangs")
            check(self.slowest < self.MAX_SECONDS, f"a round of the well-behaved client took {self.slowest} s")


def peak_mib(gateway):
    with open(f"/proc/{gateway.process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) >> 10


# As a machine of its own.
STRANGER = "127.0.0.2"


def connect(gateway, source="127.0.0.1", seconds=30):
    return socket.create_connection(("127.0.0.1", gateway.port), seconds, (source, 0))


def is_closed(connection):
    """Whether the gateway closes it, with nothing more to say."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def warnings(gateway, words):
    return [line for line in gateway.lines if words in line]


@test("random bytes and records that never end close their connections, are logged once, and disturb nobody")
def bad_records(directory):
    with Store(directory, 3, 2).serve() as gateway, Witness(gateway):
        seeded = random.Random(3)
        for _ in range(300):
            with connect(gateway) as connection:
                try:
                    connection.sendall(seeded.randbytes(seeded.randrange(1, 3000)))
                except ConnectionError:
                    pass
        with connect(gateway) as connection:
            connection.sendall(struct.pack(">I", 0xFFFFFFFF))
            check(is_closed(connection), "a record of 2 GiB was begun")
        with connect(gateway) as connection:
            try:
                for _ in range(1000):
                    connection.sendall(bytes(4) * 1000)
                closed = is_closed(connection)
            except ConnectionError:
                closed = True
            check(closed, "empty fragments for ever")
        with connect(gateway) as connection:
            connection.sendall(struct.pack(">I", 0x80000003) + b"abc")
            check(is_closed(connection), "3 bytes are no message")
        # A call in fragments of one byte is legal (RFC 5531 §11).
        with gateway.client() as client:
            call = struct.pack(">10I", 77, 0, 2, NFS, VERSION, 0, 0, 0, 0, 0)
            for at, byte in enumerate(call):
                client.connection.socket.sendall(
                    struct.pack(">IB", 1 | (0x80000000 if at == len(call) - 1 else 0), byte))
            client.connection.reply(77).end()
        check(1 <= len(warnings(gateway, "bad record")) <= 3, "bad records are logged, and not once each")
        check(peak_mib(gateway) < 300, f"{peak_mib(gateway)} MiB")


@test("each wrong RPC header gets the error that RFC 5531 has for it")
def bad_headers(directory):
    none = struct.pack(">II", 0, 0)

    def groups(count):
        body = struct.pack(">II4sII", 0, 4, b"host", 0, 0) + struct.pack(f">I{count}I", count, *range(count))
        return struct.pack(">II", 1, len(body)) + body

    with Store(directory, 3, 2).serve() as gateway, Witness(gateway), gateway.client() as client:
        def reply(rpc=2, program=NFS, version=VERSION, procedure=0, credential=none, verifier=none, arguments=b""):
            header = struct.pack(">6I", 9, 0, rpc, program, version, procedure)
            client.connection.send_record(header + credential + verifier + arguments)
            return client.connection.receive_record()

        def words(*values):
            return struct.pack(f">{len(values)}I", *values)

        accepted, denied = words(9, 1, 0, 0, 0), words(9, 1, 1)
        equal(reply(), accepted + words(0), "NULL")
        equal(reply(rpc=3), denied + words(0, 2, 2), "RPC_MISMATCH")
        equal(reply(program=100227), accepted + words(1), "PROG_UNAVAIL for the ACL program")
        equal(reply(version=2), accepted + words(2, 3, 3), "PROG_MISMATCH")
        equal(reply(procedure=22), accepted + words(3), "PROC_UNAVAIL")
        equal(reply(procedure=1), accepted + words(4), "GARBAGE_ARGS without arguments")
        equal(reply(credential=groups(16)), accepted + words(0), "AUTH_SYS with 16 groups")
        equal(reply(credential=groups(17)), denied + words(1, 1), "AUTH_SYS with 17 groups")
        equal(reply(credential=words(1, 404) + bytes(404)), denied + words(1, 1), "a credential of 404 bytes")
        equal(reply(credential=words(6, 4) + bytes(4)), denied + words(1, 2), "RPCSEC_GSS")
        equal(reply(verifier=words(0, 404) + bytes(404)), denied + words(1, 3), "a verifier of 404 bytes")


@test("absurd lengths, counts, handles and names get their errors")
def bad_arguments(directory):
    with Store(directory, 3, 2).serve() as gateway, Witness(gateway), gateway.client() as client:
        handle = client.create(client.root, b"file", mode=0o644).handle
        client.write(handle, 0, b"bytes", FILE_SYNC)
        garbage = [
            (1, struct.pack(">I", 0xFFFFFFFF)), (1, struct.pack(">I", 65) + bytes(68)),
            (3, Encoder().opaque(client.root).data() + struct.pack(">I", 0x7FFFFFFF) + b"name"),
            (WRITE, Encoder().opaque(handle).uint64(0).uint32(5).uint32(0).uint32(0xFFFFFFFF).data() + b"x" * 8),
            (WRITE, Encoder().opaque(handle).uint64(0).uint32(5).uint32(3).opaque(b"bytes").data()),
            (READ, Encoder().opaque(handle).uint64(0).data()),
        ]
        for procedure, arguments in garbage:
            xid = client.connection.send(NFS, VERSION, procedure, arguments)
            try:
                client.connection.reply(xid)
            except RPCError as error:
                equal(str(error), "accept status 4", f"procedure {procedure}")
            else:
                check(False, f"garbage was accepted by procedure {procedure}")
        equal(client.read(handle, 0, 0xFFFFFFFF).data, b"bytes", "READ of 4 GiB")
        equal(client.read(handle, (1 << 64) - 1, 0xFFFFFFFF).data, b"", "READ at the end of all numbers")
        with fails(Status.FBIG, Status.INVAL):
            client.write(handle, (1 << 64) - 1, b"bytes")
        for name in (b"a/b", b"/", b"a\0b", b""):
            with fails(Status.ACCES, Status.INVAL, what=f"the name {name}"):
                client.create(client.root, name, mode=0o644)
        with fails(Status.NAMETOOLONG):
            client.create(client.root, b"n" * 5000, mode=0o644)
        forged = bytearray(handle)
        for at in range(len(forged)):
            forged[at] ^= 1
            with fails(Status.BADHANDLE, Status.STALE, what=f"a handle with byte {at} changed"):
                client.getattr(bytes(forged))
            forged[at] ^= 1
        for length in (0, 1, 39, 41, 64):
            with fails(Status.BADHANDLE, Status.STALE, what=f"a handle of {length} bytes"):
                client.getattr((handle + bytes(64))[:length])
        client.remove(client.root, b"file")
        with fails(Status.STALE):
            client.getattr(handle)


@test_each("thousands of connections from {whose} address, idle or half-open, disturb nobody and cost little",
           whose=("another", "the same"))
def many_connections(directory, whose):
    source = STRANGER if whose == "another" else "127.0.0.1"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(3000, hard - 200)
    try:
        with Store(directory, 3, 2).serve() as gateway, gateway.client() as client:
            with Witness(gateway) as witness:
                before = peak_mib(gateway)
                connections = []
                for number in range(count):
                    connections.append(connect(gateway, source))
                    # A third has announced 1 MiB and sends 32 KiB of it, a third a small record, a third is idle.
                    if number % 3 == 0:
                        connections[-1].sendall(struct.pack(">I", 0x80100000) + bytes(32 << 10))
                    elif number % 3 == 1:
                        connections[-1].sendall(struct.pack(">I", 0x80000100) + bytes(10))
                # Longer than it takes until who has stalled is closed, and until others come in his place.
                rounds = witness.rounds
                time.sleep(15)
                check(witness.rounds > rounds, "the well-behaved client stands still")
            # 32 MiB for newcomers' records, 64 MiB for bytes that nobody has looked at, of each connection some
            # 30 KiB of its own; and as much again for what the witness may have under way and memory in pieces.
            check(peak_mib(gateway) - before < 250, f"{before} MiB before, {peak_mib(gateway)} MiB with {count}")
            client.getattr(client.root)
            for connection in connections:
                connection.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@test("above the bound on connections the one that has been idle longest makes room; busy ones stay")
def connection_bound(directory):
    with Store(directory, 3, 2).serve(max_open_files=1024) as gateway, Witness(gateway) as witness:
        first = connect(gateway)
        rest = []
        for number in range(200):
            # As many as are open must be older than what the witness did last, on a machine that lets it wait, too.
            if number % 20 == 0:
                witness.wait_for_round()
            rest.append(connect(gateway))
        check(is_closed(first), "the oldest idle connection is still open")
        with gateway.client() as client:
            client.getattr(client.root)
        for connection in rest:
            connection.close()


@test("connections of one address that are never idle, as many as there may be, keep nobody else out")
def busy_connections(directory):
    with Store(directory, 3, 2).serve(max_open_files=1024) as gateway:
        with gateway.client() as client:
            handle = client.create(client.root, b"large", mode=0o644).handle
            client.write(handle, 0, bytes(1 << 20), FILE_SYNC)
        arguments = Encoder().opaque(handle).uint64(0).uint32(1 << 20).data()
        # Replies that nobody takes, and calls that wait for memory.
        hostile = [Connection(gateway.port, source=STRANGER) for _ in range(128)]
        for connection in hostile:
            for _ in range(8):
                connection.send(NFS, VERSION, READ, arguments)
        time.sleep(1)
        with Witness(gateway) as witness:
            rounds = witness.rounds
            for _ in range(50):
                connect(gateway, STRANGER).close()
            with gateway.client() as client:
                client.getattr(client.root)
            time.sleep(1)
            check(witness.rounds > rounds, "the well-behaved client stands still")
        for connection in hostile:
            connection.close()


@test_each("replies of many READs that nobody takes, asked for from {whose} address, are bounded and disturb nobody",
           whose=("another", "the same"))
def slow_readers(directory, whose):
    source = STRANGER if whose == "another" else "127.0.0.1"
    with Store(directory, 3, 2).serve() as gateway, gateway.client() as client:
        handle = client.create(client.root, b"large", mode=0o644).handle
        for at in range(4):
            client.write(handle, at << 20, bytes(1 << 20))
        client.commit(handle)
        arguments = [Encoder().opaque(handle).uint64(at << 20).uint32(1 << 20).data() for at in range(4)]
        with Witness(gateway) as witness:
            before = peak_mib(gateway)
            readers = [Connection(gateway.port, source=source) for _ in range(16)]
            for reader in readers:
                for number in range(128):
                    reader.send(NFS, VERSION, READ, arguments[number % 4])
            rounds = witness.rounds
            time.sleep(15)
            check(witness.rounds > rounds, "the well-behaved client stands still")
        grown = peak_mib(gateway) - before
        # An address gets at most half of the budget: 112 MiB of READs and replies. A reply is made of cells that were
        # read whole, so as much again for those; and the witness's.
        check(grown < 300, f"{grown} MiB for {len(readers)} clients that take nothing")
        with gateway.client() as reader:
            for number in range(128):
                reader.connection.send(NFS, VERSION, READ, arguments[number % 4])
            for _ in range(128):
                check(len(reader.connection.receive_record()) > 1 << 20, "a reply without its bytes")


@test("without descriptors new connections are closed at once, others are served, and it goes on when there are some")
def no_descriptors(directory):
    def cpu_seconds():
        with open(f"/proc/{gateway.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    with Store(directory, 3, 2).serve() as gateway, gateway.client() as client:
        client.getattr(client.root)
        pid = gateway.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
        waiting = [connect(gateway) for _ in range(5)]
        start = cpu_seconds()
        for _ in range(20):
            client.getattr(client.root)
            time.sleep(0.1)
        check(cpu_seconds() - start < 1, f"{cpu_seconds() - start} s of processor time in 2 s of waiting")
        for connection in waiting:
            check(is_closed(connection), "a connection without a descriptor is kept waiting")
            connection.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        with gateway.client() as other:
            other.getattr(other.root)
        check(1 <= len(warnings(gateway, "can't be accepted")) <= 2, "the failures are not logged once")


@test("a file written in 200,000 single bytes, each in a padded record, is slow for its writer and for nobody else")
def single_bytes(directory):
    with Store(directory, 3, 2).serve() as gateway, gateway.client() as client, Witness(gateway):
        before = peak_mib(gateway)
        handle = client.create(client.root, b"file", mode=0o644).handle
        count, window = 200_000, 64
        # What follows the arguments in a record is ignored, and must not be kept.
        padding = bytes(4096)
        xids = []
        for number in range(count):
            arguments = write_arguments(handle, 2 * number, bytes([number % 255 + 1]), UNSTABLE) + padding
            xids.append(client.connection.send(NFS, VERSION, WRITE, arguments))
            if len(xids) == window:
                equal(client.connection.reply(xids.pop(0)).uint32(), Status.OK, "a WRITE")
        for xid in xids:
            equal(client.connection.reply(xid).uint32(), Status.OK, "a WRITE")
        client.commit(handle)
        found, end = bytearray(), False
        while not end:
            result = client.read(handle, len(found), 1 << 20)
            check(result.data or result.eof, "no bytes, and not the end")
            found += result.data
            end = result.eof
        expected = bytearray(2 * count - 1)
        expected[::2] = bytes(number % 255 + 1 for number in range(count))
        check(found == expected, "other bytes than were written")
        # All of the records together are 850 MB.
        check(peak_mib(gateway) - before < 200, f"{peak_mib(gateway) - before} MiB more")
