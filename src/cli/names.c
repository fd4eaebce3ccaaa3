#include "names.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "junto/shelf.h"

static jt_status keep(cli_names *names, char *path, jt_err *err)
{
    char **grown = realloc(names->paths, (names->count + 1) * sizeof *grown);
    if (!grown) {
        free(path);
        return jt_fail(err, JT_E_MEMORY, "out of memory for a name");
    }
    names->paths = grown;
    names->paths[names->count++] = path;
    return JT_OK;
}

static jt_status resolve(cli_names *names, const char **field, jt_err *err)
{
    char *path = NULL;
    if (!*field || strcmp(*field, "-") == 0 || access(*field, F_OK) == 0)
        return JT_OK;
    JT_TRY(jt_shelf_find(&path, *field, err));
    if (!path && strncmp(*field, "hf:", 3) == 0)
        return jt_fail(err, JT_E_ARG, "'%s' is not on the shelf: junto pull %s", *field,
                       *field);
    if (!path)
        return JT_OK; /* who opens it says what is wrong */
    JT_TRY(keep(names, path, err));
    *field = path;
    return JT_OK;
}

static jt_status resolve_all(cli_names *names, const cli_option *options, char *base,
                             jt_err *err)
{
    for (const cli_option *o = options; o && o->flags; o++) {
        if (o->is_model)
            JT_TRY(resolve(names, (const char **)(base + o->offset), err));
    }
    return JT_OK;
}

jt_status cli_names_resolve(cli_names *names, const cli_verb *verb, void *args,
                            jt_err *err)
{
    JT_TRY(resolve_all(names, verb->operands, args, err));
    for (const cli_group *g = verb->groups; g->options; g++)
        JT_TRY(resolve_all(names, g->options, (char *)args + g->base, err));
    return JT_OK;
}

void cli_names_free(cli_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->paths[i]);
    free(names->paths);
    *names = (cli_names){0};
}
