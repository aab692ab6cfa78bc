"""lightly's example modules for Lightning, built from its installed parts with small bodies.

Each class follows the example of its name in lightly's documentation; sizes, bodies and optimisers are smaller.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

WIDTH = 8


def body() -> nn.Module:
    """A convolution, BatchNorm and a mean over positions: (N, 3, H, W) to (N, WIDTH, 1, 1)."""
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 3, stride=2), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )


class Example(LightningModule):
    """What the examples share."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.06)


class SimCLR(Example):
    def __init__(self) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead

        super().__init__()
        self.backbone = body()
        self.projection_head = SimCLRProjectionHead(WIDTH, WIDTH, 4)
        self.criterion = NTXentLoss()

    def forward(self, x: Tensor) -> Tensor:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (x0, x1), _, _ = batch
        return self.criterion(self.forward(x0), self.forward(x1))


class DCL(SimCLR):
    def __init__(self) -> None:
        from lightly.loss import DCLLoss

        super().__init__()
        self.criterion = DCLLoss()


class BarlowTwins(SimCLR):
    def __init__(self) -> None:
        from lightly.loss import BarlowTwinsLoss
        from lightly.models.modules import BarlowTwinsProjectionHead

        super().__init__()
        self.projection_head = BarlowTwinsProjectionHead(WIDTH, WIDTH, 4)
        self.criterion = BarlowTwinsLoss()


class VICReg(SimCLR):
    def __init__(self) -> None:
        from lightly.loss import VICRegLoss
        from lightly.models.modules.heads import VICRegProjectionHead

        super().__init__()
        self.projection_head = VICRegProjectionHead(WIDTH, WIDTH, 4, num_layers=2)
        self.criterion = VICRegLoss()


class Alias(SimCLR):
    """Its parts under several names, as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(self.backbone, nn.Flatten(), self.projection_head)
        self.encoder = self.backbone

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Momentum(Example):
    """A body with its projection head, and both again as moving averages."""

    def __init__(self, head: Callable[[], nn.Module]) -> None:
        from lightly.models.utils import deactivate_requires_grad

        super().__init__()
        self.backbone, self.projection_head = body(), head()
        self.backbone_momentum, self.projection_head_momentum = copy.deepcopy(self.backbone), head()
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def update(self) -> None:
        from lightly.models.utils import update_momentum

        update_momentum(self.backbone, self.backbone_momentum, m=0.9)
        update_momentum(self.projection_head, self.projection_head_momentum, m=0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def forward_momentum(self, x: Tensor) -> Tensor:
        y = self.backbone_momentum(x).flatten(start_dim=1)
        return self.projection_head_momentum(y).detach()


class BYOL(Momentum):
    def __init__(self) -> None:
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead

        super().__init__(lambda: BYOLProjectionHead(WIDTH, WIDTH, 4))
        self.prediction_head = BYOLPredictionHead(4, WIDTH, 4)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, x: Tensor) -> Tensor:
        return self.prediction_head(super().forward(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.update()
        x0, x1 = batch[0]
        p0, z0 = self.forward(x0), self.forward_momentum(x0)
        p1, z1 = self.forward(x1), self.forward_momentum(x1)
        return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))


class MoCo(Momentum):
    def __init__(self) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead

        super().__init__(lambda: MoCoProjectionHead(WIDTH, WIDTH, 4))
        self.criterion = NTXentLoss(memory_bank_size=(16, 4))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        from lightly.models.utils import batch_shuffle, batch_unshuffle

        self.update()
        x_q, x_k = batch[0]
        q = self.forward(x_q)
        k, shuffle = batch_shuffle(x_k)
        return self.criterion(q, batch_unshuffle(self.forward_momentum(k), shuffle))


class DINO(Momentum):
    def __init__(self) -> None:
        from lightly.loss import DINOLoss
        from lightly.models.modules import DINOProjectionHead

        super().__init__(lambda: DINOProjectionHead(WIDTH, WIDTH, 6, 5, freeze_last_layer=1))
        self.criterion = DINOLoss(output_dim=5, warmup_teacher_temp_epochs=5)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.update()
        views = batch[0]
        teacher = [self.forward_momentum(view) for view in views[:2]]
        student = [self.forward(view) for view in views]
        return self.criterion(teacher, student, epoch=self.current_epoch)

    def on_after_backward(self) -> None:
        self.projection_head.cancel_last_layer_gradients(current_epoch=self.current_epoch)


class SimSiam(Example):
    def __init__(self) -> None:
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead

        super().__init__()
        self.backbone = body()
        self.projection_head = SimSiamProjectionHead(WIDTH, WIDTH, 4)
        self.prediction_head = SimSiamPredictionHead(4, 6, 4)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.projection_head(self.backbone(x).flatten(start_dim=1))
        return z.detach(), self.prediction_head(z)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x0, x1 = batch[0]
        (z0, p0), (z1, p1) = self.forward(x0), self.forward(x1)
        return 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))


class NNCLR(Example):
    def __init__(self) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import NNCLRPredictionHead, NNCLRProjectionHead, NNMemoryBankModule

        super().__init__()
        self.backbone = body()
        self.projection_head = NNCLRProjectionHead(WIDTH, WIDTH, 4)
        self.prediction_head = NNCLRPredictionHead(4, WIDTH, 4)
        self.memory_bank = NNMemoryBankModule(size=(16, 4))
        self.criterion = NTXentLoss()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.projection_head(self.backbone(x).flatten(start_dim=1))
        return z.detach(), self.prediction_head(z)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x0, x1 = batch[0]
        (z0, p0), (z1, p1) = self.forward(x0), self.forward(x1)
        z0, z1 = self.memory_bank(z0, update=False), self.memory_bank(z1, update=True)
        return 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))


class SwAV(Example):
    def __init__(self) -> None:
        from lightly.loss import SwaVLoss
        from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes

        super().__init__()
        self.backbone = body()
        self.projection_head = SwaVProjectionHead(WIDTH, WIDTH, 4)
        self.prototypes = SwaVPrototypes(4, n_prototypes=5)
        self.criterion = SwaVLoss()

    def forward(self, x: Tensor) -> Tensor:
        z = self.projection_head(self.backbone(x).flatten(start_dim=1))
        return self.prototypes(nn.functional.normalize(z, dim=1, p=2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.prototypes.normalize()
        scores = [self.forward(view) for view in batch[0]]
        return self.criterion(scores[:2], scores[2:])


class NormalizingSwAV(SwAV):
    """Normalises its prototypes in the forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        self.prototypes.normalize()
        return super().forward(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.criterion(self.forward(torch.cat(batch[0])).chunk(2), [])


class MAE(Example):
    """No forward of its own."""

    def __init__(self) -> None:
        from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM
        from timm.models.vision_transformer import VisionTransformer

        super().__init__()
        vit = VisionTransformer(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=0)
        self.patch_size = vit.patch_embed.patch_size[0]
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.decoder = MAEDecoderTIMM(
            num_patches=vit.patch_embed.num_patches,
            patch_size=self.patch_size,
            embed_dim=16,
            decoder_embed_dim=8,
            decoder_depth=1,
            decoder_num_heads=2,
        )
        self.criterion = nn.MSELoss()

    def forward_decoder(self, encoded: Tensor, idx_keep: Tensor, idx_mask: Tensor) -> Tensor:
        from lightly.models import utils

        embedded = self.decoder.embed(encoded)
        masked = utils.repeat_token(self.decoder.mask_token, (len(encoded), self.backbone.sequence_length))
        masked = utils.set_at_index(masked, idx_keep, embedded.type_as(masked))
        return self.decoder.predict(utils.get_at_index(self.decoder.decode(masked), idx_mask))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        from lightly.models import utils

        images = batch[0][0]
        idx_keep, idx_mask = utils.random_token_mask(
            size=(len(images), self.backbone.sequence_length), mask_ratio=0.75, device=images.device
        )
        encoded = self.backbone.encode(images=images, idx_keep=idx_keep)
        patches = utils.patchify(images, self.patch_size)
        predicted = self.forward_decoder(encoded, idx_keep, idx_mask)
        return self.criterion(predicted, utils.get_at_index(patches, idx_mask - 1))
