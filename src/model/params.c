#include <limits.h>

#include "model/params.h"

jt_status jt_params_read(jt_params *out, const jt_gguf *file, const jt_family *family,
                         jt_err *err)
{
    enum { MAX_LAYERS = 4096, MAX_WIDTH = 1 << 20 };
    jt_params p = {0};
    jt_key_reader r = {
        .file = file, .family = family, .prefix = family->arch, .err = err};
    JT_TRY(jt_key_int(&r, "block_count", 1, MAX_LAYERS, -1, &p.n_layers));
    JT_TRY(jt_key_int(&r, "embedding_length", 1, MAX_WIDTH, -1, &p.d_model));
    JT_TRY(jt_key_int(&r, "context_length", 1, INT_MAX / 2, -1, &p.n_ctx_train));
    JT_TRY(jt_params_attention(&r, &p));
    JT_TRY(jt_params_router(&r, &p.router));
    JT_TRY(jt_params_rope(&r, &p));
    *out = p;
    return JT_OK;
}
