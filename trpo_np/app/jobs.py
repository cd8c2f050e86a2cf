"""One training job from the command line: options, signals, saving, the evaluation at the end.

Nothing heavy is imported at the top: `one_thread` must come before NumPy loads, and `--help` should not wait.
"""

import argparse
import errno
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import stat
import sys
import tempfile
import textwrap
import time
from contextlib import closing, suppress

from ..kernels.threads import THREADS
from . import launch, modules, options
from .signals import Signals, boundaries

LOGS, UNSAVED = ("progress.csv", "progress.json", "monitor.csv"), "unsaved.json"
SCORE = "evaluation.json"
EPILOG = "After an error in your own environment or policy, TRPO_NP_TRACEBACK=1 shows where it came from."


# --- options ------------------------------------------------------------------------------------------------

def layout(prog: str) -> argparse.HelpFormatter:
    """Make argparse's formatter with room for the longest option and with lines that the eye can follow."""
    width = min(shutil.get_terminal_size().columns - 2, 100)
    return argparse.HelpFormatter(prog, max_help_position=26, width=width)


def parser(prog: str, description: str, **given) -> argparse.ArgumentParser:
    """Make a parser with the options that all training jobs share; `given` is for `add_options`."""
    p = argparse.ArgumentParser(prog=prog, description=description, epilog=EPILOG, formatter_class=layout)
    add_options(p, **given)
    return p


def add_options(p: argparse.ArgumentParser, env: str, timesteps: str, presets: list[str],
                policies: list[str], num_envs: int = 1) -> None:
    """Add the options of a training job. Without --env the parsed `env` is None; see `find_env`."""
    add, shown = p.add_argument, "(default: %(default)s)"
    add("--env", metavar="ID", type=options.name,
        help="gymnasium id of the environment, or module:ID if that module of yours registers it "
             f"(default: {env}; with --load, the one that the file names)")
    add("--num-timesteps", type=options.count, default=timesteps, metavar="N",
        help="environment steps to train for, in whole batches; 1e6 is understood; with 0 nothing is "
             f"trained, the model is only evaluated {shown}")
    add("--seed", type=options.count, default=0, metavar="N",
        help=f"same seed, same result, on the same machine with the same versions {shown}")
    add("--num-envs", type=options.positive, default=num_envs, metavar="N",
        help=f"environments stepped in turn, of each rank; the batch is shared out among them {shown}")
    add("--ranks", type=launch.ranks, metavar="N",
        help="run as so many ranks, which share the work, on cores of this machine; auto: one for each core "
             "(default: 1, or as many as mpiexec started)")
    add("--preset", choices=presets, default=presets[0],
        help="tuned: settings that learn fast, chosen for this environment or for its kind; baselines: "
             "those of openai/baselines, to compare "
             f"with{'; paper: those of the TRPO paper' * ('paper' in presets)} {shown}")
    add("--save", metavar="FILE", type=options.name,
        help="where the model goes, an .npz file (default: that of --load, or else trpo_ENV_seedN.npz)")
    add("--save-every", type=options.count, default="100000", metavar="N",
        help="environment steps between saves to that file, 0 for only at the end; a job that is killed "
             f"loses no more than this {shown}")
    add("--load", metavar="FILE", type=options.name,
        help="go on with this model, with its own settings, until --num-timesteps in all; given the same "
             "options, a job that was killed ends exactly as if it had not been (default: a new model)")
    add("--resume", action="store_true",
        help="go on with the file of --save if it is there, else begin; so a job that was killed at any time "
             "is started again by the same command (default: begin, or go on with --load)")
    add("--log-dir", metavar="FOLDER", type=options.name,
        help="also write progress.csv, progress.json, monitor.csv (each episode) and, if tensorboard is "
             "installed, its event files there (default: tables on the terminal only)")
    add("--log-interval", type=options.positive, default=10, metavar="N", help=f"updates per table {shown}")
    add("--eval-episodes", type=options.count, default=20, metavar="N",
        help="episodes of the evaluation at the end, with the most likely actions, for Atari with drawn "
             f"ones {shown}")
    add("--play", action="store_true",
        help="show the policy in a window at the end, until Ctrl-C (default: no window)")
    options.add_settings(p, policies)


def parse(p: argparse.ArgumentParser, argv: list[str] | None,
          commands: tuple[str, ...] = ()) -> argparse.Namespace:
    """Parse a command line, see `options.with_config`; note it as `argv`, with the program as `command`."""
    argv = options.with_config(argv, commands)
    with launch.once():
        return p.parse_args(argv, argparse.Namespace(argv=argv, command=shlex.join([*p.prog.split(), *argv])))


def find_env(given: str | None, file: str | None, default: str = "", command: str = "...") -> str:
    """Return the environment's id: the one given, the one that a model's file names, or the default.

    command: what the user gave, without the id.
    """
    if given or not file:
        return given or default
    from ..files.archive import read_archive

    stored = read_archive(file)[0].get("env_id")
    if not isinstance(stored, str):
        raise ValueError(f"{file} does not name its environment; --env ID is needed")
    if re.fullmatch(r"[\w.]+:[\w./-]+", stored):
        if modules.is_remembered(stored):
            return stored
        raise ValueError(f"{file} names the environment {stored}; a module is not imported because a file "
                         f"says so; if you trust it: {command} --env {stored}")
    if not re.fullmatch(r"[\w./-]+", stored):
        raise ValueError(f"{file} names the environment {ascii(stored)}; to use that, give it by --env")
    return stored


def find_start(args: argparse.Namespace, default: str, full=str) -> None:
    """Settle where the job starts: set `args.env`, and `args.load` to its own file if --resume finds that.

    default: the environment's id if no option or file names one. full: a function that completes an id.
    """
    from ..files.archive import npz_path

    loaded, own = args.load, args.save or args.load
    if args.resume and own and os.path.exists(npz_path(own)):
        args.load = npz_path(own)
    args.env = full(find_env(args.env, args.load, default, args.command))
    if args.resume and not own and os.path.exists(own_file(args)):
        args.load = own_file(args)
    if args.resume and args.load and args.load != loaded:
        check_same_job(args, has_own_seed=loaded is None)


def own_file(args: argparse.Namespace) -> str:
    """Return the path of the model's file."""
    from ..files.archive import npz_path

    return npz_path(args.save or args.load or f"trpo_{short(args.env)}_seed{args.seed}")


def check_same_job(args: argparse.Namespace, has_own_seed: bool) -> None:
    """Raise a ValueError if the file that --resume goes on with is of another environment or seed."""
    from ..files.archive import read_archive

    record = read_archive(args.load)[0]
    env_id, progress = record.get("env_id"), record.get("progress")
    seed = progress.get("seed") if isinstance(progress, dict) else None
    pairs = [("environment", env_id, args.env, isinstance(env_id, str) and short(env_id) != short(args.env)),
             ("seed", seed, args.seed, has_own_seed and isinstance(seed, int) and seed != args.seed)]
    for what, found, wanted, differs in pairs:
        if differs:
            raise ValueError(f"{args.load} is of another job: its {what} is {found}, not {wanted}; --resume "
                             "goes on with a job's own file, so name another by --save")


def short(env_id: str) -> str:
    """Return an id without its module and namespace, for the names of files."""
    return re.split("[:/]", env_id)[-1]


def one_thread() -> None:
    """Set the number of BLAS threads to one, unless the user has set it; call this before NumPy loads.

    With several threads small networks are slower, and many ranks on one machine are much slower.
    """
    for name in THREADS:
        os.environ.setdefault(name, "1")


# --- what would go wrong hours later ------------------------------------------------------------------------

def check_writable(path: str) -> None:
    """Raise an OSError now, not after hours, if no file can be saved at a path; leave nothing behind."""
    folder = os.path.dirname(os.path.realpath(path))
    try:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise OSError(errno.EINVAL, "a folder, pipe or device has this name")
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot save there: {error.strerror}; name another file by --save",
                      path) from None


def check_display() -> None:
    """Raise an OSError if there is no screen, where some windows end the process without a word."""
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not has_display:
        raise OSError("there is no display to open a window on; record a video instead: "
                      "trpo-np play FILE --env ID --video FOLDER")


def check_own_logs(folder: str, env_id: str, seed: int) -> None:
    """Raise a ValueError if a folder's logs are of another environment or seed than the model's."""
    path = os.path.join(folder, "config.json")
    if not os.path.exists(path):
        return
    before = options.read_config(path)
    for what, found, own in (("env", before.get("env"), env_id), ("seed", before.get("seed"), seed)):
        if found not in (None, own):
            raise ValueError(f"{folder} holds the logs of another run: its {what} is {found}, not {own}; "
                             "give another --log-dir")


def prepare_logs(folder: str, model=None) -> None:
    """Cut the logs of a run that goes on from a saved model back to that model's steps and episodes.

    The run will repeat, and log again, the steps after them. If `model` is None, a new run starts: a
    ValueError refuses a folder with the logs of another run.
    """
    steps, episodes, before = (model.num_timesteps, model.episodes, 0) if model else (0, 0, 0)
    keep = {"progress.csv": lambda row, line: row < 1 or float(line.split(",")[0]) <= steps,
            "progress.json": lambda row, line: json.loads(line)["step"] <= steps,
            "monitor.csv": lambda row, line: row < 2 + episodes - before}
    for name, wanted in keep.items():
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            continue
        try:
            with open(path, encoding="utf-8", newline="") as file:
                lines = [line for line in file if line.endswith("\n")]  # a kill can cut a line off
            if model and name == "monitor.csv" and lines:
                before = json.loads(lines[0].lstrip("#")).get("episodes_before", 0)
            kept = [line for row, line in enumerate(lines) if wanted(row, line)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no log of a run ({type(error).__name__}: {error}); give another "
                             "--log-dir, or move it away") from None
        if model is None and len(kept) < len(lines):
            raise ValueError(f"{path} is the log of a run; "
                             "give another --log-dir, or go on with that run by --load or --resume")
        with open(f"{path}.tmp", "w", encoding="utf-8", newline="") as file:
            file.writelines(kept if model else [])
        os.replace(f"{path}.tmp", path)


def begin_logs(folder: str, path: str, args: argparse.Namespace) -> None:
    """Prepare the logs of a new run; with --resume, clear those of this same job, killed before it saved.

    Until the model is saved a small file in the folder names the job: the model's file, environment, seed.
    """
    job = json.dumps({"model": os.path.abspath(path), "env": args.env, "seed": args.seed})
    mark = os.path.join(folder, UNSAVED)
    with suppress(FileNotFoundError):
        with open(mark, encoding="utf-8") as file:
            is_own = file.read() == job
        for name in os.listdir(folder) if args.resume and is_own else ():
            if name in LOGS or name.startswith("events.out.tfevents."):
                os.remove(os.path.join(folder, name))
    prepare_logs(folder)
    os.makedirs(folder, exist_ok=True)
    with open(f"{mark}.tmp", "w", encoding="utf-8") as file:
        file.write(job)
    os.replace(f"{mark}.tmp", mark)


def note_saved(folder: str | None) -> None:
    """Note that the model of the logs in this folder has been saved."""
    if folder:
        with suppress(FileNotFoundError):
            os.remove(os.path.join(folder, UNSAVED))


# --- the job ------------------------------------------------------------------------------------------------

def run(args: argparse.Namespace, make_env, policy: str, preset: dict, make_envs=None, about="",
        deterministic=True, beside="") -> int:
    """Train, save, evaluate; return the exit status.

    make_env: makes one environment from keyword arguments. make_envs: makes n of them; a DummyVecEnv if None.
    preset: TRPO's arguments. about: a line to print about the environment.
    beside: one to print below the evaluation.
    """
    if args.play:
        check_display()
    with Signals() as signals:
        try:
            model, path = prepare(args, make_env, policy, preset, make_envs, about)
            modules.remember(args.env)
            model.comm.ends_on_error = False  # `main` ends the job, after the model is saved
            if args.num_timesteps > model.num_timesteps:
                train(model, args, path, signals)
            elif args.save and model.comm.rank == 0:
                print(f"saved to {model.save(path)}", flush=True)
            model.get_env().close()
            if model.comm.rank == 0:
                if args.eval_episodes:
                    seed = args.seed + 1_000_000
                    with closing(make_env()) as env:
                        returns, lengths = episodes(model, env, args.eval_episodes, seed, deterministic)
                    print(score(returns, lengths, deterministic), flush=True)
                    if beside:
                        print(beside, flush=True)
                    if args.log_dir and os.path.isdir(args.log_dir):
                        note_score(args.log_dir, model, returns, lengths)
                if args.play:
                    play(model, make_env, args.seed, deterministic=deterministic)
        except KeyboardInterrupt:
            from ..comm import end_job

            if not signals.shared or model.comm.rank == 0:
                print("stopped", flush=True)
            if not signals.shared:
                end_job(130)
            return 130
    return 0


def prepare(args: argparse.Namespace, make_env, policy: str, preset: dict, make_envs, about: str) -> tuple:
    """Make or load the model and check what could fail later; return the model and its file's path."""
    from ..files.archive import remove_drafts
    from ..logger import configure
    from ..trpo import TRPO
    from ..vec_env import DummyVecEnv

    path = own_file(args)
    env = make_envs(args.num_envs) if make_envs else DummyVecEnv([make_env] * args.num_envs)
    if args.load:
        model = TRPO.load(args.load, env=env, verbose=1, **options.given_settings(args))
        options.check_policy(args, model)
    else:
        model = TRPO(policy, env, seed=args.seed, verbose=1, **preset)
    training = args.num_timesteps > model.num_timesteps
    if model.comm.rank == 0:
        if training or args.save:
            check_writable(path)
            remove_drafts(path)
        if args.log_dir and args.load:
            check_own_logs(args.log_dir, args.env, model.seed)
        if args.log_dir and training:
            if args.load:
                prepare_logs(args.log_dir, model)
            else:
                begin_logs(args.log_dir, path, args)
            formats = ["csv", "json"] + ["tensorboard"] * bool(importlib.util.find_spec("tensorboard"))
            model.loggers += configure(args.log_dir, formats).outputs
            options.write_config(f"{args.log_dir}/config.json", args, model)
        introduce(args, model, preset, path, training, about)
    return model, path


def introduce(args: argparse.Namespace, model, preset: dict, path: str, training: bool, about: str) -> None:
    """Print the job's settings before it starts."""
    def plural(n, what):
        return f"{n:,} {what}{'s' * (n != 1)}"

    n, ranks = model.get_env().num_envs, model.comm.size
    where = f"{plural(n, 'environment')}, 1 rank"
    if ranks > 1:
        where = f"{ranks} ranks with {plural(n, 'environment')} each, {ranks * n:,} in all"
    lines = [f"TRPO on {args.env}: {plural(args.num_timesteps, 'step')}, seed {model.seed}, "
             f"{where}, OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')}"]
    lines += [about] * bool(about)
    if args.load:
        given = ", ".join(f"{name} {value}" for name, value in options.given_settings(args).items())
        changed = f", but {given}" if given else ""
        lines.append(f"{args.load}: {plural(model.num_timesteps, 'step')} so far, its own settings" + changed)
        if not training:
            lines.append("nothing to train: --num-timesteps counts the steps in all")
    else:
        lines += [f"{path} is not there: the job begins"] * args.resume
        lines.append(f"{args.preset}: " + ", ".join(f"{name} {value}" for name, value in preset.items()))
    if ranks > 1:
        lines.append(batch(model.settings, ranks, n))
    if training:
        lines.append(f"model: {path}" + f", saved every {args.save_every:,} steps" * bool(args.save_every))
        lines += [f"logs: {args.log_dir}"] * bool(args.log_dir)
    for line in lines:
        print(textwrap.fill(line, 100, subsequent_indent="    ", break_on_hyphens=False), flush=True)


def batch(settings, ranks: int, n: int) -> str:
    """Return a line about the steps of an update on several ranks, each with n environments."""
    each = -(-settings.for_rank(ranks).timesteps_per_batch // n) * n
    other = "as many" if settings.batch_of == "job" else f"{each:,} times that number"
    return (f"an update takes {ranks * each:,} steps in all, {each:,} on each rank; with another number of "
            f"ranks it takes {other}")


def train(model, args: argparse.Namespace, path: str, signals: Signals) -> None:
    """Train, and save the last whole model, also if a signal or an error cuts training short."""
    from ..callbacks import FileCallback, MonitorCallback

    class Save(FileCallback):
        def _on_update_logged(self):
            was_due = self.due
            super()._on_update_logged()
            if was_due and model.comm.rank == 0:
                note_saved(args.log_dir)

    hooks: list = [boundaries(signals, model)]
    if args.save_every:
        hooks.append(Save(path, args.save_every))
    if args.log_dir:
        hooks.append(MonitorCallback(f"{args.log_dir}/", args.env))
    failure, started, before = None, time.perf_counter(), model.num_timesteps
    try:
        model.learn(args.num_timesteps - before, hooks, log_interval=args.log_interval,
                    reset_num_timesteps=False, progress_bar=True)
    except (KeyboardInterrupt, Exception) as error:
        signals.held, failure = True, error
    seconds, done = time.perf_counter() - started, model.num_timesteps - before
    if model.comm.rank == 0:
        place = f"saved to {model.save(path)}" if done else "nothing to save"
        if done:
            note_saved(args.log_dir)
        hint = ", from where --load goes on" if done and (failure or signals.came) else ""
        rate = done / max(seconds, 1e-9)
        print(f"{done:,} steps in {seconds:.1f} s, {rate:,.0f} steps/s; {place}{hint}", flush=True)
    for output in model.loggers:
        output.close()
    if failure is not None:
        raise failure
    signals.shared = any(model.comm.gather(signals.came))  # no rank ends before the model is saved
    signals.came |= signals.shared
    signals.release()


def episodes(policy, env, count: int, seed: int, deterministic: bool = True) -> tuple[list, list]:
    """Evaluate a policy; return the returns and lengths of its episodes."""
    from ..evaluation import evaluate_policy

    return evaluate_policy(policy, env, count, deterministic, return_episode_rewards=True, seed=seed)


def score(returns: list, lengths: list, deterministic: bool = True) -> str:
    """Return a line about the episodes of an evaluation."""
    count = len(returns)
    mean = sum(returns) / count
    std = (sum((x - mean) ** 2 for x in returns) / count) ** 0.5
    kind, plural = "deterministic" if deterministic else "stochastic", "s" * (count > 1)
    spread = f"lowest {min(returns):.2f}, highest {max(returns):.2f}; mean length {sum(lengths) / count:.1f}"
    return f"{kind} return of {count} episode{plural}: {mean:.2f} +- {std:.2f} ({spread})"


def note_score(folder: str, model, returns: list, lengths: list) -> None:
    """Write the episodes of the evaluation at the end beside the logs: evaluation.json."""
    record = {"num_timesteps": model.num_timesteps, "returns": [float(x) for x in returns],
              "lengths": [int(n) for n in lengths]}
    with open(os.path.join(folder, f"{SCORE}.tmp"), "w", encoding="utf-8") as file:
        json.dump(record, file)
    os.replace(os.path.join(folder, f"{SCORE}.tmp"), os.path.join(folder, SCORE))


def play(policy, make_env, seed: int, episodes: int | None = None, video: str | None = None,
         deterministic: bool = True) -> None:
    """Show a policy in the environment's window, or record a video; for some episodes or until Ctrl-C."""
    from ..evaluation import evaluate_policy

    def report(locals_, _):
        for i in locals_["done"].nonzero()[0]:
            total, steps = locals_["episode_reward"][i], locals_["episode_length"][i]
            print(f"return {total:.2f} in {steps} steps", flush=True)

    with closing(recorded(make_env, video, episodes) if video else make_env(render_mode="human")) as env:
        with suppress(*[KeyboardInterrupt] * (episodes is None)):  # without a number, Ctrl-C is the end
            evaluate_policy(policy, env, episodes or sys.maxsize, deterministic, callback=report, seed=seed,
                            max_steps=None)


def recorded(make_env, folder: str, episodes: int | None):
    """Make an environment that writes its episodes to a folder as .mp4 files."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # to draw without a display; mujoco reads it at import
    from gymnasium.wrappers import RecordVideo

    env = make_env(render_mode="rgb_array")
    try:
        env.reset()
        env.render()
    except Exception as error:
        raise OSError(f"{env.spec.id} cannot be drawn here ({error}); for MuJoCo without a display, set the "
                      "variable MUJOCO_GL to egl or osmesa") from error
    last = sys.maxsize if episodes is None else episodes
    name = short(env.spec.id)
    return RecordVideo(env, folder, name_prefix=name, episode_trigger=lambda i: i < last)


def main(work, prog: str) -> None:
    """Call `work()` and exit with its status; print an error that the user can mend as one sentence."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        status = work()
        if sys.stdout is not None:  # as under pythonw
            sys.stdout.flush()
        sys.exit(status)  # the handlers below do not catch SystemExit
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
    except Exception as error:
        is_of_gymnasium = type(error).__module__.startswith("gymnasium.")
        is_mendable = is_of_gymnasium or isinstance(error, (ValueError, ImportError, OSError))
        if os.environ.get("TRPO_NP_TRACEBACK") or not is_mendable:
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename:
            text = f"{error.filename}: {error.strerror}"
        status = f"{prog}: error: {text}"
    from ..comm import end_job

    end_job(status)
    sys.exit(status)
