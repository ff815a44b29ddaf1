#!/usr/bin/env python3
"""Cuts the power of a store's disks at random moments while tools/stress works on it, which then looks for what was promised.

Run by test_power_cut.py, as root and in a mount namespace of its own:

    unshare --mount power_load.py --binary SLUICE --directory DIR --policy K,M --cuts N --seed S [--preload LIBRARY]

The disks are those of power_cut.py. At a moment that is drawn from the seed the gateway is stopped where it is, so that it
promises nothing any more, and the power of all disks is cut; then it is killed, and started on what the disks held. That is
done once more when all is committed, and m volumes are lost with it, before stress reads everything back. Exit code 0: all
was there; 3: something promised was lost.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from random import Random

import gateway
from harness import check
from kill_hook import KillHook
from power_cut import LOST, Disks, Lost, serve

STRESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/stress")

# Sparse. What is overwritten takes room until its whole block group is.
IMAGE_BYTES, IMAGE_BYTES_FOR_A_CUT = 2 << 30, 128 << 20
# From the end of a start to the cut: up to so many seconds.
LONGEST_LIFE = 3.0
# Beyond what a slow machine needs for a cut, the start and the life after it.
SECONDS_FOR_A_CUT = 60


def stop_where_it_is(process):
    """SIGSTOP, and waits until no thread goes on; one inside a sync ends it, and then stops before it can tell anybody."""
    process.send_signal(signal.SIGSTOP)
    tasks = f"/proc/{process.pid}/task"
    while any(state(os.path.join(tasks, task)) in "RS" for task in os.listdir(tasks)):
        pass


def state(task):
    try:
        with open(os.path.join(task, "stat")) as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"  # it has ended


class Cutter:
    def __init__(self, arguments, disks, log):
        self.disks, self.log, self.preload = disks, log, arguments.preload
        self.random = Random(arguments.seed)
        self.lost = self.random.sample(range(sum(arguments.policy)), arguments.policy[1])
        self.left, self.done = arguments.cuts, 0
        self.server = serve(disks, log, self.preload)
        self.port = self.server.port

    def cut(self, is_last):
        if not is_last:
            if self.left == 0:
                return
            self.left -= 1
            time.sleep(self.random.uniform(0, LONGEST_LIFE))  # not to synchronise: any moment will do
        stop_where_it_is(self.server.process)
        self.disks.cut_power()
        self.server.kill()
        self.disks.unmount()
        self.disks.mount()
        self.done += 1
        if is_last:
            for volume in self.lost:
                shutil.rmtree(self.disks.volumes[volume])
        # What is looked for at the end is looked for by a gateway as it is.
        self.server = serve(self.disks, self.log, None if is_last else self.preload, self.port)


def run_stress(arguments, cutter):
    summary = os.path.join(arguments.directory, "summary.json")
    with KillHook(arguments.directory, cutter.cut) as hook:
        done = subprocess.run(
            # --keep: below k + 1 volumes nothing can be removed.
            [STRESS, "--kill-hook", hook.command, "--kill-every", "0.1", "--seconds", str(arguments.cuts * LONGEST_LIFE),
             "--seed", str(arguments.seed), "--namers", "3", "--size", "4M", "--connections", "3", "--keep", "--json", summary,
             f"nfs://127.0.0.1:{cutter.port}/"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=(arguments.cuts + 2) * SECONDS_FOR_A_CUT)
    print(f"  {cutter.done} cuts, that at the end included")
    said = [line for line in done.stdout.splitlines() if "%" not in line and line not in ("", "done")]
    print("".join(f"  {line}\n" for line in said), end="")
    if hook.failure and not isinstance(hook.failure, gateway.Refused):
        raise hook.failure
    if done.returncode != 0:
        words = [line.removeprefix("stress: ") for line in said if line.startswith("stress: ") and "; the files are" not in line]
        raise Lost(str(hook.failure or "; ".join(words)))
    check(cutter.done > 1, "no cut came under load")
    with open(summary) as file:
        found = json.load(file)
    check(found["writes_resent"] + found["writes_superseded"] + found["named_writes_resent"] > 0,
          "no write had to be sent again: there was no load when the power was cut")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--policy", required=True, type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--cuts", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--preload")
    arguments = parser.parse_args()
    gateway.binary = arguments.binary
    k, m = arguments.policy
    disks = Disks(arguments.directory, k + m, IMAGE_BYTES + arguments.cuts * IMAGE_BYTES_FOR_A_CUT)
    log = os.path.join(arguments.directory, "gateway.log")
    disks.format(k, m)
    try:
        cutter = Cutter(arguments, disks, log)
        print(f"seed {arguments.seed}: {arguments.cuts} cuts under load, and one without volumes {sorted(cutter.lost)}", flush=True)
        run_stress(arguments, cutter)
    except Lost as loss:
        print(f"lost: {loss}")
        return LOST
    finally:
        for server in list(gateway.Gateway.running):
            server.kill()
        disks.unmount()
    disks.delete()
    return 0


if __name__ == "__main__":
    sys.exit(main())
