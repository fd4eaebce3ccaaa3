/* The post-processor of a tokenizer.json: which tokens are put around a text. */
#include <string.h>

#include "text/draft.h"

/* A place in the document, if it is there. */
typedef struct bookmark {
    jt_json at;
    bool there;
} bookmark;

static bool is_key(const jt_json *j, jt_str name)
{
    return j->key.len == name.len &&
           (name.len == 0 || memcmp(j->key.data, name.data, name.len) == 0);
}

/* [1, 2] */
static jt_status add_ids(jt_draft *d, jt_json *j, jt_ids *to)
{
    jt_json_enter(j, JT_JSON_ARRAY);
    while (jt_json_next(j)) {
        int64_t id = jt_json_int(j);
        if (j->status == JT_OK)
            j->status = jt_draft_add_id(d, to, id);
    }
    return j->status;
}

/* The ids of one of the special tokens of a template: {"<s>": {"ids": [1]}} */
static jt_status add_special(jt_draft *d, jt_json specials, jt_str name, jt_ids *to)
{
    jt_json *j = &specials;
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        if (!is_key(j, name))
            continue;
        jt_json_enter(j, JT_JSON_OBJECT);
        while (jt_json_next(j)) {
            if (jt_json_key_is(j, "ids"))
                JT_TRY(add_ids(d, j, to));
        }
    }
    return j->status;
}

/* {"SpecialToken": {"id": "<s>"}}, or {"Sequence": {}}, which is the text. */
static jt_status read_part(jt_draft *d, jt_json *j, const jt_json *specials,
                           bool *after)
{
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        *after |= jt_json_key_is(j, "Sequence");
        if (!jt_json_key_is(j, "SpecialToken"))
            continue;
        jt_json_enter(j, JT_JSON_OBJECT);
        while (jt_json_next(j)) {
            if (!jt_json_key_is(j, "id"))
                continue;
            jt_str name = jt_json_str(j);
            JT_TRY(j->status);
            JT_TRY(add_special(d, *specials, name, *after ? &d->end : &d->begin));
        }
    }
    return j->status;
}

static jt_status read_template(jt_draft *d, jt_json *single, const jt_json *specials)
{
    enum { PARTS_MOST = 64 };
    bool after = false;
    d->framed = true;
    jt_json_enter(single, JT_JSON_ARRAY);
    for (int n = 0; jt_json_next(single); n++) {
        if (n == PARTS_MOST)
            return jt_json_fail(single, JT_E_LIMIT, "a template of more than %d parts",
                                PARTS_MOST);
        JT_TRY(read_part(d, single, specials, &after));
    }
    return single->status;
}

/* ["</s>", 2] */
static jt_status read_pair(jt_draft *d, jt_json *j, jt_ids *to)
{
    int64_t id = -1;
    d->framed = true;
    jt_json_enter(j, JT_JSON_ARRAY);
    if (jt_json_next(j) && jt_json_next(j))
        id = jt_json_int(j);
    return j->status == JT_OK ? jt_draft_add_id(d, to, id) : j->status;
}

/* As deep as sequences are in each other. */
jt_status jt_import_post(jt_draft *d, jt_json *j)
{
    enum { SINGLE, SPECIALS, LIST, CLS, SEP, MEMBERS };
    static const char *const names[MEMBERS] = {"single", "special_tokens", "processors",
                                               "cls", "sep"};
    bookmark at[MEMBERS] = {0};
    if (jt_json_peek(j) == JT_JSON_NULL)
        return JT_OK;
    jt_json_enter(j, JT_JSON_OBJECT);
    while (jt_json_next(j)) {
        for (int i = 0; i < MEMBERS; i++) {
            if (jt_json_key_is(j, names[i]))
                at[i] = (bookmark){*j, true};
        }
    }
    JT_TRY(j->status);
    if (at[SINGLE].there && at[SPECIALS].there)
        JT_TRY(read_template(d, &at[SINGLE].at, &at[SPECIALS].at));
    if (at[CLS].there && at[SEP].there) {
        JT_TRY(read_pair(d, &at[CLS].at, &d->begin));
        JT_TRY(read_pair(d, &at[SEP].at, &d->end));
    }
    if (!at[LIST].there)
        return JT_OK;
    jt_json *list = &at[LIST].at;
    jt_json_enter(list, JT_JSON_ARRAY);
    while (jt_json_next(list))
        JT_TRY(jt_import_post(d, list));
    return list->status;
}
