"""What a plant needs of the machine: room, limits, a clock that somebody sets, a kernel that can wait."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import shutil
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tickplant import __version__
from tickplant.cli.doctor.finding import Finding, mebibytes
from tickplant.config import Config

DISK_BYTES = 1 << 30
KERNEL = (5, 16)
"""From here on one call waits for several lanes (futex_waitv); before, they are looked at every millisecond."""
TIMEX_BYTES = 208
"""The structure of adjtimex(2): the largest error in microseconds stands at 24; the call gives 5 for an unset clock."""
TIME_ERROR = 5


def look_at_installation() -> Iterator[Finding]:
    """Python, the native module, the system."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", python, sys.version_info >= (3, 11), "" if sys.version_info >= (3, 11) else "use 3.11")
    yield Finding("native module", __version__)
    is_linux = sys.platform == "linux"
    yield Finding("system", sys.platform, is_linux, "" if is_linux else "tickplant runs on Linux")


def look_at_machine(settings: Config) -> Iterator[Finding]:
    """Whether there is what a plant of these settings needs."""
    lanes = max(1, sum(venue.loops for venue in settings.venues.values()))
    hot = Path(settings.log.hot_root or "/dev/shm")
    wanted = lanes * settings.log.hot_bytes_max
    yield _space("memory files", hot, wanted, f"give {hot} more room, or lower log.hot_bytes_max")
    yield _kind_of(hot)
    yield _memory(wanted)
    yield _space("log directory", Path(settings.log.path), DISK_BYTES, "free some disk, or move log.path")
    soft, wanted_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0], max(1024, 64 + 32 * lanes)
    enough = soft >= wanted_files
    yield Finding("open files", str(soft), enough, "" if enough else f"raise it: ulimit -n {wanted_files}")
    cores = len(os.sched_getaffinity(0))
    enough = cores >= min(lanes, 2)
    yield Finding("cores", f"{cores} for {lanes} loops", enough, "" if enough else "use fewer loops")
    yield _cores(settings.plant.cores)
    yield _priority(settings.plant.priority)
    yield _clock()
    yield _kernel()


def _cores(wanted: list[int] | None) -> Finding:
    """Whether the loops can have the cores that they are to stay on."""
    missing = sorted(set(wanted or ()) - os.sched_getaffinity(0))
    if not wanted:
        return Finding("plant.cores", "any")
    advice = f"this process may use {_ranges(os.sched_getaffinity(0))}" if missing else ""
    return Finding("plant.cores", ", ".join(map(str, wanted)), not missing, advice)


def _ranges(cores: set[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


def _priority(wanted: str) -> Finding:
    """Whether the loops get the priority of the settings, and which they could have."""
    permitted = [name for name, take in _PRIORITIES.items() if _may(take)]
    text = f"{wanted}; permitted here: {', '.join(permitted)}"
    if wanted not in permitted:
        advice = "give the plant CAP_SYS_NICE, or a limit: LimitRTPRIO=1 and LimitNICE=-10 (systemd), ulimit -r 1"
        return Finding("plant.priority", text, False, advice)
    unbounded = wanted == "realtime" and _RT_RUNTIME.exists() and int(_RT_RUNTIME.read_text()) < 0
    advice = f"set {_RT_RUNTIME} to 950000: under a flood a loop would leave its core to nobody" if unbounded else ""
    return Finding("plant.priority", text, advice=advice)


def _may(take: Callable[[], None]) -> bool:
    """Tried on a thread that ends at once: nothing of it stays with the process."""
    refused: list[OSError] = []

    def attempt() -> None:
        try:
            take()
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return not refused


def _take_nothing() -> None:
    """What every thread may."""


def _take_nice() -> None:
    # On Linux 0 is the calling thread.
    os.setpriority(os.PRIO_PROCESS, 0, -10)


def _take_realtime() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


_PRIORITIES = {"normal": _take_nothing, "high": _take_nice, "realtime": _take_realtime}
_RT_RUNTIME = Path("/proc/sys/kernel/sched_rt_runtime_us")


def _space(check: str, folder: Path, wanted: int, advice: str) -> Finding:
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding(check, f"{existing}: {error.strerror}", False, f"make {existing} writable")
    if free >= wanted:
        return Finding(check, f"{mebibytes(free)} free in {existing}")
    return Finding(check, f"{mebibytes(free)} free in {existing}", False, f"{advice} ({mebibytes(wanted)} wanted)")


def _kind_of(hot: Path) -> Finding:
    """Memory files belong into memory: on a disk a page that is written back stalls the writer."""
    kind, longest = "unknown", -1
    place = os.path.realpath(hot)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        point = words[4].encode().decode("unicode_escape")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:
            kind, longest = words[words.index("-") + 1], len(point)
    is_memory = kind in ("tmpfs", "ramfs")
    advice = "" if is_memory else "point log.hot_root at a tmpfs: a disk stalls the feed for up to tens of milliseconds"
    return Finding("memory files on", kind, advice=advice)


def _memory(wanted: int) -> Finding:
    """Memory files count as memory of the container too."""
    text = Path("/proc/meminfo").read_text()
    found = re.search(r"MemAvailable:\s+(\d+) kB", text)
    available, where = (int(found[1]) << 10 if found else 0), "available"
    try:
        limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
        left = int(limit.read_text()) - int(used.read_text())
        if left < available:
            available, where = left, "left of the container's limit"
    except (OSError, ValueError):
        # No such limit here.
        pass
    enough = available >= wanted
    advice = "" if enough else f"lower log.hot_bytes_max: the lanes may take {mebibytes(wanted)}"
    return Finding("memory", f"{mebibytes(available)} {where}", enough, advice)


def _clock() -> Finding:
    """Whether something keeps the clock that `ts_recv` is read from."""
    timex = ctypes.create_string_buffer(TIMEX_BYTES)
    state = ctypes.CDLL(None).adjtimex(timex)
    if state < 0:
        return Finding("clock", "the kernel does not say whether it is kept")
    if state == TIME_ERROR:
        advice = "start chrony or ntpd: ts_recv is as right as this clock"
        return Finding("clock", "not kept by any time service", advice=advice)
    error_us = struct.unpack_from("q", timex.raw, 24)[0]
    return Finding("clock", f"kept, within {error_us / 1000:.1f} ms")


def _kernel() -> Finding:
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    recent = found is not None and (int(found[1]), int(found[2])) >= KERNEL
    advice = "" if recent else "5.16 or newer: before, a reader of several lanes looks each millisecond"
    return Finding("kernel", platform.release(), advice=advice)
