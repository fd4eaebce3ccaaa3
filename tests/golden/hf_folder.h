/* Hugging Face folders of tests/golden/hf: what they compute against transformers, and
 * conversion there and back again. */
#ifndef HF_FOLDER_H
#define HF_FOLDER_H

#include "golden.h"

/* Convert `from` to `to`, which must work; `type` NULL: keep types. */
void hf_convert(const char *from, const char *to, const char *type);

/* All logits of `g` at full precision, in a session of `n_ctx` tokens (0: as usual). */
float *hf_logits(const golden *g, int n_ctx);

/* Largest error of the logits that the model at `path` (file or folder) has for the
 * tokens of `g`, over the largest logit of `g`. */
double hf_error(const golden *g, const char *path);

/* The model at `path` computes `logits`, bit for bit. */
void hf_check_same(golden *g, const char *path, const float *logits);

void hf_remove(const char *folder);

/* Bound of errors, of the largest logit. */
extern const double hf_tolerance;

/* What comes back after a conversion to a file: */
typedef enum hf_back {
    HF_ALL,        /* every tensor, bit for bit */
    HF_WITHOUT,    /* the same, but not those of layers that predict further tokens */
    HF_OTHER_TYPES /* the same values in other types */
} hf_back;

/* The folder hf/NAME, with `scratch` a folder to write into: logits, equality with the
 * converted file, and the way back. */
void hf_check_folder(const char *scratch, const char *name, hf_back back);

/* The same with the reference hf/TEXT.ref.gguf. */
void hf_check_files(const char *scratch, const char *name, const char *text,
                    hf_back back);

/* A table of such tests. */
#define HF_FOLDER(name, check)                           \
    {                                                    \
        name, check, NULL, NULL, (void *)(uintptr_t)name \
    }

#endif
