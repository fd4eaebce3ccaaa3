#include "learn/tuning_store.h"

#include <string.h>

#include "model/apart.h"
#include "store/divide.h"

bool jt_is_stored(const jt_train_options *options)
{
    return options->store.ram || options->store.slots;
}

uint64_t jt_scratch_room(uint64_t activation_bytes)
{
    return activation_bytes + activation_bytes / 8;
}

/* ---- what can be tuned so ---- */

jt_status jt_stored_check(const jt_config *config, const jt_train_options *options,
                          jt_err *err)
{
    const jt_config_adapter *c = &config->adapter;
    if (!jt_is_stored(options))
        return JT_OK;
    if (strcmp(c->kind, "none") == 0)
        return jt_fail(err, JT_E_ARG,
                       "a memory budget is for adapters: a model that is trained "
                       "itself has to be in memory");
    if (strcmp(c->kind, "shira") == 0 && !*c->init &&
        (strcmp(c->mask, "gradient") == 0 || strcmp(c->mask, "snip") == 0))
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "adapter.mask '%s' in a memory budget: it needs the gradients "
                       "of whole weights",
                       c->mask);
    if (c->choose)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "adapter.choose in a memory budget: choose first, with "
                       "'junto adapter'");
    return JT_OK;
}

/* ---- the budget ---- */

/* A layer that works is there as a whole. */
static int most_experts(const jt_stored *stored)
{
    int most = 1;
    for (int l = 0; l < stored->n_layers; l++) {
        int n = stored->layers[l].bank->n_experts;
        most = n > most ? n : most;
    }
    return most;
}

/* Norms of DoRA are made anew from the rows of the file, through the page cache: what
 * of that is there at a time. */
static uint64_t row_bytes(const jt_stored *stored, const jt_config_adapter *c)
{
    uint64_t most = 0;
    for (int l = 0; l < stored->n_layers && !strcmp(c->kind, "dora"); l++) {
        for (int p = 0; p < JT_PARTS; p++) {
            const jt_tensor *w = &stored->layers[l].bank->part[p];
            uint64_t bytes =
                jt_has(w) ? jt_rows(w) * jt_dtype_row_bytes(w->dtype, jt_cols(w)) : 0;
            most = bytes > most ? bytes : most;
        }
    }
    return most;
}

/* In MiB. */
static unsigned long long mb(uint64_t bytes)
{
    return (unsigned long long)(bytes >> 20);
}

static jt_status refuse(const jt_store_budget *b, const jt_model *model, int least,
                        jt_err *err)
{
    enum { SCATTER = 16 }; /* a process takes a little more or less each time */
    return jt_fail(err, JT_E_LIMIT,
                   "%llu MiB of memory are not enough to tune '%s': the smallest "
                   "budget is %llu MiB (weights and process %llu, gradients and "
                   "optimiser %llu, activations %llu, a layer of %d experts %llu, "
                   "reserve %llu); a smaller batch, shorter sequences or "
                   "train.checkpoint_activations (--recompute) make it smaller",
                   mb(b->ram), jt_gguf_path(model->file),
                   mb(b->least + b->process / SCATTER) + 1, mb(b->process),
                   mb(b->context), mb(b->scratch), least, mb((uint64_t)least * b->slot),
                   mb(b->reserve));
}

static jt_status divide(jt_store_budget *b, const jt_cached *c, const jt_model *model,
                        const jt_train_plan *plan, uint64_t aside, jt_err *err)
{
    int least = most_experts(&model->apart->stored);
    const jt_budget_needs needs = {.aside = aside, .least_slots = least};
    b->context = plan->gradient_bytes + plan->optimiser_bytes;
    b->scratch = jt_scratch_room(plan->activation_bytes);
    jt_budget_divide(b, c, &needs);
    if (b->ram && b->ram < b->least)
        return refuse(b, model, least, err);
    if (b->slots < least)
        return jt_fail(err, JT_E_ARG, "a cache of %d experts, the fewest are %d",
                       b->slots, least);
    return JT_OK;
}

jt_status jt_stored_divide(jt_cached **out, jt_store_budget *budget,
                           const jt_model *model, const jt_config *config,
                           const jt_train_options *options, const jt_train_plan *plan,
                           jt_err *err)
{
    const jt_stored *stored = &model->apart->stored;
    jt_store_options o = options->store;
    jt_cached *c;
    o.policy = "lru"; /* what was used last comes first on the way back */
    o.prefetch = JT_PREFETCH_ORDER;
    JT_TRY(jt_cached_new(&c, stored, &o, err));
    jt_status status =
        divide(budget, c, model, plan, row_bytes(stored, &config->adapter), err);
    if (status != JT_OK)
        jt_cached_free(c);
    else
        *out = c;
    return status;
}
