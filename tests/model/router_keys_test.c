/* The router's keys: each reaches its slot, each wrong value is refused by name, and
 * null experts, the other forms and Junto's own family run. The files are copies of a
 * golden model with eight experts, two of them used, with other keys. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "junto/junto.h"
#include "model/model.h"

static char path[] = "/tmp/junto-router-XXXXXX";

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 || close(fd) != 0;
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static jt_gguf *open_golden(const char *name)
{
    char file[512];
    jt_gguf *gguf = NULL;
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(file, sizeof file, "%s/golden/%s.gguf", data ? data : "tests", name);
    assert_int_equal(jt_gguf_open(&gguf, file, NULL), JT_OK);
    return gguf;
}

/* One key as text: "u:3", "f:0.5", "b:1", "s:topk". */
typedef struct setting {
    const char *key, *value;
} setting;

static void set(jt_gguf_writer *w, const setting *s)
{
    const char *value = s->value + 2;
    jt_status status = JT_E_ARG;
    if (s->value[0] == 'u')
        status = jt_gguf_set_u32(w, s->key, (uint32_t)strtoul(value, NULL, 10), NULL);
    else if (s->value[0] == 'f')
        status = jt_gguf_set_f32(w, s->key, strtof(value, NULL), NULL);
    else if (s->value[0] == 'b')
        status = jt_gguf_set_bool(w, s->key, value[0] == '1', NULL);
    else
        status = jt_gguf_set_str(w, s->key, value, NULL);
    assert_int_equal(status, JT_OK);
}

static bool is_router(const jt_gguf_tensor *t)
{
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
    return strstr(name, "ffn_gate_inp.weight") != NULL;
}

static jt_dtype router_type = JT_F32;

/* Copy all tensors; routers get `n_null` rows more, copies of their first ones. */
static void copy_tensors(jt_gguf_writer *w, const jt_gguf *source, size_t n_null)
{
    for (size_t i = 0; i < jt_gguf_tensor_count(source); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(source, i);
        uint64_t shape[JT_MAX_DIMS];
        char name[128];
        memcpy(shape, t->shape, sizeof shape);
        shape[0] += is_router(t) ? n_null : 0;
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        jt_dtype dtype = is_router(t) ? router_type : t->dtype;
        assert_int_equal(jt_gguf_add_tensor(w, name, dtype, t->n_dims, shape, NULL),
                         JT_OK);
    }
    for (size_t i = 0; i < jt_gguf_tensor_count(source); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(source, i);
        size_t bytes = is_router(t) && router_type == JT_F16 ? t->bytes / 2 : t->bytes;
        assert_int_equal(jt_gguf_write(w, t->data, bytes, NULL), JT_OK);
        if (is_router(t) && n_null)
            assert_int_equal(
                jt_gguf_write(w, t->data, t->bytes / t->shape[0] * n_null, NULL),
                JT_OK);
    }
}

/* Write a copy of golden model `name`, its architecture renamed to `arch`. */
static void write_model(const char *name, const char *from, const char *arch,
                        const setting *settings, size_t n_null)
{
    jt_gguf *source = open_golden(name);
    jt_gguf_writer *w;
    size_t len = strlen(from);
    assert_int_equal(jt_gguf_writer_new(&w, path, NULL), JT_OK);
    for (size_t i = 0; i < jt_gguf_kv_count(source); i++) {
        const jt_gguf_kv *kv = jt_gguf_kv_at(source, i);
        char key[128];
        bool renamed = kv->key.len > len && memcmp(kv->key.data, from, len) == 0;
        if (renamed)
            snprintf(key, sizeof key, "%s%.*s", arch, (int)(kv->key.len - len),
                     kv->key.data + len);
        assert_int_equal(jt_gguf_set_kv(w, renamed ? key : NULL, kv, NULL), JT_OK);
    }
    assert_int_equal(jt_gguf_set_str(w, "general.architecture", arch, NULL), JT_OK);
    for (; settings && settings->key; settings++)
        set(w, settings);
    copy_tensors(w, source, n_null);
    assert_int_equal(jt_gguf_writer_finish(w, NULL), JT_OK);
    jt_gguf_close(source);
}

static jt_model *load(const char *file)
{
    jt_model *model = NULL;
    jt_err err;
    if (jt_model_load(&model, file, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return model;
}

static jt_model *load_with(const setting *settings, size_t n_null)
{
    write_model("mixtral", "llama", "llama", settings, n_null);
    return load(path);
}

enum { PROMPT = 6 };

/* The sum of the magnitudes of the logits after a short text; checks they are numbers.
 */
static double run(const jt_model *model, float *out)
{
    static const int32_t tokens[PROMPT] = {1, 5, 3, 9, 2, 7};
    jt_session_options options = {.n_ctx = 16, .threads = 1};
    jt_session *session;
    double sum = 0.0;
    assert_int_equal(jt_session_new(&session, model, &options, NULL), JT_OK);
    assert_int_equal(jt_session_eval(session, tokens, PROMPT, NULL, NULL), JT_OK);
    for (int i = 0; i < model->params.n_vocab; i++) {
        float logit = jt_session_logits(session)[i];
        assert_true(isfinite(logit));
        sum += fabs((double)logit);
        if (out)
            out[i] = logit;
    }
    jt_session_free(session);
    return sum;
}

static const jt_router *first_router(const jt_model *model)
{
    for (int i = 0; i < model->params.n_layers; i++) {
        if (model->layers[i].is_mixture)
            return &model->layers[i].mixture.router;
    }
    fail_msg("no mixture layer");
    return NULL;
}

static void defaults(void **state)
{
    (void)state;
    jt_model *model = load_with(NULL, 0);
    const jt_router *r = first_router(model);
    assert_string_equal(r->scorer->name, "linear");
    assert_string_equal(r->selector->name, "topk");
    assert_int_equal(r->n_null, 0);
    assert_false(r->gate_after);
    assert_true(r->renormalise);
    assert_true(r->scale == 1.0f && r->jitter == 0.0f && r->capacity == 0.0f);
    jt_model_free(model);
}

static void keys_reach_their_slots(void **state)
{
    (void)state;
    static const setting settings[] = {{"junto.router.score", "s:cosine"},
                                       {"junto.router.temperature", "f:0.25"},
                                       {"junto.router.select", "s:top_p"},
                                       {"junto.router.top_p", "f:0.75"},
                                       {"junto.router.gate_after", "b:1"},
                                       {"junto.router.null_experts", "u:3"},
                                       {"llama.expert_used_count", "u:4"},
                                       {"llama.expert_weights_norm", "b:0"},
                                       {0}};
    jt_model *model = load_with(settings, 3);
    const jt_router *r = first_router(model);
    assert_string_equal(r->scorer->name, "cosine");
    assert_string_equal(r->selector->name, "top_p");
    assert_true(r->temperature == 0.25f && r->top_p == 0.75f);
    assert_true(r->gate_after);
    assert_false(r->renormalise);
    assert_int_equal(r->n_null, 3);
    assert_int_equal(r->k, 4);
    assert_int_equal(jt_rows(&r->weight), 11);
    assert_true(run(model, NULL) > 0.0);
    jt_model_free(model);
}

static void groups_choose_the_selector(void **state)
{
    (void)state;
    static const setting groups[] = {{"llama.expert_group_count", "u:4"},
                                     {"llama.expert_group_used_count", "u:2"},
                                     {"junto.router.group_best", "u:1"},
                                     {0}};
    jt_model *model = load_with(groups, 0);
    const jt_router *r = first_router(model);
    assert_string_equal(r->selector->name, "group_limited");
    assert_int_equal(r->n_groups, 4);
    assert_int_equal(r->groups_used, 2);
    assert_int_equal(r->group_best, 1);
    assert_true(run(model, NULL) > 0.0);
    jt_model_free(model);

    static const setting one[] = {{"llama.expert_group_count", "u:1"},
                                  {"llama.expert_group_used_count", "u:1"},
                                  {0}};
    model = load_with(one, 0);
    assert_string_equal(first_router(model)->selector->name, "topk");
    jt_model_free(model);

    static const setting even[] = {
        {"llama.expert_group_count", "u:2"}, {"junto.router.select", "s:grouped"}, {0}};
    model = load_with(even, 0);
    assert_string_equal(first_router(model)->selector->name, "grouped");
    assert_true(run(model, NULL) > 0.0);
    jt_model_free(model);
}

/* Null experts cost nothing: the model is the old one and some rows. */
static void null_experts_are_described(void **state)
{
    (void)state;
    static const setting settings[] = {
        {"junto.router.null_experts", "u:4"}, {"llama.expert_used_count", "u:12"}, {0}};
    jt_model_info all, info;
    jt_model *model = load_with(NULL, 0);
    jt_model_describe(model, &all);
    jt_model_free(model);
    model = load_with(settings, 4);
    jt_model_describe(model, &info);
    uint64_t rows = (uint64_t)(4 * info.d_model * info.n_moe_layers);
    assert_int_equal(info.n_experts, 8);
    assert_int_equal(info.n_experts_used, 8);
    assert_int_equal(info.n_params, all.n_params + rows);
    uint64_t expert = 3 * (uint64_t)(info.expert_width * info.d_model);
    assert_int_equal(info.n_active_params,
                     all.n_active_params + rows +
                         6 * expert * (uint64_t)info.n_moe_layers);
    assert_true(run(model, NULL) > 0.0);
    jt_model_free(model);
}

/* The same numbers under Junto's own name. */
static void junto_family(void **state)
{
    (void)state;
    static const setting norm[] = {{"junto.expert_weights_norm", "b:1"}, {0}};
    float expected[4096], logits[4096];
    write_model("qwen3moe", "qwen3moe", "qwen3moe", NULL, 0);
    jt_model *model = load(path);
    assert_in_range(model->params.n_vocab, 1, 4096);
    run(model, expected);
    jt_model_free(model);
    write_model("qwen3moe", "qwen3moe", "junto", norm, 0);
    model = load(path);
    assert_string_equal(model->family->arch, "junto");
    run(model, logits);
    assert_memory_equal(logits, expected,
                        (size_t)model->params.n_vocab * sizeof(float));
    jt_model_free(model);
}

static void expect_refusal(const setting *settings, const char *culprit)
{
    jt_model *model = NULL;
    jt_err err = {0};
    write_model("mixtral", "llama", "llama", settings, 0);
    if (jt_model_load(&model, path, &err) == JT_OK)
        fail_msg("loaded, with '%s'", culprit);
    assert_int_equal(err.code, JT_E_FORMAT);
    if (!strstr(err.msg, culprit))
        fail_msg("'%s' does not say '%s'", err.msg, culprit);
}

static void wrong_keys_are_refused(void **state)
{
    (void)state;
    static const struct {
        setting with[4];
        const char *culprit;
    } cases[] = {
        {{{"junto.router.score", "s:tarot"}}, "'tarot' (known: linear, cosine)"},
        {{{"junto.router.score", "u:1"}}, "'junto.router.score' is not a text"},
        {{{"junto.router.select", "s:"}}, "known: topk, top_p, grouped, group_limited"},
        {{{"junto.router.select", "s:topkk"}}, "'junto.router.select' is 'topkk'"},
        {{{"junto.router.temperature", "f:0"}}, "junto.router.temperature"},
        {{{"junto.router.temperature", "f:nan"}}, "junto.router.temperature"},
        {{{"junto.router.temperature", "s:hot"}}, "junto.router.temperature"},
        {{{"junto.router.top_p", "f:-1"}}, "junto.router.top_p"},
        {{{"junto.router.top_p", "f:1.5"}, {"junto.router.select", "s:top_p"}},
         "top_p is 1.5"},
        {{{"junto.router.gate_after", "s:yes"}}, "not true or false"},
        {{{"llama.expert_weights_norm", "f:0.5"}}, "not true or false"},
        {{{"junto.router.null_experts", "u:4000000000"}}, "junto.router.null_experts"},
        {{{"junto.router.null_experts", "u:2"}}, "ffn_gate_inp.weight"},
        {{{"llama.expert_used_count", "u:9"}}, "llama.expert_used_count"},
        {{{"llama.expert_group_count", "u:9"}}, "llama.expert_group_count"},
        {{{"llama.expert_group_count", "u:4"}}, "0 groups used"},
        {{{"llama.expert_group_count", "u:3"},
          {"llama.expert_group_used_count", "u:2"}},
         "8 experts do not go into 3 equal groups"},
        {{{"llama.expert_group_count", "u:4"},
          {"llama.expert_group_used_count", "u:5"}},
         "llama.expert_group_used_count"},
        {{{"llama.expert_group_count", "u:8"},
          {"llama.expert_group_used_count", "u:1"}},
         "2 experts of a token do not fit"},
        {{{"junto.router.select", "s:grouped"}}, "0 equal groups"},
        {{{"junto.router.select", "s:grouped"}, {"llama.expert_group_count", "u:4"}},
         "cannot come evenly from 4 groups"},
        {{{"junto.router.select", "s:expert_choice"},
          {"junto.router.null_experts", "u:1"}},
         "null experts cannot choose"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(cases[i].with, cases[i].culprit);
    static const setting cosine[] = {{"junto.router.score", "s:cosine"}, {0}};
    router_type = JT_F16; /* fine for a product, not for lengths */
    expect_refusal(cosine, "has type F16, expected F32");
    jt_model_free(load_with(NULL, 0));
    router_type = JT_F32;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(keys_reach_their_slots),
        cmocka_unit_test(groups_choose_the_selector),
        cmocka_unit_test(null_experts_are_described),
        cmocka_unit_test(junto_family),
        cmocka_unit_test(wrong_keys_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
