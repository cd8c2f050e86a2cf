"""Do all pairs of observation and action spaces learn?

An observation shows a code from 0 to 5 in one of 4 spaces; the right action is the same code, in any of the 4
spaces. The table shows the mean reward per step of the final policy's most likely actions; the best possible
is 1.
"""

import _timing
import gymnasium
import numpy as np
from gymnasium import spaces

CODES = 6
ANGLE = 2 * np.pi * np.arange(CODES) / CODES
CIRCLE = np.stack([np.cos(ANGLE), np.sin(ANGLE)], axis=1).astype(np.float32)
BITS = (np.arange(CODES)[:, None] >> np.arange(3) & 1).astype(np.int8)
PAIRS = np.stack([np.arange(CODES) % 3, np.arange(CODES) // 3], axis=1)

# each space with the 6 codes written in it
WRITTEN = {
    "Discrete": (spaces.Discrete(CODES, start=-2), np.arange(CODES) - 2),
    "Box": (spaces.Box(-1.5, 1.5, (2,), np.float32), CIRCLE),
    "MultiDiscrete": (spaces.MultiDiscrete([3, 2]), PAIRS),
    "MultiBinary": (spaces.MultiBinary(3), BITS),
}


class Identity(gymnasium.Env):
    """Show a code in one space, reward the same code in the other; 32 codes an episode."""

    def __init__(self, observation, action):
        self.observation_space, self.shown = WRITTEN[observation]
        self.action_space, self.wanted = WRITTEN[action]
        self.continuous = action == "Box"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.code = 0, int(self.np_random.integers(CODES))
        return self.shown[self.code], {}

    def step(self, action):
        assert self.action_space.contains(action), action
        wanted = self.wanted[self.code]
        if self.continuous:
            reward = 1 - float(np.sum((action - wanted) ** 2))
        else:
            reward = float(np.mean(np.equal(action, wanted)))
        self.t, self.code = self.t + 1, int(self.np_random.integers(CODES))
        return self.shown[self.code], reward, False, self.t == 32, {}


def train(observation, action, steps, seed=0):
    """Return the mean reward per step after training."""
    from trpo_np import TRPO, evaluate_policy
    model = TRPO("MlpPolicy", Identity(observation, action), seed=seed, timesteps_per_batch=1024, max_kl=0.03,
                 vf_iters=10, vf_stepsize=1e-3, gamma=0.5, lam=0.9, cg_damping=1e-2, fvp_subsample=1,
                 policy_kwargs=dict(layers=[32], log_std_init=-0.5))
    model.learn(steps)
    return evaluate_policy(model, Identity(observation, action), 10, seed=1)[0] / 32


def main():
    args = _timing.arguments(__doc__, steps=dict(type=int, default=60_000))
    steps = 2048 if args.quick else args.steps
    print(f"{'observation':<16}" + "".join(f"{action:>16}" for action in WRITTEN) + "   (best: 1)")
    table = {}
    for observation in WRITTEN:
        scores = table[observation] = {action: train(observation, action, steps) for action in WRITTEN}
        print(f"{observation:<16}" + "".join(f"{score:>16.3f}" for score in scores.values()), flush=True)
    _timing.save(args, {"steps": steps, "reward_per_step": table})


if __name__ == "__main__":
    main()
