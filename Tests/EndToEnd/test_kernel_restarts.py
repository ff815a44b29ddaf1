"""The kernel's client works on while the gateway is killed and started again on the same port."""

import os
import random
import subprocess
import time

from harness import check, equal, test
from kernel_client import guest_command, guest_program, wait_for
from store import Store


@test("kill -9 in the middle of a kernel client's work: it goes on after each restart, and every byte is right")
def restarts(directory):
    shared = os.path.join(directory, "shared")
    os.mkdir(shared)
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    store = Store(directory, 3, 2)
    gateway = store.serve()
    port = gateway.port

    def told(word):
        wait_for(lambda: os.path.exists(os.path.join(shared, word)) or guest.poll() is not None)

    def tell(word):
        with open(os.path.join(shared, word), "w"):
            pass

    log = os.path.join(directory, "guest.log")
    with open(log, "w") as out:
        guest = subprocess.Popen(
            guest_command(port, shared, *guest_program("restarts"), shared), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        told("mapped")
        gateway.kill()
        gateway = store.serve(port)
        with gateway.client() as client:
            equal(client.read_file(client.walk(b"mapped")), random.Random(21).randbytes(5_000_001),
                  "the mapped bytes, read past the kernel's client")
        tell("compared")
        told("busy")
        for _ in range(3):
            time.sleep(chance.uniform(0.5, 3))  # not to synchronise: any moment will do
            gateway.kill()
            gateway = store.serve(port)
        tell("enough")
        guest.wait(900)
        check(gateway.process.poll() is None, "the gateway ended")
        equal(gateway.stop(), 0, "the exit code of SIGTERM")
    finally:
        guest.kill()
        guest.wait()
        with open(log, errors="replace") as file:
            print(f"  seed {seed}\n{file.read()}", end="")
    equal(guest.returncode, 0, "the exit code of the guest")
