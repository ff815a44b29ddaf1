"""A store on the disk of a test: where its volumes and block files are, and ways to lose them."""

import os
import shutil

from gateway import Gateway, status


class Store:
    """A store of k + m volumes under one data directory, as `--data DIR --volumes N` makes it."""

    def __init__(self, directory, data_units, parity_units, cell_kib=1024):
        self.directory = directory
        self.data = os.path.join(directory, "data")
        self.data_units, self.parity_units = data_units, parity_units
        self.count = data_units + parity_units
        self.policy = f"RS-{data_units}-{parity_units}-{cell_kib}k"
        self.cell = cell_kib << 10
        self.stripe = data_units * self.cell
        self.volumes = [os.path.join(self.data, f"volume-{index:02}") for index in range(self.count)]

    def serve(self, port=0, max_open_files=None, config=None, memory="1GiB"):
        return Gateway(
            # The same on every machine, for tests that look at the memory that is taken.
            *(("--memory", memory) if memory else ()),
            "--data", self.data, "--volumes", self.count, "--policy", self.policy, "--listen", f"127.0.0.1:{port}",
            *(("--config", config) if config else ()), log=os.path.join(self.directory, "gateway.log"), max_open_files=max_open_files)

    def status(self):
        return status(self.data)

    def decoded_stripes(self):
        return self.status()["counters"]["decodedStripes"]

    def block_files(self, volume):
        """(path, index in the block group) of each block file of a volume that holds bytes, checksum files excluded.

        The index is the low four bits of the block id, as in HDFS.
        """
        found = []
        for directory, _, names in os.walk(os.path.join(self.volumes[volume], "blocks")):
            for name in names:
                path = os.path.join(directory, name)
                if name.startswith("blk_") and "_" not in name[4:] and os.path.getsize(path):
                    found.append((path, int(name[4:]) & 15))
        return sorted(found)

    def dump_files(self):
        """What waits outside of memory, on any volume."""
        return [name for volume in self.volumes if os.path.isdir(os.path.join(volume, "dump"))
                for name in os.listdir(os.path.join(volume, "dump"))]

    def damage(self, volumes, random):
        """Overwrites and truncates, in turns, all block files of the volumes; the gateway may be running.

        Returns how many of them held data rather than parity.
        """
        data_blocks = 0
        for volume in volumes:
            files = self.block_files(volume)
            assert files, f"{self.volumes[volume]} holds no blocks: nothing would be lost"
            for number, (path, index) in enumerate(files):
                size = os.path.getsize(path)
                if number % 2 == 0:
                    with open(path, "r+b") as file:  # the same inode: the gateway may have it open
                        for offset in range(0, size, 1 << 20):
                            file.write(random.randbytes(min(1 << 20, size - offset)))
                else:
                    os.truncate(path, random.randrange(size))
                data_blocks += index < self.data_units
        return data_blocks

    def delete(self, volumes):
        """Deletes volumes whole; only while nothing serves the store (open files would outlive it)."""
        for volume in volumes:
            shutil.rmtree(self.volumes[volume])

    def save(self, name):
        """Copies the stopped store aside, to be brought back any number of times."""
        shutil.copytree(
            self.data, os.path.join(self.directory, name), ignore=shutil.ignore_patterns("*.sock"))

    def bring_back(self, name):
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(os.path.join(self.directory, name), self.data)
