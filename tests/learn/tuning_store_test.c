/* Tuning with the experts in their file: the same losses and the same adapter, to the
 * bit, as with a mapped model; each expert is read once a layer and direction; clear
 * errors when the file fails or the budget is too small. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/reader.h"
#include "families.h"
#include "junto/junto.h"
#include "junto/learn.h"
#include "scratch.h"

enum { MOST = 64, STEPS = 4, DOCUMENTS = 60, LENGTH = 40 };

static char folder[64];

/* ---- runs ---- */

/* What a run gave. */
typedef struct found {
    jt_status status;
    jt_err err;
    double loss[MOST]; /* of steps and evaluations */
    size_t n_losses;
    char *adapter; /* bytes of the file; NULL: there is none */
    size_t size;
    jt_store_stats store;
    int stop_after; /* steps; 0: never */
} found;

static int on_event(void *user, const jt_train_event *e)
{
    found *f = user;
    if (e->store)
        f->store = *e->store;
    if (e->kind == JT_TRAIN_SAVE)
        return 0;
    assert_true(f->n_losses < MOST);
    f->loss[f->n_losses++] = e->loss;
    return e->kind == JT_TRAIN_STEP && f->stop_after && e->step >= f->stop_after;
}

static char *read_file(const char *name, size_t *size)
{
    char path[160];
    snprintf(path, sizeof path, "%s/out/%s", folder, name);
    FILE *f = fopen(path, "rb");
    *size = 0;
    if (!f)
        return NULL;
    char *data = malloc(16 << 20);
    *size = fread(data, 1, 16 << 20, f);
    fclose(f);
    return data;
}

static void remove_output(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s/out'", folder);
    assert_int_equal(system(command), 0);
}

/* Tune `model` with settings ("a=b", NULL at the end). */
static found tune(const char *model, const jt_store_options *store, bool resume,
                  int stop_after, const char *const *settings)
{
    found f = {.stop_after = stop_after};
    char json[2048];
    size_t n = 0;
    while (settings[n])
        n++;
    snprintf(json, sizeof json,
             "{\"model\": {\"init\": \"%s\"}, \"balance\": {\"loss\": 0, \"z_loss\": "
             "0}, \"adapter\": {\"kind\": \"lora\", \"rank\": 2, \"alpha\": 4},"
             "\"data\": {\"seq_len\": 20, \"held_out\": 0.2, \"source\": [{\"path\":"
             " \"%s/data.bin\", \"separator\": \"0\"}]},"
             "\"optim\": {\"lr\": 0.01, \"warmup\": 0}, \"eval\": {\"every\": 2,"
             " \"batches\": 1}, \"train\": {\"steps\": %d, \"batch\": 2, \"threads\":"
             " 1}, \"output\": {\"dir\": \"%s/out\"}}",
             model, folder, STEPS, folder);
    jt_train_options options = {.json = json,
                                .settings = settings,
                                .n_settings = n,
                                .resume = resume,
                                .on_event = on_event,
                                .user = &f};
    if (store)
        options.store = *store;
    f.status = jt_train(&options, &f.err);
    f.adapter = read_file("adapter.safetensors", &f.size);
    return f;
}

static found tune_afresh(const char *model, const jt_store_options *store,
                         const char *const *settings)
{
    remove_output();
    return tune(model, store, false, 0, settings);
}

static void must(const found *f)
{
    if (f->status != JT_OK)
        fail_msg("%s", f->err.msg);
}

static void check_same(const found *got, const found *expected, const char *what)
{
    if (got->status != JT_OK)
        fail_msg("%s: %s", what, got->err.msg);
    assert_int_equal(got->n_losses, expected->n_losses);
    if (memcmp(got->loss, expected->loss, got->n_losses * sizeof *got->loss) != 0)
        fail_msg("%s: other losses", what);
    assert_non_null(got->adapter);
    if (got->size != expected->size ||
        memcmp(got->adapter, expected->adapter, got->size) != 0)
        fail_msg("%s: another adapter", what);
}

/* The fewest experts that the cache may have, as the message says. */
static int fewest(const char *model)
{
    static const char *const none[] = {NULL};
    found f = tune_afresh(model, &(jt_store_options){.slots = 1}, none);
    const char *at = strstr(f.err.msg, "the fewest are ");
    if (f.status != JT_E_ARG || !at)
        fail_msg("%s", f.err.msg);
    return atoi(at + strlen("the fewest are "));
}

static const char *mini(void)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/../../models/junto-mini.gguf", golden_dir());
    return path;
}

/* ---- the same bits ---- */

static int mixtures;

static void compare(const char *path)
{
    static const char *const none[] = {NULL};
    found mapped = tune_afresh(path, NULL, none);
    jt_model *apart;
    jt_err err = {0};
    if (mapped.status != JT_OK || jt_model_load_apart(&apart, path, &err) != JT_OK) {
        free(mapped.adapter); /* nothing to tune, or dense */
        return;
    }
    jt_model_free(apart);
    int slots = fewest(path);
    found stored = tune_afresh(path, &(jt_store_options){.slots = slots}, none);
    check_same(&stored, &mapped, path);
    assert_true(stored.store.read_bytes > 0);
    assert_int_equal(stored.store.budget.slots, slots);
    mixtures++;
    free(mapped.adapter);
    free(stored.adapter);
}

static void all_families_give_the_same_bits(void **state)
{
    (void)state;
    each_model(compare);
    assert_true(mixtures > 20);
}

/* Also with experts that have adapters of their own, of all kinds that can. */
static void all_adapters_give_the_same_bits(void **state)
{
    static const char *const cases[][3] = {
        {"adapter.kind=rslora", NULL},
        {"adapter.kind=dora", NULL},
        {"adapter.kind=shira", NULL},
        {"adapter.kind=mos", "adapter.budget=2", NULL},
        {"adapter.kind=poly", NULL},
        {"adapter.kind=bits", NULL},
        {"adapter.kind=mora", NULL},
        {"adapter.kind=bottleneck", "adapter.place=ffn", NULL},
        {"adapter.kind=mosa", NULL},
        {"adapter.kind=soft-prompt", "adapter.front=2", NULL},
        {"adapter.kind=prefix", "adapter.front=2", NULL},
        {"adapter.kind=x-lora", "adapter.experts=2", NULL},
        {"adapter.kind=lora-mixer", "adapter.experts=2", NULL},
        {"adapter.kind=lora", "train.checkpoint_activations=true", NULL},
        {"adapter.kind=lora", "train.accumulate=2", NULL},
        {"adapter.target=exps", "train.precision=bf16", NULL},
    };
    char path[600];
    (void)state;
    snprintf(path, sizeof path, "%s/granitemoe-shared.gguf", golden_dir());
    int slots = fewest(path);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const *settings = cases[i];
        found mapped = tune_afresh(path, NULL, settings);
        must(&mapped);
        for (int more = 0; more < 2; more++) {
            found stored = tune_afresh(
                path, &(jt_store_options){.slots = slots + more * slots / 2}, settings);
            check_same(&stored, &mapped, settings[0]);
            free(stored.adapter);
        }
        free(mapped.adapter);
    }
}

static void every_way_to_read_gives_the_same_bits(void **state)
{
    static const char *const two[] = {"train.threads=2", NULL};
    (void)state;
    found mapped = tune_afresh(mini(), NULL, two);
    must(&mapped);
    int slots = fewest(mini()), ways = 0;
    for (int i = 0; i < 8; i++) {
        jt_store_options store = {.slots = slots + (i / 4) * slots,
                                  .io = i % 2 ? "direct" : "buffered",
                                  .engine = i / 2 % 2 ? "uring" : "pread"};
        found stored = tune_afresh(mini(), &store, two);
        if (stored.status == JT_E_UNSUPPORTED) /* here, this way is closed */
            continue;
        check_same(&stored, &mapped, store.io);
        assert_string_equal(stored.store.engine, store.engine);
        ways++;
        free(stored.adapter);
    }
    assert_true(ways >= 2);
    free(mapped.adapter);
}

/* ---- what is read, and when ---- */

static void each_expert_is_read_once_a_direction(void **state)
{
    static const char *const none[] = {"eval.every=0", "data.held_out=0", NULL};
    (void)state;
    int layer = fewest(mini()), layers = 6;
    found f = tune_afresh(mini(), &(jt_store_options){.slots = 2 * layer}, none);
    must(&f);
    const jt_store_stats *s = &f.store;
    uint64_t all = (uint64_t)(layers * layer);
    assert_int_equal(s->budget.experts, all);
    assert_string_equal(s->prefetch, "order");
    /* two layers stay where the way turns, at both ends */
    uint64_t asked = s->misses + s->ahead;
    assert_true(asked <= all + (uint64_t)(2 * STEPS) * (all - (uint64_t)(2 * layer)));
    /* the first layer of the first pass nobody could foresee; later ones were read
     * while the one before worked, and on the way back none of them in vain */
    assert_true(s->misses <= (uint64_t)layer + s->hits_ahead / 10);
    assert_true(s->ahead_used * 10 >= s->ahead * 8);
    assert_true(s->hits > 0);
    free(f.adapter);
}

static void all_experts_fit(void **state)
{
    static const char *const none[] = {NULL};
    (void)state;
    found f = tune_afresh(mini(), &(jt_store_options){.ram = 4ull << 30}, none);
    must(&f);
    assert_int_equal(f.store.budget.slots, f.store.budget.experts);
    assert_true(f.store.misses + f.store.ahead <= (uint64_t)f.store.budget.experts);
    free(f.adapter);
}

/* ---- what goes wrong ---- */

static void a_read_that_fails_ends_the_run(void **state)
{
    static const char *const none[] = {"eval.every=0", "data.held_out=0",
                                       "output.save_every=1", NULL};
    jt_store_options store = {.slots = fewest(mini()), .io = "buffered"};
    found whole = tune_afresh(mini(), &store, none);
    (void)state;
    must(&whole);
    long n = 0;
    int begun = 0;
    for (;; n = n * 5 / 4 + 150) {
        remove_output();
        jt_read_fault_set(
            (jt_read_fault){.after = n, .all = true, .error = n % 2 ? EIO : 0});
        found f = tune(mini(), &store, false, 0, none);
        jt_read_fault_set((jt_read_fault){.after = -1});
        if (f.status == JT_OK) { /* it read so little */
            free(f.adapter);
            break;
        }
        assert_int_equal(f.status, JT_E_IO);
        assert_null(f.adapter);
        if (!f.n_losses)
            continue; /* nothing is there to go on from */
        begun++;
        assert_non_null(strstr(f.err.msg, "cannot read expert "));
        assert_non_null(
            strstr(f.err.msg, n % 2 ? "Input/output error" : "the file ends"));
        found rest = tune(mini(), &store, true, 0, none);
        must(&rest);
        assert_int_equal(f.n_losses + rest.n_losses, whole.n_losses);
        assert_int_equal(rest.size, whole.size);
        assert_memory_equal(rest.adapter, whole.adapter, whole.size);
        free(rest.adapter);
    }
    assert_true(begun >= 2);
    free(whole.adapter);
}

static void a_run_that_was_stopped_goes_on(void **state)
{
    static const char *const none[] = {NULL};
    jt_store_options store = {.slots = fewest(mini()) + 5};
    found whole = tune_afresh(mini(), NULL, none);
    (void)state;
    must(&whole);
    remove_output();
    found first = tune(mini(), &store, false, 1, none);
    assert_int_equal(first.status, JT_E_INTERRUPTED);
    found rest = tune(mini(), &store, true, 0, none);
    must(&rest);
    assert_int_equal(rest.size, whole.size);
    assert_memory_equal(rest.adapter, whole.adapter, whole.size);
    free(first.adapter);
    free(rest.adapter);
    free(whole.adapter);
}

/* Whatever cannot be had, the run ends with an error. */
static void memory_may_fail(void **state)
{
    static const char *const none[] = {"eval.every=0", "train.steps=1", NULL};
    char path[600];
    (void)state;
    snprintf(path, sizeof path, "%s/granitemoe-shared.gguf", golden_dir());
    jt_store_options store = {.slots = fewest(path), .io = "buffered"};
    int failed = 0;
    for (long n = 0;; n += 1 + n / 20) {
        remove_output();
        jt_fault_after(n);
        found f = tune(path, &store, false, 0, none);
        jt_fault_after(-1);
        free(f.adapter);
        if (f.status == JT_OK)
            break;
        if (f.status != JT_E_MEMORY)
            fail_msg("%ld: %s", n, f.err.msg);
        failed++;
    }
    assert_true(failed > 20);
}

static void too_small_budgets_say_what_would_do(void **state)
{
    static const char *const none[] = {NULL};
    (void)state;
    found f = tune_afresh(mini(), &(jt_store_options){.ram = 1 << 20}, none);
    assert_int_equal(f.status, JT_E_LIMIT);
    assert_non_null(strstr(f.err.msg, "a layer of 24 experts"));
    const char *at = strstr(f.err.msg, "the smallest budget is ");
    assert_non_null(at);
    uint64_t least = strtoull(at + strlen("the smallest budget is "), NULL, 10);
    f = tune_afresh(mini(), &(jt_store_options){.ram = least << 20}, none);
    must(&f);
    assert_true(f.store.budget.least <= least << 20);
    free(f.adapter);
}

static void what_cannot_be_is_refused(void **state)
{
    static const char *const none[] = {NULL};
    static const char *const masks[] = {"adapter.kind=shira", "adapter.mask=snip",
                                        NULL};
    static const char *const all[] = {"adapter.kind=none", NULL};
    jt_store_options store = {.ram = 4ull << 30};
    char dense[600];
    (void)state;
    snprintf(dense, sizeof dense, "%s/llama.gguf", golden_dir());
    found f = tune_afresh(mini(), &store, all);
    assert_int_equal(f.status, JT_E_ARG);
    assert_non_null(strstr(f.err.msg, "is for adapters"));
    f = tune_afresh(mini(), &store, masks);
    assert_int_equal(f.status, JT_E_UNSUPPORTED);
    f = tune_afresh(dense, &store, none);
    assert_int_equal(f.status, JT_E_UNSUPPORTED);
    assert_non_null(strstr(f.err.msg, "no experts"));
}

/* ---- */

static int set_up(void **state)
{
    char path[96];
    (void)state;
    snprintf(folder, sizeof folder, "%.63s", scratch_new().dir);
    snprintf(path, sizeof path, "%s/data.bin", folder);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int32_t i = 0; i < DOCUMENTS * LENGTH; i++) {
        int32_t token = i % LENGTH ? 1 + i * 31 % 29 : 0;
        assert_int_equal(fwrite(&token, sizeof token, 1, f), 1);
    }
    return fclose(f);
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_families_give_the_same_bits),
        cmocka_unit_test(all_adapters_give_the_same_bits),
        cmocka_unit_test(every_way_to_read_gives_the_same_bits),
        cmocka_unit_test(each_expert_is_read_once_a_direction),
        cmocka_unit_test(all_experts_fit),
        cmocka_unit_test(a_read_that_fails_ends_the_run),
        cmocka_unit_test(a_run_that_was_stopped_goes_on),
        cmocka_unit_test(memory_may_fail),
        cmocka_unit_test(too_small_budgets_say_what_would_do),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
