/* A golden model, and a session that policies steer. */
#ifndef TEST_STEER_GOLDEN_H
#define TEST_STEER_GOLDEN_H

#include <stdio.h>
#include <stdlib.h>

#include "junto/junto.h"

static inline jt_model *golden_model(const char *name)
{
    char path[512];
    const char *data = getenv("JUNTO_TEST_DATA");
    jt_model *model = NULL;
    jt_err err;
    snprintf(path, sizeof path, "%s/golden/%s.gguf", data ? data : "tests", name);
    if (jt_model_load(&model, path, &err) != JT_OK)
        print_error("%s\n", err.msg);
    return model;
}

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
