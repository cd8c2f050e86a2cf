"""The real emulator: every setting is in force, lives are not games, and the network sees the game."""

import json
import re
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

ale_py = pytest.importorskip("ale_py")

from trpo_np import TRPO, atari, cli, evaluate_policy, presets, run_atari, run_mujoco  # noqa: E402
from trpo_np.app import jobs  # noqa: E402
from trpo_np.envs import FRAME, adapt  # noqa: E402
from trpo_np.rollout import Runner  # noqa: E402

MAKERS = {"native": lambda game, **changes: atari.make_atari(game, 1, **changes), "wrappers": atari.make_one}
each_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
SMALL = dict(height=20, width=20)


class Steps:
    """Steps a game of either kind, one action at a time; remembers nothing."""

    def __init__(self, env, seed=0):
        self.env, self.many = env, hasattr(env, "num_envs")
        obs, self.info = env.reset(seed=seed)
        self.obs = obs[0] if self.many else obs

    def __call__(self, action):
        obs, reward, terminated, truncated, info = self.env.step(np.array([action]) if self.many else action)
        if self.many:
            self.obs, self.info = obs[0], {key: value[0] for key, value in info.items()}
            return float(reward[0]), bool(terminated[0]), bool(truncated[0])
        self.obs, self.info = obs, info
        return float(reward), terminated, truncated


def play(env, count, actions=None, seed=0):
    game, rng = Steps(env, seed), np.random.default_rng(seed)
    rows = []
    for t in range(count):
        n = env.single_action_space.n if game.many else env.action_space.n
        reward, terminated, truncated = game(rng.integers(n) if actions is None else actions[t])
        rows.append((game.obs.copy(), reward, terminated, truncated, game.info))
        if not game.many and (terminated or truncated):
            game.obs, game.info = env.reset()
    env.close()
    return rows


# --- settings -----------------------------------------------------------------------------------------------

def test_the_table_of_settings():
    table = atari.options("Pong")
    assert table == {"sticky": 0.0, "frame_skip": 4, "max_pool": True, "noop_max": 30, "fire_reset": True,
                     "life_loss": True, "height": 84, "width": 84, "stack": 4, "full_action_space": False,
                     "max_frames": 108000}
    assert atari.options("ALE/Pong-v5")["sticky"] == 0.25 and atari.options("Pong", stack=2)["stack"] == 2
    with pytest.raises(ValueError,
                       match="skip is not a setting of an Atari environment; these are: sticky, frame_skip"):
        atari.make_atari("Pong", skip=3)


@each_maker
def test_spaces(make):
    env = make("Breakout", height=30, width=20, stack=3)
    space = getattr(env, "single_observation_space", env.observation_space)
    actions = getattr(env, "single_action_space", env.action_space)
    assert space.shape == (3, 30, 20) and space.dtype == np.uint8 and actions.n == 4
    assert env.spec.id == "BreakoutNoFrameskip-v4"
    env.close()
    env = make("Breakout", full_action_space=True, **SMALL)
    assert getattr(env, "single_action_space", env.action_space).n == 18
    env.close()


@each_maker
@pytest.mark.parametrize("skip", [1, 4])
def test_a_step_is_so_many_frames(make, skip):
    frames = [row[-1][FRAME] for row in play(make("Breakout", frame_skip=skip, life_loss=False, **SMALL), 12)]
    assert (np.diff(frames) == skip).all()


@each_maker
def test_sticky_actions_repeat_the_last_one(make):
    left, right = ([row[0]
                    for row in play(make("Breakout", sticky=sticky, noop_max=0, **SMALL), 10, [a] * 10)]
                   for a, sticky in ((2, 1.0), (3, 1.0)))
    np.testing.assert_array_equal(left, right)  # always sticky: no action has an effect
    left, right = ([row[0] for row in play(make("Breakout", sticky=0.0, noop_max=0, **SMALL), 10, [a] * 10)]
                   for a in (2, 3))
    assert (np.array(left) != np.array(right)).any()


@each_maker
def test_rewards_are_the_games_own(make):
    assert {row[1] for row in play(make("MsPacman", **SMALL), 150)} & {10.0}


@each_maker
def test_fire_is_pressed_at_the_start(make):
    """Without it the ball of Breakout is never served, and no life is lost by waiting."""
    for fire, lost in ((True, True), (False, False)):
        rows = play(make("Breakout", fire_reset=fire, **SMALL), 120, [0] * 120)
        assert any(terminated for _, _, terminated, *_ in rows) == lost


# --- lives and ends -----------------------------------------------------------------------------------------

def collect(env, steps):
    model = TRPO("CnnPolicy", env, seed=0, timesteps_per_batch=steps,
                 policy_kwargs=dict(cnn_extractor="trpo_cnn"))
    runner = Runner(model.policy, model.stepper)
    runner.restart(list(range(7, 7 + model.stepper.num_envs)))
    segment = runner.collect(steps, np.random.default_rng(3))
    env.close()
    return segment


@each_maker
def test_a_lost_life_ends_an_episode_but_not_the_game(make):
    lives = collect(make("Breakout", **SMALL), 450)
    whole = collect(make("Breakout", life_loss=False, **SMALL), 450)
    assert whole.episodes == lives.episodes and len(whole.episodes) >= 2  # the same games, the same scores
    np.testing.assert_array_equal(whole.rewards, lives.rewards)
    np.testing.assert_array_equal(whole.over, lives.over)
    assert lives.valid.all() and lives.terminated.sum() >= 5 * whole.terminated.sum()
    assert not lives.truncated.any()
    assert (whole.terminated <= lives.terminated).all()


@each_maker
def test_lives_are_counted_down(make):
    seen = [row[-1]["lives"] for row in play(make("Breakout", **SMALL), 450)]
    falls = [(int(a), int(b)) for a, b in zip(seen, seen[1:]) if a != b]
    assert falls[:4] == [(5, 4), (4, 3), (3, 2), (2, 1)]  # lives beyond the first are played, too


@each_maker
def test_a_cut_game_gives_its_last_observation(make):
    seg = collect(make("Pong", max_frames=240, fire_reset=False, **SMALL), 130)
    cut = np.flatnonzero(seg.truncated[:, 0])
    assert len(cut) == 2 and [t for t, *_ in seg.final] == cut.tolist() and not seg.terminated.any()
    obs = np.asarray(seg.obs)[:, 0]
    for t, _, last in seg.final:
        np.testing.assert_array_equal(last[..., :3], obs[t][..., 1:])  # it follows the row before it
        assert seg.starts[t + 1, 0] and not obs[t + 1][..., :3].any()  # the next one is a new game's first
    assert [length for _, length in seg.episodes] == [cut[0] + 1, cut[1] - cut[0]]


@pytest.mark.parametrize("changes", [{}, dict(life_loss=False), dict(max_frames=300)], ids=str)
def test_the_network_sees_what_the_emulator_gave(changes):
    env, given = atari.make_atari("Breakout", 3, **changes), []

    def noting(method):
        def wrapped(*args, **kwargs):
            result = method(*args, **kwargs)
            given.append(result[0].transpose(0, 2, 3, 1).copy())
            return result
        return wrapped
    env.reset, env.step = noting(env.reset), noting(env.step)
    seg = collect(env, 230)
    assert seg.terminated.sum() + seg.truncated.sum() >= 3 and seg.obs.used < 230 * 3 * 1.1
    np.testing.assert_array_equal(np.asarray(seg.obs), given[:-1])
    np.testing.assert_array_equal(seg.last_obs, given[-1])


def test_the_learner_clips_and_the_score_does_not():
    env, seen = atari.make_atari("MsPacman", 2, max_frames=800, **SMALL), []
    model = TRPO("CnnPolicy", env, seed=0, timesteps_per_batch=200, clip_rewards=True,
                 policy_kwargs=dict(cnn_extractor="trpo_cnn"))
    real = model.reward_normalizer.__class__.__call__

    class Spy(type(model.reward_normalizer)):
        def __call__(self, rewards, *more):
            seen.append(rewards)
            return real(self, rewards, *more)
    model.reward_normalizer.__class__ = Spy
    model.learn(1000)
    env.close()
    assert set(np.unique(seen)) == {0.0, 1.0} and {total % 10 for total, _ in model.recent} == {0.0}


@pytest.mark.parametrize("ends", [(True, False), (False, True)])
def test_autoreset_within_the_wrappers_may_end_the_game_at_once(ends):
    class Over:
        """A game that pressing FIRE ends: the second reset is played."""
        unwrapped = property(lambda self: self)

        def __init__(self):
            self.resets = 0

        def get_action_meanings(self):
            return ["NOOP", "FIRE"]

        def reset(self, **kwargs):
            self.resets += 1
            return f"start {self.resets}", {}

        def step(self, action):
            return "end", 0.0, *ends, {}
    wrapper = atari.FireReset.__new__(atari.FireReset)
    wrapper.env = Over()
    assert wrapper.reset(seed=1) == ("start 2", {})


class Game(gymnasium.Env):
    """Three lives of two steps each; `did` lists what was done."""

    observation_space, action_space = gymnasium.spaces.Discrete(9), gymnasium.spaces.Discrete(3)

    def __init__(self, meanings=("NOOP", "FIRE", "LEFT")):
        self.meanings, self.did = list(meanings), []

    def get_action_meanings(self):
        return self.meanings

    def reset(self, *, seed=None, options=None):
        self.did.append("reset" if seed is None else seed)
        self.time = 0
        return 0, {"lives": 3}

    def step(self, action):
        self.did.append("step")
        self.time += 1
        return self.time, 1.0, self.time == 6, False, {"lives": 3 - self.time // 2}


@pytest.mark.parametrize("meanings, pressed", [
    (["NOOP", "FIRE", "LEFT"], True), (["NOOP", "LEFT", "FIRE"], False), (["NOOP", "LEFT"], False)])
def test_fire_is_pressed_only_in_games_that_begin_with_it(meanings, pressed):
    env = Game(meanings)
    obs, info = atari.FireReset(env).reset(seed=3)
    assert env.did == [3, "step"][:1 + pressed] and (obs, info["lives"]) == (int(pressed), 3)


def test_a_reset_goes_on_after_a_lost_life_and_starts_a_game_at_its_end_or_with_a_seed():
    env = Game()
    episodic = atari.EpisodicLife(env)

    def play():
        steps = [episodic.step(0) for _ in range(2)]
        assert [step[2] for step in steps] == [False, True]
        return steps[-1]
    episodic.reset()
    for lives in (2, 1):
        assert play()[4]["lives"] == lives
        obs, info = episodic.reset()
        assert (obs, info["lives"]) == (6 - 2 * lives, lives)
    play()
    assert episodic.reset() == (0, {"lives": 3}) and env.did.count("reset") == 2
    play()
    assert episodic.reset(seed=5) == (0, {"lives": 3})  # the life was lost, but a seed starts a game
    assert env.did.count(5) == 1
    play()
    assert episodic.reset()[1]["lives"] == 2


# --- names and what is missing ------------------------------------------------------------------------------

@pytest.mark.parametrize("name, id", [
    ("Pong", "PongNoFrameskip-v4"), ("pong", "PongNoFrameskip-v4"), ("ALE/Pong-v5", "ALE/Pong-v5"),
    ("Pong-v4", "Pong-v4"), ("ms_pacman", "MsPacmanNoFrameskip-v4"),
    ("SpaceInvaders", "SpaceInvadersNoFrameskip-v4")])
def test_names(name, id):
    assert atari.find_game(name).id == id and atari.is_atari(name)


@pytest.mark.parametrize("name, near",
                         [("Pnog", "Pong"), ("BreakOut2", "Breakout"), ("ALE/Breakotu-v5", "Breakout")])
def test_a_typo_gets_the_nearest_names(name, near):
    with pytest.raises(ValueError, match=f"there is no Atari game '{name}' .did you mean '{near}'"):
        atari.make_atari(name)
    assert not atari.is_atari(name)


def test_without_ale_py(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ImportError, match=r"need the package ale-py: pip install 'trpo_np\[atari\]'"):
        atari.make_atari("Pong")
    monkeypatch.setattr(atari.importlib.util, "find_spec", lambda name: None)
    assert not atari.is_atari("Pong")


def test_a_version_of_ale_py_may_lack_a_rom(monkeypatch):
    from ale_py import roms
    monkeypatch.setattr(roms, "get_rom_path", lambda game: None)
    with pytest.raises(ImportError, match="this version of ale-py has no ROM of pong; .*--upgrade ale-py"):
        atari.make_atari("Pong")


def test_gymnasiums_wrappers_always_take_the_maximum_of_two_frames():
    with pytest.raises(ValueError, match="max_pool=True is needed"):
        atari.make_one("Pong", max_pool=False)


@each_maker
def test_without_the_rom(make, monkeypatch, tmp_path):
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(ImportError,
                       match="the ROM of pong is missing or damaged .*force-reinstall ale-py, or set "
                             "ALE_ROMS_DIR"):
        make("Pong")


# --- the job ------------------------------------------------------------------------------------------------

@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(presets._ATARI, "tuned", (presets._ATARI["tuned"][0] | dict(
        timesteps_per_batch=64, policy_kwargs=dict(cnn_extractor="trpo_cnn")), SMALL | dict(max_frames=200)))
    return tmp_path


def test_a_job_ends_with_what_is_recorded_of_its_settings(folder, capsys, monkeypatch):
    recorded = {"BreakoutNoFrameskip-v4": {"steps": 3_000_000, "seeds": "1000", "returns": [12.5]}}
    (folder / "reported.json").write_text(json.dumps(recorded))
    monkeypatch.setattr(presets, "__file__", str(folder / "presets.py"))
    options = ["--env", "breakout", "--num-envs", "2", "--num-timesteps", "128", "--eval-episodes", "1"]
    assert run_atari.work(options) == 0
    *_, score, line = capsys.readouterr().out.splitlines()
    assert score.startswith("stochastic return of 1 episode")
    assert line == ("recorded of these settings, 3,000,000 steps, seed 1000, which did not choose them: "
                    "12.50")
    for others in (["--preset", "baselines"], ["--env-kwargs", "noop_max=3"], ["--network", "cnn_small"],
                   ["--load", "trpo_BreakoutNoFrameskip-v4_seed0.npz"]):  # other settings
        assert run_atari.work([*options, *others]) == 0
        assert "recorded of" not in capsys.readouterr().out


def test_a_job_trains_saves_loads_and_shows_its_score(folder, capsys):
    options = ["--env", "breakout", "--num-envs", "2", "--save", "m"]
    assert run_atari.work([*options, "--num-timesteps", "128", "--eval-episodes", "1"]) == 0
    out = capsys.readouterr().out
    assert "TRPO on BreakoutNoFrameskip-v4: 128 steps, seed 0, 2 environments" in out
    assert "128 steps in" in out
    assert re.search(r"environment: sticky 0.0, frame_skip 4, .*\n? *height 20, width 20", out)
    assert "max_frames 200" in out
    assert re.search(r"stochastic return of 1 episode: \d+\.00", out) and Path("m.npz").exists()
    assert run_atari.work(["--load", "m.npz", "--num-timesteps", "192", "--eval-episodes", "0", "--num-envs",
                           "4"]) == 0
    assert "128 steps so far, its own settings" in capsys.readouterr().out
    args = jobs.parse(cli.parser(), ["eval", "m.npz", "--episodes", "1", "--stochastic"])
    assert args.work(args) == 0
    assert "stochastic return of 1 episode" in capsys.readouterr().out


@pytest.mark.parametrize("network, width", [("cnn_small", 128), ("nature_cnn", 512)])
def test_the_network_is_an_option(network, width, folder, monkeypatch):
    monkeypatch.setitem(presets._ATARI, "tuned",
                        (presets._ATARI["tuned"][0] | dict(timesteps_per_batch=16), {}))
    assert run_atari.work(["--num-timesteps", "16", "--eval-episodes", "0", "--num-envs", "2", "--network",
                           network, "--save", "m"]) == 0
    assert TRPO.load("m").get_parameters()["pi/out/w"].shape == (width, 4)


def test_settings_of_the_game_are_options(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(jobs, "run", lambda *given, **_: asked.append(given))
    run_atari.work(["--env", "breakout", "--env-kwargs", "noop_max=3", "height=31"])
    (args, *_, told), = asked
    wanted = SMALL | dict(max_frames=200, noop_max=3, height=31)
    assert dict(args.env_kwargs) == atari.options("breakout", **wanted)
    assert "noop_max 3, " in told and "height 31, width 20" in told


@pytest.mark.parametrize("name", ["CnnLstmPolicy", "CnnLnLstmPolicy"])
def test_a_policy_with_memory_sees_single_frames(name, folder, capsys):
    options = ["--eval-episodes", "0", "--num-envs", "2"]
    assert run_atari.work([*options, "--num-timesteps", "64", "--policy", name, "--save", "m"]) == 0
    assert re.search(r"stack\s+1", capsys.readouterr().out)
    assert run_atari.work([*options, "--load", "m.npz", "--num-timesteps", "128"]) == 0
    model = TRPO.load("m")
    assert type(model.policy).__name__ == name and model.policy.observation_space.shape == (1, 20, 20)
    args = jobs.parse(cli.parser(), ["eval", "m.npz", "--episodes", "1", "--stochastic"])
    assert args.work(args) == 0


@pytest.mark.parametrize("name", ["tuned", "baselines", "paper"])
def test_presets(name):
    preset, changes = presets.atari(name)
    env = atari.make_atari("Pong", 1, **changes)
    TRPO("CnnPolicy", env, seed=0, **preset)
    env.close()
    preset["policy_kwargs"].clear()
    assert presets.atari(name)[0]["policy_kwargs"]  # a copy each time


def test_the_other_jobs_say_where_atari_is():
    with pytest.raises(ValueError,
                       match="PongNoFrameskip-v4 is an Atari game; python -m trpo_np.run_atari --env Pong"):
        run_mujoco.work(["--env", "PongNoFrameskip-v4"])


def test_adapted_environments_know_their_game():
    env = atari.make_atari("Pong", 2, **SMALL)
    assert adapt(env).env_id == "PongNoFrameskip-v4"
    env.close()


def test_every_setting_of_ales_vector_environment_is_said(monkeypatch):
    """None is left to its defaults, which differ from the wrappers'."""
    from ale_py import vector_env
    asked = {}

    class Recorder(vector_env.AtariVectorEnv):
        def __init__(self, *args, **kwargs):
            asked.update(kwargs)
            super().__init__(*args, **kwargs)
    monkeypatch.setattr(vector_env, "AtariVectorEnv", Recorder)
    atari.make_atari("Pong", 2).close()
    assert asked == dict(num_threads=1, batch_size=0, autoreset_mode=atari.AutoresetMode.SAME_STEP,
                         episodic_life=False, life_loss_info=True, reward_clipping=False, use_fire_reset=True,
                         noop_max=30, repeat_action_probability=0.0, frameskip=4, maxpool=True,
                         grayscale=True, stack_num=4, img_height=84, img_width=84, full_action_space=False,
                         max_num_frames_per_episode=108_000)


def test_an_evaluation_does_not_go_on_with_the_game_of_training():
    class Game(gymnasium.Env):
        observation_space, action_space = gymnasium.spaces.Box(0, 1, (1,)), gymnasium.spaces.Discrete(2)

        def reset(self, **kwargs):
            self.steps = 0
            return np.zeros(1, np.float32), {"lives": 2, FRAME: 0}

        def step(self, action):
            self.steps += 1
            info = {"lives": 2 - self.steps // 2, FRAME: self.steps}
            return np.zeros(1, np.float32), 1.0, self.steps == 4, False, info
    env = gymnasium.wrappers.TimeLimit(atari.EpisodicLife(Game()), 100)
    env.reset()
    assert [env.step(0)[2] for _ in range(2)] == [False, True]  # a life is lost
    model = TRPO("MlpPolicy", env)
    assert evaluate_policy(model, env, 3, return_episode_rewards=True)[0] == [4.0] * 3


@pytest.mark.parametrize("lives, ends", [
    ([3, 4, 3], [False, False, True]),  # a life that a bonus gave can be lost
    ([2, 0, 0], [True, False, False])])  # after the last one the game ends by itself, if later
def test_an_episode_ends_where_a_life_is_lost_and_the_game_goes_on(lives, ends):
    class Game(gymnasium.Env):
        seen = iter(lives)

        def reset(self, **kwargs):
            return 0, {"lives": 3}

        def step(self, action):
            return 0, 0.0, False, False, {"lives": next(self.seen)}
    env = atari.EpisodicLife(Game())
    env.reset()
    assert [env.step(0)[2] for _ in range(3)] == ends


def test_help_states_the_environment_in_force(capsys):
    with pytest.raises(SystemExit):
        run_atari.work(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, value in atari.options("Pong").items():
        assert f"{name} {value}" in text or f"{name} ({value})" in text, name
    _, paper = presets.atari("paper")
    assert paper == dict(height=52, width=40, life_loss=False)
    assert "The preset paper has life_loss False, height 52 and width 40" in text


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
def test_a_game_can_be_checked_and_made_again_from_its_spec():
    env = atari.make_one("Breakout")
    check_env(env, skip_render_check=True)
    again = gymnasium.make(env.spec)
    assert str(again) == str(env) and str(env).startswith("<EpisodicLife<FrameStackObservation<FireReset<")
    np.testing.assert_array_equal(again.reset(seed=3)[0], env.reset(seed=3)[0])
    for one in (env, again):
        one.close()
