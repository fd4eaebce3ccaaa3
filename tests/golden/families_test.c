/* Every family against transformers: F32 logits at every position, and every route.
 * Keys and values are kept in F32; what F16 ones cost is bounded, too. */
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "model/model.h"

enum { WHOLE = 4096 };
static const double tolerance = 1e-4; /* of the largest logit */

/* Latent attention has two forms, of which a pass takes the cheaper: a chunk and its
 * tokens one by one agree to rounding only. */
static bool has_forms(const golden *g)
{
    bool latent = false;
    for (int i = 0; i < g->model->params.n_layers; i++)
        latent = latent || g->model->layers[i].mixer == JT_MIX_LATENT;
    return latent;
}

static void check_level(const golden *g, const char *cpu)
{
    size_t routes_size = (size_t)g->n_layers * g->count * (size_t)g->k;
    int32_t *routes = malloc((routes_size + 1) * sizeof *routes);
    memset(routes, 0xff, routes_size * sizeof *routes); /* -1, as in dense layers */
    jt_session_options o = {.cpu = cpu, .chunk = WHOLE, .threads = 2, .kv_type = "f32"};
    float *whole = golden_run(g, &o, g->routes ? routes : NULL);
    o.chunk = o.threads = 1;
    float *single = golden_run(g, &o, NULL);
    double error = golden_error(whole, g->logits, g->count * g->vocab);
    print_message("  %-7s error %.2e\n", cpu, error);
    assert_true(error < tolerance);
    for (size_t t = 0; t < g->count; t++)
        assert_int_equal(golden_argmax(whole + t * g->vocab, g->vocab),
                         golden_argmax(g->logits + t * g->vocab, g->vocab));
    /* one chunk on two threads and token by token on one: the same bits */
    if (has_forms(g))
        assert_true(golden_error(whole, single, g->count * g->vocab) < 1e-5);
    else
        assert_memory_equal(whole, single, g->count * g->vocab * sizeof(float));
    if (g->routes)
        assert_memory_equal(routes, g->routes, routes_size * sizeof *routes);
    o = (jt_session_options){.cpu = cpu};
    float *half = golden_run(g, &o, NULL);
    assert_true(golden_error(half, g->logits, g->count * g->vocab) < 3e-3);
    free(half);
    free(routes);
    free(whole);
    free(single);
}

static void check_family(void **state)
{
    golden g;
    golden_open(&g, *state);
    golden_each_level(check_level, &g);
    golden_close(&g);
}

#define FAMILY(name)                                            \
    {                                                           \
        name, check_family, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    /* clang-format off */
    const struct CMUnitTest tests[] = {
        FAMILY("llama"),
        FAMILY("llama-linear"),
        FAMILY("llama-llama3"),
        FAMILY("mixtral"),
        FAMILY("qwen2"),
        FAMILY("qwen2-yarn"),
        FAMILY("qwen2moe"),
        FAMILY("qwen2moe-norm"),
        FAMILY("qwen3"),
        FAMILY("qwen3moe"),
        FAMILY("olmoe"),
        FAMILY("olmoe-clip"),
        FAMILY("phimoe"),
        FAMILY("granite"),
        FAMILY("granitemoe"),
        FAMILY("granitemoe-shared"),
        FAMILY("glm4"),
        FAMILY("glm4moe"),
        FAMILY("glm4moe-norm"),
        FAMILY("ernie4_5"),
        FAMILY("ernie4_5-moe"),
        FAMILY("dots1"),
        FAMILY("minimax-m2"),
        FAMILY("seed_oss"),
        FAMILY("gemma"),
        FAMILY("olmo"),
        FAMILY("olmo2"),
        FAMILY("olmo3"),
        FAMILY("phi2"),
        FAMILY("nemotron"),
        FAMILY("hunyuan-moe"),
        FAMILY("hunyuan-dense"),
        FAMILY("exaone-moe"),
        FAMILY("afmoe"),
        FAMILY("mistral3"),
        FAMILY("dbrx"),
        FAMILY("deepseek"),
        FAMILY("bailingmoe"),
        FAMILY("bailingmoe2"),
        FAMILY("grok"),
        FAMILY("grok2"),
        FAMILY("arctic"),
        FAMILY("pangu-pro-moe"),
        FAMILY("smollm3"),
        FAMILY("llama4"),
        FAMILY("phi3"),
        FAMILY("phi3-long"),
        FAMILY("gemma2"),
        FAMILY("gemma3"),
        FAMILY("gpt-oss"),
        FAMILY("cohere2"),
        FAMILY("exaone4"),
        FAMILY("deepseek2"),
        FAMILY("deepseek2-lite"),
        FAMILY("deepseek3"),
        FAMILY("jamba"),
        FAMILY("lfm2"),
        FAMILY("lfm2moe"),
        FAMILY("granitehybrid"),
        FAMILY("granitehybrid-dense"),
        FAMILY("qwen3next"),
        FAMILY("qwen35"),
        FAMILY("qwen35moe"),
        FAMILY("nemotron_h"),
        FAMILY("nemotron_h_moe"),
        FAMILY("gemma4"),
        FAMILY("gemma4-moe"),
        FAMILY("gemma4-e2b"),
        FAMILY("falcon-h1"),
        FAMILY("kimi-linear"),
        FAMILY("minimax-01"),
    };
    /* clang-format on */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
