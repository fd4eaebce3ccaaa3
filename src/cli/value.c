#include "value.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "junto/store.h"

static jt_status out_of_range(const char *flag, const char *text, double min,
                              double max, jt_err *err)
{
    return jt_fail(err, JT_E_ARG, "%s: '%s' is out of range (%.10g to %.10g)", flag,
                   text, min, max);
}

static jt_status read_whole(long long *value, const char *flag, const char *text,
                            double min, double max, jt_err *err)
{
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (end == text || *end || isspace((unsigned char)text[0]))
        return jt_fail(err, JT_E_ARG, "%s: '%s' is not a whole number", flag, text);
    if (errno || (double)*value < min || (double)*value > max)
        return out_of_range(flag, text, min, max, err);
    return JT_OK;
}

static jt_status read_int(int *value, const cli_option *option, const char *flag,
                          const char *text, jt_err *err)
{
    bool free_range = option->min == 0 && option->max == 0;
    long long whole;
    JT_TRY(read_whole(&whole, flag, text, free_range ? INT_MIN : option->min,
                      free_range ? INT_MAX : option->max, err));
    *value = (int)whole;
    return JT_OK;
}

static jt_status read_float(float *value, const cli_option *option, const char *flag,
                            const char *text, jt_err *err)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || isspace((unsigned char)text[0]) || !isfinite(number))
        return jt_fail(err, JT_E_ARG, "%s: '%s' is not a number", flag, text);
    bool free_range = option->min == 0 && option->max == 0;
    if (!free_range && (number < option->min || number > option->max))
        return out_of_range(flag, text, option->min, option->max, err);
    *value = (float)number;
    return JT_OK;
}

static jt_status read_size(uint64_t *value, int least, const char *flag,
                           const char *text, jt_err *err)
{
    static const char units[] = "KMGT";
    char *end;
    double number = strtod(text, &end);
    bool good = end != text && isdigit((unsigned char)text[0]) && isfinite(number);
    const char *unit = good && *end ? strchr(units, toupper((unsigned char)*end)) : 0;
    if (unit) {
        number = ldexp(number, 10 * (int)(unit - units + 1));
        end++;
    }
    if (!good || (*end && strcmp(end, "B") && strcmp(end, "iB")))
        return jt_fail(err, JT_E_ARG, "%s: '%s' is not a size (as 512M or 1.5G)", flag,
                       text);
    if (number < least || number > 0x1p50)
        return jt_fail(err, JT_E_ARG, "%s: '%s' is out of range (%d to 1024T)", flag,
                       text, least);
    *value = (uint64_t)number;
    return JT_OK;
}

/* A size, or a percentage of the memory that there is. */
static jt_status read_memory(uint64_t *value, const char *flag, const char *text,
                             jt_err *err)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '%' || end[1])
        return read_size(value, 1, flag, text, err);
    uint64_t all = jt_machine_memory();
    if (!isdigit((unsigned char)text[0]) || !(number > 0 && number <= 100))
        return jt_fail(err, JT_E_ARG, "%s: '%s' is not above 0%% and up to 100%%", flag,
                       text);
    if (!all)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "%s: the system does not say how much memory there is; give a "
                       "size",
                       flag);
    *value = (uint64_t)((double)all * number / 100.0);
    return JT_OK;
}

static jt_status read_choice(const char **value, const cli_option *option,
                             const char *flag, const char *text, jt_err *err)
{
    size_t len = strlen(text);
    for (const char *word = option->value; word;) {
        const char *bar = strchr(word, '|');
        size_t word_len = bar ? (size_t)(bar - word) : strlen(word);
        if (len == word_len && !memcmp(word, text, len)) {
            *value = text;
            return JT_OK;
        }
        word = bar ? bar + 1 : NULL;
    }
    return jt_fail(err, JT_E_ARG, "%s: '%s' is not one of %s", flag, text,
                   option->value);
}

static jt_status add_item(cli_list *list, const char *text, jt_err *err)
{
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return jt_fail(err, JT_E_MEMORY, "out of memory while reading the arguments");
    list->items = items;
    list->items[list->count++] = text;
    return JT_OK;
}

/* One more than this is the most numbers that `text` can hold. */
static size_t count_separators(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += strchr(", \t\r\n", *text) != NULL;
    return count;
}

/* Read the number at *p and move on to the next one. */
static jt_status next_int(const char **p, int32_t *value, double min, double max,
                          const char *what, jt_err *err)
{
    size_t len = strcspn(*p, ", \t\r\n");
    char word[32];
    if (len >= sizeof word)
        return jt_fail(err, JT_E_ARG, "%s: '%.20s...' is not a whole number", what, *p);
    memcpy(word, *p, len);
    word[len] = '\0';
    long long whole;
    JT_TRY(read_whole(&whole, what, word, min, max, err));
    *value = (int32_t)whole;
    *p += len;
    *p += strspn(*p, " \t\r\n");
    *p += **p == ',';
    *p += strspn(*p, " \t\r\n");
    return JT_OK;
}

jt_status cli_parse_ints(cli_ints *out, const char *text, double min, double max,
                         const char *what, jt_err *err)
{
    const char *p = text + strspn(text, " \t\r\n");
    if (!*p)
        return jt_fail(err, JT_E_ARG, "%s: '%s' has no numbers", what, text);
    cli_ints list = {malloc((count_separators(text) + 1) * sizeof *list.items), 0};
    if (!list.items)
        return jt_fail(err, JT_E_MEMORY, "out of memory while reading %s", what);
    while (*p) {
        jt_status status = next_int(&p, &list.items[list.count], min, max, what, err);
        if (status != JT_OK) {
            free(list.items);
            return status;
        }
        list.count++;
    }
    free(out->items);
    *out = list;
    return JT_OK;
}

jt_status cli_store(const cli_option *option, void *field, const char *flag,
                    const char *text, jt_err *err)
{
    switch (option->kind) {
    case CLI_FLAG:
        *(bool *)field = true;
        return JT_OK;
    case CLI_SWITCH:
    case CLI_INT:
        return read_int(field, option, flag, text, err);
    case CLI_FLOAT:
        return read_float(field, option, flag, text, err);
    case CLI_SEED: {
        long long seed;
        JT_TRY(read_whole(&seed, flag, text, -1, (double)LLONG_MAX, err));
        *(int64_t *)field = seed;
        return JT_OK;
    }
    case CLI_SIZE:
        return read_size(field, (int)option->min, flag, text, err);
    case CLI_MEMORY:
        return read_memory(field, flag, text, err);
    case CLI_STRING:
    case CLI_PATH:
        *(const char **)field = text;
        return JT_OK;
    case CLI_CHOICE:
        return read_choice(field, option, flag, text, err);
    case CLI_LIST:
        return add_item(field, text, err);
    case CLI_INTS:
        return cli_parse_ints(field, text, option->min, option->max, flag, err);
    }
    return JT_OK;
}
