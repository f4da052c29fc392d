"""A real Slurm of several nodes on one machine, without systemd and without root's help.

    python tests/cluster/onebox.py            starts one, says how to use it, stops it at Ctrl-C

munge, slurmctld and one slurmd a node run as children of the process that starts them, in the
foreground, with all their files in one folder: whoever starts them holds their process ids, and
they end with that process even if it is killed. Needs Debian's slurm-wlm, munge, slurm-client
(22.05 or newer) and libpmix-dev.

What is particular to many nodes on one host:

- Every node has its own port, spool and temporary folder; PMIx would mix the nodes up otherwise.
- There is no accounting database, so jobs name no account and their states come from squeue.
- Snakemake's job step strips every ``SLURM_*`` variable, so ``srun`` inside a job would look for
  /etc/slurm/slurm.conf. A small ``srun`` that names the right file stands first on the path.
- A job of a node that died starts again when its credential has run out: after seconds here, not
  after the usual two minutes.
- A node's cores and memory are as told, not as found; what a job may use of its memory is watched
  by sampling (OverMemoryKill), since cgroups need a machine of one's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COMMANDS = ("slurmctld", "slurmd", "munged", "munge", "sbatch", "srun", "squeue", "scontrol")
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
_SBIN = os.pathsep.join(["/usr/sbin", "/usr/local/sbin"])
_MARK = "TESSERA_ONEBOX"  # in the environment of every job: tells its processes from others

_CONF = """\
ClusterName=onebox
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool/%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
TmpFS={folder}/tmp/%n
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=2,sched_min_interval=0
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
InactiveLimit=0
MinJobAge=3600
KillWait=5
DefMemPerCPU=500
NodeName=node[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] \
CPUs={cpus} Sockets=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory={mem_mb} State=UNKNOWN
PartitionName=batch Nodes=ALL Default=YES MaxTime=600 DefaultTime=5 State=UP
"""


@functools.cache
def missing() -> list[str]:
    """Return what of Slurm is not installed here: its commands, and the library of PMIx.

    Slurm's plugin opens ``libpmix.so``, which Debian only recommends and keeps in a folder of its
    own; without it ``srun --mpi=pmix`` fails.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), _SBIN])
    found = [name for name in COMMANDS if shutil.which(name, path=path) is None]
    if not any(True for folder in _LIBRARIES for _ in Path(folder).glob("**/libpmix.so")):
        found.append("libpmix.so")
    return found


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG


def _free_ports(count: int) -> int:
    """Return the first of ``count`` ports in a row that nobody listens on."""
    for _ in range(200):
        first = 20000 + secrets.randbelow(30000)
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + count):
                    sock = held.enter_context(socket.socket())
                    sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no free ports in a row")


@dataclass
class OneBox:
    """A Slurm whose files lie in ``folder``; use :func:`running` to start one and stop it.

    Attributes:
        folder: everything it writes.
        nodes, cpus, mem_mb: how many nodes, and what each says it has.
    """

    folder: Path
    nodes: int = 4
    cpus: int = 2
    mem_mb: int = 12000
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user of this cluster."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "PMI", "OMPI_"))}
        env["PATH"] = os.pathsep.join([str(self.folder / "bin"), env.get("PATH", ""), _SBIN])
        return env | {"SLURM_CONF": str(self.folder / "slurm.conf"), _MARK: str(self.folder)}

    def start(self) -> None:
        """Start all daemons and wait until every node is idle.

        Raises:
            RuntimeError: if something does not come up; the message ends with its log.
        """
        self._write()
        socket_path = self.folder / "munge.socket"
        self._spawn(
            "munged",
            *("--foreground", "--force", "--num-threads=2"),
            *(f"--key-file={self.folder / 'munge.key'}", f"--socket={socket_path}"),
            *(f"--pid-file={self.folder / 'munged.pid'}",),
            *(f"--log-file={self.folder / 'log/munged.log'}",),
            *(f"--seed-file={self.folder / 'munge.seed'}",),
        )
        self._wait("munged", lambda: self._works("munge", "-S", str(socket_path), "-n"))
        self._spawn("slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
        self._wait("slurmctld", lambda: self._works("scontrol", "ping"))
        for number in range(1, self.nodes + 1):
            self._spawn_node(number)
        self._wait("slurmctld", lambda: self.idle() == self.nodes)

    def stop(self) -> None:
        """End all jobs and daemons: those that were started here, by their process ids."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.run("scancel", f"--user={getpass.getuser()}", timeout=10)
        deadline = time.monotonic() + 10
        while self.job_processes() and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in self.job_processes():
            _kill(pid)
        for child in reversed(self._children.values()):
            _end(child)
        self._children.clear()

    def run(self, *command: str, timeout: float = 30) -> str:
        """Run a command as a user of this cluster and return what it printed."""
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        )
        return done.stdout

    def idle(self) -> int:
        """Number of nodes on which a job could start now."""
        with contextlib.suppress(subprocess.SubprocessError):
            return len(self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())
        return 0

    def jobs(self, states: str = "RUNNING") -> dict[str, str]:
        """Job id -> its comment (Snakemake's rule and wildcards) of jobs in the given states."""
        lines = self.run("squeue", "-h", "-t", states, "-o", "%i|%k").splitlines()
        return dict(line.split("|", 1) for line in lines)

    def node_down(self, number: int) -> None:
        """Let a node die at once, with every process that runs on it."""
        name = f"node{number}"
        child = self._children.pop(name)
        child.kill()
        child.wait()
        for pid in self.job_processes(name):
            _kill(pid)
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=fault")

    def node_up(self, number: int) -> None:
        """Bring a node back."""
        self._spawn_node(number)
        name = f"node{number}"
        self._wait(
            name, lambda: self._works("scontrol", "update", f"nodename={name}", "state=idle")
        )

    def job_processes(self, node: str | None = None) -> list[int]:
        """Processes of this cluster's jobs, with the slurmstepd above them; on one node or all."""
        parents, roots = {}, set()
        for place in Path("/proc").iterdir():
            if not place.name.isdigit():
                continue
            pid = int(place.name)
            with contextlib.suppress(OSError):
                parents[pid] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                env = (place / "environ").read_bytes().split(b"\0")
                here = f"{_MARK}={self.folder}".encode() in env
                names = [e for e in env if e.startswith(b"SLURMD_NODENAME=")]
                if (
                    here
                    and names
                    and (node is None or names[0] == b"SLURMD_NODENAME=" + node.encode())
                ):
                    roots.add(pid)
        steps = {parents[p] for p in roots if p in parents and _is_step(parents[p])}
        found = roots | steps
        while more := {p for p, above in parents.items() if above in found} - found:
            found |= more
        return sorted(found)

    def _write(self) -> None:
        folder = self.folder
        for name in ("bin", "log", "state", *(f"spool/node{n + 1}" for n in range(self.nodes))):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(1, self.nodes + 1):
            (folder / f"tmp/node{number}").mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        (folder / "log").chmod(0o700)
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        port = _free_ports(self.nodes + 1)
        (folder / "slurm.conf").write_text(
            _CONF.format(
                host=socket.gethostname().split(".")[0],
                user=getpass.getuser(),
                folder=folder,
                port=port,
                first=port + 1,
                last=port + self.nodes,
                nodes=self.nodes,
                cpus=self.cpus,
                mem_mb=self.mem_mb,
            )
        )
        srun = folder / "bin/srun"
        real = shutil.which("srun")
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {real} "$@"\n')
        srun.chmod(0o755)

    def _spawn_node(self, number: int) -> None:
        self._spawn("slurmd", "-D", "-N", f"node{number}", name=f"node{number}")

    def _spawn(self, program: str, *arguments: str, name: str | None = None) -> None:
        path = shutil.which(program, path=self.environment["PATH"])
        assert path is not None, program
        with open(self.folder / f"log/{name or program}.out", "ab") as out:
            self._children[name or program] = subprocess.Popen(
                [path, *arguments],
                env={k: v for k, v in self.environment.items() if k != _MARK},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def _works(self, *command: str) -> bool:
        with contextlib.suppress(subprocess.SubprocessError):
            self.run(*command, timeout=5)
            return True
        return False

    def _wait(self, name: str, ready: object, seconds: float = 30) -> None:
        assert callable(ready)
        deadline = time.monotonic() + seconds
        while not ready():
            child = self._children[name]
            if child.poll() is not None or time.monotonic() > deadline:
                logs = "".join(
                    p.read_text(errors="replace")[-1500:]
                    for p in sorted((self.folder / "log").glob(f"*{name}*"))
                )
                raise RuntimeError(f"{name} did not come up within {seconds:.0f} s:\n{logs}")
            time.sleep(0.1)


def _is_step(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"slurmstepd" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextlib.contextmanager
def running(nodes: int = 4, cpus: int = 2, mem_mb: int = 12000) -> Iterator[OneBox]:
    """A Slurm that is up within, in a temporary folder of its own: sockets need short paths."""
    folder = Path(tempfile.mkdtemp(prefix="onebox-"))
    box = OneBox(folder, nodes, cpus, mem_mb)
    try:
        box.start()
        yield box
    finally:
        box.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Start one and keep it until Ctrl-C."""
    with running() as box:
        env = box.environment
        print(f"export SLURM_CONF={env['SLURM_CONF']} {_MARK}={env[_MARK]}")
        print(f'export PATH={box.folder / "bin"}:"$PATH"')
        print(f"{box.nodes} nodes are idle; Ctrl-C stops them", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
