/* The inside of a pass of latent attention, for its two forms. */
#ifndef JT_LATENT_PASS_H
#define JT_LATENT_PASS_H

#include "nn/attention_pass.h"
#include "nn/latent.h"

typedef struct jt_latent_pass {
    const jt_kernels *kernels;
    const jt_latent *l;
    jt_places at; /* values are the first `rank` of each row of keys */
    size_t tokens, heads;
    jt_tensor q, kv_rows; /* [tokens, heads * (nope + rope)], [tokens, rank + rope] */
    jt_tensor joined;     /* [tokens, heads * v_dim] */
} jt_latent_pass;

/* Rows of k_b [nope, rank] and v_b [v_dim, rank] of a head, where they lie like that.
 */
jt_tensor jt_latent_keys(const jt_latent *latent, size_t head);
jt_tensor jt_latent_values(const jt_latent *latent, size_t head);

/* Fill pass->joined from the queries and the cache. */
void jt_latent_absorbed(jt_context *ctx, jt_latent_pass *pass);
void jt_latent_expanded(jt_context *ctx, jt_latent_pass *pass);

#endif
