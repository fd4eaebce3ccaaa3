/* K-shot selection (Yang et al. 2024, "Leveraging open knowledge for advancing task
 * expertise in large language models", section 3): which of many LoRAs a mixture for a
 * task begins with, by a few samples of the task. junto/choose.h has the parts: how
 * often a LoRA is right and its perplexity on the samples make a short list, and of it
 * that group is taken whose changes are least alike.
 *
 * Texts from an open pool, which the paper chooses too, are chosen beforehand:
 * jt_texts_pick of junto/choose.h.
 */
#ifndef JT_LEARN_K_SHOT_H
#define JT_LEARN_K_SHOT_H

#include "junto/model.h"
#include "learn/config.h"

/* Of config->adapter.part the numbers [config->adapter.choose] of those to mix, in
 * rising order, by the training documents of the first source. Errors as those of
 * junto/choose.h; JT_E_ARG (more than there are). */
jt_status jt_k_shot_choose(size_t *chosen, const jt_config *config,
                           const jt_model *model, jt_err *err);

#endif
