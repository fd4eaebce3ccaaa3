#include "adapted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void adapted_must(jt_status status, const jt_err *err)
{
    if (status != JT_OK)
        fail_msg("%s", err->msg);
}

void adapted_open(adapted *a, const char *folder, const char *name)
{
    char model[128], reference[128], path[512];
    jt_err err = {0};
    snprintf(model, sizeof model, "hf/%s", folder);
    snprintf(reference, sizeof reference, "../adapters/%s.ref.gguf", name);
    golden_open_files(&a->g, model, reference);
    a->plain = jt_gguf_find(a->g.reference, "plain")->data;
    snprintf(reference, sizeof reference, "../adapters/%s", name);
    adapted_must(jt_adapter_open(&a->adapter, golden_path(path, sizeof path, reference),
                                 a->g.model, &err),
                 &err);
}

void adapted_close(adapted *a)
{
    jt_adapter_free(a->adapter);
    golden_close(&a->g);
}

typedef struct rows {
    float *logits;
    size_t vocab;
} rows;

static jt_status keep(void *user, size_t first, const float *logits, size_t count,
                      jt_err *err)
{
    const rows *r = user;
    (void)err;
    memcpy(r->logits + first * r->vocab, logits, count * r->vocab * sizeof *logits);
    return JT_OK;
}

float *adapted_run(const golden *g, const jt_session_options *options,
                   jt_adapter *const *adapters, const float *scales, size_t n)
{
    rows r = {malloc(g->count * g->vocab * sizeof(float)), g->vocab};
    jt_eval_options eval = {.on_logits = keep, .user = &r};
    jt_session *session;
    jt_err err = {0};
    adapted_must(jt_session_new(&session, g->model, options, &err), &err);
    for (size_t i = 0; i < n; i++)
        adapted_must(jt_session_add_adapter(session, adapters[i], scales[i], &err),
                     &err);
    adapted_must(jt_session_eval(session, g->tokens, g->count, &eval, &err), &err);
    jt_session_free(session);
    return r.logits;
}
