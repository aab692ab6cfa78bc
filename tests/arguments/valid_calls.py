"""One call that is right of every public class, function and method that a user calls, as its arguments by name."""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

ROOMS = [
    "modules",
    "losses",
    "operators",
    "metrics",
    "flows",
    "data",
    "manifolds",
    "networks",
    "probes",
    "sparse_coding",
    "callbacks",
]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def loader() -> DataLoader:
    return DataLoader(TensorDataset(draw(8, 4), labels()), 4)


def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def labelled() -> Any:
    return import_module("lightning_ssl_theory.probes.label_curve").LabelledFeatures(
        draw(8, 3), draw(8, 1), labels()
    )


def signs(*shape: int) -> Tensor:
    return draw(*shape).sign()


def bits(*shape: int) -> Tensor:
    return (draw(*shape) > 0).to(torch.uint8)


def orthonormal(rows: int = 4, columns: int = 2) -> Tensor:
    return torch.linalg.qr(draw(rows, columns).double()).Q


def representation(outputs: int = 2) -> Tensor:
    return orthonormal(4, outputs).mT.contiguous()


def eigenvalues() -> Tensor:
    return torch.tensor([-2.0, -1.0, 0.5, 1.0], dtype=torch.float64)


def times() -> Tensor:
    return torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)


def room(name: str) -> Any:
    return import_module(f"lightning_ssl_theory.{name}")


LAW = {"probability": 0.2, "noise_std": 0.3}
WORLD = {"num_features": 8, "num_atoms": 4, **LAW}
PAIR = {"z1": draw(6, 3), "z2": draw(6, 3, seed=1)}
BOOSTED = {
    "features": draw(12, 2),
    "pretext": draw(12, 3, seed=1),
    "downstream": draw(12, 2, seed=2),
    "is_labelled": torch.arange(12) > 2,
}
DISTANCES = {"r": (draw(6, 3)[:, None] - draw(6, 3)).square().sum(2) / 2}
CRITERIA = {"features": draw(8, 3), "downstream": draw(8, 1, seed=3)}
FLOW = {"q0": representation(), "eigenvalues": eigenvalues(), "times": times()}
TANGENT = {"weight": orthonormal(), "gradient": draw(4, 2).double()}
VIEWS = draw(6, 2, 4)
SMALL_PRETEXT = {
    "num_features": 4,
    "num_pretext": 2,
    "num_downstream": 1,
    "batch_size": 4,
    "num_samples": 8,
    "num_held_out": 4,
}
SMALL_TREE = {"depth": 2, "batch_size": 4, "num_samples": 16, "num_val_samples": 8}


def trace() -> Any:
    return room("operators").trace_network(network(), VIEWS.flatten(0, 1))


def tree_trace() -> Any:
    model = room("networks").LatentTreeNetwork(2, group_size=3)
    return room("operators").trace_network(model, signs(12, 4), ["level_1"])


VALID: dict[str, Callable[[], dict[str, Any]]] = {
    "modules.ContrastiveSSL": lambda: {
        "backbone": network(),
        "projector": nn.Linear(3, 2),
        "loss": room("losses").InfoNCELoss(),
    },
    "modules.CosineWarmup": lambda: {
        "optimizer": torch.optim.SGD(network().parameters(), lr=0.1),
        "warmup_steps": 2,
        "total_steps": 5,
    },
    "modules.FeatureDecouplingSSL": lambda: {"network": network()},
    "modules.MomentumContrastSSL": lambda: {"backbone": network(), "projector": nn.Linear(3, 2)},
    "modules.PredictorSSL": lambda: {
        "backbone": network(),
        "projector": nn.Linear(3, 2),
        "predictor": nn.Linear(2, 2),
    },
    "modules.OrthogonalSSL": lambda: {"in_features": 4, "hidden_features": 6, "out_features": 2},
    "losses.CrossCorrelationLoss": dict,
    "losses.CrossCorrelationLoss.forward": lambda: PAIR,
    "losses.CrossCorrelationLoss.parts": lambda: PAIR,
    "modules.PretextSSL": lambda: {"backbone": network(), "head": nn.Linear(3, 4)},
    "losses.BoostedLeastSquaresLoss": dict,
    "losses.BoostedLeastSquaresLoss.forward": lambda: BOOSTED,
    "losses.BoostedLeastSquaresLoss.parts": lambda: BOOSTED,
    "losses.NegativeCosineLoss": dict,
    "losses.NegativeCosineLoss.forward": lambda: {"predictions": draw(6, 3), "targets": draw(6, 3, seed=1)},
    "losses.QueuedInfoNCELoss": dict,
    "losses.QueuedInfoNCELoss.forward": lambda: {
        "queries": draw(6, 3),
        "keys": draw(6, 3, seed=1),
        "queue": draw(5, 3, seed=2),
    },
    "losses.PredictionLoss": dict,
    "losses.PredictionLoss.forward": lambda: {"predictions": draw(6, 3), "targets": draw(6, 3, seed=1)},
    "losses.InfoNCELoss": dict,
    "losses.InfoNCELoss.forward": lambda: PAIR,
    "losses.InfoNCELoss.parts": lambda: PAIR,
    "losses.InfoNCELoss.pair_weight": lambda: DISTANCES,
    "losses.SimpleContrastiveLoss": dict,
    "losses.SimpleContrastiveLoss.forward": lambda: PAIR,
    "losses.SimpleContrastiveLoss.pair_weight": lambda: DISTANCES,
    "losses.SoftTripletLoss": dict,
    "losses.SoftTripletLoss.forward": lambda: PAIR,
    "losses.SoftTripletLoss.pair_weight": lambda: DISTANCES,
    "losses.SpectralContrastiveLoss": dict,
    "losses.SpectralContrastiveLoss.forward": lambda: PAIR,
    "losses.StopGradientInfoNCELoss": dict,
    "losses.StopGradientInfoNCELoss.forward": lambda: PAIR | {"negatives": draw(6, 3, seed=2)},
    "losses.StopGradientInfoNCELoss.parts": lambda: PAIR | {"negatives": draw(6, 3, seed=2)},
    "losses.SupervisedContrastiveLoss": dict,
    "losses.SupervisedContrastiveLoss.forward": lambda: PAIR | {"labels": torch.tensor([0, 1, -1, 0, 1, 1])},
    "losses.SupervisedContrastiveLoss.parts": lambda: PAIR | {"labels": torch.tensor([0, 1, -1, 0, 1, 1])},
    "losses.TraceLoss": dict,
    "losses.TraceLoss.forward": lambda: PAIR | {"negatives": draw(6, 3, seed=2)},
    "losses.TraceLoss.parts": lambda: PAIR | {"negatives": draw(6, 3, seed=2)},
    "losses.TraceLoss.pair_weight": lambda: DISTANCES,
    "losses.VICRegLoss": dict,
    "losses.VICRegLoss.forward": lambda: PAIR,
    "losses.VICRegLoss.parts": lambda: PAIR,
    "losses.WMSELoss": dict,
    "losses.WMSELoss.forward": lambda: PAIR,
    "losses.WMSELoss.parts": lambda: PAIR,
    "operators.CovarianceOperator.__matmul__": lambda: {"vector": draw(20)},
    "operators.CovarianceOperator.eigenvalues": lambda: {"k": 2},
    "operators.NetworkTrace.backward": lambda: {"cotangents": draw(12, 3), "names": ["0"]},
    "operators.NetworkTrace.weight_gradients": lambda: {"cotangents": draw(12, 3), "names": ["0"]},
    "operators.connection_sums": lambda: {"trace": tree_trace(), "roots": bits(12)},
    "operators.covariance_operators": lambda: {"model": network(), "views": VIEWS, "layers": ["0"]},
    "operators.covariance_scalars": lambda: {"model": network(), "views": VIEWS, "layers": ["0"]},
    "operators.covariance_spectra": lambda: {"model": network(), "views": VIEWS, "layers": ["0"]},
    "operators.effective_rank": lambda: {"eigenvalues": torch.tensor([2.0, 1.0, 0.0])},
    "operators.find_module": lambda: {"model": network(), "name": "0"},
    "operators.half_squared_distances": lambda: {"features": draw(5, 3)},
    "operators.laplacian": lambda: {"weights": DISTANCES["r"]},
    "operators.latent_operator_norms": lambda: {
        "sums": room("operators").connection_sums(tree_trace(), bits(12))["level_1"]
    },
    "operators.pair_coefficients": lambda: {"num_samples": 6, "num_views": 2, "weights": DISTANCES["r"]},
    "operators.rademacher_probes": lambda: {"num_probes": 3, "num_outputs": 4},
    "operators.resolve_layers": lambda: {"model": network(), "layers": ["0"]},
    "operators.spectrum_cost": lambda: {
        "model": network(),
        "views": VIEWS,
        "layer": "0",
        "num_samples": 6,
        "num_eigenvalues": 2,
    },
    "operators.trace_network": lambda: {"model": network(), "inputs": VIEWS[:, 0], "layers": ["0"]},
    "metrics.ActivationSparsity": lambda: {"num_features": 3},
    "metrics.ActivationSparsity.update": lambda: {"features": draw(6, 3)},
    "metrics.Alignment": dict,
    "metrics.Alignment.update": lambda: PAIR,
    "metrics.ConditionalCovariance": lambda: {"num_features": 3, "num_pretext": 2, "num_downstream": 1},
    "metrics.ConditionalCovariance.update": lambda: CRITERIA | {"pretext": draw(8, 2, seed=1)},
    "metrics.EffectiveRank": lambda: {"num_features": 3},
    "metrics.EffectiveRank.update": lambda: {"features": draw(6, 3)},
    "metrics.ExcessRisk": lambda: {"num_features": 3, "num_downstream": 1, "num_inputs": 2},
    "metrics.ExcessRisk.update": lambda: CRITERIA | {"inputs": draw(8, 2, seed=1)},
    "metrics.FeatureNorms": lambda: {"dictionary": orthonormal(3, 2)},
    "metrics.FeatureNorms.update": lambda: {"features": draw(6, 3)},
    "metrics.LatentSelectivity": lambda: {"num_latents": 2, "group_size": 3},
    "metrics.LatentSelectivity.update": lambda: {"features": draw(6, 2, 3), "latents": bits(6, 2)},
    "metrics.RankOne": lambda: {"num_latents": 2, "num_inputs": 3},
    "metrics.RankOne.update": lambda: {
        "first": draw(6, 2, 3),
        "second": draw(6, 2, 3, seed=1),
        "latents": bits(6, 2),
    },
    "metrics.Selectivity": lambda: {"num_features": 3, "num_classes": 3},
    "metrics.Selectivity.update": lambda: {"features": draw(8, 3), "targets": labels()},
    "metrics.Uniformity": dict,
    "metrics.Uniformity.update": lambda: {"features": draw(6, 3)},
    "metrics.activation_sparsity": lambda: {"features": draw(6, 3)},
    "metrics.alignment": lambda: PAIR,
    "metrics.augmentation_concentration": lambda: {
        "distances": DISTANCES["r"],
        "labels": torch.tensor([0, 0, 0, 1, 1, 1]),
        "deltas": torch.tensor([0.5, 1.0]),
    },
    "metrics.conditional_covariance": lambda: CRITERIA | {"pretext": draw(8, 2, seed=1)},
    "metrics.excess_risk": lambda: CRITERIA | {"inputs": draw(8, 2, seed=1)},
    "metrics.augmented_distances": lambda: {
        "views": draw(6, 2, 3),
        "labels": torch.tensor([0, 0, 0, 1, 1, 1]),
    },
    "metrics.generalization_bound": lambda: {
        "features": torch.nn.functional.normalize(draw(6, 2, 3), dim=2),
        "labels": torch.tensor([0, 0, 0, 1, 1, 1]),
        "sigma": 0.9,
        "delta": 0.1,
        "epsilon": 0.1,
        "lipschitz": 1.0,
    },
    "metrics.nearest_views": lambda: {"views": draw(6, 2, 3), "labels": torch.tensor([0, 0, 0, 1, 1, 1])},
    "metrics.observed_lipschitz": lambda: {
        "features": draw(6, 2, 3),
        "nearest": room("metrics").nearest_views(draw(6, 2, 4)),
    },
    "metrics.smallest_bound": lambda: {
        "features": torch.nn.functional.normalize(draw(6, 2, 3), dim=2),
        "labels": torch.tensor([0, 0, 0, 1, 1, 1]),
        "sigmas": torch.tensor([0.9, 1.0]),
        "deltas": torch.tensor([0.1, 0.2]),
        "epsilons": torch.tensor([0.1, 0.3]),
        "lipschitz": 1.0,
    },
    "metrics.spectral_norm_product": lambda: {"layers": list(network())},
    "metrics.dictionary_coverage": lambda: {"weights": draw(5, 4), "dictionary": orthonormal()},
    "metrics.dimension_alignment": lambda: {"features": draw(6, 3)},
    "metrics.divergence_bounds": lambda: {
        "features": torch.nn.functional.normalize(draw(6, 2, 3), dim=2),
        "labels": torch.tensor([0, 0, 0, 1, 1, 1]),
    },
    "metrics.feature_effective_rank": lambda: {"features": draw(6, 3)},
    "metrics.feature_norms": lambda: {"features": draw(6, 4), "dictionary": orthonormal()},
    "metrics.latent_selectivity": lambda: {"features": draw(6, 2, 3), "latents": bits(6, 2)},
    "metrics.linear_cka": lambda: {"first": draw(6, 3), "second": draw(6, 2, seed=1)},
    "metrics.lucky_nodes": lambda: {"alignment": draw(2, 3), "is_active": torch.ones(2, 3, dtype=torch.bool)},
    "metrics.rank_one": lambda: {
        "first": draw(6, 2, 3),
        "second": draw(6, 2, 3, seed=1),
        "latents": bits(6, 2),
    },
    "metrics.selectivity": lambda: {"features": draw(8, 3), "targets": labels(), "num_classes": 3},
    "metrics.uniformity": lambda: {"features": draw(6, 3)},
    "flows.canonical_closed_form": lambda: FLOW,
    "flows.canonical_flow": lambda: FLOW,
    "flows.canonical_velocity": lambda: {"q": representation(), "eigenvalues": eigenvalues()},
    "flows.closed_form_flow": lambda: FLOW | {"q0": representation(1)},
    "flows.discrete_flow": lambda: {
        "q0": representation(),
        "eigenvalues": eigenvalues(),
        "lr": 0.1,
        "num_steps": 3,
    },
    "flows.eigenbasis": lambda: {"matrix": draw(3, 3) + draw(3, 3).mT},
    "flows.fixed_point_rates": lambda: {"eigenvalues": eigenvalues(), "chosen": (0, 1), "num_outputs": 2},
    "flows.fixed_points": lambda: {"num_features": 4, "num_outputs": 2},
    "flows.flow_loss": lambda: {"trajectory": representation()[None], "eigenvalues": eigenvalues()},
    "flows.flow_outputs": lambda: {
        "trajectory": representation()[None],
        "eigenvectors": orthonormal(4, 4),
        "points": draw(5, 4).double(),
    },
    "flows.grassmann_flow": lambda: FLOW,
    "flows.grassmann_velocity": lambda: {"q": representation(), "eigenvalues": eigenvalues()},
    "flows.leading_time": lambda: {"q0": representation(1), "eigenvalues": eigenvalues()},
    "flows.limit_point": lambda: {"q0": representation(1), "eigenvalues": eigenvalues()},
    "flows.oja_flow": lambda: FLOW,
    "flows.stable_point": lambda: {"eigenvalues": eigenvalues(), "num_outputs": 2},
    "flows.stiefel_flow": lambda: FLOW,
    "flows.stiefel_velocity": lambda: {"q": representation(), "eigenvalues": eigenvalues()},
    "flows.trace_matrix": lambda: {
        "x": draw(5, 3),
        "positives": draw(5, 3, seed=1),
        "negatives": draw(5, 3, seed=2),
    },
    "data.DigitsDataModule": dict,
    "data.GaussianPretextDataModule": lambda: dict(SMALL_PRETEXT),
    "data.GaussianPretextDataModule.draw": lambda: {
        "num_samples": 3,
        "generator": torch.Generator().manual_seed(0),
    },
    "data.HalfMoonsDataModule": lambda: {"batch_size": 4, "num_samples": 8},
    "data.ImageDataModule": lambda: {"dataset": "cifar10", "data_dir": "data"},
    "data.LatentTreeDataModule": lambda: dict(SMALL_TREE),
    "data.MultiViewDataset": lambda: {"dataset": [(draw(2), 0), (draw(2), 1)], "transform": torch.relu},
    "data.SparseCodingDataModule": lambda: (
        WORLD | {"batch_size": 4, "num_samples": 16, "num_held_out": 8, "block_size": 4}
    ),
    "data.SparseCodingDataModule.draw": lambda: {
        "num_samples": 3,
        "generator": torch.Generator().manual_seed(0),
    },
    "data.boosted_minimiser": lambda: {"moments": moments(), "num_outputs": 2, "lamb": 0.1},
    "data.conditional_moment": lambda: {"moments": moments()},
    "data.excess_risk_gap": lambda: {"processor": draw(2, 4), "moments": moments()},
    "data.feasibility_gap": lambda: {"moments": moments()},
    "data.four_rotations": lambda: {"images": draw(2, 1, 4, 4)},
    "data.gaussian_pretext_moments": lambda: {"num_features": 4, "num_pretext": 2, "num_downstream": 1},
    "data.largest_boost_weight": lambda: {"moments": moments()},
    "data.pretext_moments": lambda: {
        "covariance": moments().covariance,
        "num_features": 4,
        "num_pretext": 2,
    },
    "data.processed_error": lambda: {"processor": draw(2, 4), "moments": moments()},
    "data.read_downstream": lambda: {"batch": [draw(4, 2), torch.arange(4)], "num_classes": 4},
    "data.read_pretext": lambda: {"batch": {"image": draw(4, 2), "pretext": draw(4, 1)}},
    "data.clean_image": lambda: {"size": 8, "mean": [0.5], "std": [0.5]},
    "data.random_affine": lambda: {"images": draw(2, 1, 4, 4)},
    "data.random_mask": lambda: {"inputs": draw(3, 4)},
    "data.random_polarities": lambda: {"depth": 2},
    "data.random_task": lambda: {"num_atoms": 4},
    "data.random_view": lambda: {"size": 8, "mean": [0.5], "std": [0.5]},
    "data.random_views": lambda: {"images": draw(2, 1, 8, 8).sigmoid(), "mean": [0.5], "std": [0.5]},
    "data.read_images": lambda: {"batch": [draw(4, 2), torch.arange(4)]},
    "data.read_labels": lambda: {"batch": [draw(4, 2), torch.arange(4)]},
    "data.read_latents": lambda: {"batch": [draw(4, 2), torch.arange(4), draw(4, 3)]},
    "data.read_views": lambda: {"batch": [[draw(4, 2), draw(4, 2)], torch.arange(4)]},
    "data.root_correlations": lambda: {"polarities": polarities()},
    "data.sample_latents": lambda: {"roots": bits(3).bool(), "polarities": polarities()},
    "data.sample_roots": lambda: {"num_samples": 3},
    "data.sparse_coding_samples": lambda: {"dictionary": orthonormal(), "num_samples": 3, **LAW},
    "data.task_labels": lambda: {"codes": draw(5, 3), "task": signs(3)},
    "manifolds.ConstrainedSGD": lambda: {"params": [nn.Parameter(orthonormal())], "lr": 0.1},
    "manifolds.canonical_tangent": lambda: TANGENT,
    "manifolds.check_constraint": lambda: {"constraint": "stiefel"},
    "manifolds.grassmann_tangent": lambda: TANGENT,
    "manifolds.orthogonality_drift": lambda: {"weight": orthonormal()},
    "manifolds.OrthonormalLinear": lambda: {"in_features": 4, "out_features": 6},
    "manifolds.OrthonormalLinear.forward": lambda: {"input": draw(5, 4)},
    "manifolds.keep_orthonormal": lambda: {
        "optimizer": torch.optim.SGD(network().parameters()),
        "module": network(),
    },
    "manifolds.polar_retraction": lambda: {"matrix": draw(4, 2)},
    "manifolds.qr_retraction": lambda: {"matrix": draw(4, 2)},
    "manifolds.stiefel_tangent": lambda: TANGENT,
    "networks.BlockLinear": lambda: {"num_blocks": 2, "in_features": 3, "out_features": 1},
    "networks.BlockLinear.forward": lambda: {"input": draw(4, 6)},
    "networks.LatentTreeNetwork": lambda: {"depth": 2},
    "networks.LatentTreeNetwork.forward": lambda: {"leaves": signs(3, 4)},
    "networks.LatentTreeNetwork.root_features": lambda: {"leaves": signs(3, 4)},
    "networks.MLP": lambda: {"widths": [4, 3]},
    "networks.ResNet": dict,
    "networks.SmallConvNet": lambda: {"widths": [2, 3]},
    "networks.SymmetrizedReLU": lambda: {"in_features": 4, "num_neurons": 3, "init_std": 1.0},
    "networks.SymmetrizedReLU.forward": lambda: {"inputs": draw(5, 4)},
    "networks.OrthogonalProjector": lambda: {"in_features": 4, "hidden_features": 6, "out_features": 2},
    "networks.TwoLayerNetwork": lambda: {"in_features": 4, "hidden_features": 6, "out_features": 2},
    "networks.TwoLayerNetwork.forward": lambda: {"inputs": draw(5, 4)},
    "probes.LinearClassifier.scores": lambda: {"features": draw(5, 4).double()},
    "probes.LinearRegressor.predictions": lambda: {"features": draw(5, 4).double()},
    "probes.knn_votes": lambda: {
        "neighbours": room("probes").nearest_neighbours(draw(5, 3, seed=1), draw(8, 3), 2),
        "fit_targets": labels(),
        "num_classes": 3,
    },
    "probes.label_curve": lambda: {"fitted": labelled(), "held_out": labelled(), "counts": [4, 8]},
    "probes.labels_per_class": lambda: {"targets": labels(), "num_labels": 1},
    "probes.logistic_classifier": lambda: {"features": draw(8, 3), "targets": labels(), "num_classes": 3},
    "probes.nearest_neighbours": lambda: {
        "features": draw(5, 3, seed=1),
        "fit_features": draw(8, 3),
        "k": 2,
    },
    "probes.r2_score": lambda: {"predictions": draw(5, 1), "targets": draw(5, 1, seed=1)},
    "probes.ridge_classifier": lambda: {
        "statistics": room("probes").ridge_statistics(draw(8, 3), labels(), 3)
    },
    "probes.ridge_classifier_of_rows": lambda: {
        "features": draw(8, 3),
        "targets": labels(),
        "num_classes": 3,
    },
    "probes.ridge_regression": lambda: {"features": draw(8, 3), "targets": draw(8, 1)},
    "probes.ridge_statistics": lambda: {"features": draw(8, 3), "targets": labels(), "num_classes": 3},
    "probes.top_k_correct": lambda: {"scores": draw(8, 3), "targets": labels()},
    "sparse_coding.bayes_r2": lambda: dict(LAW),
    "sparse_coding.best_soft_threshold": lambda: dict(LAW),
    "sparse_coding.check_dictionary": lambda: {"dictionary": orthonormal()},
    "sparse_coding.check_law": lambda: dict(LAW),
    "sparse_coding.dense_start_std": lambda: WORLD | {"num_neurons": 3, "batch_size": 4},
    "sparse_coding.growth_rates": lambda: WORLD | {"masks": True},
    "sparse_coding.largest_dense_growth": lambda: dict(WORLD),
    "sparse_coding.linear_r2": lambda: dict(LAW),
    "sparse_coding.minibatch_floor": lambda: WORLD | {"batch_size": 4, "learning_rate": 0.1},
    "sparse_coding.random_dictionary": lambda: {"num_features": 4, "num_atoms": 2},
    "sparse_coding.soft_threshold_r2": lambda: LAW | {"threshold": 0.5},
    "sparse_coding.stage_one_norms": lambda: (
        WORLD | {"num_steps": 3, "masks": True, "batch_size": 4, "learning_rate": 0.01}
    ),
    "sparse_coding.theorem_law": lambda: {"num_atoms": 4},
    "callbacks.latent_tree_rows": lambda: {"levels": {}, "polarities": polarities()},
    "callbacks.BiasSchedule": lambda: {
        "layers": ["0"],
        "start_step": 1,
        "initial": 0.1,
        "cap": 0.5,
        "growth": 0.01,
    },
    "callbacks.CollapseMonitor": dict,
    "callbacks.CovarianceOperators": dict,
    "callbacks.FeatureNormMonitor": lambda: {"layers": ["0"]},
    "callbacks.GeneralizationMonitor": lambda: {"views_loader": loader()},
    "callbacks.KNNProbe": lambda: {"fit_loader": loader(), "score_loader": loader()},
    "callbacks.LatentTreeMonitor": dict,
    "callbacks.LinearProbe": lambda: {"fit_loader": loader(), "score_loader": loader()},
    "callbacks.NeuronSelectivity": lambda: {"layers": ["0"]},
    "callbacks.OrthogonalityMonitor": lambda: {"layers": ["0"]},
}

# what a user gets from a function, and calls methods of
INSTANCES: dict[str, Callable[[], Any]] = {
    "operators.CovarianceOperator": lambda: room("operators").covariance_operators(
        network(), VIEWS, layers=["0"]
    )["0"],
    "operators.NetworkTrace": trace,
    "probes.LinearClassifier": lambda: room("probes").LinearClassifier(draw(3, 4).double(), draw(3).double()),
    "probes.LinearRegressor": lambda: room("probes").LinearRegressor(
        draw(1, 4).double(), draw(1).double(), 1.0
    ),
}

MOVED = ("downstream_bounds", "law")  # where they are at home, their arguments are tried there

# no user builds them: what calls return, what classes share, and names of types
NOT_BUILT = {
    "callbacks.Diagnostic",
    "callbacks.FeatureProbe",
    "losses.PairwiseLoss",
    "metrics.SumMetric",
    "operators.Connections",
    "operators.CovarianceOperator",
    "operators.CoveredLayers",
    "operators.LayerChoice",
    "operators.NetworkTrace",
    "operators.PairwiseObjective",
}


def moments() -> Any:
    return room("data").gaussian_pretext_moments(
        "separable", 4, 2, 1, generator=torch.Generator().manual_seed(0)
    )


def polarities() -> list[Tensor]:
    return room("data").random_polarities(2, generator=torch.Generator().manual_seed(0))


def is_record(member: Any) -> bool:
    """Whether it only holds what a call returns."""
    return inspect.isclass(member) and (issubclass(member, tuple) or is_dataclass(member))


def public_names() -> list[str]:
    """Every class and function in `__all__` of a room that a user calls."""
    names = [f"{name}.{export}" for name in ROOMS for export in room(name).__all__]
    moved = {name for name in names if name.startswith("data.") and resolve(name).__module__.endswith(MOVED)}
    return [name for name in names if name not in NOT_BUILT | moved and not is_record(resolve(name))]


def resolve(name: str) -> Any:
    """What a name stands for; a method is bound to an instance from a call that is right."""
    where, *rest = name.split(".")
    member = getattr(room(where), rest[0])
    if len(rest) == 1:
        return member
    owner = f"{where}.{rest[0]}"
    instance = INSTANCES[owner]() if owner in INSTANCES else member(**VALID[owner]())
    return getattr(instance, rest[1])
