"""Memory: writes in orders that no stripe can follow stay inside the budget, and read back."""

import random

from harness import check, equal, test
from store import Store

MIB = 1 << 20
# Half of it is for pending writes.
BUDGET_MIB = 128
# What a process is without any data on its way, some 40 MiB, and the bytes of one client's calls.
ALLOWANCE_MIB = 96


def peak_mib(gateway):
    with open(f"/proc/{gateway.process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) >> 10


def check_memory(gateway):
    peak = peak_mib(gateway)
    check(peak <= BUDGET_MIB + ALLOWANCE_MIB, f"{peak} MiB at the peak of a gateway that may take {BUDGET_MIB} MiB")


def content(offset, count, seed):
    """Bytes that tell their place: of a block that is long enough to be found again only there."""
    block = random.Random(f"{seed}/{offset}").randbytes(4096)
    return (block * (count // len(block) + 1))[:count]


def check_pieces(client, handle, pieces, seed):
    for offset, count in pieces:
        data = client.read(handle, offset, count).data
        check(data == content(offset, count, seed), f"{count} bytes at {offset} are not what was written")


@test("a file that is written backwards, four times the memory, stays inside the budget and reads back")
def backwards(directory):
    store = Store(directory, 3, 2)
    with store.serve(memory=f"{BUDGET_MIB}MiB") as gateway, gateway.client() as client:
        handle = client.create(client.root, b"backwards", mode=0o644).handle
        pieces = [(offset, MIB) for offset in range(511 * MIB, -MIB, -MIB)]
        for start in range(0, len(pieces), 16):
            client.write_pieces(
                handle, [(offset, content(offset, count, 1)) for offset, count in pieces[start:start + 16]], window=8)
        equal(client.getattr(handle).attributes.size, 512 * MIB, "the size before the COMMIT")
        client.commit(handle)
        check_memory(gateway)
        check_pieces(client, handle, pieces[::7], 1)


@test("scattered writes beyond the memory are dumped, are read from the dump, and survive kill -9 after a COMMIT")
def scattered(directory):
    store = Store(directory, 3, 2)
    # 96 MiB in pieces of 8 KiB, none beside another; 64 MiB may be pending.
    pieces = [(index * 65536, 8192) for index in range(12288)]
    random.Random(2).shuffle(pieces)
    with store.serve(memory=f"{BUDGET_MIB}MiB") as gateway, gateway.client() as client:
        handle = client.create(client.root, b"scattered", mode=0o644).handle
        for start in range(0, len(pieces), 256):
            client.write_pieces(
                handle, [(offset, content(offset, count, 2)) for offset, count in pieces[start:start + 256]], window=32)
        check(store.status()["counters"]["dumpedBytes"] > 16 * MIB, "nothing was dumped")
        check_pieces(client, handle, pieces[::16], 2)
        client.commit(handle)
        check_memory(gateway)
        gateway.kill()
    with store.serve(memory=f"{BUDGET_MIB}MiB") as gateway, gateway.client() as client:
        check_pieces(client, handle, pieces[::4], 2)
        equal(store.dump_files(), [], "the dump after a start")
