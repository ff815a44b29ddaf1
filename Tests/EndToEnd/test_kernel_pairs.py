"""Two kernels at once, each with a client of its own."""

import os
import subprocess

from harness import equal, test
from kernel_client import guest_command, guest_program
from store import Store


@test("two kernels race for names, write halves of one file and append by turns")
def two_kernels(directory):
    shared = os.path.join(directory, "shared")
    os.mkdir(shared)
    with Store(directory, 3, 2).serve() as gateway:
        guests = []
        try:
            for side in (0, 1):
                with open(os.path.join(directory, f"guest-{side}.log"), "w") as log:
                    guests.append(subprocess.Popen(
                        # Two machines have two addresses. The verifiers of their O_EXCL are the same now and then:
                        # Linux makes them of its clock and a process id, and these two have booted alike.
                        guest_command(gateway.port, shared, *guest_program("two_kernels"), shared, str(side),
                                      source=f"127.0.0.{side + 1}"),
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            codes = [guest.wait(900) for guest in guests]
        finally:
            for side, guest in enumerate(guests):
                guest.kill()
                guest.wait()
                with open(os.path.join(directory, f"guest-{side}.log"), errors="replace") as log:
                    print(log.read(), end="")
        equal(codes, [0, 0], "the exit codes of the guests")
    won = []
    for side in (0, 1):
        with open(os.path.join(shared, f"won-{side}")) as file:
            won.append(file.read().splitlines())
    print(f"  won: {len(won[0])} and {len(won[1])}")
    kinds = ("create", "mkdir", "symlink", "link", "rename")
    names = sorted(f"{what} {number}" for what in kinds for number in range(40))
    equal(sorted(won[0] + won[1]), names, "what was won, by both together")
