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
    jt_tensor q;       /* [tokens, heads * (nope + rope)], rotated */
    jt_tensor c, k;    /* [tokens, rank], [tokens, rope]: c and k' of the tokens */
    jt_tensor kv_rows; /* [tokens, rank + rope]: both */
    jt_tensor joined;  /* [tokens, heads * v_dim] */
    float *lse;        /* [heads, tokens] of the expanded form; NULL without a tape */
} jt_latent_pass;

/* The expanded form: a head at a time, keys and values of all positions are made from
 * the rows of the cache, and then it is usual attention. */
typedef struct jt_expanded {
    const jt_latent_pass *p;
    jt_attention one; /* one head of it */
    size_t positions;
    jt_precision precision;
    char *room; /* room_bytes for each thread */
    size_t room_bytes;
} jt_expanded;
jt_expanded jt_expanded_begin(jt_context *ctx, const jt_latent_pass *pass);

/* A pass of one head, ready for its tiles (jt_attention_tile): its keys [positions,
 * nope + rope] and values [positions, v_dim] are in the room of this thread. */
jt_attention_pass jt_expanded_head(const jt_expanded *e, size_t head);

/* k_b [nope, rank] of a head, or, where there is no kv_b, turned, [rank, nope]; v_b
 * [v_dim, rank]. */
jt_tensor jt_latent_keys(const jt_latent *latent, size_t head);
jt_tensor jt_latent_values(const jt_latent *latent, size_t head);

/* Fill pass->joined from the queries and the cache. */
void jt_latent_absorbed(jt_context *ctx, jt_latent_pass *pass);
void jt_latent_expanded(jt_context *ctx, jt_latent_pass *pass);

/* Put an expanded pass on the tape. */
void jt_latent_record(jt_context *ctx, const jt_latent_pass *pass);

#endif
