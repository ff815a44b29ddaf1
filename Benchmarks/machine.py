"""The machine that is measured on: what it is, its page cache."""

import os
import platform
import resource


def describe():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
            "load_average": os.getloadavg(), "hard_limit_of_open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[1]}


def forget_cached_pages(directory):
    """Drops the files below from the page cache, without root; only clean pages go, hence the sync."""
    os.sync()
    for parent, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.isfile(path):
                continue
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
