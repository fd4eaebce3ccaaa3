/* The inside of a session. */
#ifndef JT_SESSION_INTERNAL_H
#define JT_SESSION_INTERNAL_H

#include "adapt/attach.h"
#include "junto/session.h"
#include "model/transformer.h"
#include "store/cached.h"

/* A second sequence of the same tokens, with policies of its own, that runs beside the
 * first; `join` makes of the logits [n] of both those of the session. */
typedef struct jt_session_twin {
    jt_hooks hooks;
    jt_cache cache;
    void *self;
    void (*join)(void *self, float *logits, const float *other, size_t n);
} jt_session_twin;

/* What looks after a session while tokens come. It is asked before those of the context
 * up to `known` are run that follow session->length (they stand in session->ids), and
 * says in *until how far they may be run before it is asked again: above the length.
 * `heard`: somebody wants the logits of all of them. It may rewind the cache: the
 * session then runs what is missing. */
typedef struct jt_attendant {
    void *self;
    jt_status (*before)(void *self, jt_session *session, size_t known, bool heard,
                        size_t *until, jt_err *err);
} jt_attendant;

enum { JT_USUAL_CHUNK = 256 };

/* What a session that others run beside reckons with, when it divides a budget. */
typedef struct jt_hosting {
    size_t guests;  /* sessions beside it, by the same options, which may share a pass;
                       0: none, it has a text of its own */
    size_t between; /* tokens of a pass that runs within another's interlude, at most */
    uint64_t aside; /* bytes of the budget that are for others than sessions */
    uint64_t spare; /* bytes that are, where the budget is more than the smallest: at
                       most a quarter of the difference. The host tells how many */
    bool lodger;    /* the process has more than this model: what that takes is not
                       counted, and what the model does is reckoned, not measured */
} jt_hosting;

struct jt_session {
    const jt_model *model;
    jt_context own;
    jt_context *ctx; /* own, or that of the session beside which this one runs */
    jt_hooks hooks;
    const jt_store *store;
    jt_cached *cached;      /* the store of a model that was loaded apart; or NULL. It
                               belongs to the session beside which others run */
    jt_store_budget budget; /* then, as that session divided it */
    jt_hosting hosting;
    jt_attached adapters;
    jt_adapter_weigher weigher;
    jt_cache cache;         /* of the first cache.length tokens */
    jt_cache first;         /* of passes before them (adapters.first); or empty */
    jt_cache_options kept;  /* how it was made */
    jt_session_twin *twin;  /* or NULL */
    jt_attendant attendant; /* before NULL: none */
    void (*on_layer)(void *user, int layer, const jt_tensor *h); /* as in jt_chunk */
    void *on_layer_user;
    int32_t *ids;       /* [capacity] the tokens of the context */
    int32_t *positions; /* [chunk] */
    float *logits;      /* [vocab], after the last token */
    bool has_logits;
    int capacity; /* with virtual tokens, of which nobody outside knows */
    int length, chunk;
    int room; /* tokens of a pass that it leads, at most: its chunk, or more where
                 several share a budget */
};

/* jt_session_new for a session that only lends its threads, its scratch and its store
 * to those beside it, which `options` describe. */
jt_status jt_session_new_host(jt_session **out, const jt_model *model,
                              const jt_session_options *options,
                              const jt_hosting *hosting, jt_err *err);

/* Whether a session shares its passes with others. */
bool jt_session_shares(const jt_session *s);

/* The text of the context is known up to `known` tokens (session->ids): mixtures of
 * adapters by rule decide. What changes lets the context run again. */
void jt_session_decide(jt_session *s, size_t known);

/* Whether `count` more tokens may follow: JT_E_ARG, JT_E_LIMIT. */
jt_status jt_session_check(const jt_session *s, const int32_t *tokens, size_t count,
                           jt_err *err);

/* How many of `tokens` jt_session_reuse would keep. */
size_t jt_session_common(const jt_session *s, const int32_t *tokens, size_t count);

/* Whether what the layers of a session remember follows from its tokens and adapters
 * alone, so that others with the same ones may go on from it. */
bool jt_session_is_plain(const jt_session *s);
/* Let `s`, which is plain, hold these tokens, of which `cache` is what the layers of a
 * plain session of the same model and options remember. They fit. */
void jt_session_adopt(jt_session *s, const jt_cache *cache, const int32_t *ids);

/* After a truncation that the cache could not follow: run the tokens that are left
 * again. */
jt_status jt_session_remember(jt_session *s, jt_err *err);

/* The pass over the next `count` tokens is done; `logits` [vocab] of the last. */
void jt_session_advance(jt_session *s, size_t count, const float *logits);

/* The context ends after `length` tokens, the last pass having failed or not. */
void jt_session_go_back(jt_session *s, int length);

/* What the context of a pass met. */
jt_status jt_session_status(const jt_session *s, jt_err *err);

/* Put these adapters [n], made ready for its model (jt_attach_made), in the place of
 * those that the session has. The context stays: it must be empty, or have been run
 * with the same ones. JT_E_LIMIT, JT_E_MEMORY; then it has none. */
jt_status jt_session_wear(jt_session *s, const jt_attachment *const *made,
                          const float *scales, size_t n, jt_err *err);

/* Forget what layers remember of all tokens but the first `length`; the context stays,
 * and what is missing runs again before the next tokens. */
void jt_session_rewind(jt_session *session, size_t length);

/* A second cache of the kind that the session has. JT_E_LIMIT (it has its part of a
 * budget that others share), JT_E_MEMORY. */
jt_status jt_session_make_cache(jt_session *s, jt_cache *out, jt_err *err);

/* The weights of its adapters for the tokens of a chunk, and for a twin the same ones;
 * its context holds what went wrong. */
void jt_session_weigh(jt_session *s, const jt_chunk *chunk);

/* Let the layers remember the virtual tokens of its adapters. Where they do not yet,
 * the text is to be run again behind them. Errors as jt_session_eval. */
jt_status jt_session_lay_front(jt_session *s, const jt_hooks *hooks, jt_err *err);

/* Let a twin run beside the session from its first token on; `twin` is copied and its
 * cache made. JT_E_ARG (the session has one, or tokens), JT_E_LIMIT (a budget that is
 * shared has no room), JT_E_MEMORY. */
jt_status jt_session_add_twin(jt_session *session, const jt_session_twin *twin,
                              jt_err *err);

#endif
