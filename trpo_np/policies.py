"""The policies by name; `Policy` is the base of one of your own."""

from .policy import Policy

__all__ = ["MlpPolicy", "Policy"]


class MlpPolicy(Policy):
    """Fully connected networks, 64-64 tanh by default."""


POLICIES = {"MlpPolicy": MlpPolicy}
