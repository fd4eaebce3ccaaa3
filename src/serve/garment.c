#include "serve/garment.h"

#include <stdlib.h>

#include "base/memory.h"

void jt_fitting_free(jt_fitting *f)
{
    jt_attachment_free(&f->at);
    free(f);
}

void jt_garment_free(jt_garment *g)
{
    for (jt_fitting *f = g->fittings, *next; f; f = next) {
        next = f->next;
        jt_fitting_free(f);
    }
    jt_adapter_free(g->adapter);
    free(g);
}

/* Any scale will do for most adapters; the others are made ready for each. */
static float scale_of_fitting(const jt_adapter *adapter, float scale)
{
    return scale != 0.0f && jt_attachment_fits_all_scales(adapter) ? 1.0f : scale;
}

jt_fitting *jt_garment_fitting(const jt_garment *g, float scale)
{
    float wanted = scale_of_fitting(g->adapter, scale);
    jt_fitting *f = g->fittings;
    while (f && f->at.scale != wanted)
        f = f->next;
    return f;
}

jt_status jt_garment_fit(jt_fitting **out, jt_context *ctx, const jt_model *model,
                         jt_garment *g, float scale, jt_err *err)
{
    jt_fitting *f = jt_calloc(1, sizeof *f);
    if (!f)
        return jt_fail_memory(err, "loading an adapter");
    ctx->err = (jt_err){0};
    jt_status status =
        jt_attachment_make(&f->at, ctx, model, g->adapter,
                           scale_of_fitting(g->adapter, scale), false, err);
    if (status == JT_OK)
        *out = f;
    else
        jt_fitting_free(f);
    return status;
}

void jt_garment_add(jt_garment *g, jt_fitting *f)
{
    f->next = g->fittings;
    g->fittings = f;
    g->bytes += jt_attachment_bytes(&f->at);
}

static jt_status read_into(jt_garment *g, jt_context *ctx, const jt_model *model,
                           const jt_garment_source *source, jt_err *err)
{
    jt_fitting *f = NULL;
    JT_TRY(jt_adapter_open(&g->adapter, source->path, model, err));
    if (source->has_task)
        JT_TRY(jt_adapter_set_task(g->adapter, source->task, err));
    JT_TRY(jt_garment_fit(&f, ctx, model, g, source->scale, err));
    g->bytes = jt_adapter_bytes(g->adapter);
    jt_garment_add(g, f);
    return JT_OK;
}

jt_status jt_garment_read(jt_garment **out, jt_context *ctx, const jt_model *model,
                          const jt_garment_source *source, jt_err *err)
{
    jt_garment *g = jt_calloc(1, sizeof *g);
    if (!g)
        return jt_fail_memory(err, "loading an adapter");
    jt_status status = read_into(g, ctx, model, source, err);
    if (status == JT_OK)
        *out = g;
    else
        jt_garment_free(g);
    return status;
}
