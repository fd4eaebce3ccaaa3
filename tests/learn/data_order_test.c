/* Training data: what is in the batches, and in which order. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "data_files.h"

enum { DOCS = 60, VOCAB = 1000 * DOCS };

/* The numbers of data_numbers_file. */
static jt_data *open_numbers(size_t seq_len, double held_out, uint64_t seed)
{
    jt_data_source source = {.path = data_numbers_file("numbers.bin", DOCS),
                             .separator = "0"};
    return data_open(
        &source, 1, NULL, VOCAB,
        (jt_data_options){.seq_len = seq_len, .held_out = held_out, .seed = seed});
}

static jt_batch new_batch(size_t n_seqs, size_t seq_len)
{
    jt_batch batch;
    assert_int_equal(jt_batch_new(&batch, n_seqs, seq_len, NULL), JT_OK);
    return batch;
}

static void fill(const jt_data *data, uint64_t index, jt_batch *batch)
{
    assert_int_equal(jt_data_train_batch(data, index, batch, NULL), JT_OK);
}

/* Every token is where it should be: fragments one behind the other, each a stretch of
 * one document, with the targets that come next in it. Counts the numbers (0, the end
 * token, counts for its document at [1000 * document]). */
static void check_batch(const jt_batch *batch, int *counts)
{
    for (size_t i = 0; i < batch->n_seqs * batch->seq_len; i++) {
        int32_t token = batch->tokens[i], target = batch->targets[i];
        size_t first = (size_t)batch->first[i], row = i / batch->seq_len;
        bool begins = first == i;
        assert_int_equal(batch->positions[i], i - first);
        assert_true(first / batch->seq_len == row);
        if (i % batch->seq_len == 0)
            assert_true(begins);
        else
            assert_true(begins || first == (size_t)batch->first[i - 1]);
        if (token == 0) {
            assert_int_equal(target, -1);
            int32_t before = begins ? 0 : batch->tokens[i - 1];
            counts[before / 1000 * 1000]++; /* of document 0, if that is not known */
            continue;
        }
        size_t doc = (size_t)token / 1000, place = (size_t)token % 1000;
        bool last = place + 1 == data_numbers_length(doc);
        assert_int_equal(target, last ? 0 : token + 1);
        if (!begins)
            assert_int_equal(batch->tokens[i - 1], token - 1);
        else if (i % batch->seq_len != 0) /* the document before it has ended */
            assert_true(place == 1 && batch->tokens[i - 1] == 0);
        counts[token]++;
    }
}

static size_t total_length(void)
{
    size_t total = 0;
    for (size_t d = 0; d < DOCS; d++)
        total += data_numbers_length(d);
    return total;
}

/* Batches as long as an epoch: each has every document once, in its own order. */
static void whole_epochs(void **state)
{
    (void)state;
    size_t total = total_length();
    jt_data *data = open_numbers(total, 0, 1);
    assert_int_equal(jt_data_epoch_tokens(data), total);
    jt_batch batch = new_batch(1, total), before = new_batch(1, total);
    for (uint64_t epoch = 0; epoch < 4; epoch++) {
        int *counts = calloc(VOCAB, sizeof *counts);
        fill(data, epoch, &batch);
        check_batch(&batch, counts);
        for (size_t d = 0; d < DOCS; d++) {
            assert_int_equal(counts[d * 1000], 1);
            for (size_t i = 1; i < data_numbers_length(d); i++)
                assert_int_equal(counts[d * 1000 + i], 1);
        }
        assert_memory_not_equal(batch.tokens, before.tokens, total * sizeof(int32_t));
        memcpy(before.tokens, batch.tokens, total * sizeof(int32_t));
        free(counts);
    }
    jt_batch_free(&batch);
    jt_batch_free(&before);
    jt_data_free(data);
}

/* Sequences that are not: the first epoch's have every token at least once, and after
 * seq_len epochs all have come the same number of times. */
static void every_token_once(void **state)
{
    (void)state;
    static const size_t lengths[] = {2, 7, 16, 64, 1000};
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        size_t seq_len = lengths[l], total = total_length();
        jt_data *data = open_numbers(seq_len, 0, 3);
        jt_batch batch = new_batch(1, seq_len);
        int *counts = calloc(VOCAB, sizeof *counts);
        size_t one_epoch = (total + seq_len - 1) / seq_len;
        for (uint64_t i = 0; i < total; i++) {
            if (i == one_epoch) {
                for (size_t d = 0; d < DOCS; d++) {
                    for (size_t k = 1; k < data_numbers_length(d); k++)
                        assert_true(counts[d * 1000 + k] >= 1);
                }
            }
            fill(data, i, &batch);
            check_batch(&batch, counts);
        }
        for (size_t d = 0; d < DOCS; d++) {
            for (size_t k = 1; k < data_numbers_length(d); k++)
                assert_int_equal(counts[d * 1000 + k], seq_len);
        }
        free(counts);
        jt_batch_free(&batch);
        jt_data_free(data);
    }
}

static void borders(void **state)
{
    (void)state;
    /* One document of ten tokens in sequences of four: the stream of epochs, of which
     * the sequences are cut, begins anew at 10 and 20. */
    static const int32_t ids[10] = {11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
    jt_data_source source = {.path = data_bytes_file("ten.bin", ids, sizeof ids)};
    jt_data *data = data_open(&source, 1, NULL, 100, (jt_data_options){.seq_len = 4});
    jt_batch batch = new_batch(5, 4);
    fill(data, 0, &batch);
    bool seen[20] = {false};
    for (size_t row = 0; row < 5; row++) {
        size_t start = row * 4, place = (size_t)(batch.tokens[start] - 11);
        /* Rows 0 to 2 begin in the first epoch, the others in the second, at 12, 16. */
        if (row >= 3)
            assert_true(place == 2 || place == 6);
        for (size_t i = 0; i < 4; i++, place++) {
            size_t at = start + i, epoch = (row >= 3) + (place >= 10);
            size_t fragment = place >= 10 ? at - (place - 10) : start;
            assert_int_equal(batch.tokens[at], 11 + place % 10);
            assert_int_equal(batch.targets[at],
                             place % 10 == 9 ? -1 : (int)(12 + place % 10));
            assert_int_equal(batch.first[at], fragment);
            assert_int_equal(batch.positions[at], at - fragment);
            assert_int_equal(batch.domains[at], 0);
            assert_false(seen[epoch * 10 + place % 10]);
            seen[epoch * 10 + place % 10] = true;
        }
    }
    jt_batch_free(&batch);
    jt_data_free(data);
}

/* A long document is not read in one go, and equal sources are not read alike. */
static void sequences_are_shuffled(void **state)
{
    (void)state;
    int32_t ids[400];
    for (int i = 0; i < 400; i++)
        ids[i] = i;
    const char *path = data_bytes_file("long.bin", ids, sizeof ids);
    jt_data_source sources[] = {{.path = path}, {.path = path}};
    jt_data *data = data_open(sources, 2, NULL, 400, (jt_data_options){.seq_len = 4});
    jt_batch batch = new_batch(2, 4);
    size_t next = 0, alike = 0;
    int32_t last[2] = {0, 0};
    for (size_t i = 0; i < 100; i++) {
        fill(data, i, &batch);
        alike += batch.tokens[0] == batch.tokens[4];
        for (size_t row = 0; row < 2; row++) {
            int32_t *end = &last[batch.domains[row * 4]];
            next += batch.tokens[row * 4] == *end + 1;
            *end = batch.tokens[row * 4 + 3];
        }
    }
    assert_true(next < 20 && alike < 20);
    jt_batch_free(&batch);
    jt_data_free(data);
}

static void any_order_of_calls(void **state)
{
    (void)state;
    enum { STEPS = 40, ROWS = 3, LEN = 24, TOKENS = ROWS * LEN };
    jt_data *data = open_numbers(LEN, 0.2, 5), *again = open_numbers(LEN, 0.2, 5);
    jt_data *other = open_numbers(LEN, 0.2, 6);
    jt_batch batch = new_batch(ROWS, LEN), single = new_batch(1, LEN);
    int32_t all[STEPS][TOKENS];
    for (size_t i = 0; i < STEPS; i++) {
        fill(data, i, &batch);
        memcpy(all[i], batch.tokens, sizeof all[i]);
    }
    size_t differ = 0;
    for (size_t i = STEPS; i-- > 0;) {
        fill(data, i, &batch);
        assert_memory_equal(batch.tokens, all[i], sizeof all[i]);
        fill(again, i * 7 % STEPS, &batch);
        assert_memory_equal(batch.tokens, all[i * 7 % STEPS], sizeof all[i]);
        for (size_t row = 0; row < ROWS; row++) { /* a batch is its sequences */
            fill(again, i * ROWS + row, &single);
            assert_memory_equal(single.tokens, all[i] + row * LEN, LEN * 4);
        }
        fill(other, i, &batch);
        differ += memcmp(batch.tokens, all[i], sizeof all[i]) != 0;
    }
    assert_int_equal(differ, STEPS);
    jt_batch_free(&batch);
    jt_batch_free(&single);
    jt_data_free(data);
    jt_data_free(again);
    jt_data_free(other);
}

/* ---- virtual tokens ---- */

/* Every fragment begins with all of its virtual tokens, if there is room, and nothing
 * else is one. Counts the tokens that may be learnt. */
static void check_fronts(const jt_batch *batch, size_t front, int *counts)
{
    for (size_t i = 0; i < batch->n_seqs * batch->seq_len; i++) {
        size_t place = i - (size_t)batch->first[i];
        bool padding = batch->front[batch->first[i]] < 0;
        assert_int_equal(batch->positions[i], place);
        if (padding || place < front) {
            assert_int_equal(batch->front[i], padding ? -1 : (int)place);
            assert_int_equal(batch->tokens[i], 0);
            assert_int_equal(batch->targets[i], -1);
            if (padding) /* before virtual tokens that began in another sequence */
                assert_true(i % batch->seq_len < front);
            continue;
        }
        assert_int_equal(batch->front[i], -1);
        counts[batch->tokens[i]]++;
        if (batch->targets[i] >= 0)
            assert_true(batch->targets[i] == 0 ||
                        batch->targets[i] == batch->tokens[i] + 1);
    }
}

/* As many epochs as a sequence takes of the stream: every token as many times. */
static void virtual_tokens(void **state)
{
    static const size_t cases[][2] = {{1, 4}, {3, 8}, {5, 40}, {20, 64}};
    jt_data_source source = {.path = data_numbers_file("numbers.bin", DOCS),
                             .separator = "0"};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        size_t front = cases[c][0], seq_len = cases[c][1];
        jt_data *data =
            data_open(&source, 1, NULL, VOCAB,
                      (jt_data_options){.seq_len = seq_len, .front = front, .seed = 3});
        jt_batch batch = new_batch(1, seq_len);
        int *counts = calloc(VOCAB, sizeof *counts);
        assert_int_equal(jt_data_epoch_tokens(data), total_length());
        for (uint64_t i = 0; i < total_length() + DOCS * front; i++) {
            fill(data, i, &batch);
            check_fronts(&batch, front, counts);
        }
        for (size_t d = 0; d < DOCS; d++) {
            for (size_t k = 1; k < data_numbers_length(d); k++)
                assert_int_equal(counts[d * 1000 + k], seq_len - front);
        }
        free(counts);
        jt_batch_free(&batch);
        jt_data_free(data);
    }
}

/* Held out: once each, and padding only at the end. */
static void virtual_tokens_held_out(void **state)
{
    enum { FRONT = 4, LENGTH = 24 };
    jt_data_source source = {.path = data_numbers_file("numbers.bin", DOCS),
                             .separator = "0"};
    jt_data *data = data_open(
        &source, 1, NULL, VOCAB,
        (jt_data_options){.seq_len = LENGTH, .front = FRONT, .held_out = 0.3});
    jt_batch batch = new_batch(1, LENGTH);
    int *counts = calloc(VOCAB, sizeof *counts), seen = 0;
    uint64_t train, held;
    size_t filled, n = jt_data_eval_count(data, 0);
    (void)state;
    jt_data_tokens(data, 0, &train, &held);
    assert_true(held > 0 && train + held == total_length());
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(jt_data_eval_batch(data, 0, i, &batch, &filled, NULL), JT_OK);
        assert_int_equal(filled, 1);
        if (i + 1 < n)
            check_fronts(&batch, FRONT, counts);
        for (size_t t = 0; t < LENGTH; t++)
            seen += batch.tokens[t] != 0;
    }
    for (size_t i = 1; i < VOCAB; i++)
        assert_in_range(counts[i], 0, 1);
    size_t train_docs, held_docs, skipped;
    jt_data_documents(data, 0, &train_docs, &held_docs, &skipped);
    assert_int_equal((size_t)seen + held_docs, held); /* which end with token 0 */
    free(counts);
    jt_batch_free(&batch);
    jt_data_free(data);
}

typedef struct worker {
    const jt_data *data;
    int32_t (*wanted)[48];
    size_t step; /* from batch to batch */
    bool same;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    jt_batch batch = {0};
    w->same = jt_batch_new(&batch, 2, 24, NULL) == JT_OK;
    for (size_t i = 0; i < 300 && w->same; i++) {
        size_t index = i * w->step % 100;
        w->same = jt_data_train_batch(w->data, index, &batch, NULL) == JT_OK &&
                  memcmp(batch.tokens, w->wanted[index], sizeof w->wanted[0]) == 0;
    }
    jt_batch_free(&batch);
    return NULL;
}

static void from_two_threads(void **state)
{
    (void)state;
    static int32_t wanted[100][48];
    jt_data *data = open_numbers(24, 0, 5);
    jt_batch batch = new_batch(2, 24);
    for (size_t i = 0; i < 100; i++) {
        fill(data, i, &batch);
        memcpy(wanted[i], batch.tokens, sizeof wanted[i]);
    }
    worker workers[2] = {{data, wanted, 1, false}, {data, wanted, 37, false}};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, work, &workers[1]), 0);
    work(&workers[0]);
    pthread_join(thread, NULL);
    assert_true(workers[0].same && workers[1].same);
    jt_batch_free(&batch);
    jt_data_free(data);
}

/* Numbers of the held-out documents to counts; checks the padding. */
static void read_held_out(const jt_data *data, size_t seq_len, int *counts)
{
    size_t sequences = jt_data_eval_count(data, 0), filled, real = 0;
    uint64_t train, held_out;
    jt_data_tokens(data, 0, &train, &held_out);
    jt_batch batch = new_batch(4, seq_len);
    for (size_t first = 0; first < sequences + 4; first += 4) {
        assert_int_equal(jt_data_eval_batch(data, 0, first, &batch, &filled, NULL),
                         JT_OK);
        size_t left = first < sequences ? sequences - first : 0;
        assert_int_equal(filled, left < 4 ? left : 4);
        size_t tokens = (size_t)held_out - real;
        tokens = tokens < 4 * seq_len ? tokens : 4 * seq_len;
        for (size_t i = 0; i < tokens; i++)
            counts[batch.tokens[i]]++;
        for (size_t i = tokens; i < 4 * seq_len; i++) {
            assert_int_equal(batch.tokens[i], 0);
            assert_int_equal(batch.targets[i], -1);
            assert_true(batch.first[i] >= (int32_t)(i - i % seq_len));
            assert_int_equal(batch.first[i] + batch.positions[i], i);
        }
        real += tokens;
    }
    assert_int_equal(real, held_out);
    jt_batch_free(&batch);
}

static void held_out_documents(void **state)
{
    (void)state;
    static const double shares[] = {0.01, 0.1, 0.5};
    static const size_t held[] = {1, 6, 30}; /* 0.01: the end of a document */
    for (size_t s = 0; s < 3; s++) {
        jt_data *data = open_numbers(16, shares[s], 1);
        jt_data *other = open_numbers(16, shares[s], 2);
        size_t n_train, n_held, skipped;
        jt_data_documents(data, 0, &n_train, &n_held, &skipped);
        assert_int_equal(n_held, held[s]);
        assert_int_equal(n_train, s == 0 ? DOCS : DOCS - held[s]);
        int *evaluated = calloc(VOCAB, sizeof(int)), *same = calloc(VOCAB, sizeof(int));
        read_held_out(data, 16, evaluated);
        read_held_out(other, 16, same);
        size_t among_first = 0;
        for (size_t d = 0; d < n_held; d++)
            among_first += evaluated[d * 1000 + 1] != 0;
        assert_true(among_first < n_held); /* chosen from all over the file */
        assert_memory_equal(evaluated, same, VOCAB * sizeof(int)); /* for every seed */
        int *trained = calloc(VOCAB, sizeof(int));
        jt_batch batch = new_batch(1, 16);
        uint64_t sequences = 3 * jt_data_epoch_tokens(data) / 16;
        for (uint64_t i = 0; i < sequences; i++) {
            fill(data, i, &batch);
            for (size_t t = 0; t < 16; t++) {
                trained[batch.tokens[t]]++;
                if (batch.targets[t] > 0) /* the end of a document may be cut off */
                    trained[batch.targets[t]]++;
            }
        }
        for (size_t d = 0; d < DOCS; d++) {
            for (size_t i = 1; i < data_numbers_length(d); i++) {
                size_t id = d * 1000 + i;
                assert_true(evaluated[id] == (trained[id] == 0));
            }
        }
        jt_batch_free(&batch);
        free(trained);
        free(evaluated);
        free(same);
        jt_data_free(data);
        jt_data_free(other);
    }
}

/* A file that is one document: its end is held out, as much as was asked for. */
static void held_out_tail(void **state)
{
    (void)state;
    int32_t ids[100];
    for (int i = 0; i < 100; i++)
        ids[i] = i;
    jt_data_source source = {.path = data_bytes_file("one.bin", ids, sizeof ids)};
    jt_data_options options = {.seq_len = 90, .held_out = 0.1};
    jt_data *data = data_open(&source, 1, NULL, 100, options);
    jt_batch batch = new_batch(1, 90);
    size_t filled;
    fill(data, 0, &batch);
    assert_memory_equal(batch.tokens, ids, 90 * sizeof *ids);
    assert_int_equal(batch.targets[88], 89);
    assert_int_equal(batch.targets[89], -1);
    assert_int_equal(jt_data_eval_count(data, 0), 1);
    assert_int_equal(jt_data_eval_batch(data, 0, 0, &batch, &filled, NULL), JT_OK);
    assert_int_equal(filled, 1);
    assert_memory_equal(batch.tokens, ids + 90, 10 * sizeof *ids);
    assert_int_equal(batch.targets[8], 99);
    assert_int_equal(batch.targets[9], -1);
    assert_int_equal(batch.first[10], 10);
    jt_batch_free(&batch);
    jt_data_free(data);
    /* At least two tokens, so that one can be predicted; or none of so few. */
    source.path = data_bytes_file("one.bin", ids, 12 * sizeof *ids);
    data = data_open(&source, 1, NULL, 100, options);
    assert_int_equal(jt_data_epoch_tokens(data), 10);
    jt_data_free(data);
    source.path = data_bytes_file("one.bin", ids, 3 * sizeof *ids);
    data = data_open(&source, 1, NULL, 100, options);
    assert_int_equal(jt_data_eval_count(data, 0), 0);
    assert_int_equal(jt_data_epoch_tokens(data), 3);
    jt_data_free(data);
}

/* Sources of 30, 60 and 10 documents, by these weights: shares come near to `expected`
 * over many sequences, and are never far from it. */
static void check_mix(const double *weights, const double *expected)
{
    static const size_t docs[] = {30, 60, 10};
    static const char *const names[] = {"a.bin", "b.bin", "c.bin"};
    enum { STEPS = 1000, ROWS = 5 };
    jt_data_source sources[3];
    for (size_t s = 0; s < 3; s++)
        sources[s] = (jt_data_source){.path = data_numbers_file(names[s], docs[s]),
                                      .weight = weights[s],
                                      .separator = "0"};
    jt_data *data =
        data_open(sources, 3, NULL, VOCAB, (jt_data_options){.seq_len = 8, .seed = 9});
    assert_int_equal(jt_data_sources(data), 3);
    jt_batch batch = new_batch(ROWS, 8);
    size_t counts[3] = {0};
    for (size_t i = 0; i < STEPS; i++) {
        fill(data, i, &batch);
        for (size_t row = 0; row < ROWS; row++) {
            counts[batch.domains[row * 8]]++;
            for (size_t s = 0; s < 3; s++) {
                double wanted = expected[s] * (double)(i * ROWS + row + 1);
                assert_true(fabs((double)counts[s] - wanted) < 3);
            }
        }
    }
    for (size_t s = 0; s < 3; s++) {
        assert_true(fabs(jt_data_share(data, s) - expected[s]) < 1e-9);
        assert_true(fabs((double)counts[s] / (STEPS * ROWS) - expected[s]) < 0.01);
    }
    jt_batch_free(&batch);
    jt_data_free(data);
}

static void mixing(void **state)
{
    (void)state;
    check_mix((const double[]){5, 3, 2}, (const double[]){0.5, 0.3, 0.2});
    check_mix((const double[]){1, 1, 998}, (const double[]){0.001, 0.001, 0.998});
    double sizes[3] = {0}, sum = 0;
    for (size_t d = 0; d < 60; d++) {
        sizes[0] += d < 30 ? (double)data_numbers_length(d) : 0;
        sizes[1] += (double)data_numbers_length(d);
        sizes[2] += d < 10 ? (double)data_numbers_length(d) : 0;
    }
    for (size_t s = 0; s < 3; s++)
        sum += sizes[s];
    for (size_t s = 0; s < 3; s++)
        sizes[s] /= sum;
    check_mix((const double[]){0, 0, 0}, sizes);
}

static void far_steps(void **state)
{
    (void)state;
    jt_data *data = open_numbers(16, 0, 1);
    jt_batch batch = new_batch(2, 16), wrong = new_batch(2, 8);
    jt_err err = {0};
    size_t filled;
    int *counts = calloc(VOCAB, sizeof *counts);
    fill(data, (UINT64_C(1) << 57) - 1, &batch);
    check_batch(&batch, counts);
    free(counts);
    assert_int_equal(jt_data_train_batch(data, UINT64_C(1) << 57, &batch, &err),
                     JT_E_LIMIT);
    assert_int_equal(jt_data_train_batch(data, UINT64_MAX, &batch, &err), JT_E_LIMIT);
    assert_non_null(strstr(err.msg, "no training step 18446744073709551615"));
    assert_int_equal(jt_data_train_batch(data, 0, &wrong, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "sequences of 8 tokens, the data of 16"));
    assert_int_equal(jt_data_eval_batch(data, 0, 0, &wrong, &filled, &err), JT_E_ARG);
    assert_int_equal(jt_data_eval_batch(data, 1, 0, &batch, &filled, &err), JT_E_ARG);
    jt_batch_free(&batch);
    jt_batch_free(&wrong);
    assert_int_equal(jt_batch_new(&batch, 0, 16, &err), JT_E_ARG);
    assert_int_equal(jt_batch_new(&batch, 1 << 16, 1 << 15, &err), JT_E_ARG);
    assert_int_equal(jt_batch_new(&batch, SIZE_MAX / 2, 4, &err), JT_E_ARG);
    jt_data_free(data);
    jt_data_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_epochs),
        cmocka_unit_test(every_token_once),
        cmocka_unit_test(borders),
        cmocka_unit_test(sequences_are_shuffled),
        cmocka_unit_test(any_order_of_calls),
        cmocka_unit_test(virtual_tokens),
        cmocka_unit_test(virtual_tokens_held_out),
        cmocka_unit_test(from_two_threads),
        cmocka_unit_test(held_out_documents),
        cmocka_unit_test(held_out_tail),
        cmocka_unit_test(mixing),
        cmocka_unit_test(far_steps),
    };
    return cmocka_run_group_tests(tests, data_start, data_stop);
}
