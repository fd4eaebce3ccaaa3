#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

char *golden_path(char *path, size_t room, const char *name)
{
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(path, room, "%s/golden/%s", data ? data : "tests", name);
    return path;
}

void golden_open(golden *g, const char *name)
{
    char model[64], reference[64];
    snprintf(model, sizeof model, "%s.gguf", name);
    snprintf(reference, sizeof reference, "%s.ref.gguf", name);
    golden_open_files(g, model, reference);
}

void golden_open_files(golden *g, const char *model, const char *reference)
{
    char path[512];
    jt_err err = {0};
    *g = (golden){0};
    must(jt_model_load(&g->model, golden_path(path, sizeof path, model), &err), &err);
    must(jt_gguf_open(&g->reference, golden_path(path, sizeof path, reference), &err),
         &err);
    const jt_gguf_tensor *tokens = jt_gguf_find(g->reference, "tokens");
    const jt_gguf_tensor *logits = jt_gguf_find(g->reference, "logits");
    const jt_gguf_tensor *routes = jt_gguf_find(g->reference, "routes");
    assert_non_null(tokens);
    assert_non_null(logits);
    g->tokens = tokens->data;
    g->count = tokens->shape[0];
    g->logits = logits->data;
    g->vocab = logits->shape[1];
    assert_int_equal(logits->shape[0], g->count);
    if (routes) {
        g->routes = routes->data;
        g->n_layers = (int)routes->shape[0];
        g->k = (int)routes->shape[2];
    }
}

void golden_close(golden *g)
{
    jt_model_free(g->model);
    jt_gguf_close(g->reference);
}

typedef struct collector {
    const golden *g;
    float *logits;
    int32_t *routes;
    size_t evaluated; /* tokens of earlier calls */
} collector;

static jt_status collect_logits(void *user, size_t first, const float *logits,
                                size_t rows, jt_err *err)
{
    collector *c = user;
    (void)err;
    memcpy(c->logits + (c->evaluated + first) * c->g->vocab, logits,
           rows * c->g->vocab * sizeof(float));
    return JT_OK;
}

static void collect_routes(void *self, const jt_route_site *site, const jt_route *route)
{
    collector *c = self;
    assert_int_equal(route->k, c->g->k);
    for (int t = 0; t < route->n_tokens; t++) {
        size_t at = ((size_t)site->layer * c->g->count + (size_t)site->positions[t]) *
                    (size_t)route->k;
        memcpy(c->routes + at, route->expert + t * route->k,
               (size_t)route->k * sizeof(int32_t));
    }
}

float *golden_run(const golden *g, const jt_session_options *options, int32_t *routes)
{
    collector c = {g, malloc(g->count * g->vocab * sizeof(float)), routes, 0};
    jt_eval_options eval = {.on_logits = collect_logits, .user = &c};
    jt_watcher watcher = {.name = "golden", .self = &c, .on_route = collect_routes};
    jt_session *session;
    jt_err err = {0};
    must(jt_session_new(&session, g->model, options, &err), &err);
    if (routes)
        must(jt_session_add_watcher(session, &watcher, &err), &err);
    must(jt_session_eval(session, g->tokens, g->count, &eval, &err), &err);
    jt_session_free(session);
    return c.logits;
}

double golden_error(const float *a, const float *b, size_t n)
{
    double most = 0.0, largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(a[i]))
            return INFINITY;
        most = fmax(most, fabs((double)a[i] - b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return most / largest;
}

size_t golden_argmax(const float *row, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = row[i] > row[best] ? i : best;
    return best;
}

void golden_each_level(void (*fn)(const golden *g, const char *cpu), const golden *g)
{
    for (int level = 0; level < JT_CPU_COUNT; level++) {
        const jt_kernels *kernels = jt_kernels_level((jt_cpu_level)level);
        if (kernels)
            fn(g, kernels->name);
    }
}
