/* A request in work: one or more replies (choices) to one or more prompts, those to the
 * first prompt first.
 *
 * It belongs to the thread of its connection, which makes it, hands it to the engine,
 * reads what comes and frees it when every choice is over. The engine's thread writes.
 * What both touch is guarded by `lock`. */
#ifndef JT_WORK_H
#define JT_WORK_H

#include <pthread.h>
#include <stdatomic.h>

#include "junto/chat.h"
#include "junto/steer.h"
#include "run/embed.h"
#include "run/reply.h"
#include "serve/ask.h"
#include "serve/buffer.h"
#include "serve/calls.h"
#include "serve/clients.h"
#include "serve/picks.h"
#include "serve/wardrobe.h"

typedef struct jt_work jt_work;

/* One reply to a prompt. */
typedef struct jt_task {
    jt_work *work;
    const jt_tokens *prompt;
    jt_sampling sampling;
    jt_sampler *sampler;       /* while it has a slot: it is large */
    jt_steering *steering;     /* NULL without policies; its seat takes it */
    jt_constraint *constraint; /* NULL: any text */
    jt_generate_options options;

    float *vector; /* [d] what its prompt becomes; NULL: that is not asked for */
    bool mean;     /* of its tokens; otherwise the last */

    /* Of the engine's thread, while the task has a seat. */
    jt_embedder embedder;
    jt_reply reply;
    jt_session *session;
    const int32_t *pending; /* what the model has to run before the next step */
    size_t n_pending;
    bool under_way;            /* a pass that is not over works on it */
    jt_pick_recorder recorder; /* when a trace was asked for */

    /* Guarded. */
    jt_generate_result result; /* of the engine's thread until `over` */
    jt_buffer answer, thought; /* that nobody has fetched */
    jt_sampled *sampled; /* [n_sampled] the same of tokens, if they are asked for */
    size_t n_sampled, sampled_capacity;
    jt_picks picks; /* the same */
    bool over;
    jt_err err; /* code JT_OK: the reply is whole */

    /* Of the connection's thread. */
    jt_calls calls; /* those in the answer */
    bool told;      /* that it is over */
} jt_task;

struct jt_work {
    jt_ask ask;
    jt_client *client; /* who asks; held */
    jt_tokens *prompt; /* [n_prompts] */
    size_t n_prompts;
    jt_grammar *grammar; /* of all choices; NULL: any text */
    jt_wardrobe *wardrobe;
    jt_held held[JT_ASK_ADAPTERS]; /* [n_held] adapters of all choices */
    size_t n_held;
    const jt_tokenizer *tokenizer;
    pthread_mutex_t lock;
    pthread_cond_t news;
    atomic_bool cancelled;
    double asked, begun, first; /* clock; 0: not yet */
    size_t n;
    jt_task *choice; /* [n] */
};

/* Who replies, as far as a request must know. */
typedef struct jt_replier {
    const jt_model *model;
    const jt_chat *chat;
    const jt_token_tree *tree;
    jt_wardrobe *wardrobe;
    const jt_call_style *calls; /* NULL: none that is known */
    int n_ctx, max_tokens;      /* max_tokens 0: no bound */
} jt_replier;

/* Take `ask` over (also on failure) and make all that its replies need. NULL: the
 * problem is told. */
jt_work *jt_work_new(jt_ask *ask, const jt_replier *who, jt_problem *problem);
void jt_work_free(jt_work *work); /* every choice is over, or was never handed on */

/* Tokens of all prompts. */
size_t jt_work_prompt_tokens(const jt_work *work);
/* Those, and all that may be written as far as the request bounds it. */
size_t jt_work_tokens(const jt_work *work);
/* What of that a reply, which is over, has left; below 0: it has written more. */
long long jt_task_unused(const jt_task *choice);

/* What a choice has said since it was asked last, and whether it is over. */
typedef struct jt_said {
    jt_buffer answer, thought;
    jt_sampled *sampled; /* [n_sampled] tokens of the answer */
    size_t n_sampled;
    json_t *calls;  /* deltas (serve/calls.h); NULL: none */
    jt_picks picks; /* of tokens that were run since */
    bool over;
} jt_said;
/* False: no memory. Free in any case. */
bool jt_task_fetch(jt_task *choice, jt_said *out);
void jt_said_free(jt_said *said);

/* A choice has a slot: begin its reply. From the engine. JT_E_MEMORY; end it also
 * then. */
jt_status jt_task_begin(jt_task *choice, jt_err *err);

/* The tokens of a pass have been run: what was noted of them can be fetched. From the
 * engine. JT_E_MEMORY. */
jt_status jt_task_show(jt_task *choice, jt_err *err);

/* The reply has ended; failures in `err`. From the engine. */
void jt_task_end(jt_task *choice, const jt_err *err);

/* Wait until something can be fetched, with `whole` until all is over; in any case not
 * longer than a moment. */
void jt_work_wait(jt_work *work, bool whole);
bool jt_work_over(jt_work *work);

/* "stop", "length" or "tool_calls" */
const char *jt_task_finish(const jt_task *choice);

#endif
