/* Any bytes as an adapter: a file of Junto or of llama.cpp, or, where they begin with
 * '{', the two files of a PEFT folder with a NUL between them. Refused with a message,
 * or attached to a model that then runs. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "junto/session.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const jt_model *the_model(void)
{
    static jt_model *model;
    char path[512];
    jt_err err = {0};
    const char *tests = getenv("JUNTO_TEST_DATA");
    snprintf(path, sizeof path, "%s/golden/mixtral.gguf", tests ? tests : "tests");
    if (!model && jt_model_load(&model, path, &err) != JT_OK) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    return model;
}

static jt_status open_adapter(jt_adapter **out, const uint8_t *data, size_t size,
                              jt_err *err)
{
    const uint8_t *end = size && *data == '{' ? memchr(data, 0, size) : NULL;
    if (!end)
        return jt_adapter_open_memory(out, data, size, the_model(), err);
    size_t text = (size_t)(end - data);
    return jt_adapter_read_peft_memory(out, (const char *)data, text, end + 1,
                                       size - text - 1, the_model(), err);
}

static void use(const jt_adapter *a)
{
    jt_session *s;
    jt_err err = {0};
    jt_adapter_info info;
    jt_adapter_target_info t;
    jt_session_options o = {.threads = 1, .n_ctx = 8};
    jt_adapter_describe(a, &info);
    for (size_t i = 0; i < info.n_targets; i++)
        jt_adapter_target_at(a, i, &t);
    WALK_CHECK(jt_session_new(&s, the_model(), &o, &err) == JT_OK);
    if (jt_session_add_adapter(s, a, 1.0f, &err) == JT_OK)
        WALK_CHECK(jt_session_eval(s, (int32_t[]){1, 2}, 2, NULL, &err) == JT_OK);
    jt_session_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    jt_err err = {0};
    jt_adapter *a = NULL;
    jt_status status = open_adapter(&a, data, size, &err);
    if (status == JT_OK) {
        use(a);
        jt_adapter_free(a);
    } else {
        WALK_CHECK(!a && err.code == status && err.msg[0]);
        for (const char *p = err.msg; *p; p++)
            WALK_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
    }
    return 0;
}
