#include <string.h>

#include "chat.h"
#include "value.h"

/* The long name of a sampling flag without its dashes. */
static size_t name_of(const cli_option *option, const char **name)
{
    size_t len = cli_main_flag(option, name);
    *name += 2;
    return len - 2;
}

static const cli_option *find(const char *name)
{
    for (const cli_option *o = run_sampling_options; o->flags; o++) {
        const char *rest = o->flags, *word;
        size_t len;
        while (cli_next_word(&rest, &word, &len)) {
            if (len == strlen(name) + 2 && !strncmp(word + 2, name, len - 2))
                return o;
        }
    }
    return NULL;
}

jt_status chat_set(struct run_args *args, const char *name, const char *value,
                   jt_err *err)
{
    char plain[32];
    snprintf(plain, sizeof plain, "%s", name);
    for (char *c = plain; *c; c++)
        *c = *c == '_' ? '-' : *c; /* top_p is as good as top-p */
    const cli_option *option = find(plain);
    if (!option)
        return jt_fail(err, JT_E_ARG, "unknown setting '%s' (/set lists them)", name);
    return cli_store(option, (char *)args + option->offset, plain, value, err);
}

json_t *chat_settings(const struct run_args *args)
{
    json_t *object = json_object();
    for (const cli_option *o = run_sampling_options; o->flags; o++) {
        const char *name, *field = (const char *)args + o->offset;
        char key[32];
        size_t len = name_of(o, &name);
        snprintf(key, sizeof key, "%.*s", (int)len, name);
        json_t *value;
        if (o->kind == CLI_FLOAT)
            value = json_real(*(const float *)field);
        else if (o->kind == CLI_INT)
            value = json_integer(*(const int *)field);
        else
            value = json_integer(*(const int64_t *)field);
        if (json_object_set_new(object, key, value)) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
