#!/usr/bin/env python3
"""A server that lies, for tools/stress --kill: a real gateway behind a proxy that promises what it doesn't keep.

    liar.py --lie LIE --listen PORT --directory DIR --binary SLUICE

Lies of the proxy, while it runs: `commit` COMMITs are answered and never reach the gateway; `verifier` it never changes;
`file-sync` stable WRITEs reach the gateway as UNSTABLE ones. Lies of what is there after a start, done to all files of
namers before anybody is served: `name` every second is removed; `ghost` names are made; `size` a byte is cut off; `byte`
one is another; `mtime` the time of the change is another. `none` is honest.

The gateway is in this process's group, which stress kills.
"""

import argparse
import os
import socket
import struct
import threading

import gateway
from nfs3 import DIRECTORY, REGULAR, FILE_SYNC, Client

WRITE, COMMIT = 7, 21
ANSWERED = struct.pack(">IIIII", 1, 0, 0, 0, 0)  # a reply, accepted, no verifier, executed


class Proxy:
    """One connection of a client and its own to the gateway; a thread for each way."""

    # What WRITEs were answered last, over all connections.
    verifier = bytes(8)
    first_verifier = None

    def __init__(self, client, port, lie):
        self.client, self.lie = client, lie
        self.server = socket.create_connection(("127.0.0.1", port))
        self.lock = threading.Lock()
        self.calls = {}  # xid -> (procedure, stable_how asked)
        for way in (self.take_calls, self.take_replies):
            threading.Thread(target=self.run, args=(way,), daemon=True).start()

    def run(self, way):
        try:
            way()
        except OSError:
            pass  # one of the two has closed it; so does the proxy
        for end in (self.client, self.server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already

    @staticmethod
    def records(end):
        file = end.makefile("rb", buffering=1 << 20)
        while True:
            record, is_last = b"", False
            while not is_last:
                header = file.read(4)
                if len(header) < 4:
                    return
                mark, = struct.unpack(">I", header)
                is_last = bool(mark >> 31)
                record += file.read(mark & 0x7FFFFFFF)
            yield record

    def send(self, end, record):
        with self.lock:
            end.sendall(struct.pack(">I", 0x80000000 | len(record)) + record)

    def take_calls(self):
        for record in self.records(self.client):
            xid, _, _, program, _, procedure = struct.unpack(">IIIIII", record[:24])
            if program != 100003:
                procedure = 0
            if procedure == COMMIT and self.lie == "commit":
                self.send(self.client, record[:4] + ANSWERED + bytes(12) + Proxy.verifier)
                continue
            asked = 0
            if procedure == WRITE and self.lie == "file-sync":
                record, asked = self.as_unstable(record)
            self.calls[xid] = procedure, asked
            self.send(self.server, record)

    @staticmethod
    def as_unstable(record):
        """The WRITE as an UNSTABLE one, and what was asked."""
        at = 24
        for _ in range(2):  # credentials, verifier
            at += 8 + struct.unpack(">I", record[at + 4:at + 8])[0] + 3 & ~3
        at += 4 + struct.unpack(">I", record[at:at + 4])[0] + 3 & ~3  # the handle
        at += 12  # offset, count
        return record[:at] + bytes(4) + record[at + 4:], struct.unpack(">I", record[at:at + 4])[0]

    def take_replies(self):
        for record in self.records(self.server):
            procedure, asked = self.calls.pop(struct.unpack(">I", record[:4])[0], (0, 0))
            if procedure in (WRITE, COMMIT) and record[24:28] == bytes(4):
                Proxy.verifier = record[-8:]
                Proxy.first_verifier = Proxy.first_verifier or b"the same"
                if self.lie == "verifier":
                    record = record[:-8] + Proxy.first_verifier
                if procedure == WRITE and asked:
                    record = record[:-12] + struct.pack(">I", asked) + record[-8:]
            self.send(self.client, record)


def change_files(client, lie):
    """Does the lie to all files of namers."""
    def entries(directory, kind):
        for entry in client.list(directory):
            if entry.name in (b".", b".."):
                continue
            found = client.lookup(directory, entry.name)
            if found.attributes.type == kind:
                yield entry.name, found

    for name, run in entries(client.root, DIRECTORY):
        for name, top in entries(run.handle, DIRECTORY):
            if not name.startswith(b"names-"):
                continue
            files = list(entries(top.handle, REGULAR))
            for number, (name, file) in enumerate(files):
                change_file(client, lie, top.handle, name, file, number)
            if lie == "ghost":
                for number in range(24):
                    if b"n-%02d" % number not in dict(files):
                        client.create(top.handle, b"n-%02d" % number, mode=0o644)


def change_file(client, lie, directory, name, file, number):
    size, modified = file.attributes.size, file.attributes.modified
    if lie == "name" and number % 2:
        client.remove(directory, name)
    elif lie == "size" and size:
        client.setattr(file.handle, size=size - 1)
        client.setattr(file.handle, mtime=modified)
    elif lie == "byte" and size:
        byte = client.read(file.handle, size // 2, 1).data[0]
        client.write(file.handle, size // 2, bytes([byte ^ 1]), FILE_SYNC)
        client.setattr(file.handle, mtime=modified)
    elif lie == "mtime":
        client.setattr(file.handle, mtime=type(modified)(modified.seconds - 1, modified.nanoseconds))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lie", required=True)
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--binary", required=True)
    arguments = parser.parse_args()
    gateway.binary = arguments.binary
    data = os.path.join(arguments.directory, "data")
    is_first = not os.path.exists(data)
    server = gateway.Gateway("--data", data, "--volumes", 5, "--policy", "RS-3-2-64k", "--memory", "256MiB", "--listen",
                             "127.0.0.1:0", log=os.path.join(arguments.directory, "gateway.log"))
    if not is_first:
        with Client(server.port) as client:
            change_files(client, arguments.lie)
    listening = socket.create_server(("127.0.0.1", arguments.listen), backlog=64)
    while True:
        client, _ = listening.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Proxy(client, server.port, arguments.lie)


if __name__ == "__main__":
    main()
