"""stable-baselines' paths, re-exported: `policies`, `vec_env`, `callbacks`, `evaluation`, `monitor`,
`results_plotter`, `cmd_util`, `env_util`, `env_checker`, `misc_util`, `logger`."""


def __getattr__(name):
    if name in ("make_vec_env", "set_global_seeds"):  # on first use: policies must load without gymnasium
        from . import cmd_util, misc_util
        return cmd_util.make_vec_env if name == "make_vec_env" else misc_util.set_global_seeds
    raise AttributeError(f"module 'trpo_np.common' has no attribute {name!r}")
