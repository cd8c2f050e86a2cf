"""Where does the time of `learn` go: environment, policy, update?

With 2,048 steps a batch (8,192 for 64 environments), 10 CG iterations on every sample, 3 critic epochs in
minibatches of 128; Pong as run_atari sets it.
"""

import json
import tempfile
from pathlib import Path

import _timing
import _update


def cartpole(num_envs):
    import gymnasium
    return gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")


def control(env, steps):
    from trpo_np import TRPO
    return TRPO("MlpPolicy", env, seed=0, timesteps_per_batch=steps, **_update.SETTINGS), steps


def pong():
    from trpo_np import TRPO, atari, presets, run_atari
    preset, changes = presets.atari("tuned")
    env = atari.make_atari("Pong", run_atari.OPTIONS["num_envs"], **changes)
    return TRPO("CnnPolicy", env, seed=0, **preset), preset["timesteps_per_batch"]


CASES = {"CartPole-v1, one": lambda: control("CartPole-v1", 2048),
         "CartPole-v1, 64, its vectorised entry point":
         lambda: control(cartpole(64), 8192), "HalfCheetah-v5, one": lambda: control("HalfCheetah-v5", 2048),
         "Pong, 8": pong}


def main():
    args = _timing.arguments(__doc__)
    from trpo_np.logger import configure
    results = {}
    print(f"{'environments':<46}{'steps/s':>9}{'environment':>13}{'policy':>8}{'update':>8}")
    for name, make in list(CASES.items())[:2] if args.quick else CASES.items():
        model, batch = make()
        updates = 1 if args.quick else 3 if name.startswith("Pong") else 20
        model.learn(batch)  # compiles, and fills caches
        with tempfile.TemporaryDirectory() as folder:
            logger = configure(folder, ["json"])
            model.loggers = logger.outputs
            model.learn(updates * batch, log_interval=updates)
            row = json.loads((Path(folder) / "progress.json").read_text().splitlines()[-1])
        found = results[name] = {key: row[f"time/{key}"]
                                 for key in ("fps", "share_environment", "share_policy", "share_update")}
        print(f"{name:<46}{found['fps']:>9,.0f}{100 * found['share_environment']:>11.0f} "
              f"%{100 * found['share_policy']:>6.0f} %{100 * found['share_update']:>6.0f} %", flush=True)
    _timing.save(args, results)


if __name__ == "__main__":
    main()
