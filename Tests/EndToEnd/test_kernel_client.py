"""The Linux kernel's NFSv3 client, through tools/with-kernel-client."""

import hashlib
import os
import random
import shutil
import subprocess
import tarfile

from harness import check, equal, test
from kernel_client import guest_command, in_kernel_client, wait_for
from store import Store

# Real files of all sizes: part of Python's standard library, so it is there wherever this runs.
SOURCE = os.path.dirname(os.__file__)
SOURCE_DIRECTORIES = ("asyncio", "collections", "concurrent", "ctypes", "email", "encodings", "importlib", "json",
                      "logging", "multiprocessing", "unittest", "urllib", "xml")

COPY_IN = """\
set -eu
exec 2>&1
shared=$1
cd /mnt
echo "tar in";           tar -xf "$shared/tree.tar"
echo "cp -a";            cp -a tree copy
echo "dd conv=fsync";    dd if="$shared/big" of=big bs=1M conv=fsync status=none
echo "dd into the middle"; dd if="$shared/patch" of=big bs=64k seek=77 conv=notrunc,fsync status=none
echo "sha256sum -c";     (cd tree && sha256sum --quiet -c "$shared/sums"); (cd copy && sha256sum --quiet -c "$shared/sums")
echo "tar out";          tar -C copy -cf "$shared/out.tar" .
echo "rename, append, truncate, remove"
mkdir made
mv copy/json made/json
echo appended >>made/json/decoder.py
truncate -s 1000 made/json/encoder.py
rm -r copy/email
if command -v git >/dev/null; then
    echo "git"
    export HOME=/tmp GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b
    export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
    git init -q repository
    cp -r tree/json tree/logging repository/
    cd repository
    git add .
    git commit -q -m first
    echo more >>json/decoder.py
    git commit -q -a -m second
    git fsck --strict
    test -z "$(git status --porcelain)"
    cd ..
fi
sync
echo done
"""

# A second kernel, which has cached nothing.
COMPARE = """\
set -eu
exec 2>&1
shared=$1
cd /mnt
(cd tree && sha256sum --quiet -c "$shared/sums")
cmp big "$shared/patched"
test "$(wc -c <made/json/encoder.py)" = 1000
test "$(tail -n 1 made/json/decoder.py)" = appended
test ! -e copy/email
test ! -e copy/json
find tree -printf '%P %y %m %s %T@\\n' | sort >"$shared/listed"
if test -e repository; then
    export HOME=/tmp GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_OPTIONAL_LOCKS=0
    git -c safe.directory='*' -C repository fsck --strict
    test "$(git -c safe.directory='*' -C repository log --oneline | wc -l)" = 2
fi
echo compared
"""


def prepare(shared):
    """The tree, its tar file, its checksums and a large file, in a directory that the guest shares."""
    tree = os.path.join(shared, "tree")
    os.mkdir(tree)
    for name in SOURCE_DIRECTORIES:
        shutil.copytree(os.path.join(SOURCE, name), os.path.join(tree, name),
                        ignore=shutil.ignore_patterns("__pycache__", "test", "tests"))
    sums = []
    for directory, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(directory, name)
            # Whole microseconds survive all tools on the way.
            os.utime(path, ns=(10**18, 10**18 + len(name) * 1000))
            with open(path, "rb") as file:
                sums.append(f"{hashlib.sha256(file.read()).hexdigest()}  ./{os.path.relpath(path, tree)}\n")
    with open(os.path.join(shared, "sums"), "w") as file:
        file.writelines(sums)
    with tarfile.open(os.path.join(shared, "tree.tar"), "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(tree, "tree")
    big, patch = random.Random(1).randbytes(40_000_000), random.Random(2).randbytes(300_000)
    patched = bytearray(big)
    patched[77 * 65536:77 * 65536 + len(patch)] = patch
    for name, data in (("big", big), ("patch", patch), ("patched", patched), ("copy-in", COPY_IN.encode()),
                       ("compare", COMPARE.encode())):
        with open(os.path.join(shared, name), "wb") as file:
            file.write(data)
    return len(sums)


def listing(directory):
    """What `find -printf '%P %y %m %s %T@'` prints, sorted; directories without size and time."""
    found = []
    for parent, _, names in os.walk(directory):
        for name in names:
            status = os.stat(os.path.join(parent, name))
            path = os.path.relpath(os.path.join(parent, name), directory)
            found.append(f"{path} f {status.st_mode & 0o7777:o} {status.st_size} "
                         f"{status.st_mtime_ns // 10**9}.{status.st_mtime_ns % 10**9:09}0")
    return sorted(found)


@test("the kernel client runs tar in and out, cp -a, dd conv=fsync, sha256sum -c and git; a second one compares")
def kernel_client(directory):
    shared = os.path.join(directory, "shared")
    os.mkdir(shared)
    count = prepare(shared)
    check(count > 200, f"the tree has only {count} files")
    store = Store(directory, 3, 2)
    with store.serve() as gateway:
        print(in_kernel_client(gateway.port, shared, "bash", os.path.join(shared, "copy-in"), shared), end="")
        with tarfile.open(os.path.join(shared, "out.tar")) as archive:
            files = {os.path.normpath(member.name): archive.extractfile(member).read()
                     for member in archive if member.isfile()}
        expected = {}
        for parent, _, names in os.walk(os.path.join(shared, "tree")):
            for name in names:
                path = os.path.join(parent, name)
                with open(path, "rb") as file:
                    expected[os.path.relpath(path, os.path.join(shared, "tree"))] = file.read()
        check(files == expected, "the tar file that was made of the export differs from the tree")
        in_kernel_client(gateway.port, shared, "bash", os.path.join(shared, "compare"), shared)
        with open(os.path.join(shared, "listed")) as file:
            found = [line for line in file.read().splitlines() if " f " in line]
        equal(sorted(found), listing(os.path.join(shared, "tree")), "modes, sizes and mtimes")
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    # Two volumes fewer, and a client with several connections.
    store.delete((1, 3))
    with store.serve() as gateway:
        in_kernel_client(
            gateway.port, shared, "bash", os.path.join(shared, "compare"), shared, options="nconnect=4")
        check(store.decoded_stripes() > 0, "no stripe was decoded")


@test("the kernel client notices kill -9 of the gateway, sends again what was not promised, and goes on")
def kernel_client_over_restart(directory):
    shared = os.path.join(directory, "shared")
    os.mkdir(shared)
    data = random.Random(3).randbytes(30_000_000)
    with open(os.path.join(shared, "big"), "wb") as file:
        file.write(data)
    script = os.path.join(shared, "script")
    # The first half stays in the client's cache or uncommitted on the server when that is killed.
    with open(script, "w") as file:
        file.write("""\
set -eu
dd if="$1/big" of=/mnt/big bs=1M count=14 status=none
echo written >"$1/written"
until test -e "$1/restarted"; do sleep 0.2; done
dd if="$1/big" of=/mnt/big bs=1M skip=14 seek=14 conv=notrunc,fsync status=none
cmp /mnt/big "$1/big"
""")
    store = Store(directory, 3, 2)
    first = store.serve()
    port = first.port
    guest = subprocess.Popen(
        guest_command(port, shared, "bash", script, shared), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: os.path.exists(os.path.join(shared, "written")) or guest.poll() is not None)
        first.kill()
        with store.serve(port) as second:
            with open(os.path.join(shared, "restarted"), "w"):
                pass
            output, _ = guest.communicate(timeout=1000)
            equal(guest.returncode, 0, f"the exit code of the guest: {output}")
            with second.client() as client:
                equal(client.read_file(client.walk(b"big")), data, "the bytes")
    finally:
        guest.kill()
        guest.wait()
