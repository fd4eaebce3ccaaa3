/* A golden model, and a session that policies steer. */
#ifndef TEST_STEER_GOLDEN_H
#define TEST_STEER_GOLDEN_H

#include "../golden/model.h"

typedef struct steered {
    jt_session *session;
    jt_steering *steering;
} steered;

/* `policies` ends with NULL. */
static inline steered steer(const jt_model *model, const char *const *policies,
                            const jt_session_options *options)
{
    steered s = {0};
    jt_err err = {0};
    assert_int_equal(jt_session_new(&s.session, model, options, NULL), JT_OK);
    assert_int_equal(jt_steering_new(&s.steering, model, NULL), JT_OK);
    for (size_t i = 0; policies[i]; i++) {
        if (jt_steering_add(s.steering, policies[i], &err) != JT_OK)
            fail_msg("%s", err.msg);
    }
    if (jt_steering_attach(s.steering, s.session, &err) != JT_OK)
        fail_msg("%s", err.msg);
    return s;
}

static inline void unsteer(steered *s)
{
    jt_session_free(s->session);
    jt_steering_free(s->steering);
}

#endif
