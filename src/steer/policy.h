/* The inside of policies: a kind of policy is a struct of its name, its keys and its
 * functions, registered in steering.c. */
#ifndef JT_STEER_POLICY_H
#define JT_STEER_POLICY_H

#include "junto/steer.h"
#include "model/model.h"

/* ---- keys ---- */

/* Ids as they were written, each once. */
typedef struct jt_ids {
    int32_t *list;
    size_t count;
} jt_ids;

static inline bool jt_ids_hold(const jt_ids *ids, int32_t id)
{
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->list[i] == id)
            return true;
    }
    return false;
}

/* Kind of a key, and the type of its field. */
typedef enum jt_key_kind {
    JT_KEY_INT,    /* int in min .. max */
    JT_KEY_NUMBER, /* float in min .. max */
    JT_KEY_IDS,    /* jt_ids, each in min .. max, at most 65535: "3+7", "2-5" */
    JT_KEY_WORD,   /* int: the place of the word among those of `value` */
    JT_KEY_TEXT    /* char *; NULL where it may be left out and was */
} jt_key_kind;

typedef struct jt_key {
    const char *name;
    jt_key_kind kind;
    const char *value;   /* as in jt_policy_key */
    const char *initial; /* the same */
    double min, max;
    size_t offset; /* of the field in the settings */
    const char *help;
} jt_key;

/* The policy's name at the start of `text`, its length in *len. JT_E_ARG. */
jt_status jt_policy_name(const char *text, size_t *len, jt_err *err);

/* Read what follows the name into settings that are all zero: into `self` by `keys`,
 * and by `more` (may be NULL) into `other`; both lists end with {0}. JT_E_ARG names the
 * key. jt_keys_free in any case. */
jt_status jt_keys_read(const char *text, const jt_key *keys, void *self,
                       const jt_key *more, void *other, jt_err *err);
void jt_keys_free(const jt_key *keys, void *self);

/* ---- kinds ---- */

/* Where a policy acts. */
typedef struct jt_scope {
    const jt_model *model;
    const bool *layer; /* [n_layers] layers with experts that it is to steer */
} jt_scope;

typedef struct jt_policy_kind {
    const char *name, *summary, *source;
    const jt_key *keys; /* ends with {0} */
    size_t size;        /* of the settings */
    bool by_layer;      /* has the key "layers", too */
    jt_policy hooks;    /* called with the settings, in layers of the scope */
    /* After the keys were read: check them against the model, prepare. Or NULL. */
    jt_status (*open)(void *self, const jt_scope *scope, jt_err *err);
    void (*close)(void *self); /* undoes it; or NULL */
    /* What a session has to do beside asking the hooks, of which `all` are those of all
     * policies; or NULL. */
    jt_status (*attach)(void *self, jt_session *session, const jt_hooks *all,
                        jt_err *err);
} jt_policy_kind;

extern const jt_policy_kind jt_policy_mask, jt_policy_keep, jt_policy_bias,
    jt_policy_temperature, jt_policy_topk, jt_policy_top_p, jt_policy_min_weight,
    jt_policy_ser, jt_policy_ranks, jt_policy_modes, jt_policy_scmoe, jt_policy_rewire;

/* The router of a layer in scope. */
static inline const jt_router *jt_scope_router(const jt_model *model, int layer)
{
    return &model->layers[layer].mixture.router;
}

/* The hooks of all policies, after those that are there. JT_E_LIMIT. */
jt_status jt_steering_hooks(jt_steering *steering, jt_hooks *hooks, jt_err *err);

#endif
