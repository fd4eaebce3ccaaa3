/* Comparing models on a text: with themselves, with quantised ones, with others; and
 * routes that are known. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "golden.h"
#include "scratch.h"
#include "watch/compare_routes.h"

static void quantize(const char *source, const char *path, const char *mix)
{
    jt_quantize_options o = {.mix = mix};
    assert_int_equal(jt_quantize_model(source, path, &o, NULL, NULL), JT_OK);
}

static jt_comparison compare_models(const golden *g, const char *path)
{
    jt_model *model;
    jt_session *a, *b;
    jt_comparison text;
    jt_err err = {0};
    assert_int_equal(jt_model_load(&model, path, &err), JT_OK);
    assert_int_equal(jt_session_new(&a, g->model, NULL, &err), JT_OK);
    assert_int_equal(jt_session_new(&b, model, &(jt_session_options){.chunk = 5}, &err),
                     JT_OK);
    if (jt_compare_models(a, b, g->tokens, g->count, 12, 5, (jt_progress){0}, &text,
                          &err) != JT_OK)
        fail_msg("%s", err.msg);
    jt_session_free(a);
    jt_session_free(b);
    jt_model_free(model);
    return text;
}

/* The bins hold all scored tokens, and their losses make both perplexities; flips come
 * in order. */
static void check_tokens(const jt_comparison *r, size_t count)
{
    double nll_a = 0, nll_b = 0;
    size_t tokens = 0;
    for (int i = 0; i < JT_COMPARE_BINS; i++) {
        tokens += r->bins[i].tokens;
        nll_a += (double)r->bins[i].tokens * r->bins[i].nll_a;
        nll_b += (double)r->bins[i].tokens * r->bins[i].nll_b;
    }
    assert_int_equal(tokens, r->scored);
    assert_float_equal(exp(nll_a / (double)tokens), r->perplexity_a, 1e-6);
    assert_float_equal(exp(nll_b / (double)tokens), r->perplexity_b, 1e-6);
    assert_true(r->n_flips > 0 && r->n_flips <= 5);
    for (size_t i = 0; i < r->n_flips; i++) {
        assert_true(r->flips[i].index < count && r->flips[i].index % 12 < 11);
        assert_true(r->flips[i].flipped > 0 && r->flips[i].agreement < 1);
        assert_true(i == 0 || r->flips[i - 1].agreement <= r->flips[i].agreement);
    }
}

static void test_logits(void **state)
{
    (void)state;
    golden g;
    scratch dir = scratch_new();
    const char *q8 = scratch_path(&dir, "q8"), *q4 = scratch_path(&dir, "q4");
    char source[512];
    golden_open(&g, "mixtral");
    golden_path(source, sizeof source, "mixtral.gguf");
    jt_comparison same = compare_models(&g, source);
    assert_int_equal(same.scored, g.count / 12 * 11);
    assert_true(same.most == 0 && same.top1 == 1);
    assert_true(same.perplexity_a == same.perplexity_b);
    assert_int_equal(same.n_layers, 2);
    for (size_t i = 0; i < same.n_layers; i++) {
        assert_int_equal(same.layers[i].tokens, g.count / 12 * 12);
        assert_int_equal(same.layers[i].same, same.layers[i].tokens);
        assert_int_equal(same.layers[i].top1, same.layers[i].tokens);
        assert_true(same.layers[i].jaccard == 1 && same.layers[i].kl == 0);
    }
    assert_int_equal(same.n_flips, 0);
    assert_int_equal(same.bins[JT_COMPARE_BINS - 1].tokens, same.scored);
    assert_true(isnan(same.correlation));
    jt_comparison_free(&same);
    quantize(source, q8, "q8_0");
    quantize(source, q4, "q4_0");
    jt_comparison t8 = compare_models(&g, q8), t4 = compare_models(&g, q4);
    print_message("q8_0 %.2g, q4_0 %.2g nats\n", t8.mean, t4.mean);
    assert_true(t8.mean > 0 && t8.mean < t4.mean);
    assert_true(t4.median <= t4.p99 && t4.p99 <= t4.most);
    for (size_t i = 0; i < t4.n_layers; i++) {
        assert_true(t4.layers[i].jaccard > 0.5 && t4.layers[i].jaccard <= 1);
        assert_true(t4.layers[i].kl > t8.layers[i].kl && t8.layers[i].kl > 0);
    }
    check_tokens(&t4, g.count);
    jt_comparison_free(&t8);
    jt_comparison_free(&t4);
    golden_close(&g);
    scratch_free(&dir);
}

static void test_wrong(void **state)
{
    (void)state;
    golden g, other;
    jt_session *a, *b;
    jt_comparison text;
    jt_err err = {0};
    golden_open(&g, "mixtral");
    golden_open(&other, "olmoe");
    assert_int_equal(jt_session_new(&a, g.model, NULL, &err), JT_OK);
    assert_int_equal(jt_session_new(&b, other.model, NULL, &err), JT_OK);
    jt_progress none = {0};
    assert_int_equal(
        jt_compare_models(a, b, g.tokens, g.count, 12, 5, none, &text, &err), JT_E_ARG);
    assert_int_equal(jt_compare_models(a, a, g.tokens, 5, 12, 5, none, &text, &err),
                     JT_E_ARG);
    assert_int_equal(jt_compare_models(a, a, g.tokens, 5, 1, 5, none, &text, &err),
                     JT_E_ARG);
    jt_session_free(a);
    jt_session_free(b);
    golden_close(&g);
    golden_close(&other);
}

/* Two tokens of a layer with 4 experts: one agrees, the other shares one of two. */
static void test_known_routes(void **state)
{
    (void)state;
    route_comparison c;
    assert_int_equal(jt_route_comparison_new(&c, 3, 8, NULL), JT_OK);
    jt_watcher keep = jt_route_keeper(&c), compare = jt_route_comparer(&c);
    int32_t a[] = {0, 1, 2, 3}, b[] = {1, 0, 2, 1};
    float p[] = {0.5f, 0.5f, 0, 0, 0.25f, 0.25f, 0.25f, 0.25f};
    float q[] = {0.25f, 0.75f, 0, 0, 2, 2, 2, 2};
    jt_route route = {.n_tokens = 2, .n_experts = 4, .k = 2, .n_rows = 4};
    jt_route_site site = {.layer = 1};
    jt_route_comparison_step(&c);
    route.expert = a;
    route.scores = p;
    keep.on_route(keep.self, &site, &route);
    route.expert = b;
    route.scores = q;
    compare.on_route(compare.self, &site, &route);
    jt_compare_layer *layers;
    size_t n;
    assert_int_equal(jt_route_comparison_layers(&c, &layers, &n, NULL), JT_OK);
    assert_int_equal(n, 1);
    assert_int_equal(layers->layer, 1);
    assert_int_equal(layers->tokens, 2);
    assert_int_equal(layers->same, 1);
    assert_int_equal(layers->top1, 1);
    assert_float_equal(layers->jaccard, (1.0 + 1.0 / 3.0) / 2.0, 1e-12);
    double kl = 0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75);
    assert_float_equal(layers->kl, kl / 2.0, 1e-6);
    assert_int_equal(c.tokens[0].flipped, 0);
    assert_int_equal(c.tokens[1].flipped, 1);
    assert_float_equal(c.tokens[1].shared, 1.0 / 3.0, 1e-12);
    free(layers);
    /* A layer with another number of experts, or of which A showed nothing, is left
     * out. */
    jt_route_comparison_step(&c);
    keep.on_route(keep.self, &site, &route);
    route.n_experts = 5;
    compare.on_route(compare.self, &site, &route);
    site.layer = 2;
    compare.on_route(compare.self, &site, &route);
    site.layer = 7;
    compare.on_route(compare.self, &site, &route);
    assert_int_equal(c.routes[1].sums.tokens, 2);
    assert_int_equal(c.tokens[0].layers, 0);
    jt_route_comparison_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_known_routes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
