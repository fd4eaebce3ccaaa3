/* Traces and the models that they are of. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "model/apart.h"
#include "model/model.h"
#include "run/session.h"
#include "watch/trace.h"

enum { USUAL_BLOCK = 256 };

uint64_t jt_model_fingerprint(const jt_model *model)
{
    enum { LOOK = 64 };
    const jt_gguf *file = jt_model_file(model);
    uint64_t h = JT_HASH_START;
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        size_t row = jt_dtype_row_bytes(t->dtype, (size_t)t->shape[t->n_dims - 1]);
        uint32_t id = jt_dtype_gguf_id(t->dtype);
        h = jt_hash(h, t->name.data, t->name.len);
        h = jt_hash(h, &id, sizeof id);
        h = jt_hash(h, t->shape, (size_t)t->n_dims * sizeof *t->shape);
        h = jt_hash(h, jt_gguf_row(t, 0), row < LOOK ? row : LOOK);
    }
    jt_apart_forget(model->apart);
    return h;
}

static void copy_text(char *to, const char *from, size_t len)
{
    size_t room = len < TRACE_MAX_TEXT ? len : TRACE_MAX_TEXT;
    memcpy(to, from, room);
    to[room] = '\0';
}

/* The model's own, or more where policies ask for more. */
static int slots_of(const jt_session *session, int layer, int k)
{
    jt_route_site site = {.layer = layer};
    int asked = session ? jt_hooks_slots(&session->hooks, &site, k) : k;
    return asked > k ? asked : k;
}

/* The layers with experts, in order. */
static jt_status list_layers(jt_trace_head *head, const jt_model *model,
                             const jt_session *session, jt_err *err)
{
    int n = model->params.n_layers;
    head->layers = jt_calloc((size_t)n, sizeof *head->layers);
    if (!head->layers)
        return jt_fail_memory(err, "beginning a trace");
    for (int i = 0; i < n; i++) {
        const jt_router *r = &model->layers[i].mixture.router;
        if (model->layers[i].is_mixture)
            head->layers[head->n_layers++] =
                (jt_trace_layer){.layer = i,
                                 .n_experts = r->n_experts,
                                 .n_rows = jt_router_rows(r),
                                 .k = slots_of(session, i, r->k)};
    }
    if (head->n_layers)
        return JT_OK;
    return jt_fail(err, JT_E_UNSUPPORTED, "'%s' has no experts to trace",
                   jt_gguf_path(model->file));
}

jt_status jt_trace_writer_new(jt_trace_writer **out, const char *path,
                              const jt_model *model, const jt_trace_options *options,
                              jt_err *err)
{
    jt_trace_options usual = {0};
    const jt_trace_options *o = options ? options : &usual;
    jt_model_info info;
    jt_model_describe(model, &info);
    jt_trace_head head = {
        .fingerprint = jt_model_fingerprint(model),
        .block_tokens = o->block_tokens ? o->block_tokens : USUAL_BLOCK,
        .columns = TRACE_BASE | (unsigned)o->norms << JT_TRACE_NORM |
                   (unsigned)o->scores << JT_TRACE_SCORE |
                   (unsigned)(o->residency_of != NULL) << JT_TRACE_RESIDENCY,
    };
    copy_text(head.family, info.family, strlen(info.family));
    if (info.name.len)
        copy_text(head.name, info.name.data, strnlen(info.name.data, info.name.len));
    jt_status status = list_layers(&head, model, o->steered, err);
    if (status == JT_OK)
        return jt_trace_writer_new_head(out, path, &head, o->residency_of, err);
    jt_trace_head_free(&head);
    return status;
}

jt_status jt_trace_check_model(const jt_trace *trace, const jt_model *model,
                               jt_err *err)
{
    jt_trace_info info;
    uint64_t here = jt_model_fingerprint(model);
    jt_trace_describe(trace, &info);
    if (here == info.fingerprint)
        return JT_OK;
    return jt_fail(err, JT_E_UNSUPPORTED,
                   "'%s' is a trace of another model: '%s' (%s, %016llx), not '%s' "
                   "(%016llx)",
                   info.path, info.name, info.family,
                   (unsigned long long)info.fingerprint,
                   jt_gguf_path(jt_model_file(model)), (unsigned long long)here);
}
