/* The synthetic corpus: its files, its seed, and what can be learnt from it. */
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
#include "learn/data.h"
#include "learn/synthetic.h"
#include "scratch.h"

enum { VOCAB = 40, CLASSES = 4, DOCUMENTS = 50, LENGTH = 64, HEADER = 128 };

static const jt_synthetic_options usual = {.n_domains = 2,
                                           .n_vocab = VOCAB,
                                           .n_classes = CLASSES,
                                           .documents = DOCUMENTS,
                                           .length = LENGTH,
                                           .seed = 5};

/* The tokens of a file that these options give; the caller frees *data. */
static const int32_t *tokens_of(const char *dir, const char *name,
                                const jt_synthetic_options *options, char **data,
                                size_t *count)
{
    char path[160];
    jt_err err = {0};
    size_t bytes;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(jt_synthetic_write(dir, options, &err), JT_OK);
    assert_int_equal(jt_read_file(data, &bytes, path, 1 << 24, &err), JT_OK);
    *count = (bytes - HEADER) / sizeof(int32_t);
    return (const int32_t *)(const void *)(*data + HEADER);
}

static void same_seed_same_text(void **state)
{
    jt_synthetic_options other = usual;
    other.seed++;
    char *a, *b, *c;
    size_t n, m, l;
    const int32_t *first = tokens_of(*state, "domain1.npy", &usual, &a, &n);
    const int32_t *again = tokens_of(*state, "domain1.npy", &usual, &b, &m);
    const int32_t *differs = tokens_of(*state, "domain1.npy", &other, &c, &l);
    assert_int_equal(n, DOCUMENTS * LENGTH);
    assert_int_equal(m, n);
    assert_int_equal(l, n);
    assert_memory_equal(first, again, n * sizeof *first);
    assert_memory_not_equal(first, differs, n * sizeof *first);
    free(a);
    free(b);
    free(c);
}

/* The reader of training data takes the files, domains and all. */
static void the_files_are_data(void **state)
{
    static const char *const names[] = {"domain0.npy", "domain1.npy",
                                        JT_SYNTHETIC_MIXED};
    jt_err err = {0};
    char path[3][160];
    jt_data_source sources[3] = {{0}};
    jt_data_options options = {.seq_len = 32, .held_out = 0.1};
    jt_data *data;
    assert_int_equal(jt_synthetic_write(*state, &usual, &err), JT_OK);
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", (const char *)*state, names[i]);
        sources[i].path = path[i];
    }
    if (jt_data_open(&data, sources, 3, NULL, VOCAB, &options, &err) != JT_OK)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < 3; i++) {
        uint64_t train, held_out;
        jt_data_tokens(data, i, &train, &held_out);
        assert_int_equal(train + held_out, (i < 2 ? 1 : 2) * DOCUMENTS * LENGTH);
    }
    jt_data_free(data);
}

/* Followers that a context (class of the token before last, last token) has in the
 * first domain, at most four, and those of them that it has in the second too. */
static void count_followers(const char *dir, const jt_synthetic_options *options,
                            size_t *all, size_t *both)
{
    static const char *const names[] = {"domain0.npy", "domain1.npy"};
    static uint8_t seen[2][CLASSES * VOCAB][VOCAB];
    size_t count;
    char *data;
    memset(seen, 0, sizeof seen);
    for (int d = 0; d < 2; d++) {
        const int32_t *t = tokens_of(dir, names[d], options, &data, &count);
        for (size_t i = 2; i < count; i++) {
            if (i % LENGTH >= 2)
                seen[d][t[i - 2] % CLASSES * VOCAB + t[i - 1]][t[i]] = 1;
        }
        free(data);
    }
    *all = *both = 0;
    for (int context = 0; context < CLASSES * VOCAB; context++) {
        int followers = 0;
        for (int next = 0; next < VOCAB; next++) {
            followers += seen[0][context][next];
            *both += seen[0][context][next] && seen[1][context][next];
        }
        assert_in_range(followers, 0, 4);
        *all += (size_t)followers;
    }
    assert_true(*all > CLASSES * VOCAB);
}

static void contexts_have_few_followers(void **state)
{
    jt_synthetic_options options = usual;
    size_t all, both, half_both, whole_both;
    options.documents = 8 * DOCUMENTS;
    count_followers(*state, &options, &all, &both);
    assert_true(both < all / 8); /* by chance */
    options.common = 0.5;
    count_followers(*state, &options, &all, &half_both);
    assert_in_range(half_both, all * 3 / 10, all * 6 / 10);
    options.common = 1.0;
    count_followers(*state, &options, &all, &whole_both);
    assert_true(whole_both > all * 8 / 10);
}

static void nowhere_to_write(void **state)
{
    jt_err err = {0};
    (void)state;
    assert_int_equal(jt_synthetic_write("/nowhere/at/all", &usual, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "/nowhere/at/all"));
}

static int set_up(void **state)
{
    static scratch folder;
    folder = scratch_new();
    *state = folder.dir;
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", (const char *)*state);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_text),
        cmocka_unit_test(the_files_are_data),
        cmocka_unit_test(contexts_have_few_followers),
        cmocka_unit_test(nowhere_to_write),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
