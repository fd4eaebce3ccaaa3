/* Sequences with different adapters in one pass: each gets the bits that it would have
 * got alone, whatever the others have. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mixed.h"
#include "run/session.h"

enum { MOST = 16, ADAPTERS = 2, CONTEXT = 64, PIECE = 9 };

/* What a sequence has on. */
typedef struct wear {
    const jt_adapter *adapter[ADAPTERS];
    float scale[ADAPTERS];
} wear;

/* What all that have nothing but its adapter, at a scale of 1, wear together; or NULL.
 */
static const jt_attachment *shared;

static const char *adapter_type; /* of all sessions */

static jt_session *open_session(const golden *g, const wear *w, jt_session *beside)
{
    jt_session *s;
    jt_err err = {0};
    jt_session_options o = {.n_ctx = CONTEXT,
                            .chunk = 24,
                            .threads = 2,
                            .kv_type = "f32",
                            .adapter_type = adapter_type,
                            .beside = beside};
    adapted_must(jt_session_new(&s, g->model, &o, &err), &err);
    if (shared && w->adapter[0] == shared->adapter && w->scale[0] == 1.0f) {
        adapted_must(jt_session_wear(s, &shared, w->scale, 1, &err), &err);
        return s;
    }
    for (size_t i = 0; i < ADAPTERS && w->adapter[i]; i++)
        adapted_must(jt_session_add_adapter(s, w->adapter[i], w->scale[i], &err), &err);
    return s;
}

/* Prompts of different lengths, then pieces and single tokens. */
static void check_together(const golden *g, const wear *wears, size_t n)
{
    jt_session *alone[MOST], *group[MOST];
    size_t at[MOST] = {0}, passes = 0;
    jt_err err = {0};
    assert_in_range(n, 2, MOST);
    for (size_t s = 0; s < n; s++) {
        alone[s] = open_session(g, &wears[s], NULL);
        group[s] = open_session(g, &wears[s], s ? group[0] : NULL);
        assert_true(jt_session_shares(group[s]));
    }
    for (int round = 0; round < 5; round++) {
        jt_part part[MOST];
        for (size_t s = 0; s < n; s++) {
            size_t count = round == 0 ? 2 + s % 7 : round == 2 ? 1 + s % 3 : 1;
            part[s] = (jt_part){group[s], g->tokens + s % PIECE + at[s], count};
            adapted_must(jt_session_eval(alone[s], part[s].tokens, count, NULL, &err),
                         &err);
            at[s] += count;
        }
        adapted_must(jt_session_eval_together(part, n, NULL, &err), &err);
        for (size_t s = 0; s < n; s++) {
            if (memcmp(jt_session_logits(group[s]), jt_session_logits(alone[s]),
                       g->vocab * sizeof(float)) != 0)
                fail_msg("sequence %zu differs in round %d", s, round);
        }
        passes++;
    }
    assert_int_equal(passes, 5);
    for (size_t s = n; s-- > 0;) {
        jt_session_free(alone[s]);
        jt_session_free(group[s]);
    }
}

static jt_adapter *open_adapter(const golden *g, const char *name)
{
    char path[512], file[128];
    jt_adapter *a;
    jt_err err = {0};
    snprintf(file, sizeof file, "../adapters/%s", name);
    adapted_must(
        jt_adapter_open(&a, golden_path(path, sizeof path, file), g->model, &err),
        &err);
    return a;
}

/* Every kind beside every other, several at once, and a sequence without any. */
static void test_kinds(void **state)
{
    static const char *const names[] = {"llama-lora",  "llama-rslora", "llama-dora",
                                        "llama-shira", "llama-poly",   "llama-ends"};
    enum { N = sizeof names / sizeof *names };
    jt_adapter *a[N];
    golden g;
    (void)state;
    golden_open_files(&g, "hf/llama", "../adapters/llama-lora.ref.gguf");
    for (size_t i = 0; i < N; i++)
        a[i] = open_adapter(&g, names[i]);
    const wear wears[] = {
        {{a[0]}, {1.0f}},          {{NULL}, {0}},          {{a[1]}, {0.5f}},
        {{a[2]}, {1.0f}},          {{a[0]}, {-2.0f}},      {{a[3]}, {1.0f}},
        {{a[0], a[1]}, {1, 1}},    {{a[4]}, {1.0f}},       {{a[5]}, {1.0f}},
        {{a[3], a[0]}, {1, 0.3f}}, {{a[1], a[2]}, {1, 1}}, {{a[5], a[5]}, {1, 0.2f}},
    };
    check_together(&g, wears, sizeof wears / sizeof *wears);
    for (size_t i = 0; i < N; i++)
        jt_adapter_free(a[i]);
    golden_close(&g);
}

/* Adapters of experts: the tokens of an expert are those of several sequences. */
static void test_experts(void **state)
{
    static const char *const names[] = {"mixtral-lora", "mixtral-old"};
    jt_adapter *a[2];
    golden g;
    (void)state;
    golden_open_files(&g, "hf/mixtral", "../adapters/mixtral-lora.ref.gguf");
    for (size_t i = 0; i < 2; i++)
        a[i] = open_adapter(&g, names[i]);
    const wear wears[] = {{{a[0]}, {1}},
                          {{a[1]}, {1}},
                          {{NULL}, {0}},
                          {{a[0]}, {0.5f}},
                          {{a[1], a[0]}, {1, 2}}};
    check_together(&g, wears, sizeof wears / sizeof *wears);
    for (size_t i = 0; i < 2; i++)
        jt_adapter_free(a[i]);
    golden_close(&g);
}

/* Routed mixtures and what stands between the halves of layers, beside each other and
 * beside plain adapters, with FFNs that are mixtures for some of the tokens only. */
static void test_mixtures(void **state)
{
    static const char *const methods[] = {"mixlora", "meteora", "lora-mixer",
                                          "x-lora",  "phi-4",   "bottleneck"};
    enum { N = sizeof methods / sizeof *methods };
    jt_adapter *m[N], *lora;
    golden g;
    (void)state;
    golden_open_files(&g, "hf/llama", "../adapters/llama-lora.ref.gguf");
    for (size_t i = 0; i < N; i++)
        mixed_open(&m[i], &g, methods[i], false);
    lora = open_adapter(&g, "llama-lora");
    const wear wears[] = {
        {{m[0]}, {1}}, {{lora}, {1}},    {{m[1]}, {1}},          {{NULL}, {0}},
        {{m[2]}, {1}}, {{m[3]}, {1}},    {{m[4]}, {1}},          {{m[0], lora}, {1, 1}},
        {{m[3]}, {2}}, {{m[0]}, {0.5f}}, {{lora, m[1]}, {1, 1}}, {{m[4]}, {0}},
        {{m[5]}, {1}}, {{m[5]}, {0.5f}}, {{m[5], m[0]}, {1, 1}}, {{lora}, {1}},
    };
    check_together(&g, wears, sizeof wears / sizeof *wears);
    for (size_t i = 0; i < N; i++)
        jt_adapter_free(m[i]);
    jt_adapter_free(lora);
    golden_close(&g);
}

/* Prompts that are rewritten, each for its sequence: of texts in which the marker comes
 * at once, late, or never; and domain adapters. */
static void test_prompts(void **state)
{
    jt_adapter *p, *d, *m, *b;
    golden g;
    (void)state;
    golden_open(&g, "llama");
    mixed_open(&p, &g, "p-adapter", false);
    mixed_open(&d, &g, "mixda", false);
    mixed_open(&m, &g, "mixlora", false);
    mixed_open(&b, &g, "bottleneck", false);
    const wear wears[] = {{{p}, {1}},       {{NULL}, {0}},    {{p}, {0.5f}},
                          {{p, b}, {1, 1}}, {{d}, {1}},       {{m, p}, {1, 1}},
                          {{p}, {1}},       {{d, p}, {1, 2}}, {{p, p}, {1, 1}},
                          {{b}, {1}},       {{d, m}, {1, 1}}};
    check_together(&g, wears, sizeof wears / sizeof *wears);
    jt_adapter_free(p);
    jt_adapter_free(d);
    jt_adapter_free(m);
    jt_adapter_free(b);
    golden_close(&g);
}

/* Virtual tokens before some of the texts, alone and beside other adapters. */
static void test_fronts(void **state)
{
    static const char *const names[] = {"llama-prompt", "llama-prefix", "llama-ptuning",
                                        "llama-lora"};
    enum { N = sizeof names / sizeof *names };
    jt_adapter *a[N];
    golden g;
    (void)state;
    golden_open_files(&g, "hf/llama", "../adapters/llama-lora.ref.gguf");
    for (size_t i = 0; i < N; i++)
        a[i] = open_adapter(&g, names[i]);
    const wear wears[] = {{{a[0]}, {1}},          {{a[1]}, {1}}, {{NULL}, {0}},
                          {{a[3], a[2]}, {1, 1}}, {{a[3]}, {1}}, {{a[0]}, {0}},
                          {{a[1], a[3]}, {1, 1}}, {{a[0]}, {1}}};
    check_together(&g, wears, sizeof wears / sizeof *wears);
    for (size_t i = 0; i < N; i++)
        jt_adapter_free(a[i]);
    golden_close(&g);
}

/* One mixture on several sequences, whose tokens then share its adapters, beside others
 * that have it to themselves or have another. */
static void test_shared(void **state)
{
    static const char *const methods[] = {"meteora", "lora-mixer", "x-lora", "phi-4"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        jt_adapter *m, *lora;
        jt_attachment made;
        jt_err err = {0};
        golden g;
        golden_open_files(&g, "hf/llama", "../adapters/llama-lora.ref.gguf");
        mixed_open(&m, &g, methods[i], false);
        lora = open_adapter(&g, "llama-lora");
        jt_session *host = open_session(&g, &(wear){{NULL}, {0}}, NULL);
        adapted_must(jt_attachment_make(&made, host->ctx, g.model, m, 1, false, &err),
                     &err);
        shared = &made;
        const wear wears[] = {{{m}, {1}}, {{m}, {1}},    {{lora}, {1}}, {{m}, {1}},
                              {{m}, {2}}, {{NULL}, {0}}, {{m}, {1}},    {{m}, {1}}};
        check_together(&g, wears, sizeof wears / sizeof *wears);
        shared = NULL;
        jt_attachment_free(&made);
        jt_session_free(host);
        jt_adapter_free(m);
        jt_adapter_free(lora);
        golden_close(&g);
    }
    (void)state;
}

/* The same with factors of 8 bits. */
static void test_rounded(void **state)
{
    adapter_type = "q8_0";
    test_kinds(state);
    test_experts(state);
    test_shared(state);
    adapter_type = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),    cmocka_unit_test(test_experts),
        cmocka_unit_test(test_mixtures), cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_shared),   cmocka_unit_test(test_fronts),
        cmocka_unit_test(test_rounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
