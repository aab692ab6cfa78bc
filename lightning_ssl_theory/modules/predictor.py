"""Learning to predict one view from another without negatives, as a LightningModule: SimSiam and BYOL."""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_ssl_theory.checks import InputError, check_flag, check_instance, check_number, check_word
from lightning_ssl_theory.data.batch import read_images, read_views
from lightning_ssl_theory.losses.negative_cosine import NegativeCosineLoss
from lightning_ssl_theory.modules.in_turn import in_turn
from lightning_ssl_theory.modules.momentum_target import (
    AfterEveryStep,
    EMASchedule,
    frozen_copies,
    momentum_now,
    move_target_,
)
from lightning_ssl_theory.modules.optimization import Optimization, SchedulerInterval
from lightning_ssl_theory.modules.training_loss import logged_loss
from lightning_ssl_theory.modules.view_pairs import (
    full_size_views,
    mean_parts,
    of_every_view,
    pairs_with_targets,
)


class PredictorSSL(LightningModule):
    r"""A predictor q behind projection z = p(h(x)), trained to meet what a target network makes of another view.

    .. math:: \mathcal{L} = \mathrm{mean}_{a \ne b}\, \ell\big(q(z_a), \mathrm{stop}(t_b)\big)

    over all ordered pairs of the A >= 2 views of a batch, in any format of :mod:`lightning_ssl_theory.data.batch`;
    where views differ in size, as with multi-crop, targets b are those with the most pixels. Without `ema` the target
    is the network itself, t = z: SimSiam. With it, t is what `target_backbone` and `target_projector` make of the view,
    copies whose parameters follow the network's, t <- m t + (1 - m) o, after every optimiser step: BYOL. They run in
    the network's mode, and in training their BatchNorm uses and keeps the statistics of their own batches: buffers are
    not averaged. Networks are copied when the module is built, so load weights before.

    Every view is a forward pass of its own. Logs `train/loss`, and parts where the loss has them. Validation sends the
    images through both networks, for the callbacks that look at their layers.

    Args:
        backbone: Images (N, C, H, W) to features (N, D); what people deploy.
        projector: Features (N, D) to projections (N, E).
        predictor: Projections (N, E) to predictions of the other view's, (N, E). `nn.Identity()` does without one.
        loss: Module `loss(predictions, targets) -> scalar`; by default `NegativeCosineLoss()`. No hyperparameter:
            pass it to `load_from_checkpoint` again.
        ema: Momentum m of the target in [0, 1], usually 0.99 to 0.999; None is SimSiam.
        ema_schedule: Whether m stays, or rises to 1 along half a cosine until the end of training, as in BYOL.
        stop_gradient: False lets the gradient reach the targets, too; only without `ema`. The papers do so to show
            that outputs collapse then.
        optimizer: Parameters to optimiser; of the network and the predictor, never of the target.
        scheduler: Optimiser to learning rate scheduler; None keeps the rate.
        scheduler_interval: Whether the scheduler counts epochs or steps.
        decay_norms_and_biases: False keeps the optimiser's weight decay from biases, and from the parameters of
            normalisation layers; see :func:`~lightning_ssl_theory.modules.optimization.parameter_groups`.

    Raises:
        InputError: If an argument is of another kind, the momentum is out of its range, or options contradict.

    References: Chen, He, "Exploring Simple Siamese Representation Learning", 2021; Grill et al., "Bootstrap Your Own
    Latent: A New Approach to Self-Supervised Learning", 2020.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        loss: nn.Module | None = None,
        *,
        ema: float | None = None,
        ema_schedule: EMASchedule = "constant",
        stop_gradient: bool = True,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: SchedulerInterval = "epoch",
        decay_norms_and_biases: bool = True,
    ) -> None:
        super().__init__()
        _check_predictor(predictor)
        for name, part in {"backbone": backbone, "projector": projector, "predictor": predictor}.items():
            check_instance(part, name, nn.Module)
        check_instance(loss, "loss", nn.Module, or_none=True)
        check_number(ema, "ema", "[0, 1]", advice="it is the share of the target that stays", or_none=True)
        check_word(ema_schedule, "ema_schedule", EMASchedule)
        check_flag(stop_gradient, "stop_gradient")
        _check_options(ema, ema_schedule, stop_gradient)
        self._optimization = Optimization(optimizer, scheduler, scheduler_interval, decay_norms_and_biases)
        self.save_hyperparameters(
            ignore=["backbone", "projector", "predictor", "loss", "optimizer", "scheduler"]
        )
        self.backbone, self.projector, self.predictor = backbone, projector, predictor
        self.loss = NegativeCosineLoss() if loss is None else loss
        if ema is not None:
            self.target_backbone, self.target_projector = frozen_copies(backbone, projector)
        self._after_every_step = AfterEveryStep()

    def forward(self, images: Tensor) -> Tensor:
        """Returns the features of the backbone, which people deploy: (N, *) to (N, D)."""
        return self.backbone(images)

    def embed(self, images: Tensor) -> Tensor:
        """Returns what enters the loss, the predictions: (N, *) to (N, E)."""
        return in_turn(images, backbone=self.backbone, projector=self.projector, predictor=self.predictor)

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        """Returns what the target network makes of images, without a gradient: (N, *) to (N, E)."""
        if self.hparams["ema"] is None:
            return self._project(images)
        if self._trainer is not None and self._trainer.training:
            self._follow()  # whatever of the step and the hooks a subclass overrides
        return in_turn(images, backbone=self.target_backbone, projector=self.target_projector)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the mean of the loss over all ordered pairs of views."""
        if torch.is_grad_enabled():  # a subclass may take this step in validation, too
            self._follow()
        views = read_views(batch)
        projections = of_every_view(self._project, views)
        predictions = {index: self.predictor(projection) for index, projection in projections.items()}
        chosen = full_size_views(views)
        if self.hparams["ema"] is not None:
            targets = {index: self.target(views[index]) for index in chosen}
        else:
            stops = self.hparams["stop_gradient"]
            targets = {
                index: projections[index].detach() if stops else projections[index] for index in chosen
            }
        return logged_loss(self, mean_parts(self.loss, pairs_with_targets(predictions, targets)))

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Send the clean images through both networks, so that hooks on their layers fire."""
        self.embed(read_images(batch))
        if self.hparams["ema"] is not None:
            self.target(read_images(batch))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The same as in validation."""
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns the features of the clean images of a batch, as `forward` does."""
        return self(read_images(batch))

    def configure_optimizers(self) -> Any:
        """The optimiser of all parameters that are not frozen, with its scheduler if there is one."""
        following = (
            None if self.hparams["ema"] is None else partial(self._after_every_step.start, _move, self)
        )
        return self._optimization.configured(self, following)

    def on_train_start(self) -> None:
        """Let the target follow from the first step on."""
        self._follow()
        if self.hparams["ema"] is not None:
            _momentum(self)  # raises now where it cannot be told

    def _project(self, images: Tensor) -> Tensor:
        return in_turn(images, backbone=self.backbone, projector=self.projector)

    def _follow(self) -> None:
        # also where a subclass overrides `on_train_start` or `configure_optimizers`
        if self.hparams["ema"] is not None:
            self._after_every_step.start_with_trainer(_move, self)


def _momentum(module: PredictorSSL) -> float:
    return momentum_now(module._trainer, module.hparams["ema"], module.hparams["ema_schedule"])


def _move(module: PredictorSSL) -> None:
    move_target_(module, _momentum(module))


def _check_predictor(predictor: Any) -> None:
    if predictor is None:
        raise InputError(
            "Expected `predictor` to be of type Module, got None; build one, such as MLP([128, 64, 128]), or pass "
            "nn.Identity() to do without."
        )


def _check_options(ema: float | None, ema_schedule: EMASchedule, stop_gradient: bool) -> None:
    if ema is None and ema_schedule != "constant":
        raise InputError(
            f'Expected `ema_schedule` "constant" without `ema`, got "{ema_schedule}"; pass ema=0.99 for BYOL.'
        )
    if ema is not None and not stop_gradient:
        raise InputError(
            "Expected `stop_gradient` True with `ema`, got False; the target network is never trained by gradients."
        )
