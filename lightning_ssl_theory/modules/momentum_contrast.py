"""Contrast with a queue of keys from a slowly moving copy of the network, as a LightningModule: MoCo."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_ssl_theory.checks import check_flag, check_instance, check_number, check_shape
from lightning_ssl_theory.data.batch import read_images, read_views
from lightning_ssl_theory.distributed import all_gather_rows
from lightning_ssl_theory.losses.queued_info_nce import QueuedInfoNCELoss
from lightning_ssl_theory.modules.in_turn import in_turn
from lightning_ssl_theory.modules.key_queue import KeyQueue
from lightning_ssl_theory.modules.momentum_target import AfterEveryStep, frozen_copies, move_target_
from lightning_ssl_theory.modules.optimization import Optimization, SchedulerInterval
from lightning_ssl_theory.modules.training_loss import logged_loss
from lightning_ssl_theory.modules.view_pairs import (
    full_size_views,
    mean_parts,
    of_every_view,
    pairs_with_targets,
)


class MomentumContrastSSL(LightningModule):
    r"""Queries p(h(x)), each trained to find its key, another view's, among the keys of earlier batches.

    Keys are what `target_backbone` and `target_projector` make of a view: copies whose parameters follow the network's,
    t <- m t + (1 - m) o, after every optimiser step; their buffers are their own, and in training their BatchNorm uses
    the statistics of their own batches. The views of a batch may be in any format of
    :mod:`lightning_ssl_theory.data.batch`. The last of the views with the most pixels gives the key and all other views
    are queries; with `symmetric`, every view with the most pixels gives keys, and the loss is the mean over all ordered
    pairs of a query and another view's key.

    The queue is equal on all ranks: it holds the keys of the last batches, view by view, within a view in the order of
    the ranks, and grows from nothing up to `queue_size`. Keys come in after the loss of their batch, one batch of an
    accumulated step at a time; checkpoints keep them. BatchNorm can give away which key belongs to a query of the same
    batch, and keys are not shuffled over the ranks against it: prefer networks without, or `sync_batchnorm`.

    Logs `train/loss`. Validation sends the images through both networks, for the callbacks that look at their layers.

    Args:
        backbone: Images (N, C, H, W) to features (N, D); what people deploy.
        projector: Features (N, D) to what enters the loss (N, E). The networks are copied when the module is built,
            so load weights before.
        loss: Module `loss(queries, keys, queue) -> scalar`; by default `QueuedInfoNCELoss()`. No hyperparameter:
            pass it to `load_from_checkpoint` again.
        momentum: m in [0, 1]; 0.999 in long trainings.
        queue_size: The most keys in the queue, a multiple of the keys of a step on all ranks together.
        symmetric: Whether every view is a query and gives a key.
        optimizer: Parameters to optimiser; of the network, never of the target.
        scheduler: Optimiser to learning rate scheduler; None keeps the rate.
        scheduler_interval: Whether the scheduler counts epochs or steps.
        decay_norms_and_biases: False keeps the optimiser's weight decay from biases, and from the parameters of
            normalisation layers; see :func:`~lightning_ssl_theory.modules.optimization.parameter_groups`.

    Raises:
        InputError: If an argument is of another kind or out of its range; in the first step, if its keys do not divide
            the queue.

    References: He, Fan, Wu, Xie, Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", 2020,
    section 3.2; Chen, Fan, Girshick, He, "Improved Baselines with Momentum Contrastive Learning", 2020.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        loss: nn.Module | None = None,
        *,
        momentum: float = 0.99,
        queue_size: int = 4096,
        symmetric: bool = False,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: SchedulerInterval = "epoch",
        decay_norms_and_biases: bool = True,
    ) -> None:
        super().__init__()
        for name, part in {"backbone": backbone, "projector": projector}.items():
            check_instance(part, name, nn.Module)
        check_instance(loss, "loss", nn.Module, or_none=True)
        check_number(momentum, "momentum", "[0, 1]", advice="it is the share of the target that stays")
        check_flag(symmetric, "symmetric")
        self._optimization = Optimization(optimizer, scheduler, scheduler_interval, decay_norms_and_biases)
        self.save_hyperparameters(ignore=["backbone", "projector", "loss", "optimizer", "scheduler"])
        self.backbone, self.projector = backbone, projector
        self.loss = QueuedInfoNCELoss() if loss is None else loss
        self.target_backbone, self.target_projector = frozen_copies(backbone, projector)
        self.queue = KeyQueue(queue_size)
        self._after_every_step = AfterEveryStep()

    def forward(self, images: Tensor) -> Tensor:
        """Returns the features of the backbone, which people deploy: (N, *) to (N, D)."""
        return self.backbone(images)

    def embed(self, images: Tensor) -> Tensor:
        """Returns what enters the loss, the queries: (N, *) to (N, E)."""
        return in_turn(images, backbone=self.backbone, projector=self.projector)

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        """Returns the keys, without a gradient: (N, *) to (N, E)."""
        if self._trainer is not None and self._trainer.training:
            self._follow()  # whatever of the step and the hooks a subclass overrides
        return in_turn(images, backbone=self.target_backbone, projector=self.target_projector)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the mean of the loss over the pairs of a query and a key; then the keys enter the queue."""
        is_training = torch.is_grad_enabled()  # a subclass may take this step in validation, too
        if is_training:
            self._follow()
        views, is_symmetric = read_views(batch), self.hparams["symmetric"]
        chosen = full_size_views(views)
        keys = of_every_view(self.target, views, chosen if is_symmetric else chosen[-1:])
        for one in keys.values():
            check_shape(one, "keys", "N E")
        asking = [index for index in range(len(views)) if is_symmetric or index not in keys]
        queries = of_every_view(self.embed, views, asking)
        queue = self.queue.rows(next(iter(keys.values())))
        parts = mean_parts(self.loss, pairs_with_targets(queries, keys), queue)
        if is_training:
            self.queue.push(keys_of_all_ranks(list(keys.values())))
        return logged_loss(self, parts)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Send the clean images through both networks, so that hooks on their layers fire."""
        self.embed(read_images(batch))
        self.target(read_images(batch))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The same as in validation."""
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns the features of the clean images of a batch, as `forward` does."""
        return self(read_images(batch))

    def configure_optimizers(self) -> Any:
        """The optimiser of all parameters that are not frozen, with its scheduler if there is one."""
        return self._optimization.configured(self, partial(self._after_every_step.start, _move, self))

    def on_train_start(self) -> None:
        """Let the target follow from the first step on."""
        self._follow()

    def _follow(self) -> None:
        # also where a subclass overrides `on_train_start` or `configure_optimizers`
        self._after_every_step.start_with_trainer(_move, self)


def _move(module: MomentumContrastSSL) -> None:
    move_target_(module, module.hparams["momentum"])


@torch.no_grad()
def keys_of_all_ranks(keys: Sequence[Tensor]) -> Tensor:
    """The keys of all ranks in the order in which they enter the queue: by view, by rank, by row.

    Args:
        keys: Of each view that gives keys, this rank's (n_r, E); n_r may differ between ranks.

    Returns:
        (V N, E), equal on every rank. One exchange of all keys.

    Example:
        >>> keys_of_all_ranks([torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])]).flatten().tolist()
        [1.0, 2.0, 3.0, 4.0]
    """
    return all_gather_rows(torch.stack(list(keys), dim=1)).transpose(0, 1).flatten(0, 1)
