"""The header in C: compilers accept it, and it acts as `predict` does.

`bench/deploy.py` does the same with 10,000 steps of each policy and action space, and on microcontrollers.
"""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from exports import (
    CASES,
    FIELDS,
    MIXED,
    SAME,
    difference,
    far_model,
    many,
    model_of,
    observations,
    predicted,
    starts_of,
)
from gymnasium import spaces

from trpo_np import deploy
from trpo_np.deploy import c99, reference, steps

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)] or [
    name for name in ("cc",) if shutil.which(name)]
STRICT = ["-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-pedantic", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
DRIVER = Path(__file__).with_name("driver.c")

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler (gcc, clang or cc) is installed")


def header(model, folder, name="policy", **options):
    """Export a model to NAME.h in the folder; return its policy and what export says."""
    options |= {"policy_kwargs": model.policy_kwargs}
    said = deploy.export(model.save(folder / "model"), folder / f"{name}.h", "c", **options)
    return model.policy, said


def compile_c(folder, *options, compiler=COMPILERS[0] if COMPILERS else "cc", source=DRIVER):
    standard = [] if any(option.startswith("-std") for option in options) else ["-std=c99"]
    command = [compiler, *standard, *STRICT, *options, f"-I{folder}", str(source), "-o", str(folder / "run")]
    if not {"-c", "-fsyntax-only"} & {*options}:
        command.append("-lm")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return folder / "run"


def ran(program, folder, rows, starts, noise=None, run="run"):
    """Return outputs, actions and drawn actions of the compiled driver for these steps."""
    k = program.outputs.shape[0]
    m = len(program.action.get("nvec", ())) or k
    noise = np.full((len(rows), m), 0.5) if noise is None else noise
    np.concatenate([starts[:, None], noise, rows], 1).astype(np.float32).tofile(folder / "steps.bin")
    done = subprocess.run([folder / run, folder / "steps.bin"], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[:3000])
    out = np.array(done.stdout.split(), float).reshape(len(rows), k + 2 * m)
    return out[:, :k], out[:, k:k + m], out[:, k + m:]


def check(model, folder, n, *options):
    policy, _ = header(model, folder)
    compile_c(folder, *options)
    program = steps.describe(policy)
    rows, starts = observations(program, policy, n), starts_of(n)
    ours = predicted(program, policy, rows, starts)
    worst = difference(policy, ours, ran(program, folder, rows, starts)[:2])
    assert worst < 1e-5
    return worst


@pytest.mark.parametrize("name, kind", [*CASES, ("MlpPolicy", "integers")])
def test_the_header_acts_as_predict(name, kind, tmp_path):
    check(model_of(name, kind), tmp_path, 10_000 if name == "MlpPolicy" else 50)


@pytest.mark.parametrize("name", ["MlpLstmPolicy", "MlpLnLstmPolicy"])
def test_memory_does_not_drift_in_2000_steps(name, tmp_path):
    check(model_of(name), tmp_path, 2000, "-O2")


@pytest.mark.parametrize("name, obs", [("MlpLstmPolicy", FIELDS), ("CnnPolicy", MIXED)])
def test_fields_are_in_the_order_of_the_file(name, obs, tmp_path):
    check(model_of(name, obs=obs), tmp_path, 50)
    text = (tmp_path / "policy.h").read_text()
    named = dict(re.findall(r"#define policy_AT_(\w+) (\d+)", text))
    assert named == ({"GEAR": "0", "INNER_BITS": "1", "INNER_CODES": "3", "SPEED": "5"} if obs is FIELDS
                     else {"CAMERA": "0", "COLOUR": "960", "GEAR": "2400"})


def test_fields_whose_names_are_alike_in_c_have_names_of_their_own(tmp_path):
    parts = {"a b": spaces.Box(-1, 1, (1,)), "a-b": spaces.Box(-1, 1, (3,)), "a_b": spaces.Box(-1, 1, (2,))}
    header(model_of("MlpPolicy", obs=spaces.Dict(parts)), tmp_path)
    text = (tmp_path / "policy.h").read_text()
    assert dict(re.findall(r"#define policy_AT_(\w+) (\d+)", text)) == {"A_B": "0", "A_B_": "1", "A_B__": "4"}


@pytest.mark.parametrize("is_low", [True, False])
def test_bounds_are_rounded_inward(is_low):
    bounds = np.array([0.1, 0.7, -0.1, -0.7, 0.5])
    found = c99.inward(bounds, is_low)
    assert found.dtype == np.float32 and found[4] == 0.5
    inside = found >= bounds if is_low else found <= bounds
    assert inside.all() and (np.abs(found - bounds) <= np.spacing(np.abs(found))).all()
    most = np.finfo(np.float32).max
    np.testing.assert_array_equal(c99.inward(np.array([-np.inf, np.inf]), is_low), [-most, most])


@pytest.mark.parametrize("make, of_obs", [(far_model, 8), (lambda: model_of("MlpPolicy"), 4)])
def test_the_bytes_that_it_names_are_those_of_its_arrays(make, of_obs, tmp_path):
    header(make(), tmp_path)
    text = (tmp_path / "policy.h").read_text()
    size = {"float": 4, "policy_OBS": of_obs}
    arrays = re.findall(r"static const (\w+) policy_(\w+)\[(\d+)\]", text)
    total = sum(size[kind] * int(n) for kind, name, n in arrays if not name.startswith("test_"))
    assert re.search(r"constants +([\d,]+) bytes", text)[1] == f"{total:,}"


@pytest.mark.parametrize("act_fun", ["relu", "elu", "sigmoid"])
def test_other_activations(act_fun, tmp_path):
    check(model_of("MlpPolicy", "Discrete", act_fun=act_fun), tmp_path, 200)


def test_windows_that_reach_over_the_border(tmp_path):
    check(model_of("CnnPolicy", "MultiBinary", cnn_extractor=SAME), tmp_path, 20)


STRICTLY = [("MlpPolicy", "MultiDiscrete", dict(obs=FIELDS, act_fun="elu")),
            ("MlpLnLstmPolicy", "integers", {}), ("CnnLstmPolicy", "MultiBinary", {}),
            ("CnnPolicy", "Discrete", dict(obs=MIXED))]


@pytest.mark.parametrize("weights", c99.WEIGHTS)
@pytest.mark.parametrize("name, kind, more", STRICTLY)
def test_compilers_have_nothing_to_say(name, kind, more, weights, tmp_path):
    header(model_of(name, kind, **more), tmp_path, weights=weights)
    for compiler in COMPILERS:
        compile_c(tmp_path, "-fsyntax-only", compiler=compiler)
        compile_c(tmp_path, "-fsyntax-only", "-Dpolicy_OBS=double", compiler=compiler)
        if shutil.which({"gcc": "g++", "clang": "clang++"}.get(compiler, "c++")):
            compile_c(tmp_path, "-fsyntax-only", "-x", "c++", "-std=c++11", compiler=compiler)


@pytest.mark.parametrize("name, kind, more", STRICTLY)
def test_sanitizers_find_nothing(name, kind, more, tmp_path):
    check(model_of(name, kind, **more), tmp_path, 20, *SANITIZERS)


def test_two_headers_in_one_program(tmp_path):
    header(model_of("MlpPolicy"), tmp_path, "first")
    header(model_of("MlpLstmPolicy", "Discrete"), tmp_path, "second")
    for name in ("a", "b"):  # and each in two files
        (tmp_path / f"{name}.c").write_text('#include "first.h"\n#include "second.h"\n'
                                            f"float {name}(void);\nfloat {name}(void) "
                                            "{ return first_selftest() + second_selftest(); }\n")
    main = tmp_path / "main.c"
    main.write_text("float a(void);\nfloat b(void);\nint main(void) { return a() + b() < 1e-5f ? 0 : 1; }\n")
    compile_c(tmp_path, str(tmp_path / "a.c"), str(tmp_path / "b.c"), source=main)
    assert subprocess.run([tmp_path / "run"]).returncode == 0


def test_no_heap_and_nothing_written_but_the_state(tmp_path):
    header(model_of("CnnLnLstmPolicy"), tmp_path)
    use = "int use(policy_state *s, const policy_OBS *o, policy_ACT *a)"
    (tmp_path / "alone.c").write_text(
        f'#include "policy.h"\n{use};\n{use} {{ return policy_step(s, o, a); }}\n')
    compile_c(tmp_path, "-c", source=tmp_path / "alone.c")
    if not shutil.which("nm"):
        pytest.skip("nm is not installed")
    symbols = subprocess.run(["nm", tmp_path / "run"], capture_output=True, text=True).stdout.split("\n")
    kinds = {line.split()[-1]: line.split()[-2] for line in symbols if line}
    assert not [name for name, kind in kinds.items() if kind in "BbDdC"]  # data that could be written
    assert {name for name, kind in kinds.items() if kind == "U"} <= {
        "tanhf", "sqrtf", "expf", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail", "memcpy", "memset"}


# --- draws --------------------------------------------------------------------------------------------------

def test_draws_of_a_box_are_the_mean_and_the_noise(tmp_path):
    model = model_of("MlpPolicy")
    model.policy.params["pi/log_std"][...] = [-1, 0.3]
    policy, _ = header(model, tmp_path)
    compile_c(tmp_path)
    program, noise = steps.describe(policy), np.random.default_rng(0).normal(size=(50, 2))
    rows = observations(program, policy, 50)
    outputs, _, drawn = ran(program, tmp_path, rows, np.zeros(50), noise)
    wanted = np.clip(outputs + np.exp([-1, 0.3]) * noise, -1, 1)
    np.testing.assert_allclose(drawn, wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["Discrete", "MultiDiscrete", "MultiBinary"])
def test_even_noise_draws_each_action_as_often_as_its_probability(kind, tmp_path):
    model = model_of("MlpPolicy", kind)
    model.policy.params["pi/out/w"][...] *= 0.02
    policy, _ = header(model, tmp_path)
    compile_c(tmp_path)
    program, n = steps.describe(policy), 2000
    rows = np.repeat(observations(program, policy, 1), n, 0)
    m = len(program.action.get("nvec", ())) or program.outputs.shape[0]
    noise = np.repeat((np.arange(n)[:, None] + 0.5) / n, m, 1)
    drawn = ran(program, tmp_path, rows, np.zeros(n), noise)[2]
    wanted = policy.action_probability(rows[0])
    for i, p in enumerate(wanted if isinstance(wanted, list) else [wanted] if kind == "Discrete" else wanted):
        start = program.action.get("start", [0] * m)[i]
        p = np.array([1 - p, p]) if kind == "MultiBinary" else p
        found = np.bincount((drawn[:, i] - start).astype(int), minlength=len(p)) / n
        np.testing.assert_allclose(found, p, atol=2 / n)


# --- what else it does --------------------------------------------------------------------------------------

def test_what_cannot_be_acted_on_is_refused_and_changes_nothing(tmp_path):
    header(model_of("MlpLstmPolicy", obs=FIELDS), tmp_path)
    main = tmp_path / "main.c"
    main.write_text("""
#include <string.h>
#include "policy.h"
static int refused(int i, float x) {
    float obs[policy_OBS_SIZE] = {1, 0, 1, 1, 0}, act[policy_ACT_SIZE] = {7, 7};
    policy_state state, before;
    memset(&state, 0, sizeof state);
    policy_init(&state);
    if (policy_step(&state, obs, act) != 0) return 0;
    before = state;
    act[0] = 7;
    obs[i] = x;
    return policy_step(&state, obs, act) == 1 && act[0] > 6 && !memcmp(&state, &before, sizeof state);
}
int main(void) {
    return refused(0, 0) && refused(0, 5) && refused(0, 1.5f) && refused(3, 3) && refused(5, HUGE_VALF)
        && refused(6, nanf("")) ? 0 : 1;
}
""")
    compile_c(tmp_path, *SANITIZERS, source=main)
    assert subprocess.run([tmp_path / "run"]).returncode == 0


def test_hooks_replace_what_the_device_has_not(tmp_path):
    header(model_of("MlpLstmPolicy"), tmp_path)
    compile_c(tmp_path, "-Dpolicy_TANH(x)=(1.0f-2.0f/(expf(2.0f*(x))+1.0f))",
              "-Dpolicy_READ(p)=(*(const volatile float*)(p))",
              '-Dpolicy_CONST=__attribute__((section(".own")))')
    rows = np.zeros((1, 3))
    program = steps.describe(model_of("MlpLstmPolicy").policy)
    ran(program, tmp_path, rows, np.ones(1))  # which runs the self-test


def test_observations_of_type_double_lose_nothing(tmp_path):
    model = model_of("MlpPolicy")
    big = 1e6 + np.array([0.01, 0.02, 0.03])
    model.policy.normalizer.restore({"count": np.array(9.0), "mean": big - 0.005, "m2": np.full(3, 9e-4)})
    policy, _ = header(model, tmp_path)
    main = tmp_path / "main.c"
    main.write_text('#include <stdio.h>\n#define policy_OBS double\n#include "policy.h"\nint main(void) {\n'
                    "    double obs[3] = {1000000.01, 1000000.02, 1000000.03};\n    float act[2];\n"
                    "    policy_state state;\n    policy_init(&state);\n    policy_step(&state, obs, act);\n"
                    '    printf("%.9g %.9g\\n", (double)act[0], (double)act[1]);\n    return 0;\n}\n')
    compile_c(tmp_path, source=main)
    found = subprocess.run([tmp_path / "run"], capture_output=True, text=True).stdout.split()
    program = steps.describe(policy)
    exact = reference.act(program.action, steps.run(program, big[None])[0])[0]
    np.testing.assert_allclose(np.array(found, float), exact, atol=1e-5)


def test_what_float32_cannot_hold_of_an_observation_counts(tmp_path):
    policy, _ = header(far_model(), tmp_path)
    compile_c(tmp_path)
    program = steps.describe(policy)
    ran(program, tmp_path, np.zeros((0, program.size)), np.zeros(0))  # runs the self-test
    assert "#define policy_OBS double" in (tmp_path / "policy.h").read_text()


@pytest.mark.parametrize("weights, error", [("float16", 2e-3), ("int8", 0.1)])
@pytest.mark.parametrize("name", ["MlpPolicy", "MlpLnLstmPolicy", "CnnPolicy"])
def test_smaller_weights_say_what_they_cost(name, weights, error, tmp_path):
    model = model_of(name)
    policy, said = header(model, tmp_path, weights=weights)
    assert 1e-7 < float(said["error"].split()[0]) < 5 * error
    compile_c(tmp_path)
    program = steps.describe(policy)
    rows, starts = observations(program, policy, 50), starts_of(50)
    ours = predicted(program, policy, rows, starts)
    theirs = ran(program, tmp_path, rows, starts)  # which runs the self-test, exact for the weights as stored
    assert np.abs(theirs[0] - ours[0]).max() < 5 * error


def test_each_half_is_decoded(tmp_path):
    """All finite numbers of float16, denormal ones too."""
    header(model_of("MlpPolicy"), tmp_path, weights="float16")
    main = tmp_path / "main.c"
    main.write_text("""
#include <stdio.h>
#include "policy.h"
int main(void) {
    for (int i = 0; i < 65536; i++) printf("%.9g\\n", (double)policy_half((uint16_t)i));
    return 0;
}
""")
    compile_c(tmp_path, source=main)
    found = np.array(subprocess.run([tmp_path / "run"], capture_output=True, text=True).stdout.split(), float)
    meant = np.arange(65536).astype(np.uint16).view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found.astype(np.float32)[np.isfinite(meant)], meant[np.isfinite(meant)])


def test_constants_give_back_each_float32():
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**32, 5000, dtype=np.uint32).view(np.float32)
    for x in [*numbers[np.isfinite(numbers)], *np.float32([0, -0.0, 1, 1e10])]:
        text = c99.literal(x)
        assert re.fullmatch(r"-?[\d.]+(e[+-]\d+)?f", text) and re.search("[.e]", text)
        assert np.float32(float(text[:-1])) == x


def test_the_comment_tells_where_it_comes_from_and_cannot_be_left(tmp_path):
    model = model_of("MlpPolicy", env_id="Evil-v0 */ int x; /* \\\n??/ Pong")
    header(model, tmp_path)
    text = (tmp_path / "policy.h").read_text()
    comment = text[:text.index("*/")]
    assert "environment  Evil-v0 _/ int x; /_ ____/ Pong" in comment and "#ifndef" not in comment
    assert re.search(r"sha256       [0-9a-f]{64}\n", comment) and "neither normalised nor clipped" in comment
    compile_c(tmp_path)


@pytest.mark.parametrize("stem", ["my-policy", "1st", "a.b", "größe"])
def test_a_stem_that_is_no_identifier_is_refused(stem, tmp_path):
    with pytest.raises(ValueError, match=f"the prefix '{stem}', which is no identifier of C"):
        header(model_of("MlpPolicy"), tmp_path, stem)
    assert not (tmp_path / f"{stem}.h").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", CASES)
def test_many_observations_of_each(name, kind, tmp_path):
    worst = check(model_of(name, kind), tmp_path, many(name), "-O2")
    print(f"{name}, {kind}: largest difference {worst:.1e}")
