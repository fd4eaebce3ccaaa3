/* What reads the tensors of PEFT folders: peft_read.c takes them one after the other,
 * the others know what modules of a sort have. */
#ifndef JT_ADAPT_PEFT_READ_H
#define JT_ADAPT_PEFT_READ_H

#include <jansson.h>

#include "adapt/peft_names.h"
#include "junto/safetensors.h"

typedef struct jt_peft_reader {
    json_t *config;
    jt_safetensors *file;
    jt_peft_names names;
    const jt_model *model;
    jt_adapter *a;
    jt_err *err;
} jt_peft_reader;

/* The tensors of one module, and what it is called without what PEFT puts there. */
typedef struct jt_peft_module {
    char key[JT_PEFT_NAME];  /* prefix of its tensors in the file */
    char path[JT_PEFT_NAME]; /* "model.layers.0.self_attn.q_proj" */
    const jt_safetensor *a, *b;
    size_t rank, count; /* of experts stacked in it; 1: none */
    bool old;           /* A and B have the parts of each other */
    float alpha;
} jt_peft_module;

/* Values of a module, as they lie in the file. */
typedef struct jt_peft_floats {
    float *a, *b, *m;
} jt_peft_floats;

/* Does `name` end with `tail`? Then the module's key and path are what comes before. */
bool jt_peft_cut(jt_str name, const char *tail, jt_peft_module *m);
/* The tensor of a module with this tail: NULL, or JT_E_FORMAT, where there is none. */
const jt_safetensor *jt_peft_part(const jt_peft_reader *r, const jt_peft_module *m,
                                  const char *tail);
jt_status jt_peft_need(const jt_peft_reader *r, const jt_peft_module *m,
                       const char *tail, const jt_safetensor **out);
/* Its values, which the caller frees, also after a failure. */
jt_status jt_peft_fetch(const jt_peft_reader *r, const jt_safetensor *from,
                        float **out);
/* The module's path becomes that of its weight, if there is room: JT_E_FORMAT. */
jt_status jt_peft_name_weight(const jt_peft_reader *r, jt_peft_module *m);

/* Modules whose first tensor m->a was found: lora_A of linear layers and stacks of
 * experts; lora_embedding_A; shira_weight; poly_lora_A. Errors as
 * jt_adapter_read_peft. */
jt_status jt_peft_read_low_rank(jt_peft_reader *r, jt_peft_module *m);
jt_status jt_peft_read_embedding(jt_peft_reader *r, jt_peft_module *m);
jt_status jt_peft_read_sparse(jt_peft_reader *r, jt_peft_module *m);
jt_status jt_peft_read_skills(jt_peft_reader *r, jt_peft_module *m);

#endif
