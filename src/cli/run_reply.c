#include <stdlib.h>
#include <string.h>

#include "run.h"

static jt_status gather(run_state *run, const char *text, size_t len, jt_err *err)
{
    if (run->text_len + len > run->text_capacity) {
        size_t capacity = 2 * (run->text_len + len);
        char *larger = realloc(run->text, capacity);
        if (!larger)
            return jt_fail(err, JT_E_MEMORY, "out of memory for the text");
        run->text = larger;
        run->text_capacity = capacity;
    }
    memcpy(run->text + run->text_len, text, len);
    run->text_len += len;
    return JT_OK;
}

static int on_text(void *user, const char *text, size_t len)
{
    run_state *run = user;
    cli_progress_clear(run->cli);
    if (len)
        run->last = text[len - 1];
    jt_status status = run->args->json ? gather(run, text, len, &run->output_err)
                                       : cli_write(text, len, &run->output_err);
    return status != JT_OK || cli_interrupted();
}

jt_status run_reply(run_state *run, const char *text, size_t len, bool begin,
                    jt_generate_result *result, jt_err *err)
{
    const struct run_args *args = run->args;
    bool special = args->special || run->format;
    unsigned flags =
        (begin ? JT_ENCODE_ADD_SPECIAL : 0u) | (special ? JT_ENCODE_PARSE_SPECIAL : 0u);
    jt_tokens prompt = {0};
    JT_TRY(jt_encode(run->m.tokenizer, text, len, flags, &prompt, err));
    jt_generate_options options = {
        .max_tokens = args->predict,
        .ignore_end = args->ignore_end,
        .stop = args->stop.items,
        .n_stop = args->stop.count,
        .on_text = on_text,
        .user = run,
        .progress = cli_progress(run->cli),
    };
    run->last = '\0';
    run->output_err = (jt_err){0};
    jt_status status = jt_generate(run->session, run->sampler, prompt.ids, prompt.count,
                                   &options, result, err);
    free(prompt.ids);
    cli_progress_clear(run->cli);
    if (status == JT_OK && run->output_err.code != JT_OK) {
        *err = run->output_err;
        status = err->code;
    }
    return status;
}

jt_status run_wrap_turn(const run_state *run, const char *text, bool begin, char **out,
                        jt_err *err)
{
    const jt_chat_format *format = run->format;
    const char *system = begin ? run->args->system : NULL;
    const char *parts[] = {
        begin ? "" : format->reply_suffix,
        system ? format->system_prefix : "",
        system ? system : "",
        system ? format->system_suffix : "",
        format->user_prefix,
        text,
        format->user_suffix,
    };
    enum { N_PARTS = sizeof parts / sizeof parts[0] };
    size_t len = 1;
    for (int i = 0; i < N_PARTS; i++)
        len += strlen(parts[i]);
    char *turn = malloc(len);
    if (!turn)
        return jt_fail(err, JT_E_MEMORY, "out of memory for the prompt");
    char *end = turn;
    for (int i = 0; i < N_PARTS; i++)
        end = stpcpy(end, parts[i]);
    *out = turn;
    return JT_OK;
}

jt_status run_new_sampler(run_state *run, jt_err *err)
{
    jt_sampler *sampler;
    JT_TRY(jt_sampler_new(&sampler, &run->sampling, (size_t)run->m.info.n_vocab, err));
    jt_sampler_free(run->sampler);
    run->sampler = sampler;
    return JT_OK;
}
