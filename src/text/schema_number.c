/* Numbers of JSON schemas: between bounds, by their digits. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/schema.h"

/* Integers have at most so many digits. */
enum { DIGITS = 15 };
static const long long most_number = 999999999999999;

typedef struct bounds {
    long long low, high;      /* -most_number, most_number: none */
    bool low_open, high_open; /* the bound itself is out */
} bounds;

/* Digits low..high [n] of numbers of one length. */
static void write_digits(FILE *out, const char *low, const char *high, size_t n)
{
    bool from_first = strspn(low, "0") >= n, to_last = strspn(high, "9") >= n;
    if (n == 0) {
        fputs("\"\"", out);
    } else if (from_first && to_last) {
        fprintf(out, "[0-9]{%zu}", n);
    } else if (*low == *high) {
        fprintf(out, "\"%c\" ", *low);
        write_digits(out, low + 1, high + 1, n - 1);
    } else {
        static const char zeros[] = "000000000000000", nines[] = "999999999999999";
        from_first = strspn(low + 1, "0") >= n - 1;
        to_last = strspn(high + 1, "9") >= n - 1;
        char from = (char)(*low + !from_first), to = (char)(*high - !to_last);
        fputc('(', out);
        if (from <= to)
            fprintf(out, "[%c-%c] [0-9]{%zu}%s", from, to, n - 1,
                    from_first && to_last ? "" : " | ");
        if (!from_first) {
            fprintf(out, "\"%c\" ", *low);
            write_digits(out, low + 1, nines, n - 1);
            fputs(to_last ? "" : " | ", out);
        }
        if (!to_last) {
            fprintf(out, "\"%c\" ", *high);
            write_digits(out, zeros, high + 1, n - 1);
        }
        fputc(')', out);
    }
}

/* The whole numbers low..high, 0 <= low <= high, of all lengths. */
static void write_range(FILE *out, long long low, long long high)
{
    fputc('(', out);
    for (long long from = low, top = 9;; from = top + 1, top = top * 10 + 9) {
        while (top < from)
            top = top * 10 + 9;
        long long to = high < top ? high : top;
        char a[DIGITS + 2], b[DIGITS + 2];
        int n = snprintf(a, sizeof a, "%lld", from);
        snprintf(b, sizeof b, "%lld", to);
        if (from == 0 && to > 0) { /* no zeros at the front of others */
            fputs("\"0\" | ", out);
            a[0] = '1';
        }
        write_digits(out, a, b, (size_t)n);
        if (to == high)
            break;
        fputs(" | ", out);
    }
    fputc(')', out);
}

/* Numbers of one sign: low..high, with fractions if `real`. */
static void write_side(jt_schema_writer *w, bounds b, bool real)
{
    if (!real) {
        write_range(w->out, b.low, b.high);
        return;
    }
    long long from = b.low + b.low_open;
    fputc('(', w->out);
    if (b.low_open)
        fprintf(w->out, "\"%lld.\" [0-9]{0,14} [1-9]%s", b.low,
                from < b.high || !b.high_open ? " | " : "");
    if (from < b.high) {
        write_range(w->out, from, b.high - 1);
        fprintf(w->out, " fraction?%s", b.high_open ? "" : " | ");
    }
    if (!b.high_open)
        fprintf(w->out, "\"%lld\"", b.high);
    fputc(')', w->out);
}

static bool is_empty(bounds b)
{
    return b.low > b.high || (b.low == b.high && (b.low_open || b.high_open));
}

static jt_status read_bound(jt_schema_writer *w, const json_t *schema, const char *name,
                            bool real, long long *bound, bool *found)
{
    const json_t *value = json_object_get(schema, name);
    double number = json_number_value(value);
    *found = value != NULL;
    if (!value)
        return JT_OK;
    if (!json_is_number(value) || fabs(number) > (double)most_number)
        return jt_schema_refuse(w, JT_E_UNSUPPORTED, "'%s' is no number of %d digits",
                                name, DIGITS);
    if (real && number != floor(number))
        return jt_schema_refuse(w, JT_E_UNSUPPORTED, "'%s' with a fraction", name);
    *bound = (long long)floor(number);
    return JT_OK;
}

/* The bounds of a schema; of whole numbers, no bound is open. */
static jt_status read_bounds(jt_schema_writer *w, const json_t *schema, bool real,
                             bounds *b)
{
    long long bound = 0;
    bool found;
    *b = (bounds){-most_number, most_number, false, false};
    JT_TRY(read_bound(w, schema, "minimum", real, &bound, &found));
    double least = json_number_value(json_object_get(schema, "minimum"));
    if (found)
        b->low = bound + (least > (double)bound);
    JT_TRY(read_bound(w, schema, "maximum", real, &bound, &found));
    if (found)
        b->high = bound;
    JT_TRY(read_bound(w, schema, "exclusiveMinimum", real, &bound, &found));
    if (found && bound >= b->low) {
        b->low = bound + !real;
        b->low_open = real;
    }
    JT_TRY(read_bound(w, schema, "exclusiveMaximum", real, &bound, &found));
    double above = json_number_value(json_object_get(schema, "exclusiveMaximum"));
    long long highest = bound - (!real && above <= (double)bound);
    if (found && (highest < b->high || (real && highest == b->high))) {
        b->high = highest;
        b->high_open = real;
    }
    return JT_OK;
}

jt_status jt_schema_number(jt_schema_writer *w, const json_t *schema, bool real,
                           jt_schema_rule *rule)
{
    bounds b;
    JT_TRY(read_bounds(w, schema, real, &b));
    if (b.low == -most_number && b.high == most_number) {
        *rule = (jt_schema_rule){{0}};
        snprintf(rule->name, sizeof rule->name, "%s", real ? "number" : "integer");
        return JT_OK;
    }
    bounds minus = {b.high < 0 ? -b.high : !real, -b.low, b.high < 0 && b.high_open,
                    b.low_open};
    bounds plus = {b.low > 0 ? b.low : 0, b.high, b.low >= 0 && b.low_open,
                   b.high_open};
    bool has_minus = b.low < 0 && !is_empty(minus), has_plus = !is_empty(plus);
    if (!has_minus && !has_plus)
        return jt_schema_refuse(w, JT_E_FORMAT, "no number is between its bounds");
    JT_TRY(jt_schema_name(w, rule));
    fprintf(w->out, "%s ::= ", rule->name);
    if (has_minus) {
        fputs("\"-\" ", w->out);
        write_side(w, minus, real);
    }
    if (has_minus && has_plus)
        fputs(" | ", w->out);
    if (has_plus)
        write_side(w, plus, real);
    fputc('\n', w->out);
    return JT_OK;
}
