"""What a file must hold, in plain bytes."""

from random import Random

from harness import check, equal
from nfs3 import UNSTABLE


def overlap(ranges):
    """Whether two of the (offset, count) ranges share a byte."""
    ordered = sorted(ranges)
    return any(offset + count > after for (offset, count), (after, _) in zip(ordered, ordered[1:]))


def ranges(size, piece):
    return [(offset, min(piece, size - offset)) for offset in range(0, size, piece)]


class Model:
    """What a file must hold, kept as plain bytes; applies each write to the file and to itself."""

    def __init__(self, client, name, seed, directory=None):
        self.client, self.name = client, name
        self.random = Random(f"{seed}/{name}")
        self.bytes = bytearray()
        self.handle = client.create(directory or client.root, name, mode=0o644).handle

    def write(self, ranges, stable=UNSTABLE):
        """Writes random bytes to (offset, count) ranges in the given order.

        What overlaps is written one by one: RFC 1813 gives calls that are under way together no order.
        """
        pieces = [(offset, self.random.randbytes(count)) for offset, count in ranges]
        for offset, data in pieces:
            if len(self.bytes) < offset + len(data):
                self.bytes.extend(bytes(offset + len(data) - len(self.bytes)))
            self.bytes[offset:offset + len(data)] = data
        replies = self.client.write_pieces(self.handle, pieces, stable, window=1 if overlap(ranges) else 16)
        for reply, (_, data) in zip(replies, pieces):
            equal(reply.count, len(data), f"{self.name}: bytes taken by WRITE")
            check(reply.committed >= stable, f"{self.name}: WRITE was answered with a lower stability than asked")
        return replies

    def commit(self, replies):
        """RFC 1813 §3.3.21: the promise holds only if the verifier is that of the WRITEs."""
        verifier = self.client.commit(self.handle).verifier
        for reply in replies:
            equal(reply.verifier, verifier, f"{self.name}: the verifier of WRITE and COMMIT")

    def check(self, client):
        equal(client.getattr(self.handle).attributes.size, len(self.bytes), f"{self.name}: the size")
        equal(client.read_file(self.handle), bytes(self.bytes), f"{self.name}: the bytes")

    def truncate(self, size):
        self.client.setattr(self.handle, size=size)
        del self.bytes[size:]
        self.bytes.extend(bytes(size - len(self.bytes)))
