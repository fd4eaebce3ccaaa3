/* Filters on lists: map, select, sort and their kin. */
#include <string.h>

#include "text/jinja.h"

static jt_jval list_of(jt_jrun *run)
{
    return jt_jlist_new(run, JT_J_LIST);
}

/* Arguments from the n-th on, for a filter or test that is named by the one before. */
static jt_jargs rest_of(const jt_jargs *args, size_t n)
{
    jt_jargs rest = {.named = args->named};
    if (args->count > n) {
        rest.item = args->item + n;
        rest.count = args->count - n;
    }
    return rest;
}

/* map, select and reject take what is not true (none, too) for an empty list. */
static const jt_jlist *items_if_any(jt_jrun *run, jt_jval v)
{
    return jt_jitems(run, jt_jtruth(v) ? v : jt_jundefined(jt_jstr("")));
}

/* ---- map ---- */

static jt_jval do_map(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval list = list_of(run);
    const jt_jval *by = jt_jdict_find_name(&args->named, "attribute");
    jt_jval path = by ? *by : jt_jnone();
    const jt_jval *otherwise = jt_jdict_find_name(&args->named, "default");
    jt_jargs rest = rest_of(args, 1);
    jt_jfunction *filter = NULL;
    if (!by) {
        jt_str name = jt_jarg_text(run, args, 0, "filter", NULL);
        filter = jt_jinja_filter(name);
        if (!filter)
            jt_jfail(run, "filter '%.*s' is not known",
                     (int)(name.len < 80 ? name.len : 80), name.data);
    }
    const jt_jlist *items = items_if_any(run, self);
    for (size_t i = 0; i < items->count && run->status == JT_OK; i++) {
        jt_jval item = items->item[i];
        jt_jlist_add(run, list.list,
                     filter ? filter(run, item, &rest)
                            : jt_jpath(run, item, path, otherwise));
    }
    return list;
}

/* ---- select and reject ---- */

/* Items for which a test (or, without one, the item's own truth) gives `want`; with
 * `by_attribute` the first argument is the path of what is tested. */
static jt_jval choose(jt_jrun *run, jt_jval self, const jt_jargs *args,
                      bool by_attribute, bool want)
{
    size_t at = by_attribute ? 1 : 0;
    jt_jval list = list_of(run), path = jt_jnone(), name;
    jt_jargs rest = rest_of(args, at + 1);
    jt_jfunction *test = NULL;
    if (by_attribute)
        jt_jarg(args, 0, "attribute", &path);
    if (jt_jarg(args, at, "test", &name)) {
        test =
            name.kind == JT_J_STRING ? jt_jnamed_find(jt_jinja_tests, name.text) : NULL;
        if (!test)
            jt_jfail(run, "a test that is not known");
    }
    const jt_jlist *items = items_if_any(run, self);
    for (size_t i = 0; i < items->count && run->status == JT_OK; i++) {
        jt_jval item = items->item[i];
        jt_jval tested = by_attribute ? jt_jpath(run, item, path, NULL) : item;
        if (jt_jtruth(test ? test(run, tested, &rest) : tested) == want)
            jt_jlist_add(run, list.list, item);
    }
    return list;
}

static jt_jval do_select(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return choose(run, self, args, false, true);
}

static jt_jval do_reject(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return choose(run, self, args, false, false);
}

static jt_jval do_selectattr(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return choose(run, self, args, true, true);
}

static jt_jval do_rejectattr(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return choose(run, self, args, true, false);
}

/* ---- order ---- */

/* What items are compared by. */
typedef struct sorter {
    jt_jval path; /* NONE: the item itself */
    bool cased, down;
} sorter;

static jt_jval key_of(jt_jrun *run, const sorter *s, jt_jval item)
{
    jt_jargs none = {0};
    jt_jval key = s->path.kind == JT_J_NONE ? item : jt_jpath(run, item, s->path, NULL);
    if (s->cased || key.kind != JT_J_STRING)
        return key;
    return jt_jnamed_find(jt_jinja_string_filters, jt_jstr("lower"))(run, key, &none);
}

/* Merge sort: stable, and an error in a comparison just ends it. */
static void sort_range(jt_jrun *run, const sorter *s, jt_jval *item, jt_jval *key,
                       jt_jval *room, size_t n)
{
    if (n < 2 || run->status != JT_OK)
        return;
    size_t half = n / 2, i = 0, j = half;
    sort_range(run, s, item, key, room, half);
    sort_range(run, s, item + half, key + half, room, n - half);
    for (size_t at = 0; at < n; at++) {
        bool right = i == half;
        if (!right && j < n) {
            int order = jt_jcompare(run, key[i], key[j]);
            right = s->down ? order < 0 : order > 0;
        }
        size_t from = right ? j++ : i++;
        room[2 * at] = item[from];
        room[2 * at + 1] = key[from];
    }
    for (size_t at = 0; at < n; at++) {
        item[at] = room[2 * at];
        key[at] = room[2 * at + 1];
    }
}

static jt_jval sorted(jt_jrun *run, const jt_jlist *items, const sorter *s)
{
    jt_jval list = list_of(run);
    jt_jval *key = jt_jalloc(run, items->count, 3 * sizeof *key);
    for (size_t i = 0; key && i < items->count && run->status == JT_OK; i++) {
        jt_jlist_add(run, list.list, items->item[i]);
        key[i] = key_of(run, s, items->item[i]);
    }
    if (key && jt_jstep(run, items->count * 20))
        sort_range(run, s, list.list->item, key, key + items->count, items->count);
    return list;
}

static jt_jval do_sort(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    sorter s = {.path = jt_jnone(),
                .down = jt_jarg_truth(args, 0, "reverse", false),
                .cased = jt_jarg_truth(args, 1, "case_sensitive", false)};
    jt_jarg(args, 2, "attribute", &s.path);
    return sorted(run, jt_jitems(run, self), &s);
}

static jt_jval pairs_of(jt_jrun *run, jt_jval dict)
{
    jt_jargs none = {0};
    if (dict.kind == JT_J_DICT)
        return jt_jcall(run, jt_jattribute(run, dict, jt_jstr("items")), &none);
    if (dict.kind != JT_J_UNDEFINED)
        jt_jfail(run, "%s has no items", jt_jkind_name(dict));
    return list_of(run);
}

static jt_jval do_items(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    return pairs_of(run, self);
}

static jt_jval do_dictsort(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_str by = jt_jarg_text(run, args, 1, "by", "key");
    sorter s = {.path = jt_jint(jt_jsame_text(by, jt_jstr("value"))),
                .cased = jt_jarg_truth(args, 0, "case_sensitive", false),
                .down = jt_jarg_truth(args, 2, "reverse", false)};
    jt_jval pairs = pairs_of(run, self);
    return run->status == JT_OK ? sorted(run, pairs.list, &s) : pairs;
}

static jt_jval do_reverse(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    const jt_jlist *items = jt_jitems(run, self);
    jt_jval list = list_of(run);
    jt_jtext text = {0};
    for (size_t i = items->count; i-- > 0 && run->status == JT_OK;) {
        if (self.kind == JT_J_STRING)
            jt_jwrite_str(run, &text, items->item[i]);
        else
            jt_jlist_add(run, list.list, items->item[i]);
    }
    return self.kind == JT_J_STRING ? jt_jtext_value(&text) : list;
}

/* ---- one of them ---- */

static jt_jval do_first(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    const jt_jlist *items = jt_jitems(run, self);
    return items->count ? items->item[0] : jt_jundefined(jt_jstr("first item"));
}

static jt_jval do_last(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    const jt_jlist *items = jt_jitems(run, self);
    return items->count ? items->item[items->count - 1]
                        : jt_jundefined(jt_jstr("last item"));
}

static jt_jval extreme(jt_jrun *run, jt_jval self, const jt_jargs *args, int sign)
{
    sorter s = {.path = jt_jnone(),
                .cased = jt_jarg_truth(args, 0, "case_sensitive", false)};
    const jt_jlist *items = jt_jitems(run, self);
    jt_jval best = jt_jundefined(jt_jstr("item of an empty list")), best_key = best;
    jt_jarg(args, 1, "attribute", &s.path);
    for (size_t i = 0; i < items->count && run->status == JT_OK; i++) {
        jt_jval key = key_of(run, &s, items->item[i]);
        if (i && jt_jcompare(run, key, best_key) * sign <= 0)
            continue;
        best = items->item[i];
        best_key = key;
    }
    return best;
}

static jt_jval do_max(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return extreme(run, self, args, 1);
}

static jt_jval do_min(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    return extreme(run, self, args, -1);
}

/* ---- all together ---- */

static jt_jval do_length(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    switch (self.kind) {
    case JT_J_STRING:
        return jt_jint((int64_t)jt_jchars(self.text));
    case JT_J_DICT:
        return jt_jint((int64_t)self.dict->count);
    default:
        return jt_jint((int64_t)jt_jitems(run, self)->count);
    }
}

static jt_jval do_list(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    const jt_jlist *items = jt_jitems(run, self);
    jt_jval list = list_of(run);
    for (size_t i = 0; i < items->count && run->status == JT_OK; i++)
        jt_jlist_add(run, list.list, items->item[i]);
    return list;
}

static jt_jval do_join(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_str between = jt_jarg_text(run, args, 0, "d", "");
    jt_jval path = jt_jnone();
    jt_jtext text = {0};
    const jt_jlist *items = jt_jitems(run, self);
    jt_jarg(args, 1, "attribute", &path);
    for (size_t i = 0; i < items->count && run->status == JT_OK; i++) {
        jt_jval item = items->item[i];
        if (i)
            jt_jwrite(run, &text, between.data, between.len);
        jt_jwrite_str(run, &text,
                      path.kind == JT_J_NONE ? item : jt_jpath(run, item, path, NULL));
    }
    return jt_jtext_value(&text);
}

static jt_jval do_sum(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval path = jt_jnone(), start = jt_jint(0);
    const jt_jlist *items = jt_jitems(run, self);
    bool real = false;
    double sum = 0.0;
    jt_jarg(args, 0, "attribute", &path);
    jt_jarg(args, 1, "start", &start);
    for (size_t i = 0; i <= items->count && run->status == JT_OK; i++) {
        jt_jval v = i == items->count ? start
                    : path.kind == JT_J_NONE
                        ? items->item[i]
                        : jt_jpath(run, items->item[i], path, NULL);
        if (!jt_jis_number(v)) {
            jt_jfail(run, "sum of %s", jt_jkind_name(v));
            break;
        }
        real = real || v.kind == JT_J_FLOAT;
        sum += jt_jnumber(v);
    }
    return real ? jt_jfloat(sum) : jt_jint((int64_t)sum);
}

static jt_jval do_unique(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    sorter s = {.path = jt_jnone(),
                .cased = jt_jarg_truth(args, 0, "case_sensitive", false)};
    const jt_jlist *items = jt_jitems(run, self);
    jt_jval list = list_of(run), seen = list_of(run);
    jt_jarg(args, 1, "attribute", &s.path);
    for (size_t i = 0; i < items->count && run->status == JT_OK; i++) {
        jt_jval key = key_of(run, &s, items->item[i]);
        if (jt_jcontains(run, seen, key))
            continue;
        jt_jlist_add(run, seen.list, key);
        jt_jlist_add(run, list.list, items->item[i]);
    }
    return list;
}

/* (value, [items]) for each value of an attribute, in the order of the values. */
static jt_jval do_groupby(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    sorter s = {.path = jt_jnone(), .cased = true};
    jt_jval groups = list_of(run), last = jt_jnone(), members = jt_jnone();
    jt_jarg(args, 0, "attribute", &s.path);
    jt_jval order = sorted(run, jt_jitems(run, self), &s);
    for (size_t i = 0; run->status == JT_OK && i < order.list->count; i++) {
        jt_jval item = order.list->item[i], key = key_of(run, &s, item);
        if (!i || !jt_jequal(run, key, last)) {
            jt_jval group = jt_jlist_new(run, JT_J_TUPLE);
            members = list_of(run);
            if (run->status != JT_OK)
                break;
            jt_jlist_add(run, group.list, key);
            jt_jlist_add(run, group.list, members);
            jt_jlist_add(run, groups.list, group);
            last = key;
        }
        jt_jlist_add(run, members.list, item);
    }
    return groups;
}

/* Lists of `linecount`, the last one filled up with `fill_with` where that is given. */
static jt_jval do_batch(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    int64_t size = jt_jarg_int(run, args, 0, "linecount", 0);
    const jt_jlist *items = jt_jitems(run, self);
    jt_jval batches = list_of(run), batch = jt_jnone(), fill = jt_jnone();
    if (size <= 0)
        jt_jfail(run, "batch() needs a size above 0");
    for (size_t i = 0; i < items->count && run->status == JT_OK; i++) {
        if (i % (size_t)size == 0) {
            batch = list_of(run);
            jt_jlist_add(run, batches.list, batch);
        }
        if (run->status == JT_OK)
            jt_jlist_add(run, batch.list, items->item[i]);
    }
    jt_jarg(args, 1, "fill_with", &fill);
    while (fill.kind != JT_J_NONE && items->count && run->status == JT_OK &&
           batch.list->count < (size_t)size)
        jt_jlist_add(run, batch.list, fill);
    return batches;
}

const jt_jnamed jt_jinja_list_filters[] = {
    {"batch", do_batch},
    {"count", do_length},
    {"dictsort", do_dictsort},
    {"first", do_first},
    {"groupby", do_groupby},
    {"items", do_items},
    {"join", do_join},
    {"last", do_last},
    {"length", do_length},
    {"list", do_list},
    {"map", do_map},
    {"max", do_max},
    {"min", do_min},
    {"reject", do_reject},
    {"rejectattr", do_rejectattr},
    {"reverse", do_reverse},
    {"select", do_select},
    {"selectattr", do_selectattr},
    {"sort", do_sort},
    {"sum", do_sum},
    {"unique", do_unique},
    {NULL, NULL},
};
