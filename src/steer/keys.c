/* "NAME:KEY=VALUE,KEY=VALUE" into the settings of a policy. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "steer/policy.h"

enum { MAX_KEYS = 16, MAX_IDS = 65536 }; /* ids are below that */

/* A piece of the text. */
typedef struct word {
    const char *at;
    size_t len;
} word;

static bool is(const word *w, const char *name)
{
    return strlen(name) == w->len && memcmp(name, w->at, w->len) == 0;
}

/* What stands before the next of `ends`. */
static word next_word(const char *at, const char *ends)
{
    return (word){at, strcspn(at, ends)};
}

jt_status jt_policy_name(const char *text, size_t *len, jt_err *err)
{
    *len = strcspn(text, ":");
    if (*len == 0)
        return jt_fail(err, JT_E_ARG, "a policy begins with its name: '%.80s'", text);
    return JT_OK;
}

/* ---- values ---- */

static jt_status fail_value(const jt_key *key, const word *w, jt_err *err)
{
    if (key->kind == JT_KEY_WORD)
        return jt_fail(err, JT_E_ARG, "%s is '%.*s', expected %s", key->name,
                       (int)(w->len < 80 ? w->len : 80), w->at, key->value);
    return jt_fail(err, JT_E_ARG, "%s is '%.*s', expected %s%g to %g", key->name,
                   (int)(w->len < 80 ? w->len : 80), w->at,
                   key->kind == JT_KEY_IDS ? "numbers as 3+7 or 2-5, " : "", key->min,
                   key->max);
}

/* A number that fills the word. */
static bool number_of(const word *w, double *value)
{
    char text[40], *end;
    if (w->len == 0 || w->len >= sizeof text ||
        strspn(w->at, "0123456789+-.eE") < w->len)
        return false;
    memcpy(text, w->at, w->len);
    text[w->len] = '\0';
    *value = strtod(text, &end);
    return *end == '\0' && isfinite(*value);
}

static bool whole_of(const jt_key *key, const word *w, int32_t *value)
{
    double number;
    if (w->len == 0 || strspn(w->at, "0123456789") < w->len || !number_of(w, &number) ||
        !(number >= key->min && number <= key->max))
        return false;
    *value = (int32_t)number;
    return true;
}

/* A list being read. */
typedef struct id_reader {
    jt_ids *ids;
    size_t capacity;
    bool seen[MAX_IDS];
} id_reader;

/* first .. last, those that are not there yet. */
static jt_status add_ids(id_reader *r, int32_t first, int32_t last, jt_err *err)
{
    jt_ids *ids = r->ids;
    size_t more = (size_t)(last - first) + 1;
    if (ids->count + more > MAX_IDS)
        return jt_fail(err, JT_E_ARG, "more than %d numbers in a list", MAX_IDS);
    if (!jt_grow((void **)&ids->list, &r->capacity, ids->count + more,
                 sizeof *ids->list))
        return jt_fail_memory(err, "reading a policy");
    for (int32_t id = first; id <= last; id++) {
        if (!r->seen[id])
            ids->list[ids->count++] = id;
        r->seen[id] = true;
    }
    return JT_OK;
}

static jt_status read_ids(const jt_key *key, const word *w, jt_ids *ids, jt_err *err)
{
    id_reader r = {.ids = ids};
    const char *at = w->at, *end = w->at + w->len;
    for (bool more = true; more;) {
        word part = next_word(at, "+,"), low = next_word(at, "-+,");
        int32_t first, last;
        if (!whole_of(key, &low, &first))
            return fail_value(key, w, err);
        last = first;
        if (low.len < part.len) {
            word high = {low.at + low.len + 1, part.len - low.len - 1};
            if (!whole_of(key, &high, &last) || last < first)
                return fail_value(key, w, err);
        }
        JT_TRY(add_ids(&r, first, last, err));
        at = part.at + part.len;
        more = at < end;
        at += more;
    }
    return JT_OK;
}

static jt_status read_word(const jt_key *key, const word *w, int *value, jt_err *err)
{
    const char *at = key->value;
    for (*value = 0;; ++*value) {
        word choice = next_word(at, "|");
        if (choice.len == w->len && memcmp(choice.at, w->at, w->len) == 0)
            return JT_OK;
        if (!at[choice.len])
            return fail_value(key, w, err);
        at += choice.len + 1;
    }
}

static jt_status read_value(const jt_key *key, const word *w, void *field, jt_err *err)
{
    double number;
    switch (key->kind) {
    case JT_KEY_INT:
        return whole_of(key, w, field) ? JT_OK : fail_value(key, w, err);
    case JT_KEY_NUMBER:
        if (!number_of(w, &number) || !(number >= key->min && number <= key->max))
            return fail_value(key, w, err);
        *(float *)field = (float)number;
        return JT_OK;
    case JT_KEY_IDS:
        return read_ids(key, w, field, err);
    case JT_KEY_WORD:
        return read_word(key, w, field, err);
    case JT_KEY_TEXT:
        if (w->len == 0)
            return jt_fail(err, JT_E_ARG, "%s is empty", key->name);
        *(char **)field = jt_strndup(w->at, w->len);
        return *(char **)field ? JT_OK : jt_fail_memory(err, "reading a policy");
    }
    return JT_OK;
}

/* ---- lists of keys ---- */

typedef struct reading {
    const jt_key *keys[2];
    void *self[2];
    const jt_key *given[MAX_KEYS];
    size_t n_given;
} reading;

static bool was_given(const reading *r, const jt_key *key)
{
    for (size_t i = 0; i < r->n_given; i++) {
        if (r->given[i] == key)
            return true;
    }
    return false;
}

static jt_status set(reading *r, const word *name, const word *value, jt_err *err)
{
    for (int i = 0; i < 2; i++) {
        for (const jt_key *key = r->keys[i]; key && key->name; key++) {
            if (!is(name, key->name))
                continue;
            if (was_given(r, key))
                return jt_fail(err, JT_E_ARG, "%s is given twice", key->name);
            r->given[r->n_given++] = key;
            return read_value(key, value, (char *)r->self[i] + key->offset, err);
        }
    }
    return jt_fail(err, JT_E_ARG, "there is no key '%.*s'",
                   (int)(name->len < 80 ? name->len : 80), name->at);
}

/* Keys that the text leaves out. */
static jt_status fill(const reading *r, jt_err *err)
{
    for (int i = 0; i < 2; i++) {
        for (const jt_key *key = r->keys[i]; key && key->name; key++) {
            if (was_given(r, key) || (key->initial && !*key->initial))
                continue;
            if (!key->initial)
                return jt_fail(err, JT_E_ARG, "%s=%s is missing", key->name,
                               key->value);
            word usual = {key->initial, strlen(key->initial)};
            JT_TRY(read_value(key, &usual, (char *)r->self[i] + key->offset, err));
        }
    }
    return JT_OK;
}

jt_status jt_keys_read(const char *text, const jt_key *keys, void *self,
                       const jt_key *more, void *other, jt_err *err)
{
    reading r = {.keys = {keys, more}, .self = {self, other}};
    const char *at = text + strcspn(text, ":");
    while (*at) {
        word name = next_word(++at, "=,");
        if (at[name.len] != '=')
            return jt_fail(err, JT_E_ARG, "'%.*s' is not KEY=VALUE",
                           (int)(name.len < 80 ? name.len : 80), name.at);
        word value = next_word(at + name.len + 1, ",");
        JT_TRY(set(&r, &name, &value, err));
        at = value.at + value.len;
    }
    return fill(&r, err);
}

void jt_keys_free(const jt_key *keys, void *self)
{
    for (const jt_key *key = keys; key && key->name; key++) {
        void *field = (char *)self + key->offset;
        if (key->kind == JT_KEY_IDS)
            free(((jt_ids *)field)->list);
        if (key->kind == JT_KEY_TEXT)
            free(*(char **)field);
    }
}
