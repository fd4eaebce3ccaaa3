/* Gathering a report: one pass over the blocks for what is cheap, layer by layer side
 * by side, then what is costly over a sample of the tokens. */
#include "junto/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "watch/congestion.h"
#include "watch/information.h"
#include "watch/report_impl.h"

const char *jt_cache_name(jt_caching cache)
{
    static const char *const names[] = {
#define X(name, text) text,
        JT_CACHE_LIST(X)
#undef X
    };
    return names[cache];
}

/* ---- tokens of a layer ---- */

/* A block as all layers see it. */
typedef struct piece {
    jt_report *report;
    const jt_trace_block *block;
    size_t index;
    const uint8_t *begins;  /* [tokens] a text */
    const int32_t *place;   /* [tokens] in the sample, or -1 */
    const int8_t *group[2]; /* [tokens] label and class, or -1 */
} piece;

/* The experts of a token, each once, those that are used first. */
static size_t take_row(layer_sums *s, const int32_t *slots)
{
    size_t n = 0;
    for (int j = 0; j < s->site->k; j++) {
        int32_t e = slots[j];
        if (e >= 0 && !s->marked[e]) {
            s->marked[e] = 1;
            s->row[n++] = (uint16_t)e;
        }
    }
    for (size_t i = 0; i < n; i++)
        s->marked[s->row[i]] = 0;
    return n;
}

static void keep_in_sample(report_sample *sample, const layer_sums *s, size_t n,
                           int32_t place)
{
    uint16_t *to =
        sample->expert + (size_t)place * sample->n_slots + (size_t)s->site->slot;
    memcpy(to, s->row, n * sizeof *to);
    for (size_t j = n; j < (size_t)s->site->k; j++)
        to[j] = JT_NO_EXPERT;
}

static void add_entropy(layer_sums *s, float entropy)
{
    double h = entropy >= 0.0f ? fmin((double)entropy, 1.0) : 0.0;
    s->entropy += h;
    s->entropies[(int)(h * (REPORT_ENTROPIES - 1))]++;
}

/* Null experts would take their share of the load, which a trace does not tell. */
static void add_scores(layer_sums *s, const float *score, size_t n, size_t block)
{
    score_sums *half = &s->half[block % 2];
    double sum = 0.0;
    for (int e = 0; e < s->site->n_experts; e++)
        sum += (double)score[e];
    if (!half->load || !(sum > 0.0 && isfinite(sum)))
        return;
    for (int e = 0; e < s->site->n_experts; e++)
        half->score[e] += (double)score[e] / sum;
    for (size_t i = 0; i < n; i++)
        half->load[s->row[i]]++;
    half->tokens++;
}

static void add_layer(void *arg, size_t layer)
{
    const piece *p = arg;
    jt_report *r = p->report;
    const jt_trace_block *b = p->block;
    const jt_trace_info *info = &r->info.trace;
    layer_sums *s = &r->sums[layer];
    for (size_t t = 0; t < (size_t)b->n_tokens; t++) {
        size_t n =
            take_row(s, b->expert + t * (size_t)info->n_slots + (size_t)s->site->slot);
        if (p->begins[t])
            jt_locality_end(s->locality);
        jt_locality_add(s->locality, s->row, n);
        for (size_t i = 0; i < n; i++)
            s->load[s->row[i]]++;
        for (int g = 0; g < 2; g++) {
            for (size_t i = 0; i < n && p->group[g][t] >= 0; i++)
                s->counts[g][s->row[i] * r->groups[g].n + (size_t)p->group[g][t]]++;
        }
        add_entropy(s, b->entropy[t * (size_t)info->n_layers + layer]);
        if (p->place[t] >= 0)
            keep_in_sample(&r->sample, s, n, p->place[t]);
        if (b->score)
            add_scores(s, b->score + t * (size_t)info->n_rows + (size_t)s->site->row, n,
                       p->index);
    }
}

/* ---- blocks ---- */

/* What stays between blocks, and room for one. */
typedef struct walk {
    int32_t position, label; /* of the token before */
    uint8_t *begins;
    int32_t *place;
    int8_t *group[2];
} walk;

static void note_tokens(jt_report *r, walk *w, const jt_trace_block *b)
{
    for (int t = 0; t < b->n_tokens; t++) {
        bool first = b->first == 0 && t == 0;
        bool begins = first || b->position[t] <= w->position || b->label[t] != w->label;
        w->begins[t] = begins;
        w->position = b->position[t];
        w->label = b->label[t];
        w->place[t] = jt_report_sample_place(&r->sample, b->first + (uint64_t)t);
        if (begins && w->place[t] >= 0)
            r->sample.begins[w->place[t]] = 1;
        r->info.texts += begins;
        for (int g = 0; g < 2; g++) {
            int group = jt_report_group(&r->groups[g], g ? b->token[t] : b->label[t]);
            w->group[g][t] = (int8_t)group;
            if (group >= 0)
                r->groups[g].tokens[group]++;
        }
    }
}

static jt_status read_blocks(jt_report *r, walk *w, const jt_progress *progress,
                             jt_err *err)
{
    const jt_trace_info *info = &r->info.trace;
    unsigned columns = 1u << JT_TRACE_TOKEN | 1u << JT_TRACE_POSITION |
                       1u << JT_TRACE_LABEL | 1u << JT_TRACE_EXPERT |
                       1u << JT_TRACE_ENTROPY | 1u << JT_TRACE_SCORE;
    for (size_t i = 0; i < jt_trace_blocks(r->trace); i++) {
        jt_trace_block b;
        JT_TRY(jt_trace_read(r->trace, i, columns, &b, err));
        JT_TRY(jt_progress_report(progress, "tokens", b.first, info->tokens, err));
        note_tokens(r, w, &b);
        piece p = {r, &b, i, w->begins, w->place, {w->group[0], w->group[1]}};
        jt_pool_run(r->pool, add_layer, &p, (size_t)info->n_layers);
    }
    for (int l = 0; l < info->n_layers; l++)
        jt_locality_end(r->sums[l].locality);
    return jt_progress_report(progress, "tokens", info->tokens, info->tokens, err);
}

static jt_status walk_trace(jt_report *r, const jt_progress *progress, jt_err *err)
{
    size_t n = (size_t)r->info.trace.block_tokens;
    walk w = {.begins = jt_alloc(n, sizeof *w.begins),
              .place = jt_alloc(n, sizeof *w.place),
              .group = {jt_alloc(n, 1), jt_alloc(n, 1)}};
    jt_status status = w.begins && w.place && w.group[0] && w.group[1]
                           ? read_blocks(r, &w, progress, err)
                           : jt_fail_memory(err, "reading a trace");
    free(w.begins);
    free(w.place);
    free(w.group[0]);
    free(w.group[1]);
    return status;
}

/* ---- the sample ---- */

static bool shuffled_locality(layer_sums *s, const jt_uses *uses)
{
    jt_locality *l;
    if (jt_locality_new(&l, uses->n_experts, (int)uses->k, NULL) != JT_OK)
        return false;
    for (size_t t = 0; t < uses->n_tokens; t++) {
        size_t n;
        const uint16_t *row = jt_uses_row(uses, t, &n);
        if (uses->begins[t])
            jt_locality_end(l);
        jt_locality_add(l, row, n);
    }
    jt_locality_end(l);
    jt_locality_sums_take(&s->shuffled, l);
    jt_locality_free(l);
    return true;
}

static bool try_caches(layer_sums *s, const jt_uses *real, const jt_uses *shuffled)
{
    s->real.uses_sample = s->shuffled.uses_sample = s->shuffled.uses;
    for (jt_caching c = JT_CACHE_LRU + 1; c < JT_CACHES; c++) {
        if (jt_cache_hits(s->real.hits[c], real, c, NULL) != JT_OK ||
            jt_cache_hits(s->shuffled.hits[c], shuffled, c, NULL) != JT_OK)
            return false;
    }
    return true;
}

static void measure_sample(void *arg, size_t layer)
{
    jt_report *r = arg;
    layer_sums *s = &r->sums[layer];
    jt_report_layer *out = &r->layers[layer];
    jt_uses real = jt_report_sample_uses(&r->sample, s->site, false);
    jt_uses shuffled = jt_report_sample_uses(&r->sample, s->site, true);
    jt_locality_sums_take(&s->real, s->locality);
    bool good = shuffled_locality(s, &shuffled) && try_caches(s, &real, &shuffled) &&
                jt_report_pairs_together(&out->together, &real, &shuffled);
    if (good && layer + 1 < (size_t)r->info.trace.n_layers) {
        const jt_trace_layer *site = r->sums[layer + 1].site;
        jt_uses next = jt_report_sample_uses(&r->sample, site, false);
        jt_uses next_shuffled = jt_report_sample_uses(&r->sample, site, true);
        good = jt_report_pairs_next(&out->next, &real, &next, &next_shuffled);
    }
    s->failed = !good;
}

/* ---- results ---- */

static void settle_load(jt_report_layer *out, const layer_sums *s)
{
    double entropy = 0.0, mean;
    uint64_t most = 0;
    for (int e = 0; e < out->n_experts; e++)
        out->picks += s->load[e];
    mean = (double)out->picks / out->n_experts;
    for (int e = 0; e < out->n_experts; e++) {
        double share = out->picks ? (double)s->load[e] / (double)out->picks : 0.0;
        entropy -= share > 0.0 ? share * log(share) : 0.0;
        most = s->load[e] > most ? s->load[e] : most;
        out->dead += s->load[e] == 0;
        out->dominant += (double)s->load[e] > 4.0 * mean;
    }
    out->load = s->load;
    out->busiest = mean > 0.0 ? (double)most / mean : 0.0;
    out->load_entropy = out->n_experts > 1 ? entropy / log(out->n_experts) : 0.0;
}

/* The entropy that this share of the tokens is not above. */
static double entropy_quantile(const layer_sums *s, uint64_t tokens, double share)
{
    uint64_t below = 0;
    int i = 0;
    for (; i < REPORT_ENTROPIES - 1; i++) {
        below += s->entropies[i];
        if ((double)below >= share * (double)tokens)
            break;
    }
    return (double)i / (REPORT_ENTROPIES - 1);
}

static bool settle_groups(jt_report_special *out, const report_groups *groups,
                          const layer_sums *s, const uint64_t *counts, uint64_t seed)
{
    if (!groups->n)
        return true;
    size_t rows = (size_t)s->site->n_experts, cells = rows * groups->n;
    uint64_t *room = jt_alloc(2 * cells + groups->n, sizeof *room);
    if (!room)
        return false;
    jt_rng rng = {.seed = 1, .stream = seed};
    *out = (jt_report_special){
        .information = jt_information(counts, rows, groups->n),
        .shuffled = jt_information_shuffled(counts, rows, groups->n, &rng, room),
        .counts = counts};
    free(room);
    return true;
}

/* Qualities are logs of mean scores, as JT_QUALITY_PROBABILITY has them. */
static bool settle_congestion(jt_report_layer *out, const layer_sums *s)
{
    size_t n = (size_t)s->site->n_experts;
    if (!s->half[0].load || !(s->half[0].tokens > 0 && s->half[1].tokens > 0))
        return true;
    double *room = jt_alloc(5 * n, sizeof *room);
    if (!room)
        return false;
    double *q[2] = {room, room + n}, *seen[2] = {room + 2 * n, room + 3 * n};
    for (int h = 0; h < 2; h++) {
        double picks = 0.0;
        for (size_t e = 0; e < n; e++)
            picks += s->half[h].load[e];
        for (size_t e = 0; e < n; e++) {
            q[h][e] = log(fmax(s->half[h].score[e] / s->half[h].tokens, 1e-300));
            seen[h][e] = picks > 0.0 ? s->half[h].load[e] / picks : 1.0 / (double)n;
        }
    }
    jt_congestion_fit fit;
    jt_congestion_fit_halves(&fit, (const double *const *)q,
                             (const double *const *)seen, n, room + 4 * n);
    out->congested = true;
    out->gamma = fit.gamma;
    out->temperature = fit.temperature;
    out->game_error = fit.error;
    out->softmax_error = fit.softmax_error;
    free(room);
    return true;
}

static void settle_layer(void *arg, size_t layer)
{
    jt_report *r = arg;
    layer_sums *s = &r->sums[layer];
    jt_report_layer *out = &r->layers[layer];
    uint64_t tokens = r->info.trace.tokens;
    out->layer = s->site->layer;
    out->n_experts = s->site->n_experts;
    out->k = s->site->k;
    settle_load(out, s);
    out->entropy = s->entropy / (double)tokens;
    out->entropy_low = entropy_quantile(s, tokens, 0.1);
    out->entropy_high = entropy_quantile(s, tokens, 0.9);
    s->failed =
        s->failed ||
        !settle_groups(&out->label, &r->groups[0], s, s->counts[0], layer) ||
        !settle_groups(&out->token_class, &r->groups[1], s, s->counts[1], layer) ||
        !settle_congestion(out, s);
    jt_locality_sums_settle(&out->locality, &s->real);
    jt_locality_sums_settle(&out->shuffled, &s->shuffled);
}

static void settle_whole(jt_report *r)
{
    for (int l = 0; l < r->info.trace.n_layers; l++) {
        jt_locality_sums_add(&r->real, &r->sums[l].real);
        jt_locality_sums_add(&r->shuffled, &r->sums[l].shuffled);
    }
    jt_locality_sums_settle(&r->info.locality, &r->real);
    jt_locality_sums_settle(&r->info.shuffled, &r->shuffled);
    r->info.sample = r->sample.n;
    for (int g = 0; g < 2; g++) {
        jt_report_groups *to = g ? &r->info.classes : &r->info.labels;
        *to =
            (jt_report_groups){r->groups[g].n, r->groups[g].names, r->groups[g].tokens};
    }
}

/* ---- the whole ---- */

static bool new_layer(jt_report *r, layer_sums *s, const jt_trace_layer *site)
{
    size_t n = (size_t)site->n_experts;
    s->site = site;
    s->load = jt_calloc(n, sizeof *s->load);
    s->row = jt_alloc((size_t)site->k, sizeof *s->row);
    s->marked = jt_calloc(n, 1);
    bool good = s->load && s->row && s->marked && jt_locality_sums_new(&s->real, n) &&
                jt_locality_sums_new(&s->shuffled, n);
    for (int g = 0; g < 2; g++) {
        s->counts[g] = jt_calloc(n * r->groups[g].n, sizeof *s->counts[g]);
        good = good && s->counts[g];
        if (!(r->info.trace.columns >> JT_TRACE_SCORE & 1) || site->n_rows != (int)n)
            continue;
        s->half[g].load = jt_calloc(n, sizeof *s->half[g].load);
        s->half[g].score = jt_calloc(n, sizeof *s->half[g].score);
        good = good && s->half[g].load && s->half[g].score;
    }
    return good && jt_locality_new(&s->locality, (int)n, site->k, NULL) == JT_OK;
}

static jt_status prepare(jt_report *r, const jt_report_options *o, jt_err *err)
{
    const jt_trace_info *info = &r->info.trace;
    size_t most = 0, all = 0;
    if (!info->tokens)
        return jt_fail(err, JT_E_ARG, "'%s' has no tokens", info->path);
    for (int i = 0; i < info->n_layers; i++) {
        size_t n = (size_t)info->layers[i].n_experts;
        most = n > most ? n : most;
        all += n;
    }
    if (all > REPORT_MAX_EXPERTS)
        return jt_fail(err, JT_E_LIMIT, "'%s' has %zu experts, a report takes %d",
                       info->path, all, REPORT_MAX_EXPERTS);
    JT_TRY(jt_report_label_groups(&r->groups[0], r->trace, err));
    if (o->model) {
        JT_TRY(jt_trace_check_model(r->trace, o->model, err));
        const jt_tokenizer *tokenizer = jt_model_tokenizer(o->model);
        if (!tokenizer)
            return jt_fail(err, JT_E_UNSUPPORTED, "the model has no tokenizer");
        JT_TRY(jt_report_class_groups(&r->groups[1], tokenizer, err));
    }
    JT_TRY(jt_report_sample_new(&r->sample, info->tokens, (size_t)info->n_slots,
                                o->sample ? o->sample : 16384, err));
    size_t layers = (size_t)info->n_layers;
    r->layers = jt_calloc(layers, sizeof *r->layers);
    r->sums = jt_calloc(layers, sizeof *r->sums);
    bool good = r->layers && r->sums && jt_locality_sums_new(&r->real, most) &&
                jt_locality_sums_new(&r->shuffled, most);
    for (size_t i = 0; i < layers && good; i++)
        good = new_layer(r, &r->sums[i], &info->layers[i]);
    return good ? jt_pool_new(&r->pool, o->threads, err)
                : jt_fail_memory(err, "making a report");
}

static jt_status gather(jt_report *r, const jt_report_options *o, jt_err *err)
{
    size_t layers = (size_t)r->info.trace.n_layers;
    JT_TRY(prepare(r, o, err));
    JT_TRY(walk_trace(r, &o->progress, err));
    jt_pool_run(r->pool, measure_sample, r, layers);
    jt_pool_run(r->pool, settle_layer, r, layers);
    for (size_t i = 0; i < layers; i++) {
        if (r->sums[i].failed)
            return jt_fail_memory(err, "making a report");
    }
    settle_whole(r);
    return JT_OK;
}

jt_status jt_report_new(jt_report **out, jt_trace *trace,
                        const jt_report_options *options, jt_err *err)
{
    jt_report_options o = options ? *options : (jt_report_options){0};
    jt_report *r = jt_calloc(1, sizeof *r);
    if (!r)
        return jt_fail_memory(err, "making a report");
    r->trace = trace;
    jt_trace_describe(trace, &r->info.trace);
    jt_status status = gather(r, &o, err);
    if (status != JT_OK) {
        jt_report_free(r);
        return status;
    }
    *out = r;
    return JT_OK;
}

static void free_layer(layer_sums *s)
{
    jt_locality_free(s->locality);
    jt_locality_sums_free(&s->real);
    jt_locality_sums_free(&s->shuffled);
    free(s->load);
    free(s->row);
    free(s->marked);
    for (int g = 0; g < 2; g++) {
        free(s->counts[g]);
        free(s->half[g].load);
        free(s->half[g].score);
    }
}

void jt_report_free(jt_report *r)
{
    if (!r)
        return;
    for (int i = 0; r->sums && i < r->info.trace.n_layers; i++)
        free_layer(&r->sums[i]);
    for (int g = 0; g < 2; g++)
        free(r->groups[g].of_id);
    jt_locality_sums_free(&r->real);
    jt_locality_sums_free(&r->shuffled);
    jt_report_sample_free(&r->sample);
    jt_pool_free(r->pool);
    free(r->layers);
    free(r->sums);
    free(r);
}

const jt_report_info *jt_report_about(const jt_report *r)
{
    return &r->info;
}

const jt_report_layer *jt_report_layers(const jt_report *r)
{
    return r->layers;
}

jt_status jt_report_check_same(const jt_report *const *reports, size_t n, jt_err *err)
{
    for (size_t i = 1; i < n; i++) {
        const jt_trace_info *a = &reports[0]->info.trace, *b = &reports[i]->info.trace;
        if (a->fingerprint != b->fingerprint || a->n_layers != b->n_layers ||
            a->n_rows != b->n_rows || a->n_slots != b->n_slots)
            return jt_fail(err, JT_E_UNSUPPORTED,
                           "'%s' is a trace of another model than '%s'", b->path,
                           a->path);
    }
    return JT_OK;
}
