#include "common.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

const cli_option cli_context_options[] = {
    {.flags = "-c --ctx-size --ctx",
     .kind = CLI_INT,
     .value = "N",
     .offset = offsetof(jt_session_options, n_ctx),
     .min = -1,
     .max = 1 << 24,
     .help =
         "tokens of context; -1: all that the model was trained for (default: 4096, "
         "or the model's if that is less)"},
    {0}};

const cli_option cli_threads_options[] = {
    {.flags = "-t --threads",
     .kind = CLI_INT,
     .value = "N",
     .offset = offsetof(jt_session_options, threads),
     .min = 1,
     .max = 4096,
     .help = "threads (default: all processors)"},
    {0}};

#define CACHE_TYPES "f16|f32|q8_0|q4_0"

const cli_option cli_kernel_options[] = {
    {.flags = "-b --chunk --batch-size --ubatch-size",
     .kind = CLI_INT,
     .value = "N",
     .offset = offsetof(jt_session_options, chunk),
     .min = 1,
     .max = 1 << 20,
     .help = "prompt tokens per pass (default: 256)"},
    {.flags = "--cache-type",
     .kind = CLI_CHOICE,
     .value = CACHE_TYPES,
     .offset = offsetof(jt_session_options, kv_type),
     .help = "type of the keys and values that are kept (default: f16)"},
    {.flags = "--cache-type-k -ctk",
     .kind = CLI_CHOICE,
     .value = CACHE_TYPES,
     .offset = offsetof(jt_session_options, k_type),
     .help = "type of the keys (default: --cache-type)"},
    {.flags = "--cache-type-v -ctv",
     .kind = CLI_CHOICE,
     .value = CACHE_TYPES,
     .offset = offsetof(jt_session_options, v_type),
     .help = "type of the values (default: --cache-type)"},
    {.flags = "--cpu",
     .kind = CLI_CHOICE,
     .value = "scalar|avx2|avx512|neon|dotprod",
     .offset = offsetof(jt_session_options, cpu),
     .help = "kernels to use (default: $JUNTO_CPU, or the best of this processor)"},
    {.flags = "--no-repack",
     .kind = CLI_FLAG,
     .offset = offsetof(jt_session_options, no_repack),
     .help = "read the weights as they lie in the file: slower, with less memory"},
    {0}};

jt_status cli_load(cli_model *out, const char *path, bool text, jt_err *err)
{
    static const jt_store_options mapped;
    return cli_load_stored(out, path, text, &mapped, err);
}

jt_status cli_load_stored(cli_model *out, const char *path, bool text,
                          const jt_store_options *store, jt_err *err)
{
    *out = (cli_model){0};
    double start = cli_seconds();
    JT_TRY(store->ram || store->bits ? jt_model_load_apart(&out->model, path, err)
                                     : jt_model_load(&out->model, path, err));
    out->seconds = cli_seconds() - start;
    jt_model_describe(out->model, &out->info);
    out->tokenizer = jt_model_tokenizer(out->model);
    if (!text || out->tokenizer)
        return JT_OK;
    cli_unload(out);
    return jt_fail(err, JT_E_UNSUPPORTED, "'%s' has no tokenizer", path);
}

void cli_unload(cli_model *model)
{
    for (size_t i = 0; i < model->n_adapters; i++)
        jt_adapter_free(model->adapters[i]);
    free(model->adapters);
    jt_model_free(model->model);
    *model = (cli_model){0};
}

jt_status cli_new_session(jt_session **out, const cli_model *model,
                          const jt_session_options *options, const char *flag,
                          jt_err *err)
{
    jt_status status = jt_session_new(out, model->model, options, err);
    return status == JT_E_ARG ? jt_fail_within(err, status, "%s", flag) : status;
}

static jt_status read_stream(FILE *in, char **text, size_t *len, const char *path,
                             jt_err *err)
{
    enum { LIMIT = 1 << 30 };
    size_t capacity = 0, used = 0;
    char *data = NULL;
    for (;;) {
        if (capacity - used < 2) {
            capacity = capacity ? 2 * capacity : 1 << 16;
            char *larger = capacity <= 2u * LIMIT ? realloc(data, capacity) : NULL;
            if (!larger) {
                free(data);
                return jt_fail(err, JT_E_MEMORY, "out of memory while reading '%s'",
                               path);
            }
            data = larger;
        }
        size_t got = fread(data + used, 1, capacity - used - 1, in);
        used += got;
        if (!got || used > LIMIT)
            break;
    }
    if (ferror(in) || used > LIMIT) {
        int reason = errno;
        free(data);
        if (used > LIMIT)
            return jt_fail(err, JT_E_LIMIT, "'%s' is longer than 1 GiB", path);
        return jt_fail(err, JT_E_IO, "cannot read '%s': %s", path, strerror(reason));
    }
    data[used] = '\0';
    *text = data;
    *len = used;
    return JT_OK;
}

jt_status cli_read_text(char **text, size_t *len, const char *path, jt_err *err)
{
    if (!strcmp(path, "-"))
        return read_stream(stdin, text, len, "standard input", err);
    FILE *in = fopen(path, "rb");
    if (!in)
        return jt_fail(err, JT_E_IO, "cannot open '%s': %s", path, strerror(errno));
    jt_status status = read_stream(in, text, len, path, err);
    fclose(in);
    return status;
}

uint64_t cli_seed(int64_t wanted)
{
    uint32_t fresh;
    if (wanted >= 0)
        return (uint64_t)wanted;
    if (getrandom(&fresh, sizeof fresh, 0) != sizeof fresh)
        fresh = (uint32_t)time(NULL); /* no source of chance: the time must do */
    return fresh;
}

jt_status cli_write(const char *text, size_t len, jt_err *err)
{
    if (fwrite(text, 1, len, stdout) == len && !fflush(stdout))
        return JT_OK;
    return jt_fail(err, JT_E_IO, "cannot write to standard output: %s",
                   strerror(errno));
}

static cli_size show(double value, double step, const char *const *units)
{
    cli_size out;
    while (value >= 0.9995 * step && units[1]) {
        value /= step;
        units++;
    }
    bool whole = value >= 99.95 || value == floor(value);
    snprintf(out.text, sizeof out.text, whole ? "%.0f%s" : "%.1f%s", value, *units);
    return out;
}

cli_size cli_show_bytes(double bytes)
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", NULL};
    return show(bytes, 1024, units);
}

cli_size cli_show_count(double count)
{
    static const char *const units[] = {"", " K", " M", " B", " T", NULL};
    return show(count, 1000, units);
}

/* Bytes of the UTF-8 character at `p`, 0 when there is none in the `left` bytes. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len > left)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool surrogate = p[0] == 0xed && p[1] > 0x9f;
    bool too_large = p[0] == 0xf4 && p[1] > 0x8f;
    return overlong || surrogate || too_large ? 0 : len;
}

json_t *cli_json_text(const char *text, size_t len)
{
    char *clean = malloc(3 * len + 1);
    if (!clean)
        return NULL;
    size_t used = 0;
    for (size_t i = 0; i < len;) {
        size_t n = utf8_length((const unsigned char *)text + i, len - i);
        memcpy(clean + used, n ? text + i : "\xef\xbf\xbd", n ? n : 3);
        used += n ? n : 3;
        i += n ? n : 1;
    }
    json_t *json = json_stringn(clean, used);
    free(clean);
    return json;
}

json_t *cli_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

int cli_print_json(cli_context *cli, json_t *json)
{
    jt_err err = {0};
    if (!json) {
        jt_fail(&err, JT_E_MEMORY, "out of memory while writing JSON");
        return cli_fail(cli, &err);
    }
    char *line = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(10));
    json_decref(json);
    jt_status status =
        line ? JT_OK : jt_fail(&err, JT_E_MEMORY, "out of memory while writing JSON");
    if (status == JT_OK)
        status = cli_write(line, strlen(line), &err);
    if (status == JT_OK)
        status = cli_write("\n", 1, &err);
    free(line);
    return status == JT_OK ? CLI_DONE : cli_fail(cli, &err);
}

jt_status cli_read_keys(char **keys, const char *path, jt_err *err)
{
    const char *given = getenv("JUNTO_API_KEY");
    size_t len;
    *keys = NULL;
    if (path)
        JT_TRY(cli_read_text(keys, &len, path, err));
    else if (given && *given)
        *keys = strdup(given);
    else
        return JT_OK;
    if (!*keys)
        return jt_fail(err, JT_E_MEMORY, "out of memory for keys");
    return (*keys)[strspn(*keys, "\r\n")]
               ? JT_OK
               : jt_fail(err, JT_E_ARG, "--api-key-file: '%s' is empty", path);
}

jt_status cli_read_key(char **key, const char *path, jt_err *err)
{
    JT_TRY(cli_read_keys(key, path, err));
    if (*key) {
        size_t start = strspn(*key, "\r\n"), len = strcspn(*key + start, "\r\n");
        memmove(*key, *key + start, len);
        (*key)[len] = '\0';
    }
    return JT_OK;
}
