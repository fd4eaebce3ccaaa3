/* Models that are not what they should be: every tensor missing, of a wrong shape or
 * type, every key missing or absurd, and random bytes flipped. Each ends in one clear
 * line that names the culprit, never in a crash. */
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
#include "base/memory.h"
#include "base/random.h"
#include "junto/junto.h"

static char path[] = "/tmp/junto-load-XXXXXX";
static jt_gguf *source;
static jt_map bytes;

static int setup(void **state)
{
    (void)state;
    char name[512];
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(name, sizeof name, "%s/golden/qwen2moe.gguf", data ? data : "tests");
    int fd = mkstemp(path);
    if (fd < 0 || close(fd) != 0)
        return -1;
    return jt_gguf_open(&source, name, NULL) != JT_OK ||
           jt_map_open(&bytes, name, NULL) != JT_OK;
}

static int teardown(void **state)
{
    (void)state;
    jt_gguf_close(source);
    jt_map_close(&bytes);
    return unlink(path);
}

/* What to do to tensor `index` (of SIZE_MAX: to none) and to key `key`. */
typedef enum change { KEEP, LEAVE_OUT, OTHER_SHAPE, OTHER_TYPE } change;

static void copy_tensor(jt_gguf_writer *w, const jt_gguf_tensor *t, change what)
{
    char name[128];
    uint64_t shape[JT_MAX_DIMS];
    jt_err err;
    memcpy(shape, t->shape, sizeof shape);
    if (what == OTHER_SHAPE) /* one row, or one value, fewer */
        shape[0]--;
    snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
    jt_dtype dtype = what == OTHER_TYPE ? JT_I32 : t->dtype;
    if (jt_gguf_add_tensor(w, name, dtype, t->n_dims, shape, &err) != JT_OK)
        fail_msg("%s", err.msg);
}

static void copy_data(jt_gguf_writer *w, const jt_gguf_tensor *t, change what)
{
    size_t n = t->bytes;
    if (what == OTHER_SHAPE)
        n = n / t->shape[0] * (t->shape[0] - 1);
    assert_int_equal(jt_gguf_write(w, t->data, n, NULL), JT_OK);
}

static void write_changed(size_t index, change what, const char *key, int64_t value)
{
    jt_gguf_writer *w;
    assert_int_equal(jt_gguf_writer_new(&w, path, NULL), JT_OK);
    for (size_t i = 0; i < jt_gguf_kv_count(source); i++)
        assert_int_equal(jt_gguf_set_kv(w, NULL, jt_gguf_kv_at(source, i), NULL),
                         JT_OK);
    if (key && value < 0)
        jt_gguf_unset(w, key);
    else if (key)
        assert_int_equal(jt_gguf_set_u32(w, key, (uint32_t)value, NULL), JT_OK);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < jt_gguf_tensor_count(source); i++) {
            const jt_gguf_tensor *t = jt_gguf_tensor_at(source, i);
            change now = i == index ? what : KEEP;
            if (now == LEAVE_OUT)
                continue;
            if (pass == 0)
                copy_tensor(w, t, now);
            else
                copy_data(w, t, now);
        }
    }
    assert_int_equal(jt_gguf_writer_finish(w, NULL), JT_OK);
}

static void expect_failure(jt_status status, const char *culprit)
{
    jt_model *model = NULL;
    jt_err err = {0};
    jt_status got = jt_model_load(&model, path, &err);
    if (got == JT_OK)
        fail_msg("loaded, with '%s' broken", culprit);
    if (got != status || !strstr(err.msg, culprit))
        fail_msg("'%s' does not name '%s'", err.msg, culprit);
    assert_non_null(strstr(err.msg, path));
}

static bool is_optional(const char *name)
{
    /* without it the shared expert simply has no gate, or no bias */
    return strstr(name, "ffn_gate_inp_shexp") || strstr(name, ".bias") ||
           strstr(name, "ffn_gate_shexp") || strcmp(name, "output.weight") == 0;
}

static void every_tensor_is_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < jt_gguf_tensor_count(source); i++) {
        char name[128];
        const jt_gguf_tensor *t = jt_gguf_tensor_at(source, i);
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        write_changed(i, OTHER_TYPE, NULL, 0);
        expect_failure(JT_E_FORMAT, name);
        if (strstr(name, "_gate_shexp.") || strstr(name, "token_embd"))
            continue; /* these say what the others must be */
        write_changed(i, OTHER_SHAPE, NULL, 0);
        expect_failure(JT_E_FORMAT, strstr(name, "_gate_exps.") ? "_exps." : name);
        if (is_optional(name) || strstr(name, "ffn_gate_inp.weight"))
            continue;
        write_changed(i, LEAVE_OUT, NULL, 0);
        expect_failure(JT_E_FORMAT, name);
    }
}

static void every_key_is_checked(void **state)
{
    static const struct {
        const char *key;
        int64_t value; /* -1: missing */
    } cases[] = {
        {"general.architecture", -1},
        {"qwen2moe.block_count", -1},
        {"qwen2moe.block_count", 0},
        {"qwen2moe.block_count", 4000000000},
        {"qwen2moe.embedding_length", -1},
        {"qwen2moe.embedding_length", 4000000000},
        {"qwen2moe.context_length", 0},
        {"qwen2moe.attention.head_count", 0},
        {"qwen2moe.attention.head_count_kv", 3},
        {"qwen2moe.attention.head_count_kv", 4000000000},
        {"qwen2moe.attention.key_length", 100000},
        {"qwen2moe.attention.layer_norm_rms_epsilon", -1},
        {"qwen2moe.rope.dimension_count", 7},
        {"qwen2moe.rope.dimension_count", 1000},
        {"qwen2moe.rope.freq_base", 0},
        {"qwen2moe.expert_count", 70000},
        {"qwen2moe.expert_used_count", 0},
        {"qwen2moe.expert_used_count", 6},
        {"qwen2moe.expert_gating_func", 9},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_changed(SIZE_MAX, KEEP, cases[i].key, cases[i].value);
        expect_failure(JT_E_FORMAT,
                       strstr(cases[i].key, "head_count_kv") && cases[i].value == 3
                           ? "heads do not share"
                           : cases[i].key);
    }
}

static void unknown_family_lists_the_known(void **state)
{
    (void)state;
    jt_gguf_writer *w;
    assert_int_equal(jt_gguf_writer_new(&w, path, NULL), JT_OK);
    assert_int_equal(jt_gguf_set_str(w, "general.architecture", "abacus", NULL), JT_OK);
    assert_int_equal(jt_gguf_writer_finish(w, NULL), JT_OK);
    expect_failure(JT_E_UNSUPPORTED, "'abacus'");
    expect_failure(JT_E_UNSUPPORTED, "qwen3moe");
}

/* Load a damaged copy; when it still loads, run two tokens through it. */
static void try_damaged(const unsigned char *data, size_t n)
{
    jt_model *model = NULL;
    jt_session *session = NULL;
    jt_err err = {0};
    if (jt_model_load_memory(&model, data, n, &err) != JT_OK) {
        assert_true(err.msg[0] != '\0');
        return;
    }
    jt_session_options options = {.n_ctx = 4, .threads = 1};
    if (jt_session_new(&session, model, &options, &err) == JT_OK) {
        int32_t tokens[2] = {1, 2};
        jt_session_eval(session, tokens, 2, NULL, &err);
    }
    jt_session_free(session);
    jt_model_free(model);
}

/* What Junto does not compute, though the rest of the file makes sense. */
static void other_forms_are_refused(void **state)
{
    static const char *const keys[] = {"qwen2moe.attention.shared_kv_layers",
                                       "qwen2moe.embedding_length_per_layer_input"};
    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        write_changed(SIZE_MAX, KEEP, keys[i], 3);
        expect_failure(JT_E_UNSUPPORTED, keys[i]);
    }
}

static void flip_bits(const jt_map *file, int rounds)
{
    jt_rng rng = {.seed = 2};
    unsigned char *copy = jt_alloc(file->bytes, 1);
    assert_non_null(copy);
    memcpy(copy, file->data, file->bytes);
    /* the head (keys, names, shapes) takes most of the hits, the weights some */
    uint32_t head = 4096;
    for (int i = 0; i < rounds; i++) {
        uint32_t range = i % 8 ? head : (uint32_t)file->bytes;
        size_t at[3];
        unsigned char was[3];
        for (int j = 0; j < 3; j++) {
            at[j] = jt_rng_below(&rng, range);
            was[j] = copy[at[j]];
            copy[at[j]] ^= (unsigned char)(1u << jt_rng_below(&rng, 8));
        }
        try_damaged(copy, file->bytes);
        for (int j = 2; j >= 0; j--)
            copy[at[j]] = was[j];
    }
    assert_memory_equal(copy, file->data, file->bytes);
    free(copy);
}

static void flipped_bits_never_crash(void **state)
{
    (void)state;
    flip_bits(&bytes, 4000);
}

/* Layers of other kinds. */
static void flipped_bits_of_others(void **state)
{
    static const char *const names[] = {"falcon-h1", "kimi-linear", "minimax-01",
                                        "gemma4-moe", "gemma4-e2b"};
    const char *data = getenv("JUNTO_TEST_DATA");
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[512];
        jt_map file;
        snprintf(name, sizeof name, "%s/golden/%s.gguf", data ? data : "tests",
                 names[i]);
        assert_int_equal(jt_map_open(&file, name, NULL), JT_OK);
        flip_bits(&file, 500);
        jt_map_close(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_is_checked),
        cmocka_unit_test(every_key_is_checked),
        cmocka_unit_test(unknown_family_lists_the_known),
        cmocka_unit_test(other_forms_are_refused),
        cmocka_unit_test(flipped_bits_never_crash),
        cmocka_unit_test(flipped_bits_of_others),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
