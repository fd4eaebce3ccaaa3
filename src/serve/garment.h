/* An adapter in memory, made ready for a model at one scale or several. */
#ifndef JT_GARMENT_H
#define JT_GARMENT_H

#include "adapt/attach.h"

/* Ready for a scale. */
typedef struct jt_fitting {
    struct jt_fitting *next;
    jt_attachment at;
} jt_fitting;

typedef struct jt_garment {
    jt_adapter *adapter;
    jt_fitting *fittings;
    uint64_t bytes; /* of all of it */

    /* Of the wardrobe. */
    uint64_t serial;
    size_t users;
    bool orphan; /* no name leads to it any more: the last user frees it */
} jt_garment;

/* What is to be read. */
typedef struct jt_garment_source {
    const char *path;
    float scale;
    bool has_task; /* of kind "poly": */
    size_t task;   /* mixed for this one */
} jt_garment_source;

/* Read an adapter, with a fitting for its scale. Errors: those of jt_adapter_open and
 * jt_attachment_make. */
jt_status jt_garment_read(jt_garment **out, jt_context *ctx, const jt_model *model,
                          const jt_garment_source *source, jt_err *err);
void jt_garment_free(jt_garment *garment);

/* The fitting for a scale; NULL: there is none yet. */
jt_fitting *jt_garment_fitting(const jt_garment *garment, float scale);
/* Make one, which is not the garment's before it is added. */
jt_status jt_garment_fit(jt_fitting **out, jt_context *ctx, const jt_model *model,
                         jt_garment *garment, float scale, jt_err *err);
void jt_garment_add(jt_garment *garment, jt_fitting *fitting);
void jt_fitting_free(jt_fitting *fitting);

#endif
