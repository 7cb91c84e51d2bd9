#!/bin/bash
# Workers of one study as a SLURM array. Submit as often as you like, before or after others: sbatch docs/cluster/slurm.sh
#SBATCH --job-name=ehrfusion
#SBATCH --array=0-15
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --gpus-per-task=1
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=ehrfusion-%A_%a.log
set -uo pipefail

# What you change. The password is in ~/.pgpass (mode 0600) or PGPASSWORD, never in the URL.
STUDY=${STUDY:-study.yaml}
STORAGE=${STORAGE:-postgresql+psycopg://ehrfusion@database/studies}
SHARED=${SHARED:-/shared/ehrfusion}

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# SLURM signals this script 120 s before the end; the worker hands its trial back, and another goes on from the checkpoint.
trap 'ended=1; kill -TERM "$worker" 2>/dev/null' TERM
ended=0 code=75 worker=
while [ "$ended" = 0 ] && [ "$code" = 75 ]; do # 75: the GPU context is lost, a new process takes its place
  ehrfusion worker --study "$STUDY" --storage "$STORAGE" --checkpoints "$SHARED/checkpoints" --runs "$SHARED/runs" &
  worker=$!
  [ "$ended" = 0 ] || kill -TERM "$worker" # it came after the start, before the number was known
  wait "$worker"
  code=$?
  if [ "$ended" = 1 ]; then # wait was cut short by the signal
    wait "$worker"
    code=$?
  fi
done
exit "$code"
