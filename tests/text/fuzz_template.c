/* Any bytes as a template: refused with a message, or rendered within its bounds. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "junto/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
    if (!condition)
        abort();
}

static void check_refusal(jt_status status, const jt_err *err)
{
    check(err->code == status && err->msg[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char values[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"h\\u00e9\"}, {\"role\": "
        "\"assistant\", \"content\": [{\"type\": \"text\", \"text\": \"x\"}]}], \"n\": "
        "3, "
        "\"x\": 1.5, \"yes\": true, \"nothing\": null, \"tools\": [{\"a\": {\"b\": "
        "[]}}]}";
    jt_template_value all = {.data = values, .len = sizeof values - 1};
    jt_template_limits limits = {.steps = 20000, .bytes = 4 << 20, .now = 1760000000};
    jt_err err = {0};
    jt_template *t;
    char *text;
    size_t len;
    jt_status status = jt_template_new(&t, (const char *)data, size, &err);
    if (status != JT_OK) {
        check_refusal(status, &err);
        return 0;
    }
    status = jt_template_render(t, &all, 1, &limits, &text, &len, &err);
    if (status != JT_OK)
        check_refusal(status, &err);
    else
        free(text);
    jt_template_free(t);
    return 0;
}
