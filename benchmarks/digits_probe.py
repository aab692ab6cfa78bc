"""Does contrastive training help a linear probe on digits? Trained against untrained and against raw pixels.

The demo's network and loss, from `--seeds` default initialisations; logistic regression (scikit-learn, defaults) on
standardised features, fitted on all 1198 training labels and on `--draws` draws of 10 labels a class, scored on the
held-out third. A difference is averaged over the draws; the 95 % interval is Student's over the seeds.
"""

# %%
import argparse
import time
import warnings

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lightning_ssl_theory.cli.demo import contrastive_model
from lightning_ssl_theory.data import DigitsDataModule
from lightning_ssl_theory.probes import labels_per_class

LABELS = {"all labels": None, "10 a class": 10}


def accuracies(train, train_labels, held_out, held_out_labels, *, draws):
    """Accuracy of the probe with all labels, and its mean over draws with 10 labels a class."""

    def accuracy(rows):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        return probe.fit(train[rows], train_labels[rows]).score(held_out, held_out_labels)

    few = [
        accuracy(labels_per_class(train_labels, 10, generator=torch.Generator().manual_seed(draw)))
        for draw in range(draws)
    ]
    return np.array([accuracy(torch.arange(len(train))), np.mean(few)])


def collect(loader):
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def features(model, images):
    model.eval()
    with torch.no_grad():
        return model(images)


def interval(differences):
    half = student.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / len(differences) ** 0.5
    return differences.mean() - half, differences.mean() + half


# %%
def main(*, seeds=10, draws=20, max_epochs=100):
    warnings.filterwarnings("ignore")
    found = {"raw": [], "untrained": [], "trained": []}
    start = time.perf_counter()
    for seed in range(seeds):
        seed_everything(seed, verbose=False)
        model, data = contrastive_model(), DigitsDataModule(128, seed=seed)
        (train, train_labels), (held_out, labels) = (
            collect(data.probe_dataloader()),
            collect(data.val_dataloader()),
        )

        def score(encode, sets=(train, train_labels, held_out, labels)):
            return accuracies(encode(sets[0]), sets[1], encode(sets[2]), sets[3], draws=draws)

        if not found["raw"]:
            found["raw"] = [score(lambda images: images.flatten(1))] * seeds
        found["untrained"].append(score(lambda images, model=model: features(model, images)))
        trainer = Trainer(
            max_epochs=max_epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(model, datamodule=data)
        found["trained"].append(score(lambda images, model=model: features(model, images)))
        print(
            f"seed {seed}: " + "  ".join(f"{k} {100 * v[-1].round(4)}" for k, v in found.items()), flush=True
        )
    scores = {name: np.stack(values) for name, values in found.items()}
    print(
        f"\n{seeds} seeds, {draws} label draws, {time.perf_counter() - start:.0f} s; held-out accuracy in %"
    )
    for column, name in enumerate(LABELS):
        means = "  ".join(f"{key} {100 * value[:, column].mean():.2f}" for key, value in scores.items())
        print(f"{name}: {means}")
        for baseline in ("untrained", "raw"):
            low, high = interval(100 * (scores["trained"] - scores[baseline])[:, column])
            verdict = "holds" if low > 0 else "does not hold"
            print(f"  trained - {baseline}: 95 % interval [{low:+.2f}, {high:+.2f}] above 0: {verdict}")


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--max-epochs", type=int, default=100)
    main(**vars(parser.parse_args()))
