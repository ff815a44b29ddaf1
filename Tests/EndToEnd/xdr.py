"""XDR (RFC 4506) by struct, independent of the gateway's codec."""

import struct


class Encoder:
    def __init__(self):
        self.parts = []

    def uint32(self, value):
        self.parts.append(struct.pack(">I", value))
        return self

    def uint64(self, value):
        self.parts.append(struct.pack(">Q", value))
        return self

    def boolean(self, value):
        return self.uint32(1 if value else 0)

    def fixed_opaque(self, data):
        self.parts.append(data)
        if len(data) % 4:
            self.parts.append(bytes(4 - len(data) % 4))
        return self

    def opaque(self, data):
        return self.uint32(len(data)).fixed_opaque(data)

    def data(self):
        return b"".join(self.parts)


class Decoder:
    """Reads what a reply holds; raises ValueError when it is too short."""

    def __init__(self, data):
        self.rest = memoryview(data)

    def take(self, count):
        if count > len(self.rest):
            raise ValueError(f"{count} bytes wanted, {len(self.rest)} left")
        data, self.rest = self.rest[:count], self.rest[count:]
        return data

    def uint32(self):
        return struct.unpack(">I", self.take(4))[0]

    def uint64(self):
        return struct.unpack(">Q", self.take(8))[0]

    def boolean(self):
        value = self.uint32()
        if value > 1:
            raise ValueError(f"{value} is not a boolean")
        return value == 1

    def fixed_opaque(self, count):
        data = bytes(self.take(count))
        if any(self.take(-count % 4)):
            raise ValueError("padding is not zero")
        return data

    def opaque(self):
        return self.fixed_opaque(self.uint32())

    def optional(self, read):
        return read(self) if self.boolean() else None

    def end(self):
        if len(self.rest):
            raise ValueError(f"{len(self.rest)} bytes too many")
