#include "text/pretoken.h"

#include <assert.h>
#include <stdlib.h>

#include "base/memory.h"

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

static jt_status compile(jt_splitter *splitter, const char *expression, jt_err *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(splitter->memory);
    if (!context)
        return jt_fail_memory(err, "compiling a pre-tokenizer");
    int error;
    PCRE2_SIZE where;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP, &error, &where, context);
    pcre2_compile_context_free(context);
    if (!code) { /* the expressions are ours: only memory can be the reason */
        assert(error == PCRE2_ERROR_HEAP_FAILED);
        return jt_fail_memory(err, "compiling a pre-tokenizer");
    }
    splitter->stages[splitter->count++] = code;
    /* Where the system allows no fresh machine code, matching is only slower. */
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    return JT_OK;
}

jt_status jt_splitter_new(jt_splitter *out, const jt_pretokenizer *kind, jt_err *err)
{
    *out =
        (jt_splitter){.memory = pcre2_general_context_create(allocate, release, NULL)};
    if (out->memory)
        out->match = pcre2_match_context_create(out->memory);
    if (!out->match)
        return jt_fail_memory(err, "compiling a pre-tokenizer");
    /* A match looks at each of at most 2^31 bytes once or twice. Should that be wrong,
     * the limit makes it an error and not a hang. */
    pcre2_set_match_limit(out->match, UINT32_MAX);
    for (size_t i = 0; kind->expressions[i]; i++) {
        assert(i < JT_SPLIT_STAGES);
        JT_TRY(compile(out, kind->expressions[i], err));
    }
    return JT_OK;
}

void jt_splitter_free(jt_splitter *splitter)
{
    for (size_t i = 0; i < splitter->count; i++)
        pcre2_code_free(splitter->stages[i]);
    pcre2_match_context_free(splitter->match);
    pcre2_general_context_free(splitter->memory);
    *splitter = (jt_splitter){0};
}

pcre2_match_data *jt_splitter_scratch(const jt_splitter *splitter)
{
    return pcre2_match_data_create(1, splitter->memory);
}

/* One run over a text: what all stages share. */
typedef struct cut {
    const jt_splitter *splitter;
    pcre2_match_data *scratch;
    jt_split_fn *fn;
    void *user;
    jt_err *err;
} cut;

static jt_status cut_piece(const cut *c, size_t stage, jt_str text);

/* Find the next match at or after `from`; *end == *start when there is none. */
static jt_status find(const cut *c, size_t stage, jt_str text, size_t from,
                      size_t *start, size_t *end)
{
    int found = pcre2_match(c->splitter->stages[stage], (PCRE2_SPTR)text.data, text.len,
                            from, PCRE2_NO_UTF_CHECK, c->scratch, c->splitter->match);
    if (found == PCRE2_ERROR_NOMEMORY)
        return jt_fail_memory(c->err, "splitting text");
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        return jt_fail(c->err, JT_E_LIMIT, "text too hard to split (pcre2 error %d)",
                       found);
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(c->scratch);
    *start = found < 0 ? text.len : ends[0];
    *end = found < 0 ? text.len : ends[1];
    return JT_OK;
}

static jt_status cut_stage(const cut *c, size_t stage, jt_str text)
{
    for (size_t done = 0; done < text.len;) {
        size_t start = 0, end = 0;
        JT_TRY(find(c, stage, text, done, &start, &end));
        if (start > done) {
            jt_str before = {text.data + done, start - done};
            JT_TRY(cut_piece(c, stage + 1, before));
        }
        if (end > start)
            JT_TRY(cut_piece(c, stage + 1, (jt_str){text.data + start, end - start}));
        done = end;
    }
    return JT_OK;
}

/* As deep as there are stages. */
static jt_status cut_piece(const cut *c, size_t stage, jt_str text)
{
    return stage < c->splitter->count ? cut_stage(c, stage, text)
                                      : c->fn(c->user, text);
}

jt_status jt_splitter_run(const jt_splitter *splitter, pcre2_match_data *scratch,
                          jt_str text, jt_split_fn *fn, void *user, jt_err *err)
{
    cut c = {splitter, scratch, fn, user, err};
    return cut_piece(&c, 0, text);
}
