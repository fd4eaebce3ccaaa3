/* Tuning: the losses that PyTorch and peft have on the same batch from the same start
 * (tests/adapters/make_tuning.py); resuming to the same bits; what is refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "adapted.h"
#include "learn/train.h"
#include "scratch.h"

enum { STEPS = 30, DOCUMENTS = 4, LENGTH = 16 };

typedef struct one_run {
    const char *folder, *name, *kind, *target;
    int rank;
    double alpha;
    size_t front; /* virtual tokens */
} one_run;

static char folder_[512], json_[4096], out_[256];

/* A batch is the whole data, so its order does not matter; a sequence has one document
 * and the virtual tokens before it, behind as many places that are left empty. */
static const char *make_config(const one_run *r, const int32_t *tokens, int steps)
{
    char data[256];
    jt_npy_writer *w;
    jt_err err = {0};
    snprintf(folder_, sizeof folder_, "hf/%s", r->folder);
    char path[512];
    golden_path(path, sizeof path, folder_);
    snprintf(data, sizeof data, "%s/data.npy", scratch_dir.dir);
    snprintf(out_, sizeof out_, "%s/out", scratch_dir.dir);
    adapted_must(jt_npy_writer_new(&w, data, JT_NPY_I32,
                                   (uint64_t[]){DOCUMENTS, LENGTH}, 2, &err),
                 &err);
    adapted_must(jt_npy_writer_append(w, tokens, DOCUMENTS, &err), &err);
    adapted_must(jt_npy_writer_finish(w, &err), &err);
    snprintf(json_, sizeof json_,
             "{\"model\": {\"init\": \"%s\"}, \"output\": {\"dir\": \"%s\"},"
             "\"data\": {\"seq_len\": %zu, \"held_out\": 0,"
             "  \"source\": [{\"path\": \"%s\"}]},"
             "\"balance\": {\"loss\": 0, \"z_loss\": 0},"
             "\"adapter\": {\"kind\": \"%s\", \"rank\": %d, \"alpha\": %g,"
             "  \"target\": \"%s\", \"front\": %zu},"
             "\"optim\": {\"lr\": 0.01, \"schedule\": \"constant\", \"warmup\": 0,"
             "  \"weight_decay\": 0, \"beta2\": 0.999},"
             "\"train\": {\"steps\": %d, \"batch\": %d}}",
             path, out_, LENGTH + 2 * r->front, data, r->kind, r->rank, r->alpha,
             r->target, r->front ? r->front : 1, steps, DOCUMENTS);
    return json_;
}

static void remove_output(void)
{
    scratch s;
    snprintf(s.dir, sizeof s.dir, "%.190s", out_);
    scratch_free(&s);
}

/* The adapter begins as that of peft did. */
static void copy_start(jt_adapter *to, const jt_adapter *from)
{
    assert_int_equal(to->count, from->count);
    assert_int_equal(to->n_sources, from->n_sources);
    for (size_t i = 0; i < to->n_sources; i++) {
        const jt_tensor *t = &to->source[i].t, *x = &from->source[i].t;
        assert_string_equal(to->source[i].name, from->source[i].name);
        assert_memory_equal(t->shape, x->shape, (size_t)t->n_dims * sizeof *t->shape);
        memcpy(t->data, x->data, jt_rows(t) * jt_cols(t) * sizeof(float));
    }
    for (size_t i = 0; i < to->count; i++) {
        const jt_adapter_slot *x = jt_adapter_find(
            from, (jt_str){to->slot[i].target, strlen(to->slot[i].target)});
        assert_non_null(x);
        assert_true(x->scale == to->slot[i].scale);
        for (int p = 0; p < JT_ADAPTER_PARTS && to->kind->part[p]; p++) {
            const jt_tensor *t = &to->slot[i].part[p];
            memcpy(t->data, x->part[p].data, jt_rows(t) * jt_cols(t) * sizeof(float));
        }
    }
}

static void check_losses(void **state)
{
    const one_run *r = *state;
    char path[512], name[128];
    jt_err err = {0};
    jt_gguf *reference;
    jt_adapter *start;
    jt_config config;
    jt_trainer *t;
    snprintf(name, sizeof name, "../adapters/%s.ref.gguf", r->name);
    adapted_must(jt_gguf_open(&reference, golden_path(path, sizeof path, name), &err),
                 &err);
    const float *losses = jt_gguf_find(reference, "losses")->data;
    jt_train_options options = {
        .json = make_config(r, jt_gguf_find(reference, "tokens")->data, STEPS)};
    adapted_must(jt_config_parse(&config, options.json, NULL, 0, &err), &err);
    adapted_must(jt_trainer_new(&t, &config, &options, &err), &err);
    snprintf(name, sizeof name, "../adapters/%s", r->name);
    adapted_must(
        jt_adapter_open(&start, golden_path(path, sizeof path, name), t->model, &err),
        &err);
    copy_start(t->tuning->adapter, start);
    double worst = 0.0;
    for (int i = 0; i < STEPS; i++) {
        jt_step_report report;
        adapted_must(jt_trainer_step(t, &report, &err), &err);
        worst = fmax(worst, fabs(report.loss - (double)losses[i]));
    }
    print_message("  %s: %.2e\n", r->name, worst);
    assert_true(worst < 1e-4);
    jt_adapter_free(start);
    jt_trainer_free(t);
    jt_config_free(&config);
    jt_gguf_close(reference);
    remove_output();
}

/* ---- whole runs ---- */

static char *read_product(size_t *size)
{
    char path[320];
    snprintf(path, sizeof path, "%s/adapter.safetensors", out_);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *data = malloc(1 << 20);
    *size = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

static int stop_in_the_middle(void *user, const jt_train_event *event)
{
    (void)user;
    return event->kind == JT_TRAIN_STEP && event->step == 4;
}

static void check_resume(void **state)
{
    const one_run r = {"llama", NULL, *state, "attn_|ffn_", 2, 4, 2};
    int32_t tokens[DOCUMENTS * LENGTH];
    jt_err err = {0};
    size_t sizes[2];
    for (size_t i = 0; i < DOCUMENTS * LENGTH; i++)
        tokens[i] = (int32_t)(i * 37 % 40);
    jt_train_options options = {.json = make_config(&r, tokens, 10)};
    adapted_must(jt_train(&options, &err), &err);
    char *whole = read_product(&sizes[0]);
    remove_output();
    options.on_event = stop_in_the_middle;
    assert_int_equal(jt_train(&options, &err), JT_E_INTERRUPTED);
    options.on_event = NULL;
    options.resume = true;
    adapted_must(jt_train(&options, &err), &err);
    char *resumed = read_product(&sizes[1]);
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(whole, resumed, sizes[0]);
    free(whole);
    free(resumed);
    remove_output();
}

/* ---- masks ---- */

static const jt_param *find_param(const jt_variables *v, const char *name)
{
    for (size_t i = 0; i < v->count; i++) {
        if (strcmp(v->list[i].name, name) == 0)
            return &v->list[i];
    }
    fail_msg("no parameter '%s'", name);
    return NULL;
}

static float size_of(const jt_param *p, size_t i, bool snip)
{
    return fabsf(p->grad[i]) * (snip ? fabsf(p->value[i]) : 1.0f);
}

/* No value that was not chosen has a larger gradient, as full tuning finds it, than one
 * that was; of `snip`, product with the weight. */
static void check_places(const jt_trainer *full, const jt_adapter_slot *s, bool snip)
{
    const jt_param *p = find_param(&full->variables, s->target);
    size_t n = s->rows * s->cols, chosen = jt_cols(&s->part[0]);
    char *in = calloc(n, 1);
    float least = INFINITY;
    assert_int_equal(p->rows * p->cols, n);
    for (size_t r = 0; r < s->rows; r++) {
        for (size_t i = s->start[r]; i < s->start[r + 1]; i++) {
            size_t at = r * s->cols + s->column[i];
            in[at] = 1;
            least = fminf(least, size_of(p, at, snip));
        }
    }
    assert_int_equal(s->start[s->rows], chosen);
    for (size_t i = 0; i < n; i++)
        assert_true(in[i] || size_of(p, i, snip) <= least * 1.0001f);
    free(in);
}

static void check_masks(void **state)
{
    const char *mask = *state;
    const one_run none = {"llama", NULL, "none", "attn_q|ffn_down", 2, 4, 0},
                  shira = {"llama", NULL, "shira", "attn_q|ffn_down", 2, 4, 0};
    char set[64];
    const char *settings[] = {set, "adapter.mask_batches=1"};
    int32_t tokens[DOCUMENTS * LENGTH];
    jt_err err = {0};
    jt_config full_config, config;
    jt_trainer *full, *t;
    jt_step_report report;
    for (size_t i = 0; i < DOCUMENTS * LENGTH; i++)
        tokens[i] = (int32_t)(i * 37 % 40);
    snprintf(set, sizeof set, "adapter.mask=%s", mask);
    jt_train_options options = {.json = make_config(&none, tokens, 5)};
    const char *still = "optim.lr=0";
    adapted_must(jt_config_parse(&full_config, options.json, &still, 1, &err), &err);
    adapted_must(jt_trainer_new(&full, &full_config, &options, &err), &err);
    adapted_must(jt_trainer_step(full, &report, &err), &err);
    jt_train_options sparse = {.json = make_config(&shira, tokens, 5), .resume = false};
    remove_output();
    adapted_must(jt_config_parse(&config, sparse.json, settings, 2, &err), &err);
    adapted_must(jt_trainer_new(&t, &config, &sparse, &err), &err);
    for (size_t i = 0; i < t->tuning->adapter->count; i++)
        check_places(full, &t->tuning->adapter->slot[i], strcmp(mask, "snip") == 0);
    jt_trainer_free(t);
    jt_trainer_free(full);
    jt_config_free(&config);
    jt_config_free(&full_config);
    remove_output();
}

/* The whole diagonal, and rows at equal distances, of which the last may be cut. */
static void check_structure(const jt_adapter_slot *s)
{
    size_t last = 0, whole = 0, cut = 0, first_gap = 0;
    for (size_t r = 0; r < s->rows; r++) {
        size_t n = s->start[r + 1] - s->start[r], only = r < s->cols;
        bool diagonal = false;
        for (size_t i = s->start[r]; i < s->start[r + 1]; i++)
            diagonal |= s->column[i] == r;
        assert_int_equal(diagonal, only);
        cut += n > only && n < s->cols;
        if (n <= only)
            continue;
        if (whole++ == 1)
            first_gap = r - last;
        if (whole > 2)
            assert_in_range(r - last, first_gap - 1, first_gap + 1);
        last = r;
    }
    assert_true(whole > 2 && cut <= 1);
    assert_int_equal(s->start[s->rows], jt_cols(&s->part[0]));
}

static void check_struct(void **state)
{
    const one_run run = {"llama", NULL, "shira", "attn_|ffn_", 4, 4, 0};
    const char *mask = "adapter.mask=struct";
    int32_t tokens[DOCUMENTS * LENGTH] = {0};
    jt_err err = {0};
    jt_config config;
    jt_trainer *t;
    jt_train_options options = {.json = make_config(&run, tokens, 5)};
    (void)state;
    adapted_must(jt_config_parse(&config, options.json, &mask, 1, &err), &err);
    adapted_must(jt_trainer_new(&t, &config, &options, &err), &err);
    assert_true(t->tuning->adapter->count > 4);
    for (size_t i = 0; i < t->tuning->adapter->count; i++)
        check_structure(&t->tuning->adapter->slot[i]);
    jt_trainer_free(t);
    jt_config_free(&config);
    remove_output();
}

static void check_refusals(void **state)
{
    static const struct {
        one_run run;
        const char *says;
    } cases[] = {
        {{"llama", NULL, "lora", "no_such_name", 2, 4, 0}, "adapter.target"},
        {{"llama", NULL, "lora", "attn_(", 2, 4, 0}, "pattern 'attn_('"},
        {{"llama", NULL, "shira", "attn_", 60, 4, 0}, "adapter.rank"},
    };
    int32_t tokens[DOCUMENTS * LENGTH] = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jt_err err = {0};
        jt_train_options options = {.json = make_config(&cases[i].run, tokens, 5)};
        assert_int_equal(jt_train(&options, &err), JT_E_ARG);
        if (!strstr(err.msg, cases[i].says))
            fail_msg("'%s' does not say '%s'", err.msg, cases[i].says);
        remove_output();
    }
}

#define ALL "(attn_(q|k|v|output)|ffn_(gate|up|down))[.]weight"
static const one_run runs[] = {
    {"llama", "tune-llama-lora", "lora", ALL, 4, 8, 0},
    {"llama", "tune-llama-dora", "dora", ALL, 4, 8, 0},
    {"mixtral", "tune-mixtral-rslora", "rslora", "attn_[qv][.]|ffn_down_exps", 2, 2, 0},
    {"llama", "tune-llama-prompt", "soft-prompt", ALL, 1, 1, 4},
    {"llama", "tune-llama-prefix", "prefix", ALL, 1, 1, 4},
    {"phi3", "tune-phi3-prefix", "prefix", ALL, 1, 1, 3},
};

#define RESUME(kind)                                                      \
    {                                                                     \
        "resume " kind, check_resume, NULL, NULL, (void *)(uintptr_t)kind \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"lora", check_losses, NULL, NULL, (void *)(uintptr_t)&runs[0]},
        {"dora", check_losses, NULL, NULL, (void *)(uintptr_t)&runs[1]},
        {"rslora", check_losses, NULL, NULL, (void *)(uintptr_t)&runs[2]},
        {"soft-prompt", check_losses, NULL, NULL, (void *)(uintptr_t)&runs[3]},
        {"prefix", check_losses, NULL, NULL, (void *)(uintptr_t)&runs[4]},
        {"prefix of another rotation", check_losses, NULL, NULL,
         (void *)(uintptr_t)&runs[5]},
        RESUME("lora"),
        RESUME("dora"),
        RESUME("bottleneck"),
        RESUME("mosa"),
        RESUME("mixda"),
        RESUME("soft-prompt"),
        RESUME("prefix"),
        {"gradient", check_masks, NULL, NULL, (void *)(uintptr_t) "gradient"},
        {"snip", check_masks, NULL, NULL, (void *)(uintptr_t) "snip"},
        cmocka_unit_test(check_struct),
        RESUME("shira"),
        cmocka_unit_test(check_refusals),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
