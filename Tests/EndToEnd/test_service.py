"""The command line: what a start refuses, and with which words and exit codes; status; the end of the process."""

import os
import shutil
import socket
import subprocess

import gateway
from gateway import Gateway, Refused, sluice, status
from harness import Failure, check, equal, test
from nfs3 import FILE_SYNC, NFSError, Status
from store import Store

# sysexits.h
USAGE, DATA_ERROR, INPUT_OUTPUT_ERROR, CONFIGURATION = 64, 65, 74, 78


def refused(codes, words, start, what):
    """`start` must raise Refused with one of the exit codes, and a message with all the words."""
    try:
        start()
    except Refused as refusal:
        check(refusal.code in codes, f"{what}: exit code {refusal.code}, expected {codes}; {refusal.log}")
        for word in words:
            check(word in refusal.log, f"{what}: the message does not name {word}: {refusal.log}")
        check("Fatal error" not in refusal.log and "Crash" not in refusal.log, f"{what}: a crash: {refusal.log}")
    else:
        raise Failure(f"{what}: it served")


def fill(store, name=b"file"):
    """Makes a store with one promised file in it; leaves it stopped."""
    with store.serve() as gateway, gateway.client() as client:
        handle = client.create(client.root, name, mode=0o644).handle
        client.write(handle, 0, b"bytes of " + name)
        client.commit(handle)
        equal(gateway.stop(), 0, "the exit code of SIGTERM")


@test("a start with too few volumes is refused and names the missing ones")
def too_few_volumes(directory):
    store = Store(directory, 3, 2)
    fill(store)
    store.delete((0, 2, 4))
    refused((DATA_ERROR,), ("volume-00", "volume-02", "volume-04"), store.serve, "3 of 5 volumes missing")


@test("a volume of another store is refused, and so is a store of which only stale volumes are left")
def foreign_and_stale(directory):
    stores = []
    for name in ("one", "two"):
        os.mkdir(os.path.join(directory, name))
        stores.append(Store(os.path.join(directory, name), 3, 2))
        fill(stores[-1])
    one, two = stores
    one.save("saved")
    shutil.rmtree(one.volumes[1])
    shutil.copytree(two.volumes[1], one.volumes[1])
    refused((DATA_ERROR,), ("volume-01",), one.serve, "a volume of another store")

    one.bring_back("saved")
    with one.serve() as gateway, gateway.client() as client:
        client.create(client.root, b"newer", mode=0o644)
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    # Three volumes as they were, two are gone: k of them would be enough, were they not of an older epoch ...
    for volume in range(one.count):
        shutil.rmtree(one.volumes[volume])
    for volume in (0, 1):
        shutil.copytree(os.path.join(directory, "one/saved", os.path.basename(one.volumes[volume])),
                        one.volumes[volume])
    refused((DATA_ERROR,), ("volume-02", "volume-03", "volume-04"), one.serve, "two old volumes of five")


@test("old copies of m volumes beside current ones neither win nor are believed")
def old_copies(directory):
    for old in ((0, 1), (1, 2), (3, 4)):
        path = os.path.join(directory, "old %d %d" % old)
        os.mkdir(path)
        store = Store(path, 3, 2)
        fill(store, b"older")
        store.save("saved")
        with store.serve() as gateway, gateway.client() as client:
            client.rename(client.root, b"older", client.root, b"renamed")
            equal(gateway.stop(), 0, "the exit code of SIGTERM")
        for volume in old:
            shutil.rmtree(store.volumes[volume])
            shutil.copytree(os.path.join(path, "saved", os.path.basename(store.volumes[volume])),
                            store.volumes[volume])
        with store.serve() as gateway, gateway.client() as client:
            names = {entry.name for entry in client.list(client.root)}
            equal(names, {b".", b"..", b"renamed"}, f"names with old volumes {old}")
            equal(client.read_file(client.walk(b"renamed")), b"bytes of older", "the bytes")


@test("a data directory that lost everything but its volumes is rebuilt from them")
def data_is_rebuilt(directory):
    volumes = [os.path.join(directory, f"disk {index}") for index in range(5)]
    for volume in volumes:
        os.mkdir(volume)
    named = [word for volume in volumes for word in ("--volume", volume)]
    data = os.path.join(directory, "data")
    os.mkdir(data)
    log = os.path.join(directory, "gateway.log")
    code, _, errors = sluice("format", "--data", data, *named, "--policy", "RS-3-2-64k")
    equal(code, 0, f"the exit code of format: {errors}")
    with Gateway("--data", data, *named, "--listen", "127.0.0.1:0", log=log) as gateway, gateway.client() as client:
        handle = client.create(client.root, b"file", mode=0o644).handle
        client.write(handle, 0, b"bytes" * 20_000)
        client.commit(handle)
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    shutil.rmtree(data)
    os.mkdir(data)
    for volume in volumes[:2]:
        shutil.rmtree(volume)
    with Gateway("--data", data, *named, "--listen", "127.0.0.1:0", log=log) as gateway, gateway.client() as client:
        equal(client.read_file(handle), b"bytes" * 20_000, "the bytes, by the handle of the store's last life")
        equal(client.read_file(client.walk(b"file")), b"bytes" * 20_000, "the bytes, by name")


@test("real disks are never formatted unasked, nor twice")
def format_once(directory):
    volumes = [os.path.join(directory, f"disk-{index}") for index in range(5)]
    for volume in volumes:
        os.mkdir(volume)
    named = [word for volume in volumes for word in ("--volume", volume)]
    data = os.path.join(directory, "data")
    os.mkdir(data)
    log = os.path.join(directory, "gateway.log")
    start = ("--data", data, *named, "--listen", "127.0.0.1:0")
    refused((DATA_ERROR, CONFIGURATION, USAGE), ("disk-0",), lambda: Gateway(*start, log=log), "empty --volume directories")
    equal(sluice("format", "--data", data, *named)[0], 0, "the exit code of format")
    code, _, errors = sluice("format", "--data", data, *named)
    check(code in (USAGE, DATA_ERROR, CONFIGURATION), f"a second format: exit code {code}; {errors}")
    with open(os.path.join(directory, "stray"), "w"):
        pass
    code, _, errors = sluice("serve", "--data", directory, "--volumes", "5", "--listen", "127.0.0.1:0")
    check(code in (USAGE, CONFIGURATION), f"--volumes on a directory in use: exit code {code}; {errors}")


@test("bad flags and configurations are refused with one line and the exit codes of sysexits.h")
def bad_flags(directory):
    def code_of(*arguments):
        code, _, errors = sluice(*arguments, timeout=120)
        check("Fatal error" not in errors, f"{arguments}: a crash: {errors}")
        check(errors.strip(), f"{arguments}: no message")
        return code, errors

    data = os.path.join(directory, "data")
    serve = ("serve", "--data", data, "--volumes", "5")
    for arguments in (
            ("serve",), ("serve", "--data", data), ("serve", "--nonsense"), ("nonsense",),
            ("serve", "--data", data, "--volumes", "many"),
            ("serve", "--data", data, "--volumes", "2"),
            (*serve, "--listen", "here"), (*serve, "--listen", "127.0.0.1:65536"),
            (*serve, "--policy", "RS-2-2-1024k"), (*serve, "--policy", "RS-12-6-1024k"),
            (*serve, "--policy", "RS-3-2-1000k"), (*serve, "--policy", "RS-6-3-1024k"), (*serve, "--policy", "best")):
        code, errors = code_of(*arguments)
        equal(code, USAGE, f"the exit code of {arguments} ({errors.strip()})")
        check(not os.path.isdir(os.path.join(data, "volume-00")), f"{arguments} made a store")

    config = os.path.join(directory, "sluice.yaml")
    for text, word in (
            ("data: [1", ""), ("colour: green", "colour"), (f"data: {data}\nvolumes: many", "volumes"),
            (f"data: {data}\nvolumes: 5\npolicy: RS-2-2-1024k", "RS-2-2"), ("- a list", "")):
        with open(config, "w") as file:
            file.write(text + "\n")
        code, errors = code_of("serve", "--config", config, "--listen", "127.0.0.1:0")
        equal(code, CONFIGURATION, f"the exit code of the configuration {text!r} ({errors.strip()})")
        check(word in errors, f"the configuration {text!r}: the message does not name {word!r}: {errors}")
        equal(len(errors.strip().splitlines()), 1, f"lines of the message for {text!r}: {errors}")
    equal(code_of("serve", "--config", os.path.join(directory, "nothing.yaml"))[0], CONFIGURATION,
          "the exit code of a missing configuration file")
    with open(os.path.join(directory, "a file"), "w"):
        pass
    code, errors = code_of("serve", "--data", os.path.join(directory, "a file/data"), "--volumes", "5")
    equal(code, CONFIGURATION, f"the exit code of a directory that cannot be made ({errors.strip()})")


@test("a configuration file does what the flags do, and flags win")
def configuration_file(directory):
    config = os.path.join(directory, "sluice.yaml")
    data = os.path.join(directory, "data")
    with open(config, "w") as file:
        file.write(f"data: {data}\nvolumes: 9\npolicy: RS-6-3-64k\nlisten: 127.0.0.1:1\n")
    log = os.path.join(directory, "gateway.log")
    with Gateway("--config", config, "--listen", "127.0.0.1:0", log=log) as gateway:
        found = status(data)
        equal((found["policy"], len(found["volumes"])), ("RS-6-3-64k", 9), "policy and volumes")
        with gateway.client() as client:
            client.null()


@test("the sample configuration in etc works as it stands, on other directories")
def sample_configuration(directory):
    with open(os.path.join(os.path.dirname(__file__), "../../etc/sluice.yaml")) as file:
        sample = file.read()
    for place in ("/var/lib/sluice", "/srv/disk-"):
        check(place in sample, f"the sample no longer names {place}")
        sample = sample.replace(place, directory + place)
    config = os.path.join(directory, "sluice.yaml")
    with open(config, "w") as file:
        file.write(sample)
    data = directory + "/var/lib/sluice"
    volumes = [f"{directory}/srv/disk-{number}/sluice" for number in range(1, 6)]
    for path in (data, *volumes):
        os.makedirs(path)
    code, _, errors = sluice("format", "--data", data, *(word for volume in volumes for word in ("--volume", volume)))
    equal(code, 0, f"the exit code of format: {errors}")
    with Gateway("--config", config, "--listen", "127.0.0.1:0", log=os.path.join(directory, "gateway.log")) as gateway:
        equal(status(data)["policy"], "RS-3-2-1024k", "the policy")
        equal(gateway.stop(), 0, "the exit code of SIGTERM")


@test("status tells the same while the store is served and after")
def status_served_and_stopped(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    with store.serve() as gateway, gateway.client() as client:
        for number in range(3):
            handle = client.create(client.root, b"file %d" % number, mode=0o644).handle
            client.write(handle, 0, bytes(range(256)) * 1000)
            client.commit(handle)
        served = store.status()
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    stopped = store.status()
    for found, when in ((served, "served"), (stopped, "stopped")):
        equal((found["health"], found["reasons"], found["policy"]), ("green", [], "RS-3-2-64k"), f"status, {when}")
        equal((found["files"], found["bytes"], len(found["volumes"])), (3, 768_000, 5), f"counts, {when}")
        check(found["blockGroups"] > 0, f"no block groups, {when}")
    code, text, _ = sluice("status", "--data", store.data)
    equal(code, 0, "the exit code of status")
    check("green" in text and "RS-3-2-64k" in text, f"status for people: {text}")
    store.delete((1,))
    found = store.status()
    equal(found["health"], "yellow", "health without a volume")
    check("volume-01" in " ".join(found["reasons"]), f"the reasons do not name the missing volume: {found['reasons']}")
    store.delete((2, 3))
    code, text, errors = sluice("status", "--json", "--data", store.data)
    check('"red"' in text or code == DATA_ERROR, f"status of a store that is lost: {code} {text} {errors}")
    check(sluice("status", "--data", os.path.join(directory, "nothing"))[0] != 0, "status of nothing succeeded")


@test("SIGTERM settles what was only written, and all is there after a restart; the end is quick")
def sigterm(directory):
    store = Store(directory, 3, 2)
    data = os.urandom(5_000_000)
    with store.serve() as gateway, gateway.client() as client:
        handle = client.create(client.root, b"file", mode=0o644).handle
        pieces = [(at, data[at:at + 100_000]) for at in range(0, len(data), 100_000)]
        replies = client.write_pieces(handle, reversed(pieces))
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    with store.serve() as gateway, gateway.client() as client:
        equal(client.read_file(handle), data, "bytes that were written, not committed, before SIGTERM")
        check(client.commit(handle).verifier != replies[0].verifier, "the verifier did not change with the restart")
        equal(gateway.stop(), 0, "the exit code of SIGTERM")


@test("a second process on the same store is refused and does no harm")
def second_process(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    with store.serve() as gateway, gateway.client() as client:
        handle = client.create(client.root, b"file", mode=0o644).handle
        client.write(handle, 0, b"bytes")
        try:
            store.serve()
        except Refused as refusal:
            check(refusal.code != 0 and "Fatal error" not in refusal.log, f"{refusal}")
        else:
            raise Failure("two gateways serve one store")
        # By another way to the same volumes, too: the lock is not only on the data directory.
        other = os.path.join(directory, "other")
        os.mkdir(other)
        named = [word for volume in store.volumes for word in ("--volume", volume)]
        try:
            Gateway("--data", other, *named, "--listen", "127.0.0.1:0", log=os.path.join(directory, "other.log"))
        except Refused as refusal:
            check(refusal.code != 0 and "Fatal error" not in refusal.log, f"{refusal}")
        else:
            raise Failure("two gateways serve the same volumes")
        client.commit(handle)
        equal(client.read_file(handle), b"bytes", "the bytes")
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    with store.serve() as gateway, gateway.client() as client:
        equal(client.read_file(handle), b"bytes", "the bytes after a restart")


@test("an address in use is refused; port 0 picks a free one each time")
def ports(directory):
    for name in ("one", "two"):
        os.mkdir(os.path.join(directory, name))
    one, two = (Store(os.path.join(directory, name), 3, 2) for name in ("one", "two"))
    with one.serve() as first, two.serve() as second:
        check(first.port != second.port, "two gateways on one port")
        socket.create_connection(("127.0.0.1", first.port), 10).close()
        equal(second.stop(), 0, "the exit code of SIGTERM")
        code, _, errors = sluice("serve", "--data", two.data, "--listen", f"127.0.0.1:{first.port}", timeout=120)
        check(code not in (0, USAGE), f"an address in use: exit code {code}; {errors}")
        check(str(first.port) in errors, f"the message does not name the port: {errors}")


@test("hundreds of small files are written and read with the 1,024 open files that a shell allows")
def few_descriptors(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    with store.serve(max_open_files=1024) as gateway, gateway.client() as client:
        handles = []
        for number in range(600):
            handle = client.create(client.root, b"%d" % number, mode=0o644).handle
            client.write(handle, 0, b"bytes of %d" % number, FILE_SYNC)
            handles.append(handle)
        for number, handle in enumerate(handles):
            equal(client.read_file(handle), b"bytes of %d" % number, "the bytes")
        equal(store.status()["health"], "green", "health")
        equal(gateway.stop(), 0, "the exit code of SIGTERM")


@test("when the metadata can't be written any more, calls fail and the gateway ends with 74; what was committed is there")
def failed_store(directory):
    store = Store(directory, 3, 2, cell_kib=64)
    data = os.urandom(300_000)
    with store.serve() as gateway, gateway.client() as client:
        handle = client.create(client.root, b"file", mode=0o644).handle
        client.write(handle, 0, data)
        committed = client.commit(handle).verifier
        pending = client.create(client.root, b"pending", mode=0o644).handle
        equal(client.write(pending, 0, b"never committed").verifier, committed, "the verifier of a WRITE")
        # The logs of all copies of the metadata are longer than that: none of them can be written.
        gateway.limit_file_size(4096)
        try:
            client.create(client.root, b"too late", mode=0o644)
        except (NFSError, OSError) as error:
            check(not isinstance(error, NFSError) or error.status == Status.IO, f"CREATE failed with {error}")
        else:
            raise Failure("a CREATE was answered that can't be durable")
        try:
            client.write(pending, 0, b"refused")
            client.commit(pending)
        except (NFSError, OSError) as error:
            check(not isinstance(error, NFSError) or error.status == Status.IO, f"WRITE failed with {error}")
        else:
            raise Failure("COMMIT succeeded when nothing can be durable")
        equal(gateway.wait(), INPUT_OUTPUT_ERROR, "the exit code")
        log = "".join(gateway.lines)
        check("the store has failed" in log and "Fatal error" not in log, f"the log: {log}")
    with store.serve() as gateway, gateway.client() as client:
        equal(client.read_file(client.walk(b"file")), data, "the committed bytes")
        check(client.commit(handle).verifier != committed, "the verifier did not change")
        names = {entry.name for entry in client.list(client.root)}
        check(b"too late" not in names, f"a name that was refused is there: {names}")
        client.create(client.root, b"again", mode=0o644)
        equal(gateway.stop(), 0, "the exit code of SIGTERM")


@test("a start with the /proc of another PID namespace is refused, since the runtime's threads would not survive it")
def foreign_proc(directory):
    data = os.path.join(directory, "data")
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child=KILL", gateway.binary, "serve", "--data", data, "--volumes", "3",
         "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    equal(done.returncode, CONFIGURATION, "the exit code")
    check("/proc" in done.stderr, done.stderr)
    check(not os.path.exists(data), "something was made")
