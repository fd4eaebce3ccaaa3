#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "verbs.h"

struct info_args {
    cli_common common;
    const char *model;
    bool tensors, keys, json;
};

static const cli_option operands[] = {CLI_MODEL_OPERAND(struct info_args), {0}};

static const cli_option options[] = {
    {.flags = "--tensors",
     .kind = CLI_FLAG,
     .offset = offsetof(struct info_args, tensors),
     .help = "list the tensors: name, type, shape, size"},
    {.flags = "--keys",
     .kind = CLI_FLAG,
     .offset = offsetof(struct info_args, keys),
     .help =
         "list the keys of the file and their values; of long arrays the beginning"},
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = offsetof(struct info_args, json),
     .help = "one JSON object instead of text"},
    {0}};

enum { SHOWN_ITEMS = 8 };

/* A scalar of the file as JSON; NULL when its getter does not know it. */
static json_t *scalar_json(const jt_gguf *file, const jt_gguf_kv *kv)
{
    char *key = strndup(kv->key.data, kv->key.len);
    if (!key)
        return NULL;
    jt_str text;
    bool flag;
    int64_t whole;
    float number;
    json_t *json;
    if (kv->type == JT_GGUF_STRING && jt_gguf_get_str(file, key, &text))
        json = cli_json_text(text.data, text.len);
    else if (kv->type == JT_GGUF_BOOL && jt_gguf_get_bool(file, key, &flag))
        json = json_boolean(flag);
    else if (kv->type != JT_GGUF_F32 && kv->type != JT_GGUF_F64 &&
             jt_gguf_get_i64(file, key, &whole))
        json = json_integer(whole);
    else if (jt_gguf_get_f32(file, key, &number))
        json = cli_json_number((double)number);
    else
        json = json_null();
    free(key);
    return json;
}

static json_t *item_json(const jt_gguf_kv *kv, uint64_t i)
{
    jt_str text;
    int64_t whole;
    float number;
    if (jt_gguf_item_str(kv, i, &text))
        return cli_json_text(text.data, text.len);
    if (jt_gguf_item_i64(kv, i, &whole))
        return json_integer(whole);
    if (jt_gguf_item_f32(kv, i, &number))
        return cli_json_number((double)number);
    return json_null();
}

/* The value of a key; of an array only the first items. */
static json_t *value_json(const jt_gguf *file, const jt_gguf_kv *kv)
{
    if (kv->type != JT_GGUF_ARRAY)
        return scalar_json(file, kv);
    json_t *items = json_array();
    for (uint64_t i = 0; i < kv->count && i < SHOWN_ITEMS; i++)
        json_array_append_new(items, item_json(kv, i));
    return items;
}

static void print_keys(const jt_gguf *file)
{
    printf("\nkeys\n");
    for (size_t i = 0; i < jt_gguf_kv_count(file); i++) {
        const jt_gguf_kv *kv = jt_gguf_kv_at(file, i);
        json_t *value = value_json(file, kv);
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        bool is_long = text && strlen(text) > 200; /* chat templates */
        printf("  %.*s = %.*s%s", (int)kv->key.len, kv->key.data, is_long ? 200 : 1000,
               text ? text : "?", is_long ? "..." : "");
        if (kv->type == JT_GGUF_ARRAY)
            printf(" (%llu items)", (unsigned long long)kv->count);
        putchar('\n');
        free(text);
        json_decref(value);
    }
}

static const char *type_name(const jt_gguf_tensor *t)
{
    return t->types ? "mixed" : jt_dtype_name(t->dtype);
}

static void print_tensors(const jt_gguf *file)
{
    printf("\ntensors\n");
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        char shape[96] = "";
        size_t used = 0;
        for (int d = 0; d < t->n_dims; d++)
            used += (size_t)snprintf(shape + used, sizeof shape - used, "%s%llu",
                                     d ? ", " : "", (unsigned long long)t->shape[d]);
        printf("  %-36.*s %-5s [%s] %s\n", (int)t->name.len, t->name.data, type_name(t),
               shape, cli_show_bytes((double)t->bytes).text);
    }
}

static void print_summary(const cli_model *m)
{
    const jt_model_info *info = &m->info;
    printf("file        %s (%s)\n", info->path,
           cli_show_bytes((double)info->file_bytes).text);
    printf("name        %.*s\n", (int)info->name.len,
           info->name.len ? info->name.data : "");
    printf("family      %s\n", info->family);
    printf("parameters  %s", cli_show_count((double)info->n_params).text);
    if (info->n_active_params != info->n_params)
        printf(", %s active per token",
               cli_show_count((double)info->n_active_params).text);
    printf("\nlayers      %d", info->n_layers);
    if (info->n_moe_layers)
        printf(", %d with experts", info->n_moe_layers);
    printf("\nwidth       %d\n", info->d_model);
    printf("attention   %d heads of %d, %d for keys and values\n", info->n_heads,
           info->head_dim, info->n_kv_heads);
    if (info->n_experts)
        printf("experts     %d of width %d, %d used\n", info->n_experts,
               info->expert_width, info->n_experts_used);
    if (info->laid_out)
        printf("layout      experts: each in one piece, with a checksum\n");
    if (info->shared_width)
        printf("shared      width %d\n", info->shared_width);
    if (info->dense_width)
        printf("dense FFN   width %d\n", info->dense_width);
    printf("context     %d\n", info->n_ctx_train);
    printf("vocabulary  %d%s%s%s%s\n", info->n_vocab, m->tokenizer ? ", " : "",
           m->tokenizer ? jt_tokenizer_kind(m->tokenizer) : ", no tokenizer",
           m->tokenizer ? " " : "", m->tokenizer ? jt_tokenizer_pre(m->tokenizer) : "");
    printf("per token   reads %s of weights, keeps %s\n",
           cli_show_bytes((double)info->active_bytes).text,
           cli_show_bytes((double)info->kv_bytes_per_token).text);
    if (info->state_bytes)
        printf("state       %s, however long the text\n",
               cli_show_bytes((double)info->state_bytes).text);
    printf("types      ");
    for (int d = 0; d < JT_DTYPE_COUNT; d++) {
        if (info->dtype_bytes[d])
            printf(" %s %s", jt_dtype_name((jt_dtype)d),
                   cli_show_bytes((double)info->dtype_bytes[d]).text);
    }
    putchar('\n');
}

static json_t *tensors_json(const jt_gguf *file)
{
    json_t *list = json_array();
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        json_t *shape = json_array();
        for (int d = 0; d < t->n_dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
        json_array_append_new(list, json_pack("{s:o, s:s, s:o, s:I}", "name",
                                              cli_json_text(t->name.data, t->name.len),
                                              "type", type_name(t), "shape", shape,
                                              "bytes", (json_int_t)t->bytes));
    }
    return list;
}

static json_t *keys_json(const jt_gguf *file)
{
    json_t *list = json_array();
    for (size_t i = 0; i < jt_gguf_kv_count(file); i++) {
        const jt_gguf_kv *kv = jt_gguf_kv_at(file, i);
        json_array_append_new(list, json_pack("{s:o, s:o, s:I}", "key",
                                              cli_json_text(kv->key.data, kv->key.len),
                                              "value", value_json(file, kv), "count",
                                              (json_int_t)kv->count));
    }
    return list;
}

static json_t *summary_json(const cli_model *m)
{
    const jt_model_info *info = &m->info;
    json_t *types = json_object();
    for (int d = 0; d < JT_DTYPE_COUNT; d++) {
        if (info->dtype_bytes[d])
            json_object_set_new(types, jt_dtype_name((jt_dtype)d),
                                json_integer((json_int_t)info->dtype_bytes[d]));
    }
    const char *kind = m->tokenizer ? jt_tokenizer_kind(m->tokenizer) : NULL;
    const char *pre = m->tokenizer ? jt_tokenizer_pre(m->tokenizer) : NULL;
    return json_pack(
        "{s:o, s:s, s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, "
        "s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:s?, s:s?, s:o, s:s}",
        "path", cli_json_text(info->path, strlen(info->path)), "family", info->family,
        "name", cli_json_text(info->name.data, info->name.len), "layers",
        info->n_layers, "moe_layers", info->n_moe_layers, "width", info->d_model,
        "heads", info->n_heads, "kv_heads", info->n_kv_heads, "head_dim",
        info->head_dim, "context", info->n_ctx_train, "vocabulary", info->n_vocab,
        "experts", info->n_experts, "experts_used", info->n_experts_used,
        "expert_width", info->expert_width, "shared_width", info->shared_width,
        "dense_width", info->dense_width, "params", (json_int_t)info->n_params,
        "active_params", (json_int_t)info->n_active_params, "file_bytes",
        (json_int_t)info->file_bytes, "active_bytes", (json_int_t)info->active_bytes,
        "kv_bytes_per_token", (json_int_t)info->kv_bytes_per_token, "state_bytes",
        (json_int_t)info->state_bytes, "tokenizer", kind, "pre_tokenizer", pre,
        "type_bytes", types, "layout", info->laid_out ? "experts" : "plain");
}

static int run(cli_context *cli, const void *raw)
{
    const struct info_args *args = raw;
    jt_err err = {0};
    cli_model m;
    if (cli_load(&m, args->model, false, &err) != JT_OK)
        return cli_fail(cli, &err);
    const jt_gguf *file = jt_model_file(m.model);
    int code = CLI_DONE;
    if (args->json) {
        json_t *json = summary_json(&m);
        if (json && args->keys)
            json_object_set_new(json, "keys", keys_json(file));
        if (json && args->tensors)
            json_object_set_new(json, "tensors", tensors_json(file));
        code = cli_print_json(cli, json);
    } else {
        print_summary(&m);
        if (args->keys)
            print_keys(file);
        if (args->tensors)
            print_tensors(file);
    }
    cli_unload(&m);
    return code;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto info model.gguf", "what the model is, and what a token costs",
    "junto info model.gguf --tensors | grep exps", "the tensors of the experts", NULL};

const cli_verb cli_verb_info = {
    .name = "info",
    .section = "Look",
    .summary = "show what a model file holds",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct info_args),
    .run = run,
};
