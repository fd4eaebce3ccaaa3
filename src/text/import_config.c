/* What stands beside a vocabulary in the folder of a model: which tokens begin and end
 * a text, added tokens, chat templates. */
#include <string.h>

#include "format/json.h"
#include "text/draft.h"
#include "text/vocab.h"

static void open_json(jt_json *j, jt_draft *d, jt_str text)
{
    jt_json_open(j, text.data, text.len, &d->arena, d->err);
    jt_json_enter(j, JT_JSON_OBJECT);
}

/* "<s>" or {"content": "<s>"}; nothing for null. */
static jt_str read_token_text(jt_json *j)
{
    jt_str text = {0};
    switch (jt_json_peek(j)) {
    case JT_JSON_STRING:
        return jt_json_str(j);
    case JT_JSON_OBJECT:
        jt_json_enter(j, JT_JSON_OBJECT);
        while (jt_json_next(j)) {
            if (jt_json_key_is(j, "content"))
                text = jt_json_str(j);
        }
        return text;
    default:
        return text;
    }
}

/* "bos_token" and its like; what is known already stays. */
static void read_role(jt_json *j, jt_draft *d)
{
    static const char *const names[JT_ROLES] = {
        [JT_ROLE_BOS] = "bos_token",     [JT_ROLE_EOS] = "eos_token",
        [JT_ROLE_UNKNOWN] = "unk_token", [JT_ROLE_PAD] = "pad_token",
        [JT_ROLE_SEP] = "sep_token",     [JT_ROLE_CLS] = "cls_token",
        [JT_ROLE_MASK] = "mask_token"};
    for (int i = 0; i < JT_ROLES; i++) {
        if (jt_json_key_is(j, names[i]) && !d->role_texts[i].len)
            d->role_texts[i] = read_token_text(j);
    }
}

static jt_status add_template(jt_draft *d, jt_str name, jt_str text)
{
    if (name.len == 7 && memcmp(name.data, "default", 7) == 0)
        name.len = 0;
    for (size_t i = 0; i < d->n_templates; i++) {
        const jt_str known = d->templates[i].name;
        if (known.len == name.len &&
            (name.len == 0 || memcmp(known.data, name.data, name.len) == 0))
            return JT_OK; /* the first one counts: a file of its own */
    }
    if (d->n_templates == JT_TEMPLATES_MOST)
        return jt_fail(d->err, JT_E_LIMIT, "more than %d chat templates",
                       JT_TEMPLATES_MOST);
    d->templates[d->n_templates++] = (jt_template){name, text};
    return JT_OK;
}

/* [{"name": "default", "template": "..."}] */
static void read_template_list(jt_json *j, jt_draft *d)
{
    jt_json_enter(j, JT_JSON_ARRAY);
    while (jt_json_next(j)) {
        jt_str name = {0}, text = {0};
        jt_json_enter(j, JT_JSON_OBJECT);
        while (jt_json_next(j)) {
            if (jt_json_key_is(j, "name"))
                name = jt_json_str(j);
            else if (jt_json_key_is(j, "template"))
                text = jt_json_str(j);
        }
        if (j->status == JT_OK)
            j->status = add_template(d, name, text);
    }
}

static void read_templates(jt_json *j, jt_draft *d)
{
    jt_json_type type = jt_json_peek(j);
    if (type == JT_JSON_ARRAY) {
        read_template_list(j, d);
    } else if (type == JT_JSON_STRING) {
        jt_str text = jt_json_str(j);
        if (j->status == JT_OK)
            j->status = add_template(d, (jt_str){0}, text);
    }
}

/* The number that a key of an object is: "151643". */
static int64_t parse_id(jt_str text)
{
    int64_t id = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || id >= JT_DRAFT_MOST)
            return -1;
        id = id * 10 + (text.data[i] - '0');
    }
    return text.len ? id : -1;
}

static void read_added(jt_json *j, jt_draft *d, int64_t id)
{
    jt_draft_added added = jt_draft_read_added(j);
    if (j->status != JT_OK || !added.text.len)
        return;
    /* The vocabulary says best what its own tokens are. */
    bool known = id >= 0 && (size_t)id < d->count && d->tokens[id].text.data;
    unsigned char type = known && d->tokens[id].type != JT_TOKEN_NORMAL
                             ? d->tokens[id].type
                         : added.special ? JT_TOKEN_CONTROL
                                         : JT_TOKEN_USER;
    j->status = jt_draft_set(d, id, added.text, type);
    if (j->status != JT_OK)
        return;
    d->tokens[id].strip_left |= added.strip_left;
    d->tokens[id].strip_right |= added.strip_right;
    d->tokens[id].single_word |= added.single_word;
}

static void read_added_list(jt_json *j, jt_draft *d)
{
    if (jt_json_peek(j) != JT_JSON_OBJECT)
        return;
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j))
        read_added(j, d, parse_id(j->key));
}

static void read_switch(jt_json *j, int *value)
{
    if (jt_json_peek(j) == JT_JSON_BOOL && *value < 0)
        *value = jt_json_bool(j);
}

jt_status jt_import_tokenizer_config(jt_draft *d, jt_str text)
{
    jt_json j;
    open_json(&j, d, text);
    while (jt_json_next(&j)) {
        if (jt_json_key_is(&j, "added_tokens_decoder"))
            read_added_list(&j, d);
        else if (jt_json_key_is(&j, "chat_template"))
            read_templates(&j, d);
        else if (jt_json_key_is(&j, "add_bos_token"))
            read_switch(&j, &d->add_bos);
        else if (jt_json_key_is(&j, "add_eos_token"))
            read_switch(&j, &d->add_eos);
        else
            read_role(&j, d);
    }
    return jt_json_finish(&j);
}

jt_status jt_import_special_map(jt_draft *d, jt_str text)
{
    jt_json j;
    open_json(&j, d, text);
    while (jt_json_next(&j))
        read_role(&j, d);
    return jt_json_finish(&j);
}

/* {"<tool>": 32000} */
jt_status jt_import_added_tokens(jt_draft *d, jt_str text)
{
    jt_json j;
    open_json(&j, d, text);
    while (jt_json_next(&j)) {
        jt_str name = j.key;
        int64_t id = jt_json_int(&j);
        if (j.status == JT_OK && jt_draft_find(d, name) < 0)
            j.status = jt_draft_set(d, id, name, JT_TOKEN_USER);
    }
    return jt_json_finish(&j);
}

/* 2 or [2, 7] */
static void read_ends(jt_json *j, jt_draft *d)
{
    if (jt_json_peek(j) == JT_JSON_NUMBER) {
        int64_t id = jt_json_int(j);
        if (j->status == JT_OK)
            j->status = jt_draft_add_id(d, &d->ends, id);
    } else if (jt_json_peek(j) == JT_JSON_ARRAY) {
        jt_json_enter(j, JT_JSON_ARRAY);
        while (jt_json_next(j))
            read_ends(j, d);
    }
}

jt_status jt_import_generation_config(jt_draft *d, jt_str text)
{
    jt_json j;
    open_json(&j, d, text);
    while (jt_json_next(&j)) {
        if (jt_json_key_is(&j, "eos_token_id"))
            read_ends(&j, d);
    }
    return jt_json_finish(&j);
}

jt_status jt_import_chat_template(jt_draft *d, jt_str text)
{
    return add_template(d, (jt_str){0}, text);
}

jt_status jt_import_template_json(jt_draft *d, jt_str text)
{
    jt_json j;
    open_json(&j, d, text);
    while (jt_json_next(&j)) {
        if (jt_json_key_is(&j, "chat_template"))
            read_templates(&j, d);
    }
    return jt_json_finish(&j);
}

static void read_size(jt_json *j, size_t *size)
{
    if (!jt_json_key_is(j, "vocab_size") || jt_json_peek(j) != JT_JSON_NUMBER)
        return;
    int64_t value = jt_json_int(j);
    if (value > 0 && value <= JT_DRAFT_MOST)
        *size = (size_t)value;
}

jt_status jt_import_config(jt_draft *d, jt_str text, size_t *size)
{
    jt_json j;
    open_json(&j, d, text);
    while (jt_json_next(&j)) {
        read_size(&j, size);
        if (!jt_json_key_is(&j, "text_config") || jt_json_peek(&j) != JT_JSON_OBJECT)
            continue;
        jt_json_enter(&j, JT_JSON_OBJECT);
        while (jt_json_next(&j))
            read_size(&j, size);
    }
    return jt_json_finish(&j);
}
