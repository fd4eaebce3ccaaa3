/* Routed mixtures of adapters: the gradient of every part against central differences
 * of the loss, with and without checkpointing; what is fresh or off changes no bit;
 * what a session gives does not depend on chunks; a way through a file. And formulas: a
 * mixture whose decision is known equals the adapters that it stands for. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mixed.h"
#include "base/random.h"
#include "junto/safetensors.h"
#include "learn/gate_loss.h"
#include "learn/tuning.h"
#include "scratch.h"
#include "store/mapped.h"
#include "tensor/loss.h"
#include "tensor/tape.h"

enum { MOST = 64 };

typedef struct training {
    golden g;
    jt_context ctx;
    jt_cache cache;
    jt_tuning *tuning;
    jt_variables v;
    int32_t targets[MOST], positions[MOST], first[MOST], source[MOST];
} training;

static void pack(training *tr)
{
    assert_in_range(tr->g.count, MIXED_DOCUMENT + 2, MOST);
    for (size_t t = 0; t < tr->g.count; t++) {
        int32_t start = t < MIXED_DOCUMENT ? 0 : MIXED_DOCUMENT;
        bool last = t + 1 == MIXED_DOCUMENT || t + 1 == tr->g.count;
        tr->first[t] = start;
        tr->positions[t] = (int32_t)t - start;
        tr->targets[t] = last ? -1 : tr->g.tokens[t + 1];
        tr->source[t] = t >= MIXED_DOCUMENT;
    }
}

static void begin(training *tr, jt_config *config)
{
    jt_err err = {0};
    pack(tr);
    assert_int_equal(jt_context_init(&tr->ctx, 2, NULL, NULL), JT_OK);
    assert_int_equal(
        jt_cache_init_train(&tr->cache, tr->g.model, 1, tr->g.count, false, NULL),
        JT_OK);
    adapted_must(jt_tuning_new(&tr->tuning, config, tr->g.model, &tr->ctx, &err), &err);
    adapted_must(jt_tuning_variables(tr->tuning, &tr->v, &err), &err);
    mixed_shake(&tr->v);
}

static void end(training *tr)
{
    jt_variables_free(&tr->v);
    jt_tuning_free(tr->tuning);
    jt_cache_free(&tr->cache);
    jt_context_free(&tr->ctx);
}

typedef enum mode { LOSS, GRADIENTS, CHECKPOINTED } mode;

static double loss_of(training *tr, mode how)
{
    static const jt_hooks none;
    jt_context *ctx = &tr->ctx;
    jt_tape tape = {0};
    ctx->tape = how == LOSS ? NULL : &tape;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_span span = {&tr->cache, 0, tr->g.count};
    jt_chunk chunk = {.spans = &span,
                      .n_spans = 1,
                      .ids = tr->g.tokens,
                      .positions = tr->positions,
                      .first = tr->first,
                      .count = tr->g.count,
                      .all_logits = true,
                      .checkpoint = how == CHECKPOINTED};
    jt_tensor logits = jt_attached_forward(&tr->tuning->attached, ctx, tr->g.model,
                                           &chunk, &jt_store_mapped, &none);
    double loss = jt_cross_entropy(ctx, &logits, tr->targets, 1.0f, NULL);
    if (how != LOSS)
        jt_tape_backward(ctx);
    if (jt_failed(ctx))
        fail_msg("%s", ctx->err.msg);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    return loss;
}

/* A step so small that no token chooses other adapters. */
static double check_parameter(training *tr, const jt_param *p, jt_rng *rng)
{
    const float step = 2e-4f;
    size_t n = p->count * p->rows * p->cols;
    float *origin = malloc(n * sizeof *origin), *direction = malloc(n * sizeof *origin);
    double slope = 0.0, size = 0.0, loss[2];
    memcpy(origin, p->value, n * sizeof *origin);
    jt_rng_normals(rng, direction, n);
    for (size_t i = 0; i < n; i++) {
        slope += (double)p->grad[i] * direction[i];
        size += pow((double)p->grad[i], 2.0);
    }
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++)
            p->value[i] = origin[i] + (side ? -step : step) * direction[i];
        loss[side] = loss_of(tr, LOSS);
    }
    memcpy(p->value, origin, n * sizeof *origin);
    double measured = (loss[0] - loss[1]) / (2.0 * (double)step);
    if (fabs(measured - slope) > 1e-3 * sqrt(size) + 5e-3)
        fail_msg("%s: gradient says %.6g, difference %.6g (norm %.3g)", p->name, slope,
                 measured, sqrt(size));
    free(origin);
    free(direction);
    return size;
}

static void check_gradients(const char *model, jt_config *config)
{
    training tr = {0};
    jt_rng rng = {.seed = 11};
    double deciding = 0.0, adapters = 0.0;
    golden_open(&tr.g, model);
    begin(&tr, config);
    if (strcmp(config->adapter.kind, "phi-4") == 0)
        mixed_mark(tr.tuning, &tr.g);
    loss_of(&tr, GRADIENTS);
    for (size_t i = 0; i < tr.v.count; i++) {
        const jt_param *p = &tr.v.list[i];
        bool decides = strstr(p->name, "gate") || strstr(p->name, "head");
        *(decides ? &deciding : &adapters) += check_parameter(&tr, p, &rng);
    }
    assert_true(adapters > 0.0);
    assert_true(strcmp(config->adapter.kind, "phi-4") == 0 || deciding > 0.0);
    float *kept = malloc(tr.v.values * sizeof *kept);
    memcpy(kept, tr.v.grad, tr.v.values * sizeof *kept);
    memset(tr.v.grad, 0, tr.v.values * sizeof *kept);
    loss_of(&tr, CHECKPOINTED);
    assert_memory_equal(tr.v.grad, kept, tr.v.values * sizeof *kept);
    free(kept);
    end(&tr);
    golden_close(&tr.g);
}

static void test_gradients(void **state)
{
    static const struct {
        const char *kind;
        int top_k;
    } all[] = {{"mixlora", 2}, {"meteora", 2}, {"lora-mixer", 3},
               {"k-shot", 2},  {"x-lora", 0},  {"phi-4", 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        jt_config config = mixed_config(all[i].kind);
        jt_config_part parts[MIXED_PARTS] = {{"", "", ""}, {"", "", ""}, {"", "", ""}};
        config.adapter.top_k = all[i].top_k;
        if (strcmp(all[i].kind, "phi-4") == 0) {
            config.adapter.part = parts;
            config.adapter.n_parts = MIXED_PARTS;
        }
        print_message("  %s, k %d\n", all[i].kind, all[i].top_k);
        check_gradients(*state, &config);
    }
}

/* ---- losses on gates ---- */

enum { GATE_TOKENS = 7, GATE_EXPERTS = 4 };

/* The loss as gate_loss.h has it, of one gate with these logits. */
static double gate_loss(const jt_gate_loss *l, const float *logits, const double *share)
{
    double loss = 0.0, mean[GATE_EXPERTS] = {0};
    int labelled = 0;
    for (int t = 0; t < GATE_TOKENS; t++)
        labelled += l->label[t] >= 0;
    for (int t = 0; t < GATE_TOKENS; t++) {
        const float *x = logits + t * GATE_EXPERTS;
        double sum = 0.0;
        int label = l->label[t];
        for (int e = 0; e < GATE_EXPERTS; e++)
            sum += exp((double)x[e]);
        for (int e = 0; e < GATE_EXPERTS; e++) {
            double p = exp((double)x[e]) / sum;
            mean[e] += p / GATE_TOKENS;
            loss -= l->lambda * p * log(p) / GATE_TOKENS;
            loss -= e == label ? l->beta * log(p) / labelled : 0.0;
        }
    }
    for (int e = 0; e < GATE_EXPERTS; e++)
        loss += l->alpha * mean[e] * share[e];
    return loss / l->gates;
}

static void test_gate_loss(void **state)
{
    static const int32_t label[GATE_TOKENS] = {2, -1, 0, 2, -1, 0, 2};
    static const jt_hooks none;
    jt_gate_loss l = {.beta = 0.7f,
                      .alpha = 0.9f,
                      .lambda = 0.4f,
                      .gates = 3,
                      .n = GATE_EXPERTS,
                      .k = 2,
                      .label = label,
                      .scale = 1.0f};
    jt_route_term term = jt_gate_loss_term(&l);
    jt_router r = {.selector = jt_selector_find("topk"),
                   .n_experts = GATE_EXPERTS,
                   .k = 2,
                   .scale = 1.0f};
    jt_route_site site = {0};
    jt_context ctx;
    jt_tape tape = {0};
    double share[GATE_EXPERTS] = {0};
    jt_rng rng = {.seed = 5};
    (void)state;
    assert_int_equal(jt_context_init(&ctx, 1, NULL, NULL), JT_OK);
    ctx.tape = &tape;
    jt_tensor logits = jt_new(&ctx, GATE_TOKENS, GATE_EXPERTS);
    jt_tensor scores = jt_new(&ctx, GATE_TOKENS, GATE_EXPERTS);
    jt_route route = jt_route_new(&ctx, GATE_TOKENS, GATE_EXPERTS, 2);
    float *x = logits.data;
    jt_rng_normals(&rng, x, GATE_TOKENS * GATE_EXPERTS);
    jt_router_select(&ctx, &r, &none, &site, &logits, &scores, &route);
    term.add(term.self, &ctx, &site, &r, &logits, &scores, &route);
    jt_tape_backward(&ctx);
    for (int i = 0; i < 2 * GATE_TOKENS; i++)
        share[route.expert[i]] += 1.0 / (2 * GATE_TOKENS);
    for (int i = 0; i < GATE_TOKENS * GATE_EXPERTS; i++) {
        const float step = 1e-3f;
        float kept = x[i];
        x[i] = kept + step;
        double up = gate_loss(&l, x, share);
        x[i] = kept - step;
        double slope = (up - gate_loss(&l, x, share)) / (2.0 * (double)step);
        x[i] = kept;
        assert_float_equal(logits.grad[i], slope, 1e-5);
    }
    ctx.tape = NULL;
    term.add(term.self, &ctx, &site, &r, &logits, &scores, &route);
    assert_true(l.tokens == GATE_TOKENS && l.labelled == 5.0 && l.entropy > 0.0);
    jt_context_free(&ctx);
}

/* Tokens of a source that somebody owns are his; of others they are his whose marker
 * came last in the document. */
static void test_labels(void **state)
{
    training tr;
    jt_config config = mixed_config("meteora");
    const int32_t owner[] = {-1, 2};
    (void)state;
    golden_open(&tr.g, "llama");
    begin(&tr, &config);
    mixed_mark(tr.tuning, &tr.g);
    tr.tuning->owner = malloc(sizeof owner);
    tr.tuning->label = malloc(tr.g.count * sizeof(int32_t));
    assert_true(tr.tuning->owner && tr.tuning->label);
    memcpy(tr.tuning->owner, owner, sizeof owner);
    jt_batch batch = {.n_seqs = 1,
                      .seq_len = tr.g.count,
                      .tokens = (int32_t *)tr.g.tokens,
                      .targets = tr.targets,
                      .positions = tr.positions,
                      .first = tr.first,
                      .domains = tr.source};
    jt_tuning_batch(tr.tuning, &batch, 0.0f);
    for (int t = 0; t < (int)tr.g.count; t++) {
        int is = t >= MIXED_DOCUMENT ? 2 : t >= 3 ? 0 : -1;
        assert_int_equal(tr.tuning->loss.label[t], is);
    }
    tr.tuning->owner[1] = -1; /* now the second document begins with nobody's */
    jt_tuning_batch(tr.tuning, &batch, 0.0f);
    assert_int_equal(tr.tuning->loss.label[MIXED_DOCUMENT - 1], 0);
    assert_int_equal(tr.tuning->loss.label[MIXED_DOCUMENT], -1);
    assert_int_equal(tr.tuning->loss.label[MIXED_DOCUMENT + 1], 1);
    assert_int_equal(tr.tuning->loss.label[tr.g.count - 1], 1);
    end(&tr);
    golden_close(&tr.g);
}

/* ---- sessions ---- */

static const jt_session_options exact = {.cpu = "scalar", .kv_type = "f32"};
static const float one = 1.0f;

static size_t bytes_of(const golden *g)
{
    return g->count * g->vocab * sizeof(float);
}

/* Fresh or off: not one bit. At work: the same bits for any chunk; and it works. */
static void check_session(const golden *g, const char *kind, const float *plain)
{
    static const float nothing = 0.0f;
    jt_adapter *fresh, *shaken;
    mixed_open(&fresh, g, kind, true);
    mixed_open(&shaken, g, kind, false);
    jt_adapter_info info;
    jt_adapter_describe(shaken, &info);
    assert_string_equal(info.method, kind);
    assert_int_equal(info.n_mixed, MIXED_PARTS);
    float *same = adapted_run(g, &exact, &fresh, &one, 1);
    assert_memory_equal(same, plain, bytes_of(g));
    float *off = adapted_run(g, &exact, &shaken, &nothing, 1);
    assert_memory_equal(off, plain, bytes_of(g));
    float *all = adapted_run(g, &exact, &shaken, &one, 1);
    assert_true(golden_error(all, plain, g->count * g->vocab) > 1e-3);
    jt_session_options pieces = exact;
    pieces.chunk = 5;
    pieces.threads = 2;
    float *some = adapted_run(g, &pieces, &shaken, &one, 1);
    assert_memory_equal(some, all, bytes_of(g));
    free(same);
    free(off);
    free(all);
    free(some);
    jt_adapter_free(fresh);
    jt_adapter_free(shaken);
}

static void test_sessions(void **state)
{
    static const char *const kinds[] = {"mixlora", "meteora", "lora-mixer",
                                        "k-shot",  "x-lora",  "phi-4"};
    golden g;
    golden_open(&g, *state);
    float *plain = adapted_run(&g, &exact, NULL, NULL, 0);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        print_message("  %s\n", kinds[i]);
        check_session(&g, kinds[i], plain);
    }
    free(plain);
    golden_close(&g);
}

/* ---- known decisions ---- */

/* The adapter of `file` as a mixture: alone (a gate has no choice), or by a rule. */
static void mix(jt_adapter **out, const adapted *a, const char *file, const char *kind,
                const int32_t *marker)
{
    char path[512], saved[256];
    jt_err err = {0};
    jt_config config = mixed_config(kind);
    jt_config_part part = {golden_path(path, sizeof path, file), "", ""};
    jt_context ctx;
    jt_tuning *tuning;
    config.adapter.part = &part;
    config.adapter.n_parts = 1;
    assert_int_equal(jt_context_init(&ctx, 1, NULL, NULL), JT_OK);
    adapted_must(jt_tuning_new(&tuning, &config, a->g.model, &ctx, &err), &err);
    if (marker)
        jt_blend_set_markers(tuning->adapter->blend, 0, marker, 1, NULL);
    snprintf(saved, sizeof saved, "%s/mixture.safetensors", scratch_dir.dir);
    adapted_must(jt_adapter_save(tuning->adapter, saved, JT_ADAPTER_JUNTO, NULL, &err),
                 &err);
    adapted_must(jt_adapter_open(out, saved, a->g.model, &err), &err);
    remove(saved);
    jt_tuning_free(tuning);
    jt_context_free(&ctx);
}

/* One adapter alone has the weight 1; one that a rule calls does all, else nothing. */
static void test_known(void **state)
{
    static const char file[] = "../adapters/llama-lora";
    adapted a;
    jt_adapter *mixture;
    (void)state;
    adapted_open(&a, "llama", "llama-lora");
    size_t n = a.g.count * a.g.vocab;
    int32_t unknown = a.g.tokens[0];
    for (size_t i = 0; i < a.g.count; i++) /* a token that is not there */
        unknown =
            unknown == a.g.tokens[i] ? (unknown + 1) % (int32_t)a.g.vocab : unknown;
    mix(&mixture, &a, file, "meteora", NULL);
    float *logits = adapted_run(&a.g, &exact, &mixture, &one, 1);
    assert_true(golden_error(logits, a.g.logits, n) < 1e-4);
    free(logits);
    jt_adapter_free(mixture);
    mix(&mixture, &a, file, "phi-4", &a.g.tokens[a.g.count - 1]);
    logits = adapted_run(&a.g, &exact, &mixture, &one, 1);
    assert_true(golden_error(logits, a.g.logits, n) < 1e-4);
    free(logits);
    jt_adapter_free(mixture);
    float *plain = adapted_run(&a.g, &exact, NULL, NULL, 0);
    mix(&mixture, &a, file, "phi-4", &unknown);
    logits = adapted_run(&a.g, &exact, &mixture, &one, 1);
    assert_memory_equal(logits, plain, bytes_of(&a.g));
    free(logits);
    free(plain);
    jt_adapter_free(mixture);
    adapted_close(&a);
}

/* ---- bad files ---- */

/* A file of one weight, with what is wrong in it. */
static void write_bad(const char *name, const char *top_k, uint64_t rows, float value)
{
    static const char *const meta[][2] = {
        {"junto.adapter", "1"},         {"junto.adapter.kind", "lora"},
        {"junto.adapter.family", ""},   {"junto.adapter.model", "0"},
        {"junto.adapter.alpha", "1"},   {"junto.mix.method", "meteora"},
        {"junto.mix.count", "2"},       {"junto.mix.scale", "1"},
        {"junto.mix.temperature", "1"}, {"junto.mix.gate_after", "1"},
        {"junto.mix.names", "a\nb"}};
    const uint64_t a[] = {2, 1, 48}, b[] = {2, rows, 1}, gate[] = {2, 48};
    const size_t values[] = {96, 2 * (size_t)rows, 96};
    float *zeros = calloc(2 * (size_t)rows + 96, sizeof *zeros);
    jt_safetensors_writer *w;
    assert_int_equal(jt_safetensors_writer_new(&w, scratch_dir.dir, UINT64_MAX, NULL),
                     JT_OK);
    assert_int_equal(jt_safetensors_set_name(w, name, NULL), JT_OK);
    for (size_t i = 0; i < sizeof meta / sizeof *meta; i++)
        jt_safetensors_set_metadata(w, meta[i][0], meta[i][1], NULL);
    if (top_k)
        jt_safetensors_set_metadata(w, "junto.mix.top_k", top_k, NULL);
    jt_safetensors_add(w, "blk.0.attn_q.weight.mix_a", JT_ST_F32, 3, a, NULL);
    jt_safetensors_add(w, "blk.0.attn_q.weight.mix_b", JT_ST_F32, 3, b, NULL);
    jt_safetensors_add(w, "blk.0.attn_q.weight.mix_gate", JT_ST_F32, 2, gate, NULL);
    zeros[0] = value;
    for (int i = 0; i < 3; i++)
        jt_safetensors_write(w, zeros, values[i] * sizeof *zeros, NULL);
    assert_int_equal(jt_safetensors_writer_finish(w, NULL), JT_OK);
    free(zeros);
}

static void test_bad_files(void **state)
{
    static const struct {
        const char *top_k;
        uint64_t rows;
        float value;
        const char *wrong;
    } all[] = {{"2", 48, 0.0f, NULL},
               {NULL, 48, 0.0f, "'junto.mix.top_k' is missing"},
               {"3", 48, 0.0f, "3 of 2 adapters"},
               {"x", 48, 0.0f, "expected a number"},
               {"2", 49, 0.0f, "the model has [1, 48, 48]"},
               {"2", 48, NAN, "not finite"}};
    golden g;
    (void)state;
    golden_open(&g, "llama");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char path[256];
        jt_err err = {0};
        jt_adapter *adapter;
        snprintf(path, sizeof path, "%s/bad.safetensors", scratch_dir.dir);
        write_bad("bad.safetensors", all[i].top_k, all[i].rows, all[i].value);
        jt_status status = jt_adapter_open(&adapter, path, g.model, &err);
        remove(path);
        if ((status == JT_OK) != (all[i].wrong == NULL))
            fail_msg("case %zu: %s", i, err.msg);
        if (status == JT_OK)
            jt_adapter_free(adapter);
        else if (!strstr(err.msg, all[i].wrong))
            fail_msg("'%s' does not say '%s'", err.msg, all[i].wrong);
    }
    golden_close(&g);
}

/* ---- peft ---- */

static void test_xlora(void **state)
{
    adapted a;
    adapted_open(&a, "llama", *state);
    float *logits = adapted_run(&a.g, &exact, &a.adapter, &one, 1);
    double error = golden_error(logits, a.g.logits, a.g.count * a.g.vocab);
    print_message("  %s: error %.2e\n", (const char *)*state, error);
    assert_true(error < 1e-4);
    free(logits);
    adapted_close(&a);
}

#define MODEL(name, check)                                          \
    {                                                               \
#check " " name, check, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        MODEL("llama", test_gradients),   MODEL("phi3", test_gradients),
        MODEL("llama", test_sessions),    MODEL("qwen2", test_sessions),
        MODEL("llama-xlora", test_xlora), MODEL("llama-xlora-top", test_xlora),
        cmocka_unit_test(test_gate_loss), cmocka_unit_test(test_labels),
        cmocka_unit_test(test_known),     cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
