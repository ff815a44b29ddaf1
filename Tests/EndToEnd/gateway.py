"""Starts, asks and ends gateways. Each is known by its process id; its log stays in the test's directory."""

import json
import os
import resource
import signal
import subprocess
import threading
import time

from nfs3 import Client

# Generous, since a machine may be several times slower than the one these were measured on (0.2 s, 1 s).
START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 300

# Set by the runner.
binary = None


class Refused(Exception):
    """`sluice serve` ended before it served."""

    def __init__(self, code, log):
        super().__init__(f"exit code {code}: {log.strip()}")
        self.code = code
        self.log = log


def sluice(*arguments, timeout=STOP_TIMEOUT_SECONDS):
    """Runs a command of the binary to its end: (exit code, standard output, standard error)."""
    done = subprocess.run(
        [binary, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


class Gateway:
    """One running `sluice serve`; usable in a `with` statement, which kills it at the end."""

    # Those that run, so that the runner can end what a failed test left behind.
    running = []

    def __init__(self, *arguments, log, environment=None, max_open_files=None):
        """Starts it and waits until it serves; raises Refused when it ends instead.

        `log` is the path of a file to which its standard error is appended. `max_open_files` becomes its limit,
        soft and hard.
        """
        def prepare():
            # For `limit_file_size`: a write beyond it is to fail, not to end the process.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            if max_open_files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (max_open_files, max_open_files))

        self.lines = []
        self.log = log
        self.started = threading.Event()
        self.port = None
        before = time.monotonic()
        self.process = subprocess.Popen(
            [binary, "serve", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace",
            env={**os.environ, **environment} if environment else None,
            preexec_fn=prepare)
        Gateway.running.append(self)
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        if not self.started.wait(START_TIMEOUT_SECONDS):
            self.kill()
            raise TimeoutError(f"the gateway neither served nor ended; its log is {log}")
        if self.port is None:
            code = self._wait(STOP_TIMEOUT_SECONDS)
            raise Refused(code, "".join(self.lines))
        self.start_seconds = time.monotonic() - before

    def _read_log(self):
        with open(self.log, "a") as log:
            for line in self.process.stderr:
                log.write(line)
                log.flush()
                self.lines.append(line)
                if self.port is None and "serving nfs://" in line:
                    address = line.split("serving nfs://", 1)[1].split("/", 1)[0]
                    self.port = int(address.rsplit(":", 1)[1])
                    self.started.set()
        self.started.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()

    def client(self, uid=0, gid=0, groups=()):
        return Client(self.port, uid, gid, groups)

    def _wait(self, timeout):
        code = self.process.wait(timeout)
        self.reader.join(timeout)
        if self in Gateway.running:
            Gateway.running.remove(self)
        return code

    def kill(self):
        """kill -9: it gets no chance to do anything."""
        self.process.kill()
        self._wait(STOP_TIMEOUT_SECONDS)

    def wait(self):
        """Waits until it ends by itself; returns the exit code."""
        return self._wait(STOP_TIMEOUT_SECONDS)

    def limit_file_size(self, size):
        """From now on all that it writes beyond `size` in a file fails, whatever the disk: EFBIG."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait(STOP_TIMEOUT_SECONDS)


def status(data, *arguments):
    """What `sluice status --json` says."""
    code, output, errors = sluice("status", "--json", "--data", data, *arguments)
    if code != 0:
        raise Refused(code, errors)
    return json.loads(output)
