/* A report as JSON; docs/report.md describes it. */
#include <string.h>

#include "report.h"

static json_t *text(const char *s)
{
    return cli_json_text(s, strlen(s));
}

static json_t *numbers(const double *value, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, cli_json_number(value[i]));
    return list;
}

static json_t *counts(const uint64_t *value, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer((json_int_t)value[i]));
    return list;
}

static json_t *groups_json(const jt_report_groups *groups)
{
    json_t *list = json_array();
    for (size_t i = 0; i < groups->n; i++)
        json_array_append_new(list,
                              json_pack("{s:o, s:I}", "name", text(groups->names[i]),
                                        "tokens", (json_int_t)groups->tokens[i]));
    return list;
}

static json_t *special_json(const jt_report_special *s, size_t experts, size_t groups)
{
    if (!s->counts)
        return json_null();
    json_t *rows = json_array();
    for (size_t e = 0; e < experts; e++)
        json_array_append_new(rows, counts(s->counts + e * groups, groups));
    return json_pack("{s:f, s:f, s:o}", "information", s->information, "shuffled",
                     s->shuffled, "counts", rows);
}

static json_t *pairs_json(const jt_report_pairs *p)
{
    if (!p->measured)
        return json_null();
    json_t *top = json_array();
    for (size_t i = 0; i < p->n_top; i++)
        json_array_append_new(top, json_pack("{s:i, s:i, s:f, s:f}", "a", p->top[i].a,
                                             "b", p->top[i].b, "share", p->top[i].share,
                                             "lift", p->top[i].lift));
    return json_pack("{s:f, s:f, s:o}", "bits", p->bits, "chance", p->chance, "top",
                     top);
}

static json_t *locality_json(const jt_locality_report *l)
{
    json_t *srp = json_array(), *hits = json_object();
    for (int i = 0; i < JT_SPANS; i++) {
        if (!l->srp[i].segments)
            continue;
        json_array_append_new(
            srp, json_pack("{s:i, s:f, s:i, s:f, s:f}", "span", jt_segment[i], "srp",
                           l->srp[i].value, "threshold", l->srp[i].threshold,
                           "activation", l->srp[i].activation, "size", l->srp[i].size));
    }
    for (jt_caching c = 0; c < JT_CACHES; c++)
        json_object_set_new(hits, jt_cache_name(c), numbers(l->hits[c], l->n_sizes));
    return json_pack("{s:I, s:o, s:o, s:o}", "uses", (json_int_t)l->uses, "srp", srp,
                     "hits", hits, "gaps", numbers(l->gaps, JT_GAPS));
}

static json_t *congestion_json(const jt_report_layer *l)
{
    if (!l->congested)
        return json_null();
    return json_pack("{s:f, s:f, s:f, s:f}", "gamma", l->gamma, "temperature",
                     l->temperature, "game_error", l->game_error, "softmax_error",
                     l->softmax_error);
}

static json_t *layer_json(const jt_report_info *info, const jt_report_layer *l)
{
    size_t n = (size_t)l->n_experts;
    json_t *json = json_pack(
        "{s:i, s:i, s:i, s:I, s:o, s:i, s:i, s:f, s:f, s:f, s:f, s:f}", "layer",
        l->layer, "experts", l->n_experts, "slots", l->k, "picks", (json_int_t)l->picks,
        "load", counts(l->load, n), "dead", l->dead, "dominant", l->dominant, "busiest",
        l->busiest, "load_entropy", l->load_entropy, "entropy", l->entropy,
        "entropy_10", l->entropy_low, "entropy_90", l->entropy_high);
    json_object_set_new(json, "label", special_json(&l->label, n, info->labels.n));
    json_object_set_new(json, "class",
                        special_json(&l->token_class, n, info->classes.n));
    json_object_set_new(json, "together", pairs_json(&l->together));
    json_object_set_new(json, "next", pairs_json(&l->next));
    json_object_set_new(json, "locality", locality_json(&l->locality));
    json_object_set_new(json, "shuffled", locality_json(&l->shuffled));
    json_object_set_new(json, "congestion", congestion_json(l));
    return json;
}

json_t *report_json(const jt_report *report)
{
    const jt_report_info *info = jt_report_about(report);
    const jt_trace_info *t = &info->trace;
    const jt_report_layer *layers = jt_report_layers(report);
    json_t *list = json_array();
    for (int i = 0; i < t->n_layers; i++)
        json_array_append_new(list, layer_json(info, &layers[i]));
    return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "trace",
                     text(t->path), "model", text(t->name), "family", text(t->family),
                     "tokens", (json_int_t)t->tokens, "texts", (json_int_t)info->texts,
                     "sample", (json_int_t)info->sample, "labels",
                     groups_json(&info->labels), "classes", groups_json(&info->classes),
                     "locality", locality_json(&info->locality), "shuffled",
                     locality_json(&info->shuffled), "layers", list);
}
