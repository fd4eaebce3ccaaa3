/* The layout "experts": the same model, there and back to the same bytes, read in one
 * piece, and damage is noticed by the request that meets it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/reader.h"
#include "families.h"
#include "play.h"
#include "scratch.h"

static char plain_path[600], laid_path[300], back_path[300], other_path[300];

static int setup(void **state)
{
    scratch_setup(state);
    snprintf(plain_path, sizeof plain_path, "%s/qwen3moe.gguf", golden_dir());
    snprintf(laid_path, sizeof laid_path, "%s/laid.gguf", scratch_dir.dir);
    snprintf(back_path, sizeof back_path, "%s/back.gguf", scratch_dir.dir);
    snprintf(other_path, sizeof other_path, "%s/other.gguf", scratch_dir.dir);
    return 0;
}

static jt_status convert(const char *from, const char *to, const char *layout,
                         jt_err *err)
{
    jt_convert_options o = {.layout = layout};
    return jt_convert(from, to, &o, NULL, err);
}

static void lay_out(const char *from)
{
    jt_err err = {0};
    must(convert(from, laid_path, "experts", &err), &err);
}

static char *bytes_of(const char *path, size_t *bytes)
{
    jt_err err = {0};
    char *data;
    must(jt_read_file(&data, bytes, path, 1 << 30, &err), &err);
    return data;
}

/* ---- the same model ---- */

static int mixtures;

static void there_and_back(const char *path)
{
    jt_err err = {0};
    jt_model *mapped, *laid, *apart;
    jt_model_info info;
    size_t count, a_bytes, b_bytes;
    jt_status status = convert(path, laid_path, "experts", &err);
    if (status == JT_E_UNSUPPORTED) { /* a dense model */
        assert_non_null(strstr(err.msg, "no experts"));
        return;
    }
    must(status, &err);
    must(convert(laid_path, back_path, NULL, &err), &err);
    char *a = bytes_of(path, &a_bytes), *b = bytes_of(back_path, &b_bytes);
    assert_int_equal(a_bytes, b_bytes);
    assert_memory_equal(a, b, a_bytes);
    must(jt_model_load(&mapped, path, &err), &err);
    must(jt_model_load(&laid, laid_path, &err), &err);
    must(jt_model_load_apart(&apart, laid_path, &err), &err);
    jt_model_describe(mapped, &info);
    assert_false(info.laid_out);
    jt_model_describe(laid, &info);
    assert_true(info.laid_out);
    jt_session_options options = {.threads = 2, .n_ctx = 64, .chunk = 16};
    float *expected = play(mapped, &options, &count, NULL);
    float *got = play(laid, &options, &count, NULL);
    assert_memory_equal(got, expected, count * sizeof *got);
    free(got);
    options.store.slots = 2 * info.n_experts_used;
    got = play(apart, &options, &count, NULL);
    assert_memory_equal(got, expected, count * sizeof *got);
    mixtures++;
    free(a);
    free(b);
    free(got);
    free(expected);
    jt_model_free(mapped);
    jt_model_free(laid);
    jt_model_free(apart);
}

static void all_families_go_there_and_back(void **state)
{
    (void)state;
    each_model(there_and_back);
    assert_true(mixtures > 20);
}

static jt_model *open_apart(const char *path)
{
    jt_err err = {0};
    jt_model *model;
    must(jt_model_load_apart(&model, path, &err), &err);
    return model;
}

static jt_session *needy(const jt_model *model)
{
    jt_err err = {0};
    jt_session *s;
    jt_session_options options = {
        .threads = 1, .n_ctx = 64, .store = {.slots = 6, .prefetch = "off"}};
    must(jt_session_new(&s, model, &options, &err), &err);
    return s;
}

/* The n-th read fails, until there are no n: then there were so many. */
static void an_expert_is_one_read(void **state)
{
    (void)state;
    jt_err err = {0};
    lay_out(plain_path);
    jt_model *model = open_apart(laid_path);
    jt_session *s = needy(model);
    for (long n = 0;; n++) {
        jt_store_stats before, after;
        must(jt_session_eval(s, prompt, PROMPT, NULL, &err), &err);
        jt_session_truncate(s, 0);
        jt_session_store_stats(s, &before);
        jt_read_fault_set((jt_read_fault){.after = n, .error = EIO});
        jt_status status = jt_session_eval(s, prompt, PROMPT, NULL, &err);
        jt_read_fault_set((jt_read_fault){.after = -1});
        jt_session_truncate(s, 0);
        if (status == JT_OK) {
            jt_session_store_stats(s, &after);
            assert_int_equal(n, after.misses - before.misses);
            assert_true(n > 5);
            break;
        }
        assert_int_equal(status, JT_E_IO);
    }
    jt_session_free(s);
    jt_model_free(model);
}

/* Types change on the way; a laid out file becomes another one. */
static void types_and_layouts_together(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_convert_options both = {.layout = "experts", .type = "q8_0"};
    jt_convert_options type = {.type = "q8_0"};
    size_t a_bytes, b_bytes;
    must(jt_convert(plain_path, laid_path, &both, NULL, &err), &err);
    must(convert(laid_path, back_path, "plain", &err), &err);
    must(jt_convert(plain_path, other_path, &type, NULL, &err), &err);
    char *a = bytes_of(other_path, &a_bytes), *b = bytes_of(back_path, &b_bytes);
    assert_int_equal(a_bytes, b_bytes);
    assert_memory_equal(a, b, a_bytes);
    free(a);
    free(b);
    must(convert(laid_path, other_path, "experts", &err), &err);
    a = bytes_of(laid_path, &a_bytes);
    b = bytes_of(other_path, &b_bytes);
    assert_int_equal(a_bytes, b_bytes);
    assert_memory_equal(a, b, a_bytes);
    free(a);
    free(b);
}

/* ---- a type for each expert ---- */

static void quantize(const char *to, const char *mix, const char *rule,
                     const char *layout)
{
    jt_err err = {0};
    jt_quantize_options o = {
        .mix = mix, .rules = &rule, .n_rules = rule != NULL, .layout = layout};
    must(jt_quantize_model(plain_path, to, &o, NULL, &err), &err);
}

/* Rows of expert `e` of a stack are those of another file. */
static void same_expert(const jt_gguf *file, const char *other, const char *name,
                        size_t e)
{
    jt_err err = {0};
    jt_gguf *theirs;
    float a[64], b[64];
    must(jt_model_open_file(&theirs, other, &err), &err);
    const jt_gguf_tensor *t = jt_gguf_find(file, name), *u = jt_gguf_find(theirs, name);
    assert_non_null(t);
    assert_non_null(t->types);
    assert_non_null(u);
    assert_true(t->shape[2] <= 64);
    for (size_t r = e * t->shape[1]; r < (e + 1) * t->shape[1]; r++) {
        jt_gguf_read_row(t, r, a);
        jt_gguf_read_row(u, r, b);
        assert_memory_equal(a, b, t->shape[2] * sizeof *a);
    }
    jt_gguf_close(theirs);
}

/* Logits, mapped or in few slots, in tiles or as the rows lie. */
static float *logits_of(bool in_slots, bool rows, size_t *count)
{
    jt_err err = {0};
    jt_model *model;
    jt_session_options options = {
        .threads = 2, .n_ctx = 64, .chunk = 16, .no_repack = rows};
    options.store.slots = in_slots ? 6 : 0;
    must(in_slots ? jt_model_load_apart(&model, laid_path, &err)
                  : jt_model_load(&model, laid_path, &err),
         &err);
    float *logits = play(model, &options, count, NULL);
    jt_model_free(model);
    return logits;
}

static void experts_of_different_types(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_gguf *file;
    size_t count;
    quantize(laid_path, "q8_0", "ffn_(gate|up)\\.(1|3)\\.=q4_0", "experts");
    quantize(other_path, "q8_0", NULL, NULL);
    quantize(back_path, "q4_0", NULL, NULL);
    must(jt_model_open_file(&file, laid_path, &err), &err);
    for (size_t e = 0; e < 5; e++)
        same_expert(file, e == 1 || e == 3 ? back_path : other_path,
                    "blk.1.ffn_up_exps.weight", e);
    jt_gguf_close(file);
    float *expected = logits_of(false, false, &count);
    for (int way = 0; way < 2; way++) {
        float *got = logits_of(way, true, &count);
        assert_memory_equal(got, expected, count * sizeof *got);
        free(got);
    }
    free(expected);
    /* A plain file has no room for them; as one type they have. */
    jt_convert_options type = {.type = "f16"};
    assert_int_equal(convert(laid_path, back_path, NULL, &err), JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "of different types"));
    must(jt_convert(laid_path, back_path, &type, NULL, &err), &err);
    must(convert(laid_path, other_path, "experts", &err), &err);
}

static void two_processes_share_a_file(void **state)
{
    (void)state;
    size_t count;
    jt_session_options options = {.threads = 1, .n_ctx = 64, .store = {.slots = 6}};
    lay_out(plain_path);
    pid_t child = fork();
    assert_true(child >= 0);
    jt_model *model = open_apart(laid_path), *plain = open_apart(plain_path);
    float *got = play(model, &options, &count, NULL);
    float *expected = play(plain, &options, &count, NULL);
    bool same = memcmp(got, expected, count * sizeof *got) == 0;
    free(got);
    free(expected);
    jt_model_free(model);
    jt_model_free(plain);
    if (child == 0)
        _exit(same ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(same && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- damage ---- */

/* Flip a bit of byte `at` of a tensor of the laid out file. */
static void flip(const char *tensor, size_t at)
{
    jt_err err = {0};
    jt_gguf *file;
    size_t bytes;
    char *data = bytes_of(laid_path, &bytes);
    must(jt_gguf_open_memory(&file, data, bytes, &err), &err);
    const jt_gguf_tensor *t = jt_gguf_find(file, tensor);
    assert_non_null(t);
    size_t offset = (size_t)((const char *)t->data - data) + at;
    jt_gguf_close(file);
    data[offset] ^= 16;
    scratch_write(laid_path, data, bytes);
    free(data);
}

static void damage_fails_those_who_meet_it(void **state)
{
    (void)state;
    static const struct {
        const char *tensor;
        size_t at;
    } places[] = {
        {"blk.1.ffn_gate.3.weight", 5},
        {"blk.1.ffn_down.3.weight", 700},
        {"blk.1.ffn_down.3.weight", 4095}, /* behind the last value */
        {"blk.1.ffn_exps.xxh3", 8 * 3},
    };
    jt_err err = {0};
    jt_model *plain = open_apart(plain_path);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int good = 0, bad = 0;
        lay_out(plain_path);
        flip(places[i].tensor, places[i].at);
        jt_model *model = open_apart(laid_path);
        jt_session *s = needy(model), *intact = needy(plain);
        for (int32_t token = 1; token < 40; token++) {
            jt_session_truncate(s, 0);
            jt_session_truncate(intact, 0);
            jt_status status = jt_session_eval(s, &token, 1, NULL, &err);
            if (status == JT_OK) {
                jt_model_info info;
                jt_model_describe(plain, &info);
                must(jt_session_eval(intact, &token, 1, NULL, &err), &err);
                assert_memory_equal(jt_session_logits(s), jt_session_logits(intact),
                                    (size_t)info.n_vocab * sizeof(float));
                good++;
                continue;
            }
            assert_int_equal(status, JT_E_IO);
            assert_non_null(strstr(err.msg, "expert 3 of layer 1"));
            assert_non_null(strstr(err.msg, "damaged"));
            assert_int_equal(jt_session_length(s), 0);
            bad++;
        }
        assert_true(good > 5 && bad > 5);
        assert_int_equal(convert(laid_path, back_path, NULL, &err), JT_E_IO);
        assert_non_null(strstr(err.msg, "expert 3 of layer 1"));
        jt_session_free(s);
        jt_session_free(intact);
        jt_model_free(model);
    }
    jt_model_free(plain);
}

static void a_cut_file_is_refused(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_model *model;
    size_t bytes;
    lay_out(plain_path);
    char *data = bytes_of(laid_path, &bytes);
    for (int i = 1; i < 16; i++) {
        scratch_write(laid_path, data, bytes * (size_t)i / 16);
        assert_int_equal(jt_model_load_apart(&model, laid_path, &err), JT_E_FORMAT);
        assert_int_equal(jt_model_load(&model, laid_path, &err), JT_E_FORMAT);
        assert_int_equal(convert(laid_path, back_path, NULL, &err), JT_E_FORMAT);
    }
    free(data);
}

/* Write the laid out file again, its tensors in other places, or with other keys. */
typedef struct change {
    const char *last;    /* tensors with this in their name come last */
    const char *without; /* a tensor that is left out */
    const char *name;    /* of a tensor that comes first in the list; or NULL */
    const char *expect;
} change;

static bool has(jt_str name, const char *part)
{
    return part && memmem(name.data, name.len, part, strlen(part));
}

static void rewrite(const change *how)
{
    jt_err err = {0};
    jt_gguf *file;
    jt_gguf_writer *w;
    must(jt_gguf_open(&file, laid_path, &err), &err);
    must(jt_gguf_writer_new(&w, other_path, &err), &err);
    for (size_t i = 0; i < jt_gguf_kv_count(file); i++)
        must(jt_gguf_set_kv(w, NULL, jt_gguf_kv_at(file, i), &err), &err);
    if (how->name) {
        jt_str name = {how->name, strlen(how->name)};
        must(jt_gguf_set_strs(w, "junto.layout.tensors", &name, 1, &err), &err);
    }
    for (int pass = 0; pass < 4; pass++) {
        for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
            const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
            if (has(t->name, how->without) || has(t->name, how->last) != pass % 2)
                continue;
            must(pass < 2
                     ? jt_gguf_add_tensor(w, name, t->dtype, t->n_dims, t->shape, &err)
                     : jt_gguf_write_tensor(w, t, &err),
                 &err);
        }
    }
    must(jt_gguf_writer_finish(w, &err), &err);
    jt_gguf_close(file);
}

static void other_layouts_are_refused(void **state)
{
    (void)state;
    static const change changes[] = {
        {"ffn_up.", NULL, NULL, "does not lie in one piece"},
        {NULL, "blk.0.ffn_exps.xxh3", NULL, "have no checksums"},
        {NULL, "blk.0.ffn_up.2.", NULL, "'blk.0.ffn_up.2.weight' is missing"},
        {NULL, "output_norm", NULL, "'output_norm.weight' is missing"},
        {NULL, NULL, "token_embd.weight", "does not list the tensors"},
        {NULL, NULL, "blk.7.ffn_up_exps.weight", "has no experts"},
    };
    jt_err err = {0};
    jt_model *model;
    lay_out(plain_path);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        rewrite(&changes[i]);
        if (jt_model_load_apart(&model, other_path, &err) != JT_E_FORMAT)
            fail_msg("not refused: '%s'", changes[i].expect);
        if (!strstr(err.msg, changes[i].expect))
            fail_msg("'%s' instead of '%s'", err.msg, changes[i].expect);
    }
    assert_int_equal(convert(plain_path, other_path, "sideways", &err), JT_E_ARG);
    assert_int_equal(
        convert(plain_path, scratch_path(&scratch_dir, "folder"), "experts", &err),
        JT_E_ARG);
}

static void missing_memory_is_an_error(void **state)
{
    (void)state;
    jt_err err = {0};
    for (long n = 0;; n++) {
        jt_fault_after(n);
        jt_status status = convert(plain_path, laid_path, "experts", &err);
        jt_fault_after(-1);
        if (status == JT_OK)
            break;
        assert_int_equal(status, JT_E_MEMORY);
    }
    for (long n = 0;; n++) {
        jt_model *model;
        jt_fault_after(n);
        jt_status status = jt_model_load_apart(&model, laid_path, &err);
        jt_fault_after(-1);
        if (status == JT_OK) {
            jt_model_free(model);
            break;
        }
        assert_int_equal(status, JT_E_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_families_go_there_and_back),
        cmocka_unit_test(an_expert_is_one_read),
        cmocka_unit_test(types_and_layouts_together),
        cmocka_unit_test(experts_of_different_types),
        cmocka_unit_test(two_processes_share_a_file),
        cmocka_unit_test(damage_fails_those_who_meet_it),
        cmocka_unit_test(a_cut_file_is_refused),
        cmocka_unit_test(other_layouts_are_refused),
        cmocka_unit_test(missing_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
