#!/usr/bin/env bash
#SBATCH --requeue
#SBATCH --job-name=turkish-train
#SBATCH --partition=gpu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --gpus-per-node=8
#SBATCH --signal=B:USR1@600
#SBATCH --open-mode=append
export NCCL_DEBUG=WARN
set -uo pipefail
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT
unset SLURM_EXPORT_ENV # of sbatch --export=NONE: srun would start processes without PATH and all that is exported here
unset SLURM_CLUSTERS # of the user: the commands below are for the cluster that the job is on
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
run=/home/user/adapt/runs/turkish
fail() {
    echo "nemo-adapt: error: $*" >&2
    exit 2
}

# Slurm sends USR1 to this shell only (B:USR1) before the time limit, and TERM when the job is preempted or cancelled.
# Either may come before the ranks are started.
asked=0 # how often
stop() {
    asked=$((asked + 1))
}
trap stop USR1 TERM

# All nodes must see the run's folder, and the files that other nodes write there.
[ -f "$run/launch/config.yaml" ] || fail "$(hostname) does not see the run's folder $run: it must be on a shared file system"
seen=$run/launch/seen/$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}
rm -rf "$run/launch/seen/$SLURM_JOB_ID."* # of earlier starts
mkdir -p "$seen" && date > "$seen/first" || fail "$(hostname) cannot write to $run"
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 bash -c '
    for needed in "${@:3}"; do
        [ -r "$needed" ] && continue
        echo "nemo-adapt: error: site.container: $needed is missing on $SLURMD_NODENAME, or cannot be read" >&2
        exit 2
    done
    for _ in $(seq 60); do
        cmp -s "$1/first" - <<< "$2" && : > "$1/$SLURMD_NODENAME" && exit 0
        sleep 1 # a network file system may need this long to show a new file
    done
    echo "nemo-adapt: error: $SLURMD_NODENAME does not see the folder $0: it must be on a shared file system" >&2
    exit 2' "$run" "$seen" "$(cat "$seen/first")" /models /text < /dev/null || [ "$asked" != 0 ] || {
    echo "nemo-adapt: not all nodes have what the job needs (see above)" >&2
    exit 2
}

# Ranks rendezvous on the first node. Jobs that share a node get different ports.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((15000 + SLURM_JOB_ID % 10000))
export MASTER_ADDR MASTER_PORT

job=$SLURM_JOB_ID
code=0 # of a start that is to stop before its ranks are started
if [ "$asked" = 0 ]; then
    srun --kill-on-bad-exit=1 --ntasks=16 '--container-image=nvcr.io#nvidia/nemo:26.02' --container-workdir=/home/user/adapt --container-mounts=/home/user/adapt:/home/user/adapt,/models:/models,/text:/text --container-env=NCCL_DEBUG,OMP_NUM_THREADS,MASTER_ADDR,MASTER_PORT python /home/user/adapt/runs/turkish/launch/code/main.py job /home/user/adapt/runs/turkish train < /dev/null &
    tasks=$!
    told=0
    while kill -0 "$tasks" 2> /dev/null; do
        # srun forwards USR1 to the ranks, which save and exit. While it still starts them, it may lose the signal, or end.
        if [ "$asked" != "$told" ] && [ -e "$seen.started" ]; then
            told=$asked
            kill -USR1 "$tasks" 2> /dev/null
        fi
        sleep 1
    done
    wait "$tasks"
    code=$?
    # Of this start alone: a finished training that got a further phase has a manifest until its ranks go on.
    [ "$code" != 0 ] || [ ! -f "$run"/train/manifest.json ] || exit 0
fi
trap '' USR1 TERM
# Ranks that ran and were killed (by a GPU's error, for want of memory, or as another one failed) go on from the newest
# checkpoint, three times at most from the same one. A user's mistake would come again.
if [ "$code" -gt 128 ] && [ "$asked" = 0 ] && [ -e "$seen.started" ] && [ ! -e "$seen.mistake" ]; then
    newest=$(cd "$run"/train/checkpoints 2> /dev/null && ls -d iter_* 2> /dev/null | tail -n 1)
    echo "after ${newest:-the start}" >> "$run/launch/seen/killed.$SLURM_JOB_ID"
    [ "$(grep -cFx "after ${newest:-the start}" "$run/launch/seen/killed.$SLURM_JOB_ID")" -gt 3 ] || asked=1
    [ "$asked" = 0 ] || echo "nemo-adapt: the ranks were killed (code $code) after ${newest:-the start}" >&2
fi

# More to do: exited in time with code 0, or was killed after it was asked to stop, or as above.
if [ "$code" != 0 ] && { [ "$asked" = 0 ] || [ "$code" -le 128 ]; }; then
    echo "nemo-adapt: the ranks ended with code $code" >&2
    exit "$code"
fi
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
            echo "nemo-adapt: job $job is queued again and goes on from its last checkpoint"
            exit 0
        fi
    fi
    sleep 5 # Slurm's controller may be restarting
done
fail "job $job could not be queued again: scontrol requeue $job"
