/* Models whose experts stay in the file: the same bits as when they are mapped, within
 * the budget, and clear errors when the file fails. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/reader.h"
#include "families.h"
#include "junto/junto.h"
#include "play.h"

/* ---- the same bits ---- */

static int mixtures;

static void compare(const char *path)
{
    jt_err err = {0};
    jt_model *mapped, *apart;
    jt_status status = jt_model_load_apart(&apart, path, &err);
    if (status == JT_E_UNSUPPORTED) { /* a dense model */
        assert_non_null(strstr(err.msg, "no experts"));
        return;
    }
    must(status, &err);
    must(jt_model_load(&mapped, path, &err), &err);
    size_t count, same;
    jt_session_options options = {.threads = 2, .n_ctx = 64, .chunk = 16};
    float *expected = play(mapped, &options, &count, NULL);
    jt_session *s;
    options.store.slots = 1; /* too few: the message tells how many it takes */
    assert_int_equal(jt_session_new(&s, apart, &options, &err), JT_E_ARG);
    const char *fewest = strstr(err.msg, "the fewest are ");
    assert_non_null(fewest);
    options.store.slots = atoi(fewest + strlen("the fewest are "));
    jt_store_stats stats;
    float *got = play(apart, &options, &same, &stats);
    assert_int_equal(same, count);
    if (memcmp(got, expected, count * sizeof *got) != 0)
        fail_msg("%s: other logits with %d slots", path, options.store.slots);
    assert_true(stats.misses > 0 && stats.read_bytes > 0);
    assert_int_equal(stats.tokens, PROMPT + STEPS);
    mixtures++;
    free(expected);
    free(got);
    jt_model_free(mapped);
    jt_model_free(apart);
}

static void all_families_give_the_same_bits(void **state)
{
    (void)state;
    each_model(compare);
    assert_true(mixtures > 20);
}

static const char *model_path(void)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/qwen3moe.gguf", golden_dir());
    return path;
}

static jt_model *open_apart(const char *path)
{
    jt_err err = {0};
    jt_model *model;
    must(jt_model_load_apart(&model, path, &err), &err);
    return model;
}

static void every_way_gives_the_same_bits(void **state)
{
    (void)state;
    static const char *const io[] = {"direct", "buffered"};
    static const char *const engine[] = {"uring", "pread"};
    static const char *const prefetch[] = {"off", "router", "paths", "auto"};
    jt_model *model = open_apart(model_path());
    jt_model_info info;
    jt_model_describe(model, &info);
    size_t count, same;
    jt_session_options options = {.threads = 2, .n_ctx = 64};
    float *expected = play(model, &options, &count, NULL);
    for (int i = 0; i < 64; i++) {
        jt_store_stats stats;
        const char *policy = jt_cache_policy_name((size_t)i % 5);
        options.chunk = i % 3 ? 7 : 40;
        options.store = (jt_store_options){.slots = 6 + i % 9,
                                           .policy = policy,
                                           .io = io[i / 4 % 2],
                                           .engine = engine[i / 8 % 2],
                                           .prefetch = prefetch[i / 16]};
        jt_err err = {0};
        jt_session *s;
        if (jt_session_new(&s, model, &options, &err) != JT_OK) {
            assert_int_equal(err.code, JT_E_UNSUPPORTED); /* here, this way is closed */
            continue;
        }
        jt_session_free(s);
        float *got = play(model, &options, &same, &stats);
        assert_string_equal(stats.policy, policy);
        assert_string_equal(stats.engine, engine[i / 8 % 2]);
        assert_int_equal(stats.direct, !strcmp(io[i / 4 % 2], "direct"));
        assert_int_equal(stats.budget.slots, 6 + i % 9);
        assert_true(stats.ahead_used <= stats.ahead);
        assert_true(stats.right_guesses <= stats.guesses);
        if (i / 16 == 0)
            assert_int_equal(stats.ahead, 0);
        assert_memory_equal(got, expected, count * sizeof *got);
        free(got);
    }
    free(expected);
    jt_model_free(model);
}

/* ---- guesses ---- */

/* Tokens that layers asked for in their turn, and that one or two layers before it were
 * guessed for. */
typedef struct asked {
    int layers, looking; /* the layer whose turn is next */
    int in_turn, ahead[2];
} asked;

/* Experts that follow from the layer and the position alone. */
static void turn_logits(void *self, const jt_route_site *site, float *logits,
                        int n_tokens, int n_experts)
{
    asked *a = self;
    if (site->guess)
        a->ahead[site->layer > a->looking + 1] += n_tokens;
    else
        a->in_turn += n_tokens;
    if (!site->guess)
        a->looking = (site->layer + 1) % a->layers;
    for (int t = 0; t < n_tokens; t++) {
        for (int e = 0; e < n_experts; e++)
            logits[t * n_experts + e] =
                (float)((e * 5 + site->positions[t] * 3 + site->layer) % n_experts);
    }
}

static void guesses_know_who_steers(void **state)
{
    (void)state;
    char path[600]; /* of three mixtures */
    snprintf(path, sizeof path, "%s/granitehybrid.gguf", golden_dir());
    jt_model *model = open_apart(path);
    jt_session_options options = {
        .threads = 1, .n_ctx = 64, .store = {.slots = 6, .prefetch = "router"}};
    jt_err err = {0};
    jt_session *s;
    must(jt_session_new(&s, model, &options, &err), &err);
    jt_model_info info;
    jt_model_describe(model, &info);
    asked a = {.layers = info.n_layers};
    jt_policy policy = {.name = "turn", .self = &a, .on_logits = turn_logits};
    must(jt_session_add_policy(s, &policy, &err), &err);
    for (int32_t token = 1; token < 20; token++)
        must(jt_session_eval(s, &token, 1, NULL, &err), &err);
    jt_store_stats stats;
    assert_true(jt_session_store_stats(s, &stats));
    assert_true(a.ahead[1] > 0 && a.ahead[1] < a.ahead[0] && a.ahead[0] < a.in_turn);
    assert_true(stats.guesses > 0);
    assert_int_equal(stats.right_guesses, stats.guesses);
    jt_session_free(s);
    jt_model_free(model);
}

/* The model with routers that decide a layer early. */
static void write_early(const char *path)
{
    jt_err err = {0};
    jt_gguf *file;
    jt_gguf_writer *w;
    must(jt_gguf_open(&file, model_path(), &err), &err);
    must(jt_gguf_writer_new(&w, path, &err), &err);
    for (size_t i = 0; i < jt_gguf_kv_count(file); i++)
        must(jt_gguf_set_kv(w, NULL, jt_gguf_kv_at(file, i), &err), &err);
    must(jt_gguf_set_bool(w, "junto.router.ahead", true, &err), &err);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
            const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
            must(pass
                     ? jt_gguf_write_tensor(w, t, &err)
                     : jt_gguf_add_tensor(w, name, t->dtype, t->n_dims, t->shape, &err),
                 &err);
        }
    }
    must(jt_gguf_writer_finish(w, &err), &err);
    jt_gguf_close(file);
}

/* Logits are the same in any passes and slots, other than those of usual routers, and
 * every guess comes true. */
static void early_routers_leave_nothing_to_guess(void **state)
{
    (void)state;
    char path[64];
    jt_err err = {0};
    jt_model *mapped, *usual;
    jt_store_stats stats;
    size_t count;
    jt_session_options options = {.threads = 2, .n_ctx = 64, .chunk = 40};
    snprintf(path, sizeof path, "/tmp/junto-early-%d.gguf", (int)getpid());
    write_early(path);
    jt_model *apart = open_apart(path);
    must(jt_model_load(&mapped, path, &err), &err);
    must(jt_model_load(&usual, model_path(), &err), &err);
    float *expected = play(mapped, &options, &count, NULL);
    float *other = play(usual, &options, &count, NULL);
    assert_memory_not_equal(expected, other, count * sizeof *other);
    options.chunk = 1;
    options.store = (jt_store_options){.slots = 6, .prefetch = "router"};
    float *got = play(apart, &options, &count, &stats);
    assert_memory_equal(got, expected, count * sizeof *got);
    assert_true(stats.guesses > 10);
    assert_int_equal(stats.right_guesses, stats.guesses);
    free(got);
    free(other);
    free(expected);
    jt_model_free(apart);
    jt_model_free(mapped);
    jt_model_free(usual);
    unlink(path);
}

/* ---- budgets ---- */

static void a_budget_is_kept_or_refused(void **state)
{
    (void)state;
    jt_model *model = open_apart(model_path());
    jt_session_options options = {.threads = 1, .n_ctx = 64, .store = {.ram = 1 << 20}};
    jt_err err = {0};
    jt_session *s;
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_LIMIT);
    const char *least = strstr(err.msg, "the smallest budget is ");
    assert_non_null(least);
    options.store.ram = strtoull(least + 23, NULL, 10) << 20;
    must(jt_session_new(&s, model, &options, &err), &err);
    jt_store_stats stats;
    assert_true(jt_session_store_stats(s, &stats));
    const jt_store_budget *b = &stats.budget;
    assert_true(b->slots >= 4 && b->slots <= b->experts);
    assert_true(b->process + b->context + b->scratch + b->reserve +
                    (uint64_t)b->slots * b->slot <=
                b->ram);
    jt_session_free(s);
    jt_model_free(model);
}

static void wrong_options_are_refused(void **state)
{
    (void)state;
    jt_model *apart = open_apart(model_path()), *mapped;
    jt_err err = {0};
    jt_session *s;
    static const jt_store_options wrong[] = {
        {.policy = "best"}, {.policy = "belady"}, {.policy = "pin"},
        {.io = "psychic"},  {.engine = "steam"},  {.prefetch = "dreams"},
        {.slots = 1},
    };
    must(jt_model_load(&mapped, model_path(), &err), &err);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        jt_session_options options = {.store = wrong[i]};
        assert_int_equal(jt_session_new(&s, apart, &options, &err), JT_E_ARG);
    }
    jt_session_options options = {.store = {.ram = 1 << 30}};
    assert_int_equal(jt_session_new(&s, mapped, &options, &err), JT_E_ARG);
    jt_store_stats stats;
    options.store.ram = 0;
    must(jt_session_new(&s, mapped, &options, &err), &err);
    assert_false(jt_session_store_stats(s, &stats));
    jt_session_free(s);
    jt_model_free(mapped);
    jt_model_free(apart);
}

static void missing_memory_is_an_error(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_model *model;
    for (long n = 0;; n++) {
        jt_fault_after(n);
        jt_status status = jt_model_load_apart(&model, model_path(), &err);
        jt_fault_after(-1);
        if (status == JT_OK)
            break;
        assert_int_equal(status, JT_E_MEMORY);
    }
    for (long n = 0;; n++) {
        jt_session *s;
        jt_session_options options = {.threads = 1, .n_ctx = 64, .store = {.slots = 6}};
        jt_fault_after(n);
        jt_status status = jt_session_new(&s, model, &options, &err);
        jt_fault_after(-1);
        if (status == JT_OK) {
            jt_session_free(s);
            break;
        }
        assert_int_equal(status, JT_E_MEMORY);
    }
    jt_model_free(model);
}

/* ---- files that fail ---- */

static void copy_model(char *path, size_t room)
{
    char buffer[4096];
    snprintf(path, room, "/tmp/junto-store-XXXXXX");
    int fd = mkstemp(path);
    FILE *from = fopen(model_path(), "rb"), *to = fdopen(fd, "wb");
    assert_non_null(from);
    assert_non_null(to);
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, from));)
        assert_int_equal(fwrite(buffer, 1, n, to), n);
    fclose(from);
    fclose(to);
}

/* A session that reads an expert for almost every use. */
static jt_session *needy(const jt_model *model, const char *engine)
{
    jt_err err = {0};
    jt_session *s;
    jt_session_options options = {
        .threads = 1,
        .n_ctx = 64,
        .store = {.slots = 6, .engine = engine, .prefetch = "off"}};
    must(jt_session_new(&s, model, &options, &err), &err);
    return s;
}

static uint64_t misses_of(const jt_session *s)
{
    jt_store_stats stats;
    assert_true(jt_session_store_stats(s, &stats));
    return stats.misses;
}

static void a_read_error_fails_one_request(void **state)
{
    (void)state;
    jt_model *model = open_apart(model_path());
    jt_err err = {0};
    size_t count;
    jt_session_options options = {.threads = 1, .n_ctx = 64};
    float *expected = play(model, &options, &count, NULL);
    size_t vocab = count / (STEPS + 1);
    for (int kind = 0; kind < 2; kind++) {
        jt_session *s = needy(model, kind ? "pread" : NULL);
        long n = 0;
        for (;; n++) {
            /* Nothing of the request before is still under way after this. */
            must(jt_session_eval(s, prompt, PROMPT, NULL, &err), &err);
            jt_session_truncate(s, 0);
            uint64_t before = misses_of(s);
            jt_read_fault_set((jt_read_fault){.after = n, .error = n % 2 ? EIO : 0});
            jt_status status = jt_session_eval(s, prompt, PROMPT, NULL, &err);
            jt_read_fault_set((jt_read_fault){.after = -1});
            if (status == JT_OK) { /* it read so little: gate, up and down of each */
                assert_true(3 * (misses_of(s) - before) <= (uint64_t)n);
                break;
            }
            assert_int_equal(status, JT_E_IO);
            assert_non_null(strstr(err.msg, "cannot read expert "));
            assert_non_null(
                strstr(err.msg, n % 2 ? "Input/output error" : "the file ends"));
            assert_int_equal(jt_session_length(s), 0);
        }
        assert_true(n > 20);
        jt_session_truncate(s, 0);
        must(jt_session_eval(s, prompt, PROMPT, NULL, &err), &err); /* all is well */
        assert_memory_equal(jt_session_logits(s), expected, vocab * sizeof(float));
        jt_session_free(s);
    }
    free(expected);
    jt_model_free(model);
}

static void short_reads_and_a_slow_disk_do_no_harm(void **state)
{
    (void)state;
    jt_model *model = open_apart(model_path());
    jt_err err = {0};
    size_t count;
    jt_session_options options = {.threads = 1, .n_ctx = 64};
    float *expected = play(model, &options, &count, NULL);
    jt_session *s = needy(model, NULL);
    for (long n = 0; n < 20; n++) {
        jt_read_fault_set((jt_read_fault){.after = n, .keep = 4096, .pause_us = 50});
        jt_session_truncate(s, 0);
        must(jt_session_eval(s, prompt, PROMPT, NULL, &err), &err);
        jt_read_fault_set((jt_read_fault){.after = -1});
        assert_memory_equal(jt_session_logits(s), expected,
                            count / (STEPS + 1) * sizeof(float));
    }
    jt_session_free(s);
    free(expected);
    jt_model_free(model);
}

/* ---- a disk that stands still for a while ---- */

typedef struct request {
    jt_session *s;
    jt_status status;
    jt_err err;
    atomic_bool ended;
} request;

static void *carry_out(void *arg)
{
    request *r = arg;
    r->status = jt_session_eval(r->s, prompt, PROMPT, NULL, &r->err);
    atomic_store(&r->ended, true);
    return NULL;
}

/* The request that needs it waits; others, of a model on another disk and of one that
 * is mapped, go on; and when the disk is only slow again, what comes is right. */
static void a_disk_that_stands_still_holds_up_nobody_else(void **state)
{
    (void)state;
    enum { NEVER = 1000000000, SLOW = 3000 };
    char path[64];
    jt_err err = {0};
    size_t count;
    pthread_t thread;
    copy_model(path, sizeof path);
    jt_model *here = open_apart(model_path()), *there = open_apart(path), *mapped;
    must(jt_model_load(&mapped, model_path(), &err), &err);
    jt_session_options options = {.threads = 1, .n_ctx = 64};
    float *expected = play(here, &options, &count, NULL);
    size_t bytes = count / (STEPS + 1) * sizeof(float);
    jt_session *other[2] = {needy(here, NULL)};
    must(jt_session_new(&other[1], mapped, &options, &err), &err);
    for (int engine = 0; engine < 2; engine++) {
        request r = {.s = needy(there, engine ? "pread" : NULL)};
        jt_read_slow_set(path, NEVER);
        assert_int_equal(pthread_create(&thread, NULL, carry_out, &r), 0);
        for (int i = 0; i < 6; i++) {
            jt_session *s = other[i % 2];
            jt_session_truncate(s, 0);
            must(jt_session_eval(s, prompt, PROMPT, NULL, &err), &err);
            assert_memory_equal(jt_session_logits(s), expected, bytes);
        }
        assert_false(atomic_load(&r.ended));
        jt_read_slow_set(path, SLOW);
        pthread_join(thread, NULL);
        must(r.status, &r.err);
        assert_memory_equal(jt_session_logits(r.s), expected, bytes);
        jt_store_stats stats;
        jt_session_store_stats(r.s, &stats);
        assert_true(stats.stall_seconds >= 1e-6 * SLOW); /* and it says so */
        jt_read_slow_set(NULL, 0);
        jt_session_truncate(r.s, 0);
        must(jt_session_eval(r.s, prompt, PROMPT, NULL, &err), &err);
        assert_memory_equal(jt_session_logits(r.s), expected, bytes);
        jt_session_free(r.s);
    }
    jt_session_free(other[0]);
    jt_session_free(other[1]);
    jt_model_free(here);
    jt_model_free(there);
    jt_model_free(mapped);
    free(expected);
    unlink(path);
}

static void a_file_that_changes_is_noticed(void **state)
{
    (void)state;
    jt_err err = {0};
    for (int how = 0; how < 2; how++) {
        char path[64];
        struct stat st;
        copy_model(path, sizeof path);
        assert_int_equal(stat(path, &st), 0);
        jt_model *model = open_apart(path);
        jt_session *s = needy(model, NULL);
        must(jt_session_eval(s, prompt, 4, NULL, &err), &err);
        if (how == 0) {
            assert_int_equal(truncate(path, st.st_size / 2), 0);
        } else {
            FILE *f = fopen(path, "r+b");
            assert_non_null(f);
            fputs("not a model any more", f);
            fclose(f);
        }
        for (int i = 0; i < 2; i++) {
            assert_int_equal(jt_session_eval(s, prompt, 4, NULL, &err), JT_E_IO);
            assert_non_null(strstr(err.msg, "while it was in use"));
            assert_int_equal(jt_session_length(s), 4);
        }
        jt_session_free(s);
        jt_model_free(model);
        unlink(path);
    }
}

/* Send what was computed to the other process. */
static void send_all(int to, const float *logits, size_t count)
{
    const char *at = (const char *)logits, *end = (const char *)(logits + count);
    for (ssize_t n; at < end && (n = write(to, at, (size_t)(end - at))) > 0;)
        at += n;
}

static void two_processes_share_a_file(void **state)
{
    (void)state;
    size_t count;
    int ends[2];
    jt_session_options options = {.threads = 1, .n_ctx = 64, .store = {.slots = 6}};
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    jt_model *model = open_apart(model_path());
    float *got = play(model, &options, &count, NULL);
    if (child == 0) {
        send_all(ends[1], got, count);
        _exit(0);
    }
    close(ends[1]);
    FILE *from = fdopen(ends[0], "rb");
    float *theirs = malloc(count * sizeof *theirs);
    assert_non_null(from);
    assert_int_equal(fread(theirs, sizeof *theirs, count, from), count);
    assert_memory_equal(theirs, got, count * sizeof *got);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    fclose(from);
    free(theirs);
    free(got);
    jt_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_families_give_the_same_bits),
        cmocka_unit_test(every_way_gives_the_same_bits),
        cmocka_unit_test(guesses_know_who_steers),
        cmocka_unit_test(early_routers_leave_nothing_to_guess),
        cmocka_unit_test(a_budget_is_kept_or_refused),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(missing_memory_is_an_error),
        cmocka_unit_test(a_read_error_fails_one_request),
        cmocka_unit_test(short_reads_and_a_slow_disk_do_no_harm),
        cmocka_unit_test(a_disk_that_stands_still_holds_up_nobody_else),
        cmocka_unit_test(a_file_that_changes_is_noticed),
        cmocka_unit_test(two_processes_share_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
