"""The servers that are measured: Sluice, and nfs-ganesha on a plain directory of the same disk."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

from machine import forget_cached_pages

# Generous: a machine may be much slower than the one where this was written (0.3 s, 2 s).
START_SECONDS = 120
STOP_SECONDS = 300


class Failed(Exception):
    """A server or the load did not do what it must; the words are for the user."""


def as_root():
    """What stands before a command that needs root."""
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        raise Failed("nfs-ganesha needs root, and there is no sudo; --servers sluice measures Sluice alone")
    return ["sudo"]


def free_ports(count):
    """So many ports of 127.0.0.1 that nobody has now. Somebody may take one until it is used: then a start fails."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def answers_null(port):
    """Whether a call of NFSv3's NULL is answered; what accepts the connection must answer within the time of a start."""
    call = struct.pack(">11I", 0x80000028, 1, 0, 2, 100003, 3, 0, 0, 0, 0, 0)
    try:
        with socket.create_connection(("127.0.0.1", port), START_SECONDS) as connection:
            connection.sendall(call)
            return len(connection.recv(28, socket.MSG_WAITALL)) == 28
    except OSError:
        return False


class Server:
    """A running server: `nfs_port`, `mount_port`, `export`, and `pid`, the one process whose CPU and memory count.

    `files` is where it keeps what clients write.
    """

    # Of the bytes that the large file on it holds; None while there is none.
    large_file_seed = None

    def __init__(self, directory):
        self.directory = os.path.join(directory, self.name)
        self.log = os.path.join(self.directory, "log")
        os.makedirs(self.directory)

    def wait_until(self, is_ready, every_seconds=0.05):
        end = time.monotonic() + START_SECONDS
        while not is_ready():
            if self.process.poll() is not None or time.monotonic() > end:
                with open(self.log, errors="replace") as log:
                    raise Failed(f"{self.name} does not start:\n{log.read()[-2000:]}")
            time.sleep(every_seconds)

    def memory_kib(self, field):
        """VmHWM, the peak, or VmRSS, of /proc/PID/status (proc(5))."""
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise Failed(f"{self.name} is gone; its log is {self.log}")

    def descriptors(self):
        """File descriptors that it has open now."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


# An eighth of 4 GiB: half of it for what write-back may hold.
MEMORY = "512MiB"


class Sluice(Server):
    """`sluice serve` with five volumes, a memory budget that does not depend on the machine, and all else by default."""

    name = "sluice"
    export = "/"

    def __init__(self, directory, binary, memory=MEMORY, journal=None):
        super().__init__(directory)
        self.binary = binary
        self.options = ["--journal", journal] if journal else []
        self.files = os.path.join(self.directory, "store")
        self.memory = memory
        self._start(port=0)
        self.nfs_port = None
        self.wait_until(self._serves)
        self.mount_port = self.nfs_port
        self.describes = f"Sluice, RS-3-2-1024k on five directories, --memory {memory}"

    def _start(self, port):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                # It ends with the bench, however that ends.
                ["setpriv", "--pdeathsig", "TERM", self.binary, "serve", "--data", self.files, "--volumes", "5",
                 "--listen", f"127.0.0.1:{port}", "--memory", self.memory, *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = self.process.pid

    def kill_and_start(self):
        """kill -9, and a start from the disk: the seconds from the start to the first reply."""
        self.process.kill()
        self.process.wait()
        forget_cached_pages(self.directory)
        before = time.monotonic()
        self._start(self.nfs_port)
        self.wait_until(lambda: answers_null(self.nfs_port), every_seconds=0.002)
        return time.monotonic() - before

    def _serves(self):
        with open(self.log, errors="replace") as log:
            for line in log:
                if "serving nfs://" in line:
                    address = line.split("serving nfs://", 1)[1].split("/", 1)[0]
                    self.nfs_port = int(address.rsplit(":", 1)[1])
        return self.nfs_port is not None

    def status(self):
        """What `sluice status` says."""
        done = subprocess.run([self.binary, "status", "--json", "--data", self.files], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"sluice status: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def counters(self):
        return self.status()["counters"]

    def journal_bytes(self):
        """How much the journal's live segments take, as its status says."""
        return self.status()["journal"]["bytes"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# ganesha exits unless it can register with an rpcbind: it gets one that only it can see, behind a private /run and in
# a network namespace of its own. Both end when this script's standard input does, so also when the bench is killed.
GANESHA = """
exec 3<&0 </dev/null
mount -t tmpfs run /run
unshare --net rpcbind -f -w &
rpcbind=$!
for tick in $(seq 100); do [ -S /run/rpcbind.sock ] && break; sleep 0.05; done
ganesha.nfsd -F -f "$1/ganesha.conf" -L "$1/log" -N NIV_WARN -p "$1/pid" &
ganesha=$!
{ read -r _ <&3; kill $ganesha; } &
watch=$!
wait $ganesha
kill $watch $rpcbind
"""

GANESHA_CONFIGURATION = """
NFS_CORE_PARAM {{
    Bind_addr = 127.0.0.1;
    NFS_Port = {nfs_port};
    MNT_Port = {mount_port};
    Protocols = 3;
    Enable_NLM = false;
    Enable_RQUOTA = false;
}}
# No clients of NFSv4 or locks: nobody has to be waited for after a start.
NFSv4 {{
    Graceless = true;
}}
EXPORT {{
    Export_Id = 1;
    Path = "{files}";
    Pseudo = /bench;
    Protocols = 3;
    Transports = TCP;
    Access_Type = RW;
    Squash = No_Root_Squash;
    SecType = sys;
    FSAL {{ Name = VFS; }}
}}
"""


def ganesha_command(directory, nfs_port, mount_port):
    """Writes the configuration, for files/ in the directory; what runs it in the foreground."""
    with open(os.path.join(directory, "ganesha.conf"), "w") as file:
        file.write(GANESHA_CONFIGURATION.format(
            nfs_port=nfs_port, mount_port=mount_port, files=os.path.join(directory, "files")))
    return [*as_root(), "unshare", "--mount", "bash", "-c", GANESHA, "ganesha", directory]


class Ganesha(Server):
    """nfs-ganesha with its VFS back end and all else by default, without what NFSv3 alone does not need."""

    name = "ganesha"
    packages = ["nfs-ganesha", "nfs-ganesha-vfs", "rpcbind"]

    def __init__(self, directory):
        super().__init__(directory)
        self.files = os.path.join(self.directory, "files")
        os.mkdir(self.files)
        self.export = self.files
        self.nfs_port, self.mount_port = free_ports(2)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                ganesha_command(self.directory, self.nfs_port, self.mount_port), stdin=subprocess.PIPE, stdout=log, stderr=log)
        self.wait_until(lambda: listens(self.nfs_port) and listens(self.mount_port))
        with open(os.path.join(self.directory, "pid")) as file:
            self.pid = int(file.read())
        version = subprocess.run(["ganesha.nfsd", "-v"], capture_output=True, text=True).stdout
        number = next((line.split()[-1] for line in version.splitlines() if "Release" in line), "of unknown version")
        self.describes = f"nfs-ganesha {number} with VFS on one directory, no redundancy"

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"ganesha, pid {self.pid}, does not stop") from None
