/* Tuning: the parameters of an adapter are trained, the model stays as it is, mapped
 * and of any type. */
#ifndef JT_TUNING_H
#define JT_TUNING_H

#include "adapt/attach.h"
#include "adapt/made.h"
#include "adapt/mixda.h"
#include "learn/config.h"
#include "learn/data.h"
#include "learn/mosa.h"
#include "learn/tuning_blend.h"
#include "learn/variables.h"

typedef struct jt_tuning {
    const jt_config *config;
    jt_adapter *adapter;
    jt_attached attached;
    jt_gate_loss loss; /* of a mixture, with its term and labels */
    jt_route_term term;
    jt_route_term balance;    /* of mixtures in place of FFNs, in training */
    int32_t *owner;           /* [sources] the adapter of each; -1: none */
    int32_t *label;           /* [tokens of a batch] likewise */
    jt_mosa *mosa;            /* or NULL */
    jt_mixda_keeping keeping; /* of stage one */
    uint8_t *kept;            /* its tokens; NULL: none */
    float *part_grad; /* of parts that are made of what is trained; NULL: none is */
    size_t part_values;
} jt_tuning;

/* Does a configuration ask for an adapter? */
bool jt_is_tuning(const jt_config *config);

/* A fresh adapter for the weights that config->adapter.target names (never the
 * embedding), attached to `ctx`:
 *   low rank   A uniform in +-1 / sqrt(columns), as PEFT and PyTorch's linear layers
 *              begin, B 0; magnitudes the norms of the rows
 *   mos, poly, bits   what their files say; mora as low rank
 *   shira      rank * (rows + columns) values of each matrix, all 0: those where the
 *              weight is largest, or any
 *   soft-prompt, prefix   what the model makes of tokens
 * so that it changes nothing (but for bits, where B cannot be 0, and virtual tokens,
 * which are always seen). With
 * config->adapter.init, that adapter or what the kind makes of it. Or a mixture
 * (tuning_blend.h), MixLoRA with LoRAs for the weights outside of FFNs beside it.
 * Borrows all. JT_E_ARG (no such weight, more values than there are), JT_E_MEMORY. */
jt_status jt_tuning_new(jt_tuning **out, const jt_config *config, const jt_model *model,
                        jt_context *ctx, jt_err *err);
void jt_tuning_free(jt_tuning *tuning); /* NULL is fine */

/* The virtual tokens that come before a text. */
size_t jt_tuning_front(const jt_config *config);

/* Does a batch have to be of one task, that is of one source? */
bool jt_tuning_by_task(const jt_config *config);

/* Its parameters, with gradients. They live in the adapter, which must outlive `out`.
 */
jt_status jt_tuning_variables(jt_tuning *tuning, jt_variables *out, jt_err *err);

/* Which source's tokens belong to which adapter of a mixture. In a source that belongs
 * to none a token is that adapter's whose marker came last in the document. JT_E_ARG
 * (no such source), JT_E_MEMORY. */
jt_status jt_tuning_label(jt_tuning *tuning, const jt_data *data, jt_err *err);
/* The labels of a batch, then. */
void jt_tuning_label_batch(jt_tuning *tuning, const jt_batch *batch);

/* Before a pass over a batch: `scale` as that of the main loss, 0 in an evaluation.
 * Tokens that an adapter shall keep as they were lose their targets. NULL is fine. */
void jt_tuning_batch(jt_tuning *tuning, jt_batch *batch, float scale);

/* The mixtures that stand in place of dense FFNs; NULL: none. */
const jt_mixture *const *jt_tuning_mixtures(const jt_tuning *tuning);

/* Logits that may be there at a time (jt_output_loss): all, where adapters are mixed in
 * the output by gates and losses that count tokens. NULL is fine. */
size_t jt_tuning_output_values(const jt_tuning *tuning);

/* Before a forward pass: the values may have changed. NULL is fine. */
void jt_tuning_refresh(jt_tuning *tuning, jt_context *ctx);

/* Around the passes of a batch: parts are made for `task` and with the noise of `draw`
 * (0: none); and gradients are brought to what is trained. NULL is fine. */
void jt_tuning_begin(jt_tuning *tuning, size_t task, uint64_t draw);
void jt_tuning_end(jt_tuning *tuning);

/* How much two draws of a batch shall agree (MoSA); 0: there is one. NULL is fine. */
float jt_tuning_agrees(const jt_tuning *tuning);

#endif
