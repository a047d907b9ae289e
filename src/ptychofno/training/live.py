"""What live logs get besides the curves: the settings, what came of the run, and its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary


@contextmanager
def described(loggers: Sequence[Logger], settings: Mapping[str, Any]) -> Iterator[None]:
    """Log the ``settings``; in the end close what would go on into the next run of this process."""
    try:
        for logger in loggers:
            logger.log_hyperparams(dict(settings))
        yield
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()


def log_result(
    loggers: Sequence[Logger], settings: Mapping[str, Any], values: Mapping[str, Any], figures: Sequence[Path]
) -> None:
    """Log the numbers among ``values`` under ``final/``, and the figures where a logger takes pictures.

    A pair of numbers is that of amplitude and phase, as in metrics.json.
    """
    final = {f"final/{key}": number for key, number in _numbers(values)}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(settings), final)  # once more: it shows them beside a result only
        else:
            logger.log_metrics(final)
        for figure in figures:
            _attach(logger, figure)
        logger.save()


def _attach(logger: Logger, figure: Path) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_image(figure.stem, [str(figure)])
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_artifact(logger.run_id, str(figure))
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.file_writer.add_summary(_encoded(figure))


def _encoded(figure: Path) -> Summary:
    """A PNG as it is: to decode it and to encode it again takes a second."""
    with Image.open(figure) as opened:
        width, height = opened.size
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=figure.read_bytes())
    return Summary(value=[Summary.Value(tag=figure.stem, image=image)])


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        pair = isinstance(value, list) and len(value) == 2
        named = zip((f"{key}_amplitude", f"{key}_phase"), value, strict=True) if pair else [(key, value)]
        yield from ((name, float(one)) for name, one in named if isinstance(one, (int, float)))
