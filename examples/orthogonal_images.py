"""Two layers with and without orthonormal weights on handwritten digits: one keeps its directions, one collapses.

The trace loss f(x)^T (f(x^-) - f(x^+)) has no lower bound for free weights: every output turns to the same direction
and grows (Esser, Mukherjee, Ghoshdastidar 2023, Propositions 1 and 2). Orthonormal weights prevent both.
"""

# %%
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger

from lightning_ssl_theory import OrthogonalSSL
from lightning_ssl_theory.callbacks import CollapseMonitor, OrthogonalityMonitor
from lightning_ssl_theory.data import DigitsDataModule


# %%
def main(*, max_epochs: int = 40, output_dir: str = "runs") -> dict[str, dict[str, float]]:
    """Train both, and return what the diagnostics saw last of each."""
    values = {}
    for constraint in ("stiefel", "none"):
        seed_everything(0)
        trainer = Trainer(
            max_epochs=max_epochs,
            logger=CSVLogger(output_dir, name=f"orthogonal_{constraint}", version=""),
            callbacks=[
                CollapseMonitor(every_n_epochs=5),
                OrthogonalityMonitor(["network.hidden", "network.output"], every_n_steps=10),
            ],
            log_every_n_steps=1,
        )
        model = OrthogonalSSL(64, 128, 4, constraint=constraint, lr=0.02)
        trainer.fit(model, datamodule=DigitsDataModule())
        values[constraint] = {key: float(value) for key, value in trainer.callback_metrics.items()}
        values[constraint] |= trainer.validate(model, datamodule=DigitsDataModule(), verbose=False)[0]
    return values


# %%
if __name__ == "__main__":
    found = main()
    for constraint, values in found.items():
        for key, value in values.items():
            print(f"{constraint:8} {key:45} {value:.4g}")
    assert found["stiefel"]["collapse/output/effective_rank"] > 0.8 * 4
    assert found["none"]["collapse/output/effective_rank"] < 1.1
