#include "model/params.h"

jt_status jt_params_recurrent(jt_key_reader *r, jt_recurrent_params *p)
{
    enum { MAX_SIZE = 1 << 20 };
    JT_TRY(jt_key_int(r, "ssm.conv_kernel", 0, JT_CONV_MAX_WIDTH, 0, &p->conv_width));
    JT_TRY(jt_key_int(r, "shortconv.l_cache", 0, JT_CONV_MAX_WIDTH, p->conv_width,
                      &p->conv_width));
    JT_TRY(jt_key_int(r, "ssm.inner_size", 0, MAX_SIZE, 0, &p->inner));
    JT_TRY(jt_key_int(r, "ssm.state_size", 0, MAX_SIZE, 0, &p->state));
    JT_TRY(jt_key_int(r, "ssm.time_step_rank", 0, MAX_SIZE, 0, &p->rank));
    JT_TRY(jt_key_int(r, "ssm.group_count", 0, MAX_SIZE, 1, &p->groups));
    return jt_key_int(r, "kda.head_dim", 0, MAX_SIZE, 0, &p->head_dim);
}
