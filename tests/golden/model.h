/* The golden models, opened by name. For files that have included cmocka. */
#ifndef TEST_GOLDEN_MODEL_H
#define TEST_GOLDEN_MODEL_H

#include <stdio.h>
#include <stdlib.h>

#include "junto/junto.h"

/* NULL where it cannot be opened; then it says why. */
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

#endif
