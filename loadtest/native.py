"""The load test's C programs: compiled when they are needed, kept in .scratch/bin under the hash of their source."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = ROOT / ".scratch"
SOURCES = Path(__file__).resolve().parent / "c"
PROGRAMS = ("floor", "hitload")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
INSTALL = ("apt-get", "install", "-y", "--no-install-recommends", "gcc", "libc6-dev")
COMPILE_S_MAX = 120
INSTALL_S_MAX = 600


class NoCompilerError(RuntimeError):
    pass


def build(program: str) -> Path:
    """Compile `program` unless this very source was compiled before; its path."""
    source = SOURCES / f"{program}.c"
    digest = hashlib.sha256(source.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:12]
    binary = SCRATCH / "bin" / f"{program}-{os.uname().machine}-{digest}"
    if binary.exists():
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when whole: two runs at once may both compile, neither sees half a program.
    unfinished = binary.with_name(f"{binary.name}.{os.getpid()}")
    command = [compiler(), *FLAGS, "-o", str(unfinished), str(source)]
    try:
        subprocess.run(command, check=True, timeout=COMPILE_S_MAX)
        unfinished.rename(binary)
    finally:
        unfinished.unlink(missing_ok=True)
    return binary


def compiler() -> str:
    """The C compiler's path. Where there is none, root gets one installed and others are told how."""
    return _found_compiler() or _installed_compiler()


def _found_compiler() -> str | None:
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and (path := shutil.which(name)):
            return path
    return None


def _installed_compiler() -> str:
    command = " ".join(INSTALL)
    if shutil.which("apt-get") is None:
        raise NoCompilerError("no C compiler (cc, gcc or clang) here: install one with this system's package manager")
    if os.geteuid() != 0:
        raise NoCompilerError(f"no C compiler here; type: sudo {command}")
    print(f"no C compiler here: {command}", file=sys.stderr)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Fresh images come without package lists, and old lists name files that are gone.
    subprocess.run(["apt-get", "-q", "update"], env=env, stdout=sys.stderr, check=False, timeout=INSTALL_S_MAX)
    subprocess.run(INSTALL, env=env, stdout=sys.stderr, check=False, timeout=INSTALL_S_MAX)
    if path := _found_compiler():
        return path
    raise NoCompilerError(f"no C compiler here, and it could not be installed; tried: {command}")


if __name__ == "__main__":
    for name in PROGRAMS:
        print(build(name))
