"""stable-baselines' paths, re-exported: `policies`, `vec_env`, `callbacks`, `evaluation`, `cmd_util`."""


def __getattr__(name):
    if name == "make_vec_env":  # on first use: policies must load without gymnasium
        from ..envs import make_vec_env
        return make_vec_env
    raise AttributeError(f"module 'trpo_np.common' has no attribute {name!r}")
