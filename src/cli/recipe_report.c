/* What a recipe found, for people and as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "recipe.h"

static const double *values(const jt_recipe_result *r, size_t variant, size_t metric)
{
    return r->value + (variant * r->n_metrics + metric) * (size_t)r->seeds;
}

/* ---- the table ---- */

enum { CELL = 40 };

/* "2.3141 ± 0.0120", with as many digits as the size asks for. */
static void show(char cell[CELL], const double *value, int seeds)
{
    double mean, sd;
    jt_spread(value, (size_t)seeds, &mean, &sd);
    double size = fabs(mean);
    int digits = size >= 1000.0 ? 0 : size >= 100.0 ? 1 : size >= 10.0 ? 2 : 4;
    if (isnan(mean))
        snprintf(cell, CELL, "-");
    else if (isnan(sd))
        snprintf(cell, CELL, "%.*f", digits, mean);
    else
        snprintf(cell, CELL, "%.*f ± %.*f", digits, mean, digits, sd);
}

/* Columns that the text takes on a terminal: a character may have several bytes. */
static int columns(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += (*text & 0xC0) != 0x80;
    return n;
}

static void print_cell(const char *text, int width)
{
    printf(" %s%*s |", text, width - columns(text), "");
}

static int widest_metric(const jt_recipe_info *info)
{
    int width = 0;
    for (const char *const *m = info->table; *m; m++)
        width = columns(*m) > width ? columns(*m) : width;
    return width;
}

static bool find_metric(const jt_recipe_result *r, const char *name, size_t *out)
{
    for (size_t m = 0; m < r->n_metrics; m++) {
        if (!strcmp(r->metric[m], name)) {
            *out = m;
            return true;
        }
    }
    return false;
}

static void print_table(const jt_recipe_info *info, const jt_recipe_result *r)
{
    enum { WIDTH = 17 };
    int first = widest_metric(info);
    printf("|");
    print_cell("", first);
    for (size_t v = 0; v < r->n_variants; v++)
        print_cell(r->variant[v], WIDTH);
    printf("\n|");
    print_cell("---", first);
    for (size_t v = 0; v < r->n_variants; v++)
        print_cell("---", WIDTH);
    printf("\n");
    for (const char *const *name = info->table; *name; name++) {
        size_t m;
        if (!find_metric(r, *name, &m))
            continue;
        printf("|");
        print_cell(*name, first);
        for (size_t v = 0; v < r->n_variants; v++) {
            char cell[CELL];
            show(cell, values(r, v, m), r->seeds);
            print_cell(cell, WIDTH);
        }
        printf("\n");
    }
}

void recipe_print(const jt_recipe_info *info, const jt_recipe_result *r)
{
    print_table(info, r);
    printf("\nMean ± standard deviation over %d seed%s, from %d.\n\n", r->seeds,
           r->seeds == 1 ? "" : "s", r->first_seed);
    for (size_t i = 0; i < r->n_claims; i++) {
        const jt_claim_result *c = &r->claim[i];
        printf("- **%s**: %s\n  (`%s`", jt_verdict_text(c->verdict), info->claim[i],
               info->condition[i]);
        if (c->judged)
            printf(": in %d of %d seeds, margin %.4g", c->holds, c->judged, c->mean);
        if (!isnan(c->sd))
            printf(" ± %.2g", c->sd);
        printf(")\n");
    }
}

/* ---- JSON ---- */

static json_t *metrics_json(const jt_recipe_result *r, size_t variant)
{
    json_t *metrics = json_object();
    for (size_t m = 0; m < r->n_metrics; m++) {
        const double *value = values(r, variant, m);
        json_t *list = json_array();
        double mean, sd;
        jt_spread(value, (size_t)r->seeds, &mean, &sd);
        for (int s = 0; s < r->seeds; s++)
            json_array_append_new(list, cli_json_number(value[s]));
        if (isnan(mean))
            json_decref(list);
        else
            json_object_set_new(metrics, r->metric[m],
                                json_pack("{s:o, s:o, s:o}", "mean",
                                          cli_json_number(mean), "sd",
                                          cli_json_number(sd), "seeds", list));
    }
    return metrics;
}

int recipe_print_json(cli_context *cli, const jt_recipe_info *info,
                      const jt_recipe_result *r)
{
    json_t *variants = json_object(), *claims = json_array();
    for (size_t v = 0; v < r->n_variants; v++)
        json_object_set_new(variants, r->variant[v], metrics_json(r, v));
    for (size_t i = 0; i < r->n_claims; i++) {
        const jt_claim_result *c = &r->claim[i];
        json_array_append_new(
            claims, json_pack("{s:s, s:s, s:s, s:i, s:i, s:o, s:o}", "text",
                              info->claim[i], "condition", info->condition[i],
                              "verdict", jt_verdict_text(c->verdict), "holds", c->holds,
                              "judged", c->judged, "mean", cli_json_number(c->mean),
                              "sd", cli_json_number(c->sd)));
    }
    return cli_print_json(cli, json_pack("{s:s, s:i, s:i, s:f, s:o, s:o}", "name",
                                         info->name, "seeds", r->seeds, "first_seed",
                                         r->first_seed, "seconds", r->seconds,
                                         "variants", variants, "claims", claims));
}
