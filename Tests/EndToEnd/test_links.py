"""Hard links, symbolic links, fifos and devices, through the raw client and over restarts."""

import os
import struct

from harness import check, equal, fails, test
from nfs3 import FILE_SYNC, Status
from rpc import Connection
from store import Store

SYMLINK, FIFO, SOCKET, BLOCK = 5, 7, 6, 3


@test("hard links are one file: writes, size, times and removal, over kill -9 and over loss of volumes")
def hard_links(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    data = os.urandom(700_000)
    with store.serve() as gateway, gateway.client() as client:
        handle = client.create(client.root, b"first", mode=0o644).handle
        below = client.mkdir(client.root, b"below").handle
        client.write(handle, 0, data[:300_000])
        reply = client.link(handle, below, b"second")
        equal((reply.attributes.links, reply.attributes.size), (2, 300_000), "links and size after LINK")
        other = client.lookup(below, b"second").handle
        equal(other, handle, "the handle by the second name")
        client.write(other, 300_000, data[300_000:])
        check(client.commit(other).verifier, "no verifier")
        equal(client.read_file(handle), data, "read by the first name what was written by the second")
        # Not committed: may be lost by the kill, but never in one of the names only.
        client.write(handle, 0, b"unstable")
        gateway.kill()
    store.delete([0, 3])
    with store.serve() as gateway, gateway.client() as client:
        below = client.walk(b"below")
        first, second = client.walk(b"first"), client.walk(b"below/second")
        equal(first, second, "the handles of the two names after the restart")
        found = client.read_file(first)
        equal(found[8:], data[8:], "the bytes that were promised")
        check(found[:8] in (data[:8], b"unstable"), "the bytes that were not promised are others")
        client.remove(client.root, b"first")
        equal(client.getattr(second).attributes.links, 1, "links after REMOVE of a name")
        equal(client.read_file(second), found, "the bytes by the name that is left")
        client.remove(below, b"second")
        with fails(Status.STALE):
            client.getattr(second)
        equal(gateway.stop(), 0, "the exit code")


@test("LINK refuses directories, names that are there, and what is gone (RFC 1813 3.3.15)")
def link_refusals(directory):
    with Store(directory, 3, 2, cell_kib=64).serve() as gateway, gateway.client() as client:
        handle = client.create(client.root, b"file").handle
        below = client.mkdir(client.root, b"below").handle
        for source, place, name, status in (
                (below, client.root, b"x", Status.INVAL), (handle, client.root, b"below", Status.EXIST),
                (handle, client.root, b"file", Status.EXIST), (handle, below, b"..", Status.EXIST),
                (handle, handle, b"x", Status.NOTDIR), (handle, below, b"n" * 256, Status.NAMETOOLONG)):
            with fails(status, what=f"LINK as {name}"):
                client.link(source, place, name)
        client.remove(client.root, b"file")
        with fails(Status.STALE):
            client.link(handle, below, b"x")
        with gateway.client(uid=5) as stranger, fails(Status.ACCES):
            stranger.create(client.root, b"x")


@test("symbolic links keep any bytes, fifos and sockets are files, over a restart; devices only if allowed")
def special_files(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    targets = (b"x", b"../../no such/place", b"/etc/passwd", b"\xff\xfe \n", b"t" * 4095)
    with store.serve() as gateway, gateway.client() as client:
        for number, target in enumerate(targets):
            reply = client.symlink(client.root, b"link %d" % number, target, mode=0o777)
            equal((reply.attributes.type, reply.attributes.size), (SYMLINK, len(target)), "the link's attributes")
        for name, kind in ((b"fifo", FIFO), (b"socket", SOCKET)):
            equal(client.mknod(client.root, name, kind, mode=0o622).attributes.type, kind, "the type")
        for arguments in ((BLOCK, (8, 1)), (4, (1, 3))):
            with fails(Status.PERM, what="MKNOD of a device"):
                client.mknod(client.root, b"device", *arguments)
        equal(gateway.stop(), 0, "the exit code")
    with store.serve() as gateway, gateway.client() as client:
        for number, target in enumerate(targets):
            link = client.walk(b"link %d" % number)
            equal(client.readlink(link).data, target, "a target after the restart")
            with fails(Status.INVAL):
                client.read(link, 0, 10)
            with fails(Status.NOTDIR):
                client.lookup(link, b"x")
        fifo = client.walk(b"fifo")
        equal(client.getattr(fifo).attributes.type, FIFO, "the type after the restart")
        with fails(Status.INVAL):
            client.write(fifo, 0, b"bytes are the client's kernel's", FILE_SYNC)
        client.link(fifo, client.root, b"fifo 2")
        for entry in client.readdirplus(client.root).entries:
            if entry.name.startswith(b"fifo"):
                equal((entry.attributes.type, entry.attributes.links), (FIFO, 2), "the fifo's two names")


@test("devices: true lets the superuser make devices, and their numbers stay")
def devices(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    config = os.path.join(directory, "sluice.yaml")
    with open(config, "w") as file:
        file.write("devices: true\n")
    with store.serve(config=config) as gateway, gateway.client() as client:
        made = client.mknod(client.root, b"disk", BLOCK, (259, 1 << 19), mode=0o600)
        equal((made.attributes.type, made.attributes.device), (BLOCK, (259, 1 << 19)), "the device")
        below = client.mkdir(client.root, b"below", mode=0o777).handle
        with gateway.client(uid=5) as stranger, fails(Status.PERM):
            stranger.mknod(below, b"disk", BLOCK, (259, 1))
        gateway.kill()
    with store.serve() as gateway, gateway.client() as client:
        equal(client.getattr(client.walk(b"disk")).attributes.device, (259, 1 << 19), "the device after the restart")
        with fails(Status.PERM):
            client.mknod(client.root, b"other", BLOCK, (259, 1))


@test("the probes that clients make are answered: NFS ACL, rquota, NSM, NFS 2 and 4 (RFC 5531 §9)")
def probes(directory):
    unavailable, mismatch = struct.pack(">I", 1), struct.pack(">III", 2, 3, 3)
    with Store(directory, 3, 2, cell_kib=64).serve() as gateway:
        connection = Connection(gateway.port)
        for program, version, answer in (
                (100227, 3, unavailable), (100011, 1, unavailable), (100024, 1, unavailable),
                (100003, 2, mismatch), (100003, 4, mismatch), (100005, 4, mismatch)):
            connection.send(program, version, 0, b"")
            record = connection.receive_record()
            # xid, REPLY, MSG_ACCEPTED, AUTH_NONE without a body, then the status.
            equal(record[4:20], struct.pack(">IIII", 1, 0, 0, 0), f"the header for {program}/{version}")
            equal(record[20:], answer, f"the answer for {program}/{version}")
        connection.close()
