"""Train one generator and judge it: ``python -m ptychofno.train +arm=stable_warmup``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptychofno.config import cli
from ptychofno.processes import end_with_leader

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import Console

    from ptychofno.config.schema import Config
    from ptychofno.processes import Group
    from ptychofno.runs.directory import Run
    from ptychofno.training import StopRequest


def train(cfg: DictConfig) -> float | None:
    """One run: shows its result and gives its objective.

    Raises SystemExit(128 + signal) when it was interrupted.
    """
    # Imported here and below: a refused configuration must not wait for torch.
    from ptychofno import build
    from ptychofno.config import in_sweep, resolved_yaml, settings, without_environment
    from ptychofno.display.terminal import show_interruption, show_result
    from ptychofno.display.text import make_console
    from ptychofno.runs.directory import objective, open_run, refuse_other_data
    from ptychofno.training import Interrupted, StopRequest

    console = make_console()
    stop = StopRequest()
    plan = settings(cfg)
    group = build.processes(cfg)
    if group.rank > 0:
        follow(cfg, plan, group, stop)
        return None
    try:
        held = open_run(
            Path(cfg.run_dir), resolved_yaml(cfg), plan.resume, hide=partial(without_environment, cfg)
        )
        with stop.listening(), group.meeting(), held as run:
            dataset_key = build.dataset_key(plan)
            refuse_other_data(run, dataset_key)
            if run.finished:
                console.print(f"{run.path} is finished already; resume=never starts over", soft_wrap=True)
            else:
                execute(cfg, plan, dataset_key, run, group, stop, console)
            show_result(console, run, brief=in_sweep())
            return objective(run, plan.objective)
    except Interrupted as interrupted:
        show_interruption(console, interrupted, plan.enable_checkpointing)
        raise SystemExit(interrupted.exit_code) from None


def follow(cfg: DictConfig, plan: Config, group: Group, stop: StopRequest) -> None:
    """One of several processes but the first: the same data and network, training, and nothing else."""
    from ptychofno import build
    from ptychofno.training import Interrupted, fit, keep_freed_memory

    keep_freed_memory()
    try:
        with stop.listening(), group.meeting(), build.reproducibly(cfg, group):
            word = group.follow()
            dataset = build.dataset(plan)
            module = build.experiment(cfg, dataset, build.generator(cfg, dataset))
            with build.told():
                fit(
                    module,
                    build.batches(cfg, dataset, group),
                    Path(word["run_dir"]),
                    accelerator=build.device(cfg).type,
                    precision=plan.trainer.precision,
                    stop=stop,
                    enable_checkpointing=plan.enable_checkpointing,
                    flat_baseline=word["flat_baseline"],
                    guard=build.guard(cfg),
                )
    except Interrupted as interrupted:
        raise SystemExit(interrupted.exit_code) from None


def execute(
    cfg: DictConfig,
    plan: Config,
    dataset_key: str,
    run: Run,
    group: Group,
    stop: StopRequest,
    console: Console,
) -> None:
    """Data, network, training, evaluation. Everything that it finds goes into the run's directory."""
    from ptychofno import build
    from ptychofno.config import chosen, resolved_yaml, write_hydra_record
    from ptychofno.display.terminal import ProgressBar, RoundsBar, announce, reading_bar
    from ptychofno.evaluation import (
        check_evaluable,
        draw_curves,
        follow_similarity,
        judge,
        write_evaluation,
    )
    from ptychofno.runs import artifacts
    from ptychofno.runs.directory import begin, finish
    from ptychofno.runs.stats import statistics
    from ptychofno.runs.weights import save_model
    from ptychofno.training import ValidationSimilarity, fit, flat_baseline, keep_freed_memory

    started = time.monotonic()
    keep_freed_memory()
    begin(
        run,
        resume=run.resumable and plan.enable_checkpointing,
        dataset_key=dataset_key,
        study=chosen("study"),
        arm=chosen("arm"),
        seed=plan.seed,
        epochs=plan.trainer.max_epochs,
    )
    artifacts.write_text(run.path / artifacts.CONFIG, resolved_yaml(cfg))
    write_hydra_record(run.path)
    group.start()
    with build.reproducibly(cfg, group):
        with reading_bar(console) as each_block:
            dataset = build.dataset(plan, each_block)
        with build.told():
            check_evaluable(dataset, stitch=plan.evaluation.stitch)
        data_seconds = time.monotonic() - started

        network = build.generator(cfg, dataset)
        module = build.experiment(cfg, dataset, network)
        guard = build.guard(cfg)
        data = build.batches(cfg, dataset, group)
        device = build.device(cfg)
        output = build.output_of(network)
        baseline, _ = flat_baseline(module.loss, data.validation, module.probe, output, module.valid)
        run.update(
            dataset=dataset.name,
            object_pixel_m=dataset.object_pixel_m,
            parameters=sum(p.numel() for p in network.parameters()),
            device=build.device_name(device, group.size),
            matmul_precision=build.matmul_precision(cfg),
            flat_baseline=baseline,
        )
        announce(console, cfg, run, dataset, network)
        followed = []
        if dataset.validation_objects is not None:
            similarity = follow_similarity(dataset.validation, dataset.validation_objects, dataset.probe)
            followed.append(ValidationSimilarity(similarity))
        with build.told(), group.watching():
            group.lead(run_dir=str(run.path.absolute()), flat_baseline=baseline)
            outcome = fit(
                module,
                data,
                run.path,
                flat_baseline=baseline,
                accelerator=device.type,
                precision=plan.trainer.precision,
                stop=stop,
                enable_checkpointing=plan.enable_checkpointing,
                keep_every=plan.trainer.keep_every,
                guard=guard,
                loggers=build.loggers(cfg, run.path),
                callbacks=[*followed, ProgressBar(console)],
            )
        contrast = None if output is None else outcome.epochs["pred_contrast"]
        state = state_of(outcome.diverged, outcome.epochs["val_loss"], baseline, contrast)

        evaluating = time.monotonic()
        use_best = outcome.best_epoch > 0 and (plan.evaluation.checkpoint == "best" or state == "diverged")
        weights = outcome.best_weights if use_best else outcome.last_weights
        save_model(run.path / artifacts.MODEL, build.plain(cfg.model), dataset, weights)
        metrics: dict[str, Any] = {}
        rounds: Sequence[Sequence[float]] = ()
        if outcome.best_epoch > 0:  # else it diverged in its first epoch: nothing to judge
            with RoundsBar(console, plan.refine) as each_round, build.told():
                network.load_state_dict(weights)
                evaluation = judge(network, dataset, plan, device, each_round)
                metrics, rounds = evaluation.metrics, evaluation.rounds
                write_evaluation(run.path, evaluation, run.path.name)
            if state == "completed" and metrics["no_better_than_flat"]:
                state = "collapsed"
        figure = run.path / artifacts.CURVES_FIGURE
        draw_curves(figure, outcome.epochs, baseline, run.path.name, rounds)
        stats = statistics(
            epochs=outcome.epochs,
            grad_norms=outcome.grad_norms,
            flat_baseline=baseline,
            diverged=outcome.diverged is not None,
            metrics=metrics,
            weights=outcome.last_weights,
        )
        artifacts.write_json(run.path / artifacts.STATS, stats)

    training_seconds = sum(outcome.epochs["seconds"])
    evaluation_seconds = time.monotonic() - evaluating
    finish(
        run,
        state,
        error=outcome.diverged,
        best_epoch=outcome.best_epoch,
        best_val_loss=outcome.best_val_loss if outcome.best_epoch else None,
        **{key: stats[key] for key in ("epoch_left_plateau", "epoch_fell_back", "final_val_loss")},
        interventions=outcome.interventions,
        seconds={
            "data": data_seconds,
            "training": training_seconds,
            "evaluation": evaluation_seconds,
            "total": data_seconds + training_seconds + evaluation_seconds,
        },
    )


def state_of(
    diverged: str | None, val_loss: list[Any], baseline: float, contrast: list[Any] | None = None
) -> str:
    """``diverged``, ``collapsed`` (ended on the flat plateau) or ``completed``.

    ``contrast`` is that between the layers' patches where an output module changes them. Its rounds bring the
    losses of all patches together that fit the same noise, so that there the loss alone does not tell.
    """
    from ptychofno.runs.stats import ALIKE_BELOW, FLAT_ABOVE

    if diverged is not None:
        return "diverged"
    alike = contrast is None or not contrast[-1] >= ALIKE_BELOW
    return "collapsed" if alike and val_loss[-1] > FLAT_ABOVE * baseline else "completed"


def main() -> None:
    end_with_leader()
    cli.run(train)


if __name__ == "__main__":
    main()
