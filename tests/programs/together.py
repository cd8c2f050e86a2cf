"""Train on several ranks and check that they stay the same. Usage: together.py CASE [ARGUMENT]."""

import os
import sys
import warnings

import numpy as np
from ranks import RANK, On, toy
from toys import Shifted, Vector

from trpo_np import TRPO
from trpo_np.comm import Ranks
from trpo_np.policies import MlpPolicy
from trpo_np.vec_env import DummyVecEnv


class Brief(MlpPolicy):
    """A policy of which little is compiled: the cache treats ten seconds of compiling as it does one."""

    kernel_files = {"scalar"}


def long(updates):
    """Train with all that ranks share, and each rank with ends of its own; then compare the states' bytes."""
    from trpo_np.files.training import fingerprint
    from trpo_np.snapshot import Snapshot

    updates, watched = int(updates), []
    # rank 1 has autoreset rows
    env = Vector([lambda: Shifted(1), lambda: Shifted(50)]) if RANK else Shifted(20)
    model = toy(env, vf_iters=1, vf_batch_size=32, normalize_observations=True, normalize_rewards=True)
    stop = On("_on_rollout_end", lambda: watched.append(model.get_env() is env)
              or model.updates < updates - 1)
    model.learn(1e9, stop)
    comm, policy = model.comm, model.policy
    moments = policy.normalizer.moments, model.reward_normalizer.moments
    arrays = [policy.params.flat, model.adam.m, model.adam.v,
              *(a for m in moments for a in m.arrays().values())]
    state = [a.tobytes() for a in arrays]
    assert model.updates == len(watched) == updates and model.num_timesteps < comm.size * 64 * updates
    assert comm.gather(state) == [state] * comm.size
    mine = fingerprint(model, Snapshot(model))
    assert comm.gather(mine) == [mine] * comm.size
    assert np.isfinite(policy.params.flat).all() and model.skipped_updates < max(updates // 2, 10)
    return f"{model.num_timesteps} steps"


def collectives():
    """Count the collectives of an update: those that the guide to ranks names."""
    calls, logged, update = {}, [], TRPO.update

    def count(name, real):
        def counted(self, x):
            calls[name] = calls.get(name, 0) + 1
            return real(self, x)
        return counted

    def keep(*args, **options):
        result = update(*args, **options)
        logged.append(result[0])
        return result
    for name in ("sum", "gather", "bcast", "align"):
        setattr(Ranks, name, count(name, getattr(Ranks, name)))
    TRPO.update = keep
    for normalised in (False, True):
        model = toy(vf_iters=3, normalize_observations=normalised, normalize_rewards=normalised)
        model.learn(1, On("_on_rollout_start", calls.clear))
        last = logged.pop()
        trials = round(1 - np.log2(last["step_fraction"]))
        expected = {"gather": 2, "sum": 5 + 4 * normalised + last["cg_products"] + trials + 3 * 4, "align": 1}
        assert calls == expected, (calls, expected)


def shares():
    """Share the batch of the job: three ranks take the steps of one, and as many minibatches."""
    model = toy(batch_of="job", timesteps_per_batch=96, vf_batch_size=16, vf_iters=2)
    model.learn(960)
    assert (model.num_timesteps, model.updates, model.adam.t) == (960, 10, 10 * 2 * 6)
    assert model.settings.vf_batch_size == 16
    env = DummyVecEnv([Shifted, Shifted])
    model = toy(env, batch_of="job", timesteps_per_batch=100)  # 34 steps a rank, 17 of each environment
    model.learn(1)
    assert model.num_timesteps == 3 * 34
    try:
        model.timesteps_per_batch = 3
    except ValueError as error:
        assert "timesteps_per_batch is 3, of which a rank has 1, fewer than the 2 environments" in str(error)
    else:
        raise AssertionError("a rank has fewer steps than environments")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        toy(batch_of="job", timesteps_per_batch=93).learn(1)
    few = [str(w.message) for w in said if "3 ranks share a batch of 93 steps: 31 a rank" in str(w.message)]
    assert len(few) == (RANK == 0)
    return "shared"


def stops(hook):
    """Let a callback of rank 1 alone end the training, at its third call."""
    calls = []

    def stop(*_):
        calls.append(1)
        return not (RANK == 1 and len(calls) == 3)
    model = toy().learn(1e6, stop if hook == "_on_step" else On(hook, stop))
    said = model.comm.gather((model.num_timesteps, model.updates))
    assert said[0] == said[1] and said[0][1] == (0 if hook == "_on_step" else 3), said
    return "stopped"


def nan():
    """Give rank 1 a gradient of nan: no rank changes a parameter of the policy."""
    model = toy(vf_iters=0).learn(128)
    before, real = model.policy.params.flat.copy(), model.policy.dist.logp
    model.policy.dist.logp = lambda *args: real(*args) * (np.nan if RANK else 1.0)
    model.learn(256)
    assert model.policy.params.flat.tobytes() == before.tobytes() and model.skipped_updates == 2


def differ():
    """Compare what the ranks saw and did in their first rollout."""
    model, seen = toy(), []

    def keep():
        segment = kept.locals["segment"]
        seen.append((segment.obs.tobytes(), segment.actions.tobytes()))
    kept = On("_on_rollout_end", keep)
    model.learn(64, kept)
    for what in zip(*model.comm.gather(seen[0])):
        assert len(set(what)) == 2


def resumed():
    """Resume evaluations whose file only rank 0 sees, as on machines without a shared folder."""
    from trpo_np.callbacks import EvalCallback

    folder, model = f"log{RANK}", toy()
    model.learn(128, EvalCallback(Shifted(), None, 2, 128, log_path=folder, verbose=0))
    again = EvalCallback(Shifted(), None, 2, 128, log_path=folder, verbose=0)
    model.learn(0, again, reset_num_timesteps=False)
    found = model.comm.gather((again.best_mean_reward, again.evaluations_timesteps))
    assert found[0] == found[1] and found[0][1] == [128] and os.path.exists("log0/evaluations.npz")


def compiled():
    """Tell how many kernels are compiled, and how many of them each rank found in the cache."""
    from trpo_np.kernels.compile import KERNELS

    model = toy(policy=Brief, vf_iters=0).learn(256)
    kernels = [kernel.compiled for kernel in KERNELS if kernel.compiled is not None]
    found = model.comm.gather(sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels))
    return f"kernels {len(kernels)} found {found}" if RANK == 0 else None


def threads():
    """Tell the warnings about BLAS threads that making a model brings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        comm = toy().comm
    assert comm.size == 2
    return str([str(w.message) for w in said if "BLAS" in str(w.message)])


def caught():
    """Catch an error of training: in one process, that ends nothing."""
    try:
        toy().learn(128, lambda *_: 1 / 0)
    except ZeroDivisionError:
        return "caught"


def alone(absent):
    """Train in one process, with mpi4py absent or not: it is not imported, and no hook for errors is set."""
    if absent == "True":
        sys.modules["mpi4py"] = None
    toy().learn(128)
    said = caught()
    assert sys.modules.get("mpi4py") is None
    assert not [name for name in sys.modules if name.startswith("mpi4py.")]
    assert sys.excepthook is sys.__excepthook__
    return said


CASES = [long, collectives, shares, stops, nan, differ, resumed, compiled, threads, caught, alone]

if __name__ == "__main__":
    case = {fun.__name__: fun for fun in CASES}[sys.argv[1]]
    sys.stdout.write(f"{case(*sys.argv[2:])}\n")  # in one write, not cut by another rank's
