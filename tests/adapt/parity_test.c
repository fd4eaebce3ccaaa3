/* Adapters of PEFT: the logits that peft has with them, whatever the level and the
 * chunk; the same after a way through every format. */
#include <stdlib.h>
#include <string.h>

#include "adapted.h"
#include "scratch.h"

static const double tolerance = 1e-4; /* of the largest logit */
static const jt_session_options exact = {.cpu = "scalar", .kv_type = "f32"};
static const float one = 1.0f, nothing = 0.0f;

typedef struct one_case {
    const char *folder, *name;
    bool gguf; /* the format has it */
} one_case;

static size_t bytes_of(const golden *g)
{
    return g->count * g->vocab * sizeof(float);
}

static void check_close(const golden *g, const float *logits, const float *wanted,
                        double most)
{
    double error = golden_error(logits, wanted, g->count * g->vocab);
    if (!(error < most))
        fail_msg("error %g, at most %g is allowed", error, most);
}

/* ---- running ---- */

static void check_level(const adapted *a, const char *cpu)
{
    jt_session_options o = {.cpu = cpu, .kv_type = "f32"};
    float *all = adapted_run(&a->g, &o, &a->adapter, &one, 1);
    check_close(&a->g, all, a->g.logits, tolerance);
    o.chunk = 5;
    o.threads = 1;
    float *pieces = adapted_run(&a->g, &o, &a->adapter, &one, 1);
    assert_memory_equal(pieces, all, bytes_of(&a->g));
    free(pieces);
    free(all);
}

/* Off, it changes not one bit. */
static void check_off(const adapted *a)
{
    float *plain = adapted_run(&a->g, &exact, NULL, NULL, 0);
    float *off = adapted_run(&a->g, &exact, &a->adapter, &nothing, 1);
    check_close(&a->g, plain, a->plain, tolerance);
    assert_memory_equal(off, plain, bytes_of(&a->g));
    free(off);
    free(plain);
}

/* ---- formats ---- */

static void check_format(const adapted *a, jt_adapter_format format, const char *name,
                         const float *logits, double most)
{
    char path[256];
    jt_err err = {0};
    jt_adapter *again;
    snprintf(path, sizeof path, "%s/%s", scratch_dir.dir, name);
    adapted_must(jt_adapter_save(a->adapter, path, format, a->g.model, &err), &err);
    adapted_must(jt_adapter_open(&again, path, a->g.model, &err), &err);
    float *read = adapted_run(&a->g, &exact, &again, &one, 1);
    if (most == 0.0)
        assert_memory_equal(read, logits, bytes_of(&a->g));
    else
        check_close(&a->g, read, logits, most);
    free(read);
    jt_adapter_free(again);
}

static void remove_folder(const char *name)
{
    scratch s;
    snprintf(s.dir, sizeof s.dir, "%.180s/%s", scratch_dir.dir, name);
    scratch_free(&s);
}

static void check_case(void **state)
{
    const one_case *c = *state;
    adapted a;
    adapted_open(&a, c->folder, c->name);
    float *logits = adapted_run(&a.g, &exact, &a.adapter, &one, 1);
    double error = golden_error(logits, a.g.logits, a.g.count * a.g.vocab);
    print_message("  %-14s error %.2e\n", c->name, error);
    assert_true(error < tolerance);
    for (int level = 0; level < JT_CPU_COUNT; level++) {
        const jt_kernels *kernels = jt_kernels_level((jt_cpu_level)level);
        if (kernels)
            check_level(&a, kernels->name);
    }
    check_off(&a);
    check_format(&a, JT_ADAPTER_JUNTO, "own.safetensors", logits, 0.0);
    check_format(&a, JT_ADAPTER_PEFT, "peft", logits, 1e-5);
    if (c->gguf)
        check_format(&a, JT_ADAPTER_GGUF, "lora.gguf", logits, 1e-5);
    remove_folder("peft");
    free(logits);
    adapted_close(&a);
}

/* Skills for one task, as peft mixes them for it; also out of a file of Junto. */
static void check_tasks(void **state)
{
    adapted a;
    char path[256];
    jt_adapter *again;
    jt_err err = {0};
    (void)state;
    adapted_open(&a, "llama", "llama-poly");
    adapted_must(jt_adapter_set_task(a.adapter, 1, &err), &err);
    check_level(&a, "scalar");
    float *logits = adapted_run(&a.g, &exact, &a.adapter, &one, 1);
    print_message("  llama-poly     error %.2e\n",
                  golden_error(logits, a.g.logits, a.g.count * a.g.vocab));
    snprintf(path, sizeof path, "%s/poly.safetensors", scratch_dir.dir);
    adapted_must(jt_adapter_save(a.adapter, path, JT_ADAPTER_JUNTO, NULL, &err), &err);
    adapted_must(jt_adapter_open(&again, path, a.g.model, &err), &err);
    adapted_must(jt_adapter_set_task(again, 1, &err), &err);
    float *read = adapted_run(&a.g, &exact, &again, &one, 1);
    assert_memory_equal(read, logits, bytes_of(&a.g));
    adapted_must(jt_adapter_set_task(again, 2, &err), &err);
    free(read);
    read = adapted_run(&a.g, &exact, &again, &one, 1);
    assert_true(golden_error(read, logits, a.g.count * a.g.vocab) > 1e-2);
    free(read);
    free(logits);
    jt_adapter_free(again);
    adapted_close(&a);
}

/* ---- several ---- */

/* Twice at half the strength is once; and the order does not matter. */
static void check_sum(void **state)
{
    adapted a, b;
    (void)state;
    adapted_open(&a, "llama", "llama-lora");
    adapted_open(&b, "llama", "llama-rslora");
    const float halves[] = {0.5f, 0.5f}, ones[] = {1.0f, 1.0f};
    float *twice =
        adapted_run(&a.g, &exact, (jt_adapter *[]){a.adapter, a.adapter}, halves, 2);
    check_close(&a.g, twice, a.g.logits, tolerance);
    float *ab =
        adapted_run(&a.g, &exact, (jt_adapter *[]){a.adapter, b.adapter}, ones, 2);
    float *ba =
        adapted_run(&a.g, &exact, (jt_adapter *[]){b.adapter, a.adapter}, ones, 2);
    check_close(&a.g, ab, ba, 1e-5);
    assert_true(golden_error(ab, a.g.logits, a.g.count * a.g.vocab) > 0.01);
    free(twice);
    free(ab);
    free(ba);
    adapted_close(&a);
    adapted_close(&b);
}

/* ---- weights of tokens ---- */

/* The first adapter up to a position, the second from there on. */
static void take_turns(void *self, const int32_t *ids, const int32_t *positions,
                       size_t n_tokens, size_t n_adapters, float *weights)
{
    const int32_t *turn = self;
    (void)ids;
    assert_int_equal(n_adapters, 2);
    for (size_t t = 0; t < n_tokens; t++) {
        weights[2 * t] = positions[t] < *turn ? 1.0f : 0.0f;
        weights[2 * t + 1] = 1.0f - weights[2 * t];
    }
}

static float *run_turns(const golden *g, jt_adapter *const both[2], int32_t turn,
                        int chunk)
{
    size_t vocab = g->vocab;
    jt_session_options o = exact;
    jt_session *s;
    jt_err err = {0};
    float *logits = malloc(bytes_of(g));
    o.chunk = chunk;
    adapted_must(jt_session_new(&s, g->model, &o, &err), &err);
    adapted_must(
        jt_session_weigh_adapters(s, &(jt_adapter_weigher){&turn, take_turns}, &err),
        &err);
    for (int i = 0; i < 2; i++)
        adapted_must(jt_session_add_adapter(s, both[i], one, &err), &err);
    for (size_t t = 0; t < g->count; t += (size_t)chunk) { /* the last of each chunk */
        size_t n = g->count - t < (size_t)chunk ? g->count - t : (size_t)chunk;
        adapted_must(jt_session_eval(s, g->tokens + t, n, NULL, &err), &err);
        memcpy(logits + (t + n - 1) * vocab, jt_session_logits(s),
               vocab * sizeof *logits);
    }
    jt_session_free(s);
    return logits;
}

/* Tokens before the turn have the logits of the first adapter, also in a pass that has
 * tokens of both; all tokens of the second, where the turn comes first. */
static void check_weights(void **state)
{
    const one_case *c = *state;
    adapted a, b;
    enum { CHUNK = 6, TURN = 9 };
    adapted_open(&a, c->folder, c->name);
    adapted_open(&b, c->folder, c->name);
    /* the same with the sign turned: another adapter */
    jt_adapter_mix mix = {&a.adapter, &(float){-1.0f}, 1};
    jt_adapter *other;
    jt_err err = {0};
    adapted_must(
        jt_adapter_join(&other, &mix, &(jt_join_options){JT_JOIN_CAT, 0, 0, 0}, &err),
        &err);
    jt_adapter *const both[] = {a.adapter, other};
    size_t vocab = a.g.vocab;
    float *first = adapted_run(&a.g, &exact, &both[0], &one, 1);
    float *second = adapted_run(&a.g, &exact, &both[1], &one, 1);
    float *turned = run_turns(&a.g, both, TURN, CHUNK);
    float *after = run_turns(&a.g, both, 0, CHUNK);
    for (size_t t = CHUNK - 1; t < a.g.count; t += CHUNK) {
        double apart = golden_error(turned + t * vocab, first + t * vocab, vocab);
        assert_true(t < TURN ? apart < 1e-5 : apart > 1e-3);
        assert_true(golden_error(after + t * vocab, second + t * vocab, vocab) < 1e-5);
    }
    free(first);
    free(second);
    free(turned);
    free(after);
    jt_adapter_free(other);
    adapted_close(&a);
    adapted_close(&b);
}

#define CASE(folder, name, gguf)                  \
    {                                             \
        name, check_case, NULL, NULL, &(one_case) \
        {                                         \
            folder, name, gguf                    \
        }                                         \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE("llama", "llama-lora", true),
        CASE("llama", "llama-rslora", true),
        CASE("llama", "llama-dora", false),
        CASE("llama", "llama-shira", false),
        CASE("llama", "llama-ends", true),
        CASE("mixtral", "mixtral-lora", true),
        CASE("mixtral", "mixtral-old", true),
        CASE("qwen3moe", "qwen3moe-lora", true),
        CASE("qwen3moe", "qwen3moe-down", true),
        CASE("qwen2moe", "qwen2moe-dora", false),
        CASE("gpt-oss", "gpt-oss-lora", true),
        CASE("phi3", "phi3-lora", true),
        CASE("llama", "llama-prompt", false),
        CASE("gemma2", "gemma2-prompt", false),
        CASE("granite", "granite-prompt", false),
        CASE("lfm2", "lfm2-prompt", false),
        CASE("qwen3moe", "qwen3moe-ptuning", false),
        CASE("llama", "llama-ptuning", false),
        CASE("llama", "llama-prefix", false),
        CASE("mixtral", "mixtral-prefix", false),
        CASE("phi3", "phi3-prefix", false),
        CASE("gpt-oss", "gpt-oss-prefix", false),
        {"weights", check_weights, NULL, NULL, &(one_case){"llama", "llama-lora", 0}},
        {"weights, ends", check_weights, NULL, NULL,
         &(one_case){"llama", "llama-ends", 0}},
        {"weights, sparse", check_weights, NULL, NULL,
         &(one_case){"llama", "llama-shira", 0}},
        {"weights, experts", check_weights, NULL, NULL,
         &(one_case){"mixtral", "mixtral-lora", 0}},
        cmocka_unit_test(check_tasks),
        cmocka_unit_test(check_sum),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
