"""What does memory bring? Tasks that need it, learned with an LSTM and without, at the same number of steps.

    cartpole    CartPole-v1 without its velocities; at most 500
    pendulum    Pendulum-v1 without its velocity
    tmaze N     passive T-maze with a corridor of N steps (Ni et al. 2023, arXiv:2307.03864): the first
                observation shows on which side the goal lies, the junction asks for it; the score is the
                share of mazes solved, 0.5 by guessing
    repeat      POPGym's RepeatPreviousEasy (Morad et al. 2023, arXiv:2303.01859): name the suit of the card
                drawn three draws ago; at best 1, at worst -1
    repeat 32   RepeatPreviousMedium: of the card drawn 31 draws ago, from two decks
    first       RepeatFirstEasy: always name the suit of the first card

The final policy's most likely actions are scored over 100 new episodes.
"""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import _timing
import gymnasium
import numpy as np
from gymnasium import spaces


class Hidden(gymnasium.ObservationWrapper):
    """Show only some fields of the observation."""

    def __init__(self, env_id, fields):
        super().__init__(gymnasium.make(env_id))
        self.fields, space = fields, self.env.observation_space
        self.observation_space = spaces.Box(space.low[fields], space.high[fields])

    def observation(self, observation):
        return observation[self.fields]


class TMaze(gymnasium.Env):
    """Walk a corridor of `length` steps, then turn up or down.

    Each step that ends behind the fastest walk costs 1 / length.
    """

    UP, DOWN, CORRIDOR, JUNCTION = range(4)  # the observations; UP and DOWN only at the start

    def __init__(self, length):
        self.length = length
        self.observation_space, self.action_space = spaces.Discrete(4), spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = self.x = 0
        self.goal = int(self.np_random.integers(2))
        return self.goal, {}

    def step(self, action):  # up, down, forward, back
        self.t += 1
        if self.t == self.length + 1:
            solved = self.x == self.length and action == self.goal
            return self.JUNCTION, float(solved), True, False, {}
        if action >= 2:
            self.x = min(max(self.x + (1 if action == 2 else -1), 0), self.length)
        seen = self.JUNCTION if self.x == self.length else self.CORRIDOR if self.x else self.goal
        return seen, 0.0 if self.x >= self.t else -1 / self.length, False, False, {}


class Suits(gymnasium.Env):
    """Draw decks of cards one by one; name the suit of the k-th last, once k are drawn, or of the first."""

    def __init__(self, k=None, decks=1):
        self.k, self.cards, self.observation_space = k, 52 * decks, spaces.Discrete(4)
        self.action_space, self.asked = spaces.Discrete(4), self.cards - (k or 1)  # asked: so many times

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.suits, self.drawn = self.np_random.permutation(np.arange(self.cards) % 4), 1
        return int(self.suits[0]), {}

    def step(self, action):
        at, reward = self.drawn - self.k if self.k else 0, 0.0
        if at >= 0:
            reward = (1 if action == self.suits[at] else -1) / self.asked
        self.drawn += 1
        return int(self.suits[self.drawn - 1]), reward, False, self.drawn == self.cards, {}


COMMON = dict(timesteps_per_batch=1024, vf_iters=10, lam=0.95, fvp_subsample=1)
MAZE = dict(max_kl=0.02, vf_stepsize=1e-3)
# for rare rewards: advantages stay unscaled (presets.py says why, for Atari), and the policy settles as
# max_kl falls; little damping, because what is remembered for long has little curvature
EXPLORE = dict(max_kl=[0.02, 0.002], cg_damping=1e-3, normalize_advantage=False)
# environment, steps, goal, number of environments, settings; a list is a linear schedule
TASKS = {
    "cartpole": (lambda: Hidden("CartPole-v1", [0, 2]), 100_000, 500, 8,
                 dict(max_kl=[0.05, 0.001], cg_damping=0.1, gamma=0.995, lam=0.98, vf_stepsize=[3e-3, 3e-4],
                      restarts=0.005, normalize_observations=True,
                      policy_kwargs=dict(n_lstm=64, layers=[64]))),
    "pendulum": (lambda: Hidden("Pendulum-v1", [0, 1]), 100_000, -200, 4,
                 dict(max_kl=[0.05, 0.002], cg_damping=0.01, gamma=0.95, lam=0.9, vf_stepsize=[3e-3, 3e-4],
                      vf_iters=20, vf_batch_size=64, sample_reuse=2, normalize_rewards=True,
                      policy_kwargs=dict(n_lstm=64, layers=[64], log_std_init=1.0))),
    "tmaze 10": (lambda: TMaze(10), 50_000, 1.0, 8, MAZE),
    "tmaze 20": (lambda: TMaze(20), 100_000, 1.0, 8, MAZE | EXPLORE | dict(entcoeff=[0.02, 0])),
    # the KL is a mean over all steps, but only one step in 51 decides: its own KL could be 51 times as large
    "tmaze 50": (lambda: TMaze(50), 500_000, 1.0, 8,
                 MAZE | EXPLORE | dict(policy="MlpLnLstmPolicy", max_kl=[0.005, 0.001], entcoeff=[0.01, 0])),
    "repeat": (lambda: Suits(4), 200_000, 0.9, 8, dict(gamma=0.5, max_kl=0.05, vf_stepsize=1e-3)),
    "repeat 32": (lambda: Suits(32, 2), 1_000_000, -0.3, 8, dict(gamma=0.0, max_kl=0.05, vf_stepsize=1e-3)),
    "first": (lambda: Suits(), 200_000, 0.9, 8, dict(gamma=0.5, max_kl=0.05, vf_stepsize=1e-3)),
}


def worker(task, policy, seed, steps, changes):
    from trpo_np import TRPO, evaluate_policy, make_vec_env
    from trpo_np.callbacks import BaseCallback
    from trpo_np.settings import LinearSchedule

    class Curve(BaseCallback):
        def _on_rollout_end(self):
            returns = [total for total, _ in self.model.recent] or [np.nan]
            curve.append((self.model.num_timesteps, round(float(np.mean(returns)), 3)))

    make, _, _, n_envs, settings = TASKS[task]
    settings = {key: LinearSchedule(*value) if isinstance(value, (list, tuple)) else value
                for key, value in {**COMMON, **settings, **changes}.items()}
    settings.pop("policy", None)
    kwargs = settings.pop("policy_kwargs", {"n_lstm": 64, "layers": []})
    kwargs = kwargs if "Lstm" in policy else {}
    env = make_vec_env(make, settings.pop("n_envs", n_envs))
    model = TRPO(policy, env, seed=seed, policy_kwargs=kwargs, **settings)
    curve, started = [], time.perf_counter()
    model.learn(steps, Curve())
    seconds = time.perf_counter() - started
    returns, _ = evaluate_policy(model, make(), 100, seed=10_000 + seed, return_episode_rewards=True)
    score = np.mean(np.array(returns) > 0.99) if task.startswith("tmaze") else np.mean(returns)
    print(json.dumps({"seed": seed, "steps": model.num_timesteps, "score": round(float(score), 3),
                      "steps_per_second": round(model.num_timesteps / seconds),
                      "curve": curve[::max(1, len(curve) // 20)]}))


def train(task, policy, seed, steps, changes):
    command = [sys.executable, __file__, "worker", task, policy, str(seed), str(steps), changes]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    args = _timing.arguments(
        __doc__,
        tasks=dict(nargs="+", choices=list(TASKS), default=list(TASKS)),
        seeds=dict(type=int, nargs="+", default=[0, 1, 2, 3, 4]),
        policies=dict(nargs="+", help="default: the task's, and MlpPolicy"),
        steps=dict(type=int),
        processes=dict(type=int, default=2),
        changes=dict(default="{}", help="JSON of settings to change; [from, to] is a linear schedule"))
    if args.quick:
        args.tasks, args.seeds, args.steps = ["tmaze 10"], [0], 1024
    for task in args.tasks:
        _, task_steps, goal, _, settings = TASKS[task]
        steps = args.steps or task_steps
        for policy in args.policies or [settings.get("policy", "MlpLstmPolicy"), "MlpPolicy"]:
            def run(seed):
                return train(task, policy, seed, steps, args.changes)

            with ThreadPoolExecutor(args.processes) as pool:
                results = list(pool.map(run, args.seeds))
            scores = [result["score"] for result in results]
            speed = np.mean([result["steps_per_second"] for result in results])
            print(f"{task:<12}{policy:<18}{steps:>9,} steps  mean {np.mean(scores):8.2f} (goal {goal}) of "
                  f"{' '.join(f'{score:.2f}' for score in scores)}  {speed:,.0f} steps/s", flush=True)
            _timing.save(args, {"task": task, "policy": policy, "steps": steps, "changes": args.changes,
                                "seeds": results})


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), json.loads(sys.argv[6]))
    else:
        main()
