"""The parts of a header in C99 that do not depend on the policy. `@` stands for the prefix of all names.

MATRIX(w) stands for the parameters of a function that takes a stored matrix, AT(w) for the arguments that
pass it on, AT(w, k) for the same from its row k on, NUMBER for x[i] times number j of row i of w. A helper or
a hook is written where something uses it; helpers stand below those that they use.
"""

USE = """
    @_state state;
    @_init(&state);                     at the beginning, and wherever an episode begins
    @_step(&state, obs, act);           the likeliest action; returns 0, or 1 if obs is not finite or holds an
                                        integer outside its space: act and state are then unchanged
    @_sample(&state, obs, noise, act);  a drawn action; noise: @_NOISE_SIZE standard normals for a Box, else
                                        numbers drawn uniformly from 0 to 1
    @_outputs(&state)                   after a step its outputs: logits, or the means of a Box
    @_selftest()                        the largest error on built-in steps, of numbers above 1 relative;
                                        its state is on the stack

Nothing else is written, so several states can be used at the same time. Define before the include, if needed,
@_OBS, @_TANH, @_CONST and the other macros below. Where @_OBS is double, as where the space is of float64 or
of large integers, the mean is subtracted in double; where it is float, what float cannot hold of an
observation is lost. Under -ffast-math NaN is not seen."""

HOOKS = {
    "EXP(x)": ("expf(x)", ""),
    "TANH(x)": ("tanhf(x)", ""),
    "SQRT(x)": ("sqrtf(x)", ""),
    "CONST": ("", "marks constant arrays, as PROGMEM or a section"),
    "READ(p)": ("(*(p))", "reads a float of one, as pgm_read_float"),
    "READ_WEIGHT(p)": ("(*(p))", "reads a weight of one, as pgm_read_word or pgm_read_byte"),
}

STATE = """\
#if defined(__GNUC__)
#define @_RESTRICT __restrict
#else
#define @_RESTRICT
#endif

typedef struct {MEMORY
    float work[@_WORK_SIZE];
} @_state;

static inline void @_init(@_state *state) {
    FORGET
}"""

FORWARD = """\
static inline int @_valid(const @_OBS *obs) {
VALID
    return 1;
}

static inline const float *@_outputs(const @_state *state) { return OUTPUTS; }

static inline int @_forward(@_state *state, const @_OBS *obs) {
    if (!@_valid(obs)) return 1;
STEPS
    return 0;
}"""

BOX = """\
static inline void @_likeliest(const float *out, @_ACT *act) {
    for (int i = 0; i < @_OUT_SIZE; i++) act[i] = SETTLED(out[i]);
}

static inline void @_draw(const float *out, const float *noise, @_ACT *act) {
    for (int i = 0; i < @_OUT_SIZE; i++) act[i] = SETTLED(out[i] + @_READ(@_std + i) * noise[i]);
}"""

BITS = """\
static inline void @_likeliest(const float *out, @_ACT *act) {
    for (int i = 0; i < @_OUT_SIZE; i++) act[i] = out[i] > 0 ? 1 : 0;
}

static inline void @_draw(const float *out, const float *noise, @_ACT *act) {
    for (int i = 0; i < @_OUT_SIZE; i++) act[i] = noise[i] < @_sigmoid1(out[i]) ? 1 : 0;
}"""

CHOICE = """\
static inline int @_largest(const float *x, int n) {
    int at = 0;
    for (int i = 1; i < n; i++) if (x[i] > x[at]) at = i;
    return at;
}

static inline int @_drawn(const float *x, int n, float noise) {
    float most = x[@_largest(x, n)], total = 0, sum = 0;
    for (int i = 0; i < n; i++) total += @_EXP(x[i] - most);
    for (int i = 0; i < n - 1; i++) {
        sum += @_EXP(x[i] - most);
        if (noise * total < sum) return i;
    }
    return n - 1;
}

static inline void @_likeliest(const float *out, @_ACT *act) {
LIKELIEST
}

static inline void @_draw(const float *out, const float *noise, @_ACT *act) {
DRAWN
}"""

STEP = """\
static inline int @_step(@_state *state, const @_OBS *obs, @_ACT *act) {
    if (@_forward(state, obs)) return 1;
    @_likeliest(@_outputs(state), act);
    return 0;
}

static inline int @_sample(@_state *state, const @_OBS *obs, const float *noise, @_ACT *act) {
    if (@_forward(state, obs)) return 1;
    @_draw(@_outputs(state), noise, act);
    return 0;
}"""

TEST = """\
static inline float @_selftest(void) {
    @_state state;
    @_OBS obs[@_OBS_SIZE];
    @_ACT act[@_ACT_SIZE];
    float worst = 0, error;GENERATOR
    @_init(&state);
    for (int t = 0; t < COUNT; t++) {
        for (int i = 0; i < @_OBS_SIZE; i++) { FILL }
        if (RESET) @_init(&state);
        if (@_step(&state, obs, act)) return 1;
        for (int i = 0; i < @_OUT_SIZE; i++) {
            float meant = @_READ(@_test_out + t * @_OUT_SIZE + i);
            error = fabsf(@_outputs(&state)[i] - meant) / (1.0f + fabsf(meant));
            worst = error > worst ? error : worst;
        }
        for (int i = 0; i < @_ACT_SIZE; i++) {
            error = fabsf((float)act[i] - @_READ(@_test_act + t * @_ACT_SIZE + i));
            worst = error > worst ? error : worst;
        }
    }
    return worst;
}"""

NUMBER = {"float32": "x[i] * @_READ(w + j)", "float16": "x[i] * @_half(@_READ_WEIGHT(w + j))",
          "int8": "(x[i] * @_READ(w_by + i)) * (float)@_READ_WEIGHT(w + j)"}

HELPERS = {
    "copy": """\
static inline void @_copy(const float *x, int n, float *y) {
    for (int i = 0; i < n; i++) y[i] = x[i];
}""",
    "begin": """\
static inline void @_begin(const float *bias, int n, float *y) {
    for (int i = 0; i < n; i++) y[i] = @_READ(bias + i);
}""",
    "half": """\
static inline float @_half(uint16_t half) {
    uint32_t bits = (uint32_t)(half & 0x7FFFu) << 13 | (uint32_t)(half & 0x8000u) << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x * 5.19229686e33f;  /* 2^112, the difference of the exponents */
}""",
    "product": """\
/* y (m) += x (n) times w (n, m) */
static inline void @_product(const float *@_RESTRICT x, int n, MATRIX(w), int m, float *@_RESTRICT y) {
    for (int i = 0; i < n; i++, w += m)
        for (int j = 0; j < m; j++) y[j] += NUMBER;
}""",
    "conv": """\
/* y (oh, ow, m) = bias + the windows (kh, kw) of an image x (h, width, c) times the weights (kh, kw, c, m) */
static inline void @_conv(const float *x, int h, int width, int c, MATRIX(w), const float *bias,
                          int kh, int kw, int m, int down, int across, int top, int left, int oh, int ow,
                          float *y) {
    for (int row = 0; row < oh; row++) for (int column = 0; column < ow; column++, y += m) {
        @_begin(bias, m, y);
        int i = row * down - top, j = column * across - left;  /* where the window begins */
        int l = j < 0 ? -j : 0, end = width - j < kw ? width - j : kw;  /* the rest of it is zeros */
        for (int k = 0; k < kh; k++) {
            if (i + k < 0 || i + k >= h) continue;
            @_product(x + ((i + k) * width + j + l) * c, (end - l) * c, AT(w, (k * kw + l) * c), m, y);
        }
    }
}""",
    "image": """\
/* y = x with its axes in another order: for each its size, and how far apart its numbers are in x */
static inline void @_image(const @_OBS *x, int h, int by_h, int w, int by_w, int c, int by_c, int d, int by_d,
                           float *y) {
    for (int i = 0; i < h; i++) for (int j = 0; j < w; j++)
        for (int k = 0; k < c; k++) for (int l = 0; l < d; l++)
            *y++ = (float)x[i * by_h + j * by_w + k * by_c + l * by_d];
}""",
    "onehot": """\
static inline void @_onehot(int index, int n, float *y) {
    for (int i = 0; i < n; i++) y[i] = i == index ? 1.0f : 0.0f;
}""",
    "clip": """\
static inline float @_clip(float x, float low, float high) { return x < low ? low : x > high ? high : x; }""",
    "tanh": """\
static inline void @_tanh(float *x, int n) {
    for (int i = 0; i < n; i++) x[i] = @_TANH(x[i]);
}""",
    "relu": """\
static inline void @_relu(float *x, int n) {
    for (int i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] : 0;
}""",
    "elu": """\
static inline void @_elu(float *x, int n) {
    for (int i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] : @_EXP(x[i]) - 1.0f;
}""",
    "sigmoid1": """\
static inline float @_sigmoid1(float x) { return 0.5f * @_TANH(0.5f * x) + 0.5f; }""",
    "sigmoid": """\
static inline void @_sigmoid(float *x, int n) {
    for (int i = 0; i < n; i++) x[i] = @_sigmoid1(x[i]);
}""",
    "lstm": """\
/* memory = [c, h] after x (n); the gates i, f, o, g are computed in z (4 cells) */
static inline void @_lstm(const float *x, int n, MATRIX(wx), MATRIX(wh), const float *b, int cells,
                          float *memory, float *z) {
    float *c = memory, *h = memory + cells;
    @_begin(b, 4 * cells, z);
    @_product(x, n, AT(wx), 4 * cells, z);
    @_product(h, cells, AT(wh), 4 * cells, z);
    for (int j = 0; j < cells; j++) {
        c[j] = @_sigmoid1(z[cells + j]) * c[j] + @_sigmoid1(z[j]) * @_TANH(z[3 * cells + j]);
        h[j] = @_sigmoid1(z[2 * cells + j]) * @_TANH(c[j]);
    }
}""",
    "standardize": """\
static inline void @_standardize(float *x, int n) {
    float mean = 0, square = 0;
    for (int i = 0; i < n; i++) mean += x[i];
    mean /= (float)n;
    for (int i = 0; i < n; i++) { x[i] -= mean; square += x[i] * x[i]; }
    square = 1.0f / @_SQRT(square / (float)n + 1e-5f);
    for (int i = 0; i < n; i++) x[i] *= square;
}""",
    "lnlstm": """\
/* memory = [c, h] after x (n), with layer norm; the gates i, f, o, g are computed in z (8 cells) */
static inline void @_lnlstm(const float *x, int n, MATRIX(wx), MATRIX(wh), const float *b, const float *gx,
                            const float *gh, const float *gc, const float *bc, int cells, float *memory,
                            float *z) {
    float *c = memory, *h = memory + cells, *u = z + 4 * cells;
    for (int j = 0; j < 8 * cells; j++) z[j] = 0;
    @_product(x, n, AT(wx), 4 * cells, z);
    @_product(h, cells, AT(wh), 4 * cells, u);
    @_standardize(z, 4 * cells);
    @_standardize(u, 4 * cells);
    for (int j = 0; j < 4 * cells; j++) z[j] = z[j] * @_READ(gx + j) + u[j] * @_READ(gh + j) + @_READ(b + j);
    for (int j = 0; j < cells; j++) {
        c[j] = @_sigmoid1(z[cells + j]) * c[j] + @_sigmoid1(z[j]) * @_TANH(z[3 * cells + j]);
        u[j] = c[j];
    }
    @_standardize(u, cells);
    for (int j = 0; j < cells; j++)
        h[j] = @_sigmoid1(z[2 * cells + j]) * @_TANH(u[j] * @_READ(gc + j) + @_READ(bc + j));
}""",
}
