"""The text of ``--help``."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from omegaconf import DictConfig, OmegaConf

from ptychofno.config.checks import settings_at
from ptychofno.config.errors import shown
from ptychofno.config.files import Files

COMMAND = "python -m ptychofno.train"

# What people change most, in the order in which they ask for it.
_PROMINENT = (
    *("seed", "run_dir", "resume", "trainer.max_epochs", "trainer.accelerator", "optimizer.lr"),
    *("optimizer.weight_decay", "scheduler.warmup_epochs", "scheduler.min_ratio", "clip.value"),
    *("model.hidden_channels", "model.fno_blocks", "model.modes", "model.max_hidden_channels"),
    *("data.batch_size", "data.nphotons", "data.N", "data.gridsize", "data.path", "data.cache_dir"),
    "infer_batch_size",
)

_EXAMPLES = (
    ("", "the best known recipe on grid_lines_small"),
    ("+arm=stable_warmup", "one arm of the comparison"),
    ("+arm=agc optimizer.lr=2e-4 data=grid_lines", "any choice and any value can be changed"),
    ("-m +arm=control,stable,agc seed=1,2,3", "nine runs"),
    ("-m +study=stage_a seed=1,2,3", "every arm of Stage A; again: what is missing of it"),
    ("data=measured data.path=scan.npz", "a measured scan"),
    ("+arm=control trainer=ddp trainer.devices=2", "one run on two GPUs"),
)

_FLAGS = (
    ("-m, --multirun", "one run for every combination of comma-separated values"),
    ("-m hydra/launcher=joblib", "several runs at a time: hydra.launcher.n_jobs=2 (extra joblib)"),
    ("--cfg job [--resolve]", "print the configuration with every setting, and run nothing"),
    ("--info defaults", "print which file contributes what"),
    ("--config-dir DIR", "take further YAML files from DIR, laid out as conf/"),
    ("--hydra-help", "everything else that Hydra knows"),
)


def usage(files: Files, cfg: DictConfig) -> str:
    """What there is to choose and to set; the values are those of ``cfg``."""
    groups = {group: ", ".join(files.choices(group)) for group in files.groups}
    arms, studies = groups.pop("arm", ""), groups.pop("study", "")
    lines = [
        "Train one network on ptychography data without ground truth, and judge its reconstruction.",
        f"usage: {COMMAND} [+arm=ARM] [GROUP=CHOICE ...] [SETTING=VALUE ...] [FLAGS]",
        f"       {COMMAND} -m +study=STUDY [GROUP=CHOICE ...] [SETTING=VALUE,VALUE ...] [FLAGS]",
        *_section("Arms, ready-made combinations (+arm=ARM)", [(line, "") for line in wrap(arms, 100)]),
        *_section("Studies, whole comparisons (-m +study=STUDY)", [(studies, "")]),
        *_section("Groups (GROUP=CHOICE)", list(_choices(groups))),
        *_section("Settings most often changed (SETTING=VALUE)", list(_settings(cfg))),
        *_section("Examples", [(f"{COMMAND} {args}".rstrip(), why) for args, why in _EXAMPLES]),
        *_section("Flags", list(_FLAGS)),
    ]
    return "\n".join(lines)


def _choices(groups: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Group and choices, those of a group with many on several lines."""
    for group, choices in groups.items():
        first, *others = wrap(choices, 100)
        yield group, first
        yield from (("", line) for line in others)


def _settings(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    for key in _PROMINENT:
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if name in (known := settings_at(cfg, parent)) and name in node:
            value = "" if OmegaConf.is_missing(node, name) else shown(node[name])
            yield f"{key}={value}", known[name].doc


def _section(title: str, rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(left) for left, right in rows)
    return ["", f"{title}:", *(f"  {left:<{width}}  {right}".rstrip() for left, right in rows)]
