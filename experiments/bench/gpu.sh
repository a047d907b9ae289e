#!/usr/bin/env bash
# What a GPU does with all of this, in about eight minutes: tables and reports in OUT, a few hundred KB.
#
#     experiments/bench/gpu.sh OUT          # with the python and the torch that are there
#     DEVICE=cpu DATA=grid_lines_tiny EPOCHS=1 SIZES=16 experiments/bench/gpu.sh OUT    # to try it
#
# The same command again does what is missing. PYTHON, ARMS, AT_ONCE (processes side by side) and SECONDS_EACH
# (limit of each part) can be set, too. hydra-core, omegaconf, lightning and what they need have to be
# importable: where nothing can be fetched, from wheels on PYTHONPATH. torch.compile is timed, not needed.
set -u
cd "$(dirname "$0")/../.." || exit 1
OUT=${1:?usage: experiments/bench/gpu.sh OUT}
PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} DATA=${DATA:-grid_lines} EPOCHS=${EPOCHS:-20}
SIZES=${SIZES:-64 128 256} AT_ONCE=${AT_ONCE:-4} SECONDS_EACH=${SECONDS_EACH:-240}
ARMS=${ARMS:-control agc stable_zero_gamma stable stable_warmup stable_lowlr stable_warmup_lowlr
    stable_warmup_clip stable_sgd stable_adamw plateau}
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
SETTINGS="data=$DATA trainer.accelerator=$DEVICE logger=none"
mkdir -p "$OUT"

part() { # what is reached within the limit is kept; the rest goes on at the next call
    local name=$1 began=$SECONDS
    shift
    timeout -s INT "$SECONDS_EACH" "$@" >>"$OUT/$name.log" 2>&1
    echo "$name: exit $? after $((SECONDS - began)) s" | tee -a "$OUT/parts.txt"
}

$PYTHON -c 'import torch; print("torch", torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")' |
    tee "$OUT/machine.txt"

# shellcheck disable=SC2086
{
    part default "$PYTHON" -m ptychofno.train "run_dir=$OUT/default" trainer.accelerator=$DEVICE logger=none
    # Arms side by side on the one GPU, and the same control alone: what do processes cost one another?
    echo $ARMS | tr ' ' '\n' >"$OUT/arms.txt"
    part alone "$PYTHON" -m ptychofno.train +arm=control "run_dir=$OUT/alone" $SETTINGS trainer.max_epochs=2 seed=1
    part stage_a xargs -a "$OUT/arms.txt" -P "$AT_ONCE" -I{} "$PYTHON" -m ptychofno.train +arm={} \
        "run_dir=$OUT/stage_a/{}-seed1" $SETTINGS trainer.max_epochs=$EPOCHS seed=1
    part report "$PYTHON" -m ptychofno.report "$OUT/stage_a"
    part modes "$PYTHON" experiments/bench/modes.py --device "$DEVICE" --sizes $SIZES --out "$OUT"
    part layers "$PYTHON" experiments/bench/bench.py --devices "$DEVICE" --without neuraloperator --quick \
        --seconds 0.5 --out "$OUT/bench"
}
# What a run that is finished needs no more, and is not worth its megabytes.
grep -rlE '"state": "(completed|collapsed|diverged)"' --include=run.json "$OUT" | while read -r record; do
    run=$(dirname "$record")
    rm -rf "$run/checkpoints" "$run/model.pt" "$run/reconstruction.npz"
done
du -sh "$OUT"
