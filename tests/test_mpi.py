"""Real ranks under mpiexec: N of them are one, to rounding; they stay together; and one that fails ends all, at once."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from test_comm import MPIEXEC, needs_mpi

from trpo_np.files import archive

ROOT = Path(__file__).parents[1]
pytestmark = needs_mpi

# what the programs below share
PROLOGUE = """
import os, sys, time
import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv
from trpo_np import TRPO
from trpo_np.callbacks import BaseCallback, CheckpointCallback

RANK = int(os.environ.get("PMI_RANK", 0))


def fault():
    # on rank 1, note when it happens
    return RANK == 1 and open("fault", "w").write(str(time.time())) > 0


class Toy(gymnasium.Env):
    # random observations; episodes end by chance, or after `horizon` steps

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, horizon=9):
        self.horizon = horizon

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.normal(3, 2, 3).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        obs = self.np_random.normal(3, 2, 3).astype(np.float32)
        reward = float(obs @ [1, 0, 0.3] + np.sum(action * obs[:2]))
        return obs, reward, bool(self.np_random.random() < 0.05), self.steps >= self.horizon, {}


class Vector(SyncVectorEnv):
    # a vector environment that is stepped as one: its autoreset rows count in nothing
    pass


class On(BaseCallback):
    # call a function at one hook

    def __init__(self, hook, fun):
        super().__init__()
        setattr(self, hook, fun)


def toy(env=None, comm=None, **settings):
    return TRPO("MlpPolicy", env or Toy(), comm=comm, **{"seed": 3, "timesteps_per_batch": 64, "vf_batch_size": 16,
                "policy_kwargs": dict(net_arch=[dict(pi=[8], vf=[8])]), **settings})
"""


def start(ranks, code, folder, **environ):
    (folder / "program.py").write_text(PROLOGUE + textwrap.dedent(code))
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TRPO_NP_NUMBA": "0", **environ}
    command = [MPIEXEC, "-n", str(ranks), sys.executable, "program.py"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=environ)


def finish(process, seconds=100):
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"the ranks hang\n{out}\n{err}")
    return process.returncode, out, err


def run(ranks, code, folder, **environ):
    status, out, err = finish(start(ranks, code, folder, **environ))
    assert status == 0, out + err
    return out


# --- N ranks are one --------------------------------------------------------------------------------------------------

EXACT = """
from dataclasses import fields
from trpo_np.comm import OneProcess, connect
from trpo_np.rollout import Runner, Segment
from trpo_np.trust_region import Batch, fisher_operator, trust_region_step
from trpo_np.update import fit

comm, ALL = connect(), 4
PARTS = {1: [range(4)], 2: [range(3), range(3, 4)], 4: [[0], [1], [2], [3]]}[comm.size]


class FirstSum(OneProcess):
    # ranks that remember their first sum: in a step, the gradient
    def __init__(self, comm):
        self.comm, self.size, self.rank = comm, comm.size, comm.rank

    def __getattr__(self, name):
        return getattr(self.comm, name)

    def sum(self, x):
        total = self.comm.sum(x)
        self.__dict__.setdefault("first", total)
        return total

    def gather(self, x):
        return self.comm.gather(x)

    def align(self, x):
        self.comm.align(x)


def part(seg, columns):
    # the segment of some of the environments
    mine = {f.name: getattr(seg, f.name) for f in fields(Segment)}
    for name in ("obs", "actions", "rewards", "terminated", "truncated", "valid", "over", "starts"):
        mine[name] = mine[name][:, columns]
    mine["last_obs"] = seg.last_obs[columns]
    mine["final"] = [(t, columns.index(i), row) for t, i, row in seg.final if i in columns]
    return Segment(**mine)


def answers(dtype):
    settings = dict(dtype=dtype, normalize_observations=True, normalize_rewards=True, fvp_subsample=1, cg_damping=0.1,
                    entcoeff=1e-3, policy_kwargs=dict(layers=[64, 64], log_std_init=-0.5))
    envs = lambda: Vector([lambda h=h: Toy(h) for h in (1, 3, 7, 40)])  # the first has an autoreset row in every other
    one = toy(envs(), OneProcess(), vf_batch_size=1000, **settings).learn(64)
    runner = Runner(one.policy, one.stepper)
    runner.restart([7, 8, 9, 10])
    seg = runner.collect(50, np.random.default_rng(0))
    columns = list(PARTS[comm.rank])
    mine, policy = part(seg, columns), one.policy
    assert 0 < mine.valid.sum() < seg.valid.sum() or comm.size == 1

    # the step by itself
    inputs, weights = policy.normalizer(mine.obs[mine.valid]), np.full(mine.valid.sum(), 1 / seg.valid.sum())
    adv = np.random.default_rng(1).standard_normal(seg.valid.shape)[:, columns][mine.valid]
    head = policy.params.select(policy.policy_weights)
    watched = FirstSum(comm)
    v = np.random.default_rng(2).standard_normal(head.flat.size).astype(dtype)
    yield "fisher", fisher_operator(policy, head, inputs, weights, comm, 0.1)(v)
    step, info = trust_region_step(policy, head, Batch(inputs, mine.actions[mine.valid], adv, weights), watched, max_kl=0.02,
                                   fvp_subsample=1, cg_damping=0.1)
    assert info["step_fraction"] and len(watched.first) == len(head.flat)
    yield "gradient", watched.first
    yield "step", step - head.flat
    yield "parameters", step
    yield "product", one.__class__.fisher_vector_product(toy_like(one, comm), v, mine.obs[mine.valid])

    # a whole update: normalisation, advantages, step, critic on minibatches that hold the whole batch
    model = toy_like(one, comm)
    model.reward_normalizer.restart(len(columns))
    head = model.policy.params.select(model.policy.policy_weights).flat.copy()
    stats, _ = model.update(mine, 0.5)
    yield "update", model.policy.params.flat
    yield "adam", model.adam.m
    yield "observations", np.concatenate([np.ravel(x) for x in model.policy.normalizer.moments.arrays().values()])
    yield "rewards", np.concatenate([np.ravel(x) for x in model.reward_normalizer.moments.arrays().values()])
    names = ("entropy", "explained_variance", "gain", "kl", "value_loss", "gradient_norm", "expected_gain")
    yield "stats", np.array([stats[name] for name in names])

    # the critic on small minibatches of each rank: what it does is what one rank does with the ranks' minibatches joined
    model = toy_like(one, comm, vf_batch_size=16)
    features, targets = policy.normalizer(mine.obs[mine.valid]), np.cos(mine.obs[mine.valid].sum(1))
    made, own = [], model.policy.critic_batches

    def batches(*args):
        passes = own(*args)
        def each():
            for inputs, rows in passes():
                made.append((inputs, targets[rows]))
                yield inputs, rows
        return each
    model.policy.critic_batches = batches
    fit_once(model, mine, targets)
    joined = [[np.concatenate(x) for x in zip(*parts)] for parts in zip(*comm.gather(made))]
    sizes = {len(goal) for _, goal in made}
    assert comm.size == 1 or {len(goal) for _, goal in joined} != sizes
    assert len(set(comm.gather(len(made)))) == 1 and len(made) > 3

    alone = toy_like(one, OneProcess(), vf_batch_size=16, vf_iters=1)
    goals = np.concatenate([goal for _, goal in joined])
    at = np.cumsum([0] + [len(goal) for _, goal in joined])
    alone.policy.critic_batches = lambda *_: lambda: ((x, slice(i, j)) for (x, _), i, j in zip(joined, at, at[1:]))
    fit_once(alone, mine, goals)
    yield "minibatches", model.policy.params.flat - alone.policy.params.flat
    assert np.abs(model.adam.m).max() > 0 and model.adam.t == alone.adam.t == len(made)


def fit_once(model, seg, targets):
    # the critic on rows that all count
    policy, rng = model.policy, np.random.default_rng(model.comm.rank)
    x, valid = policy.normalizer(seg.obs), np.ones(len(targets))
    fit(policy, model.adam, x, seg, targets, valid, model.settings, 1e-3, rng, model.comm)


def toy_like(one, comm, **settings):
    # the same model on these ranks
    model = toy(Toy(), comm, **{**vars(one.settings), "policy_kwargs": one.policy_kwargs, **settings})
    model.load_parameters(one.get_parameters())
    model.policy.normalizer.restore(one.policy.normalizer.moments.arrays())
    model.reward_normalizer.moments.restore(one.reward_normalizer.moments.arrays())
    return model


for dtype in ("float32", "float64"):
    said = dict(answers(dtype))
    for name, array in said.items():
        assert comm.gather(array.tobytes()) == comm.size * [array.tobytes()], f"{name} differs between ranks"
    if comm.rank == 0:
        np.savez(f"{dtype}_{comm.size}.npz", **said)
"""


def test_one_two_and_four_ranks_give_the_same_step(tmp_path):
    programs = []
    for ranks in (1, 2, 4):
        (tmp_path / str(ranks)).mkdir()
        programs.append(start(ranks, EXACT, tmp_path / str(ranks)))
    for program in programs:
        status, out, err = finish(program)
        assert status == 0, out + err
    for dtype, tolerance in (("float32", 1e-6), ("float64", 1e-12)):
        one, *others = (np.load(tmp_path / f"{n}/{dtype}_{n}.npz") for n in (1, 2, 4))
        for n, many in zip((2, 4), others):
            for name in one:
                error = np.linalg.norm(many[name] - one[name]) / np.linalg.norm(one["update" if name == "minibatches" else name])
                print(f"{dtype} {n} ranks {name:16}{error:10.1e}")
                # the step alone: conjugate gradient multiplies the products' rounding by the condition of F + damping
                assert error < tolerance * (20 if name == "step" else 1), (name, dtype, n)


# --- they stay together -----------------------------------------------------------------------------------------------

LONG = """
from trpo_np.files.training import fingerprint

env = Vector([lambda: Toy(1), lambda: Toy(50)]) if RANK else Toy(20)  # rank 1: autoreset rows, which count in nothing
watched = []
model = toy(env, timesteps_per_batch=64, vf_iters=1, vf_batch_size=32, normalize_observations=True, normalize_rewards=True)
model.learn(1e9, On("_on_rollout_end", lambda: watched.append(int(model.get_env() is env)) or model.updates < 199))
comm = model.comm
moments = model.policy.normalizer.moments, model.reward_normalizer.moments
state = [a.tobytes() for a in (model.policy.params.flat, model.adam.m, model.adam.v,
                               *moments[0].arrays().values(), *moments[1].arrays().values())]
assert model.updates == len(watched) == 200 and model.num_timesteps < comm.size * 64 * 200
assert comm.gather(state) == [state] * comm.size and comm.gather(fingerprint(model)) == [fingerprint(model)] * comm.size
assert np.isfinite(model.policy.params.flat).all() and model.skipped_updates < 100
print("steps", model.num_timesteps, flush=True)
"""


def test_ranks_are_the_same_to_the_bit_after_200_updates(tmp_path):
    assert "steps" in run(2, LONG, tmp_path)


@pytest.mark.parametrize("algorithm", ["recursive_doubling", "reduce_scatter_allgather", "ring"])
def test_ranks_are_the_same_with_each_algorithm_of_reduction(tmp_path, algorithm):
    code = LONG.replace("199", "9").replace("200", "10").replace("< 100", "< 10")
    settings = {"MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": algorithm, "MPIR_CVAR_DEVICE_COLLECTIVES": "none"}
    assert "steps" in run(3, code, tmp_path, **settings)


def test_a_rank_that_drifts_is_named(tmp_path):
    """One of three changes one bit of one parameter, of the optimiser, or of the statistics."""
    process = start(3, """
        def drift():
            if RANK == 2 and model.updates == 3:
                model.adam.v[5] = np.nextafter(model.adam.v[5], np.float32(1))
                fault()
        model = toy(normalize_observations=True)
        model.learn(1e9, On("_on_update_end", drift))
        """, tmp_path)
    status, out, err = finish(process)
    assert status not in (0, None) and "must be the same on all ranks, but of 3 ranks these differ from the others: 2" in err


def test_ranks_with_other_settings_are_named(tmp_path):
    status, out, err = finish(start(2, "toy(gamma=0.99 - 0.01 * RANK).learn(1000)", tmp_path))
    assert status != 0 and "settings" in err and "these differ from the others: 1" in err
    status, out, err = finish(start(2, "toy().learn(1000 + RANK)", tmp_path))
    assert status != 0 and "total_timesteps and log_interval of learn must be the same on all ranks" in err


COUNT = """
from trpo_np.comm import Ranks

calls, logged, real = {}, [], TRPO.update
TRPO.update = lambda *args, **options: logged.append((result := real(*args, **options))[0]) or result
for name in ("sum", "gather", "bcast", "align"):
    def counted(self, x, name=name, real=getattr(Ranks, name)):
        calls[name] = calls.get(name, 0) + 1
        return real(self, x)
    setattr(Ranks, name, counted)

for normalised in (False, True):
    model = toy(timesteps_per_batch=64, vf_batch_size=16, vf_iters=3, normalize_observations=normalised,
                normalize_rewards=normalised)
    model.learn(1, On("_on_rollout_start", calls.clear))
    info = logged.pop()
    trials = round(1 - np.log2(info["step_fraction"]))
    expected = {"gather": 3, "sum": 4 + 4 * normalised + info["cg_products"] + trials + 3 * 4, "align": 1}
    assert calls == expected, (calls, expected)
"""


def test_an_update_takes_few_collectives(tmp_path):
    """What the README says: 8 and, each, one a Fisher product, a trial step and a minibatch; 2 for each normalisation."""
    run(2, COUNT, tmp_path)


# --- one that fails ends all, and says why ----------------------------------------------------------------------------

RAISING = {
    "environment": ("""
        class Bad(Toy):
            def step(self, action):
                if self.steps == 5 and fault():
                    raise ZeroDivisionError("in the environment")
                return super().step(action)
        toy(Bad()).learn(1e9)
        """, r"ZeroDivisionError: in the environment\n.*rank 1 of 2 ends the job"),
    "callback": ("toy().learn(1e9, lambda *_: fault() and 1 / 0)", "ZeroDivisionError: division by zero"),
    "learn": ("""
        model = toy()
        model.policy.segment_values = lambda *_: fault() and 1 / 0 or time.sleep(30)
        model.learn(1e9)
        """, "ZeroDivisionError: division by zero"),
    "caught": ("""
        try:
            toy().learn(1e9, lambda *_: fault() and 1 / 0)
        except ZeroDivisionError:
            time.sleep(100)
        """, "ZeroDivisionError: division by zero"),
    "exit": ("toy().learn(1e9, lambda *_: fault() and sys.exit('no more'))", "SystemExit: no more"),
    "script": ("""
        toy().learn(64)
        if fault():
            raise KeyError("my own mistake")
        toy().learn(1e9)
        """, "KeyError: 'my own mistake'"),
    "pretrain": ("""
        obs, actions = np.zeros((300, 3), "f"), np.zeros((300, 2), "f")
        model = toy()
        model.policy.bound = lambda *_: fault() and 1 / 0
        model.pretrain((obs, actions))
        """, "ZeroDivisionError: division by zero"),
    "killed": ("toy().learn(1e9, lambda *_: fault() and os.kill(os.getpid(), 9))", "signal 9"),
    "nan": ("""
        class Bad(Toy):
            def step(self, action):
                obs, *rest = super().step(action)
                return (obs * np.nan if self.steps == 5 and fault() else obs), *rest
        toy(Bad()).learn(1e9)
        """, "environment 0 gave an observation with nan in field 0"),
    "disk full": ("""
        import resource

        def limit():  # of the size of files, in bytes
            if RANK == 0:
                open("fault", "w").write(str(time.time()))
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        toy().learn(1e9, [On("_on_rollout_start", limit), CheckpointCallback(1, ".")])
        """, "OSError: .*File too large"),
}


@pytest.mark.parametrize("where", RAISING)
def test_a_rank_that_fails_ends_all(tmp_path, where):
    code, cause = RAISING[where]
    status, out, err = finish(start(2, code, tmp_path), 40)
    took = time.time() - float((tmp_path / "fault").read_text())
    assert status != 0 and re.search(cause, out + err, re.DOTALL) and took < 10, (status, took, out, err)


JOB = """
from trpo_np import envs, run_mujoco
from trpo_np.app import jobs

class Bad(Toy):
    def step(self, action):
        if MODE == "raises" and self.np_random.random() < 0.005 and fault():
            raise ValueError("a wheel came off")
        return super().step(action)

def make_env(*_, **__):
    if MODE == "is missing" and fault():
        raise OSError("the simulator has no licence here")
    return Bad()

envs.make_env = make_env
jobs.main(lambda: run_mujoco.work(["--env", "Toy", "--preset", "baselines", "--num-timesteps", "1e9", "--save", "m"]), "job")
"""


@pytest.mark.parametrize("mode, cause", [("raises", "job: error: a wheel came off"),
                                         ("is missing", "job: error: the simulator has no licence here")])
def test_a_job_in_which_a_rank_fails_ends(tmp_path, mode, cause):
    status, out, err = finish(start(2, f"MODE = {mode!r}\n{JOB}", tmp_path), 40)
    took = time.time() - float((tmp_path / "fault").read_text())
    assert status != 0 and cause in err and took < 10, (status, took, out, err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_saves_and_ends_all(tmp_path, number):
    process = start(2, f"MODE = ''\n{JOB}", tmp_path)
    while "total_timesteps" not in process.stdout.readline():  # of the table after ten updates
        assert process.poll() is None
    process.send_signal(number)
    came = time.monotonic()
    status, out, err = finish(process, 40)
    assert status == 130 and time.monotonic() - came < 10, (status, out, err)
    steps = archive.read_archive(tmp_path / "m.npz")[0]["progress"]["num_timesteps"]
    assert steps % 2048 == 0 and steps >= 20480
    assert re.search(rf"{steps:,} steps in .*; saved to m.npz, from where --load goes on\nstopped", out), out


@pytest.mark.parametrize("hook", ["_on_step", "_on_rollout_end", "_on_update_end"])
def test_a_callback_that_stops_one_rank_stops_all(tmp_path, hook):
    out = run(2, f"""
        calls = []
        stop = lambda *_: calls.append(1) or not (RANK == 1 and len(calls) == 3)
        model = toy().learn(1e6, stop if "{hook}" == "_on_step" else On("{hook}", stop))
        said = model.comm.gather((model.num_timesteps, model.updates))
        assert said[0] == said[1] and said[0][1] == (0 if "{hook}" == "_on_step" else 3), said
        print("stopped", flush=True)
        """, tmp_path)
    assert out.count("stopped") == 2


def test_a_gradient_of_nan_on_one_rank_changes_nothing_on_any(tmp_path):
    run(2, """
        model = toy(vf_iters=0).learn(128)
        before, real = model.policy.params.flat.copy(), model.policy.dist.logp
        model.policy.dist.logp = lambda *args: real(*args) * (np.nan if RANK else 1.0)
        model.learn(256)
        assert model.policy.params.flat.tobytes() == before.tobytes() and model.skipped_updates == 2
        """, tmp_path)


# --- how ranks begin --------------------------------------------------------------------------------------------------

COLD = """
from trpo_np.kernels import compile as kernels

model = toy(vf_iters=0).learn(256)
compiled = [kernel.compiled for kernel in kernels.KERNELS if kernel.compiled is not None]
hits = [sum(kernel.stats.cache_hits.values()) for kernel in compiled]
said = model.comm.gather(hits)
print(f"kernels {len(compiled)} found {[sum(hits) for hits in said]}" * (RANK == 0), flush=True)
"""


def own_copy(folder):
    """Copy the package to a folder of its own, without compiled kernels."""
    shutil.copytree(ROOT / "trpo_np", folder / "trpo_np", ignore=shutil.ignore_patterns("__pycache__"))
    return {"PYTHONPATH": str(folder), "TRPO_NP_NUMBA": "1", "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache")}


def test_four_ranks_with_a_cold_cache_compile_once(tmp_path):
    pytest.importorskip("numba")
    environ = own_copy(tmp_path) | {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    out = run(4, COLD, tmp_path, **environ)
    number = int(re.search(r"kernels (\d+)", out)[1])
    assert f"found {[0] + [number] * 3}" in out


def test_four_ranks_that_can_write_nowhere_compile_each(tmp_path):
    pytest.importorskip("numba")
    environ = own_copy(tmp_path) | {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "NUMBA_CACHE_DIR": f"{os.devnull}/numba"}
    (tmp_path / "trpo_np" / "__pycache__").write_text("a file where a folder is needed")
    assert "found [0, 0, 0, 0]" in run(4, COLD, tmp_path, **environ)


def test_threads_beyond_the_cores_are_a_warning(tmp_path):
    code = "import warnings\nwith warnings.catch_warnings(record=True) as said:\n    warnings.simplefilter('always')\n" \
           "    comm = toy().comm\nprint([str(w.message) for w in said if 'BLAS' in str(w.message)], flush=True)"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    out = run(2, code, tmp_path, OPENBLAS_NUM_THREADS=str(cores))
    warned = f"2 ranks on this machine run {2 * cores} BLAS threads on {cores} cores"
    assert (warned in out) == (cores > 1) and out.count("[]") >= 1
    assert run(2, code, tmp_path, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1").count("[]") == 2


@pytest.mark.parametrize("absent", [True, False])
def test_one_process_never_starts_mpi(tmp_path, absent):
    code = PROLOGUE + ("sys.modules['mpi4py'] = None\n" if absent else "") + textwrap.dedent("""
        toy().learn(128)
        try:
            toy().learn(128, lambda *_: 1 / 0)
        except ZeroDivisionError:
            print("caught")
        assert sys.modules.get("mpi4py") is None and not [name for name in sys.modules if name.startswith("mpi4py.")]
        assert sys.excepthook is sys.__excepthook__
        """)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PMI", "OMPI"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60,
                          env={**environ, "PYTHONPATH": str(ROOT), "TRPO_NP_NUMBA": "0"})
    assert done.returncode == 0 and "caught" in done.stdout, done.stderr


def test_mpiexec_with_one_rank_is_one_process(tmp_path):
    out = run(1, """
        try:
            toy().learn(128, lambda *_: 1 / 0)
        except ZeroDivisionError:
            print("caught")
        """, tmp_path)
    assert "caught" in out


def test_ranks_see_and_do_different_things(tmp_path):
    run(2, """
    model, seen = toy(), []

    def keep():
        segment = model.kept.locals["segment"]
        seen.append((segment.obs.tobytes(), segment.actions.tobytes()))
    model.kept = On("_on_rollout_end", keep)
    model.learn(64, model.kept)
    for what in zip(*model.comm.gather(seen[0])):
        assert len(set(what)) == 2
    """, tmp_path)


def test_a_script_with_a_communicator_of_its_own_ends_all(tmp_path):
    code = """
    from mpi4py import MPI
    model = toy(comm=MPI.COMM_WORLD).learn(64)
    if RANK == 1:
        raise ValueError("behind the training")
    model.comm.sum(1.0)
    """
    status, out, err = finish(start(2, code, tmp_path), 40)
    assert status != 0 and "behind the training" in err and "rank 1 of 2 ends the job" in err


def test_ranks_that_leave_with_success_end_nothing(tmp_path):
    code = """
    toy().learn(1e9, On("_on_rollout_end", lambda: sys.exit(0)))
    """
    status, out, err = finish(start(2, code, tmp_path), 40)
    assert status == 0 and "ends the job" not in err, out + err


def test_a_resumed_evaluation_is_rank_0s_on_all_ranks(tmp_path):
    """Other machines may not see its folder."""
    run(2, """
    from trpo_np.callbacks import EvalCallback
    folder = f"log{RANK}"
    model = toy()
    model.learn(128, EvalCallback(Toy(), None, 2, 128, log_path=folder, verbose=0))
    again = EvalCallback(Toy(), None, 2, 128, log_path=folder, verbose=0)
    model.learn(0, again, reset_num_timesteps=False)
    found = model.comm.gather((again.best_mean_reward, again.evaluations_timesteps))
    assert found[0] == found[1] and found[0][1] == [128] and os.path.exists("log0/evaluations.npz")
    """, tmp_path)
