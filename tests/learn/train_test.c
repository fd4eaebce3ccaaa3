/* The trainer as a whole: a run that is stopped and resumed equals, bit for bit, one
 * that was not; a loss that is not finite stops it and leaves the checkpoint. */
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

#include "base/file.h"
#include "base/random.h"
#include "learn/train.h"
#include "scratch.h"

enum { VOCAB = 40, END = 39, DOCUMENTS = 40, LENGTH = 60, STEPS = 6 };

typedef struct world {
    char dir[64], data[96];
} world;

/* Documents of a chain in which each token has three followers; token END ends them. */
static void write_data(const char *path)
{
    jt_rng rng = {.seed = 3};
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int d = 0; d < DOCUMENTS; d++) {
        uint32_t at = jt_rng_below(&rng, END);
        for (int i = 0; i < LENGTH; i++) {
            int32_t token = i + 1 < LENGTH ? (int32_t)at : END;
            assert_int_equal(fwrite(&token, sizeof token, 1, f), 1);
            at = (at * 7 + 1 + jt_rng_below(&rng, 3)) % END;
        }
    }
    assert_int_equal(fclose(f), 0);
}

static int set_up(void **state)
{
    static world w;
    snprintf(w.dir, sizeof w.dir, "%.63s", scratch_new().dir);
    snprintf(w.data, sizeof w.data, "%s/data.bin", w.dir);
    write_data(w.data);
    *state = &w;
    return 0;
}

static int tear_down(void **state)
{
    const world *w = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", w->dir);
    return system(command);
}

/* A small mixture over the data; `settings` ("a=b", NULL at the end) on top. */
static void configure(jt_config *config, const world *w, const char *out,
                      const char *const *settings)
{
    char json[1024];
    jt_err err = {0};
    size_t n = 0;
    while (settings[n])
        n++;
    snprintf(json, sizeof json,
             "{\"model\": {\"layers\": 2, \"width\": 32, \"heads\": 2, \"experts\": 8,"
             " \"experts_used\": 2, \"expert_width\": 16, \"shared_width\": 16,"
             " \"vocab\": %d, \"dense_layers\": 0},"
             " \"data\": {\"seq_len\": 24, \"held_out\": 0.1,"
             " \"source\": [{\"path\": \"%s\", \"separator\": \"39\"}]},"
             " \"optim\": {\"lr\": 0.01, \"warmup\": 2},"
             " \"train\": {\"steps\": %d, \"batch\": 4, \"accumulate\": 2, \"threads\":"
             " 2}, \"output\": {\"dir\": \"%s/%s\"}}",
             VOCAB, w->data, STEPS, w->dir, out);
    if (jt_config_parse(config, json, settings, n, &err) != JT_OK)
        fail_msg("%s", err.msg);
}

static jt_trainer *open_trainer(const jt_config *config, jt_train_options *options)
{
    jt_trainer *t;
    jt_err err = {0};
    if (jt_trainer_new(&t, config, options, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return t;
}

static double train(jt_trainer *t, int steps)
{
    jt_step_report report = {0};
    jt_err err = {0};
    for (int i = 0; i < steps; i++) {
        if (jt_trainer_step(t, &report, &err) != JT_OK)
            fail_msg("%s", err.msg);
    }
    return report.loss;
}

/* Train `first` steps, save, and the rest in a fresh trainer; the bytes of the last
 * checkpoint. */
static char *checkpoint_after(const world *w, const char *out,
                              const char *const *settings, int first, size_t *bytes)
{
    jt_config config;
    jt_err err = {0};
    char *data;
    configure(&config, w, out, settings);
    for (int part = 0; part < 2; part++) {
        jt_train_options options = {.resume = part == 1};
        jt_trainer *t = open_trainer(&config, &options);
        train(t, part == 0 ? first : STEPS - first);
        assert_int_equal(t->made.step, part == 0 ? first : STEPS);
        assert_int_equal(jt_trainer_save(t, &err), JT_OK);
        if (part == 1)
            assert_int_equal(jt_read_file(&data, bytes, t->checkpoint, 1 << 24, &err),
                             JT_OK);
        jt_trainer_free(t);
    }
    jt_config_free(&config);
    return data;
}

static void resumed_equals_whole(void **state)
{
    static const char *const cases[][6] = {
        {"balance.loss=0.01", NULL},
        {"balance.bias_rate=0.01", "optim.kind=muon", "optim.momentum=0.9", NULL},
        {"balance.bip_rounds=3", "router.jitter=0.05", "router.noise=0.1", NULL},
        {"balance.loss=0.01", "balance.scope=global", "router.null_experts=4",
         "router.renormalise=true", "train.checkpoint_activations=true", NULL},
        {"optim.kind=adafactor", "router.capacity=1.0", "router.score=cosine",
         "router.temperature=0.1", "router.used_from=1", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char whole[16], parts[16];
        size_t bytes[2];
        snprintf(whole, sizeof whole, "whole%zu", i);
        snprintf(parts, sizeof parts, "parts%zu", i);
        char *a = checkpoint_after(*state, whole, cases[i], 0, &bytes[0]);
        char *b = checkpoint_after(*state, parts, cases[i], STEPS / 2, &bytes[1]);
        assert_int_equal(bytes[0], bytes[1]);
        assert_memory_equal(a, b, bytes[0]);
        free(a);
        free(b);
    }
}

/* Threads and running layers again change no bit either. */
static void same_bits_otherwise(void **state)
{
    static const char *const cases[][4] = {
        {"train.threads=1", "balance.loss=0.01", NULL},
        {"train.threads=2", "balance.loss=0.01", NULL},
        {"train.checkpoint_activations=true", "balance.loss=0.01", NULL}};
    char *data[3];
    size_t bytes[3];
    for (size_t i = 0; i < 3; i++) {
        char out[16];
        snprintf(out, sizeof out, "threads%zu", i);
        data[i] = checkpoint_after(*state, out, cases[i], 3, &bytes[i]);
        assert_int_equal(bytes[i], bytes[0]);
        assert_memory_equal(data[i], data[0], bytes[0]);
    }
    for (size_t i = 0; i < 3; i++)
        free(data[i]);
}

static void it_learns(void **state)
{
    static const char *const settings[] = {"train.steps=60", "optim.lr=0.02", NULL};
    static const jt_hooks none;
    jt_config config;
    jt_train_options options = {0};
    jt_evaluation_options how = {.hooks = &none};
    jt_evaluation before, after;
    jt_err err = {0};
    configure(&config, *state, "learns", settings);
    jt_trainer *t = open_trainer(&config, &options);
    assert_int_equal(jt_trainer_evaluate(t, &how, &before, &err), JT_OK);
    train(t, 60);
    assert_int_equal(jt_trainer_evaluate(t, &how, &after, &err), JT_OK);
    /* from about log 40 = 3.7 towards log 3 = 1.1 */
    assert_true(before.loss > 3.5);
    assert_true(after.loss < 1.8);
    assert_true(after.loss == after.domain_loss[0]);
    jt_evaluation_free(&before);
    jt_evaluation_free(&after);
    jt_trainer_free(t);
    jt_config_free(&config);
}

/* Checkpoints of families with latent attention, states, gates and late norms. */
static void fine_tunes(void **state)
{
    static const char *const models[] = {"deepseek3", "qwen3next",   "granitehybrid",
                                         "jamba",     "hunyuan-moe", "lfm2moe"};
    const world *w = *state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char init[256];
        const char *settings[] = {"train.steps=20", "optim.lr=0.005",
                                  "train.checkpoint_activations=true", init, NULL};
        jt_config config;
        jt_train_options options = {0};
        jt_model *model;
        jt_err err = {0};
        snprintf(init, sizeof init, "model.init=%s/golden/%s.gguf",
                 getenv("JUNTO_TEST_DATA"), models[i]);
        configure(&config, w, models[i], settings);
        jt_trainer *t = open_trainer(&config, &options);
        double before = train(t, 1), after = train(t, 19);
        if (!(after < 0.8 * before))
            fail_msg("%s: loss %g, then %g", models[i], before, after);
        assert_int_equal(jt_trainer_save(t, &err), JT_OK);
        assert_int_equal(jt_model_load(&model, t->checkpoint, &err), JT_OK);
        jt_model_free(model);
        jt_trainer_free(t);
        jt_config_free(&config);
    }
}

/* The exported model is one that runs. */
static void exported_model_loads(void **state)
{
    static const char *const settings[] = {"output.type=Q8_0", "model.expert_width=32",
                                           "model.shared_width=32", NULL};
    const world *w = *state;
    jt_config config;
    jt_train_options options = {0};
    jt_model_info info;
    jt_model *model;
    jt_err err = {0};
    char path[128];
    configure(&config, w, "export", settings);
    jt_trainer *t = open_trainer(&config, &options);
    assert_int_equal(jt_trainer_export(t, &err), JT_OK);
    jt_trainer_free(t);
    jt_config_free(&config);
    snprintf(path, sizeof path, "%s/export/model.gguf", w->dir);
    assert_int_equal(jt_model_load(&model, path, &err), JT_OK);
    jt_model_describe(model, &info);
    assert_int_equal(info.n_experts, 8);
    assert_int_equal(info.n_experts_used, 2);
    assert_int_equal(info.shared_width, 32);
    assert_true(info.dtype_bytes[JT_Q8_0] > info.dtype_bytes[JT_F32]);
    jt_model_free(model);
}

static void stops_where_a_loss_is_not_finite(void **state)
{
    static const char *const settings[] = {"balance.bip_rounds=2", NULL};
    jt_config config;
    jt_train_options options = {0};
    jt_step_report report;
    jt_err err = {0};
    configure(&config, *state, "nan", settings);
    jt_trainer *t = open_trainer(&config, &options);
    train(t, 2);
    const jt_param *p = jt_variables_find(&t->variables, "blk.1.attn_q.weight");
    const jt_param *q = jt_variables_find(&t->variables, "blk.0.exp_probs_b.bias");
    float bias[8], kept = p->value[5];
    memcpy(bias, q->value, sizeof bias);
    p->value[5] = NAN;
    assert_int_equal(jt_trainer_step(t, &report, &err), JT_E_FORMAT);
    assert_non_null(strstr(err.msg, "step 3"));
    assert_non_null(strstr(err.msg, "micro-batch 1"));
    assert_non_null(strstr(err.msg, "layer 1"));
    assert_memory_equal(bias, q->value, sizeof bias);
    p->value[5] = kept;
    assert_int_equal(jt_trainer_step(t, &report, &err), JT_OK);
    jt_trainer_free(t);
    jt_config_free(&config);
}

static void refuses_to_overwrite(void **state)
{
    static const char *const none[] = {NULL};
    jt_config config;
    jt_train_options options = {.resume = true};
    jt_trainer *t;
    jt_err err = {0};
    configure(&config, *state, "twice", none);
    assert_int_equal(jt_trainer_new(&t, &config, &options, &err), JT_E_IO);
    options.resume = false;
    jt_trainer_free(open_trainer(&config, &options));
    assert_int_equal(jt_trainer_new(&t, &config, &options, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "--resume"));
    jt_config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumed_equals_whole),
        cmocka_unit_test(same_bits_otherwise),
        cmocka_unit_test(it_learns),
        cmocka_unit_test(fine_tunes),
        cmocka_unit_test(exported_model_loads),
        cmocka_unit_test(stops_where_a_loss_is_not_finite),
        cmocka_unit_test(refuses_to_overwrite),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
