"""Exports: checked on each call, reloaded at SIGHUP; and rpcbind, with Debian's own in private namespaces."""

import os
import shutil
import signal
import subprocess
import sys
import time

import gateway
from gateway import Gateway, Refused
from harness import check, equal, fails, test
from nfs3 import Client, MODIFY, READ, Status

ALL = "{ network: '*', squash: none, privilegedPort: false }"
MNT3ERR_ACCES = 13


def write(path, *exports, **others):
    """A configuration file; an export is (path, rules)."""
    with open(path + ".new", "w") as file:
        file.writelines(f"{key}: {value}\n" for key, value in others.items())
        file.write("exports:\n" if exports else "exports: []\n")
        for directory, *rules in exports:
            file.write(f"  - path: {directory}\n    clients:\n")
            file.writelines(f"      - {rule}\n" for rule in rules)
    os.rename(path + ".new", path)


def serve(directory, *arguments):
    return Gateway("--data", os.path.join(directory, "data"), "--volumes", 3, "--listen", "127.0.0.1:0",
                   "--config", os.path.join(directory, "sluice.yaml"), *arguments,
                   log=os.path.join(directory, "gateway.log"))


def reload(running, line="SIGHUP"):
    """Sends SIGHUP and waits until the log has a new line with these words."""
    before = len(running.lines)
    running.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 60
    while not any(line in text for text in running.lines[before:]):
        check(time.monotonic() < end, f"no '{line}' in the log after SIGHUP")
        check(running.process.poll() is None, "the gateway ended at SIGHUP")
        time.sleep(0.01)
    return "".join(running.lines[before:])


@test("exports are checked on each call and change at SIGHUP under mounts in use; handles survive a restart")
def exports(directory):
    config = os.path.join(directory, "sluice.yaml")
    write(config, ("/", ALL))
    with serve(directory) as running:
        with running.client() as client:
            projects = client.mkdir(client.root, b"projects", mode=0o777).handle
            client.create(projects, b"file", mode=0o666)
            client.mkdir(client.root, b"secret", mode=0o777)
            write(config, ("/projects", ALL))
            log = reload(running, "exports reloaded")
            check("added /projects" in log and "removed /" in log, f"what changed isn't in the log: {log}")
            with fails(Status.STALE, what="a handle of an export that is gone"):
                client.getattr(projects)
        with fails(MNT3ERR_ACCES, what="MNT of what is not exported"):
            running.client()
        client = Client(running.port, export=b"/projects")
        equal(client.lookup(client.root, b"..").handle, client.root, "the handle of .. of the export's root")
        equal({entry.file_id for entry in client.list(client.root) if entry.name in (b".", b"..")},
              {client.getattr(client.root).attributes.file_id}, "the file ids of . and ..")
        file = client.lookup(client.root, b"file").handle
        client.write(file, 0, b"hello")
        client.commit(file)
        equal(client.exports(), [b"/projects"], "EXPORT")

        write(config, ("/projects", ALL.replace("squash", "access: ro, squash")))
        reload(running, "changed /projects")
        with fails(Status.ROFS, what="WRITE"):
            client.write(file, 0, b"again")
        with fails(Status.ROFS, what="CREATE"):
            client.create(client.root, b"new")
        equal(client.access(file, READ | MODIFY).access, READ, "the rights that ACCESS grants")
        equal(client.read(file, 0, 100).data, b"hello", "what a read-only export shows")

        write(config, ("/projects", ALL.replace("'*'", "192.0.2.0/24")))
        reload(running, "changed /projects")
        for _ in range(3):
            with fails(Status.ACCES, what="GETATTR from outside of the export"):
                client.getattr(file)
        with fails(MNT3ERR_ACCES, what="MNT from outside of the export"):
            client.mount(b"/projects")

        with open(config, "w") as broken:
            broken.write("exports:\n  - path: /projects\n    clients: [ { network: 10.0.0.1/8 } ]\n")
        log = reload(running, "stay as they are")
        # The log is in order, so by now all of it that came before is here.
        equal(sum("a client was refused" in line for line in running.lines), 1, "lines about the refused client")
        check(":3" in log and "exports[0].clients[0].network" in log, f"the mistake isn't named: {log}")
        with fails(Status.ACCES, what="GETATTR after a reload that failed"):
            client.getattr(file)

        open(config, "w").close()
        reload(running, "stay as they are")
        with fails(Status.ACCES, what="GETATTR after a reload without exports"):
            client.getattr(file)

        write(config, ("/projects", ALL), policy="RS-3-2-64k")
        log = reload(running, "restart is needed")
        check("policy" in log, f"the changed key isn't named: {log}")
        client.write(file, 0, b"HELLO")
        client.commit(file)
        write(config, ("/projects", ALL))
        equal(running.stop(), 0, "the exit code of SIGTERM")
    with serve(directory) as running, Client(running.port, export=b"/projects") as client:
        equal(client.read(file, 0, 100).data, b"HELLO", "what is read with a handle from before the restart")


@test("a directory that is moved out of its export keeps working by handle, but its .. doesn't lead out of the export")
def moved_out(directory):
    config = os.path.join(directory, "sluice.yaml")
    write(config, ("/", ALL))
    with serve(directory) as running:
        with running.client() as whole:
            public = whole.mkdir(whole.root, b"public", mode=0o777).handle
            low = whole.mkdir(whole.mkdir(public, b"sub", mode=0o777).handle, b"low", mode=0o777).handle
            write(config, ("/", ALL), ("/public", ALL))
            reload(running, "added /public")
            client = Client(running.port, export=b"/public")
            sub = client.lookup(client.root, b"sub").handle
            low = client.lookup(sub, b"low").handle
            equal(client.lookup(low, b"..").handle, sub, "the handle of .. inside the export")
            equal(client.lookup(sub, b"..").handle, client.root, "the handle of .. below the export's root")
            whole.rename(public, b"sub", whole.root, b"moved")
            client.create(sub, b"file")
            for handle in (sub, low):
                with fails(Status.ACCES, what="LOOKUP of .. outside of the export"):
                    client.lookup(handle, b"..")
            parent = [entry for entry in client.readdirplus(sub).entries if entry.name == b".."]
            equal([(entry.handle, entry.attributes) for entry in parent], [(None, None)], "READDIRPLUS of ..")
            equal(whole.lookup(whole.lookup(whole.root, b"moved").handle, b"..").handle, whole.root, ".. of the whole")


@test("root squash, and privileged ports unless an export does without")
def squash(directory):
    config = os.path.join(directory, "sluice.yaml")
    write(config, ("/", "{ network: 127.0.0.0/8, privilegedPort: false, anonymousUID: 1234, anonymousGID: 5678 }"))
    with serve(directory) as running:
        with running.client() as client:
            with fails(Status.ACCES, what="CREATE by a squashed root in root's directory"):
                client.create(client.root, b"file")
        write(config, ("/", ALL))
        reload(running, "exports reloaded")
        with running.client() as client:
            client.setattr(client.root, mode=0o777)
        write(config, ("/", "{ network: 127.0.0.0/8, privilegedPort: false, anonymousUID: 1234, anonymousGID: 5678 }"))
        reload(running, "exports reloaded")
        with running.client() as client:
            created = client.create(client.root, b"file").attributes
            equal((created.uid, created.gid), (1234, 5678), "the owner of what a squashed root creates")
        write(config, ("/", "{ network: 127.0.0.0/8 }"))
        reload(running, "exports reloaded")
        with fails(MNT3ERR_ACCES, what="MNT from a port that isn't privileged"):
            running.client()


@test("a configuration with a mistake in its exports is refused with its line, exit code 78")
def mistake(directory):
    with open(os.path.join(directory, "sluice.yaml"), "w") as file:
        file.write("exports:\n  - path: /\n    clients:\n      - { network: '*', acess: ro }\n")
    try:
        serve(directory)
    except Refused as refused:
        equal(refused.code, 78, "the exit code")
        check("sluice.yaml:4: exports[0].clients[0].acess is unknown" in refused.log, f"the message: {refused.log}")
    else:
        check(False, "it was accepted")


RPCBIND = """\
set -eu
mount --make-rprivate /
# Of the new PID namespace: with another one's the gateway's runtime would be lost, and it refuses to start.
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir /run/rpcbind
ip link set lo up
exec "$@"
"""


@test("--rpcbind registers NFS, MOUNT and NLM, refuses when another server has them, and unregisters at exit")
def rpcbind(directory):
    for program in ("rpcbind", "rpcinfo", "unshare", "ip"):
        check(shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"), f"{program} is not installed")
    environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", RPCBIND, "sh",
         sys.executable, os.path.abspath(__file__), gateway.binary, directory],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
        env=environment)
    check(done.returncode == 0, f"in the namespace: exit code {done.returncode}:\n{done.stdout}")


def registered():
    """(program, version, netid) → port, as rpcinfo sees it; None without an rpcbind."""
    # Not -p, which asks for what version 2 knew: IPv4.
    done = subprocess.run(["rpcinfo"], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        return None
    rows = (line.split() for line in done.stdout.splitlines()[1:])
    addresses = {(int(row[0]), int(row[1]), row[2]): row[3] for row in rows if int(row[0]) != 100000}
    # RFC 5665: the port is the last two numbers.
    return {key: 256 * int(address.split(".")[-2]) + int(address.split(".")[-1]) for key, address in addresses.items()}


def inside_namespace(binary, directory):
    gateway.binary = binary
    write(os.path.join(directory, "sluice.yaml"), ("/", ALL))

    def refusal(*arguments):
        try:
            serve(directory, "--rpcbind", *arguments)
        except Refused as refused:
            return refused
        raise AssertionError("it was not refused")

    refused = refusal()
    equal(refused.code, 69, "the exit code without an rpcbind")
    check("rpcbind" in refused.log, f"the message: {refused.log}")

    server = subprocess.Popen(["rpcbind", "-f", "-w"], stdin=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while registered() is None:
        check(time.monotonic() < end, "rpcbind doesn't answer")
        time.sleep(0.05)

    with serve(directory, "--rpcbind") as running:
        # NLM, which is not served, so that it's answered PROG_UNAVAIL (test_locks.py).
        programs = ((100003, 3), (100005, 3), (100021, 1), (100021, 3), (100021, 4))
        equal(registered(), {(*program, "tcp"): running.port for program in programs}, "what is registered")
        equal(running.stop(), 0, "the exit code of SIGTERM")
    equal(registered(), {}, "what is registered after the end")

    # kill -9 leaves the registration behind: at the same port it is ours to replace.
    with serve(directory, "--rpcbind") as running:
        port = running.port
        running.kill()
    equal(registered()[100003, 3, "tcp"], port, "what is registered after kill -9")
    refused = refusal()
    equal(refused.code, 69, "the exit code when another address is registered")
    check("rpcinfo -d" in refused.log, f"the message: {refused.log}")
    equal(registered()[100003, 3, "tcp"], port, "what is registered after a refusal")
    with serve(directory, "--rpcbind", "--listen", f"127.0.0.1:{port}") as running:
        equal(registered()[100005, 3, "tcp"], port, "what is registered by the successor")
        equal(running.stop(), 0, "the exit code of SIGTERM")
    equal(registered(), {}, "what is registered after the end")

    # An address of both families: IPv4 clients are told of it, too.
    with serve(directory, "--rpcbind", "--listen", "[::]:0") as running:
        equal(registered(), {(*program, netid): running.port for program in programs for netid in ("tcp", "tcp6")},
              "what is registered for [::]")
        running.kill()
    with serve(directory, "--rpcbind", "--listen", f"[::]:{running.port}") as successor:
        equal(registered(), {(*program, netid): running.port for program in programs for netid in ("tcp", "tcp6")},
              "what is registered by the successor at [::]")
        equal(successor.stop(), 0, "the exit code of SIGTERM")
    equal(registered(), {}, "what is registered after the end")

    # Only MOUNT is another's: NFS, which was registered first, is taken back.
    with serve(directory, "--rpcbind") as running:
        subprocess.run(["rpcinfo", "-d", "100003", "3"], check=True, timeout=60)
        running.kill()
    equal(refusal().code, 69, "the exit code when MOUNT is another's")
    check((100003, 3, "tcp") not in registered(), "NFS is still registered after a refusal half way")
    equal(registered()[100005, 3, "tcp"], running.port, "MOUNT after a refusal half way")
    subprocess.run(["rpcinfo", "-d", "100005", "3"], check=True, timeout=60)

    # A lock manager of another, here what kill -9 left: it stays, with a warning.
    with serve(directory, "--rpcbind") as successor:
        check(f"registered with rpcbind is another server's, at 127.0.0.1.{running.port >> 8}.{running.port & 0xff}"
              in "".join(successor.lines), "no warning of another's lock manager")
        equal(registered()[100003, 3, "tcp"], successor.port, "NFS beside another's lock manager")
        equal(successor.stop(), 0, "the exit code of SIGTERM")
    locks = {(100021, version, "tcp"): running.port for version in (1, 3, 4)}
    equal(registered(), locks, "what is registered after the end")
    server.kill()
    server.wait()


if __name__ == "__main__":
    inside_namespace(*sys.argv[1:])
