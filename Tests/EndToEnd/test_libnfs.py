"""libnfs, a client in user space, written by others: its tools copy in and out."""

import os
import subprocess

from harness import check, equal, test
from store import Store


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=600)
    check(done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.decode()}")
    return done.stdout


@test("nfs-cp, nfs-cat and nfs-ls copy in and out, also without two volumes")
def copy(directory):
    store = Store(directory, 3, 2)
    data = os.urandom(12_345_678)
    source = os.path.join(directory, "source")
    with open(source, "wb") as file:
        file.write(data)

    def url(gateway, name):
        # Two slashes: libnfs mounts what stands before the last one, and cannot mount an empty path.
        return f"nfs://127.0.0.1//{name}?nfsport={gateway.port}&mountport={gateway.port}"

    with store.serve() as gateway:
        run("nfs-cp", source, url(gateway, "copied"))
        listing = run("nfs-ls", url(gateway, "")).decode()
        check("copied" in listing and str(len(data)) in listing, f"nfs-ls: {listing}")
        equal(run("nfs-cat", url(gateway, "copied")), data, "nfs-cat")
        with gateway.client() as client:
            client.mkdir(client.root, b"directory", mode=0o755)
        run("nfs-cp", source, url(gateway, "directory/copied"))
        equal(run("nfs-cat", url(gateway, "directory/copied")), data, "nfs-cat below a directory")
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    store.delete((0, 3))
    with store.serve() as gateway:
        target = os.path.join(directory, "target")
        run("nfs-cp", url(gateway, "copied"), target)
        with open(target, "rb") as file:
            equal(file.read(), data, "nfs-cp out of the store, without two volumes")
