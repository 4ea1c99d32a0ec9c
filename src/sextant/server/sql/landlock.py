"""Confines the telemetry process, and each query process: what untrusted SQL cannot reach even
where the guard has a hole. Called once, before a store is opened."""

import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import sextant
from sextant.stores import landlock

# What Python, the C library and ClickHouse read while they run: their own code, names and zones,
# and figures about this machine. Nothing of people: no home, no /etc as a whole, no other process
# below /proc.
_SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/version",
    "/proc/mounts",
    "/proc/filesystems",
    "/proc/sys/vm",
    "/proc/sys/kernel",
    "/sys/fs/cgroup",
    "/sys/devices/system",
    "/sys/kernel/mm/transparent_hugepage",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
)


def confine(
    folder: Path,
    lake: Path,
    *,
    connect: Iterable[int],
    also_read: Iterable[Path] = (),
    starts_python: bool = False,
) -> str:
    """Leave this process a folder to write, the lake to read, and some ports to connect to. The
    lake becomes its working directory.

    folder     the telemetry store's folder, or a query process's own; made when absent
    lake       the lake's root, made when absent: a folder that is made later could not be read
    connect    TCP ports: the coordinator's, and that of a ClickHouse elsewhere
    also_read  folders
    starts_python  it starts processes of its own with this interpreter; no other program can be
                   executed
    Returns what holds from now on, in words; "" when the kernel has no Landlock and nothing holds.
    """
    passing = folder / "tmp"
    for one in (folder, lake, passing):
        one.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(passing)  # chDB makes a folder there when it is imported
    os.chdir(lake)  # chDB makes tables of files below the working directory, and of no others
    own = Path(
        "/proc/self"
    ).resolve()  # this process: the link itself would lead to whoever follows it
    # Python's libraries, not its whole prefix: that may be /usr, which holds what others configure
    code = {
        os.path.join(sys.prefix, "pyvenv.cfg"),  # read when Python starts
        *(
            os.path.join(prefix, name)
            for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
            for name in ("lib", "lib64")
        ),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
        sextant.__path__[0],
    }
    abi = landlock.restrict(
        read=[
            lake.resolve(),
            *(one.resolve() for one in also_read),
            own,
            *(Path(os.path.realpath(p)) for p in sorted(code)),
            *(Path(p) for p in _SYSTEM),
        ],
        execute=[Path(sys.executable).resolve()] if starts_python else [],
        write=[folder.resolve(), Path("/dev/null"), own / "fd"],
        connect=tuple(connect),
    )
    if not abi:
        return ""
    return f"Landlock {abi}: files{' and connections' if abi >= 4 else ''}"
