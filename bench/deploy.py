"""How large is an exported policy in C on microcontrollers, how long does a step take, and does it run there?

Sizes are those of an object file compiled with -Os, without the C library's tanhf: `code` and `constants` in
flash, `state` (the caller's) and `stack` (the sum over all functions, so at most) in RAM. What is not
installed is left out: cross compilers (gcc-arm-none-eabi, gcc-avr, gcc-riscv64-unknown-elf of Debian) and
qemu-system-arm, which runs the self-test on an emulated Cortex-M4. A step is timed on this machine, beside
`predict`.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import _timing
import numpy as np

HERE = Path(__file__).parent
USE = """#include "policy.h"
int use_init(policy_state *s);
int use_init(policy_state *s) { policy_init(s); return (int)sizeof *s; }
int use(policy_state *s, const policy_OBS *o, policy_ACT *a);
int use(policy_state *s, const policy_OBS *o, policy_ACT *a) { return policy_step(s, o, a); }
"""
TIME = """#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>
#include "policy.h"
int main(void) {
    static policy_state state;
    static policy_OBS obs[policy_OBS_SIZE];
    policy_ACT act[policy_ACT_SIZE];
    struct timespec a, b;
    double best = 1e9, sum = 0;
    policy_init(&state);
    for (int k = 0; k < ROUNDS; k++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int i = 0; i < STEPS; i++) {
            obs[i % policy_OBS_SIZE] = (policy_OBS)(i % 3);
            policy_step(&state, obs, act);
            sum += (double)act[0];
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        double each = ((double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec)) / STEPS;
        if (each < best) best = each;
    }
    printf("%g %g %g\\n", best, (double)policy_selftest(), sum);
    return 0;
}
"""
ARM = "arm-none-eabi-gcc"
DEVICES = {
    "Cortex-M0+": [ARM, "-mcpu=cortex-m0plus", "-mthumb"],
    "Cortex-M4F": [ARM, "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"],
    "RISC-V 32": ["riscv64-unknown-elf-gcc", "-march=rv32imafc", "-mabi=ilp32f",
                  "--specs=/usr/lib/picolibc/riscv64-unknown-elf/picolibc.specs"],
    "AVR": ["avr-gcc", "-mmcu=atmega2560"],
}


def policies(quick):
    """Return {name: (policy, its arguments)} of the sizes that are measured."""
    from gymnasium import spaces

    from trpo_np import policies as named

    def make(name, obs, **kwargs):
        normalize = name == "MlpPolicy"
        policy = getattr(named, name)(obs, spaces.Box(-2, 2, (1,), np.float32), normalize=normalize, **kwargs)
        policy.draw(np.random.default_rng(0)).params["pi/out/w"][...] *= 100  # outputs as after training
        return policy, kwargs

    numbers = spaces.Box(-8, 8, (3,), np.float32)
    made = {"3-64-64-1": make("MlpPolicy", numbers)}
    if not quick:
        pixels = spaces.Box(0, 255, (4, 84, 84), np.uint8)
        made |= {"3-LSTM 64-1": make("MlpLstmPolicy", numbers, layers=[], n_lstm=64),
                 "3-layer-norm LSTM 64-1": make("MlpLnLstmPolicy", numbers, layers=[], n_lstm=64),
                 "84 x 84 x 4, cnn_small": make("CnnPolicy", pixels, cnn_extractor="cnn_small")}
    return made


def written(policy, kwargs, folder, weights):
    """Write policy.h of a policy; return what export says."""
    from trpo_np.deploy import export
    from trpo_np.files.model import write_model

    path = write_model(folder / "model", policy, kwargs, policy.params.flat, policy.normalizer.arrays(), {},
                       None)
    return export(path, folder / "policy.h", "c", weights)


def run(*command, **options):
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=True, **options).stdout


def size(folder, compiler):
    """Return the sizes of a step's code, or None where there is no such compiler."""
    if not shutil.which(compiler[0]):
        return None
    (folder / "use.c").write_text(USE)
    run(*compiler, "-std=c99", "-Os", "-Wall", "-Wextra", "-Werror", "-fstack-usage", "-ffunction-sections",
        "-c", "use.c", "-o", "use.o", cwd=folder)
    tool = compiler[0].replace("gcc", "size")
    sections = re.findall(r"^(\.\S+)\s+(\d+)", run(tool, "-A", "use.o", cwd=folder), re.MULTILINE)
    of = {kind: sum(int(n) for name, n in sections if name.startswith(kind))
          for kind in (".text", ".rodata", ".srodata", ".data", ".bss")}
    stack = sum(int(line.split("\t")[1]) for line in (folder / "use.su").read_text().splitlines())
    return {"code": of[".text"], "constants": of[".rodata"] + of[".srodata"] + of[".data"], "stack": stack,
            "written": of[".bss"]}


def emulated(folder):
    """Return the self-test's error on an emulated Cortex-M4, or None."""
    if not (shutil.which(ARM) and shutil.which("qemu-system-arm")):
        return None
    run(*DEVICES["Cortex-M4F"], "-O2", "-std=c99", "-Wall", "-Wextra", "-nostartfiles", f"-I{folder}",
        "-T", HERE / "device/mps2.ld", HERE / "device/mps2.c", "-o", folder / "m4.elf", "-lm", "-lc", "-lgcc")
    command = ["qemu-system-arm", "-M", "mps2-an386", "-kernel", folder / "m4.elf", "-nographic", "-monitor",
               "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return float(re.search(r"selftest (\S+)", said.stdout + said.stderr)[1])


def timed(folder, quick):
    """Return the seconds that a step takes here, and the self-test's error."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        return None
    (folder / "time.c").write_text(TIME)
    steps = ["-DSTEPS=100", "-DROUNDS=3"] if quick else ["-DSTEPS=20", "-DROUNDS=500"]
    run(compiler, "-std=c99", "-O3", "-march=native", *steps, "time.c", "-o", "time", "-lm", cwd=folder)
    each, error, _ = run(folder / "time").split()
    return float(each), float(error)


def measured(name, policy, kwargs, weights, quick):
    """Print and return all figures of one policy."""
    obs, options = np.zeros((1, *policy.observation_space.shape), np.float32), {}
    if hasattr(policy, "n_lstm"):
        options = {"state": np.zeros((1, 2 * policy.n_lstm), np.float32)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lost = written(policy, kwargs, folder, weights).get("error", "0").split()[0]
        state = re.search(r"state +([\d,]+) bytes", (folder / "policy.h").read_text())[1]
        line = {"state": int(state.replace(",", "")), "lost": float(lost)}
        print(f"\n{name}, {weights}: state {state} bytes, lost by storing weights so {lost}", flush=True)
        for device, compiler in DEVICES.items():
            if device == "AVR" and policy.params.flat.nbytes > 60_000:  # an array has at most 32 KB there
                continue
            if sizes := size(folder, compiler):
                line[device] = sizes
                print(f"  {device:11} code {sizes['code']:6,}  constants {sizes['constants']:8,}  "
                      f"stack {sizes['stack']:4}  written globals {sizes['written']}")
        if (error := emulated(folder)) is not None:
            line["qemu"] = error
            print(f"  emulated Cortex-M4F: largest error of the self-test {error:.1e}")
        if found := timed(folder, quick):
            ours = _timing.best(lambda: policy.predict(obs, deterministic=True, **options),
                                0.01 if quick else 1.0, 5 if quick else 500)  # short rounds, like C's
            line |= {"step_us": found[0] * 1e6, "error": found[1], "predict_us": ours * 1e6}
            print(f"  a step here {line['step_us']:.2f} us, self-test {found[1]:.1e}; predict "
                  f"{line['predict_us']:.1f} us")
    return line


def main():
    args = _timing.arguments(__doc__)
    results = {}
    for name, (policy, kwargs) in policies(args.quick).items():
        for weights in ("float32",) if args.quick else ("float32", "float16", "int8"):
            results[f"{name}, {weights}"] = measured(name, policy, kwargs, weights, args.quick)
    _timing.save(args, results)


if __name__ == "__main__":
    main()
