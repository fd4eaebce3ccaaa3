/* GGUF files with a tensor for each matrix of each expert: those of the first mixtures,
 * and those with the layout "experts" (docs/formats.md). */
#ifndef JT_MODEL_SINGLE_EXPERTS_H
#define JT_MODEL_SINGLE_EXPERTS_H

#include "junto/gguf.h"

/* Keys of the layout. */
#define JT_LAYOUT_KEY       "junto.layout"
#define JT_LAYOUT_EXPERTS   "experts"
#define JT_LAYOUT_TENSORS   "junto.layout.tensors"
#define JT_LAYOUT_ALIGNMENT "junto.layout.alignment"

enum {
    JT_SINGLE_NAME_BYTES = 96,
    JT_SINGLE_ALIGNMENT = 4096 /* of each tensor: that of direct reads */
};

/* A stack of experts, or one of them: "ffn_up_exps" and "ffn_up.7" of layer 3. */
typedef struct jt_single {
    int layer, expert;
    const char *part; /* "gate", "up", "gate_up", "down" */
} jt_single;

/* Names to what they mean; false: another name. Of a stack `expert` is not set. */
bool jt_single_parse(jt_single *out, jt_str name);
bool jt_single_parse_stack(jt_single *out, jt_str name);
/* And back: of one matrix, and of the checksums of a layer. */
void jt_single_name(char name[JT_SINGLE_NAME_BYTES], const jt_single *single);
void jt_single_sums_name(char name[JT_SINGLE_NAME_BYTES], int layer);

/* Has a file this layout? */
bool jt_single_laid_out(const jt_gguf *file);
/* The checksums of the experts of a layer, [experts] u64 at any address; NULL: there
 * are none. JT_E_FORMAT: they are not as many as that. */
jt_status jt_single_sums(const void **sums, const jt_gguf *file, int layer, int experts,
                         jt_err *err);

/* The layer of whose experts `name` is the checksums; -1: another name. */
int jt_single_sums_layer(jt_str name);

/* The bytes of an expert of the layout: its matrices one after the other, with what is
 * between and behind them up to the next multiple of JT_SINGLE_ALIGNMENT, at which they
 * begin. JT_E_FORMAT: there is no such expert, or it lies elsewhere. */
typedef struct jt_single_span {
    const void *data;
    size_t bytes;
} jt_single_span;
jt_status jt_single_find(jt_single_span *out, const jt_gguf *file, int layer,
                         int expert, jt_err *err);

/* Put in the place of *file one in which the experts of a layer are one tensor, in
 * pieces that lie in *file, which it then owns: the plain file of which a layout was
 * made, its keys and its order of tensors. Files that need nothing stay. On failure
 * *file is still the caller's. JT_E_FORMAT, JT_E_MEMORY. */
jt_status jt_stack_single_experts(jt_gguf **file, jt_err *err);

#endif
