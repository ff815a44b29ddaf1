"""ONC-RPC (RFC 5531) over TCP: one connection with any number of calls under way."""

import itertools
import random
import socket
import struct

from xdr import Decoder, Encoder

AUTH_NONE, AUTH_SYS = 0, 1
# Far beyond what a slow machine needs for one call: reached only when the gateway hangs.
CALL_TIMEOUT_SECONDS = 300


class RPCError(Exception):
    """The call was not executed: denied, or an accept status other than SUCCESS."""


class Connection:
    def __init__(self, port, uid=0, gid=0, groups=(), source="127.0.0.1"):
        self.socket = socket.create_connection(("127.0.0.1", port), 30, (source, 0))
        self.socket.settimeout(CALL_TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming = self.socket.makefile("rb", buffering=1 << 20)
        # Not the same for each connection: the gateway would take a call for a copy of another's (RFC 5531 §9).
        self.next_xid = map(lambda number: number & 0xFFFFFFFF, itertools.count(random.getrandbits(32)))
        self.replies = {}
        self.credentials = self.auth_sys(uid, gid, groups)

    @staticmethod
    def auth_sys(uid, gid, groups):
        body = Encoder().uint32(0).opaque(b"end-to-end").uint32(uid).uint32(gid).uint32(len(groups))
        for group in groups:
            body.uint32(group)
        return Encoder().uint32(AUTH_SYS).opaque(body.data()).data()

    def send(self, program, version, procedure, arguments, xid=None):
        """Sends a call and returns its xid, a new one unless it is given; the reply can be fetched later."""
        xid = next(self.next_xid) if xid is None else xid
        header = struct.pack(">IIIIII", xid, 0, 2, program, version, procedure)
        record = header + self.credentials + struct.pack(">II", AUTH_NONE, 0) + arguments
        self.send_record(record)
        return xid

    def send_record(self, record):
        self.socket.sendall(struct.pack(">I", 0x80000000 | len(record)) + record)

    def receive_record(self):
        fragments = []
        while True:
            header = self.incoming.read(4)
            if len(header) < 4:
                raise ConnectionError("the gateway closed the connection")
            word, = struct.unpack(">I", header)
            count = word & 0x7FFFFFFF
            fragment = self.incoming.read(count)
            if len(fragment) < count:
                raise ConnectionError("the gateway closed the connection inside a reply")
            fragments.append(fragment)
            if word & 0x80000000:
                return b"".join(fragments)

    def reply(self, xid):
        """The results of the call with this xid, other replies being kept for their callers."""
        while xid not in self.replies:
            record = self.receive_record()
            self.replies[struct.unpack(">I", record[:4])[0]] = record
        return self.results(self.replies.pop(xid))

    @staticmethod
    def results(record):
        decoder = Decoder(record)
        decoder.uint32()
        if decoder.uint32() != 1:
            raise RPCError("not a reply")
        if decoder.uint32() != 0:
            raise RPCError(f"denied: {bytes(decoder.rest).hex()}")
        decoder.uint32()
        decoder.opaque()
        status = decoder.uint32()
        if status != 0:
            raise RPCError(f"accept status {status}")
        return decoder

    def close(self):
        self.incoming.close()
        self.socket.close()
