#include "run/embed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/norm.h"

static void see(void *self, int layer, const jt_tensor *h)
{
    jt_embedder *e = self;
    const jt_model *model = e->session->model;
    jt_context *ctx = e->session->ctx;
    if (layer != model->params.n_layers - 1)
        return;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_tensor x = jt_norm_forward(ctx, &model->output_norm, h);
    size_t d = jt_cols(h), rows = jt_rows(h);
    for (size_t r = e->mean ? 0 : rows - 1; r < rows && !jt_failed(ctx); r++) {
        const float *row = jt_row(&x, r);
        for (size_t i = 0; i < d; i++)
            e->sum[i] = (e->mean ? e->sum[i] : 0.0) + row[i];
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

jt_status jt_embedder_begin(jt_embedder *e, jt_session *session, bool mean, jt_err *err)
{
    *e = (jt_embedder){.session = session, .mean = mean};
    e->sum = jt_calloc((size_t)session->model->params.d_model, sizeof *e->sum);
    if (!e->sum)
        return jt_fail_memory(err, "embedding a text");
    session->on_layer = see;
    session->on_layer_user = e;
    return JT_OK;
}

void jt_embedder_read(const jt_embedder *e, float *out)
{
    size_t d = (size_t)e->session->model->params.d_model;
    double length = 0.0;
    for (size_t i = 0; i < d; i++)
        length += e->sum[i] * e->sum[i];
    length = sqrt(length);
    for (size_t i = 0; i < d; i++)
        out[i] = length > 0.0 ? (float)(e->sum[i] / length) : 0.0f;
}

void jt_embedder_end(jt_embedder *e)
{
    if (e->session)
        e->session->on_layer = NULL;
    free(e->sum);
    *e = (jt_embedder){0};
}
