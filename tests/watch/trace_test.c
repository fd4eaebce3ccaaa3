/* Traces: what goes in comes out, whatever happens to the file in between. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/half.h"
#include "junto/junto.h"
#include "routes.h"
#include "scratch.h"

enum { TOKENS = 30, LAYERS = 3, WIDE = 320 };

/* Three layers that differ in everything: 4 experts and a null one, 2 slots; 320
 * experts, 3 slots; 6 experts, 1 slot. */
static const int places[LAYERS] = {0, 2, 5}, experts[LAYERS] = {4, WIDE, 6},
                 rows[LAYERS] = {5, WIDE, 6}, slots[LAYERS] = {2, 3, 1};

static struct {
    int32_t id[TOKENS], position[TOKENS];
    int32_t expert[LAYERS][TOKENS * 3];
    float weight[LAYERS][TOKENS * 3], score[LAYERS][TOKENS * WIDE];
} made;

static void make_routes(void)
{
    jt_rng rng = {.seed = 5};
    for (int t = 0; t < TOKENS; t++) {
        made.id[t] = (int32_t)jt_rng_below(&rng, 200000);
        made.position[t] = t < 20 ? t : t - 20; /* a second text begins */
    }
    for (int l = 0; l < LAYERS; l++) {
        for (int i = 0; i < TOKENS * slots[l]; i++) {
            bool used = jt_rng_below(&rng, 5) > 0;
            made.expert[l][i] =
                used ? (int32_t)jt_rng_below(&rng, (uint32_t)experts[l]) : -1;
            made.weight[l][i] = used ? jt_rng_float(&rng) : 0.0f;
        }
        for (int i = 0; i < TOKENS * rows[l]; i++)
            made.score[l][i] = jt_rng_float(&rng);
    }
}

static jt_trace_head made_head(unsigned more, int block_tokens)
{
    jt_trace_head head = even_head(LAYERS, 1, 1, block_tokens);
    head.columns |= more;
    for (int l = 0; l < LAYERS; l++)
        head.layers[l] = (jt_trace_layer){.layer = places[l],
                                          .n_experts = experts[l],
                                          .n_rows = rows[l],
                                          .k = slots[l]};
    return head;
}

/* Layer `l` sees tokens first .. first + n of what was made, behind `before` others of
 * the pass. */
static void feed_part(jt_trace_writer *w, int l, int first, int n, int before)
{
    jt_watcher watcher = jt_trace_watcher(w);
    jt_route_site site = {.layer = places[l],
                          .first = (size_t)before,
                          .token_ids = made.id + first,
                          .positions = made.position + first};
    jt_route route = {.n_tokens = n,
                      .n_experts = experts[l],
                      .k = slots[l],
                      .expert = made.expert[l] + first * slots[l],
                      .weight = made.weight[l] + first * slots[l],
                      .n_rows = rows[l],
                      .scores = made.score[l] + first * rows[l]};
    watcher.on_route(watcher.self, &site, &route);
}

static void feed_layer(jt_trace_writer *w, int l, int first, int n)
{
    feed_part(w, l, first, n, 0);
}

static jt_trace_writer *new_writer(const char *path, unsigned more, int block_tokens)
{
    jt_trace_writer *w = NULL;
    jt_trace_head head = made_head(more, block_tokens);
    jt_err err = {0};
    if (jt_trace_writer_new_head(&w, path, &head, NULL, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return w;
}

/* A trace of everything, in passes of `chunk`; two labels, after a few without. */
static void write_trace(const char *path, unsigned more, int block_tokens, int chunk)
{
    jt_trace_writer *w = new_writer(path, more, block_tokens);
    for (int first = 0; first < TOKENS; first += chunk) {
        if (first == 10 || first == 20)
            assert_int_equal(
                jt_trace_label(w, first == 10 ? "one" : "the \"other\"", NULL), JT_OK);
        for (int l = 0; l < LAYERS; l++)
            feed_layer(w, l, first, chunk);
    }
    assert_int_equal(jt_trace_finish(w, NULL), JT_OK);
}

static unsigned char *load(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    unsigned char *data = malloc(1 << 20);
    *bytes = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

static float rounded(float x)
{
    return jt_f16_to_float(jt_float_to_f16(x));
}

static float entropy_of(const float *score, int n)
{
    double sum = 0.0, h = 0.0;
    for (int i = 0; i < n; i++)
        sum += score[i];
    for (int i = 0; i < n; i++)
        h -= score[i] / sum * log(score[i] / sum);
    return (float)(h / log(n));
}

/* What is wrong with a block, or NULL. */
static const char *compare(const jt_trace_info *info, const jt_trace_block *b)
{
    for (int r = 0; r < b->n_tokens; r++) {
        int t = (int)b->first + r;
        if (b->token[r] != made.id[t] || b->position[r] != made.position[t])
            return "token or position";
        if (b->label[r] != (t < 10 ? -1 : t < 20 ? 0 : 1))
            return "label";
        for (int l = 0; l < LAYERS; l++) {
            const jt_trace_layer *layer = &info->layers[l];
            const float *score = made.score[l] + t * rows[l];
            for (int j = 0; j < slots[l]; j++) {
                int from = t * slots[l] + j, to = r * info->n_slots + layer->slot + j;
                if (b->expert[to] != made.expert[l][from] ||
                    b->weight[to] != rounded(made.weight[l][from]))
                    return "expert or weight";
            }
            if (fabsf(b->entropy[r * LAYERS + l] - entropy_of(score, rows[l])) > 1e-3f)
                return "entropy";
            for (int i = 0; i < rows[l] && b->score; i++) {
                if (b->score[r * info->n_rows + layer->row + i] != rounded(score[i]))
                    return "score";
            }
        }
    }
    return NULL;
}

/* Read all that is there and compare it; the status of the first failure. */
static jt_status walk(jt_trace *trace, uint64_t *tokens, jt_err *err)
{
    jt_trace_info info;
    jt_trace_block b;
    jt_trace_describe(trace, &info);
    *tokens = 0;
    for (size_t i = 0; i < jt_trace_blocks(trace); i++) {
        JT_TRY(jt_trace_read(trace, i, ~0u, &b, err));
        assert_int_equal(b.first, *tokens);
        const char *wrong = compare(&info, &b);
        if (wrong)
            fail_msg("block %zu: %s", i, wrong);
        *tokens += (uint64_t)b.n_tokens;
    }
    assert_int_equal(*tokens, info.tokens);
    return JT_OK;
}

static void round_trip(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "a.trace");
    static const unsigned columns[] = {0, 1u << JT_TRACE_SCORE};
    for (size_t i = 0; i < 2; i++) {
        jt_trace *trace;
        jt_trace_info info;
        uint64_t tokens;
        write_trace(path, columns[i], 8, 5);
        assert_int_equal(jt_trace_open(&trace, path, NULL), JT_OK);
        jt_trace_describe(trace, &info);
        assert_string_equal(info.family, "made-up");
        assert_string_equal(info.name, "routes");
        assert_int_equal(info.fingerprint, 0x123456789abcdef0u);
        assert_int_equal(info.columns, TRACE_BASE | columns[i]);
        assert_int_equal(info.n_layers, LAYERS);
        assert_int_equal(info.layers[2].layer, 5);
        assert_int_equal(info.n_slots, 6);
        assert_int_equal(info.n_rows, 5 + WIDE + 6);
        assert_int_equal(jt_trace_blocks(trace), 4);
        assert_int_equal(info.cut_bytes, 0);
        assert_int_equal(info.n_labels, 2);
        assert_string_equal(jt_trace_label_name(trace, 1), "the \"other\"");
        assert_string_equal(jt_trace_label_name(trace, -1), "");
        assert_int_equal(walk(trace, &tokens, NULL), JT_OK);
        assert_int_equal(tokens, TOKENS);
        jt_trace_close(trace);
    }
}

static void only_what_was_asked_for(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "b.trace");
    jt_trace *trace;
    jt_trace_block b;
    jt_err err = {0};
    write_trace(path, 0, 8, 5);
    assert_int_equal(jt_trace_open(&trace, path, NULL), JT_OK);
    assert_int_equal(jt_trace_read(trace, 1, 1u << JT_TRACE_EXPERT, &b, NULL), JT_OK);
    assert_true(b.expert && !b.weight && !b.token && !b.score);
    assert_int_equal(jt_trace_read(trace, 4, ~0u, &b, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "block 4 of 4"));
    jt_trace_close(trace);
}

static void passes_do_not_show(void **state)
{
    (void)state;
    const char *a = scratch_path(&scratch_dir, "c.trace");
    const char *b = scratch_path(&scratch_dir, "d.trace");
    size_t a_bytes, b_bytes;
    write_trace(a, 0, 8, 10);
    write_trace(b, 0, 8, 1);
    unsigned char *x = load(a, &a_bytes), *y = load(b, &b_bytes);
    /* Names of labels may be an earlier block's in one of them: rows are the same. */
    jt_trace *trace;
    uint64_t tokens;
    assert_int_equal(jt_trace_open_memory(&trace, y, b_bytes, NULL), JT_OK);
    assert_int_equal(walk(trace, &tokens, NULL), JT_OK);
    assert_int_equal(jt_trace_blocks(trace), 4);
    jt_trace_close(trace);
    assert_int_equal(jt_trace_open_memory(&trace, x, a_bytes, NULL), JT_OK);
    assert_int_equal(walk(trace, &tokens, NULL), JT_OK);
    assert_int_equal(jt_trace_blocks(trace), 4);
    jt_trace_close(trace);
    free(x);
    free(y);
}

/* A process that is killed leaves the beginning of a file: any beginning is readable
 * up to its last whole block. */
static void cut_anywhere(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "e.trace");
    size_t bytes, whole = 0, ends = 0;
    write_trace(path, 0, 8, 5);
    unsigned char *data = load(path, &bytes);
    for (size_t n = 0; n <= bytes; n++) {
        unsigned char *copy = malloc(n ? n : 1); /* a sanitizer sees its end */
        memcpy(copy, data, n);
        jt_trace *trace = NULL;
        jt_err err = {0};
        jt_status status = jt_trace_open_memory(&trace, copy, n, &err);
        if (status != JT_OK) { /* only where not even the head is whole */
            assert_int_equal(status, JT_E_FORMAT);
            assert_int_equal(ends, 0);
        } else {
            jt_trace_info info;
            uint64_t tokens;
            assert_int_equal(walk(trace, &tokens, &err), JT_OK);
            jt_trace_describe(trace, &info);
            assert_true(tokens >= whole && tokens <= whole + 8);
            whole = (size_t)tokens;
            ends += info.cut_bytes == 0;
            jt_trace_close(trace);
        }
        free(copy);
    }
    assert_int_equal(whole, TOKENS);
    assert_int_equal(ends, 5); /* the head and four blocks */
    free(data);
}

/* A wrong bit is an error that names the block, or harms nothing; in the last block it
 * may look as if the block were cut. */
static void damaged_anywhere(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "f.trace");
    size_t bytes, named = 0;
    write_trace(path, 0, 8, 5);
    unsigned char *data = load(path, &bytes);
    for (size_t i = 0; i < bytes; i++) {
        jt_trace *trace = NULL;
        jt_err err = {0};
        uint64_t tokens = TOKENS;
        data[i] ^= (unsigned char)(1u << i % 8);
        jt_status status = jt_trace_open_memory(&trace, data, bytes, &err);
        if (status == JT_OK)
            status = walk(trace, &tokens, &err);
        if (status != JT_OK)
            named += strstr(err.msg, "block ") != NULL;
        else
            assert_true(tokens == TOKENS || tokens == 24);
        jt_trace_close(trace);
        data[i] ^= (unsigned char)(1u << i % 8);
    }
    assert_true(named > bytes * 9 / 10);
    free(data);
}

static void not_a_trace(void **state)
{
    (void)state;
    jt_trace *trace;
    jt_err err = {0};
    unsigned char later[64] = TRACE_MAGIC;
    later[8] = 2;
    assert_int_equal(
        jt_trace_open_memory(&trace, "GGUF and so on, long enough", 27, &err),
        JT_E_FORMAT);
    assert_non_null(strstr(err.msg, "not a trace"));
    assert_int_equal(jt_trace_open_memory(&trace, later, sizeof later, &err),
                     JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "version 2"));
    assert_int_equal(jt_trace_open(&trace, "no/such.trace", &err), JT_E_IO);
}

static void incomplete_passes_leave_nothing(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "g.trace");
    jt_trace_writer *w = new_writer(path, 0, 8);
    for (int l = 0; l < LAYERS; l++)
        feed_layer(w, l, 0, 5);
    feed_layer(w, 0, 7, 4); /* fails before its last layer */
    feed_layer(w, 1, 7, 4);
    feed_layer(w, 0, 5, 3); /* and one that misses a layer */
    feed_layer(w, 2, 5, 3);
    for (int l = 0; l < LAYERS; l++)
        feed_layer(w, l, 5, 5);
    feed_layer(w, 0, 10, 2);
    assert_int_equal(jt_trace_finish(w, NULL), JT_OK);
    jt_trace *trace;
    uint64_t tokens;
    assert_int_equal(jt_trace_open(&trace, path, NULL), JT_OK);
    assert_int_equal(walk(trace, &tokens, NULL), JT_OK);
    assert_int_equal(tokens, 10);
    jt_trace_close(trace);
}

/* Sequences of one pass whose other watchers differ come layer by layer, one after the
 * other; some of them may be nobody's business here. */
static void side_by_side(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "s.trace");
    jt_trace_writer *w = new_writer(path, 0, 8);
    for (int l = 0; l < LAYERS; l++) { /* the first 7 rows are not traced */
        feed_part(w, l, 0, 5, 7);
        feed_part(w, l, 5, 1, 12);
        feed_part(w, l, 6, 3, 14);
    }
    for (int l = 0; l < LAYERS; l++) /* alone, and not where the last one was */
        feed_part(w, l, 9, 1, 20);
    feed_part(w, 0, 10, 2, 0);             /* fails between its parts */
    for (int l = 0; l < LAYERS - 1; l++) { /* and before its last layer */
        feed_part(w, l, 10, 2, 0);
        feed_part(w, l, 12, 2, 2);
    }
    jt_trace *trace;
    uint64_t tokens;
    assert_int_equal(jt_trace_finish(w, NULL), JT_OK);
    assert_int_equal(jt_trace_open(&trace, path, NULL), JT_OK);
    assert_int_equal(walk(trace, &tokens, NULL), JT_OK);
    assert_int_equal(tokens, 10);
    jt_trace_close(trace);
}

static void what_cannot_be_written(void **state)
{
    (void)state;
    jt_err err = {0};
    const char *path = scratch_path(&scratch_dir, "model.gguf");
    scratch_write(path, "GGUF", 4);
    jt_trace_writer *w;
    jt_trace_head head = made_head(0, 8);
    assert_int_equal(jt_trace_writer_new_head(&w, path, &head, NULL, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "is not a trace"));
    head = made_head(0, 0);
    assert_int_equal(jt_trace_writer_new_head(&w, path, &head, NULL, &err), JT_E_ARG);
    head = even_head(64, 60000, 8, 65536);
    head.columns |= 1u << JT_TRACE_SCORE;
    assert_int_equal(jt_trace_writer_new_head(&w, path, &head, NULL, &err), JT_E_LIMIT);

    int32_t many[7] = {0, 1, 2, 3, 4, 5};
    float weight[7] = {1};
    w = new_writer(scratch_path(&scratch_dir, "h.trace"), 0, 8);
    jt_watcher watcher = jt_trace_watcher(w);
    jt_route_site site = {.token_ids = many, .positions = many};
    jt_route route = {
        .n_tokens = 1, .n_experts = 4, .k = 7, .expert = many, .weight = weight};
    watcher.on_route(watcher.self, &site, &route);
    assert_int_equal(jt_trace_label(w, "", &err), JT_E_ARG);
    assert_int_equal(jt_trace_finish(w, &err), JT_E_LIMIT);
    assert_non_null(strstr(err.msg, "layer 0 uses 7 experts"));
    assert_int_equal(jt_trace_finish(NULL, &err), JT_OK);
}

static void out_of_memory(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "i.trace");
    jt_status status = JT_E_MEMORY;
    int failures = 0;
    for (long n = 0; status != JT_OK; n++) {
        jt_trace_head head = made_head(0, 8);
        jt_trace_writer *w = NULL;
        jt_trace *trace = NULL;
        jt_trace_block b;
        jt_fault_after(n);
        status = jt_trace_writer_new_head(&w, path, &head, NULL, NULL);
        if (status == JT_OK) {
            jt_status labelled = jt_trace_label(w, "label", NULL);
            for (int l = 0; l < LAYERS; l++)
                feed_layer(w, l, 0, 20);
            status = jt_trace_finish(w, NULL);
            status = labelled != JT_OK ? labelled : status;
        }
        if (status == JT_OK)
            status = jt_trace_open(&trace, path, NULL);
        if (status == JT_OK)
            status = jt_trace_read(trace, 0, ~0u, &b, NULL);
        jt_fault_after(-1);
        jt_trace_close(trace);
        if (status != JT_OK) {
            assert_int_equal(status, JT_E_MEMORY);
            failures++;
        }
    }
    assert_true(failures > 20);
}

/* ---- size ---- */

/* A million tokens of 48 layers with 8 experts each take at most 1.2 KB per token, even
 * if neither experts nor weights have any pattern. */
static void worst_case_size(void **state)
{
    (void)state;
    enum { DEEP = 48, MANY = 256, K = 8, LONG = 1024 };
    const char *path = scratch_path(&scratch_dir, "j.trace");
    jt_trace_head head = even_head(DEEP, MANY - 1, K, 256);
    jt_trace_writer *w;
    jt_rng rng = {.seed = 9};
    assert_int_equal(jt_trace_writer_new_head(&w, path, &head, NULL, NULL), JT_OK);
    jt_watcher watcher = jt_trace_watcher(w);
    for (int32_t t = 0; t < LONG; t++) {
        int32_t id = (int32_t)jt_rng_below(&rng, 150000), expert[K];
        float weight[K], scores[MANY] = {0};
        for (int l = 0; l < DEEP; l++) {
            for (int j = 0; j < K; j++) {
                expert[j] = (int32_t)jt_rng_below(&rng, MANY - 1);
                weight[j] = jt_rng_float(&rng);
                scores[expert[j]] = weight[j];
            }
            jt_route_site site = {.layer = l, .token_ids = &id, .positions = &t};
            jt_route route = {.n_tokens = 1,
                              .n_experts = MANY - 1,
                              .k = K,
                              .expert = expert,
                              .weight = weight,
                              .n_rows = MANY - 1,
                              .scores = scores};
            watcher.on_route(watcher.self, &site, &route);
        }
    }
    assert_int_equal(jt_trace_finish(w, NULL), JT_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_in_range(st.st_size, 1, 1200 * LONG);
}

/* ---- real models ---- */

static jt_model *load_model(const char *name)
{
    char path[512];
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(path, sizeof path, "%s/golden/%s", data ? data : "tests", name);
    jt_model *model = NULL;
    jt_err err = {0};
    if (jt_model_load(&model, path, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return model;
}

/* The trace of a run counts what the usage watcher counts, norms are there for used
 * slots, and it belongs to its model alone. */
static void of_a_session(void **state)
{
    (void)state;
    enum { N = 40 };
    const char *path = scratch_path(&scratch_dir, "k.trace");
    jt_model *model = load_model("mixtral.gguf"), *other = load_model("olmoe.gguf");
    jt_session *session;
    jt_session_options small = {.n_ctx = 64, .chunk = 7, .threads = 1};
    jt_trace_options options = {.scores = true, .norms = true, .block_tokens = 16};
    jt_trace_writer *w;
    jt_usage *usage;
    int32_t ids[N];
    for (int i = 0; i < N; i++)
        ids[i] = (i * 37 + 11) % 256;
    assert_int_equal(jt_session_new(&session, model, &small, NULL), JT_OK);
    assert_int_equal(jt_usage_new(&usage, model, NULL), JT_OK);
    assert_int_equal(jt_trace_writer_new(&w, path, model, &options, NULL), JT_OK);
    jt_watcher watchers[] = {jt_usage_watcher(usage), jt_trace_watcher(w)};
    for (int i = 0; i < 2; i++)
        assert_int_equal(jt_session_add_watcher(session, &watchers[i], NULL), JT_OK);
    assert_int_equal(jt_session_eval(session, ids, N, NULL, NULL), JT_OK);
    jt_session_free(session);
    assert_int_equal(jt_trace_finish(w, NULL), JT_OK);

    jt_trace *trace;
    jt_trace_info info;
    jt_trace_block b;
    uint64_t counts[2][8] = {{0}};
    jt_err err = {0};
    assert_int_equal(jt_trace_open(&trace, path, NULL), JT_OK);
    jt_trace_describe(trace, &info);
    assert_int_equal(info.tokens, N);
    assert_string_equal(info.name, "golden mixtral");
    for (size_t i = 0; i < jt_trace_blocks(trace); i++) {
        assert_int_equal(jt_trace_read(trace, i, ~0u, &b, NULL), JT_OK);
        for (int r = 0; r < b.n_tokens; r++) {
            assert_int_equal(b.token[r], ids[b.first + (uint64_t)r]);
            assert_int_equal(b.position[r], b.first + (uint64_t)r);
            for (int s = 0; s < info.n_slots; s++) {
                int e = b.expert[r * info.n_slots + s];
                assert_in_range(e, 0, 7);
                assert_true(b.norm[r * info.n_slots + s] > 0);
                counts[s / 2][e]++;
            }
        }
    }
    for (size_t l = 0; l < 2; l++) {
        jt_layer_usage layer;
        jt_usage_layer(usage, l, &layer);
        assert_memory_equal(counts[l], layer.counts, sizeof counts[l]);
    }
    assert_int_equal(jt_trace_check_model(trace, model, &err), JT_OK);
    assert_int_equal(jt_trace_check_model(trace, other, &err), JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "trace of another model: 'golden mixtral'"));
    jt_trace_close(trace);
    jt_usage_free(usage);
    jt_model_free(model);
    jt_model_free(other);
}

static void dense_models_have_none(void **state)
{
    (void)state;
    jt_model *model = load_model("llama.gguf");
    jt_trace_writer *w;
    jt_err err = {0};
    const char *path = scratch_path(&scratch_dir, "l.trace");
    assert_int_equal(jt_trace_writer_new(&w, path, model, NULL, &err),
                     JT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "no experts"));
    jt_model_free(model);
}

/* What the norm is: of each expert's row, by slot. */
static void norms(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "m.trace");
    jt_trace_head head = even_head(1, 4, 2, 8);
    head.columns |= 1u << JT_TRACE_NORM;
    jt_trace_writer *w;
    assert_int_equal(jt_trace_writer_new_head(&w, path, &head, NULL, NULL), JT_OK);
    jt_watcher watcher = jt_trace_watcher(w);
    int32_t ids[] = {5, 6}, expert[] = {3, 1, 1, -1}, row[] = {2, 0, 1, -1};
    float weight[] = {0.5f, 0.5f, 1, 0}, outputs[3 * 9] = {3, 4};
    outputs[9] = 2;
    for (int i = 18; i < 27; i++)
        outputs[i] = 1;
    jt_route_site site = {.token_ids = ids, .positions = ids};
    jt_route route = {
        .n_tokens = 2, .n_experts = 4, .k = 2, .expert = expert, .weight = weight};
    jt_plan plan = {.n_tokens = 2, .n_experts = 4, .k = 2, .n_rows = 3, .row = row};
    watcher.on_route(watcher.self, &site, &route);
    watcher.on_outputs(watcher.self, &site, &plan, outputs, 9);
    assert_int_equal(jt_trace_finish(w, NULL), JT_OK);
    jt_trace *trace;
    jt_trace_block b;
    assert_int_equal(jt_trace_open(&trace, path, NULL), JT_OK);
    assert_int_equal(jt_trace_read(trace, 0, ~0u, &b, NULL), JT_OK);
    const float expected[] = {3, 5, 2, 0};
    assert_memory_equal(b.norm, expected, sizeof expected);
    jt_trace_close(trace);
}

/* ---- export ---- */

/* An array of a .npy file, read by what its text says: shape and type as expected, and
 * as many values as that makes. The caller frees. */
static int32_t *read_npy(const char *dir, const char *name, const char *descr,
                         const char *shape, size_t values)
{
    char path[600], said[160];
    size_t bytes;
    snprintf(path, sizeof path, "%s/%s.npy", dir, name);
    unsigned char *data = load(path, &bytes);
    assert_memory_equal(data, "\x93NUMPY\x01\x00", 8);
    size_t head = 10 + data[8] + 256 * (size_t)data[9];
    assert_int_equal(head % 64, 0);
    assert_int_equal(data[head - 1], '\n');
    snprintf(said, sizeof said,
             "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape);
    assert_memory_equal(data + 10, said, strlen(said));
    for (size_t i = 10 + strlen(said); i < head - 1; i++)
        assert_int_equal(data[i], ' ');
    assert_int_equal(bytes - head, values * sizeof(int32_t));
    memmove(data, data + head, bytes - head);
    remove(path);
    return (int32_t *)(void *)data;
}

/* Every value of the arrays that vary by layer. */
static void exported_values(const char *dir)
{
    char text[] = "(30, 3, 320)";
    int32_t *expert = read_npy(dir, "expert", "<i4", "(30, 3, 3)", TOKENS * LAYERS * 3);
    float *weight = (float *)(void *)read_npy(dir, "weight", "<f4", "(30, 3, 3)",
                                              TOKENS * LAYERS * 3);
    float *score =
        (float *)(void *)read_npy(dir, "score", "<f4", text, TOKENS * LAYERS * WIDE);
    for (int i = 0; i < TOKENS * LAYERS; i++) {
        int t = i / LAYERS, l = i % LAYERS;
        for (int j = 0; j < 3; j++) {
            bool there = j < slots[l];
            int at = t * slots[l] + j;
            assert_int_equal(expert[i * 3 + j], there ? made.expert[l][at] : -1);
            float w = there ? rounded(made.weight[l][at]) : 0.0f;
            assert_memory_equal(&weight[i * 3 + j], &w, sizeof w);
        }
        for (int e = 0; e < WIDE; e++) {
            float x = score[i * WIDE + e];
            if (e >= rows[l])
                assert_true(isnan(x));
            else
                assert_true(x == rounded(made.score[l][t * rows[l] + e]));
        }
    }
    free(expert);
    free(weight);
    free(score);
}

static size_t file_size(const char *dir, const char *name)
{
    char path[600];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(stat(path, &st), 0);
    remove(path);
    return (size_t)st.st_size;
}

static void export_files(void **state)
{
    (void)state;
    const char *path = scratch_path(&scratch_dir, "n.trace");
    char dir[512], csv[600];
    snprintf(dir, sizeof dir, "%s", scratch_path(&scratch_dir, "out"));
    jt_trace *trace;
    write_trace(path, 1u << JT_TRACE_SCORE, 8, 5);
    assert_int_equal(jt_trace_open(&trace, path, NULL), JT_OK);
    assert_int_equal(jt_trace_export_npy(trace, dir, (jt_progress){0}, NULL), JT_OK);
    assert_int_equal(jt_trace_export_csv(trace, dir, (jt_progress){0}, NULL), JT_OK);
    jt_trace_close(trace);

    snprintf(csv, sizeof csv, "%s/trace.csv", dir);
    size_t bytes, lines = 0;
    char *text = (char *)load(csv, &bytes);
    text[bytes] = '\0';
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, 1 + TOKENS * LAYERS);
    assert_memory_equal(text,
                        "row,label,token,position,layer,entropy,expert0,expert1,"
                        "expert2,weight0,weight1,weight2,score0,",
                        94);
    assert_non_null(strstr(text, "\n29,\"the \"\"other\"\"\","));
    free(text);
    remove(csv);
    assert_int_equal(file_size(dir, "token.npy"), 128 + 4 * TOKENS);
    assert_int_equal(file_size(dir, "position.npy"), 128 + 4 * TOKENS);
    assert_int_equal(file_size(dir, "label.npy"), 128 + 4 * TOKENS);
    assert_int_equal(file_size(dir, "entropy.npy"), 128 + 4 * TOKENS * LAYERS);
    exported_values(dir);
    assert_int_equal(file_size(dir, "layers.npy"), 128 + 4 * LAYERS * 4);
    assert_int_equal(file_size(dir, "labels.txt"), strlen("one\nthe \"other\"\n"));
    assert_int_equal(rmdir(dir), 0); /* nothing else was written */
}

int main(void)
{
    make_routes();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(only_what_was_asked_for),
        cmocka_unit_test(passes_do_not_show),
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(damaged_anywhere),
        cmocka_unit_test(not_a_trace),
        cmocka_unit_test(incomplete_passes_leave_nothing),
        cmocka_unit_test(side_by_side),
        cmocka_unit_test(what_cannot_be_written),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(worst_case_size),
        cmocka_unit_test(of_a_session),
        cmocka_unit_test(dense_models_have_none),
        cmocka_unit_test(norms),
        cmocka_unit_test(export_files),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
