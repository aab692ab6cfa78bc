"""Loss modules: `loss(z1, z2)` is the value, `loss.parts(z1, z2)` its alignment and regularization.

`SupervisedContrastiveLoss` also takes the labels, `loss(z1, z2, labels)`, and says so by `takes_labels`.

Those of pretext learning compare with targets: `PredictionLoss`, and `BoostedLeastSquaresLoss` with the parts
downstream and pretext. `NegativeCosineLoss(predictions, targets)` is that of `PredictorSSL`, and
`QueuedInfoNCELoss(queries, keys, queue)` that of `MomentumContrastSSL`.
"""

from lightning_ssl_theory.losses.boosted_least_squares import BoostedLeastSquaresLoss
from lightning_ssl_theory.losses.cross_correlation import CrossCorrelationLoss
from lightning_ssl_theory.losses.info_nce import InfoNCELoss
from lightning_ssl_theory.losses.negative_cosine import NegativeCosineLoss
from lightning_ssl_theory.losses.pairwise import PairwiseLoss
from lightning_ssl_theory.losses.prediction import PredictionLoss
from lightning_ssl_theory.losses.queued_info_nce import QueuedInfoNCELoss
from lightning_ssl_theory.losses.simple_contrastive import SimpleContrastiveLoss
from lightning_ssl_theory.losses.soft_triplet import SoftTripletLoss
from lightning_ssl_theory.losses.spectral_contrastive import SpectralContrastiveLoss
from lightning_ssl_theory.losses.stop_gradient_info_nce import StopGradientInfoNCELoss
from lightning_ssl_theory.losses.supervised_contrastive import SupervisedContrastiveLoss
from lightning_ssl_theory.losses.trace import TraceLoss
from lightning_ssl_theory.losses.vicreg import VICRegLoss
from lightning_ssl_theory.losses.wmse import WMSELoss

__all__ = [
    "BoostedLeastSquaresLoss",
    "CrossCorrelationLoss",
    "InfoNCELoss",
    "NegativeCosineLoss",
    "PairwiseLoss",
    "PredictionLoss",
    "QueuedInfoNCELoss",
    "SimpleContrastiveLoss",
    "SoftTripletLoss",
    "SpectralContrastiveLoss",
    "StopGradientInfoNCELoss",
    "SupervisedContrastiveLoss",
    "TraceLoss",
    "VICRegLoss",
    "WMSELoss",
]
