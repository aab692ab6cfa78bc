"""The callbacks on a LightningModule that is not ours: lightly's loss, projection head and transform (needs lightly).

The module is as one would write it without us. What this library adds is the list `callbacks`.
"""

# %%
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FakeData
from torchvision.models import resnet18
from torchvision.transforms import ToTensor

from lightning_ssl_theory.callbacks import (
    CovarianceOperators,
    FeatureNormMonitor,
    LinearProbe,
    NeuronSelectivity,
)
from lightning_ssl_theory.losses import InfoNCELoss


# %%
class SimCLR(LightningModule):
    def __init__(self):
        super().__init__()
        body = resnet18()
        self.backbone = nn.Sequential(*list(body.children())[:-1], nn.Flatten())
        self.head = SimCLRProjectionHead(512, 512, 128)
        self.criterion = NTXentLoss(temperature=0.5)

    def forward(self, images):
        return self.head(self.backbone(images))

    def training_step(self, batch, batch_idx):
        (first, second), _ = batch
        return self.criterion(self(first), self(second))

    def validation_step(self, batch, batch_idx):
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.06, momentum=0.9)


# %%
def main(*, max_steps: int = 4, num_images: int = 64, batch_size: int = 16, output_dir: str = "runs"):
    """Train on torchvision's random images; put your own dataset in their place."""
    seed_everything(0)

    def images(transform):
        return FakeData(num_images, (3, 32, 32), num_classes=4, transform=transform)

    clean = DataLoader(images(ToTensor()), batch_size)
    callbacks = [
        CovarianceOperators(
            ["backbone.0", "head.layers.0"], loss=InfoNCELoss(temperature=0.5), every_n_steps=2
        ),
        NeuronSelectivity(["backbone"], num_classes=4),
        FeatureNormMonitor(["backbone"]),
        LinearProbe("backbone", num_classes=4, fit_loader=clean, few_labels=[5]),
    ]
    logger = CSVLogger(output_dir, name="drop_in", version="")
    trainer = Trainer(max_steps=max_steps, logger=logger, callbacks=callbacks, log_every_n_steps=1)
    views = DataLoader(images(SimCLRTransform(input_size=32)), batch_size, shuffle=True, drop_last=True)
    trainer.fit(SimCLR(), views, clean)
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


# %%
if __name__ == "__main__":
    values = main()
    for key, value in values.items():
        print(f"{key:50} {value:.4g}")
    assert 0 <= values["covariance/backbone.0/signal_ratio"] <= 1
