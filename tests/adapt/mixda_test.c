/* MixDA: the loss that keeps old behaviour against differences; files; stage two, whose
 * domain adapters stay. Gradients of the other loss are in grad_test.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "adapted.h"
#include "base/random.h"
#include "learn/tuning.h"
#include "model/bind.h"
#include "model/model.h"
#include "scratch.h"
#include "store/mapped.h"
#include "tensor/tape.h"

enum { RANK = 3, WIDTH = 5, MOST = 64, LAYERS = 2 };

static golden g;

static int open_model(void **state)
{
    (void)state;
    golden_open(&g, "llama");
    assert_int_equal(g.model->params.n_layers, LAYERS);
    assert_in_range(g.count, 8, MOST);
    return scratch_setup(state);
}

static int close_model(void **state)
{
    golden_close(&g);
    return scratch_teardown(state);
}

typedef struct training {
    jt_context ctx;
    jt_cache cache;
    jt_tuning *tuning;
    jt_variables v;
    int32_t positions[MOST], targets[MOST], domains[MOST];
} training;

static jt_config_adapter stage_one(void)
{
    return (jt_config_adapter){.kind = "mixda",
                               .init = "",
                               .target = "ffn_",
                               .rank = RANK,
                               .alpha = 1.0,
                               .head_width = WIDTH,
                               .keep_from = 1,
                               .keep = 1.5};
}

static void begin(training *t, const jt_config *config, bool shake)
{
    jt_err err = {0};
    jt_rng rng = {.seed = 3};
    assert_int_equal(jt_context_init(&t->ctx, 2, NULL, NULL), JT_OK);
    assert_int_equal(jt_cache_init_train(&t->cache, g.model, 1, g.count, false, NULL),
                     JT_OK);
    adapted_must(jt_tuning_new(&t->tuning, config, g.model, &t->ctx, &err), &err);
    adapted_must(jt_tuning_variables(t->tuning, &t->v, &err), &err);
    for (size_t i = 0; i < t->v.count && shake; i++) {
        for (size_t j = 0; j < t->v.list[i].rows * t->v.list[i].cols; j++)
            t->v.list[i].value[j] = 0.3f * jt_rng_normal(&rng);
    }
    for (size_t i = 0; i < g.count; i++) {
        t->positions[i] = (int32_t)i;
        t->targets[i] = 7;
        t->domains[i] = i % 3 == 0;
    }
}

static void end(training *t)
{
    jt_variables_free(&t->v);
    jt_tuning_free(t->tuning);
    jt_cache_free(&t->cache);
    jt_context_free(&t->ctx);
}

/* ---- keeping ---- */

typedef struct states {
    float *h[LAYERS];
} states;

static void keep_state(void *user, int layer, const jt_tensor *h)
{
    states *s = user;
    memcpy(s->h[layer], h->data, jt_rows(h) * jt_cols(h) * sizeof(float));
}

/* A pass; what comes out of each layer. */
static void run(training *t, states *s, bool back)
{
    static const jt_hooks none;
    jt_tape tape = {0};
    t->ctx.tape = back ? &tape : NULL;
    jt_arena_mark mark = jt_arena_save(&t->ctx.scratch);
    jt_span span = {&t->cache, 0, g.count};
    jt_chunk chunk = {.spans = &span,
                      .n_spans = 1,
                      .ids = g.tokens,
                      .positions = t->positions,
                      .count = g.count,
                      .all_logits = true,
                      .on_layer = s ? keep_state : NULL,
                      .user = s};
    jt_attached_forward(&t->tuning->attached, &t->ctx, g.model, &chunk,
                        &jt_store_mapped, &none);
    if (back)
        jt_tape_backward(&t->ctx);
    if (jt_failed(&t->ctx))
        fail_msg("%s", t->ctx.err.msg);
    t->ctx.tape = NULL;
    jt_arena_rewind(&t->ctx.scratch, mark);
}

/* The slot of a layer at work or not; what it was. */
static int32_t swap(training *t, int layer, int32_t slot)
{
    jt_attachment *at = &t->tuning->attached.list[0];
    const char *name = t->tuning->adapter->slot[layer].target;
    int32_t *place =
        &at->slot[jt_weight_number(g.model->file, jt_gguf_find(g.model->file, name))];
    int32_t before = *place;
    *place = slot;
    return before;
}

/* 1.5 times the mean over slots, kept tokens and values of the square of what the slot
 * of a layer changes there, those before being at work. */
static double kept_loss(training *t, states *with, states *without)
{
    size_t d = (size_t)g.model->params.d_model, kept = 0;
    double sum = 0.0;
    run(t, with, false);
    for (int layer = 0; layer < LAYERS; layer++) {
        int32_t slot = swap(t, layer, -1);
        run(t, without, false);
        swap(t, layer, slot);
        for (size_t i = 0; i < g.count * d; i++) {
            double apart = (double)with->h[layer][i] - without->h[layer][i];
            sum += t->domains[i / d] ? apart * apart : 0.0;
        }
    }
    for (size_t i = 0; i < g.count; i++)
        kept += (size_t)t->domains[i];
    return 1.5 * sum / (double)(LAYERS * kept * d);
}

static void check_keeping(void **state)
{
    const float step = 3e-4f;
    training t = {0};
    states with, without;
    jt_config config = {.adapter = stage_one(),
                        .data = {.n_sources = 2, .seq_len = (int)g.count},
                        .train = {.batch = 1}};
    jt_batch batch = {.n_seqs = 1,
                      .seq_len = g.count,
                      .targets = t.targets,
                      .positions = t.positions,
                      .first = t.positions,
                      .domains = t.domains};
    jt_rng rng = {.seed = 9};
    (void)state;
    begin(&t, &config, true);
    assert_int_equal(t.tuning->adapter->count, LAYERS);
    for (int i = 0; i < LAYERS; i++) {
        with.h[i] = malloc(g.count * (size_t)g.model->params.d_model * sizeof(float));
        without.h[i] =
            malloc(g.count * (size_t)g.model->params.d_model * sizeof(float));
    }
    jt_tuning_batch(t.tuning, &batch, 1.0f);
    for (size_t i = 0; i < g.count; i++)
        assert_int_equal(t.targets[i], t.domains[i] ? -1 : 7);
    run(&t, NULL, true);
    for (size_t i = 0; i < t.v.count; i++) {
        const jt_param *p = &t.v.list[i];
        size_t n = p->rows * p->cols;
        float *direction = malloc(n * sizeof *direction);
        double slope = 0.0, loss[2];
        jt_rng_normals(&rng, direction, n);
        for (size_t j = 0; j < n; j++)
            slope += (double)p->grad[j] * direction[j];
        for (int side = 0; side < 2; side++) {
            float by = side ? -step : step;
            for (size_t j = 0; j < n; j++)
                p->value[j] += by * direction[j];
            loss[side] = kept_loss(&t, &with, &without);
            for (size_t j = 0; j < n; j++)
                p->value[j] -= by * direction[j];
        }
        double measured = (loss[0] - loss[1]) / (2.0 * (double)step);
        if (fabs(measured - slope) > 2e-3 * fabs(slope) + 2e-4)
            fail_msg("%s: gradient says %.6g, difference %.6g", p->name, slope,
                     measured);
        free(direction);
    }
    for (int i = 0; i < LAYERS; i++) {
        free(with.h[i]);
        free(without.h[i]);
    }
    end(&t);
}

/* ---- files and stage two ---- */

static jt_adapter *through_file(const jt_adapter *a, const char *path)
{
    jt_adapter *b;
    jt_err err = {0};
    adapted_must(jt_adapter_save(a, path, JT_ADAPTER_JUNTO, NULL, &err), &err);
    adapted_must(jt_adapter_open(&b, path, g.model, &err), &err);
    return b;
}

/* Two domains: both adapters as they were, frozen; a task adapter that begins as none;
 * one gate of three. With one domain its gate stays, and so does what it gives. */
static void check_stage_two(void **state)
{
    static const float one = 1.0f;
    char path[300];
    training t = {0}, u = {0};
    jt_config config = {.adapter = stage_one(), .data = {.n_sources = 2}};
    jt_config_part parts[2] = {{path, "", ""}, {path, "", ""}};
    (void)state;
    config.adapter.keep_from = 0;
    snprintf(path, sizeof path, "%s/domain.safetensors", scratch_dir.dir);
    begin(&t, &config, true);
    jt_adapter *first = through_file(t.tuning->adapter, path);
    float *x = adapted_run(&g, NULL, &t.tuning->adapter, &one, 1);
    float *y = adapted_run(&g, NULL, &first, &one, 1);
    assert_memory_equal(x, y, g.count * g.vocab * sizeof *x);
    free(y);
    config.adapter.part = parts;
    config.adapter.n_parts = 1;
    config.adapter.rank = 2;
    begin(&u, &config, false);
    y = adapted_run(&g, NULL, &u.tuning->adapter, &one, 1);
    assert_true(golden_error(x, y, g.count * g.vocab) < 1e-6);
    free(x);
    free(y);
    end(&u);
    u = (training){0};
    config.adapter.n_parts = 2;
    begin(&u, &config, false);
    const jt_adapter_slot *s = &u.tuning->adapter->slot[1];
    assert_int_equal(s->rank, 2 * RANK + 2);
    assert_int_equal(s->frozen, 2 * RANK);
    assert_memory_equal(jt_row(&s->part[JT_LOW_A], RANK),
                        first->slot[1].part[JT_LOW_A].data,
                        RANK * s->cols * sizeof(float));
    assert_int_equal(jt_rows(&s->part[JT_MIXDA_GATE + 6]), 3);
    assert_int_equal(jt_rows(&s->part[JT_MIXDA_B_BIAS]), 3);
    for (size_t i = 0; i < u.v.values; i++)
        u.v.grad[i] = 1.0f;
    jt_tuning_end(u.tuning);
    assert_true(s->part[JT_LOW_A].grad[0] == 0.0f);
    assert_true(s->part[JT_LOW_A].grad[2 * RANK * s->cols] == 1.0f);
    assert_true(s->part[JT_MIXDA_A_BIAS].grad[2 * RANK - 1] == 0.0f);
    assert_true(s->part[JT_MIXDA_A_BIAS].grad[2 * RANK] == 1.0f);
    assert_true(jt_grad_row(&s->part[JT_MIXDA_B_BIAS], 1)[s->rows - 1] == 0.0f);
    assert_true(jt_grad_row(&s->part[JT_MIXDA_B_BIAS], 2)[0] == 1.0f);
    assert_true(s->part[JT_MIXDA_GATE].grad[0] == 1.0f);
    jt_adapter_free(through_file(u.tuning->adapter, path));
    jt_adapter_free(first);
    end(&t);
    end(&u);
}

/* A task adapter is no domain adapter, and settings must go with the tensors. */
static void check_refusals(void **state)
{
    char path[300];
    training t = {0};
    jt_config config = {.adapter = stage_one(), .data = {.n_sources = 2}};
    jt_config_part part = {path, "", ""};
    jt_adapter *a;
    jt_tuning *other;
    jt_err err = {0};
    (void)state;
    config.adapter.keep_from = 0;
    snprintf(path, sizeof path, "%s/domain.safetensors", scratch_dir.dir);
    begin(&t, &config, false);
    t.tuning->adapter->setting[JT_MIXDA_DOMAINS] = 2.0f;
    adapted_must(jt_adapter_save(t.tuning->adapter, path, JT_ADAPTER_JUNTO, NULL, &err),
                 &err);
    assert_int_equal(jt_adapter_open(&a, path, g.model, &err), JT_E_FORMAT);
    assert_non_null(strstr(err.msg, "3 ranks for 2 domains"));
    t.tuning->adapter->setting[JT_MIXDA_DOMAINS] = 1.0f;
    t.tuning->adapter->setting[JT_MIXDA_GATE_WIDTH] = WIDTH + 1;
    adapted_must(jt_adapter_save(t.tuning->adapter, path, JT_ADAPTER_JUNTO, NULL, &err),
                 &err);
    assert_int_equal(jt_adapter_open(&a, path, g.model, &err), JT_E_FORMAT);
    assert_non_null(strstr(err.msg, "mixda_gate0' has a shape"));
    t.tuning->adapter->setting[JT_MIXDA_GATE_WIDTH] = WIDTH;
    t.tuning->adapter->setting[JT_MIXDA_TASK_RANK] = 1.0f;
    jt_adapter_slot *s = &t.tuning->adapter->slot[0];
    const jt_adapter *parts[] = {t.tuning->adapter};
    assert_non_null(s);
    assert_int_equal(jt_mixda_join(&a, parts, 1, 2, WIDTH, 1, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "no domain adapter of stage one"));
    t.tuning->adapter->setting[JT_MIXDA_TASK_RANK] = 0.0f;
    end(&t);
    config.adapter.part = &part;
    config.adapter.n_parts = 1;
    snprintf(path, sizeof path, "%s/none.safetensors", scratch_dir.dir);
    assert_int_equal(jt_context_init(&t.ctx, 1, NULL, NULL), JT_OK);
    assert_int_equal(jt_tuning_new(&other, &config, g.model, &t.ctx, &err), JT_E_IO);
    jt_context_free(&t.ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_keeping),
        cmocka_unit_test(check_stage_two),
        cmocka_unit_test(check_refusals),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
