/* --policy, for all verbs that run a model. */
#include "common.h"

const cli_option cli_policy_options[] = {
    {.flags = "--policy",
     .kind = CLI_LIST,
     .value = "NAME:KEY=VALUE,...",
     .offset = offsetof(cli_policies, list),
     .help = "steer which experts work; may be given several times, 'junto policies' "
             "lists what there is"},
    {0}};

jt_status cli_steer(jt_steering **out, const cli_policies *policies,
                    const cli_model *model, jt_session *session, jt_err *err)
{
    *out = NULL;
    if (!policies->list.count)
        return JT_OK;
    jt_steering *steering = NULL;
    jt_status status = jt_steering_new(&steering, model->model, err);
    for (size_t i = 0; i < policies->list.count && status == JT_OK; i++)
        status = jt_steering_add(steering, policies->list.items[i], err);
    if (status == JT_OK)
        status = jt_steering_attach(steering, session, err);
    if (status == JT_OK) {
        *out = steering;
        return JT_OK;
    }
    jt_steering_free(steering);
    return jt_fail_within(err, status, "--policy");
}
