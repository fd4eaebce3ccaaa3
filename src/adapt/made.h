/* Adapters whose parts are made of other values: the sources. What is tuned and kept in
 * files are the sources; A and B are made of them, and all the rest (products, merging,
 * joining, formats of others) sees plain LoRA. That is mixing in the space of
 * parameters.
 *
 *   mos    A and B of all layers are put together from shards of two pools
 *   poly   A and B are sums of those of several skills, weighed for each task
 *   bits   A and B are values of a few bits
 *
 * Kinds that stand at places have no slots: their tensors are sources, and nothing is
 * made. */
#ifndef JT_ADAPT_MADE_H
#define JT_ADAPT_MADE_H

#include "adapt/adapter.h"
#include "junto/safetensors.h"

typedef struct jt_adapter_source {
    char *name;   /* in files: "blk.0.attn_q.weight.poly_a" */
    jt_tensor t;  /* F32, I32, or I8 (bytes) */
    bool trained; /* it has gradients, and the optimiser changes it */
    bool kept;    /* in files */
} jt_adapter_source;

/* What a fresh adapter is like; kinds read what is theirs. */
typedef struct jt_adapter_options {
    size_t rank;
    float alpha;
    size_t shards, budget, own;  /* mos: of a vector; rank that the pools would pay for;
                                    of that for each layer alone */
    const char *tables;          /* mos: "apart", "paired", "same" */
    size_t skills, heads, tasks; /* poly */
    bool only_routing;           /* poly, to go on from */
    const int32_t *marker;       /* p-adapter: [n_marker] tokens that end a prompt */
    size_t n_marker;
    size_t front; /* soft-prompt, prefix: virtual tokens, which begin as these */
    const int32_t
        *text; /* [n_text], again and again; n_text 0: any of the vocabulary */
    size_t n_text;
    const jt_model *model;
    jt_context *ctx;
    const char *activation; /* bottleneck: "silu", "gelu" */
    bool gated;             /* bottleneck */
    size_t bits;            /* bits */
    size_t active;          /* mora: ranks that work on a token */
    bool grow;              /* mora, to go on from */
    float heat, threshold;  /* mora */
    uint64_t seed;
} jt_adapter_options;

typedef struct jt_adapter_making {
    /* Make the sources of all slots, with first values. JT_E_ARG naming the option,
     * JT_E_MEMORY. */
    jt_status (*start)(jt_adapter *a, const jt_adapter_options *o, jt_err *err);
    /* Add the slots that the sources of a file describe, and make their parts.
     * JT_E_FORMAT naming the tensor. */
    jt_status (*bind)(jt_adapter *a, float alpha, jt_err *err);
    /* Sources to parts; NULL: there are none. */
    void (*make)(const jt_adapter *a);
    /* Gradients of the parts, to be added to those of the sources; NULL likewise. */
    void (*spread)(const jt_adapter *a);
} jt_adapter_making;

/* Add a source with zeros. *at is its number. The name is "TARGET.TAIL". JT_E_FORMAT (a
 * size that overflows), JT_E_MEMORY. */
jt_status jt_adapter_add_source(jt_adapter *a, size_t *at, jt_str target,
                                const char *tail, jt_dtype dtype, int n_dims,
                                const size_t *shape, jt_err *err);
void jt_adapter_free_sources(jt_adapter *a);

/* The source "TARGET.TAIL" of a type and a number of dimensions: its number in *at.
 * JT_E_FORMAT when it is missing or another. */
jt_status jt_adapter_need_source(const jt_adapter *a, jt_str target, const char *tail,
                                 jt_dtype dtype, int n_dims, size_t *at, jt_err *err);
bool jt_adapter_has_source(const jt_adapter *a, jt_str target, const char *tail);
/* Does the name of source `at` end with ".TAIL"? Then *target is what comes before. */
bool jt_adapter_source_of(const jt_adapter *a, size_t at, const char *tail,
                          jt_str *target);
/* For each source "TARGET.TAIL" of a file, in order: add what it belongs to. */
typedef jt_status jt_bind_one(jt_adapter *a, size_t at, jt_str target, float alpha,
                              jt_err *err);
jt_status jt_adapter_bind_each(jt_adapter *a, const char *tail, jt_bind_one *one,
                               float alpha, jt_err *err);
/* "tensor NAME has a shape that does not go with the others" */
jt_status jt_adapter_fail_source(const jt_adapter *a, size_t at, jt_err *err);

/* Source number `which` of a slot. */
static inline const jt_tensor *jt_slot_source(const jt_adapter *a,
                                              const jt_adapter_slot *s, int which)
{
    return &a->source[s->source[which]].t;
}

/* ---- of single kinds ---- */

/* poly: how many tasks it tells apart, 0 for other kinds; fresh weights of `tasks`
 * tasks; only weights are trained, skills stay. */
size_t jt_poly_tasks(const jt_adapter *a);
/* A slot as it begins, with o->tasks, heads and skills; and, when all are there and
 * filled, their parts: for task 0 where it is the only one, else for none. */
jt_status jt_poly_add(jt_adapter *a, jt_adapter_slot **slot, jt_str target,
                      const size_t shape[3], const jt_adapter_options *o, jt_err *err);
jt_status jt_poly_settle(jt_adapter *a, jt_err *err);
/* What peft calls poly_lora_A [heads, skills, columns / heads, rank], poly_lora_B
 * [heads, skills, rank, rows / heads] and module_logits [tasks, heads skills], into the
 * slot; row r of the weight is map[r] there. */
void jt_poly_from_peft(const jt_adapter *a, const jt_adapter_slot *slot,
                       const float *skills_a, const float *skills_b,
                       const float *logits, const uint32_t *map);
jt_status jt_poly_for_tasks(jt_adapter *a, size_t tasks, uint64_t seed, jt_err *err);
void jt_poly_only_routing(jt_adapter *a);

/* bits: the 2^bits levels, rising. */
void jt_bits_levels(float *level, int bits);

/* mora: its settings; `more` ranks behind those that are there, which are no longer
 * trained. */
void jt_mora_set(jt_adapter *a, const jt_adapter_options *o);
jt_status jt_mora_grow(jt_adapter *a, size_t more, uint64_t seed, jt_err *err);

/* Begin with the adapter at `path`:
 *   lora   from any kind of plain A and B: those that its parts are
 *   poly   from poly: the same skills, fresh weights of o->tasks tasks; with
 *          o->only_routing only these are trained
 *   mora   from mora: with o->grow o->rank ranks beside those that are there, which
 *          stay
 *   other  the same kind, as it is (not bits, whose values before rounding are gone)
 * JT_E_ARG for other pairs, and errors of jt_adapter_open. */
jt_status jt_adapter_continue(jt_adapter **out, const char *path,
                              const jt_adapter_kind *kind, const jt_model *model,
                              const jt_adapter_options *o, jt_err *err);

/* ---- files ----
 * Values that are not finite are refused. */
jt_status jt_made_read(jt_adapter *a, const jt_safetensors *file, float alpha,
                       jt_err *err);
jt_status jt_made_describe(jt_safetensors_writer *w, const jt_adapter *a, jt_err *err);
jt_status jt_made_write(jt_safetensors_writer *w, const jt_adapter *a, jt_err *err);

#endif
