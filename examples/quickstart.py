"""Contrastive learning on handwritten digits, watched by four diagnostics. Nothing to download; a minute on a CPU."""

# %%
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import (
    CovarianceOperators,
    FeatureNormMonitor,
    LinearProbe,
    NeuronSelectivity,
)
from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.networks import MLP, SmallConvNet


# %%
def main(*, max_epochs: int = 30, output_dir: str = "runs") -> dict[str, float]:
    """Train, and return what the diagnostics saw last."""
    seed_everything(0)
    model = ContrastiveSSL(SmallConvNet(1, [32, 64]), MLP([64, 64, 32]), InfoNCELoss(temperature=0.5))
    callbacks = [
        CovarianceOperators(every_n_steps=20),
        NeuronSelectivity(["backbone", "projector.linear_1"]),
        FeatureNormMonitor(["backbone"]),
        LinearProbe("backbone"),
    ]
    logger = CSVLogger(output_dir, name="quickstart", version="")
    trainer = Trainer(max_epochs=max_epochs, logger=logger, callbacks=callbacks, log_every_n_steps=1)
    trainer.fit(model, datamodule=DigitsDataModule())
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


# %%
if __name__ == "__main__":
    values = main()
    for key, value in values.items():
        print(f"{key:50} {value:.4g}")
    assert values["probe/backbone/logistic_top1"] > 0.9
