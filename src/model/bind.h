/* Binding: each tensor is looked up by name and its type and shape are checked, so that
 * nothing later reads outside it. */
#ifndef JT_BIND_H
#define JT_BIND_H

#include "model/model.h"

typedef struct jt_binder {
    const jt_gguf *file;
    const jt_params *p;
    jt_err *err;
    int layer;     /* -1: a tensor of the whole model */
    char name[96]; /* that was looked up last, for messages */
} jt_binder;

/* The number that the weights of a tensor of the file have (jt_tensor.weight); without
 * one (NULL) that of an output that is the embedding. */
uint32_t jt_weight_number(const jt_gguf *file, const jt_gguf_tensor *t);

/* "blk.<layer>.<suffix>", or just the suffix; NULL when the file has no such tensor. */
const jt_gguf_tensor *jt_bind_find(jt_binder *b, const char *suffix);

/* Bind a tensor of exactly this shape. `plain` asks for F32 (norms, biases, some
 * routers); otherwise any type with a matrix product, with the factor that the file may
 * have for it. A missing one is an error unless `optional`: then *out is empty. */
jt_status jt_bind(jt_binder *b, jt_tensor *out, const char *suffix, bool plain,
                  bool optional, int n_dims, const size_t *shape);
jt_status jt_bind_matrix(jt_binder *b, jt_tensor *out, const char *suffix, size_t rows,
                         size_t cols);
jt_status jt_bind_vector(jt_binder *b, jt_tensor *out, const char *suffix, size_t n,
                         bool optional);

/* "NAME.weight", and "NAME.bias" where there is one, as the family has its norms; no
 * norm for a name of NULL. */
jt_status jt_bind_norm(jt_binder *b, jt_norm *norm, const jt_family *family,
                       const char *name);

/* Divisors of the rotation's frequencies, of short and of long contexts. */
jt_status jt_bind_rope_factors(jt_binder *b, jt_params *p);

/* The parts of a layer. */
jt_status jt_bind_mixer(jt_binder *b, jt_layer *layer, const jt_family *family);
/* Of kind NONE where the layer has no such tensors. */
jt_status jt_bind_recurrent(jt_binder *b, jt_recurrent *layer);
jt_status jt_bind_mixture(jt_binder *b, jt_mixture *m, const jt_family *family);
jt_status jt_bind_dense(jt_binder *b, jt_bank *bank, const jt_family *family);

#endif
