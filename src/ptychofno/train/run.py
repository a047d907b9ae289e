"""A run: data, network, training, evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from rich.console import Console
from torch import nn

from ptychofno import build
from ptychofno.config.records import chosen, in_sweep, resolved_yaml, settings, write_hydra_record
from ptychofno.config.schema import Config
from ptychofno.data import PtychoDataset
from ptychofno.display import terminal
from ptychofno.display.progress import ProgressBar
from ptychofno.display.text import make_console
from ptychofno.evaluation import check_evaluable, draw_curves, follow_similarity, judge, write_evaluation
from ptychofno.runs import artifacts
from ptychofno.runs.directory import (
    Run,
    begin,
    finish,
    objective,
    open_run,
    refuse_other_data,
)
from ptychofno.runs.stats import epoch_fell_back, epoch_left_plateau, state_of, statistics
from ptychofno.runs.weights import keep_weights, start_from
from ptychofno.train import setup
from ptychofno.training.fit import Outcome, ResidentData, fit
from ptychofno.training.history import ValidationSimilarity
from ptychofno.training.interruption import Interrupted, StopRequest
from ptychofno.training.losses import flat_baseline
from ptychofno.training.module import PhysicsSupervised


def train(cfg: DictConfig) -> float | None:
    """See ``ptychofno.train.train``."""
    console, stop, plan = make_console(), StopRequest(), settings(cfg)
    if setup.rank(cfg) > 0:
        _take_part(cfg, plan, stop)
        return None
    try:
        held = open_run(Path(cfg.run_dir), resolved_yaml(cfg), plan.resume, plan.trainer.max_epochs)
        with stop.listening(), held as run:
            dataset_key = build.dataset_key(plan)
            refuse_other_data(run, dataset_key)
            if run.finished:
                console.print(f"{run.path} is finished already; resume=never starts over", soft_wrap=True)
            else:
                _execute(cfg, plan, dataset_key, run, stop, console)
            terminal.show_result(console, run, brief=in_sweep())
            return objective(run, plan.objective)
    except Interrupted as interrupted:
        terminal.show_interruption(console, interrupted, plan.enable_checkpointing)
        raise SystemExit(interrupted.exit_code) from None


def _take_part(cfg: DictConfig, plan: Config, stop: StopRequest) -> None:
    """One of several processes but the first: the same data, network and training, and nothing else."""
    run = Run(Path(cfg.run_dir), plan.trainer.max_epochs)
    if plan.resume != "never" and run.finished:
        return
    # Of an interruption the first process tells.
    with suppress(Interrupted), stop.listening(), build.reproducibly(cfg):
        resuming = plan.enable_checkpointing and plan.resume != "never" and run.resumable
        _fit(cfg, plan, _assemble(cfg, plan, build.dataset(plan), resuming), run.path, stop)


def _execute(
    cfg: DictConfig, plan: Config, dataset_key: str, run: Run, stop: StopRequest, console: Console
) -> None:
    """Data, network, training, evaluation. Everything that it finds goes into the run's directory."""
    seconds: dict[str, float] = {}
    _record_beginning(cfg, plan, dataset_key, run, console)
    loggers, logged = setup.loggers(cfg), build.to_plain(cfg)
    del logged["logger"]  # which may hold an address with a password
    with build.reproducibly(cfg), setup.described(loggers, logged):
        with _timed(seconds, "data"), terminal.reading_bar(console) as each_block:
            dataset = build.dataset(plan, each_block)
        training = _assemble(cfg, plan, dataset, run.record["resumed"] > 0)
        _show_beginning(cfg, run, training, console)
        outcome = _fit(cfg, plan, training, run.path, stop, console, loggers)
        seconds["training"] = sum(outcome.epochs["seconds"])
        with _timed(seconds, "evaluation"):
            state, metrics = _evaluate(cfg, plan, run, training, outcome, console)
        values = {**metrics, "best_val_loss": outcome.best_val_loss, "crashed": state != "completed"}
        setup.log_result(loggers, logged, values, sorted(run.path.glob("*.png")))
    seconds["total"] = sum(seconds.values())
    epochs, val_loss = outcome.epochs["epoch"], outcome.epochs["val_loss"]
    finish(
        run,
        state,
        error=outcome.diverged,
        best_epoch=outcome.best_epoch,
        best_val_loss=outcome.best_val_loss if outcome.best_epoch else None,
        final_val_loss=val_loss[-1] if val_loss else None,
        epoch_left_plateau=epoch_left_plateau(epochs, val_loss, training.flat_baseline),
        epoch_fell_back=epoch_fell_back(epochs, val_loss, training.flat_baseline),
        seconds=seconds,
    )


@dataclass(frozen=True)
class Training:
    """What is trained, and on what: the same in every process."""

    dataset: PtychoDataset
    network: nn.Module
    module: PhysicsSupervised
    data: ResidentData
    flat_baseline: float
    started_from: dict[str, str] | None


def _assemble(cfg: DictConfig, plan: Config, dataset: PtychoDataset, resuming: bool) -> Training:
    """Network and training for a dataset, ready to begin or to be resumed."""
    with build.as_config_errors():
        check_evaluable(dataset)
    network = build.generator(cfg, dataset)
    started_from = start_from(network, plan.init_from) if plan.init_from and not resuming else None
    module = setup.experiment(cfg, dataset, network)
    data = setup.batches(cfg, dataset)
    output = build.output_of(network)
    baseline, _ = flat_baseline(module.loss, data.validation, module.probe, output, module.valid)
    return Training(dataset, network, module, data, baseline, started_from)


def _record_beginning(cfg: DictConfig, plan: Config, dataset_key: str, run: Run, console: Console) -> None:
    """Settings and state of a run that is under way."""
    resume = run.resumable and plan.enable_checkpointing
    if run.aside is not None:
        console.print(f"the earlier run is kept as {run.aside}", soft_wrap=True)
    if resume and run.longer:
        console.print(
            f"goes on to trainer.max_epochs={run.epochs} instead of {run.record['epochs']}; from here on, a "
            "schedule over all epochs is that over the new number",
            soft_wrap=True,
        )
    names = {"study": chosen("study"), "arm": chosen("arm"), "seed": plan.seed}
    begin(run, resume=resume, dataset_key=dataset_key, **names, epochs=plan.trainer.max_epochs)
    artifacts.write_text(run.path / artifacts.CONFIG, resolved_yaml(cfg))
    write_hydra_record(run.path)


def _show_beginning(cfg: DictConfig, run: Run, training: Training, console: Console) -> None:
    """Record and tell what is about to be trained."""
    started_from = {} if training.started_from is None else {"init_from": training.started_from}
    run.update(
        dataset=training.dataset.name,
        parameters=sum(p.numel() for p in training.network.parameters()),
        device=build.device_name(build.device(cfg), build.processes(cfg)),
        matmul_precision=build.matmul_precision(cfg),
        flat_baseline=training.flat_baseline,
        object_pixel_m=training.dataset.object_pixel_m,
        **started_from,
    )
    if not in_sweep():
        terminal.announce(console, cfg, run, training.dataset, training.network)


def _fit(
    cfg: DictConfig,
    plan: Config,
    training: Training,
    run_dir: Path,
    stop: StopRequest,
    console: Console | None = None,
    loggers: Sequence[Logger] = (),
) -> Outcome:
    """Train; ``console`` is that of the process that writes and shows."""
    dataset, callbacks = training.dataset, list[L.Callback]()
    if console is not None:
        if dataset.validation_objects is not None:
            similarity = follow_similarity(dataset.validation, dataset.validation_objects, dataset.probe)
            callbacks.append(ValidationSimilarity(similarity))
        callbacks.append(ProgressBar(console))
    with build.as_config_errors(), setup.started_as_typed():
        return fit(
            training.module,
            training.data,
            run_dir,
            flat_baseline=training.flat_baseline,
            accelerator=build.device(cfg).type,
            precision=plan.trainer.precision,
            stop=stop,
            enable_checkpointing=plan.enable_checkpointing,
            resume=plan.resume != "never",
            keep_every=plan.trainer.keep_every,
            loggers=loggers,
            callbacks=callbacks,
            strategy=plan.trainer.strategy,
            devices=plan.trainer.devices,
            num_nodes=plan.trainer.num_nodes,
        )


def _evaluate(
    cfg: DictConfig, plan: Config, run: Run, training: Training, outcome: Outcome, console: Console
) -> tuple[str, dict[str, Any]]:
    """Judge the chosen weights, and draw and write what came of it. Gives state and metrics."""
    network, dataset, baseline = training.network, training.dataset, training.flat_baseline
    contrast = outcome.epochs["pred_contrast"] if build.output_of(network) is not None else None
    state = state_of(outcome.diverged, outcome.epochs["val_loss"], baseline, contrast)
    use_best = outcome.best_epoch > 0 and (plan.evaluation.checkpoint == "best" or state == "diverged")
    keep_weights(run, build.to_plain(cfg.model), dataset, outcome, use_best, plan.enable_checkpointing)
    metrics: dict[str, Any] = {}
    rounds: Sequence[Sequence[float]] = ()
    if outcome.best_epoch > 0:  # else it diverged in its first epoch: nothing to judge
        with terminal.rounds_bar(console, plan.refine) as each_round, build.as_config_errors():
            network.load_state_dict(outcome.best_weights if use_best else outcome.last_weights)
            evaluation = judge(network, dataset, plan, build.device(cfg), each_round)
            write_evaluation(run.path, evaluation, run.path.name)
        metrics, rounds = evaluation.metrics, evaluation.rounds
        if state == "completed" and metrics["no_better_than_flat"]:
            state = "collapsed"
    figure = run.path / artifacts.CURVES_FIGURE
    draw_curves(figure, outcome.epochs, baseline, run.path.name, rounds, outcome.steps)
    stats = statistics(
        epochs=outcome.epochs,
        grad_norms=outcome.grad_norms,
        diverged=outcome.diverged is not None,
        metrics=metrics,
        weights=outcome.last_weights,
    )
    artifacts.write_json(run.path / artifacts.STATS, stats)
    return state, metrics


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started
