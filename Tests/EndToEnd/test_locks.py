"""File locks without `nolock`: there is no lock manager, and a client is told so at once where it can be."""

import os
import shutil
import subprocess
import sys
import time

import gateway as gateways
from harness import check, equal, test
from nfs3 import Client
from rpc import RPCError
from store import Store

WITH_KERNEL_CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/with-kernel-client")
NLM = 100021
PROC_UNAVAIL = 3
COOKIE = (4).to_bytes(4, "big") + b"abcd"


@test("the lock manager's procedures are answered: no locks, nothing waiting, nothing held")
def refused(directory):
    with Store(directory, 2, 1).serve() as gateway, Client(gateway.port) as client:
        def call(version, procedure):
            # A call to NLM begins with its cookie; nothing else is looked at.
            return bytes(client.connection.reply(client.connection.send(NLM, version, procedure, COOKIE)).rest)

        for version in (1, 3, 4):
            equal(call(version, 0), b"", "NULL")
            # TEST, LOCK: LCK_DENIED_NOLOCKS; CANCEL: LCK_DENIED; UNLOCK: LCK_GRANTED.
            for procedure, status in ((1, 2), (2, 2), (3, 1), (4, 0)):
                equal(call(version, procedure), COOKIE + status.to_bytes(4, "big"), f"procedure {procedure}")
            try:
                call(version, 7)
            except RPCError as error:
                equal(str(error), f"accept status {PROC_UNAVAIL}", "LOCK_MSG")
            else:
                check(False, "LOCK_MSG was answered")
        client.null()


@test("a kernel client without an rpcbind of its own refuses at once to mount without nolock; with it locks are local")
def without_rpcbind(directory):
    with Store(directory, 2, 1).serve() as gateway:
        script = f"""
mkdir -p /tmp/locks
timeout 60 mount -i -t nfs -o {options(gateway.port)} 10.0.2.2:/ /tmp/locks; echo "mount without nolock: $?"
touch /mnt/file
flock --nonblock /mnt/file echo "locked with nolock"
"""
        output = in_guest(gateway, script)
    # 32 is mount(8)'s "mount failure"; 124 would be a mount that hung.
    check("mount without nolock: 32" in output and "Connection refused" in output, output)
    check("locked with nolock" in output, output)


# /run: the guest's rpcbind and rpc.statd must not meet those of this machine.
NAMESPACE = """\
set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir /run/rpcbind /run/lock
ip link set lo up
exec "$@"
"""

# What a Linux client has that mounts without nolock.
CLIENT_DAEMONS = """\
PATH=$PATH:/usr/sbin:/sbin
mkdir -p /run/rpcbind /var/lib/nfs/sm /var/lib/nfs/sm.bak /tmp/locks
rpcbind -w
for tick in $(seq 100); do rpcinfo -p 127.0.0.1 >/dev/null 2>&1 && break; sleep 0.1; done
rpc.statd --no-notify
"""

LOCK = """\
import fcntl, sys, time
file = open(sys.argv[1], "w+")
calls = {
    "flock": lambda: fcntl.flock(file, fcntl.LOCK_EX),
    "F_SETLKW": lambda: fcntl.lockf(file, fcntl.LOCK_EX),
    "F_SETLK": lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "F_GETLK": lambda: fcntl.fcntl(file, fcntl.F_GETLK, bytes(32)),
}
for name, call in calls.items():
    start = time.monotonic()
    try:
        call()
        errno = 0
    except OSError as error:
        errno = error.errno
    print(name, errno, time.monotonic() - start, flush=True)
"""
ENOLCK = 37


@test("with --rpcbind, locks of a kernel client without nolock are ENOLCK at once")
def with_rpcbind(directory):
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    for program in ("rpcbind", "rpcinfo", "rpc.statd", "unshare", "ip"):
        check(shutil.which(program, path=path), f"{program} is not installed")
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", NAMESPACE, "sh",
         sys.executable, os.path.abspath(__file__), gateways.binary, directory],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
        env={**os.environ, "PATH": path})
    check(done.returncode == 0, f"in the namespace: exit code {done.returncode}:\n{done.stdout}")


def inside_namespace(binary, directory):
    gateways.binary = binary
    server = subprocess.Popen(["rpcbind", "-f", "-w"], stdin=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while subprocess.run(["rpcinfo", "-p"], capture_output=True, timeout=60).returncode != 0:
        check(time.monotonic() < end, "rpcbind doesn't answer")
        time.sleep(0.05)
    lock = os.path.join(directory, "lock.py")
    with open(lock, "w") as file:
        file.write(LOCK)
    with gateways.Gateway(
            "--data", os.path.join(directory, "data"), "--volumes", 3, "--listen", "127.0.0.1:0", "--rpcbind",
            log=os.path.join(directory, "gateway.log")) as gateway:
        output = in_guest(gateway, f"""{CLIENT_DAEMONS}
mount -i -t nfs -o {options(gateway.port)} 10.0.2.2:/ /tmp/locks || exit
timeout -s KILL 60 python3 {lock} /tmp/locks/file
umount /tmp/locks; echo "umount: $?"
""", "--also", "111")
        rows = [line.split() for line in output.splitlines()]
        results = {row[0]: row[1:] for row in rows if len(row) == 3}
        for name in ("flock", "F_SETLKW", "F_SETLK", "F_GETLK"):
            check(name in results, f"{name} didn't return: {output}")
            errno, seconds = results[name]
            equal(int(errno), ENOLCK, f"the error of {name}")
            check(float(seconds) < 10, f"{name} took {seconds} s")
        check("umount: 0" in output, output)
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    server.kill()
    server.wait()


def options(port):
    return (f"vers=3,proto=tcp,mountproto=tcp,port={port},mountport={port},"
            "addr=10.0.2.2,mountaddr=10.0.2.2")


def in_guest(gateway, script, *arguments):
    done = subprocess.run(
        [WITH_KERNEL_CLIENT, "--server", f"127.0.0.1:{gateway.port}", *arguments, "--timeout", "300", "--",
         "sh", "-c", script],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400)
    equal(done.returncode, 0, f"the exit code of the guest: {done.stdout}")
    return done.stdout


if __name__ == "__main__":
    inside_namespace(*sys.argv[1:])
