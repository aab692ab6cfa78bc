"""What 500 steps teach the levels of a latent tree, ours against a network like the authors', on the same trees.

Both start from the same weights. The other side has one module a node and, as the code of Tian et al., passes negatives
of their own through the network; ours has one product a level and takes negatives from the batch. Printed are the gains
of NC, means over trees with standard errors, and the differences tree by tree. Two minutes on two cores for 30 trees.

    python benchmarks/latent_tree_gain.py [--num-trees 30]
"""

import argparse

import torch
from latent_tree import BATCH, GROUP_SIZE, Ours, PerNode
from torch import Tensor

from lightning_ssl_theory.data import LatentTreeDataModule
from lightning_ssl_theory.metrics import latent_selectivity
from lightning_ssl_theory.networks import LatentTreeNetwork
from lightning_ssl_theory.report import run_trials

DEPTH, NUM_STEPS = 5, 500


@torch.no_grad()
def correlations(network: LatentTreeNetwork, data: LatentTreeDataModule) -> Tensor:
    """NC of the pre-activations, mean over the latents of each level, on the validation set."""
    batches = list(data.val_dataloader())
    features, latents = (
        torch.cat([views[0] for views, _, _ in batches]),
        torch.cat([z for _, _, z in batches]),
    )
    by_level = latents.split([2**level for level in range(DEPTH)], dim=1)[::-1]
    found = []
    for name, layer in network.named_children():
        features = layer(features)
        if name.startswith("level"):
            known = latent_selectivity(features.unflatten(1, (-1, GROUP_SIZE)), by_level[len(found)])
            found.append(known.normalized_correlation.mean())
    return torch.stack(found)


def gains(seed: int) -> Tensor:
    """Gain of NC at each level, of theirs and of ours."""
    arguments = {"batch_size": BATCH, "num_samples": NUM_STEPS * BATCH}
    data = LatentTreeDataModule(DEPTH, seed=seed, **arguments)
    # the same tree, other samples: the polarities are those of the seed
    others = LatentTreeDataModule(DEPTH, seed=seed, num_views=1, **arguments).train_dataloader()
    others.sampler.set_epoch(1)
    torch.manual_seed(seed)
    ours, theirs = Ours(DEPTH), PerNode(DEPTH)
    theirs.start_as(ours.network)
    start = correlations(ours.network, data)
    for batch, negatives in zip(data.train_dataloader(), others, strict=True):
        ours.train(batch)
        theirs.train(batch, negatives)
    end = correlations(ours.network, data)
    theirs.write_to(ours.network)
    return torch.stack([correlations(ours.network, data), end]) - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-trees", type=int, default=30)
    num_trees = parser.parse_args().num_trees
    theirs, ours = torch.stack(run_trials(gains, [(seed,) for seed in range(num_trees)])).unbind(1)
    print(f"{'gain of NC at level':24}" + "".join(f"{level:>20}" for level in range(1, DEPTH + 1)))
    for name, values in {"one module a node": theirs, "ours": ours, "difference": ours - theirs}.items():
        pairs = zip(values.mean(0), values.std(0) / num_trees**0.5, strict=True)
        print(f"{name:24}" + "".join(f"{mean:+12.4f} ± {error:.4f}" for mean, error in pairs))


if __name__ == "__main__":
    main()
