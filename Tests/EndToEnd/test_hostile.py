"""Clients that repeat themselves, break off, or mean harm; others notice nothing."""

import socket
import struct

from harness import check, equal, fails, test, test_each
from nfs3 import FILE_SYNC, NFS, UNSTABLE, VERSION, Status
from store import Store
from xdr import Encoder

CREATE, REMOVE, WRITE, READ = 8, 12, 7, 6


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
