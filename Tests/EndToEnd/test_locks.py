"""File locks without `nolock`: there is no lock manager, and a client is told so at once where it can be."""

import os
import subprocess

from harness import check, equal, test
from nfs3 import Client
from rpc import RPCError
from store import Store

WITH_KERNEL_CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/with-kernel-client")
NLM = 100021
PROG_UNAVAIL = 1


@test("the lock manager's program is answered PROG_UNAVAIL on the gateway's port")
def unavailable(directory):
    with Store(directory, 2, 1).serve() as gateway, Client(gateway.port) as client:
        for version in (1, 3, 4):
            try:
                client.connection.reply(client.connection.send(NLM, version, 0, b""))
            except RPCError as error:
                equal(str(error), f"accept status {PROG_UNAVAIL}", "NLM's NULL")
            else:
                check(False, "NLM was answered")
        client.null()


@test("a kernel client without an rpcbind of its own refuses at once to mount without nolock; with it locks are local")
def kernel_client(directory):
    with Store(directory, 2, 1).serve() as gateway:
        options = (f"vers=3,proto=tcp,mountproto=tcp,port={gateway.port},mountport={gateway.port},"
                   "addr=10.0.2.2,mountaddr=10.0.2.2")
        script = f"""
mkdir -p /tmp/locks
timeout 60 mount -i -t nfs -o {options} 10.0.2.2:/ /tmp/locks; echo "mount without nolock: $?"
touch /mnt/file
flock --nonblock /mnt/file echo "locked with nolock"
"""
        done = subprocess.run(
            [WITH_KERNEL_CLIENT, "--server", f"127.0.0.1:{gateway.port}", "--timeout", "300", "--", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400)
    equal(done.returncode, 0, f"the exit code of the guest: {done.stdout}")
    # 32 is mount(8)'s "mount failure"; 124 would be a mount that hung.
    check("mount without nolock: 32" in done.stdout and "Connection refused" in done.stdout, done.stdout)
    check("locked with nolock" in done.stdout, done.stdout)
