"""The callbacks on two workers of Ray Train, here on CPUs (needs `pip install "lightning-ssl-theory[ray]"`).

Three lines of the Trainer are Ray's: its strategy, its environment, and `prepare_trainer`. The callbacks are as ever.
"""

# %%
import json
from pathlib import Path

import ray
from lightning.pytorch import Trainer, seed_everything
from ray.train import RunConfig, ScalingConfig
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment, prepare_trainer
from ray.train.torch import TorchTrainer

from lightning_ssl_theory import ContrastiveSSL
from lightning_ssl_theory.callbacks import CollapseMonitor, CovarianceOperators, LinearProbe
from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.networks import MLP, SmallConvNet


# %%
def train(settings: dict):
    """What each worker runs."""
    seed_everything(0)
    model = ContrastiveSSL(SmallConvNet(1, [8, 16]), MLP([16, 16, 8]), InfoNCELoss(temperature=0.5))
    trainer = Trainer(
        max_epochs=settings["max_epochs"],
        accelerator="cpu",
        devices="auto",
        strategy=RayDDPStrategy(),
        plugins=[RayLightningEnvironment()],
        callbacks=[
            CovarianceOperators(every_n_steps=5, num_samples=64),
            CollapseMonitor(["backbone", "output"]),
            LinearProbe("backbone"),
        ],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer = prepare_trainer(trainer)
    trainer.fit(model, datamodule=DigitsDataModule())
    if trainer.is_global_zero:
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        Path(settings["output"]).write_text(json.dumps(values))


# %%
def main(*, max_epochs: int = 2, num_workers: int = 2, output_dir: str = "runs"):
    """Train, and return what the first worker logged last; the folder is one that all workers see."""
    folder = Path(output_dir).resolve() / "ray_train"
    folder.mkdir(parents=True, exist_ok=True)
    TorchTrainer(
        train,
        train_loop_config={"max_epochs": max_epochs, "output": str(folder / "values.json")},
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=False),
        run_config=RunConfig(name="workers", storage_path=str(folder)),
    ).fit()
    return json.loads((folder / "values.json").read_text())


# %%
if __name__ == "__main__":
    ray.init(num_cpus=3, include_dashboard=False)
    values = main()
    for key, value in values.items():
        print(f"{key:50} {value}")
    assert values["probe/backbone/logistic_top1"] > 0.5
