/* One store for many sessions: each gets the bits that it would have got from a mapped
 * model, experts are asked for once a pass, budgets count all contexts, and a failure
 * is that of who needs the expert. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../run/companion.h"
#include "base/memory.h"
#include "families.h"
#include "junto/junto.h"
#include "own_expert.h"
#include "run/session.h"

enum { GUESTS = 4, TEXT = 40, ROUNDS = 6 };

static int32_t text[GUESTS][TEXT];

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

static size_t vocab_of(const jt_model *model)
{
    jt_model_info info;
    jt_model_describe(model, &info);
    return (size_t)info.n_vocab;
}

static void write_texts(const jt_model *model)
{
    for (int g = 0; g < GUESTS; g++) {
        for (int t = 0; t < TEXT; t++)
            text[g][t] = (t * (31 + g) + 7 * g) % (int)vocab_of(model);
    }
}

static jt_model *open_apart(const char *name)
{
    char path[600];
    jt_err err = {0};
    jt_model *model;
    snprintf(path, sizeof path, "%s/%s.gguf", golden_dir(), name);
    must(jt_model_load_apart(&model, path, &err), &err);
    write_texts(model);
    return model;
}

typedef struct party {
    jt_session *host, *guest[GUESTS];
} party;

static jt_status open_host(party *p, const jt_model *model,
                           const jt_session_options *options, jt_err *err)
{
    const jt_hosting hosting = {.guests = GUESTS, .between = 8};
    return jt_session_new_host(&p->host, model, options, &hosting, err);
}

static party open_party(const jt_model *model, const jt_session_options *options)
{
    party p;
    jt_err err = {0};
    must(open_host(&p, model, options, &err), &err);
    jt_session_options guest = *options;
    guest.beside = p.host;
    guest.store = (jt_store_options){0};
    for (int g = 0; g < GUESTS; g++)
        must(jt_session_new(&p.guest[g], model, &guest, &err), &err);
    return p;
}

static void close_party(party *p)
{
    for (int g = 0; g < GUESTS; g++)
        jt_session_free(p->guest[g]);
    jt_session_free(p->host);
}

/* ---- the same bits ---- */

static int one_slot(void *self, const jt_route_site *site, int k)
{
    (void)self;
    (void)site;
    (void)k;
    return 1;
}

/* Logits [ROUNDS, GUESTS, vocab]: prompts of different lengths, then a few tokens, some
 * resting; the last guest has a policy of its own. */
static float *play_in(party *p, const jt_model *model)
{
    size_t vocab = vocab_of(model), at[GUESTS] = {0};
    float *logits = malloc(ROUNDS * GUESTS * vocab * sizeof *logits), *to = logits;
    jt_policy policy = {.on_k = one_slot};
    jt_err err = {0};
    must(jt_session_add_policy(p->guest[GUESTS - 1], &policy, &err), &err);
    for (int round = 0; round < ROUNDS; round++) {
        jt_part part[GUESTS];
        size_t n = 0;
        for (int g = 0; g < GUESTS; g++) {
            size_t count = round ? (size_t)(round + g) % 3 : 3 + 7 * (size_t)g;
            if (count)
                part[n++] = (jt_part){p->guest[g], text[g] + at[g], count};
            at[g] += count;
        }
        must(jt_session_eval_together(part, n, NULL, &err), &err);
        for (int g = 0; g < GUESTS; g++, to += vocab)
            memcpy(to, jt_session_logits(p->guest[g]), vocab * sizeof *to);
    }
    return logits;
}

static float *play(const jt_model *model, const jt_session_options *options,
                   jt_store_stats *stats, uint64_t *loads)
{
    party p = open_party(model, options);
    float *logits = play_in(&p, model);
    if (stats)
        assert_true(jt_session_store_stats(p.guest[0], stats));
    *loads = p.host->ctx->loads;
    close_party(&p);
    return logits;
}

static int mixtures;

static void compare(const char *path)
{
    jt_err err = {0};
    jt_model *mapped, *apart;
    jt_status status = jt_model_load_apart(&apart, path, &err);
    if (status == JT_E_UNSUPPORTED) /* a dense model */
        return;
    must(status, &err);
    must(jt_model_load(&mapped, path, &err), &err);
    write_texts(mapped);
    jt_session_options options = {.threads = 2, .n_ctx = 64, .chunk = 16};
    uint64_t loads, expected_loads;
    jt_store_stats stats;
    float *expected = play(mapped, &options, NULL, &expected_loads);
    options.store = (jt_store_options){.slots = fewest_slots(apart), .io = "buffered"};
    float *got = play(apart, &options, &stats, &loads);
    if (memcmp(got, expected, ROUNDS * GUESTS * vocab_of(mapped) * sizeof *got) != 0)
        fail_msg("%s: other logits with %d slots", path, options.store.slots);
    assert_true(stats.misses > 0 && stats.read_bytes > 0);
    /* Whoever uses it, and whatever the policies: once a layer and pass. */
    assert_int_equal(loads, expected_loads);
    assert_int_equal(stats.hits + stats.hits_ahead + stats.misses, loads);
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

static void the_same_bits_in_interludes(void **state)
{
    (void)state;
    static const char *const prefetch[] = {"off", "auto"};
    jt_model *model = open_apart("qwen3moe");
    size_t bytes = vocab_of(model) * sizeof(float);
    jt_err err = {0};
    for (int i = 0; i < 2; i++) {
        jt_session_options options = {
            .threads = 2,
            .n_ctx = 64,
            .store = {.slots = fewest_slots(model), .prefetch = prefetch[i]}};
        party p = open_party(model, &options);
        companion b = {
            .session = p.guest[1], .text = text[1], .length = TEXT, .every = 9};
        const jt_interlude interlude = {companion_is_due, companion_goes_on, &b};
        jt_part part = {p.guest[0], text[0], TEXT};
        jt_pool_interlude(p.host->ctx->pool, &interlude);
        must(jt_session_eval_together(&part, 1, NULL, &err), &err);
        assert_ptr_equal(jt_pool_interlude(p.host->ctx->pool, NULL), &interlude);
        assert_true(b.at > 0);
        must(jt_session_eval(p.guest[2], text[0], TEXT, NULL, &err), &err);
        assert_memory_equal(jt_session_logits(p.guest[0]),
                            jt_session_logits(p.guest[2]), bytes);
        for (size_t t = 0; t < b.at; t++)
            must(jt_session_eval(p.guest[3], &text[1][t], 1, NULL, &err), &err);
        assert_memory_equal(jt_session_logits(p.guest[1]),
                            jt_session_logits(p.guest[3]), bytes);
        close_party(&p);
    }
    jt_model_free(model);
}

/* ---- budgets ---- */

static uint64_t taken(const jt_store_budget *b)
{
    return b->process + b->context + b->scratch + b->reserve +
           (uint64_t)b->slots * b->slot;
}

static void a_budget_counts_all_contexts(void **state)
{
    (void)state;
    jt_model *model = open_apart("qwen3moe");
    jt_session_options options = {.threads = 2, .n_ctx = 64, .store = {.ram = 1 << 20}};
    jt_err err = {0};
    party p;
    assert_int_equal(open_host(&p, model, &options, &err), JT_E_LIMIT);
    assert_non_null(strstr(err.msg, "4 contexts of 64 tokens"));
    const char *least = strstr(err.msg, "the smallest budget is ");
    assert_non_null(least);
    options.store.ram = strtoull(least + 23, NULL, 10) << 20;
    jt_store_stats stats;
    p = open_party(model, &options);
    assert_true(jt_session_store_stats(p.guest[0], &stats));
    const jt_store_budget *b = &stats.budget;
    assert_true(b->context >= GUESTS * jt_session_kv_bytes(p.guest[0]));
    assert_true(b->slots >= fewest_slots(model));
    assert_true(taken(b) <= b->ram);
    assert_true(p.guest[0]->room >= p.guest[0]->chunk);
    free(play_in(&p, model)); /* there is scratch enough */
    close_party(&p);
    options.store.ram = 1 << 30; /* enough for passes over all contexts at once */
    p = open_party(model, &options);
    assert_int_equal(p.guest[0]->chunk, 64);
    assert_int_equal(p.guest[0]->room, GUESTS * 64);
    free(play_in(&p, model));
    close_party(&p);
    jt_model_free(model);
}

static void a_guest_has_one_context(void **state)
{
    (void)state;
    jt_model *model = open_apart("qwen3moe");
    jt_session_options options = {.threads = 1, .n_ctx = 64, .store = {.ram = 1 << 30}};
    jt_session_twin twin = {.self = NULL};
    party p = open_party(model, &options);
    assert_int_equal(jt_session_add_twin(p.guest[0], &twin, NULL), JT_E_LIMIT);
    close_party(&p);
    jt_model_free(model);
}

/* What the process takes for others is none of its business, what they are promised is.
 */
static void lodgers_and_what_is_set_aside(void **state)
{
    (void)state;
    enum { ASIDE = 32 << 20 };
    jt_model *model = open_apart("qwen3moe");
    jt_session_options options = {
        .threads = 1, .n_ctx = 64, .store = {.ram = 1 << 30, .io = "direct"}};
    jt_hosting hosting = {.guests = GUESTS};
    jt_store_stats stats[3];
    jt_err err = {0};
    for (int i = 0; i < 3; i++) {
        jt_session *host;
        hosting.aside = i > 0 ? ASIDE : 0;
        hosting.lodger = i > 1;
        must(jt_session_new_host(&host, model, &options, &hosting, &err), &err);
        assert_true(jt_session_store_stats(host, &stats[i]));
        jt_session_free(host);
    }
    assert_int_equal(stats[1].budget.reserve, stats[0].budget.reserve + ASIDE);
    assert_true(stats[1].budget.least >= stats[0].budget.least + ASIDE);
    assert_int_not_equal(stats[2].budget.process, stats[1].budget.process);
    jt_model_free(model);
}

static void wrong_guests_are_refused(void **state)
{
    (void)state;
    jt_model *model = open_apart("qwen3moe"), *other = open_apart("mixtral");
    jt_session_options options = {.threads = 1, .n_ctx = 64, .chunk = 16};
    jt_err err = {0};
    jt_session *host, *s;
    options.store.ram = 1 << 30;
    must(jt_session_new(&host, model, &options, &err), &err);
    options.beside = host;
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_ARG);
    options.store.ram = 0;
    assert_int_equal(jt_session_new(&s, other, &options, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "another"));
    options.chunk = 32;
    assert_int_equal(jt_session_new(&s, model, &options, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "passes of 32 tokens, the budget has room for 16"));
    options.chunk = 0;
    must(jt_session_new(&s, model, &options, &err), &err);
    assert_int_equal(s->chunk, 16);
    assert_int_equal(s->room, 16);
    jt_session_free(s);
    jt_session_free(host);
    jt_model_free(other);
    jt_model_free(model);
}

static void missing_memory_is_an_error(void **state)
{
    (void)state;
    jt_model *model = open_apart("qwen3moe");
    jt_session_options options = {.threads = 1, .n_ctx = 64, .store = {.slots = 8}};
    party p;
    jt_err err = {0};
    for (long n = 0;; n++) {
        jt_fault_after(n);
        jt_status status = open_host(&p, model, &options, &err);
        jt_fault_after(-1);
        if (status == JT_OK)
            break;
        assert_int_equal(status, JT_E_MEMORY);
    }
    jt_session_free(p.host);
    jt_model_free(model);
}

/* ---- a disk that fails ---- */

/* A place of the disk that cannot be read, as long as the disk lives. */
static void a_bad_place_fails_whom_it_concerns(void **state)
{
    (void)state;
    enum { COUNT = 2 };
    jt_model *model = open_apart("qwen3moe");
    jt_session_options options = {.threads = 1, .n_ctx = 64};
    jt_err err = {0};
    char said[64];
    jt_read_fault fault;
    int layer = -1, expert = -1;
    find_own(&layer, &expert, &fault, model, text[0], text[1], COUNT);
    options.store = (jt_store_options){
        .slots = fewest_slots(model), .io = "direct", .prefetch = "off"};
    party p = open_party(model, &options);
    jt_part part[2] = {{p.guest[0], text[0], COUNT}, {p.guest[1], text[1], COUNT}};
    jt_read_fault_set(fault);
    assert_int_equal(jt_session_eval_together(part, 2, NULL, &err), JT_E_IO);
    snprintf(said, sizeof said, "cannot read expert %d of layer %d ", expert, layer);
    assert_non_null(strstr(err.msg, said));
    assert_int_equal(jt_session_eval_together(part, 1, NULL, &err), JT_E_IO);
    must(jt_session_eval_together(part + 1, 1, NULL, &err), &err);
    assert_int_equal(jt_session_length(p.guest[0]), 0);
    assert_int_equal(jt_session_length(p.guest[1]), COUNT);
    jt_read_fault_set((jt_read_fault){.after = -1});
    must(jt_session_eval_together(part, 1, NULL, &err), &err);
    close_party(&p);
    jt_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_families_give_the_same_bits),
        cmocka_unit_test(the_same_bits_in_interludes),
        cmocka_unit_test(a_budget_counts_all_contexts),
        cmocka_unit_test(a_guest_has_one_context),
        cmocka_unit_test(lodgers_and_what_is_set_aside),
        cmocka_unit_test(wrong_guests_are_refused),
        cmocka_unit_test(missing_memory_is_an_error),
        cmocka_unit_test(a_bad_place_fails_whom_it_concerns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
