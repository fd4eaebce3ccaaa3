/* Sparse upcycling: Komatsuzaki et al. 2022, "Sparse Upcycling: Training
 * Mixture-of-Experts from Dense Checkpoints". Every FFN of a dense model becomes
 * n_experts copies of itself behind a fresh router; all other tensors are copied. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "junto/make.h"
#include "model/model.h"

enum { NAME_BYTES = 128, RUN_ROWS = 256 };

typedef struct upcycling {
    const jt_model *model;
    const jt_upcycle_options *o;
    const char *from, *to; /* architectures */
    jt_gguf_writer *writer;
    jt_pool *pool;
    uint64_t done, total; /* bytes, for the progress */
    jt_err *err;
} upcycling;

/* What becomes of a tensor of the dense file. */
typedef enum fate { COPY, EXPERTS, REORDER } fate;

static bool ends_with(jt_str name, const char *suffix)
{
    size_t len = strlen(suffix);
    return name.len >= len && memcmp(name.data + name.len - len, suffix, len) == 0;
}

static bool is_qk(jt_str name)
{
    return ends_with(name, ".attn_q.weight") || ends_with(name, ".attn_k.weight") ||
           ends_with(name, ".attn_q.bias") || ends_with(name, ".attn_k.bias");
}

static fate fate_of(const upcycling *u, const jt_gguf_tensor *t)
{
    bool ffn = ends_with(t->name, ".ffn_gate.weight") ||
               ends_with(t->name, ".ffn_up.weight") ||
               ends_with(t->name, ".ffn_down.weight");
    if (ffn && t->n_dims == 2)
        return EXPERTS;
    /* one rotates neighbours, the other halves */
    const jt_family *to = jt_family_find(u->to, strlen(u->to));
    bool heads = t->shape[0] % (uint64_t)u->model->params.k_dim == 0;
    bool reorder = u->model->family->rope_neox != to->rope_neox;
    return reorder && heads && is_qk(t->name) ? REORDER : COPY;
}

/* ---- keys --------------------------------------------------------------------------
 */

/* All keys, those of the architecture under its new name. */
static jt_status copy_keys(upcycling *u)
{
    const jt_gguf *file = jt_model_file(u->model);
    size_t len = strlen(u->from);
    for (size_t i = 0; i < jt_gguf_kv_count(file); i++) {
        const jt_gguf_kv *kv = jt_gguf_kv_at(file, i);
        char key[NAME_BYTES], *renamed = NULL;
        bool of_arch = kv->key.len > len && memcmp(kv->key.data, u->from, len) == 0 &&
                       kv->key.data[len] == '.';
        if (of_arch && kv->key.len < NAME_BYTES - 32) {
            snprintf(key, sizeof key, "%s%.*s", u->to, (int)(kv->key.len - len),
                     kv->key.data + len);
            renamed = key;
        }
        JT_TRY(jt_gguf_set_kv(u->writer, renamed, kv, u->err));
    }
    return jt_gguf_set_str(u->writer, "general.architecture", u->to, u->err);
}

static jt_status set_count(upcycling *u, const char *name, size_t value)
{
    char key[NAME_BYTES];
    snprintf(key, sizeof key, "%s.%s", u->to, name);
    return jt_gguf_set_u32(u->writer, key, (uint32_t)value, u->err);
}

static jt_status set_expert_keys(upcycling *u)
{
    JT_TRY(set_count(u, "expert_count", (size_t)u->o->n_experts));
    JT_TRY(set_count(u, "expert_used_count", (size_t)u->o->top_k));
    return set_count(u, "expert_feed_forward_length", u->model->layers[0].dense.width);
}

/* ---- descriptions ------------------------------------------------------------------
 */

/* "blk.3.ffn_up.weight" -> "blk.3.ffn_up_exps.weight" */
static jt_status describe_experts(upcycling *u, const jt_gguf_tensor *t)
{
    char name[NAME_BYTES];
    uint64_t shape[3] = {(uint64_t)u->o->n_experts, t->shape[0], t->shape[1]};
    int stem = (int)(t->name.len - strlen(".weight"));
    snprintf(name, sizeof name, "%.*s_exps.weight", stem, t->name.data);
    if (u->o->noise > 0.0f && !jt_dtype_can_quantize(t->dtype))
        return jt_fail(u->err, JT_E_UNSUPPORTED,
                       "tensor '%s': %s is only read, noise cannot be added", name,
                       jt_dtype_name(t->dtype));
    u->total += t->bytes * (uint64_t)u->o->n_experts;
    return jt_gguf_add_tensor(u->writer, name, t->dtype, 3, shape, u->err);
}

static jt_status describe_tensors(upcycling *u)
{
    const jt_gguf *file = jt_model_file(u->model);
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        char name[NAME_BYTES];
        if (t->name.len >= NAME_BYTES - 8)
            return jt_fail(u->err, JT_E_UNSUPPORTED, "tensor name '%.*s' is too long",
                           NAME_BYTES, t->name.data);
        if (fate_of(u, t) == EXPERTS) {
            JT_TRY(describe_experts(u, t));
            continue;
        }
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        u->total += t->bytes;
        JT_TRY(
            jt_gguf_add_tensor(u->writer, name, t->dtype, t->n_dims, t->shape, u->err));
    }
    for (int layer = 0; layer < u->model->params.n_layers; layer++) {
        char name[NAME_BYTES];
        uint64_t shape[2] = {(uint64_t)u->o->n_experts,
                             (uint64_t)u->model->params.d_model};
        snprintf(name, sizeof name, "blk.%d.ffn_gate_inp.weight", layer);
        JT_TRY(jt_gguf_add_tensor(u->writer, name, JT_F32, 2, shape, u->err));
    }
    return JT_OK;
}

/* ---- data --------------------------------------------------------------------------
 */

static jt_status write_bytes(upcycling *u, const void *data, size_t bytes)
{
    JT_TRY(jt_gguf_write(u->writer, data, bytes, u->err));
    u->done += bytes;
    return jt_progress_report(&u->o->progress, "upcycling", u->done, u->total, u->err);
}

/* Noise on a run of rows: each row has its own stretch of random numbers, so the result
 * does not depend on threads. */
typedef struct noise_run {
    const jt_gguf_tensor *t;
    size_t n, row_bytes, first;
    float deviation;
    jt_rng rng;
    float *values, *noise; /* [RUN_ROWS, n] */
    char *out;             /* [RUN_ROWS] rows */
} noise_run;

static const char *source_row(const noise_run *run, size_t i)
{
    return (const char *)run->t->data + (run->first + i) * run->row_bytes;
}

static void noise_row(void *arg, size_t i)
{
    const noise_run *run = arg;
    float *x = run->values + i * run->n, *noise = run->noise + i * run->n;
    jt_rng rng = run->rng;
    rng.counter = (run->first + i) * ((run->n + 3) / 4 * 4);
    jt_dequantize(run->t->dtype, x, source_row(run, i), run->n);
    jt_rng_normals(&rng, noise, run->n);
    for (size_t j = 0; j < run->n; j++)
        x[j] += run->deviation * noise[j];
    jt_quantize(run->t->dtype, run->out + i * run->row_bytes, x, run->n);
}

static float root_mean_square(const noise_run *run, size_t rows)
{
    double sum = 0.0;
    for (size_t r = 0; r < rows; r++) {
        jt_dequantize(run->t->dtype, run->values,
                      (const char *)run->t->data + r * run->row_bytes, run->n);
        for (size_t j = 0; j < run->n; j++)
            sum += (double)run->values[j] * run->values[j];
    }
    return (float)sqrt(sum / ((double)rows * (double)run->n));
}

static jt_status write_noisy(upcycling *u, noise_run *run, size_t rows, size_t stream)
{
    run->rng = (jt_rng){.seed = u->o->seed, .stream = stream};
    for (run->first = 0; run->first < rows; run->first += RUN_ROWS) {
        size_t count = rows - run->first < RUN_ROWS ? rows - run->first : RUN_ROWS;
        jt_pool_run(u->pool, noise_row, run, count);
        JT_TRY(write_bytes(u, run->out, count * run->row_bytes));
    }
    return JT_OK;
}

/* The copies of one FFN matrix. The first expert stays as it was. */
static jt_status write_experts(upcycling *u, const jt_gguf_tensor *t, size_t index)
{
    size_t rows = (size_t)t->shape[0], n = (size_t)t->shape[1];
    noise_run run = {.t = t, .n = n, .row_bytes = jt_dtype_row_bytes(t->dtype, n)};
    size_t copies = u->o->noise > 0.0f ? 1 : (size_t)u->o->n_experts;
    for (size_t e = 0; e < copies; e++)
        JT_TRY(write_bytes(u, t->data, t->bytes));
    if (copies == (size_t)u->o->n_experts)
        return JT_OK;
    run.values = jt_alloc(RUN_ROWS * n, sizeof(float));
    run.noise = jt_alloc(RUN_ROWS * n, sizeof(float));
    run.out = jt_alloc(RUN_ROWS, run.row_bytes);
    jt_status status = run.values && run.noise && run.out
                           ? JT_OK
                           : jt_fail_memory(u->err, "upcycling");
    if (status == JT_OK)
        run.deviation = u->o->noise * root_mean_square(&run, rows);
    for (size_t e = 1; e < (size_t)u->o->n_experts && status == JT_OK; e++)
        status = write_noisy(u, &run, rows, index * (size_t)u->o->n_experts + e);
    free(run.values);
    free(run.noise);
    free(run.out);
    return status;
}

/* Rows of each head from halves (i, i + half) to neighbours (2i, 2i + 1). */
static jt_status write_reordered(upcycling *u, const jt_gguf_tensor *t)
{
    size_t rows = (size_t)t->shape[0], head = (size_t)u->model->params.k_dim;
    size_t row_bytes = t->bytes / rows, half = head / 2;
    for (size_t r = 0; r < rows; r++) {
        size_t within = r % head, from = r - within + within / 2 + (within % 2) * half;
        JT_TRY(write_bytes(u, (const char *)t->data + from * row_bytes, row_bytes));
    }
    return JT_OK;
}

/* Routers come last, a stream of random numbers for each layer. */
static jt_status write_routers(upcycling *u)
{
    size_t values = (size_t)u->o->n_experts * (size_t)u->model->params.d_model;
    size_t tensors = jt_gguf_tensor_count(jt_model_file(u->model));
    float *weights = jt_calloc(values, sizeof *weights);
    if (!weights)
        return jt_fail_memory(u->err, "upcycling");
    jt_status status = JT_OK;
    for (int layer = 0; layer < u->model->params.n_layers && status == JT_OK; layer++) {
        if (u->o->router == JT_ROUTER_RANDOM) {
            jt_rng rng = {.seed = u->o->seed,
                          .stream = tensors * (size_t)u->o->n_experts + (size_t)layer};
            jt_rng_normals(&rng, weights, values);
            for (size_t i = 0; i < values; i++)
                weights[i] *= 0.02f;
        }
        status = jt_gguf_write(u->writer, weights, values * sizeof *weights, u->err);
    }
    free(weights);
    return status;
}

static jt_status write_data(upcycling *u)
{
    const jt_gguf *file = jt_model_file(u->model);
    JT_TRY(jt_progress_report(&u->o->progress, "upcycling", 0, u->total, u->err));
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        switch (fate_of(u, t)) {
        case COPY:
            JT_TRY(write_bytes(u, t->data, t->bytes));
            break;
        case EXPERTS:
            JT_TRY(write_experts(u, t, i));
            break;
        case REORDER:
            JT_TRY(write_reordered(u, t));
            break;
        }
    }
    return write_routers(u);
}

/* ---- the whole ---------------------------------------------------------------------
 */

static jt_status check(const jt_model *model, const jt_upcycle_options *o, jt_err *err)
{
    enum { MOST = 65536 };
    jt_model_info info;
    jt_model_describe(model, &info);
    if (o->n_experts < 1 || o->n_experts > MOST)
        return jt_fail(err, JT_E_ARG, "%d experts asked for, expected 1 to %d",
                       o->n_experts, MOST);
    if (o->top_k < 1 || o->top_k > o->n_experts)
        return jt_fail(err, JT_E_ARG, "top-k is %d, expected 1 to %d", o->top_k,
                       o->n_experts);
    if (!(o->noise >= 0.0f) || !isfinite(o->noise))
        return jt_fail(err, JT_E_ARG, "noise is %g, expected 0 or more",
                       (double)o->noise);
    if (info.n_moe_layers)
        return jt_fail(err, JT_E_UNSUPPORTED, "'%s' is a mixture already", info.path);
    if (!model->family->upcycled)
        return jt_fail(err, JT_E_UNSUPPORTED, "family '%s' has no mixture to become",
                       model->family->arch);
    return JT_OK;
}

static jt_status write_all(upcycling *u)
{
    JT_TRY(copy_keys(u));
    JT_TRY(set_expert_keys(u));
    JT_TRY(describe_tensors(u));
    return write_data(u);
}

static jt_status upcycle_model(const jt_model *model, const char *out_path,
                               const jt_upcycle_options *o, jt_err *err)
{
    JT_TRY(check(model, o, err));
    upcycling u = {.model = model,
                   .o = o,
                   .from = model->family->arch,
                   .to = model->family->upcycled,
                   .err = err};
    JT_TRY(jt_pool_new(&u.pool, 0, err));
    jt_status status = jt_gguf_writer_new(&u.writer, out_path, err);
    if (status == JT_OK) {
        status = write_all(&u);
        if (status == JT_OK)
            status = jt_gguf_writer_finish(u.writer, err);
        else
            jt_gguf_writer_abort(u.writer);
    }
    jt_pool_free(u.pool);
    return status;
}

jt_status jt_upcycle(const char *dense_path, const char *out_path,
                     const jt_upcycle_options *options, jt_err *err)
{
    jt_model *model;
    JT_TRY(jt_model_load(&model, dense_path, err));
    jt_status status = upcycle_model(model, out_path, options, err);
    jt_model_free(model);
    return status;
}
