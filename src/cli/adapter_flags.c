/* --adapter, for all verbs that run a model. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

const cli_option cli_adapter_options[] = {
    {.flags = "--adapter --lora",
     .kind = CLI_LIST,
     .value = "FILE[@TASK][:SCALE]",
     .offset = 0,
     .help =
         "an adapter (of Junto or llama.cpp, or a PEFT folder), its change times a "
         "scale (default 1); may be given several times: changes add up. @TASK: the "
         "number of the task that one of kind poly shall mix its skills for"},
    {0}};

const cli_option cli_adapter_type_options[] = {
    {.flags = "--adapter-type",
     .kind = CLI_CHOICE,
     .value = "auto|exact|q8_0",
     .offset = offsetof(jt_session_options, adapter_type),
     .help =
         "how the values of adapters are kept: exactly, in 8 bits, or in 8 bits where "
         "they change weights that are quantised too (default: auto)"},
    {0}};

/* Cut "@2" off; a file that has the whole name comes first. */
static void read_task(char *path, cli_adapter_at *out)
{
    char *at = strrchr(path, '@');
    if (!at || !at[1] || strspn(at + 1, "0123456789") != strlen(at + 1) ||
        access(path, F_OK) == 0)
        return;
    out->has_task = true;
    out->task = strtoul(at + 1, NULL, 10);
    *at = '\0';
}

jt_status cli_adapter_item(const char *item, char **path, cli_adapter_at *out,
                           jt_err *err)
{
    const char *colon = strrchr(item, ':');
    char *end = NULL;
    *out = (cli_adapter_at){.scale = 1.0f};
    size_t len = strlen(item);
    if (colon && colon[1] && access(item, F_OK) != 0) {
        out->scale = strtof(colon + 1, &end);
        if (*end)
            return jt_fail(err, JT_E_ARG, "--adapter: '%s' is no scale", colon + 1);
        len = (size_t)(colon - item);
    }
    *path = strndup(item, len);
    if (!*path)
        return jt_fail(err, JT_E_MEMORY, "out of memory");
    read_task(*path, out);
    return JT_OK;
}

jt_status cli_open_adapter(cli_model *m, const char *item, jt_adapter **out,
                           float *scale, jt_err *err)
{
    char *path;
    cli_adapter_at b;
    jt_adapter **more =
        realloc(m->adapters, (m->n_adapters + 1) * sizeof(jt_adapter *));
    if (!more)
        return jt_fail(err, JT_E_MEMORY, "out of memory");
    m->adapters = more;
    JT_TRY(cli_adapter_item(item, &path, &b, err));
    jt_status status = jt_adapter_open(out, path, m->model, err);
    free(path);
    *scale = b.scale;
    if (status == JT_OK) {
        m->adapters[m->n_adapters++] = *out;
        status = b.has_task ? jt_adapter_set_task(*out, b.task, err) : JT_OK;
    }
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "--adapter");
}

static jt_status add_adapter(jt_session *session, const jt_adapter *adapter,
                             float scale, jt_err *err)
{
    jt_status status = jt_session_add_adapter(session, adapter, scale, err);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "--adapter");
}

jt_status cli_add_adapters(cli_model *m, jt_session *session, const cli_list *list,
                           jt_err *err)
{
    for (size_t i = 0; i < list->count; i++) {
        jt_adapter *adapter;
        float scale = 1.0f;
        JT_TRY(cli_open_adapter(m, list->items[i], &adapter, &scale, err));
        JT_TRY(add_adapter(session, adapter, scale, err));
    }
    return JT_OK;
}

/* Adapters come first: a session has the room that it begins with. */
static jt_status open_all(cli_model *m, const cli_list *list, float *scale,
                          jt_session_options *wanted, jt_err *err)
{
    for (size_t i = 0; i < list->count; i++) {
        jt_adapter *adapter;
        jt_adapter_info info;
        JT_TRY(cli_open_adapter(m, list->items[i], &adapter, &scale[i], err));
        jt_adapter_describe(adapter, &info);
        if (scale[i] != 0.0f && info.n_virtual < (size_t)(INT_MAX - wanted->n_ctx))
            wanted->n_ctx += (int)info.n_virtual;
    }
    return JT_OK;
}

jt_status cli_new_session_for(jt_session **out, cli_model *m, size_t tokens,
                              const jt_session_options *options, const char *flag,
                              const cli_list *adapters, jt_err *err)
{
    jt_session_options wanted = *options;
    size_t first = m->n_adapters;
    float *scale = calloc(adapters->count + 1, sizeof *scale);
    if (!scale)
        return jt_fail(err, JT_E_MEMORY, "out of memory");
    wanted.n_ctx = (int)tokens;
    jt_status status = open_all(m, adapters, scale, &wanted, err);
    if (status == JT_OK)
        status = cli_new_session(out, m, &wanted, flag, err);
    for (size_t i = 0; i < adapters->count && status == JT_OK; i++)
        status = add_adapter(*out, m->adapters[first + i], scale[i], err);
    free(scale);
    return status;
}
