/* Gradients of token mixers against central differences: three documents in a batch,
 * the last of them longer than a piece of a scan. */
#include "slopes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/delta_net.h"
#include "nn/kimi_delta.h"
#include "nn/lightning.h"
#include "nn/latent.h"
#include "nn/mamba.h"
#include "nn/mamba2.h"
#include "nn/short_conv.h"

enum { TOKENS = 99, D = 13, SECOND = 2, THIRD = 28 };

static int32_t positions[TOKENS], first[TOKENS];

static jt_places places_of(jt_context *ctx, const jt_rope_params *rope,
                           jt_angles *angles, size_t kv_row)
{
    jt_places at = {.count = TOKENS, .positions = positions, .first = first};
    for (int t = 0; t < TOKENS; t++) {
        first[t] = t < SECOND ? 0 : t < THIRD ? SECOND : THIRD;
        positions[t] = t - first[t];
    }
    if (rope) {
        jt_rope r;
        assert_int_equal(jt_rope_init(&r, rope, NULL), JT_OK);
        *angles = jt_rope_angles(ctx, &r, positions, TOKENS);
        free(r.frequency);
        at.angles = angles;
    }
    at.kv = (jt_kv_layer){.k = jt_scratch(ctx, TOKENS, kv_row * sizeof(float)),
                          .v = jt_scratch(ctx, TOKENS, kv_row * sizeof(float)),
                          .k_type = JT_F32,
                          .v_type = JT_F32,
                          .rows = TOKENS};
    return at;
}

/* Layers live until the gradients are done, so those of the settings are static.
 * Parameters come in the order in which they are added. */
static setting inputs(const void *user,
                      jt_tensor (*forward)(jt_context *ctx, struct setting *s))
{
    return (setting){.user = user, .forward = forward};
}

/* Matrices are such that what they make is about as large as what they read. */
static void add(setting *s, jt_rng *rng, size_t rows, size_t cols, float mean)
{
    assert_in_range(s->n_inputs, 0, MAX_INPUTS - 1);
    jt_tensor *t = &s->input[s->n_inputs++];
    *t = parameter(rng, rows, cols, mean);
    float *x = t->data,
          factor = rows > 1 && s->n_inputs > 1 ? 2 / sqrtf((float)cols) : 1;
    for (size_t i = 0; i < rows * cols; i++)
        x[i] = (x[i] - mean) * factor + mean;
}

/* The next input, and the same as a vector. */
static jt_tensor take(setting *s, int *i)
{
    return s->input[(*i)++];
}

static jt_tensor take_vector(setting *s, int *i)
{
    jt_tensor t = take(s, i);
    t.n_dims = 1;
    t.shape[0] = jt_cols(&s->input[*i - 1]);
    return t;
}

/* ---- attention ---- */

static jt_tensor attention_forward(jt_context *ctx, setting *s)
{
    const jt_rope_params rope = {
        .dims = 6, .base = 100.0f, .magnitude = 1.5f, .neox = true};
    static jt_attention a;
    a = *(const jt_attention *)s->user;
    int i = 0;
    jt_input x = jt_input_of(take(s, &i));
    a.q = take(s, &i);
    a.k = take(s, &i);
    a.v = take(s, &i);
    a.o = take(s, &i);
    if (i < s->n_inputs) {
        a.q_norm = take_vector(s, &i);
        a.k_norm = take_vector(s, &i);
    }
    jt_angles angles;
    jt_places at = places_of(ctx, &rope, &angles,
                             (size_t)a.n_kv_heads * (size_t)(a.k_dim + a.v_dim));
    return jt_attention_forward(ctx, &a, &x, &at, 1);
}

static void check_attention(jt_attention a, bool weights)
{
    jt_rng rng = {.seed = 1};
    size_t heads = (size_t)a.n_heads, kv = (size_t)a.n_kv_heads;
    size_t k_dim = (size_t)a.k_dim, v_dim = (size_t)a.v_dim;
    setting s = inputs(&a, attention_forward);
    a.scale = 0.5f;
    a.norm_eps = 1e-5f;
    add(&s, &rng, TOKENS, D, 0);
    add(&s, &rng, heads * k_dim * (a.gated ? 2 : 1), D, 0);
    add(&s, &rng, kv * k_dim, D, 0);
    add(&s, &rng, kv * v_dim, D, 0);
    add(&s, &rng, D, heads * v_dim, 0);
    if (weights) {
        add(&s, &rng, 1, k_dim, 1);
        add(&s, &rng, 1, k_dim, 1);
    }
    check_setting(&s);
}

static void late_norms(void **state)
{
    (void)state;
    jt_attention a = {.n_heads = 6,
                      .n_kv_heads = 2,
                      .k_dim = 7,
                      .v_dim = 5,
                      .qk_norm = JT_QK_NORM_HEAD,
                      .norm_late = true};
    check_attention(a, true);
    a.temperature = (jt_temperature){0.4f, 9.0f, 1.0f};
    check_attention(a, false);
}

static void gated_queries(void **state)
{
    (void)state;
    jt_attention a = {.n_heads = 3,
                      .n_kv_heads = 1,
                      .k_dim = 9,
                      .v_dim = 9,
                      .qk_norm = JT_QK_NORM_HEAD,
                      .gated = true};
    check_attention(a, true);
}

/* ---- latent attention ---- */

static jt_tensor latent_forward(jt_context *ctx, setting *s)
{
    const jt_rope_params rope = {.dims = 4, .base = 100.0f, .magnitude = 1.0f};
    static jt_latent l;
    l = *(const jt_latent *)s->user;
    int i = 0;
    jt_input x = jt_input_of(take(s, &i));
    jt_tensor none = {0};
    l.q_a = l.q_a.n_dims ? take(s, &i) : none;
    l.q_a_norm = l.q_a.n_dims ? take_vector(s, &i) : none;
    l.q_b = take(s, &i);
    l.kv_a = take(s, &i);
    l.kv_a_norm = take_vector(s, &i);
    l.o = take(s, &i);
    size_t heads = (size_t)l.attention.n_heads, rank = (size_t)l.rank;
    if (i + 1 == s->n_inputs) {
        l.kv_b = take(s, &i);
    } else {
        jt_tensor k = take(s, &i), v = take(s, &i);
        k.n_dims = v.n_dims = 3;
        memcpy(k.shape, (size_t[]){heads, rank, (size_t)l.nope}, 3 * sizeof(size_t));
        memcpy(v.shape, (size_t[]){heads, (size_t)l.v_dim, rank}, 3 * sizeof(size_t));
        l.k_b = k;
        l.v_b = v;
    }
    jt_angles angles;
    jt_places at = places_of(ctx, &rope, &angles, rank + (size_t)l.rope);
    return jt_latent_forward(ctx, &l, &x, &at, 1);
}

static void check_latent(bool low_queries, bool apart)
{
    enum { HEADS = 3, RANK = 11, Q_RANK = 12, NOPE = 5, ROPE = 4, V_DIM = 7 };
    jt_rng rng = {.seed = 2};
    jt_latent l = {.attention = {.n_heads = HEADS,
                                 .n_kv_heads = 1,
                                 .k_dim = RANK + ROPE,
                                 .v_dim = RANK,
                                 .scale = 0.4f,
                                 .norm_eps = 1e-5f,
                                 .temperature = {0.4f, 9.0f, 1.0f}},
                   .rank = RANK,
                   .nope = NOPE,
                   .rope = ROPE,
                   .v_dim = V_DIM,
                   .q_a = {.n_dims = low_queries ? 2 : 0}};
    setting s = inputs(&l, latent_forward);
    add(&s, &rng, TOKENS, D, 0);
    if (low_queries) {
        add(&s, &rng, Q_RANK, D, 0);
        add(&s, &rng, 1, Q_RANK, 1);
    }
    add(&s, &rng, HEADS * (NOPE + ROPE), low_queries ? Q_RANK : D, 0);
    add(&s, &rng, RANK + ROPE, D, 0);
    add(&s, &rng, 1, RANK, 1);
    add(&s, &rng, D, HEADS * V_DIM, 0);
    if (apart) {
        add(&s, &rng, HEADS * RANK, NOPE, 0);
        add(&s, &rng, HEADS * V_DIM, RANK, 0);
    } else {
        add(&s, &rng, HEADS * (NOPE + V_DIM), RANK, 0);
    }
    check_setting(&s);
}

static void latent(void **state)
{
    (void)state;
    check_latent(true, false);
    check_latent(false, true);
}

/* ---- layers with a state ---- */

static jt_tensor short_conv_forward(jt_context *ctx, setting *s)
{
    static jt_short_conv m;
    m = (jt_short_conv){
        .in = s->input[1], .conv = {.weight = s->input[2]}, .out = s->input[3]};
    jt_input x = jt_input_of(s->input[0]);
    jt_places at = places_of(ctx, NULL, NULL, 1);
    float *state = jt_scratch(ctx, jt_short_conv_state(&m), sizeof *state);
    return jt_short_conv_forward(ctx, &m, &x, state, &at);
}

static void short_conv(void **state)
{
    (void)state;
    for (size_t width = 1; width <= 5; width += 2) {
        jt_rng rng = {.seed = 3};
        setting s = inputs(NULL, short_conv_forward);
        add(&s, &rng, TOKENS, D, 0);
        add(&s, &rng, 3 * (size_t)D, D, 0);
        add(&s, &rng, D, width, 0);
        add(&s, &rng, D, D, 0);
        check_setting(&s);
    }
}

static jt_tensor mamba_forward(jt_context *ctx, setting *s)
{
    int i = 0;
    jt_input x = jt_input_of(take(s, &i));
    static jt_mamba m;
    m = (jt_mamba){.norm_eps = 1e-5f, .conv.silu = true};
    m.in = take(s, &i);
    m.conv.weight = take(s, &i);
    m.conv.bias = take_vector(s, &i);
    m.x = take(s, &i);
    m.dt = take(s, &i);
    m.dt_bias = take_vector(s, &i);
    m.a = take(s, &i);
    m.d = take_vector(s, &i);
    m.out = take(s, &i);
    if (i < s->n_inputs) {
        m.dt_norm = take_vector(s, &i);
        m.b_norm = take_vector(s, &i);
        m.c_norm = take_vector(s, &i);
    }
    jt_places at = places_of(ctx, NULL, NULL, 1);
    float *state = jt_scratch(ctx, jt_mamba_state(&m), sizeof *state);
    return jt_mamba_forward(ctx, &m, &x, state, &at);
}

/* More channels than one item of the scan takes. */
static void mamba(void **state)
{
    (void)state;
    for (int norms = 0; norms < 2; norms++) {
        const size_t inner = 71, n = 7, rank = 3;
        jt_rng rng = {.seed = 4};
        setting s = inputs(NULL, mamba_forward);
        add(&s, &rng, TOKENS, D, 0);
        add(&s, &rng, 2 * inner, D, 0);
        add(&s, &rng, inner, 4, 0);
        add(&s, &rng, 1, inner, 0);
        add(&s, &rng, rank + 2 * n, inner, 0);
        add(&s, &rng, inner, rank, 0);
        add(&s, &rng, 1, inner, -1);
        add(&s, &rng, inner, n, -2);
        add(&s, &rng, 1, inner, 1);
        add(&s, &rng, D, inner, 0);
        for (size_t i = 0; norms && i < 3; i++)
            add(&s, &rng, 1, i ? n : rank, 1);
        check_setting(&s);
    }
}

static jt_tensor mamba2_forward(jt_context *ctx, setting *s)
{
    int i = 0;
    jt_input x = jt_input_of(take(s, &i));
    static jt_mamba2 m;
    m = *(const jt_mamba2 *)s->user;
    m.in = take(s, &i);
    m.conv.weight = take(s, &i);
    m.conv.bias = take_vector(s, &i);
    m.dt_bias = take_vector(s, &i);
    m.a = take_vector(s, &i);
    m.d = take_vector(s, &i);
    m.out = take(s, &i);
    if (i < s->n_inputs)
        m.norm = take_vector(s, &i);
    jt_places at = places_of(ctx, NULL, NULL, 1);
    float *state = jt_scratch(ctx, jt_mamba2_state(&m), sizeof *state);
    return jt_mamba2_forward(ctx, &m, &x, state, &at);
}

static void mamba2(void **state)
{
    (void)state;
    for (size_t groups = 1; groups <= 4; groups *= 2) {
        const size_t heads = 4, dim = groups == 1 ? 67 : 5, n = 19;
        const size_t inner = heads * dim, channels = inner + 2 * groups * n;
        jt_mamba2 m = {.heads = heads,
                       .head_dim = dim,
                       .groups = groups,
                       .d_state = n,
                       .norm_eps = 1e-5f,
                       .conv.silu = true};
        jt_rng rng = {.seed = 5};
        setting s = inputs(&m, mamba2_forward);
        add(&s, &rng, TOKENS, D, 0);
        add(&s, &rng, inner + channels + heads, D, 0);
        add(&s, &rng, channels, 4, 0);
        add(&s, &rng, 1, channels, 0);
        add(&s, &rng, 1, heads, -1);
        add(&s, &rng, 1, heads, -1);
        add(&s, &rng, 1, heads, 1);
        add(&s, &rng, D, inner, 0);
        if (groups < 4)
            add(&s, &rng, 1, inner, 1);
        check_setting(&s);
    }
}

static jt_tensor delta_net_forward(jt_context *ctx, setting *s)
{
    int i = 0;
    jt_input x = jt_input_of(take(s, &i));
    static jt_delta_net m;
    m = *(const jt_delta_net *)s->user;
    m.qkv = take(s, &i);
    m.z = take(s, &i);
    m.conv.weight = take(s, &i);
    m.rate = take_vector(s, &i);
    m.dt_bias = take_vector(s, &i);
    m.norm = take_vector(s, &i);
    m.out = take(s, &i);
    if (m.tiled) {
        m.b = take(s, &i);
        m.a = take(s, &i);
    } else {
        m.ba = take(s, &i);
    }
    jt_places at = places_of(ctx, NULL, NULL, 1);
    float *state = jt_scratch(ctx, jt_delta_net_state(&m), sizeof *state);
    return jt_delta_net_forward(ctx, &m, &x, state, &at);
}

static void delta_net(void **state)
{
    (void)state;
    for (int tiled = 0; tiled < 2; tiled++) {
        const size_t k_heads = 2, v_heads = 6, k_dim = 21, v_dim = tiled ? 66 : 10;
        const size_t channels = 2 * k_heads * k_dim + v_heads * v_dim;
        jt_delta_net m = {.k_heads = k_heads,
                          .v_heads = v_heads,
                          .k_dim = k_dim,
                          .v_dim = v_dim,
                          .tiled = tiled,
                          .conv.silu = true,
                          .norm_eps = 1e-6f};
        jt_rng rng = {.seed = 6};
        setting s = inputs(&m, delta_net_forward);
        add(&s, &rng, TOKENS, D, 0);
        add(&s, &rng, channels, D, 0);
        add(&s, &rng, v_heads * v_dim, D, 0);
        add(&s, &rng, channels, 4, 0);
        add(&s, &rng, 1, v_heads, -1);
        add(&s, &rng, 1, v_heads, 0);
        add(&s, &rng, 1, v_dim, 1);
        add(&s, &rng, D, v_heads * v_dim, 0);
        add(&s, &rng, tiled ? v_heads : 2 * v_heads, D, 0);
        if (tiled)
            add(&s, &rng, v_heads, D, 0);
        check_setting(&s);
    }
}

static jt_tensor kimi_delta_forward(jt_context *ctx, setting *s)
{
    int i = 0;
    jt_input x = jt_input_of(take(s, &i));
    static jt_kimi_delta m;
    m = *(const jt_kimi_delta *)s->user;
    for (int part = 0; part < JT_KIMI_QKV; part++) {
        m.in[part] = take(s, &i);
        m.conv[part].weight = take(s, &i);
        m.conv[part].silu = true;
    }
    m.b = take(s, &i);
    m.f_a = take(s, &i);
    m.f_b = take(s, &i);
    m.dt_bias = take_vector(s, &i);
    m.rate = take_vector(s, &i);
    m.g_a = take(s, &i);
    m.g_b = take(s, &i);
    m.norm = take_vector(s, &i);
    m.out = take(s, &i);
    jt_places at = places_of(ctx, NULL, NULL, 1);
    float *state = jt_scratch(ctx, jt_kimi_delta_state(&m), sizeof *state);
    return jt_kimi_delta_forward(ctx, &m, &x, state, &at);
}

/* A head of more rows, in the first case, than one item of the scan takes. */
static void kimi_delta(void **state)
{
    (void)state;
    for (size_t heads = 1; heads <= 2; heads++) {
        const size_t dim = heads == 1 ? 67 : 9, width = heads * dim, rank = 3;
        jt_kimi_delta m = {.heads = heads, .dim = dim, .norm_eps = 1e-6f};
        jt_rng rng = {.seed = 7};
        setting s = inputs(&m, kimi_delta_forward);
        add(&s, &rng, TOKENS, D, 0);
        for (int part = 0; part < JT_KIMI_QKV; part++) {
            add(&s, &rng, width, D, 0);
            add(&s, &rng, width, 4, 0);
        }
        add(&s, &rng, heads, D, 0);
        add(&s, &rng, rank, D, 0);
        add(&s, &rng, width, rank, 0);
        add(&s, &rng, 1, width, 0);
        add(&s, &rng, 1, heads, -1);
        add(&s, &rng, rank, D, 0);
        add(&s, &rng, width, rank, 0);
        add(&s, &rng, 1, dim, 1);
        add(&s, &rng, D, width, 0);
        check_setting(&s);
    }
}

static jt_tensor lightning_forward(jt_context *ctx, setting *s)
{
    int i = 0;
    jt_input x = jt_input_of(take(s, &i));
    static jt_lightning m;
    m = *(const jt_lightning *)s->user;
    m.qkv = take(s, &i);
    m.gate = take(s, &i);
    m.norm = take_vector(s, &i);
    m.out = take(s, &i);
    jt_places at = places_of(ctx, NULL, NULL, 1);
    float *state = jt_scratch(ctx, jt_lightning_state(&m), sizeof *state);
    return jt_lightning_forward(ctx, &m, &x, state, &at);
}

static void lightning(void **state)
{
    (void)state;
    for (size_t heads = 1; heads <= 4; heads *= 4) {
        const size_t dim = heads == 1 ? 67 : 9, width = heads * dim;
        jt_lightning m = {.heads = heads, .dim = dim, .slope_scale = 0.7f};
        jt_rng rng = {.seed = 8};
        setting s = inputs(&m, lightning_forward);
        add(&s, &rng, TOKENS, D, 0);
        add(&s, &rng, 3 * width, D, 0);
        add(&s, &rng, width, D, 0);
        add(&s, &rng, 1, width, 1);
        add(&s, &rng, D, width, 0);
        check_setting(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_norms), cmocka_unit_test(gated_queries),
        cmocka_unit_test(latent),     cmocka_unit_test(short_conv),
        cmocka_unit_test(mamba),      cmocka_unit_test(mamba2),
        cmocka_unit_test(delta_net),  cmocka_unit_test(kimi_delta),
        cmocka_unit_test(lightning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
