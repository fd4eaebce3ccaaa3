/* Parts of jt_params_read. */
#ifndef JT_PARAMS_H
#define JT_PARAMS_H

#include "model/keys.h"
#include "model/model.h"

/* Heads, their sizes and norms; then, with those, the rotation. */
jt_status jt_params_attention(jt_key_reader *r, jt_params *p);
jt_status jt_params_rope(jt_key_reader *r, jt_params *p);

/* The router of all mixture layers; n_experts 0: none. */
jt_status jt_params_router(jt_key_reader *r, jt_router *router);

#endif
