/* Write a synthetic mixture in a real model's shape, for speed and memory measurements.
 *
 * Rows are drawn from a pool of quantised Gaussian rows, so any type is written at the
 * speed of the disk and all values are ordinary ones. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/random.h"
#include "junto/junto.h"

enum { POOL_ROWS = 256, MAX_TENSORS = 4096 };

typedef struct shape {
    int layers, width, heads, kv_heads, experts, used, expert_width, vocab, context;
    jt_dtype dtype;
} shape;

typedef struct tensor {
    char name[64];
    jt_dtype dtype;
    int n_dims;
    uint64_t shape[3];
} tensor;

static tensor tensors[MAX_TENSORS];
static size_t n_tensors;
static jt_rng rng = {.seed = 1};

static void die(const jt_err *err)
{
    fprintf(stderr, "synth: %s\n", err->msg);
    exit(1);
}

static void add(const char *name, jt_dtype dtype, uint64_t a, uint64_t b, uint64_t c)
{
    tensor *t = &tensors[n_tensors++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->dtype = dtype;
    t->n_dims = c ? 3 : b ? 2 : 1;
    memcpy(t->shape, (uint64_t[]){a, b, c}, sizeof t->shape);
}

static void add_layer(const shape *s, int i)
{
    char name[64];
    uint64_t d = (uint64_t)s->width, head = d / (uint64_t)s->heads;
    uint64_t kv = head * (uint64_t)s->kv_heads, experts = (uint64_t)s->experts;
    uint64_t ff = (uint64_t)s->expert_width;
#define ADD(suffix, dtype, a, b, c)                              \
    (snprintf(name, sizeof name, "blk.%d." suffix ".weight", i), \
     add(name, dtype, a, b, c))
    ADD("attn_norm", JT_F32, d, 0, 0);
    ADD("ffn_norm", JT_F32, d, 0, 0);
    ADD("attn_q", s->dtype, d, d, 0);
    ADD("attn_k", s->dtype, kv, d, 0);
    ADD("attn_v", s->dtype, kv, d, 0);
    ADD("attn_output", s->dtype, d, d, 0);
    ADD("attn_q_norm", JT_F32, head, 0, 0);
    ADD("attn_k_norm", JT_F32, head, 0, 0);
    ADD("ffn_gate_inp", JT_F32, experts, d, 0);
    ADD("ffn_gate_exps", s->dtype, experts, ff, d);
    ADD("ffn_up_exps", s->dtype, experts, ff, d);
    ADD("ffn_down_exps", s->dtype, experts, d, ff);
#undef ADD
}

static void write_keys(jt_gguf_writer *w, const shape *s, jt_err *err)
{
    jt_status bad = JT_OK;
#define U32(name, value) \
    bad |= jt_gguf_set_u32(w, "qwen3moe." name, (uint32_t)(value), err)
    bad |= jt_gguf_set_str(w, "general.architecture", "qwen3moe", err);
    bad |= jt_gguf_set_str(w, "general.name", "synthetic mixture", err);
    U32("block_count", s->layers);
    U32("context_length", s->context);
    U32("embedding_length", s->width);
    U32("feed_forward_length", s->expert_width);
    U32("expert_feed_forward_length", s->expert_width);
    U32("attention.head_count", s->heads);
    U32("attention.head_count_kv", s->kv_heads);
    U32("expert_count", s->experts);
    U32("expert_used_count", s->used);
#undef U32
    bad |= jt_gguf_set_f32(w, "qwen3moe.attention.layer_norm_rms_epsilon", 1e-6f, err);
    bad |= jt_gguf_set_f32(w, "qwen3moe.rope.freq_base", 10000.0f, err);
    for (size_t i = 0; i < n_tensors; i++)
        bad |= jt_gguf_add_tensor(w, tensors[i].name, tensors[i].dtype,
                                  tensors[i].n_dims, tensors[i].shape, err);
    if (bad)
        die(err);
}

static float rounded(float x)
{
    return jt_bf16_to_float(jt_float_to_bf16(x));
}

/* A pool of rows of length n: normal with deviation 1/sqrt(n), or ones for a norm.
 * Floats are what bfloat16 says, as in files of published models. */
static char *make_pool(jt_dtype dtype, size_t n, bool norm)
{
    size_t bytes = jt_dtype_row_bytes(dtype, n);
    char *pool = malloc(POOL_ROWS * bytes);
    float *x = malloc(n * sizeof *x);
    for (size_t r = 0; r < POOL_ROWS; r++) {
        jt_rng_normals(&rng, x, n);
        for (size_t i = 0; i < n; i++)
            x[i] = norm ? 1.0f : rounded(x[i] / sqrtf((float)n));
        jt_quantize(dtype, pool + r * bytes, x, n);
    }
    free(x);
    return pool;
}

static void write_tensor(jt_gguf_writer *w, const tensor *t, jt_err *err)
{
    size_t n = t->shape[t->n_dims - 1], rows = 1;
    for (int i = 0; i + 1 < t->n_dims; i++)
        rows *= t->shape[i];
    size_t bytes = jt_dtype_row_bytes(t->dtype, n);
    char *pool = make_pool(t->dtype, n, t->n_dims == 1);
    for (size_t r = 0; r < rows; r++) {
        size_t pick = jt_rng_below(&rng, POOL_ROWS);
        if (jt_gguf_write(w, pool + pick * bytes, bytes, err) != JT_OK)
            die(err);
    }
    free(pool);
}

static int usage(void)
{
    fprintf(stderr, "usage: synth OUT.gguf [layers=16 width=2048 heads=16 kv_heads=16 "
                    "experts=64 used=8 expert_width=1024 vocab=50304 "
                    "context=4096 dtype=Q4_K]\n");
    return 2;
}

static bool parse(shape *s, const char *arg)
{
    static const char *const names[] = {"layers",       "width",   "heads",
                                        "kv_heads",     "experts", "used",
                                        "expert_width", "vocab",   "context"};
    int *fields[] = {&s->layers, &s->width,        &s->heads, &s->kv_heads, &s->experts,
                     &s->used,   &s->expert_width, &s->vocab, &s->context};
    const char *value = strchr(arg, '=');
    if (!value)
        return false;
    size_t len = (size_t)(value++ - arg);
    if (len == 5 && memcmp(arg, "dtype", 5) == 0)
        return jt_dtype_from_name(value, &s->dtype);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i]) == len && memcmp(names[i], arg, len) == 0)
            return (*fields[i] = atoi(value)) > 0;
    }
    return false;
}

int main(int argc, char **argv)
{
    shape s = {16, 2048, 16, 16, 64, 8, 1024, 50304, 4096, JT_Q4_K};
    jt_gguf_writer *w;
    jt_err err = {0};
    if (argc < 2)
        return usage();
    for (int i = 2; i < argc; i++) {
        if (!parse(&s, argv[i]))
            return usage();
    }
    add("token_embd.weight", s.dtype, (uint64_t)s.vocab, (uint64_t)s.width, 0);
    add("output.weight", s.dtype, (uint64_t)s.vocab, (uint64_t)s.width, 0);
    add("output_norm.weight", JT_F32, (uint64_t)s.width, 0, 0);
    for (int i = 0; i < s.layers; i++)
        add_layer(&s, i);
    if (jt_gguf_writer_new(&w, argv[1], &err) != JT_OK)
        die(&err);
    write_keys(w, &s, &err);
    for (size_t i = 0; i < n_tensors; i++)
        write_tensor(w, &tensors[i], &err);
    if (jt_gguf_writer_finish(w, &err) != JT_OK)
        die(&err);
    return 0;
}
