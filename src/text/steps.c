#include "text/steps.h"

#include <stdlib.h>
#include <string.h>

static void *allocate(size_t bytes, void *user)
{
    (void)user;
    return jt_alloc(bytes, 1);
}

static void release(void *memory, void *user)
{
    (void)user;
    free(memory);
}

jt_status jt_steps_new(jt_steps *out, bool foreign, jt_err *err)
{
    *out = (jt_steps){.memory = pcre2_general_context_create(allocate, release, NULL)};
    if (out->memory)
        out->match = pcre2_match_context_create(out->memory);
    if (!out->match)
        return jt_fail_memory(err, "compiling a pre-tokenizer");
    /* With our own expressions a match looks at each of at most 2^31 bytes once or
     * twice. Should that be wrong, the limit makes it an error and not a hang. */
    pcre2_set_match_limit(out->match, foreign ? 10000000 : UINT32_MAX);
    return JT_OK;
}

void jt_steps_free(jt_steps *steps)
{
    for (size_t i = 0; i < steps->count; i++)
        pcre2_code_free(steps->items[i].code);
    pcre2_match_context_free(steps->match);
    pcre2_general_context_free(steps->memory);
    jt_arena_free(&steps->arena);
    *steps = (jt_steps){0};
}

jt_status jt_steps_add(jt_steps *steps, jt_step step, jt_err *err)
{
    if (steps->count == JT_STEPS_MOST)
        return jt_fail(err, JT_E_LIMIT,
                       "more than %d steps of normalizing and splitting",
                       JT_STEPS_MOST);
    steps->items[steps->count++] = step;
    return JT_OK;
}

jt_status jt_steps_add_expression(jt_steps *steps, jt_step step, const char *expression,
                                  jt_err *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(steps->memory);
    if (!context)
        return jt_fail_memory(err, "compiling a pre-tokenizer");
    int error;
    PCRE2_SIZE where;
    step.expression = expression;
    step.code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error,
                              &where, context);
    pcre2_compile_context_free(context);
    if (!step.code && error == PCRE2_ERROR_HEAP_FAILED)
        return jt_fail_memory(err, "compiling a pre-tokenizer");
    if (!step.code) {
        char reason[120] = "";
        (void)pcre2_get_error_message(error, (PCRE2_UCHAR *)reason, sizeof reason);
        return jt_fail(err, JT_E_UNSUPPORTED, "expression at '%.40s': %s",
                       expression + where, reason);
    }
    /* Where the system allows no fresh machine code, matching is only slower. */
    (void)pcre2_jit_compile(step.code, PCRE2_JIT_COMPLETE);
    jt_status status = jt_steps_add(steps, step, err);
    if (status != JT_OK)
        pcre2_code_free(step.code);
    return status;
}

static bool same_text(jt_str a, jt_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool same_step(const jt_step *a, const jt_step *b)
{
    bool expressions = a->expression && b->expression
                           ? strcmp(a->expression, b->expression) == 0
                           : a->expression == b->expression;
    return a->kind == b->kind && expressions && a->cut == b->cut &&
           a->invert == b->invert && a->first == b->first && a->left == b->left &&
           a->right == b->right && a->all == b->all && a->clusters == b->clusters &&
           a->form == b->form && same_text(a->text, b->text) &&
           same_text(a->from, b->from) &&
           same_text(a->charsmap.bytes, b->charsmap.bytes);
}

bool jt_steps_same(const jt_steps *a, const jt_steps *b)
{
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        if (!same_step(&a->items[i], &b->items[i]))
            return false;
    }
    return a->count == b->count;
}
