"""`trpo_np.policies` at stable-baselines' path, and the names that scripts derive their own policies from."""

from typing import Any

from ..peers import absent
from ..policies import *  # noqa: F403
from ..policies import NAMED, MlpLstmPolicy, MlpPolicy, Policy

__getattr__ = absent(__name__)


def _take(where: str, feature_extraction: str, kwargs: dict) -> dict:
    """Check what stable-baselines' base classes take beside a policy's arguments."""
    if feature_extraction != "mlp":
        raise ValueError(f"{where}: feature_extraction is {feature_extraction!r}; derive from CnnPolicy or "
                         "CnnLstmPolicy for images, or say feature_extraction='mlp'")
    return kwargs


class FeedForwardPolicy(MlpPolicy):
    """stable-baselines' base of policies without memory: MlpPolicy."""

    def __init__(self, *args: Any, feature_extraction: str = "cnn", **kwargs: Any):
        super().__init__(*args, **_take("FeedForwardPolicy", feature_extraction, kwargs))


class LstmPolicy(MlpLstmPolicy):
    """stable-baselines' base of policies with memory: MlpLstmPolicy."""

    def __init__(self, *args: Any, feature_extraction: str = "cnn", **kwargs: Any):
        super().__init__(*args, **_take("LstmPolicy", feature_extraction, kwargs))


def register_policy(name: str, policy: type) -> None:
    """Let a policy of one's own go by a name: `TRPO(name, env)`."""
    if not (isinstance(policy, type) and issubclass(policy, Policy)):
        raise ValueError(f"register_policy was given {policy!r}; a subclass of trpo_np.policies.Policy is "
                         "needed")
    if NAMED.setdefault(name, policy) is not policy:
        raise ValueError(f"there is already another policy {name!r}")
