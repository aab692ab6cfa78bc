"""SimCLR on MNIST, CIFAR-10 or a folder of images: `python examples/simclr_images.py mnist /data/mnist`.

The folder is read as torchvision.datasets reads it; with --download it is fetched there first.
"""

# %%
import argparse
from functools import partial

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    FeatureNormMonitor,
    LinearProbe,
    NeuronSelectivity,
)
from lightning_ssl_theory.data import ImageDataModule
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.networks import MLP, ResNet, SmallConvNet
from lightning_ssl_theory.report import RunReport


# %%
def main(
    dataset: str,
    data_dir: str,
    *,
    max_steps: int = 500,
    batch_size: int = 256,
    num_workers: int = 2,
    download: bool = False,
    image_size: int | None = None,
    output_dir: str = "runs",
) -> dict[str, float]:
    """Train, write `runs/simclr_<dataset>/report.html`, and return what the diagnostics saw last."""
    seed_everything(0)
    data = ImageDataModule(
        dataset, data_dir, batch_size, num_workers=num_workers, download=download, image_size=image_size
    )
    data.setup("fit")
    channels = data.image_shape[0]
    backbone = ResNet("resnet18", stem="cifar") if channels == 3 else SmallConvNet(channels, [32, 64, 128])
    model = ContrastiveSSL(
        backbone,
        MLP([backbone.num_features, backbone.num_features, 128]),
        InfoNCELoss(temperature=0.5),
        optimizer=partial(torch.optim.SGD, lr=0.06, momentum=0.9, weight_decay=5e-4),
    )
    callbacks = [
        CovarianceOperators(every_n_steps=max(1, max_steps // 10), num_samples=64),
        NeuronSelectivity(["backbone"], num_samples=1000),
        FeatureNormMonitor(["backbone"], num_samples=1000),
        LinearProbe("backbone", num_samples=2000, num_fit_samples=5000),
        CollapseMonitor(["backbone", "output"], num_samples=1000),
        RunReport(),
    ]
    trainer = Trainer(
        max_steps=max_steps,
        val_check_interval=max(1, max_steps // 4),
        check_val_every_n_epoch=None,
        logger=CSVLogger(output_dir, name=f"simclr_{dataset}", version=""),
        callbacks=callbacks,
        log_every_n_steps=10,
    )
    trainer.fit(model, datamodule=data)
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=["mnist", "fashion_mnist", "cifar10", "cifar100", "image_folder"])
    parser.add_argument("data_dir")
    parser.add_argument("--max-steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--image-size", type=int, help="for a folder of images")
    parser.add_argument("--download", action="store_true")
    arguments = parser.parse_args()
    values = main(**vars(arguments))
    for key, value in values.items():
        print(f"{key:60} {value:.4g}")
    assert values["collapse/backbone/effective_rank"] > 1.1, "the representation has collapsed"
