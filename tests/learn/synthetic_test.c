/* Synthetic domains: the same from run to run, and what their report says of them is
 * what one measures. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>

#include "base/file.h"
#include "base/memory.h"
#include "learn/data.h"
#include "learn/synthetic.h"
#include "scratch.h"

static const jt_synthetic_options small = {.n_domains = 3,
                                           .n_vocab = 64,
                                           .n_documents = 200,
                                           .document_tokens = 101,
                                           .branches = 5,
                                           .classes = 1,
                                           .seed = 7};

/* The tokens of a domain; the caller closes the map. */
static const int32_t *open_domain(jt_map *map, const char *dir, size_t domain,
                                  const jt_synthetic_options *o)
{
    char path[600];
    snprintf(path, sizeof path, "%s/domain-%zu.bin", dir, domain);
    assert_int_equal(jt_map_open(map, path, NULL), JT_OK);
    assert_int_equal(map->bytes, o->n_documents * o->document_tokens * 4);
    return (const int32_t *)(const void *)map->data;
}

static void write_to(const char *name, const jt_synthetic_options *o,
                     jt_synthetic_report *reports)
{
    jt_err err = {0};
    if (jt_synthetic_write(scratch_path(&scratch_dir, name), o, reports, &err) != JT_OK)
        fail_msg("%s", err.msg);
}

static void remove_domains(const char *name, const jt_synthetic_options *o)
{
    for (size_t i = 0; i < o->n_domains; i++) {
        char file[64];
        snprintf(file, sizeof file, "%s/domain-%zu.bin", name, i);
        remove(scratch_path(&scratch_dir, file));
    }
    rmdir(scratch_path(&scratch_dir, name));
}

/* Do the first `count` tokens of a domain agree in two folders? */
static bool same_start(size_t count, size_t domain, const char *a,
                       const jt_synthetic_options *oa, const char *b,
                       const jt_synthetic_options *ob)
{
    jt_map maps[2];
    const int32_t *x = open_domain(&maps[0], scratch_path(&scratch_dir, a), domain, oa);
    const int32_t *y = open_domain(&maps[1], scratch_path(&scratch_dir, b), domain, ob);
    bool same = memcmp(x, y, count * sizeof *x) == 0;
    jt_map_close(&maps[0]);
    jt_map_close(&maps[1]);
    return same;
}

static void same_options_same_bytes(void **state)
{
    (void)state;
    jt_synthetic_options o = small, longer = small, other = small;
    o.copy = longer.copy = other.copy = 0.05;
    o.copy_least = longer.copy_least = other.copy_least = 4;
    o.copy_most = longer.copy_most = other.copy_most = 10;
    longer.n_documents *= 2;
    other.seed++;
    write_to("a", &o, NULL);
    write_to("b", &o, NULL);
    write_to("c", &longer, NULL);
    write_to("d", &other, NULL);
    size_t count = o.n_documents * o.document_tokens;
    for (size_t i = 0; i < o.n_domains; i++) {
        assert_true(same_start(count, i, "a", &o, "b", &o));
        assert_true(same_start(count, i, "a", &o, "c", &longer));
        assert_false(same_start(100, i, "a", &o, "d", &other));
    }
    remove_domains("a", &o);
    remove_domains("b", &o);
    remove_domains("c", &longer);
    remove_domains("d", &other);
}

/* Whatever machine: the first tokens, as they were when this was written. */
static void known_bytes(void **state)
{
    (void)state;
    jt_synthetic_options o = small;
    write_to("a", &o, NULL);
    jt_map map;
    const int32_t *ids = open_domain(&map, scratch_path(&scratch_dir, "a"), 1, &o);
    static const int32_t first[] = {34, 54, 1, 63, 13, 63, 21, 13};
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(ids[i], first[i]);
    jt_map_close(&map);
    remove_domains("a", &o);
}

/* Counts of what follows each context: [V * V] contexts when `order` is 2. */
enum { V = 64 };

typedef struct table {
    uint32_t counts[V * V][V];
    double contexts[V * V];
} table;

static void count(table *t, const int32_t *ids, const jt_synthetic_options *o,
                  int order)
{
    memset(t, 0, sizeof *t);
    for (size_t d = 0; d < o->n_documents; d++) {
        const int32_t *text = ids + d * o->document_tokens;
        for (size_t i = 2; i + 1 < o->document_tokens; i++) {
            int32_t context = text[i - 1] + (order == 2 ? V * text[i - 2] : 0);
            t->counts[context][text[i]]++;
            t->contexts[context]++;
        }
    }
}

/* Nats per token of `a` by the frequencies of `b`, each seen once more. */
static double cross_entropy(const table *a, const table *b)
{
    double nats = 0, tokens = 0;
    for (size_t c = 0; c < V * V; c++) {
        for (size_t next = 0; next < V; next++) {
            double p = (b->counts[c][next] + 1e-3) / (b->contexts[c] + 1e-3 * V);
            nats -= a->counts[c][next] * log(p);
        }
        tokens += a->contexts[c];
    }
    return nats / tokens;
}

static void order_one(void **state)
{
    (void)state;
    jt_synthetic_options o = small;
    o.n_documents = 1000;
    jt_synthetic_report reports[3];
    write_to("a", &o, reports);
    table *t = test_malloc(3 * sizeof *t);
    for (size_t i = 0; i < 3; i++) {
        jt_map map;
        const int32_t *ids = open_domain(&map, scratch_path(&scratch_dir, "a"), i, &o);
        count(&t[i], ids, &o, 1);
        for (size_t c = 1; c < V; c++) {
            size_t different = 0;
            for (size_t next = 0; next < V; next++)
                different += t[i].counts[c][next] > 0;
            assert_true(different <= o.branches);
            assert_true(t[i].contexts[c] < 100 || different == o.branches);
        }
        jt_map_close(&map);
        double nats = cross_entropy(&t[i], &t[i]);
        assert_true(fabs(nats - reports[i].grammar_nats) < 0.02);
        /* 1, 1/2 .. 1/5 over their sum: written out */
        assert_true(fabs(reports[i].grammar_nats - 1.43056) < 1e-3);
        double share = 99.0 / 101 + 1.0 / 101; /* all but the end */
        assert_true(fabs(reports[i].least_nats - share * reports[i].grammar_nats) <
                    1e-9);
        assert_true(reports[i].most_nats == reports[i].least_nats);
    }
    /* What one domain teaches is of little use in another. */
    assert_true(cross_entropy(&t[0], &t[1]) > 3);
    test_free(t);
    remove_domains("a", &o);
}

static void order_two(void **state)
{
    (void)state;
    jt_synthetic_options o = small;
    o.n_documents = 2000;
    o.classes = 4;
    jt_synthetic_report reports[3];
    write_to("a", &o, reports);
    table *t = test_malloc(sizeof *t);
    jt_map map;
    const int32_t *ids = open_domain(&map, scratch_path(&scratch_dir, "a"), 2, &o);
    count(t, ids, &o, 1);
    double one = cross_entropy(t, t);
    count(t, ids, &o, 2);
    double two = cross_entropy(t, t);
    assert_true(one > reports[2].grammar_nats + 0.4);
    assert_true(fabs(two - reports[2].grammar_nats) < 0.05);
    jt_map_close(&map);
    test_free(t);
    remove_domains("a", &o);
}

/* Share of the tokens that end a run of four which was there before. */
static double repeated(const int32_t *ids, const jt_synthetic_options *o)
{
    enum { RUN = 4 };
    size_t found = 0, tokens = 0;
    for (size_t d = 0; d < 100; d++) {
        const int32_t *text = ids + d * o->document_tokens;
        for (size_t i = RUN; i + 1 < o->document_tokens; i++, tokens++) {
            bool is = false;
            for (size_t j = RUN; j < i && !is; j++)
                is =
                    !memcmp(text + j - RUN + 1, text + i - RUN + 1, RUN * sizeof *text);
            found += is;
        }
    }
    return (double)found / (double)tokens;
}

static void copies(void **state)
{
    (void)state;
    jt_synthetic_options o = small;
    o.document_tokens = 256;
    o.copy = 0.03;
    o.copy_least = 8;
    o.copy_most = 24;
    jt_synthetic_report with[3], without[3];
    write_to("a", &o, with);
    o.copy = 0;
    write_to("b", &o, without);
    jt_map a, b;
    const int32_t *x = open_domain(&a, scratch_path(&scratch_dir, "a"), 0, &o);
    const int32_t *y = open_domain(&b, scratch_path(&scratch_dir, "b"), 0, &o);
    assert_true(repeated(x, &o) > repeated(y, &o) + 0.15);
    jt_map_close(&a);
    jt_map_close(&b);
    for (size_t i = 0; i < 3; i++) {
        /* A copy of 16 after 1 / 0.03 tokens, and none in the first 24. */
        double expected = 16 / (16 + 1 / 0.03 - 1) * (256 - 24) / 256;
        assert_true(fabs(with[i].copied - expected) < 0.02);
        assert_true(without[i].copied == 0);
        double least = with[i].grammar_nats * (1 - with[i].copied - 1.0 / 256);
        assert_true(fabs(with[i].least_nats - least) < 1e-9);
        assert_true(with[i].most_nats > least + 0.1);
        assert_true(with[i].most_nats < without[i].most_nats + 0.1);
    }
    remove_domains("a", &o);
    remove_domains("b", &o);
}

static void read_as_training_data(void **state)
{
    (void)state;
    jt_synthetic_options o = jt_synthetic_defaults();
    o.n_domains = 2;
    o.n_documents = 20;
    write_to("a", &o, NULL);
    jt_data_source sources[] = {
        {.path = scratch_path(&scratch_dir, "a/domain-0.bin"), .separator = "0"},
        {.path = scratch_path(&scratch_dir, "a/domain-1.bin"), .separator = "0"}};
    jt_data_options options = {.seq_len = 64, .held_out = 0.1};
    jt_data *data;
    assert_int_equal(jt_data_open(&data, sources, 2, NULL, o.n_vocab, &options, NULL),
                     JT_OK);
    size_t train, held_out, skipped;
    jt_data_documents(data, 1, &train, &held_out, &skipped);
    assert_int_equal(train, 18);
    assert_int_equal(held_out, 2);
    assert_int_equal(skipped, 0);
    uint64_t tokens, held_tokens;
    jt_data_tokens(data, 1, &tokens, &held_tokens);
    assert_int_equal(tokens, 18 * o.document_tokens);
    jt_data_free(data);
    remove_domains("a", &o);
}

static void refused(jt_synthetic_options o, const char *message)
{
    jt_err err = {0};
    const char *dir = scratch_path(&scratch_dir, "none");
    assert_int_equal(jt_synthetic_write(dir, &o, NULL, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, message));
}

static int stop(void *user, const char *what, unsigned long long done,
                unsigned long long total)
{
    (void)user;
    (void)what;
    (void)total;
    return done > 0;
}

static void failures(void **state)
{
    (void)state;
    jt_synthetic_options o = small;
#define WITH(field, value) ((o = small), (o.field = (value)), o)
    refused(WITH(n_domains, 0), "0 domains");
    refused(WITH(n_domains, 257), "257 domains");
    refused(WITH(n_vocab, 2), "2 tokens");
    refused(WITH(branches, 33), "33 branches, of 64 tokens");
    refused(WITH(classes, 0), "0 classes");
    refused(WITH(n_documents, 0), "0 documents");
    refused(WITH(document_tokens, 3), "documents of 3 tokens");
    refused(WITH(copy, NAN), "copies");
    o.copy_least = 9;
    refused(WITH(copy, 0.1), "copies of 0 to 0");
    assert_int_equal(scratch_entries(&scratch_dir, 0), 0);

    jt_err err = {0};
    o = small;
    assert_int_equal(
        jt_synthetic_write(scratch_path(&scratch_dir, "no/such"), &o, NULL, &err),
        JT_E_IO);
    assert_non_null(strstr(err.msg, "no/such"));
    o.progress = (jt_progress){stop, NULL};
    const char *dir = scratch_path(&scratch_dir, "a");
    assert_int_equal(jt_synthetic_write(dir, &o, NULL, &err), JT_E_INTERRUPTED);
    o.progress = (jt_progress){0};
    int failed = 0;
    for (long n = 0; n < 40; n++) {
        jt_fault_after(n);
        jt_status status = jt_synthetic_write(dir, &o, NULL, &err);
        jt_fault_after(-1);
        assert_true(status == JT_OK || status == JT_E_MEMORY);
        failed += status != JT_OK;
    }
    assert_true(failed >= 13);
    remove_domains("a", &o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_options_same_bytes),
        cmocka_unit_test(known_bytes),
        cmocka_unit_test(order_one),
        cmocka_unit_test(order_two),
        cmocka_unit_test(copies),
        cmocka_unit_test(read_as_training_data),
        cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
