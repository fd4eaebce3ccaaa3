/* Names of transformers, as PEFT uses them, and the weights of a model: by the rows
 * with which Hugging Face folders are read (model/hf.h). */
#ifndef JT_ADAPT_PEFT_NAMES_H
#define JT_ADAPT_PEFT_NAMES_H

#include "adapt/adapter.h"
#include "model/hf.h"

enum { JT_PEFT_NAME = 256, JT_PEFT_PLACES = 4 };

typedef struct jt_peft_names {
    jt_hf_job job;
    const jt_model *model;
    uint32_t *map; /* what jt_peft_map made last */
} jt_peft_names;

/* A weight of the model behind (a part of) a parameter of transformers. */
typedef struct jt_peft_place {
    char target[JT_PEFT_NAME];
    const jt_gguf_tensor *tensor; /* of the model */
    const jt_hf_row *row;         /* how rows differ; NULL: not, apart from: */
    uint64_t first_row;           /* where those of the weight begin */
    bool halves;                  /* with row NULL: the parameter has twice as many */
    int layer;
    int expert; /* the parameter is that of one expert; -1: of all there are */
} jt_peft_place;

/* JT_E_UNSUPPORTED for families that have no rows. */
jt_status jt_peft_names_open(jt_peft_names *out, const jt_model *model, jt_err *err);
void jt_peft_names_close(jt_peft_names *names);

/* The weights behind a parameter, "model.layers.0.self_attn.q_proj.weight" or
 * "model.layers.0.mlp.experts.gate_up_proj"; their number, 0 for an unknown one. */
int jt_peft_find(const jt_peft_names *names, const char *parameter,
                 jt_peft_place place[JT_PEFT_PLACES]);

/* The other way: the parameter that has a weight, as transformers (5) has it in memory,
 * and the place of the weight in it. False when none has. */
bool jt_peft_parameter(const jt_peft_names *names, const char *target,
                       char parameter[JT_PEFT_NAME], jt_peft_place *place);

/* Does transformers keep the matrices of the parameter as [in, out]? */
bool jt_peft_is_turned(const jt_peft_place *place);

/* For each of the rows of the place's weight (of one matrix), its row in a parameter
 * that has `hf_rows` of them; valid until the next call. NULL with *status when they do
 * not go together. */
const uint32_t *jt_peft_map(jt_peft_names *names, const jt_peft_place *place,
                            uint64_t hf_rows, jt_status *status, jt_err *err);

#endif
