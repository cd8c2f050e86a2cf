"""The policies by name; `Policy` and `RecurrentPolicy` are the bases of one of your own."""

from .policy import Policy
from .recurrent import RecurrentPolicy
from .visual import CnnPolicy, Visual

__all__ = ["CnnLnLstmPolicy", "CnnLstmPolicy", "CnnPolicy", "MlpLnLstmPolicy", "MlpLstmPolicy", "MlpPolicy", "Policy",
           "RecurrentPolicy"]


class MlpPolicy(Policy):
    """Fully connected networks, 64-64 tanh by default."""


class MlpLstmPolicy(RecurrentPolicy):
    """Fully connected layers and an LSTM behind them, 64-64 tanh and 256 cells by default."""


class MlpLnLstmPolicy(RecurrentPolicy):
    """Fully connected layers and a layer-norm LSTM behind them, 64-64 tanh and 256 cells by default."""

    layer_norm = True


class CnnLstmPolicy(Visual, RecurrentPolicy):
    """A network for images and an LSTM behind it, nature_cnn and 256 cells by default."""


class CnnLnLstmPolicy(Visual, RecurrentPolicy):
    """A network for images and a layer-norm LSTM behind it, nature_cnn and 256 cells by default."""

    layer_norm = True


POLICIES = {cls.__name__: cls for cls in (MlpPolicy, MlpLstmPolicy, MlpLnLstmPolicy, CnnPolicy, CnnLstmPolicy,
                                           CnnLnLstmPolicy)}
