/* Models whose experts stay in the file. */
#ifndef JT_MODEL_APART_H
#define JT_MODEL_APART_H

#include "model/model.h"
#include "store/cached.h"

/* Where the experts of a model lie. */
struct jt_apart {
    const jt_gguf *disk; /* the file as it was opened; *file of jt_apart_open owns it */
    jt_source *sources;  /* [stored.n_sources] its parts */
    jt_stored_layer *layers;
    jt_extent *extents, *planes;
    jt_whole *wholes; /* of a file with the layout "experts" */
    jt_stored stored;
    uint64_t weights; /* bytes in memory */
    uint64_t heads;   /* bytes of the files before their tensors */
};

/* Open a GGUF file so that its weights, but for the stacks of experts, lie in memory:
 * *file is presented as jt_model_open_file does. Both are the caller's; the file must
 * be closed first. */
jt_status jt_apart_open(jt_apart **out, jt_gguf **file, const char *path, jt_err *err);
/* Then find the experts of the layers of `model`, which was made of that file. */
jt_status jt_apart_bind(jt_apart *apart, const jt_model *model, jt_err *err);
/* What was looked at of the experts through the map of their file need not stay in
 * memory, nor what the system read around it. NULL is fine. */
void jt_apart_forget(const jt_apart *apart);
void jt_apart_free(jt_apart *apart); /* NULL is fine */

#endif
