/* Who works on a pass: the adapters of all its sequences. */
#ifndef JT_ADAPT_CREW_H
#define JT_ADAPT_CREW_H

#include "adapt/attach.h"
#include "model/model.h"

/* Tokens of one sequence. */
typedef struct jt_crew_part {
    jt_attached *by;
    size_t tokens;
} jt_crew_part;

/* Uses that are changed in one go. */
typedef struct jt_crew_step {
    const jt_adapter_kind *kind;
    size_t round;
} jt_crew_step;

typedef struct jt_crew {
    const jt_model *model;
    jt_crew_part *part; /* [n_parts] token after token */
    size_t n_parts;
    size_t *part_of; /* [n_tokens]; NULL: there is one part, which has all */
    size_t n_tokens;
    jt_crew_step *step; /* by rounds */
    size_t n_steps;
} jt_crew;

static inline bool jt_crew_step_has(const jt_attachment *at, const jt_crew_step *s)
{
    return at->round == s->round && at->adapter->kind->change == s->kind->change;
}

/* What to put into ctx->change for the pass. */
jt_product_change jt_crew_change(jt_crew *crew);
/* What to put into chunk->between, in scratch; NULL where nothing stands at places. */
const jt_between *jt_crew_between(jt_crew *crew, jt_context *ctx);

#endif
