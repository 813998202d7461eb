"""Training one stage with Lightning."""

from __future__ import annotations

import inspect
import logging
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy
from rich.console import Console
from torch import nn

from bnnapps.errors import CheckpointError, RecipeError, nearest
from bnnapps.recipe.schema import ResolvedStage
from bnnapps.training.checkpoint import load_file
from bnnapps.training.lightning_io import SafeCheckpointIO
from bnnapps.training.logger import JsonLinesLogger
from bnnapps.training.module import BinaryModule
from bnnapps.training.progress_bar import progress_callback
from bnnapps.training.same_recipe import check_same
from bnnapps.training.task import Task
from bnnapps.training.watch import LayerWatch

_OURS = (
    "max_epochs",
    "max_steps",
    "callbacks",
    "logger",
    "plugins",
    "default_root_dir",
    "enable_checkpointing",
    "use_distributed_sampler",
)
_NOISE = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*module\\(s\\) in eval mode.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*treespec.*",
    ".*GPU available but not used.*",
    ".*could not find the monitored key.*",
    ".*sync_dist=True.*",
    ".*find_unused_parameters=True was specified.*",
)


def check_trainer(settings: dict[str, Any]) -> None:
    """Raise `RecipeError` for what Lightning's Trainer does not take here, or what the recipe sets elsewhere."""
    known = [name for name in inspect.signature(pl.Trainer.__init__).parameters if name != "self"]
    for key in settings:
        if key not in known:
            raise RecipeError(
                f"trainer: unknown key '{key}'; the nearest arguments of Trainer are {nearest(key, known)}"
            )
        if key in _OURS:
            raise RecipeError(f"trainer: '{key}' is set by the run itself: use train.epochs, train.steps or --out")
    try:
        with _quiet():
            pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **_defaults(live=False) | settings)
    except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as problem:
        raise RecipeError(f"trainer: {' '.join(str(problem).split())}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's remarks on workers, intervals and devices."""
    with warnings.catch_warnings():
        for pattern in _NOISE:
            warnings.filterwarnings("ignore", pattern)
        for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.WARNING)
        yield


def fit_stage(
    task: Task,
    module: BinaryModule,
    stage: ResolvedStage,
    folder: Path,
    metrics: Path,
    console: Console,
    resume: bool,
) -> dict[str, Any]:
    """Train a stage to its end (from its last checkpoint, if `resume`); the module's model gets the chosen weights.

    Returns the stage's result: metrics of the best and of the last epoch, steps, seconds.
    """
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    go_on = resume and last.is_file()
    module.recipe = task.recipe.model_dump(mode="json")
    start_step, earlier = _position(last, module.recipe) if go_on else (0, 0.0)
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor=task.monitor,
        mode="max" if task.maximize else "min",
        save_weights_only=True,
        enable_version_counter=False,
    )
    live = console.is_terminal and not console.quiet and task.recipe.trainer.get("enable_progress_bar", True)
    began = module.began = time.monotonic() - earlier
    with _quiet():
        trainer = pl.Trainer(
            max_epochs=-1 if stage.epochs is None else stage.epochs,
            max_steps=-1 if stage.steps is None else stage.steps,
            callbacks=[
                best,
                *([LayerWatch(console, stage.name)] if stage.log_layers else []),
                *_last_checkpoints(checkpoints, stage),
                progress_callback(console, live, stage.name, task.monitor),
            ],
            logger=JsonLinesLogger(metrics, stage.name, start_step),
            plugins=[SafeCheckpointIO()],
            use_distributed_sampler=False,
            **_defaults(live) | task.recipe.trainer,
        )
        _allow_unused_parameters(trainer)
        # Of several processes each trains on its share of the batches and evaluates the whole dev set.
        train, dev = task.train_loader(), list(task.dev_loaders())
        train.shard(trainer.global_rank, trainer.world_size)
        try:
            trainer.fit(module, train, dev, ckpt_path=str(last) if go_on else None)
        except SystemExit:  # what Lightning makes of Ctrl-C, which it has made the process ignore
            if trainer.interrupted:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                raise KeyboardInterrupt from None
            raise
        last_metrics = _evaluate(trainer, module, dev)
        best_metrics = last_metrics
        better = _beats(best, last_metrics[task.monitor.removeprefix("dev/")], task.maximize)
        # One process decides for all: their running statistics differ, and evaluating waits for every one of them.
        if stage.select == "best" and trainer.strategy.broadcast(better):
            _load_weights(module.model, Path(best.best_model_path))
            best_metrics = _evaluate(trainer, module, dev)
    chosen = best_metrics if stage.select == "best" else last_metrics
    return {
        "stage": stage.name,
        "metrics": chosen,
        "last": last_metrics,
        "best": best_metrics,
        "monitor": task.monitor,
        "maximize": task.maximize,
        "selected": stage.select,
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "seconds": round(time.monotonic() - began, 1),
        "resumed_from_step": start_step if go_on else None,
    }


def _allow_unused_parameters(trainer: pl.Trainer) -> None:
    """Let DDP train networks of which some parameters rest, unless the recipe's strategy decides that.

    The latent weight of a split layer rests, as does a head that no loss reads; by default DDP fails or waits for ever.
    """
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)


def _position(checkpoint: Path, recipe: dict[str, Any]) -> tuple[int, float]:
    """Steps and seconds of the training that a checkpoint was written in.

    Raises:
        CheckpointError: no run wrote it.
        UsageError: it was written with another recipe.
    """
    saved = load_file(checkpoint)
    if not isinstance(saved.get("bnnapps"), dict):
        raise CheckpointError(f"{checkpoint} was not written by `bnnapps run`: delete it to start the stage anew")
    before = saved["bnnapps"].get("recipe")
    if isinstance(before, dict):
        check_same(before, recipe, f"{checkpoint} is")
    return int(saved["global_step"]), float(saved["bnnapps"]["seconds"])


def _beats(best: ModelCheckpoint, last: float, maximize: bool) -> bool:
    """Whether the best checkpoint is better than the weights at the end (which a last, partial epoch may have made)."""
    if best.best_model_score is None:
        return False
    score = float(best.best_model_score)
    return score > last if maximize else score < last


def _defaults(live: bool) -> dict[str, Any]:
    """What the run asks of Trainer unless the recipe says otherwise."""
    return {
        "enable_model_summary": False,
        "enable_progress_bar": live,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 10,
    }


def _last_checkpoints(folder: Path, stage: ResolvedStage) -> list[Callback]:
    """`last.ckpt` at every epoch's end, and every so many steps if asked for."""
    common: dict[str, Any] = {"filename": "last", "save_top_k": 1, "enable_version_counter": False}
    found: list[Callback] = [ModelCheckpoint(folder, every_n_epochs=1, save_on_train_epoch_end=True, **common)]
    if stage.checkpoint_every is not None:
        found.append(ModelCheckpoint(folder, every_n_train_steps=stage.checkpoint_every, **common))
    return found


def _evaluate(trainer: pl.Trainer, module: BinaryModule, dev: list[Any]) -> dict[str, float]:
    trainer.validate(module, dev, verbose=False)
    return {name.removeprefix("dev/"): value for name, value in module.collected_metrics().items()}


def _load_weights(model: nn.Module, path: Path) -> None:
    state = load_file(path)["state_dict"]
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
