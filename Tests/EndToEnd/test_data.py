"""Bytes: whatever the order of the writes, they read back, also after losing any m volumes."""

import itertools
import os
from random import Random

from harness import check, equal, test, test_each
from model import Model, ranges
from nfs3 import DATA_SYNC, FILE_SYNC, UNSTABLE, NFSError, Status
from store import Store

POLICIES = ((3, 2), (6, 3))
SEED = int(os.environ.get("SLUICE_TEST_SEED", "20240611"))


def write_files(client, store, seed):
    """One file for each way to write; all are promised when this returns."""
    files = []

    def file(name):
        files.append(Model(client, name, seed))
        return files[-1]

    in_sequence = file(b"in sequence")
    in_sequence.commit(in_sequence.write(ranges(store.stripe * 2 + 12345, 1 << 20)))

    shuffled = file(b"shuffled")
    pieces = ranges(store.stripe + 777_777, 65536)
    shuffled.random.shuffle(pieces)
    shuffled.commit(shuffled.write(pieces))

    overlapping = file(b"overlapping")
    size = store.stripe + 4321
    starts = [overlapping.random.randrange(size) for _ in range(120)]
    pieces = [(start, overlapping.random.randrange(1, 200_000)) for start in starts]
    overlapping.commit(overlapping.write(pieces))

    overwritten = file(b"overwritten after COMMIT")
    overwritten.commit(overwritten.write(ranges(store.stripe + 99, 262_144)))
    for _ in range(3):
        starts = [overwritten.random.randrange(store.stripe) for _ in range(5)]
        overwritten.commit(overwritten.write([(start, overwritten.random.randrange(1, 70_000)) for start in starts]))

    for name, stable in ((b"FILE_SYNC", FILE_SYNC), (b"DATA_SYNC", DATA_SYNC)):
        synced = file(name)
        pieces = ranges(1_300_001, 130_000)
        synced.random.shuffle(pieces)
        synced.write(pieces, stable)

    small = [file(b"small %d" % number) for number in range(10)]
    for number, each in enumerate(small):
        each.commit(each.write([(0, 1 + number * 1500)]))
    return files


def check_files(gateway, files):
    """Compares through a new connection."""
    with gateway.client() as client:
        for each in files:
            each.check(client)


def loses_data_cells(store, volumes):
    """Whether one of the volumes holds data cells, not only parity, so that a reader must decode."""
    return any(index < store.data_units for volume in volumes for _, index in store.block_files(volume))


@test_each("RS-{policy[0]}-{policy[1]}: files written in any order read back through a second connection",
           policy=POLICIES)
def any_order(directory, policy):
    store = Store(directory, *policy)
    with store.serve() as gateway, gateway.client() as client:
        files = write_files(client, store, SEED)
        check_files(gateway, files)
        equal(store.decoded_stripes(), 0, "decoded stripes of a healthy store")
        equal(store.status()["health"], "green", "health")
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    with store.serve() as gateway:
        check_files(gateway, files)
        equal(store.decoded_stripes(), 0, "decoded stripes of a healthy store")


@test_each("RS-{policy[0]}-{policy[1]}: kill -9 right after COMMIT loses nothing, and the verifier changes",
           policy=POLICIES)
def kill_after_commit(directory, policy):
    store = Store(directory, *policy)
    with store.serve() as gateway, gateway.client() as client:
        files = write_files(client, store, SEED + 1)
        last = Model(client, b"last", SEED + 1)
        replies = last.write(ranges(store.stripe + 5, 100_000))
        last.commit(replies)
        gateway.kill()
    with store.serve() as gateway:
        check_files(gateway, [*files, last])
        with gateway.client() as client:
            check(client.commit(last.handle).verifier != replies[0].verifier, "the verifier survived a kill -9")
        equal(store.decoded_stripes(), 0, "decoded stripes after a kill")
        equal(gateway.stop(), 0, "the exit code of SIGTERM")


@test_each("RS-{policy[0]}-{policy[1]}: m volumes overwritten and truncated while serving are decoded around",
           policy=POLICIES)
def damage_while_serving(directory, policy):
    store = Store(directory, *policy)
    random = Random(SEED + 2)
    with store.serve() as gateway, gateway.client() as client:
        files = write_files(client, store, SEED + 2)
        check_files(gateway, files)
        equal(store.decoded_stripes(), 0, "decoded stripes before the damage")
        lost = random.sample(range(store.count), store.parity_units)
        while not loses_data_cells(store, lost):
            lost = random.sample(range(store.count), store.parity_units)
        check(store.damage(lost, random) > 0, f"volumes {lost} held no data cells")
        check_files(gateway, files)
        check(store.decoded_stripes() > 0, "data cells were lost, but no stripe was decoded")
        check(store.status()["health"] != "green", "the store says green while cells are lost")
        gateway.kill()
    # The damage also holds for a gateway that starts with it.
    with store.serve() as gateway:
        check_files(gateway, files)
        check(store.decoded_stripes() > 0, "data cells are lost, but no stripe was decoded")


@test_each("RS-{policy[0]}-{policy[1]}: any m volumes deleted while stopped are decoded around", policy=POLICIES)
def deleted_while_stopped(directory, policy):
    store = Store(directory, *policy)
    random = Random(SEED + 3)
    with store.serve() as gateway, gateway.client() as client:
        files = write_files(client, store, SEED + 3)
        gateway.kill()
    store.save("saved")
    choices = list(itertools.combinations(range(store.count), store.parity_units))
    # All ten of RS-3-2. Of the 84 of RS-6-3 a dozen, among them the first and the last, chosen by the seed.
    if len(choices) > 12:
        choices = [choices[0], *random.sample(choices[1:-1], 10), choices[-1]]
    for lost in choices:
        store.bring_back("saved")
        must_decode = loses_data_cells(store, lost)
        store.delete(lost)
        with store.serve() as gateway:
            equal(store.status()["health"], "yellow", f"health without volumes {lost}")
            check_files(gateway, files)
            equal(store.decoded_stripes() > 0, must_decode, f"stripes were decoded without volumes {lost}")
            # Whether so few volumes take writes is for the store to say. What they take, they keep.
            with gateway.client() as client:
                added = Model(client, b"written without m volumes", SEED + 3)
                try:
                    added.commit(added.write(ranges(300_000, 50_000)))
                    promised = [*files, added]
                except NFSError as error:
                    check(error.status in (Status.IO, Status.NOSPC, Status.ROFS), f"writing without {lost}: {error}")
                    promised = files
            gateway.kill()
        with store.serve() as gateway:
            check_files(gateway, promised)


@test("what was promised while volumes were away is not undone when those come back")
def stale_volumes_return(directory):
    store = Store(directory, 3, 2)
    with store.serve() as gateway, gateway.client() as client:
        kept = Model(client, b"kept", SEED + 4)
        kept.commit(kept.write(ranges(200_000, 50_000)))
        client.create(client.root, b"removed", mode=0o644)
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    store.save("saved")
    before = bytes(kept.bytes)
    # Each volume, whatever it keeps, is away once and comes back with what it knew; also m of them at once.
    for away in ((0,), (1,), (2,), (3,), (4,), (0, 1), (2, 3), (4, 0)):
        store.bring_back("saved")
        kept.bytes = bytearray(before)
        for volume in away:
            os.rename(store.volumes[volume], store.volumes[volume] + ".away")
        with store.serve() as gateway, gateway.client() as client:
            kept.client = client
            if len(away) < store.parity_units:
                kept.commit(kept.write([(kept.random.randrange(200_000), 40_000) for _ in range(4)]))
            made = client.mkdir(client.root, b"made meanwhile", mode=0o755).attributes.file_id
            client.remove(client.root, b"removed")
            gateway.kill()
        for volume in away:
            os.rename(store.volumes[volume] + ".away", store.volumes[volume])
        # Twice: the first start must not teach the returned ones to win in the second.
        for _ in range(2):
            with store.serve() as gateway, gateway.client() as client:
                kept.check(client)
                equal(client.lookup(client.root, b"made meanwhile").attributes.file_id, made, "the new directory's id")
                check(b"removed" not in {entry.name for entry in client.list(client.root)},
                      f"a removed name came back with volumes {away}")
                equal(gateway.stop(), 0, "the exit code of SIGTERM")


@test("a cell of 64 KiB: a long random run of writes, truncates and COMMITs reads back like plain bytes")
def long_run(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    random = Random(SEED + 5)
    print(f"seed {SEED + 5}")
    with store.serve() as gateway, gateway.client() as client:
        files = [Model(client, b"run %d" % number, SEED + 5) for number in range(3)]
        unpromised = {each.name: [] for each in files}
        for _ in range(400):
            each = random.choice(files)
            kind = random.random()
            if kind < 0.6:
                stable = random.choice((UNSTABLE, UNSTABLE, UNSTABLE, DATA_SYNC, FILE_SYNC))
                start = random.randrange(1_500_000)
                unpromised[each.name] += each.write([(start, random.choice((1, 100, 4096, 70_000, 300_000)))], stable)
            elif kind < 0.7:
                each.truncate(random.randrange(1_800_000))
            elif kind < 0.85:
                each.commit(unpromised[each.name])
                unpromised[each.name] = []
            else:
                start = random.randrange(1_800_000)
                reply = client.read(each.handle, start, 200_000)
                equal(reply.data, bytes(each.bytes[start:start + 200_000]), f"{each.name}: READ at {start}")
                equal(reply.eof, start + 200_000 >= len(each.bytes), f"{each.name}: eof of READ at {start}")
        for each in files:
            each.commit(unpromised[each.name])
        check_files(gateway, files)
        gateway.kill()
    with store.serve() as gateway:
        check_files(gateway, files)
