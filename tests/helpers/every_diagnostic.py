"""All diagnostics on the toy network at once."""

from helpers.toy_ssl import NUM_CLASSES, clean_loader
from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    Diagnostic,
    FeatureNormMonitor,
    LinearProbe,
    NeuronSelectivity,
    OrthogonalityMonitor,
)

SECTIONS = ("covariance", "selectivity", "feature_norms", "probe", "collapse", "orthogonality")


def every_diagnostic(**arguments) -> list[Diagnostic]:
    """One callback a section, with the same cadence and options."""
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
        CollapseMonitor(["backbone", "output"], **arguments),
        OrthogonalityMonitor(["projector.out", "backbone.conv"], **arguments),
    ]
