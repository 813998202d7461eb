"""What happens in each binary layer during a training: flips, saturation, and weights that have stopped learning."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from torch import Tensor, nn

from bnnapps.nn.layers.base import BinaryLayer
from bnnapps.training.flips import count_flips, trained_weights, weight_count, weight_signs
from bnnapps.training.saturation import Saturation

STARVED = 0.995
"""A layer whose weights lie outside the window to more than this fraction gets next to no gradient."""


class LayerWatch(Callback):
    """Logs every epoch, for each binary layer, and warns once of a layer that no longer learns.

    * `flips/<layer>`: the fraction of binary weights whose sign changed since the last epoch's end.
    * `saturation/<layer>`: the fraction of the inputs of its sign outside the estimator's window, in the first batch
      of the epoch.
    * `weights_outside/<layer>`: the same of the latent weights.

    The signs are kept as bits, also in the checkpoint, so a resumed run logs what an unbroken one logs.

    Args:
        console: where warnings go.
        stage: the stage's name.

    """

    def __init__(self, console: Console, stage: str) -> None:
        self.console, self.stage = console, stage
        self._layers: dict[str, BinaryLayer[Any]] = {}
        self._signs: dict[str, list[Tensor]] = {}
        self._measured: dict[str, dict[str, float]] = {}
        self._all_positive: list[str] = []
        self._without_gradient: list[str] = []
        self._warned: list[str] = []
        self._saturation: Saturation | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the layers, and their signs unless a checkpoint had them."""
        model = _model(pl_module)
        self._layers = {n: m for n, m in model.named_modules() if isinstance(m, BinaryLayer)}
        self._saturation = Saturation(model) if self._layers else None
        weighted = {n: m for n, m in self._layers.items() if m.latents()}
        if self._signs.keys() != weighted.keys():
            self._signs = {n: weight_signs(m) for n, m in weighted.items()}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Watch the first batch of the epoch."""
        if batch_idx == 0 and self._saturation is not None:
            self._saturation.attach()

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what the first batch has shown."""
        watched = self._saturation
        if watched is None or not watched.attached:
            return
        watched.remove()
        self._measured = {"saturation": watched.activations, "weights_outside": watched.weights}
        self._all_positive = watched.all_positive
        self._without_gradient = [n for n in self._signs if _no_gradient(trained_weights(self._layers[n]))]

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave no hook behind."""
        if self._saturation is not None:
            self._saturation.remove()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch, and warn."""
        flips: dict[str, float] = {}
        for name in self._signs:
            layer = self._layers[name]
            signs = weight_signs(layer)
            flips[name] = count_flips(self._signs[name], signs) / weight_count(layer)
            self._signs[name] = signs
        values = {"flips": flips, **self._measured}
        pl_module.log_dict({f"{kind}/{name}": v for kind, row in values.items() for name, v in row.items()})
        for name, flipped in flips.items():
            reason = self._starves(name) if flipped == 0.0 and name not in self._warned else None
            if reason is not None and trained_weights(self._layers[name]):
                self._warned.append(name)
                epoch = trainer.current_epoch + 1
                self.console.print(
                    f"Warning: {self.stage}, layer '{name}': no weight changed its sign in epoch {epoch}, and {reason}",
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )

    def _starves(self, name: str) -> str | None:
        """Why a layer whose signs stand still gets no gradient, and what to do."""
        outside = self._measured.get("weights_outside", {}).get(name, 0.0)
        estimator = [b.spec.estimator.name for _, _, b in self._layers[name].latents()]
        if outside > STARVED and "identity" not in estimator:
            return (
                f"{outside:.1%} of its weights lie outside the window of their estimator '{estimator[0]}', where the "
                "gradient is zero: set weight.constraint: clip or weight.estimator: identity, or start from smaller "
                "weights"
            )
        if name in self._without_gradient:
            return (
                "its gradient is zero: check that its output reaches the loss; if all that follows it is saturated "
                "(saturation/... in metrics.jsonl), put a BatchNorm before the next sign or lower the learning rate"
            )
        if name in self._all_positive:
            return (
                "every sign of its input is +1, so it sees a constant: put a BatchNorm before it, take "
                "activation.shift: channel, or move the ReLU behind it"
            )
        return None

    def state_dict(self) -> dict[str, Any]:
        """Signs and measures, as tensors and plain data."""
        return {
            "signs": self._signs,
            "measured": self._measured,
            "all_positive": self._all_positive,
            "without_gradient": self._without_gradient,
            "warned": self._warned,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._signs, self._measured = state_dict["signs"], state_dict["measured"]
        self._all_positive, self._without_gradient = state_dict["all_positive"], state_dict["without_gradient"]
        self._warned = state_dict["warned"]


def _model(module: pl.LightningModule) -> nn.Module:
    found: Any = module
    model: nn.Module = found.model
    return model


def _no_gradient(weights: list[nn.Parameter]) -> bool:
    return all(w.grad is None or not bool(w.grad.any()) for w in weights)
