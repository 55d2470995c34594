"""What the tape router wants of the kernel, each with the line that gives it."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from pathlib import Path

from tickplant.cli.common import Exit
from tickplant.cli.doctor.finding import Finding, tell

KERNEL_LEAST = (4, 17)
"""The first kernel that decrypts TLS for a reader."""
RMEM_LEAST = 4 << 20


def look_at_kernel(pipe_bytes: int, root: Path = Path("/proc")) -> Iterator[Finding]:
    """A finding for each thing. `root`: where the kernel tells of itself."""
    release = platform.release()
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    yield Finding(
        "kernel",
        release,
        version >= KERNEL_LEAST,
        "" if version >= KERNEL_LEAST else "install Linux 4.17 or newer; 6.14 renews TLS keys too",
    )
    yield _module(root)
    yield _setting(root, "fs.pipe-user-pages-soft", 0, "pipes of users without privileges shrink above it")
    yield _setting(root, "fs.pipe-user-pages-hard", 0, "pipes are refused above it")
    yield _setting(root, "fs.pipe-max-size", pipe_bytes, "the largest pipe of users without privileges")
    yield _setting(root, "net.core.rmem_max", RMEM_LEAST, "the socket's buffer for a burst")


def _module(root: Path) -> Finding:
    # The first stands where TLS is built in or loaded; the second names loaded modules.
    offered = _read(root / "sys/net/ipv4/tcp_available_ulp").split()
    loaded = [line.split()[0] for line in _read(root / "modules").splitlines() if line]
    if "tls" in offered or "tls" in loaded:
        return Finding("tls module", "present")
    fix = "sudo modprobe tls && echo tls | sudo tee /etc/modules-load.d/tls.conf"
    return Finding("tls module", "absent: TLS stays in user space", False, fix)


def _setting(root: Path, name: str, wanted: int, what: str) -> Finding:
    """A number of the kernel; 0 wanted is no limit, else the number is the least."""
    text = _read(root / "sys" / name.replace(".", "/")).strip()
    if not text.isdigit():
        return Finding(name, "unknown: the kernel does not tell", False, f"sudo sysctl -w {name}={wanted}")
    good = int(text) == 0 if wanted == 0 else int(text) >= wanted
    return Finding(name, f"{text} ({what})", good, "" if good else f"sudo sysctl -w {name}={wanted}")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def check(pipe_bytes: int, *, json: bool) -> Exit:
    """What the kernel gives, one line each. Exit 1: something is not as the router wants it; it runs all the same."""
    return tell(look_at_kernel(pipe_bytes), json=json)
