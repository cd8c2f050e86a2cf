"""What does a network between ranks cost? Two ranks on two hosts, with real TCP between them.

The hosts are network namespaces of this machine, joined by a veth pair, so this needs Linux, root, iproute2
(`ip`, `tc`), mpi4py and MPICH with libfabric; without them it says what is missing. Delay is added by netem
where the kernel has it, else by a relay between two tap devices. Printed: the bytes that crossed the
interface, and the time of an update beside what the cost model of scaling.py predicts from one rank's update
and from messages to and fro on the link.
"""

import fcntl
import heapq
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import _timing
import scaling

NAME = f"trpo{os.getpid()}h"  # of the namespaces; the last part of a host's address comes behind it
HOSTS = {f"{NAME}1": "10.213.77.1", f"{NAME}2": "10.213.77.2"}
# not shared memory
TCP = {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp", "FI_TCP_IFACE": "eth0", "MPIR_CVAR_NOLOCAL": "1"}
ENTER = f"""#!/bin/sh
# as ssh does: HOST COMMAND...
while [ "${{1#-}}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec "{NAME}${{host##*.}}" sh -c "$*"
"""


def missing() -> str:
    """Say what this machine lacks, or nothing."""
    if not sys.platform.startswith("linux") or os.geteuid():
        return "network namespaces need Linux and root"
    if not shutil.which("ip"):
        return "iproute2 is not installed (the command ip)"
    if not scaling.can_launch():
        return "mpiexec or mpi4py is missing (pip install 'trpo_np[mpi]')"
    return ""


def sh(command: str) -> None:
    """Run a command; an error is what it printed."""
    done = subprocess.run(command.split(), capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{command}: {done.stderr.strip()}")


@contextmanager
def hosts(delay: float):
    """Make two hosts and a link with so many seconds of delay each way; yield how the delay is made."""
    with ExitStack() as stack:
        for name in HOSTS:
            sh(f"ip netns add {name}")
            stack.callback(sh, f"ip netns delete {name}")
        first, second = HOSTS
        sh(f"ip link add eth0 netns {first} type veth peer name eth0 netns {second}")
        how = "veth"
        if delay:
            try:
                for name in HOSTS:
                    sh(f"ip netns exec {name} tc qdisc add dev eth0 root netem delay {1e3 * delay}ms limit "
                       "100000")
                how = "veth, netem"
            except OSError as error:
                print(f"  no netem here ({error}); a relay between tap devices delays instead", flush=True)
                sh(f"ip -n {first} link delete eth0")
                relay = subprocess.Popen([sys.executable, __file__, "relay", str(delay), *HOSTS],
                                         stdout=subprocess.PIPE)
                stack.callback(relay.wait)
                stack.callback(relay.terminate)
                relay.stdout.readline()  # the devices are there
                how = "tap, relay"
        for name, address in HOSTS.items():
            sh(f"ip -n {name} addr add {address}/24 dev eth0")
            for device in ("lo", "eth0"):
                sh(f"ip -n {name} link set {device} up")
        time.sleep(3)  # until its IPv6 address can be used: libfabric chooses among what it finds
        yield how


def relay(delay: float, names) -> None:
    """Carry frames between a tap device in each of two namespaces, each so many seconds after it came."""
    taps = []
    for name in names:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        # TUNSETIFF: IFF_TAP | IFF_NO_PI
        fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))
        sh(f"ip link set {name} netns {name} name eth0 mtu 9000")
        taps.append(tap)
    print("ready", flush=True)
    flying: list = []
    number = 0
    while True:
        pause = max(0.0, flying[0][0] - time.monotonic()) if flying else None
        for tap in select.select(taps, [], [], pause)[0]:
            try:
                while True:
                    frame, number = os.read(tap, 65536), number + 1
                    heapq.heappush(flying, (time.monotonic() + delay, number, taps[tap == taps[0]], frame))
            except OSError:  # no more at the moment
                pass
        while flying and flying[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(flying)
            try:
                os.write(target, frame)
            except OSError:  # its queue is full, or the device is down: TCP sends again
                pass


def crossed() -> int:
    """Return the bytes that the first host has sent and received."""
    files = [f"/sys/class/net/eth0/statistics/{way}_bytes" for way in ("tx", "rx")]
    command = ["ip", "netns", "exec", f"{NAME}1", "cat", *files]
    return sum(map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()))


def main():
    args = _timing.arguments(__doc__, case=dict(default="mlp:HalfCheetah-v4", metavar="NETWORK:ENV"),
                             delays=dict(nargs="+", type=float, default=[0, 1, 20], metavar="MS"),
                             updates=dict(type=int, default=5))
    if args.quick:
        args.case, args.delays, args.updates = "mlp:CartPole-v1", [0], 1
    if reason := missing():
        print(f"not measured: {reason}")
        _timing.save(args, {"refused": reason})
        return
    one, local, results = scaling.measure(args.case, args.updates)[1], None, {}
    volume = sum(n * number for _, n, number in one["calls"])
    print(f"{args.case}: {1e3 * one['seconds']:.0f} ms an update on one rank; "
          f"{sum(c[2] for c in one['calls']):.0f} collectives of {volume / 1e6:.2f} MB in all", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        enter = Path(folder) / "enter"
        enter.write_text(ENTER)
        enter.chmod(0o755)
        launch = ["-hosts", ",".join(HOSTS.values()), "-iface", "eth0", "-launcher", "ssh", "-launcher-exec",
                  str(enter)]
        how = dict(prefix=["ip", "netns", "exec", f"{NAME}1"], environ=TCP, options=launch,
                   seconds=60 if args.quick else 600)
        for delay in args.delays:
            try:
                with hosts(delay / 1e3) as link:
                    found = scaling.run(2, "ping", 2 if args.quick else 3, **how)
                    local = local or found
                    before = crossed()
                    two = scaling.run(2, "worker", args.case, args.updates, **how)
                    if not (found and two):
                        raise OSError("the ranks did not run")
                    sent = (crossed() - before) / (args.updates + 3)
            except OSError as error:
                print(f"not measured: {error}")
                results[delay] = {"refused": str(error)}
                continue
            network = found[0], local[1], 2  # with delay, the windows of TCP limit a single stream
            predicted = scaling.predict(one, 2, 1, network, network)
            print(f"delay {delay:g} ms each way ({link}): a message {1e3 * found[0]:.3f} ms, "
                  f"{1e-6 / found[1]:.0f} MB/s; {sent / 1e6:.1f} MB an update crossed the interface; an "
                  f"update {1e3 * two['seconds']:.0f} ms ({1e3 * two['in_collectives']:.0f} in collectives), "
                  f"predicted {1e3 * predicted:.0f}",
                  flush=True)
            results[delay] = {"link": link, "message": dict(zip(scaling.MESSAGE, found)), "crossed": sent,
                              "measured": two, "predicted": predicted}
    _timing.save(args, {"case": args.case, "one_rank": one, "delays": results})


if __name__ == "__main__":
    relay(float(sys.argv[2]), sys.argv[3:]) if sys.argv[1:2] == ["relay"] else main()
