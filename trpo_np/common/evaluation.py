"""`trpo_np.evaluation` at stable-baselines' path."""

from ..evaluation import evaluate_policy

__all__ = ["evaluate_policy"]
