#!/usr/bin/env bash
# Bring up Slurm on this machine alone and run the job of docs/ranks.md in it: to its end; ended by SIGTERM and
# submitted again; requeued while it runs. All three must end with the same bits and whole logs. Run as root;
# needs the distribution's packages slurm-wlm and munge, and $PYTHON (default: python) with the extra mpi.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$(command -v "${PYTHON:-python}")
for tool in munged slurmctld slurmd srun; do
    command -v "$tool" >/dev/null || { echo "left out: there is no $tool (packages slurm-wlm, munge)"; exit; }
done
place=$(mktemp -d)
cd "$place"
export SLURM_CONF="$place/slurm.conf"  # no other cluster is touched
started=()
end() {
    scancel --full --signal=KILL --user="$(id -un)" 2>/dev/null && sleep 2  # a daemon's end does not end jobs
    kill "${started[@]}" 2>/dev/null
    wait
    rm -rf "$place"
}
trap end EXIT

# --- a cluster of one node, which leaves nothing behind ---
host=$(hostname -s) cores=$(nproc --all) port=$((20000 + RANDOM % 10000))
mkdir state spool
# another first number each time: MPICH names shared memory by it, which ranks that are killed leave behind
chmod 711 "$place"
head -c 1024 /dev/urandom >munge.key
chmod 400 munge.key
munged --foreground --force --key-file="$place/munge.key" --socket="$place/munge" --pid-file="$place/munge.pid" \
    --seed-file="$place/munge.seed" --log-file="$place/munge.log" & started+=($!)
cat >slurm.conf <<END
ClusterName=one
SlurmctldHost=$host
SlurmUser=root
AuthInfo=socket=$place/munge
SlurmctldPort=$port
SlurmdPort=$((port + 1))
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=60
MinJobAge=3600
FirstJobId=$((RANDOM + 10))
NodeName=$host CPUs=$cores State=UNKNOWN
PartitionName=all Nodes=$host Default=YES State=UP
END
for _ in $(seq 50); do [ -S munge ] && break; sleep 0.1; done
slurmctld -D & started+=($!)
slurmd -D & started+=($!)
for _ in $(seq 100); do sinfo -h -o %T 2>/dev/null | grep -q idle && break; sleep 0.3; done
sinfo

# --- the job of the guide, two ranks on this node, with a toy that takes seconds ---
sed -n '/^#!\/bin\/bash/,/^```/p' "$root/trpo_np/docs/ranks.md" | sed -n '1,/srun/p' |
    sed -e 's/--nodes=2 --ntasks-per-node=16/--nodes=1 --ntasks-per-node=2 --overcommit/' \
        -e "s#python -m#\"$python\" -m#" -e 's/Humanoid-v5/Pendulum-v1/' -e 's/--save humanoid/--save $name/' >job.sh
truncate -s -1 job.sh
echo " --num-timesteps 153600 --vf-iters 1 --save-every 1024 --log-interval 1 --log-dir logs_\$name" \
    "--eval-episodes 2" >>job.sh
cat job.sh
export PYTHONPATH="$root"

submit() { name=$1 sbatch --parsable --export=ALL --requeue --output="$1.%j.txt" --open-mode=append job.sh; }
state() { scontrol show job "$1" | grep -o "$2=[^ ]*" | cut -d= -f2; }
until_saved() { for _ in $(seq 1200); do [ -f "$1.npz" ] && break; sleep 0.1; done; sleep 1; }
until_ended() {
    for _ in $(seq 3000); do
        case $(state "$1" JobState) in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) return ;; esac
        sleep 0.2
    done
}

job=$(submit whole); until_ended "$job"
tail -2 whole.*.txt; [ "$(state "$job" ExitCode)" = 0:0 ]

job=$(submit ended); until_saved ended
scancel --signal=TERM "$job"; until_ended "$job"
tail -2 ended.*.txt; echo "ended by SIGTERM: $(state "$job" JobState), $(state "$job" ExitCode)"
[ "$(state "$job" ExitCode)" = 130:0 ]
job=$(submit ended); until_ended "$job"
tail -2 "ended.$job.txt"; [ "$(state "$job" ExitCode)" = 0:0 ]

job=$(submit queued); until_saved queued
scontrol requeue "$job"; sleep 2
scontrol update jobid="$job" StartTime=now  # a requeued job waits for two minutes
until_ended "$job"
tail -2 "queued.$job.txt"; echo "requeued: $(state "$job" Restarts) restarts"
[ "$(state "$job" ExitCode)" = 0:0 ] && [ "$(state "$job" Restarts)" = 1 ]

"$python" - <<'END'
import csv
from trpo_np.files.archive import read_archive

whole, *others = (read_archive(f"{name}.npz") for name in ("whole", "ended", "queued"))
for record, arrays in others:
    assert record["progress"] == whole[0]["progress"], (record["progress"], whole[0]["progress"])
    assert all(arrays[name].tobytes() == array.tobytes() for name, array in whole[1].items())
rows = [[row["step"] for row in csv.DictReader(open(f"logs_{name}/progress.csv"))]
        for name in ("whole", "ended", "queued")]
assert rows[0] == rows[1] == rows[2] and len(set(rows[0])) == len(rows[0])
episodes = [[line.split(",")[:2] for line in open(f"logs_{name}/monitor.csv")][2:]
            for name in ("whole", "ended", "queued")]
assert episodes[0] == episodes[1] == episodes[2]
print(f"the same bits three times, after {rows[0][-1]} steps; logs of {len(rows[0])} tables and "
      f"{len(episodes[0])} episodes, the same")
END
