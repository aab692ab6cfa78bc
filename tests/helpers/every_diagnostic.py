"""All diagnostics on the toy network at once."""

from torch.utils.data import DataLoader

from helpers.toy_ssl import NUM_CLASSES, CleanFirst, clean_loader, toy_images
from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    Diagnostic,
    FeatureNormMonitor,
    GeneralizationMonitor,
    KNNProbe,
    LinearProbe,
    NeuronSelectivity,
    OrthogonalityMonitor,
)

SECTIONS = (
    "covariance",
    "selectivity",
    "feature_norms",
    "probe",
    "collapse",
    "orthogonality",
    "generalization",
)


def every_diagnostic(**arguments) -> list[Diagnostic]:
    """At least one callback a section, with the same cadence and options."""
    return [
        CovarianceOperators(spectra_layers=["projector.out"], num_eigenvalues=3, **arguments),
        NeuronSelectivity(["backbone.conv", "backbone"], num_classes=NUM_CLASSES, **arguments),
        FeatureNormMonitor(["backbone.conv", "output"], **arguments),
        LinearProbe(
            num_classes=NUM_CLASSES,
            fit_loader=clean_loader(25, seed=3),
            top_k=(2,),
            few_labels=(4,),
            **arguments,
        ),
        KNNProbe(
            num_classes=NUM_CLASSES,
            fit_loader=clean_loader(25, seed=3),
            k=(1, 5),
            temperature=(0.1, None),
            **arguments,
        ),
        CollapseMonitor(["backbone", "output"], **arguments),
        OrthogonalityMonitor(["projector.out", "backbone.conv"], **arguments),
        GeneralizationMonitor(
            ["backbone", "output"],
            views_loader=DataLoader(CleanFirst(*toy_images(18, seed=5)), 5),
            **arguments,
        ),
    ]
