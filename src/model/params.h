/* Parts of jt_params_read. */
#ifndef JT_PARAMS_H
#define JT_PARAMS_H

#include "model/keys.h"
#include "model/model.h"

/* Heads, their sizes and norms; then, with those, the rotation. */
jt_status jt_params_attention(jt_key_reader *r, jt_params *p);
jt_status jt_params_rope(jt_key_reader *r, jt_params *p);

/* What the attention of the reader's layer is, but for its tensors. */
jt_status jt_params_mixer(jt_key_reader *r, const jt_params *p, jt_attention *a);
jt_status jt_params_latent(jt_key_reader *r, const jt_params *p, jt_latent *l);

/* Sizes of layers with a state; 0 where the file has none. */
jt_status jt_params_recurrent(jt_key_reader *r, jt_recurrent_params *p);

/* The router of all mixture layers; n_experts 0: none. */
jt_status jt_params_router(jt_key_reader *r, jt_router *router);

#endif
