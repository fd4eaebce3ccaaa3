#include "adapt/peft_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

static const char fused[] = ".experts.gate_up_proj", down[] = ".experts.down_proj";

jt_status jt_peft_names_open(jt_peft_names *out, const jt_model *model, jt_err *err)
{
    *out = (jt_peft_names){.job = {.layer = -1, .err = err, .file = model->file},
                           .model = model};
    jt_status status = jt_hf_family_of_file(&out->job);
    if (status != JT_OK)
        jt_peft_names_close(out);
    return status;
}

void jt_peft_names_close(jt_peft_names *n)
{
    jt_hf_drop_rooms(&n->job);
    free(n->job.rooms);
    jt_arena_free(&n->job.arena);
    free(n->map);
}

/* ---- names ---- */

/* Does `name` follow `pattern`, whose '%' is a layer and '#' an expert? */
static bool matches(const char *pattern, const char *name, int *layer, int *expert)
{
    *layer = *expert = -1;
    for (; *pattern; pattern++) {
        if (*pattern != '%' && *pattern != '#') {
            if (*pattern != *name++)
                return false;
            continue;
        }
        char *end;
        if (*name < '0' || *name > '9')
            return false;
        unsigned long number = strtoul(name, &end, 10);
        if (number > JT_HF_MOST_LAYERS * 16ul)
            return false;
        *(*pattern == '%' ? layer : expert) = (int)number;
        name = end;
    }
    return !*name;
}

static bool ends_with(const char *name, const char *tail)
{
    size_t len = strlen(name), n = strlen(tail);
    return len >= n && strcmp(name + len - n, tail) == 0;
}

/* `name` with the first `from` in it as `to`; false where it is not in it. */
static bool replace(char out[JT_PEFT_NAME], const char *name, const char *from,
                    const char *to)
{
    const char *at = strstr(name, from);
    if (!at)
        return false;
    int n = snprintf(out, JT_PEFT_NAME, "%.*s%s%s", (int)(at - name), name, to,
                     at + strlen(from));
    return n > 0 && n < JT_PEFT_NAME;
}

static bool set_place(const jt_peft_names *n, jt_peft_place *p, const char *pattern,
                      int layer)
{
    if (!jt_hf_name(p->target, sizeof p->target, pattern, layer, 0))
        return false;
    p->tensor = jt_gguf_find(n->model->file, p->target);
    p->layer = layer;
    return p->tensor && p->tensor->n_dims >= 2;
}

/* ---- parameters to weights ---- */

static int find_rows(const jt_peft_names *n, const char *name,
                     jt_peft_place place[JT_PEFT_PLACES])
{
    const jt_hf_family *family = n->job.family;
    int count = 0, layer, expert;
    for (int i = 0; i < JT_HF_LISTS && family->tensors[i]; i++) {
        for (const jt_hf_row *row = family->tensors[i]; row->hf; row++) {
            if (count == JT_PEFT_PLACES || !matches(row->hf, name, &layer, &expert))
                continue;
            jt_peft_place p = {.row = row, .expert = expert};
            if (set_place(n, &p, row->gguf, layer))
                place[count++] = p;
        }
    }
    return count;
}

/* Stacks of experts that the rows have as one matrix per expert. */
static int find_stacks(const jt_peft_names *n, const char *name,
                       jt_peft_place place[JT_PEFT_PLACES])
{
    const char *at = strstr(name, "layers.");
    bool is_down = ends_with(name, down);
    if (!at || (!is_down && !ends_with(name, fused)))
        return 0;
    unsigned long layer = strtoul(at + strlen("layers."), NULL, 10);
    if (layer > JT_HF_MOST_LAYERS)
        return 0;
    jt_peft_place gate = {.expert = -1}, up = {.expert = -1};
    place[0] = gate;
    if (set_place(n, &place[0],
                  is_down ? "blk.%.ffn_down_exps.weight"
                          : "blk.%.ffn_gate_up_exps.weight",
                  (int)layer))
        return 1;
    if (is_down || !set_place(n, &gate, "blk.%.ffn_gate_exps.weight", (int)layer) ||
        !set_place(n, &up, "blk.%.ffn_up_exps.weight", (int)layer) ||
        gate.tensor->n_dims != 3)
        return 0;
    up.first_row = gate.tensor->shape[1];
    gate.halves = up.halves = true;
    place[0] = gate;
    place[1] = up;
    return 2;
}

int jt_peft_find(const jt_peft_names *n, const char *parameter,
                 jt_peft_place place[JT_PEFT_PLACES])
{
    char other[JT_PEFT_NAME];
    const char *name =
        replace(other, parameter, "language_model.", "") ? other : parameter;
    int count = find_rows(n, name, place);
    if (!count)
        count = find_stacks(n, name, place);
    if (!count && strcmp(name, "lm_head.weight") == 0) { /* that is the embedding */
        count = find_rows(n, "model.embed_tokens.weight", place);
        for (int i = 0; i < count; i++)
            snprintf(place[i].target, sizeof place[i].target, "output.weight");
    }
    char mixtral[JT_PEFT_NAME]; /* transformers 5 has another name in memory */
    if (!count && replace(mixtral, name, ".mlp.", ".block_sparse_moe."))
        count = find_rows(n, mixtral, place);
    return count;
}

/* ---- weights to parameters ---- */

static bool stack_parameter(const char *hf, const char *target,
                            char parameter[JT_PEFT_NAME], jt_peft_place *place)
{
    const char *at = strstr(hf, ".experts.#.");
    bool is_down = strstr(target, "ffn_down_exps") != NULL;
    char name[JT_PEFT_NAME], usual[JT_PEFT_NAME];
    if (!at)
        return false;
    int len = snprintf(name, sizeof name, "%.*s%s", (int)(at - hf), hf,
                       is_down ? down : fused);
    if (len < 0 || (size_t)len >= sizeof name)
        return false;
    bool other = replace(usual, name, ".block_sparse_moe.", ".mlp.");
    place->row = NULL;
    place->halves = !is_down && !strstr(target, "ffn_gate_up_exps");
    if (strstr(target, "ffn_up_exps"))
        place->first_row = place->tensor->shape[1];
    return jt_hf_name(parameter, JT_PEFT_NAME, other ? usual : name, place->layer, 0);
}

static bool row_parameter(const jt_peft_names *n, const jt_hf_row *row,
                          const char *target, char parameter[JT_PEFT_NAME],
                          jt_peft_place *place)
{
    int layer, expert;
    char usual[JT_PEFT_NAME];
    if ((row->how && !row->how->export) || !matches(row->gguf, target, &layer, &expert))
        return false;
    *place = (jt_peft_place){.row = row, .expert = -1};
    if (!set_place(n, place, row->gguf, layer))
        return false;
    if (strchr(row->hf, '#'))
        return stack_parameter(row->hf, target, parameter, place);
    const char *hf = row->hf;
    if (replace(usual, hf, ".block_sparse_moe.", ".mlp."))
        hf = usual;
    return jt_hf_name(parameter, JT_PEFT_NAME, hf, layer, 0);
}

bool jt_peft_parameter(const jt_peft_names *n, const char *target,
                       char parameter[JT_PEFT_NAME], jt_peft_place *place)
{
    const jt_hf_family *family = n->job.family;
    for (int i = 0; i < JT_HF_LISTS && family->tensors[i]; i++) {
        for (const jt_hf_row *row = family->tensors[i]; row->hf; row++) {
            if (row_parameter(n, row, target, parameter, place))
                return true;
        }
    }
    if (strcmp(target, "output.weight") != 0 ||
        !jt_peft_parameter(n, "token_embd.weight", parameter, place))
        return false;
    snprintf(parameter, JT_PEFT_NAME, "lm_head.weight");
    return true;
}

/* ---- rows ---- */

bool jt_peft_is_turned(const jt_peft_place *place)
{
    const jt_hf_transform *how = place->row ? place->row->how : NULL;
    return how == &jt_hf_transposed || how == &jt_hf_first_half_t ||
           how == &jt_hf_second_half_t || how == &jt_hf_even_t || how == &jt_hf_odd_t;
}

static jt_status fail_rows(const jt_peft_names *n, const jt_peft_place *p,
                           uint64_t hf_rows)
{
    return jt_fail(n->job.err, JT_E_FORMAT, "%llu rows for '%s', which has %llu",
                   (unsigned long long)hf_rows, p->target,
                   (unsigned long long)p->tensor->shape[p->tensor->n_dims - 2]);
}

/* The transform shows its order on a matrix whose rows hold their own number. */
static jt_status order_rows(jt_peft_names *n, const jt_peft_place *p, float *number,
                            uint64_t hf_rows)
{
    const jt_hf_transform *how = p->row->how;
    uint64_t rows = p->tensor->shape[p->tensor->n_dims - 2];
    jt_gguf_tensor t = {.dtype = JT_F32,
                        .n_dims = p->tensor->n_dims == 3 && p->expert < 0 ? 3 : 2,
                        .shape = {1, 1, 1},
                        .data = number,
                        .bytes = (size_t)hf_rows * sizeof *number};
    t.shape[t.n_dims - (jt_peft_is_turned(p) ? 1 : 2)] = hf_rows;
    for (uint64_t i = 0; i < hf_rows; i++)
        number[i] = (float)i;
    n->job.layer = p->layer;
    JT_TRY(how->import(&n->job, &t));
    if (jt_hf_values(&t) != rows)
        return fail_rows(n, p, hf_rows);
    t.bytes = (size_t)rows * sizeof *number;
    for (uint64_t i = 0; i < rows; i++)
        n->map[i] = (uint32_t) * (const float *)jt_gguf_row(&t, i);
    return JT_OK;
}

static jt_status rows_as_they_are(jt_peft_names *n, const jt_peft_place *p,
                                  uint64_t hf_rows)
{
    uint64_t rows = p->tensor->shape[p->tensor->n_dims - 2];
    if (hf_rows != rows * (p->halves ? 2 : 1))
        return fail_rows(n, p, hf_rows);
    for (uint64_t i = 0; i < rows; i++)
        n->map[i] = (uint32_t)(p->first_row + i);
    return JT_OK;
}

const uint32_t *jt_peft_map(jt_peft_names *n, const jt_peft_place *place,
                            uint64_t hf_rows, jt_status *status, jt_err *err)
{
    const uint64_t most = 1 << 24; /* whole numbers in F32 */
    uint64_t rows = place->tensor->shape[place->tensor->n_dims - 2];
    free(n->map);
    n->map = NULL;
    n->job.err = err;
    if (hf_rows > most || rows > most) {
        *status = jt_fail(err, JT_E_LIMIT, "'%s' has too many rows", place->target);
        return NULL;
    }
    float *number = jt_alloc((size_t)hf_rows, sizeof *number);
    n->map = jt_alloc((size_t)rows, sizeof *n->map);
    if (!number || !n->map)
        *status = jt_fail_memory(err, "reading an adapter");
    else if (place->row && place->row->how)
        *status = order_rows(n, place, number, hf_rows);
    else
        *status = rows_as_they_are(n, place, hf_rows);
    jt_hf_drop_rooms(&n->job);
    free(number);
    return *status == JT_OK ? n->map : NULL;
}
