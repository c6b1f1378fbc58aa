#!/usr/bin/env bash
#SBATCH --requeue
#SBATCH --job-name=turkish-prepare
#SBATCH --partition=cpu
#SBATCH --account=ling
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem=128G
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@60
#SBATCH --open-mode=append
command -v module > /dev/null || . /etc/profile
module load cuda/12.8
export NCCL_DEBUG=WARN
export NCCL_SOCKET_IFNAME=ib0
set -uo pipefail
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT
unset SLURM_EXPORT_ENV # of sbatch --export=NONE: srun would start processes without PATH and all that is exported here
unset SLURM_CLUSTERS # of the user: the commands below are for the cluster that the job is on
run=/home/user/adapt/runs/turkish
fail() {
    echo "nemo-adapt: error: $*" >&2
    exit 2
}

# Slurm sends USR1 to this shell only (B:USR1) before the time limit.
asked=0 # how often
stop() {
    asked=$((asked + 1))
}
trap stop USR1

# All nodes must see the run's folder, and the files that other nodes write there.
[ -f "$run/launch/config.yaml" ] || fail "$(hostname) does not see the run's folder $run: it must be on a shared file system"
seen=$run/launch/seen/$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}
rm -rf "$run/launch/seen/$SLURM_JOB_ID."* # of earlier starts
mkdir -p "$seen" && date > "$seen/first" || fail "$(hostname) cannot write to $run"
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 bash -c '
    for _ in $(seq 60); do
        cmp -s "$1/first" - <<< "$2" && : > "$1/$SLURMD_NODENAME" && exit 0
        sleep 1 # a network file system may need this long to show a new file
    done
    echo "nemo-adapt: error: $SLURMD_NODENAME does not see the folder $0: it must be on a shared file system" >&2
    exit 2' "$run" "$seen" "$(cat "$seen/first")" < /dev/null || {
    echo "nemo-adapt: not all nodes have what the job needs (see above)" >&2
    exit 2
}

job=$SLURM_JOB_ID
# At its time limit the job is queued again, three times at most: most stages go on with what an earlier start has made.
late=$run/launch/seen/late.$job
again=0
srun --kill-on-bad-exit=1 --ntasks=1 --cpus-per-task=32 python /home/user/adapt/runs/turkish/launch/code/main.py job /home/user/adapt/runs/turkish prepare < /dev/null &
tasks=$!
while kill -0 "$tasks" 2> /dev/null; do
    if [ "$asked" = 1 ]; then
        asked=2
        echo "start ${SLURM_RESTART_COUNT:-0}" >> "$late"
        [ "$(wc -l < "$late")" -gt 3 ] || { again=1 && break; }
    fi
    sleep 1
done
[ "$again" = 1 ] || {
    wait "$tasks"
    exit $?
}
for _ in $(seq 60); do
    if known=$(scontrol --oneliner show job "$job" 2> /dev/null); then
        known="${known%% Command=*} " # file names follow, which may look like fields
        case $known in
        *" Restarts=${SLURM_RESTART_COUNT:-0} "*) ;;
        *)
            echo "nemo-adapt: Slurm has queued job $job again by itself"
            exit 0
            ;;
        esac
        case $known in
        *" JobState=RUNNING "* | *" Reason=TimeLimit "*) ;;
        *)
            echo "nemo-adapt: job $job was cancelled: it is not queued again" >&2
            exit 1
            ;;
        esac
        if scontrol requeue "$job"; then
            echo "nemo-adapt: job $job is queued again and goes on with what is left to do"
            exit 0
        fi
    fi
    sleep 5 # Slurm's controller may be restarting
done
fail "job $job could not be queued again: scontrol requeue $job"
