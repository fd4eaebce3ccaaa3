/* One allocation after the other fails: while an adapter is opened, put on, used, and
 * while tuning begins with it. Nothing is harmed and nothing is lost (the sanitizers
 * look), and without failures it works. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "mixed.h"
#include "scratch.h"

enum { TOKENS = 7 };

static golden g;

static int open_model(void **state)
{
    golden_open(&g, "llama");
    return scratch_setup(state);
}

static int close_model(void **state)
{
    golden_close(&g);
    return scratch_teardown(state);
}

/* From a file to the logits of some tokens, in which the marker of a prompt comes. */
static jt_status use(const char *path, jt_err *err)
{
    const jt_session_options options = {.n_ctx = 16, .chunk = 4, .threads = 1};
    jt_adapter *a;
    jt_session *s;
    JT_TRY(jt_adapter_open(&a, path, g.model, err));
    jt_status status = jt_session_new(&s, g.model, &options, err);
    if (status == JT_OK) {
        status = jt_session_add_adapter(s, a, 1.0f, err);
        if (status == JT_OK)
            status = jt_session_eval(s, g.tokens, TOKENS, NULL, err);
        jt_session_free(s);
    }
    jt_adapter_free(a);
    return status;
}

static jt_status tune(const char *kind, jt_err *err)
{
    jt_config config = mixed_config(kind);
    jt_config_part parts[MIXED_PARTS] = {{"", "", "a"}, {"", "", "b"}, {"", "", ""}};
    jt_context ctx;
    jt_tuning *tuning;
    jt_variables v;
    config.adapter.splits = 2;
    config.adapter.part = parts;
    config.adapter.n_parts = strcmp(kind, "phi-4") == 0 ? MIXED_PARTS : 0;
    JT_TRY(jt_context_init(&ctx, 1, NULL, err));
    jt_status status = jt_tuning_new(&tuning, &config, g.model, &ctx, err);
    if (status == JT_OK) {
        status = jt_tuning_variables(tuning, &v, err);
        if (status == JT_OK)
            jt_variables_free(&v);
        jt_tuning_free(tuning);
    }
    jt_context_free(&ctx);
    return status;
}

/* Until all of them are granted. */
static void fail_each(jt_status (*run)(const char *, jt_err *), const char *what)
{
    jt_status status = JT_E_MEMORY;
    long n = 0;
    for (; status != JT_OK; n++) {
        jt_err err = {0};
        jt_fault_after(n);
        status = run(what, &err);
        jt_fault_after(-1);
        if (status != JT_OK && status != JT_E_MEMORY)
            fail_msg("allocation %ld: %s", n, err.msg);
        assert_true(n < 5000);
    }
    assert_true(n > 20);
}

static void check(void **state)
{
    const char *kind = *state;
    char path[300];
    snprintf(path, sizeof path, "%s/a.safetensors", scratch_dir.dir);
    mixed_save(path, &g, kind, false);
    fail_each(use, path);
    fail_each(tune, kind);
    remove(path);
}

/* Splits are of tuning alone. */
static void check_tuning(void **state)
{
    fail_each(tune, *state);
}

#define KIND(name)                                       \
    {                                                    \
        name, check, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIND("bottleneck"),
        KIND("mixda"),
        KIND("p-adapter"),
        KIND("soft-prompt"),
        KIND("prefix"),
        KIND("mixlora"),
        KIND("meteora"),
        KIND("lora-mixer"),
        KIND("x-lora"),
        KIND("phi-4"),
        {"mosa", check_tuning, NULL, NULL, (void *)(uintptr_t) "mosa"},
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
