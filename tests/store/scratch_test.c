/* The estimate of scratch memory is never too small, for any family. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "families.h"
#include "model/scratch.h"
#include "run/session.h"

enum { THREADS = 2, MOST_TOKENS = 48, ROOM = 16 << 20 };

/* What a pass really took, to the byte. */
static size_t used_by(jt_session *s, const int32_t *tokens, size_t count)
{
    /* Blocks begin empty: one allocation after the pass would be behind all of it. */
    jt_arena_free(&s->ctx->scratch);
    assert_true(jt_arena_reserve(&s->ctx->scratch, ROOM));
    memset((char *)s->ctx->scratch.first + 64, 0xa5, ROOM);
    jt_err err = {0};
    if (jt_session_eval(s, tokens, count, NULL, &err) != JT_OK)
        fail_msg("%s", err.msg);
    const unsigned char *data = (unsigned char *)s->ctx->scratch.first + 64;
    size_t used = ROOM;
    while (used && data[used - 1] == 0xa5)
        used--;
    return used;
}

static double loosest;

static void check_model(const char *path)
{
    jt_err err = {0};
    jt_model *model;
    int32_t tokens[MOST_TOKENS];
    if (jt_model_load(&model, path, &err) != JT_OK)
        fail_msg("%s", err.msg);
    jt_model_info info;
    jt_model_describe(model, &info);
    for (int i = 0; i < MOST_TOKENS; i++)
        tokens[i] = (i * 37 + 11) % info.n_vocab;
    size_t before[2] = {0, 0};
    for (int count = 16; count <= MOST_TOKENS; count *= 3) {
        jt_session_options options = {.threads = THREADS, .n_ctx = MOST_TOKENS};
        jt_session *s;
        if (jt_session_new(&s, model, &options, &err) != JT_OK)
            fail_msg("%s", err.msg);
        size_t used = used_by(s, tokens, (size_t)count);
        size_t estimate = jt_scratch_bytes(model, (size_t)count, MOST_TOKENS, THREADS);
        if (used > estimate)
            fail_msg("%s, %d tokens: %zu bytes were used, the estimate is %zu", path,
                     count, used, estimate);
        if (before[0] && used > before[0]) { /* what grows with the tokens */
            double factor = (double)(estimate - before[1]) / (double)(used - before[0]);
            loosest = factor > loosest ? factor : loosest;
        }
        before[0] = used;
        before[1] = estimate;
        jt_session_free(s);
    }
    jt_model_free(model);
}

static void no_family_takes_more(void **state)
{
    (void)state;
    assert_true(each_model(check_model) > 40);
    assert_true(loosest < 10.0); /* latent attention: of two forms the larger */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_family_takes_more)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
