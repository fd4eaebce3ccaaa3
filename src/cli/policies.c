#include <string.h>

#include "common.h"
#include "verbs.h"

struct policies_args {
    cli_common common;
    bool json;
};

static const cli_option options[] = {{.flags = "--json",
                                      .kind = CLI_FLAG,
                                      .offset = offsetof(struct policies_args, json),
                                      .help = "one JSON object instead of text"},
                                     {0}};

static void print_keys(size_t policy)
{
    jt_policy_key key;
    for (size_t i = 0; jt_policy_describe_key(policy, i, &key); i++) {
        printf("    %s=%s  %s", key.name, key.value, key.help);
        if (!key.initial)
            printf(" (must be given)");
        else if (*key.initial)
            printf(" (default: %s)", key.initial);
        printf("\n");
    }
}

static void print_text(void)
{
    jt_policy_info info;
    for (size_t i = 0; jt_policy_describe(i, &info); i++) {
        printf("%s%s\n    %s", i ? "\n" : "", info.name, info.summary);
        printf(info.source ? " (%s)\n" : "\n", info.source);
        print_keys(i);
    }
}

static json_t *keys_json(size_t policy)
{
    jt_policy_key key;
    json_t *list = json_array();
    for (size_t i = 0; jt_policy_describe_key(policy, i, &key); i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s?, s:b, s:s}", "name", key.name,
                                        "value", key.value, "initial", key.initial,
                                        "required", !key.initial, "help", key.help));
    return list;
}

static json_t *policies_json(void)
{
    jt_policy_info info;
    json_t *list = json_array();
    for (size_t i = 0; jt_policy_describe(i, &info); i++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s?, s:o}", "name", info.name, "summary",
                            info.summary, "source", info.source, "keys", keys_json(i)));
    return json_pack("{s:o}", "policies", list);
}

static int run(cli_context *cli, const void *raw)
{
    const struct policies_args *args = raw;
    if (args->json)
        return cli_print_json(cli, policies_json());
    print_text();
    return CLI_DONE;
}

static const cli_group groups[] = {
    {"Flags", options, 0}, {NULL, cli_common_options, 0}, {0}};

static const char *const examples[] = {
    "junto policies", "what --policy of run, chat, perplexity, logits and bench takes",
    NULL};

const cli_verb cli_verb_policies = {
    .name = "policies",
    .section = "Look",
    .summary = "list the policies that steer which experts work",
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct policies_args),
    .run = run,
};
