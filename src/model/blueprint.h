/* Blueprints: the keys and tensors of a model that does not exist yet, from its sizes.
 * What a blueprint says is written as a GGUF file, so a fresh model goes the way of
 * every other one: written, loaded, run. */
#ifndef JT_BLUEPRINT_H
#define JT_BLUEPRINT_H

#include "model/model.h"

/* Sizes in values. Zeros have the meaning that is noted. */
typedef struct jt_sizes {
    const char *family;           /* arch of the family table */
    const char *name;             /* general.name */
    int n_layers, n_dense_layers; /* the first ones have a dense FFN */
    int d_model, n_heads, n_kv_heads, head_dim;
    int dense_width;                             /* 0: no dense layers */
    int n_experts, n_experts_used, expert_width; /* 0 experts: all layers are dense */
    int shared_width;                            /* 0: no shared expert */
    int n_ctx, n_vocab;
    float rope_base, norm_eps;
    bool tied;           /* the output is the embedding */
    bool selection_bias; /* routers have one, zero at first */
    jt_router router;    /* the slots that are no tensors */
} jt_sizes;

/* How a fresh tensor begins. */
typedef struct jt_start {
    enum { JT_START_ZERO, JT_START_ONE, JT_START_NORMAL } kind;
    float deviation; /* of NORMAL */
} jt_start;

/* One tensor of a blueprint; shape as in GGUF files. */
typedef struct jt_blueprint_tensor {
    char name[64];
    int n_dims;
    size_t shape[3];
    jt_start start;
} jt_blueprint_tensor;

typedef struct jt_blueprint {
    jt_sizes sizes;
    jt_blueprint_tensor *tensor;
    size_t n_tensors;
} jt_blueprint;

/* Check the sizes and list the tensors, in the order of the forward pass. Matrices
 * begin normal with deviation `init_std`, those that write into the residual stream
 * divided by sqrt(2 layers) (GPT-2); 0: 1 / sqrt(their input width), and 1 /
 * sqrt(d_model) for the embedding. Texts are borrowed. Errors: JT_E_ARG (which size),
 * JT_E_MEMORY. */
jt_status jt_blueprint_new(jt_blueprint *out, const jt_sizes *sizes, float init_std,
                           jt_err *err);
void jt_blueprint_free(jt_blueprint *blueprint); /* {0} is fine */

/* The sizes of a model that exists (widths are those of the last layer of their kind),
 * so that its like can be planned. Texts are borrowed from the model. */
jt_sizes jt_sizes_of(const jt_model *model);

/* Values of a tensor and of all. */
size_t jt_blueprint_values(const jt_blueprint_tensor *tensor);
uint64_t jt_blueprint_params(const jt_blueprint *blueprint);
/* Of all, those that work for one token: the experts that are used, and the embedding
 * only where it is the output too. */
uint64_t jt_blueprint_active(const jt_blueprint *blueprint);

/* The keys of the model, for a file. */
jt_status jt_blueprint_keys(const jt_blueprint *blueprint, jt_gguf_writer *writer,
                            jt_err *err);

/* The first values of tensor `i`: a function of the seed and of the tensor's place. */
void jt_blueprint_fill(const jt_blueprint *blueprint, size_t i, uint64_t seed,
                       float *out);

#endif
