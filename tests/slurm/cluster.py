"""A real Slurm cluster on this machine: munged, slurmctld, and a slurmd for each node. Root only.

    python tests/slurm/cluster.py FOLDER [NODES]      starts one, prints how to use it, stops it at its end

A node is a set of Linux namespaces: it has its own host name, address, processes and /dev/shm, and shares /tmp and the
rest, as over NFS. It can lose power, its slurmd, or a shared folder. Everything ends with the process that started it,
however that ends. Debian packages: slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge iproute2.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SETTINGS = Path(__file__).with_name("slurm.conf.in")
INIT = """\
hostname "$2"; mount -t proc proc /proc; mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount --bind "$1/etc/hosts" /etc/hosts
ip link set lo up
for _ in $(seq 100); do ip link show eth0 >/dev/null 2>&1 && break; sleep 0.05; done
ip addr add "$3/24" dev eth0; ip link set eth0 up
sleep infinity & wait
"""
"""Process 1 of a node: it waits for its network interface."""
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol", "ip", "nsenter", "unshare")
GPUS = 4
"""GPUs that Slurm is told each node has."""
PATIENCE = 30.0


def missing() -> str:
    """Return why no cluster can be started here; empty if one can."""
    if os.geteuid():
        return "a Slurm cluster of several nodes on one machine needs root"
    absent = [name for name in NEEDED if not _which(name)]
    return f"not installed: {', '.join(absent)} (`make test-slurm` installs them where it can)" if absent else ""


class Cluster:
    """``with Cluster(folder, nodes=2) as cluster:`` then sbatch and the like, with ``cluster.environment``."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder, self.nodes = folder, [f"n{number}" for number in range(1, nodes + 1)]
        draw = int(hashlib.sha1(str(folder).encode()).hexdigest()[:4], 16)
        self._tag = f"{draw:04x}"
        self._subnet = f"10.{128 + draw // 256 % 64}.{draw % 256}"
        self._port = 40000 + draw % 4000
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._slurm_conf = folder / "etc" / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which Slurm's commands find this cluster."""
        return {**os.environ, "SLURM_CONF": str(self._slurm_conf), "PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"}

    def __enter__(self) -> "Cluster":
        for name in ("etc", "log", "state", "spool", "dev"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._configure()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all that was started."""
        for name in reversed(list(self._running)):
            self._end(name, signal.SIGKILL)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True, check=False)

    def call(self, *words: str, check: bool = True) -> str:
        """Run one of Slurm's commands; return its stdout."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def on(self, node: str, *words: str) -> str:
        """Run a command on a node; return its stdout."""
        return subprocess.run(self._enter(node) + list(words), capture_output=True, text=True, check=True).stdout

    def lose_power(self, node: str) -> None:
        """Kill all processes of the node at once."""
        self._end(f"node {node}", signal.SIGKILL)
        self._running.pop(f"slurmd {node}").wait()
        subprocess.run(["ip", "link", "del", self._card(node)], capture_output=True, check=False)

    def lose_slurmd(self, node: str) -> None:
        """Kill the node's slurmd; the processes of its jobs keep running."""
        self.on(node, "pkill", "-KILL", "-x", "slurmd")
        self._running.pop(f"slurmd {node}").wait()

    def is_running(self, node: str, pid: int) -> bool:
        """Return whether a process of the node, by its PID there, is running."""
        state = subprocess.run(
            [*self._enter(node), "ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
        )
        return state.stdout.strip() not in ("", "Z")

    def boot(self, node: str) -> None:
        """Start what of a node is not running, and wait until Slurm accepts jobs for it."""
        if f"node {node}" not in self._running:
            self._start_node(node)
        if f"slurmd {node}" not in self._running:
            self._start_slurmd(node, "-b")  # reports a reboot: the kernel would tell the boot time of this machine
        _until(lambda: self._is_up(node), f"{node} is up")

    def restart_controller(self, after: float = 0.0) -> None:
        """Stop slurmctld, and start it again ``after`` so many seconds."""
        self._end("slurmctld")
        time.sleep(after)
        self._start_controller()

    @property
    def _bridge(self) -> str:
        return f"slb{self._tag}"

    def _card(self, node: str) -> str:
        return f"v{self._tag}.{node[1:]}"

    def _address(self, node: str) -> str:
        return f"{self._subnet}.{node[1:]}"

    def _configure(self) -> None:
        host = os.uname().nodename.split(".")[0]
        names = "".join(f"{self._address(node)} {node}\n" for node in self.nodes)
        (self.folder / "etc/hosts").write_text(f"127.0.0.1 localhost\n{self._subnet}.254 {host}\n{names}")
        (self.folder / "etc/cgroup.conf").write_text("CgroupAutomount=no\n")
        for number in range(GPUS):
            device = self.folder / "dev" / f"nvidia{number}"
            if not device.exists():
                os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # the device number of /dev/null
        devices = f"File={self.folder}/dev/nvidia[0-{GPUS - 1}]"
        (self.folder / "etc/gres.conf").write_text(f"NodeName=n[1-{len(self.nodes)}] Name=gpu {devices}\n")
        settings = SETTINGS.read_text().format(
            name=f"t{self._tag}",
            host=host,
            subnet=self._subnet,
            port=self._port,
            slurmd_port=self._port + 4000,
            folder=self.folder,
            nodes=len(self.nodes),
            gpus=GPUS,
            addresses="\n".join(f"NodeName={node} NodeAddr={self._address(node)}" for node in self.nodes),
        )
        self._slurm_conf.write_text(settings)
        key = self.folder / "etc/munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    def _start(self) -> None:
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True, check=False)
        for words in (
            ("link", "add", self._bridge, "type", "bridge"),
            ("addr", "add", f"{self._subnet}.254/24", "dev", self._bridge),
            ("link", "set", self._bridge, "up"),
        ):
            subprocess.run(["ip", *words], check=True)
        places = {"key-file": "etc/munge.key", "socket": "munge.sock", "pid-file": "munged.pid"}
        places |= {"log-file": "log/munged.log", "seed-file": "state/munge.seed"}
        given = [f"--{name}={self.folder / place}" for name, place in places.items()]
        self._run("munged", ["munged", "--foreground", "--force", *given])
        _until((self.folder / "munge.sock").exists, "munged answers")
        self._start_controller()
        for node in self.nodes:
            self._start_node(node)
            self._start_slurmd(node)
        for node in self.nodes:
            _until(lambda: self._is_up(node), f"{node} is up")  # noqa: B023

    def _start_controller(self) -> None:
        self._run("slurmctld", ["slurmctld", "-D", "-f", str(self._slurm_conf)])
        _until(lambda: "UP" in self.call("scontrol", "ping", check=False), "slurmctld answers")

    def _start_node(self, node: str) -> None:
        apart = ("--net", "--uts", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--propagation", "private")
        init = ("bash", "-c", INIT, "init", str(self.folder), node, self._address(node))
        (self.folder / "spool" / node).mkdir(exist_ok=True)
        unshare = self._run(f"node {node}", ["unshare", *apart, *init])
        _until(lambda: self._first_process(unshare) != "", f"{node} starts")
        card = self._card(node)
        subprocess.run(["ip", "link", "del", card], capture_output=True, check=False)
        peer = ("type", "veth", "peer", "name", "eth0", "netns", self._first_process(unshare))
        subprocess.run(["ip", "link", "add", card, *peer], check=True)
        subprocess.run(["ip", "link", "set", card, "master", self._bridge, "up"], check=True)
        _until(lambda: self._address(node) in self.on(node, "ip", "-4", "address"), f"{node} has a network")

    def _start_slurmd(self, node: str, *options: str) -> None:
        words = ["env", f"SLURM_CONF={self._slurm_conf}", "slurmd", "-D", *options, "-N", node]
        self._run(f"slurmd {node}", [*self._enter(node), *words, "-f", str(self._slurm_conf)])

    def _first_process(self, unshare: "subprocess.Popen[bytes]") -> str:
        return Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().strip()

    def _enter(self, node: str) -> list[str]:
        first = self._first_process(self._running[f"node {node}"])
        return ["nsenter", "-t", first, "-m", "-u", "-i", "-n", "-p", "--"]

    def _is_up(self, node: str) -> bool:
        state = self.call("sinfo", "-h", "-N", "-n", node, "-p", "main", "-o", "%T", check=False).strip()
        if state.rstrip("*") in ("down", "drained"):
            self.call("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        return state in ("idle", "mixed", "allocated", "completing")

    def _run(self, name: str, words: list[str]) -> "subprocess.Popen[bytes]":
        def die_with_us() -> None:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

        log = (self.folder / "log" / f"{name.replace(' ', '.')}.out").open("ab")
        with log:
            self._running[name] = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                preexec_fn=die_with_us,
                start_new_session=True,
            )
        return self._running[name]

    def _end(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        process = self._running.pop(name)
        if name.startswith("slurmd") and f"node {name[7:]}" in self._running:
            process.kill()  # this is nsenter; slurmd itself ends with the node
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _until(happened: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with Cluster(Path(sys.argv[1]).resolve(), int((sys.argv[2:] or ["2"])[0])) as started:
        print(f"export SLURM_CONF={started.environment['SLURM_CONF']}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
