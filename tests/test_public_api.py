"""Every package lists what it offers: sorted, without repetition, importable and documented; promised names exist."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import lightning_ssl_theory

PACKAGES = [
    "lightning_ssl_theory",
    "lightning_ssl_theory.callbacks",
    *(
        m.name
        for m in pkgutil.iter_modules(lightning_ssl_theory.__path__, "lightning_ssl_theory.")
        if m.ispkg
    ),
]

PROMISED = {
    "lightning_ssl_theory": "ContrastiveSSL MomentumContrastSSL OrthogonalSSL PredictorSSL PretextSSL",
    "lightning_ssl_theory.losses": "SimpleContrastiveLoss SoftTripletLoss InfoNCELoss TraceLoss "
    "CrossCorrelationLoss SpectralContrastiveLoss VICRegLoss WMSELoss SupervisedContrastiveLoss",
    "lightning_ssl_theory.operators": "covariance_operators",
    "lightning_ssl_theory.metrics": "Selectivity FeatureNorms ActivationSparsity Alignment Uniformity EffectiveRank "
    "augmented_distances augmentation_concentration generalization_bound ConditionalCovariance ExcessRisk",
    "lightning_ssl_theory.flows": "grassmann_flow stiefel_flow closed_form_flow",
    "lightning_ssl_theory.data": "DigitsDataModule ImageDataModule HalfMoonsDataModule LatentTreeDataModule "
    "SparseCodingDataModule GaussianPretextDataModule",
    "lightning_ssl_theory.callbacks": "CovarianceOperators NeuronSelectivity FeatureNormMonitor LinearProbe "
    "KNNProbe CollapseMonitor OrthogonalityMonitor GeneralizationMonitor",
}


@pytest.mark.parametrize("name", sorted(set(PACKAGES)))
def test_all_is_sorted_resolvable_and_documented(name):
    package = importlib.import_module(name)
    assert package.__doc__
    assert list(package.__all__) == sorted(set(package.__all__))
    for export in package.__all__:
        member = getattr(package, export)
        assert not callable(member) or member.__doc__, export


@pytest.mark.parametrize("name", PROMISED)
def test_promised_names_exist(name):
    assert set(PROMISED[name].split()) <= set(importlib.import_module(name).__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'lightning_ssl_theory' has no attribute 'Nothing'"):
        lightning_ssl_theory.Nothing  # noqa: B018


def test_import_is_light():
    code = (
        "import sys, lightning_ssl_theory;"
        "heavy = {'wandb', 'matplotlib', 'torch', 'lightning', 'lightning_ssl_theory.cli'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
