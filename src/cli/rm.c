/* junto rm: take models off the shelf. */
#include "common.h"
#include "verbs.h"

struct rm_args {
    cli_common common;
    cli_list names;
};

static const cli_option operands[] = {{.flags = "NAME",
                                       .kind = CLI_LIST,
                                       .required = true,
                                       .offset = offsetof(struct rm_args, names),
                                       .help = "models, as junto list names them"},
                                      {0}};

static int run(cli_context *cli, const void *raw)
{
    const struct rm_args *args = raw;
    for (size_t i = 0; i < args->names.count; i++) {
        jt_err err = {0};
        if (jt_shelf_remove(args->names.items[i], &err) != JT_OK)
            return cli_fail(cli, &err);
        cli_note(cli, "removed %s", args->names.items[i]);
    }
    return CLI_DONE;
}

static const cli_group groups[] = {{"Flags", cli_common_options, 0}, {0}};

static const char *const examples[] = {"junto rm org/model/model-q4_k",
                                       "delete a model that was pulled", NULL};

const cli_verb cli_verb_rm = {
    .name = "rm",
    .section = "Shelf",
    .summary = "take models off the shelf",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct rm_args),
    .run = run,
};
