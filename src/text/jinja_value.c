/* Values: lists and dicts, truth, equality, order, membership, attributes. */
#include <math.h>
#include <string.h>

#include "text/jinja.h"

/* ---- lists and dicts ---- */

/* Room for one more of `size` bytes each; false when there is none. */
static bool grow(jt_jrun *run, void **items, size_t count, size_t *capacity,
                 size_t size)
{
    if (count < *capacity)
        return true;
    size_t room = *capacity ? *capacity * 2 : 8;
    void *fresh = jt_jalloc(run, room, size);
    if (!fresh)
        return false;
    if (count)
        memcpy(fresh, *items, count * size);
    *items = fresh;
    *capacity = room;
    return true;
}

jt_jval jt_jlist_new(jt_jrun *run, jt_jkind kind)
{
    jt_jlist *list = jt_jalloc(run, 1, sizeof *list);
    if (!list)
        return jt_jnone();
    *list = (jt_jlist){0};
    return (jt_jval){.kind = kind, .list = list};
}

jt_jval jt_jdict_new(jt_jrun *run, jt_jkind kind)
{
    jt_jdict *dict = jt_jalloc(run, 1, sizeof *dict);
    if (!dict)
        return jt_jnone();
    *dict = (jt_jdict){0};
    return (jt_jval){.kind = kind, .dict = dict};
}

void jt_jlist_add(jt_jrun *run, jt_jlist *list, jt_jval item)
{
    if (jt_jstep(run, 1) &&
        grow(run, (void **)&list->item, list->count, &list->capacity, sizeof item))
        list->item[list->count++] = item;
}

/* Keys of a dict are the same when they are equal; only texts and numbers are keys. */
static bool same_key(jt_jval a, jt_jval b)
{
    if (a.kind == JT_J_STRING || b.kind == JT_J_STRING)
        return a.kind == b.kind && jt_jsame_text(a.text, b.text);
    if (jt_jis_number(a) && jt_jis_number(b))
        return jt_jnumber(a) == jt_jnumber(b);
    return a.kind == b.kind && a.kind == JT_J_NONE;
}

jt_jval *jt_jdict_find(const jt_jdict *dict, jt_jval key)
{
    for (size_t i = 0; i < dict->count; i++) {
        if (same_key(dict->pair[i].key, key))
            return &dict->pair[i].value;
    }
    return NULL;
}

jt_jval *jt_jdict_find_name(const jt_jdict *dict, const char *name)
{
    return jt_jdict_find(dict, jt_jstring(jt_jstr(name)));
}

void jt_jdict_set(jt_jrun *run, jt_jdict *dict, jt_jval key, jt_jval value)
{
    if (!jt_jstep(run, 1 + dict->count / 8))
        return;
    jt_jval *old = jt_jdict_find(dict, key);
    if (old)
        *old = value;
    else if (grow(run, (void **)&dict->pair, dict->count, &dict->capacity,
                  sizeof *dict->pair))
        dict->pair[dict->count++] = (struct jt_jpair){key, value};
}

/* ---- what a value is ---- */

bool jt_jsame_text(jt_str a, jt_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool jt_jis_list(jt_jval v)
{
    return v.kind == JT_J_LIST || v.kind == JT_J_TUPLE;
}

bool jt_jis_number(jt_jval v)
{
    return v.kind == JT_J_BOOL || v.kind == JT_J_INT || v.kind == JT_J_FLOAT;
}

double jt_jnumber(jt_jval v)
{
    return v.kind == JT_J_FLOAT ? v.number : (double)jt_jinteger(v);
}

int64_t jt_jinteger(jt_jval v)
{
    return v.kind == JT_J_BOOL ? v.truth : v.integer;
}

bool jt_jtruth(jt_jval v)
{
    switch (v.kind) {
    case JT_J_UNDEFINED:
    case JT_J_NONE:
        return false;
    case JT_J_BOOL:
        return v.truth;
    case JT_J_INT:
        return v.integer != 0;
    case JT_J_FLOAT:
        return v.number != 0.0;
    case JT_J_STRING:
        return v.text.len > 0;
    case JT_J_LIST:
    case JT_J_TUPLE:
        return v.list->count > 0;
    case JT_J_DICT:
        return v.dict->count > 0;
    default:
        return true;
    }
}

const char *jt_jkind_name(jt_jval v)
{
    static const char *const names[] = {
        [JT_J_UNDEFINED] = "undefined", [JT_J_NONE] = "NoneType",
        [JT_J_BOOL] = "bool",           [JT_J_INT] = "int",
        [JT_J_FLOAT] = "float",         [JT_J_STRING] = "str",
        [JT_J_LIST] = "list",           [JT_J_TUPLE] = "tuple",
        [JT_J_DICT] = "dict",           [JT_J_NAMESPACE] = "namespace",
        [JT_J_CALLABLE] = "function"};
    return names[v.kind];
}

/* ---- equality and order ---- */

static bool same_lists(jt_jrun *run, const jt_jlist *a, const jt_jlist *b)
{
    if (a->count != b->count || !jt_jenter(run))
        return false;
    bool same = true;
    for (size_t i = 0; i < a->count && same; i++)
        same = jt_jequal(run, a->item[i], b->item[i]);
    run->depth--;
    return same;
}

static bool same_dicts(jt_jrun *run, const jt_jdict *a, const jt_jdict *b)
{
    if (a->count != b->count || !jt_jenter(run))
        return false;
    bool same = true;
    for (size_t i = 0; i < a->count && same && jt_jstep(run, 1 + b->count / 8); i++) {
        const jt_jval *other = jt_jdict_find(b, a->pair[i].key);
        same = other && jt_jequal(run, a->pair[i].value, *other);
    }
    run->depth--;
    return same;
}

bool jt_jequal(jt_jrun *run, jt_jval a, jt_jval b)
{
    if (!jt_jstep(run, 1))
        return false;
    if (jt_jis_number(a) && jt_jis_number(b)) {
        if (a.kind != JT_J_FLOAT && b.kind != JT_J_FLOAT)
            return jt_jinteger(a) == jt_jinteger(b);
        return jt_jnumber(a) == jt_jnumber(b);
    }
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case JT_J_STRING:
        return jt_jsame_text(a.text, b.text);
    case JT_J_LIST:
    case JT_J_TUPLE:
        return same_lists(run, a.list, b.list);
    case JT_J_DICT:
        return same_dicts(run, a.dict, b.dict);
    case JT_J_NAMESPACE:
        return a.dict == b.dict;
    case JT_J_CALLABLE:
        return a.callable == b.callable;
    default:
        return true; /* none, undefined */
    }
}

static int compare_texts(jt_str a, jt_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n ? memcmp(a.data, b.data, n) : 0;
    return order ? (order > 0) - (order < 0) : (a.len > b.len) - (a.len < b.len);
}

static int compare_lists(jt_jrun *run, const jt_jlist *a, const jt_jlist *b)
{
    int order = (a->count > b->count) - (a->count < b->count);
    if (!jt_jenter(run))
        return 0;
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        if (!jt_jequal(run, a->item[i], b->item[i])) {
            order = jt_jcompare(run, a->item[i], b->item[i]);
            break;
        }
    }
    run->depth--;
    return order;
}

int jt_jcompare(jt_jrun *run, jt_jval a, jt_jval b)
{
    if (jt_jis_number(a) && jt_jis_number(b)) {
        double x = jt_jnumber(a), y = jt_jnumber(b);
        return (x > y) - (x < y);
    }
    if (a.kind == JT_J_STRING && b.kind == JT_J_STRING)
        return compare_texts(a.text, b.text);
    if (a.kind == b.kind && jt_jis_list(a))
        return compare_lists(run, a.list, b.list);
    jt_jfail(run, "%s and %s cannot be ordered", jt_jkind_name(a), jt_jkind_name(b));
    return 0;
}

bool jt_jcontains(jt_jrun *run, jt_jval in, jt_jval item)
{
    if (in.kind == JT_J_STRING) {
        if (item.kind != JT_J_STRING)
            jt_jfail(run, "'in' a text needs a text, not %s", jt_jkind_name(item));
        else
            return item.text.len == 0 ||
                   memmem(in.text.data, in.text.len, item.text.data, item.text.len);
    } else if (in.kind == JT_J_DICT) {
        return jt_jstep(run, 1 + in.dict->count / 8) &&
               jt_jdict_find(in.dict, item) != NULL;
    } else if (jt_jis_list(in)) {
        for (size_t i = 0; i < in.list->count; i++) {
            if (jt_jequal(run, in.list->item[i], item))
                return true;
        }
    } else if (in.kind != JT_J_UNDEFINED) {
        jt_jfail(run, "'in' does not go with %s", jt_jkind_name(in));
    }
    return false;
}

/* ---- iteration ---- */

static void add_characters(jt_jrun *run, jt_jlist *list, jt_str text)
{
    while (text.len && run->status == JT_OK) {
        size_t n;
        jt_jdecode(text, &n);
        jt_jlist_add(run, list, jt_jstring((jt_str){text.data, n}));
        text.data += n;
        text.len -= n;
    }
}

const jt_jlist *jt_jitems(jt_jrun *run, jt_jval v)
{
    static const jt_jlist none;
    if (jt_jis_list(v))
        return v.list;
    if (v.kind == JT_J_UNDEFINED)
        return &none;
    if (v.kind != JT_J_STRING && v.kind != JT_J_DICT) {
        jt_jfail(run, "%s cannot be looped over", jt_jkind_name(v));
        return &none;
    }
    jt_jval list = jt_jlist_new(run, JT_J_LIST);
    if (list.kind != JT_J_LIST)
        return &none;
    if (v.kind == JT_J_STRING)
        add_characters(run, list.list, v.text);
    for (size_t i = 0; v.kind == JT_J_DICT && i < v.dict->count; i++)
        jt_jlist_add(run, list.list, v.dict->pair[i].key);
    return list.list;
}

/* ---- attributes and items ---- */

static jt_jval bind(jt_jrun *run, jt_jfunction *function, jt_jval self)
{
    jt_jcallable *method = jt_jalloc(run, 1, sizeof *method);
    if (!method)
        return jt_jnone();
    *method = (jt_jcallable){.function = function, .self = self};
    return (jt_jval){.kind = JT_J_CALLABLE, .callable = method};
}

static jt_jval dict_get(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval key = jt_jnone(), otherwise = jt_jnone();
    jt_jarg(args, 0, "key", &key);
    jt_jarg(args, 1, "default", &otherwise);
    const jt_jval *found =
        jt_jstep(run, 1 + self.dict->count / 8) ? jt_jdict_find(self.dict, key) : NULL;
    return found ? *found : otherwise;
}

static jt_jval dict_keys(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    jt_jval list = jt_jlist_new(run, JT_J_LIST);
    for (size_t i = 0; run->status == JT_OK && i < self.dict->count; i++)
        jt_jlist_add(run, list.list, self.dict->pair[i].key);
    return list;
}

static jt_jval dict_values(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    jt_jval list = jt_jlist_new(run, JT_J_LIST);
    for (size_t i = 0; run->status == JT_OK && i < self.dict->count; i++)
        jt_jlist_add(run, list.list, self.dict->pair[i].value);
    return list;
}

static jt_jval dict_items(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    jt_jval list = jt_jlist_new(run, JT_J_LIST);
    for (size_t i = 0; run->status == JT_OK && i < self.dict->count; i++) {
        jt_jval both = jt_jlist_new(run, JT_J_TUPLE);
        if (run->status != JT_OK)
            break;
        jt_jlist_add(run, both.list, self.dict->pair[i].key);
        jt_jlist_add(run, both.list, self.dict->pair[i].value);
        jt_jlist_add(run, list.list, both);
    }
    return list;
}

static jt_jval list_index(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval item = jt_jnone();
    jt_jarg(args, 0, "value", &item);
    for (size_t i = 0; i < self.list->count; i++) {
        if (jt_jequal(run, self.list->item[i], item))
            return jt_jint((int64_t)i);
    }
    jt_jfail(run, "index(): the list has no such item");
    return jt_jnone();
}

static jt_jval list_count(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval item = jt_jnone();
    int64_t count = 0;
    jt_jarg(args, 0, "value", &item);
    for (size_t i = 0; i < self.list->count; i++)
        count += jt_jequal(run, self.list->item[i], item);
    return jt_jint(count);
}

/* loop.cycle(a, b, ...): one of the arguments by the number of the round. */
static jt_jval loop_cycle(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    const jt_jval *index = jt_jdict_find_name(self.dict, "index0");
    if (!index || index->kind != JT_J_INT || !args->count) {
        jt_jfail(run, "cycle() is for loops and needs values");
        return jt_jnone();
    }
    return args->item[(size_t)index->integer % args->count];
}

static const jt_jnamed dict_methods[] = {{"get", dict_get},
                                         {"items", dict_items},
                                         {"keys", dict_keys},
                                         {"values", dict_values},
                                         {NULL, NULL}};
static const jt_jnamed list_methods[] = {
    {"count", list_count}, {"index", list_index}, {NULL, NULL}};
static const jt_jnamed loop_methods[] = {{"cycle", loop_cycle}, {NULL, NULL}};

jt_jfunction *jt_jnamed_find(const jt_jnamed *table, jt_str name)
{
    for (; table->name; table++) {
        if (jt_jsame_text(name, jt_jstr(table->name)))
            return table->function;
    }
    return NULL;
}

static jt_jfunction *method_of(jt_jval of, jt_str name)
{
    switch (of.kind) {
    case JT_J_STRING:
        return jt_jnamed_find(jt_jinja_string_methods, name);
    case JT_J_DICT:
        return jt_jnamed_find(dict_methods, name);
    case JT_J_LIST:
    case JT_J_TUPLE:
        return jt_jnamed_find(list_methods, name);
    case JT_J_NAMESPACE:
        return jt_jnamed_find(loop_methods, name);
    default:
        return NULL;
    }
}

static jt_jval fail_undefined(jt_jrun *run, jt_jval of)
{
    jt_jfail(run, "'%.*s' is undefined", (int)(of.text.len < 80 ? of.text.len : 80),
             of.text.len ? of.text.data : "");
    return jt_jnone();
}

/* Methods come before members, as Jinja looks for attributes first. */
jt_jval jt_jattribute(jt_jrun *run, jt_jval of, jt_str name)
{
    if (of.kind == JT_J_UNDEFINED)
        return fail_undefined(run, of);
    jt_jfunction *method = method_of(of, name);
    if (method)
        return bind(run, method, of);
    if ((of.kind == JT_J_DICT || of.kind == JT_J_NAMESPACE) &&
        jt_jstep(run, 1 + of.dict->count / 8)) {
        const jt_jval *found = jt_jdict_find(of.dict, jt_jstring(name));
        if (found)
            return *found;
    }
    return jt_jundefined(name);
}

jt_jval jt_jitem(jt_jrun *run, jt_jval of, jt_jval key)
{
    jt_str missing = key.kind == JT_J_STRING ? key.text : jt_jstr("item");
    if (of.kind == JT_J_UNDEFINED)
        return fail_undefined(run, of);
    if ((of.kind == JT_J_DICT || of.kind == JT_J_NAMESPACE) &&
        jt_jstep(run, 1 + of.dict->count / 8)) {
        const jt_jval *found = jt_jdict_find(of.dict, key);
        return found ? *found : jt_jundefined(missing);
    }
    bool whole = key.kind == JT_J_INT || key.kind == JT_J_BOOL;
    bool is_text = of.kind == JT_J_STRING;
    if (!whole || (!is_text && !jt_jis_list(of)))
        return key.kind == JT_J_STRING ? jt_jattribute(run, of, key.text)
                                       : jt_jundefined(missing);
    int64_t i = jt_jinteger(key);
    int64_t n = (int64_t)(is_text ? jt_jchars(of.text) : of.list->count);
    i += i < 0 ? n : 0;
    if (i < 0 || i >= n)
        return jt_jundefined(missing);
    if (!is_text)
        return of.list->item[i];
    size_t from = jt_jchar_at(of.text, (size_t)i),
           to = jt_jchar_at(of.text, (size_t)i + 1);
    return jt_jstring((jt_str){of.text.data + from, to - from});
}

/* A part of a path that is all digits is an index. */
static jt_jval path_key(jt_str part)
{
    int64_t index = 0;
    for (size_t i = 0; i < part.len; i++) {
        if (part.data[i] < '0' || part.data[i] > '9' || i > 15)
            return jt_jstring(part);
        index = index * 10 + (part.data[i] - '0');
    }
    return part.len ? jt_jint(index) : jt_jstring(part);
}

static jt_jval step_into(jt_jrun *run, jt_jval of, jt_jval key,
                         const jt_jval *otherwise)
{
    jt_jval item = jt_jitem(run, of, key);
    return otherwise && item.kind == JT_J_UNDEFINED ? *otherwise : item;
}

jt_jval jt_jpath(jt_jrun *run, jt_jval of, jt_jval path, const jt_jval *otherwise)
{
    if (path.kind != JT_J_STRING)
        return step_into(run, of, path, otherwise);
    jt_str rest = path.text;
    for (;;) {
        const char *dot = rest.len ? memchr(rest.data, '.', rest.len) : NULL;
        size_t n = dot ? (size_t)(dot - rest.data) : rest.len;
        of = step_into(run, of, path_key((jt_str){rest.data, n}), otherwise);
        if (!dot || run->status != JT_OK)
            return of;
        rest = (jt_str){dot + 1, rest.len - n - 1};
    }
}
