#!/bin/sh
# One change at a time to the control, five seeds each. Started again, it runs what is missing.
# From the project's root: sh experiments/plateau/sweep.sh
cd "$(dirname "$0")/../.." || exit
export PYTHONPATH=experiments/plateau OMP_NUM_THREADS=1

sweep() {
    .venv/bin/python -m ptychofno.train --config-dir experiments/plateau/conf -m \
        +arm=control data=grid_lines_small data.batch_size=8 model.hidden_channels=8 trainer.max_epochs=10 \
        trainer.num_threads=1 seed=1,2,3,4,5 logger=none \
        hydra/launcher=joblib hydra.launcher.n_jobs=2 "$@"
}

sweep
sweep model=start_at_zero
sweep optimizer=sgd optimizer.lr=0.1
sweep optimizer.lr=1e-4
sweep model/inputs=backprojection
sweep model/block=scaled
sweep probe.defocus_rad=0
sweep optimizer.lr=3e-3
sweep model=loud_output
