"""The load test's C programs: compiled when they are needed, kept in .scratch/bin under the hash of their source."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = ROOT / ".scratch"
SOURCES = Path(__file__).resolve().parent / "c"
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")
INSTALL = ("apt-get", "install", "-y", "--no-install-recommends")
COMPILER = ("gcc", "libc6-dev")
COMPILE_S_MAX = 120
INSTALL_S_MAX = 600


@dataclass(frozen=True)
class Program:
    source: str
    flags: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    header: str = ""
    """Of a library that may be missing here; the package that has it is `package`."""
    package: str = ""

    def command(self, *flags: str) -> list[str]:
        return [compiler(), *FLAGS, *self.flags, *flags, str(SOURCES / self.source), *self.libraries]


PROGRAMS = {
    "floor": Program("floor.c"),
    "hitload": Program("hitload.c"),
    "hitload-tls": Program("hitload.c", ("-DTLS",), ("-lssl", "-lcrypto"), "openssl/ssl.h", "libssl-dev"),
}


class NoCompilerError(RuntimeError):
    pass


def build(name: str) -> Path:
    """Compile a program unless this very source was compiled before; its path."""
    program = PROGRAMS[name]
    parts = [file.read_bytes() for file in (SOURCES / program.source, *sorted(SOURCES.glob("*.h")))]
    parts.append(" ".join((*FLAGS, *program.flags, *program.libraries)).encode())
    digest = hashlib.sha256(b"".join(parts)).hexdigest()[:12]
    binary = SCRATCH / "bin" / f"{name}-{os.uname().machine}-{digest}"
    if binary.exists():
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when whole: two runs at once may both compile, neither sees half a program.
    unfinished = binary.with_name(f"{binary.name}.{os.getpid()}")
    if program.header and not _has_header(program.header):
        _install(program.package)
        if not _has_header(program.header):
            raise NoCompilerError(f"no {program.header} here, and {program.package} could not be installed")
    try:
        subprocess.run(program.command("-o", str(unfinished)), check=True, timeout=COMPILE_S_MAX)
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


def _has_header(name: str) -> bool:
    command = [compiler(), "-E", "-include", name, "-x", "c", "/dev/null"]
    return subprocess.run(command, capture_output=True, check=False, timeout=COMPILE_S_MAX).returncode == 0


def _installed_compiler() -> str:
    if shutil.which("apt-get") is None:
        raise NoCompilerError("no C compiler (cc, gcc or clang) here: install one with this system's package manager")
    _install(*COMPILER)
    if path := _found_compiler():
        return path
    raise NoCompilerError(
        f"no C compiler here, and it could not be installed; tried: {' '.join((*INSTALL, *COMPILER))}"
    )


def _install(*packages: str) -> None:
    """Root gets them installed, others are told how."""
    command = " ".join((*INSTALL, *packages))
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoCompilerError(f"{packages[0]} is missing here; type: sudo {command}")
    print(f"{packages[0]} is missing here: {command}", file=sys.stderr)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Fresh images come without package lists, and old lists name files that are gone.
    subprocess.run(["apt-get", "-q", "update"], env=env, stdout=sys.stderr, check=False, timeout=INSTALL_S_MAX)
    subprocess.run([*INSTALL, *packages], env=env, stdout=sys.stderr, check=False, timeout=INSTALL_S_MAX)


if __name__ == "__main__":
    for name in PROGRAMS:
        print(build(name))
