/* Gradients of the operations against central differences. */
#include "slopes.h"

#include <math.h>

#include "nn/norm.h"

enum { TOKENS = 70, D = 33, WIDTH = 50, VOCAB = 9 };

static int32_t ids[TOKENS];

static void pick_ids(jt_rng *rng)
{
    for (int t = 0; t < TOKENS; t++)
        ids[t] = (int32_t)jt_rng_below(rng, VOCAB);
}

static jt_tensor linear_forward(jt_context *ctx, setting *s)
{
    jt_input x = jt_input_of(s->input[0]);
    return jt_linear(ctx, &x, &s->input[1], &s->input[2]);
}

static void linear(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 1};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0), parameter(&rng, WIDTH, D, 0),
                           parameter(&rng, 1, WIDTH, 0)},
                 .n_inputs = 3,
                 .forward = linear_forward};
    check_setting(&s);
}

static jt_tensor norm_forward(jt_context *ctx, setting *s)
{
    return jt_rms_norm(ctx, &s->input[0], &s->input[1], 1e-5f);
}

static void norm(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 2};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0), parameter(&rng, 1, D, 1)},
                 .n_inputs = 2,
                 .forward = norm_forward};
    check_setting(&s);
    /* several heads in a row, each by itself */
    setting heads = {
        .input = {parameter(&rng, TOKENS, 3 * D, 0), parameter(&rng, 1, D, 1)},
        .n_inputs = 2,
        .forward = norm_forward};
    check_setting(&heads);
}

/* Constant factors, and a norm whose weight is constant. */
static jt_tensor times_forward(jt_context *ctx, setting *s)
{
    float *factor = jt_scratch(ctx, TOKENS * D, sizeof *factor);
    jt_tensor ones = {.data = jt_scratch(ctx, D, sizeof(float)),
                      .dtype = JT_F32,
                      .n_dims = 1,
                      .shape = {D}};
    if (jt_failed(ctx))
        return ones;
    for (int i = 0; i < TOKENS * D; i++)
        factor[i] = (float)(i % 5) - 1.5f;
    for (size_t i = 0; i < D; i++)
        jt_row(&ones, 0)[i] = 1.0f;
    jt_tensor y = jt_times(ctx, &s->input[0], factor);
    return jt_rms_norm(ctx, &y, &ones, 1e-5f);
}

static void times(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 6};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0)},
                 .n_inputs = 1,
                 .forward = times_forward};
    check_setting(&s);
}

/* Embedding, a residual block with two products of one input, and the output: what is
 * changed in place and what is read twice. */
static jt_tensor block_forward(jt_context *ctx, setting *s)
{
    jt_tensor h = jt_embed(ctx, &s->input[0], ids, TOKENS);
    jt_input x = jt_input_of(jt_rms_norm(ctx, &h, &s->input[1], 1e-5f));
    jt_tensor gate = jt_new(ctx, TOKENS, WIDTH), up = jt_new(ctx, TOKENS, WIDTH);
    if (jt_failed(ctx))
        return gate;
    jt_product products[] = {jt_product_rows(&gate, &s->input[2], &x, 0, TOKENS),
                             jt_product_rows(&up, &s->input[3], &x, 0, 20),
                             jt_product_rows(&up, &s->input[4], &x, 20, TOKENS - 20)};
    jt_products(ctx, products, 3);
    jt_input hidden = jt_input_of(jt_glu(ctx, JT_SILU, &gate, &up));
    jt_tensor y = jt_linear(ctx, &hidden, &s->input[5], NULL);
    jt_add_to(ctx, &h, &y);
    x = jt_input_of(jt_rms_norm(ctx, &h, &s->input[6], 1e-5f));
    return jt_linear(ctx, &x, &s->input[7], NULL);
}

static void block(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 3};
    setting s = {.input = {parameter(&rng, VOCAB, D, 0), parameter(&rng, 1, D, 1),
                           parameter(&rng, WIDTH, D, 0), parameter(&rng, WIDTH, D, 0),
                           parameter(&rng, WIDTH, D, 0), parameter(&rng, D, WIDTH, 0),
                           parameter(&rng, 1, D, 1), parameter(&rng, VOCAB, D, 0)},
                 .n_inputs = 8,
                 .forward = block_forward};
    pick_ids(&rng);
    check_setting(&s);
}

/* Rows by number, some of them never and most several times: two weights for the first
 * rows that are read, two for the others; and a result that is read once. */
static jt_tensor gather_forward(jt_context *ctx, setting *s)
{
    static int32_t row[VOCAB * TOKENS];
    static jt_gathering via = {.row = row, .rows = TOKENS, .k = TOKENS};
    enum { PART = 20 };
    via.token = ids;
    for (int i = 0; i < VOCAB * TOKENS; i++)
        row[i] = ids[i % TOKENS] == i / TOKENS ? i % TOKENS : -1;
    jt_input x = jt_input_of(s->input[0]);
    jt_tensor gate = jt_new_fresh(ctx, TOKENS, WIDTH);
    jt_tensor up = jt_new_fresh(ctx, TOKENS, WIDTH);
    if (jt_failed(ctx))
        return gate;
    jt_product products[] = {
        jt_product_rows(&gate, &s->input[1], &x, 0, PART),
        jt_product_rows(&gate, &s->input[2], &x, PART, TOKENS - PART),
        jt_product_rows(&up, &s->input[3], &x, 0, PART),
        jt_product_rows(&up, &s->input[4], &x, PART, TOKENS - PART),
    };
    for (int i = 0; i < 4; i++)
        products[i].via = &via;
    jt_products(ctx, products, 4);
    jt_input hidden = jt_input_of(jt_glu(ctx, JT_SILU, &gate, &up));
    return jt_linear(ctx, &hidden, &s->input[5], NULL);
}

static void gather(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 4};
    setting s = {.input = {parameter(&rng, VOCAB, D, 0), parameter(&rng, WIDTH, D, 0),
                           parameter(&rng, WIDTH, D, 0), parameter(&rng, WIDTH, D, 0),
                           parameter(&rng, WIDTH, D, 0), parameter(&rng, D, WIDTH, 0)},
                 .n_inputs = 6,
                 .forward = gather_forward};
    pick_ids(&rng);
    check_setting(&s);
}

/* A layer norm without weights, one with weight and bias, and multipliers. */
static jt_tensor layer_norm_forward(jt_context *ctx, setting *s)
{
    const jt_norm plain = {.kind = JT_NORM_LAYER, .eps = 1e-5f};
    const jt_norm full = {JT_NORM_LAYER, 1e-5f, s->input[1], s->input[2]};
    jt_tensor x = jt_norm_forward(ctx, &plain, &s->input[0]);
    jt_tensor y = jt_norm_forward(ctx, &full, &x);
    jt_scale(ctx, &y, 3.0f);
    jt_softcap(ctx, &y, 2.0f);
    jt_scale(ctx, &y, 0.5f);
    return y;
}

static void layer_norm(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 7};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0), parameter(&rng, 1, D, 1),
                           parameter(&rng, 1, D, 0)},
                 .n_inputs = 3,
                 .forward = layer_norm_forward};
    check_setting(&s);
}

/* Gate and up side by side, and no up at all. */
static jt_tensor glu_forward(jt_context *ctx, setting *s)
{
    const jt_tensor none = {0};
    jt_input x = jt_input_of(s->input[0]);
    jt_tensor both = jt_linear(ctx, &x, &s->input[1], NULL);
    jt_tensor y = jt_glu_halves(ctx, JT_GELU, &both);
    return jt_glu(ctx, JT_RELU2, &y, &none);
}

static void glu(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 8};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0), parameter(&rng, WIDTH, D, 0)},
                 .n_inputs = 2,
                 .forward = glu_forward};
    check_setting(&s);
}

/* Columns of rows: taken out, multiplied, as a gate; functions in place. */
static jt_tensor columns_forward(jt_context *ctx, setting *s)
{
    const jt_tensor *x = &s->input[0]; /* four times three heads of D values */
    jt_columns first = {*x, 2, D}, second = {s->input[1], 5, D};
    jt_tensor head = jt_take(ctx, x, 3 * D, D + 1, D);
    jt_tensor y = jt_multiply(ctx, &first, &second), sum = jt_new(ctx, TOKENS, D);
    jt_softplus(ctx, &y);
    y = jt_glu_columns(ctx, JT_SILU, &(jt_columns){*x, D, D}, &y);
    jt_sigmoid(ctx, &head);
    for (size_t i = 0; i < 4 && !jt_failed(ctx); i++) {
        jt_tensor part = jt_take(ctx, &head, 4 * D, i * D, D);
        if (i == 0)
            sum = part;
        else
            jt_add_to(ctx, &sum, &part);
    }
    jt_add_to(ctx, &sum, &y);
    return sum;
}

static void columns(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 9};
    setting s = {.input = {parameter(&rng, TOKENS, 12 * D, 0),
                           parameter(&rng, TOKENS, D + 7, 0)},
                 .n_inputs = 2,
                 .forward = columns_forward};
    check_setting(&s);
}

/* A norm whose weight has a row for each part of a row of x. */
static jt_tensor group_norm_forward(jt_context *ctx, setting *s)
{
    return jt_rms_norm(ctx, &s->input[0], &s->input[1], 1e-5f);
}

static void group_norm(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 10};
    setting s = {.input = {parameter(&rng, TOKENS, 3 * D, 0), parameter(&rng, 3, D, 1)},
                 .n_inputs = 2,
                 .forward = group_norm_forward};
    check_setting(&s);
}

/* Values that stay on their side of the limit. */
static jt_tensor clamp_forward(jt_context *ctx, setting *s)
{
    jt_tensor y = jt_copy(ctx, &s->input[0]);
    jt_clamp(ctx, &y, 0.55f);
    jt_scale(ctx, &y, 2.0f); /* what was clamped is not what is there in the end */
    return y;
}

static void clamp(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 11};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0)},
                 .n_inputs = 1,
                 .forward = clamp_forward};
    float *x = s.input[0].data;
    for (int i = 0; x && i < TOKENS * D; i++)
        x[i] = roundf(x[i] * 10.0f) / 10.0f;
    check_setting(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear),     cmocka_unit_test(norm),
        cmocka_unit_test(times),      cmocka_unit_test(block),
        cmocka_unit_test(gather),     cmocka_unit_test(layer_norm),
        cmocka_unit_test(glu),        cmocka_unit_test(columns),
        cmocka_unit_test(group_norm), cmocka_unit_test(clamp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
