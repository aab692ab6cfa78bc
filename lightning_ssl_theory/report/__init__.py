"""The face of a run: a self-contained report.html, a table of results, and the table of every logged key."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_ssl_theory.report.comparison import render_comparison
from lightning_ssl_theory.report.factor_in_the_way import factor_in_the_way
from lightning_ssl_theory.report.keys import keys_as_markdown
from lightning_ssl_theory.report.logged_run import RunFolderError, read_run, read_runs
from lightning_ssl_theory.report.page import render_report
from lightning_ssl_theory.report.results_table import results_table
from lightning_ssl_theory.report.write import write_comparison, write_report

if TYPE_CHECKING:
    from lightning_ssl_theory.report.feature_figures import plot_embedding, plot_filters, plot_firing_rates
    from lightning_ssl_theory.report.mean_over_seeds import SeedMean, seed_mean
    from lightning_ssl_theory.report.rank_correlation import rank_verdict
    from lightning_ssl_theory.report.reproduction import Reproduction
    from lightning_ssl_theory.report.rows import paired_differences, seed_values, values_of
    from lightning_ssl_theory.report.run_report import RunReport
    from lightning_ssl_theory.report.script import run_script
    from lightning_ssl_theory.report.seed_plots import plot_means, plot_seeds
    from lightning_ssl_theory.report.training import History, full_batch_steps, quiet_trainer, seeded
    from lightning_ssl_theory.report.trials import run_trials
    from lightning_ssl_theory.report.verdicts import (
        Verdict,
        identity_verdict,
        increase_verdict,
        joint_verdict,
        mean_verdict,
        missing_verdict,
    )
    from lightning_ssl_theory.report.world_figures import (
        plot_atoms,
        plot_label_curves,
        plot_lucky_node,
        plot_stages,
    )

__all__ = [
    "History",
    "Reproduction",
    "RunFolderError",
    "RunReport",
    "SeedMean",
    "Verdict",
    "factor_in_the_way",
    "full_batch_steps",
    "identity_verdict",
    "increase_verdict",
    "joint_verdict",
    "keys_as_markdown",
    "mean_verdict",
    "missing_verdict",
    "paired_differences",
    "plot_atoms",
    "plot_embedding",
    "plot_filters",
    "plot_firing_rates",
    "plot_label_curves",
    "plot_lucky_node",
    "plot_means",
    "plot_seeds",
    "plot_stages",
    "quiet_trainer",
    "rank_verdict",
    "read_run",
    "read_runs",
    "render_comparison",
    "render_report",
    "results_table",
    "run_script",
    "run_trials",
    "seed_mean",
    "seed_values",
    "seeded",
    "values_of",
    "write_comparison",
    "write_report",
]

# a report is rebuilt without importing torch, scipy and Lightning, ten seconds sooner; a name that is also its module's
# is imported above, since importing the module would put that in its place
_LATER = {
    name: module
    for module, names in {
        "feature_figures": ("plot_embedding", "plot_filters", "plot_firing_rates"),
        "mean_over_seeds": ("SeedMean", "seed_mean"),
        "rank_correlation": ("rank_verdict",),
        "reproduction": ("Reproduction",),
        "rows": ("paired_differences", "seed_values", "values_of"),
        "run_report": ("RunReport",),
        "script": ("run_script",),
        "seed_plots": ("plot_means", "plot_seeds"),
        "training": ("History", "full_batch_steps", "quiet_trainer", "seeded"),
        "trials": ("run_trials",),
        "verdicts": (
            "Verdict",
            "identity_verdict",
            "increase_verdict",
            "joint_verdict",
            "mean_verdict",
            "missing_verdict",
        ),
        "world_figures": ("plot_atoms", "plot_label_curves", "plot_lucky_node", "plot_stages"),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module 'lightning_ssl_theory.report' has no attribute {name!r}")
