/* Making mixtures. */
#ifndef JUNTO_MAKE_H
#define JUNTO_MAKE_H

#include <stdint.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum jt_router_init { JT_ROUTER_RANDOM, JT_ROUTER_ZERO } jt_router_init;

/* Sparse upcycling (Komatsuzaki et al. 2022, "Sparse Upcycling: Training
 * Mixture-of-Experts from Dense Checkpoints"): every FFN becomes n_experts copies
 * behind a fresh router. */
typedef struct jt_upcycle_options {
    int n_experts; /* >= 1 */
    int top_k;     /* 1 .. n_experts */
    /* Each expert's weights get Gaussian noise of this standard deviation times the
     * root mean square of the tensor; 0 copies the bytes. The first expert stays as it
     * was. Quantised tensors are decoded, changed and encoded again. */
    float noise;
    jt_router_init router; /* random: normal with standard deviation 0.02 */
    uint64_t seed;
    jt_progress progress;
} jt_upcycle_options;

/* Read a dense model, write a mixture. `out_path` is written beside and renamed.
 * Families: llama -> llama (with experts, as Mixtral), qwen3 -> qwen3moe, qwen2 ->
 * llama (with biases; the rows of q and k are reordered for that family's rope). The
 * weights of a token's experts sum to one, so with noise 0 the logits are those of the
 * dense model. Errors: JT_E_ARG (options), JT_E_UNSUPPORTED (already a mixture, or a
 * family without a counterpart), those of loading and writing. */
JT_API jt_status jt_upcycle(const char *dense_path, const char *out_path,
                            const jt_upcycle_options *options, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
