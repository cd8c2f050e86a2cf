"""One update apart from the environment: a model, and a segment of made-up experience for it."""

import gymnasium
import numpy as np


class Noise(gymnasium.Env):
    """Observations and rewards of spread 1 that nothing has an influence on; takes no time."""

    def __init__(self, n_obs, n_actions, discrete=False):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (n_obs,))
        box = gymnasium.spaces.Box(-1, 1, (n_actions,))
        self.action_space = gymnasium.spaces.Discrete(n_actions) if discrete else box
        self.rows, self.t = np.random.default_rng(0).standard_normal((1024, n_obs)).astype(np.float32), 0

    def reset(self, *, seed=None, options=None):
        return self.rows[0], {}

    def step(self, action):
        self.t += 1
        row = self.rows[self.t % 1024]
        return row, float(row[0]), self.t % 100 == 0, False, {}


class Pictures(gymnasium.Env):
    """The spaces of an Atari game; nothing can be played."""

    observation_space = gymnasium.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    action_space = gymnasium.spaces.Discrete(6)


SETTINGS = dict(cg_iters=10, cg_damping=0.1, fvp_subsample=1, vf_iters=3, vf_batch_size=128, vf_stepsize=1e-3,
                lam=0.95)


def model(widths, batch, num_envs=1, discrete=False):
    """Return a compiled TRPO and a segment of `batch` steps for it.

    `widths` are those of tanh layers: observations, hidden ones, actions.
    """
    from trpo_np import TRPO
    from trpo_np.policies.fast import warm_up
    learner = TRPO("MlpPolicy", Noise(widths[0], widths[-1], discrete), seed=0, timesteps_per_batch=batch,
                   policy_kwargs=dict(layers=list(widths[1:-1])), **SETTINGS)
    warm_up(learner.policy.kernel_files)
    return learner, segment(learner.policy, batch // num_envs, num_envs)


def segment(policy, steps, n, seed=0):
    """Make up a Segment: observations and rewards of spread 1, an episode's end in every hundred steps."""
    from trpo_np.rollout import Segment
    rng = np.random.default_rng(seed)
    obs = rng.standard_normal((steps, n, policy.observation_space.width)).astype(np.float32)
    noise = policy.dist.noise(rng, steps, n).astype(np.float32)
    act, actions, _ = policy.actor(noise, policy.new_memory(n))
    for t in range(steps):
        act(t, obs[t], np.zeros(n, bool))
    no, ends = np.zeros((steps, n), bool), rng.random((steps, n)) < 0.01
    return Segment(obs=obs, actions=actions, rewards=rng.standard_normal((steps, n)), terminated=ends,
                   truncated=no, valid=~no, over=ends, starts=no, last_obs=obs[-1], final=[])
