/* Golden models: a tiny checkpoint NAME.gguf and, in NAME.ref.gguf, what transformers
 * computed with it (tests/golden/make_models.py). */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "junto/junto.h"
#include "kernels/kernels.h"

typedef struct golden {
    jt_model *model;
    jt_gguf *reference;
    const int32_t *tokens; /* [count] */
    const float *logits;   /* [count, vocab] */
    const int32_t *routes; /* [layers, count, k], by falling weight, -1 in dense layers;
                              NULL for a dense model */
    size_t count, vocab;
    int n_layers, k;
} golden;

void golden_open(golden *g, const char *name);
/* The same for other files of the folder, a model and its reference. */
void golden_open_files(golden *g, const char *model, const char *reference);
char *golden_path(char *path, size_t room, const char *name);
void golden_close(golden *g);

/* Evaluate the tokens `chunk` at a time at level `cpu`, all logits into [count, vocab]
 * (the caller frees). Routes go to `routes` when not NULL, laid out as the reference.
 */
float *golden_run(const golden *g, const jt_session_options *options, int32_t *routes);

/* Largest |a - b| over largest |b|. */
double golden_error(const float *a, const float *b, size_t n);
size_t golden_argmax(const float *row, size_t n);

/* Call `fn` for each kernel level that this machine has. */
void golden_each_level(void (*fn)(const golden *g, const char *cpu), const golden *g);

#endif
