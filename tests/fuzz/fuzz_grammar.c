/* Any bytes as a grammar and as a JSON schema: refused with a reason, or compiled; then
 * the same bytes are followed as a text, in bounded time and memory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "junto/grammar.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void follow(const jt_grammar *grammar, const char *text, size_t size)
{
    bool fits;
    jt_err err = {0};
    jt_status status =
        jt_grammar_match(grammar, text, size < 64 ? size : 64, &fits, &err);
    WALK_CHECK(status == JT_OK || (status == JT_E_LIMIT && err.msg[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = size ? (const char *)data : "";
    jt_grammar *grammar;
    jt_err err = {0};
    if (jt_grammar_new(&grammar, text, size, &err) == JT_OK) {
        follow(grammar, text, size);
        jt_grammar_free(grammar);
    } else {
        WALK_CHECK(err.msg[0]);
    }
    err = (jt_err){0};
    if (jt_grammar_of_schema(&grammar, text, size, &err) == JT_OK) {
        follow(grammar, "{\"a\": [1]}", 10);
        jt_grammar_free(grammar);
    } else {
        WALK_CHECK(err.msg[0]);
    }
    return 0;
}
