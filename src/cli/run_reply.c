#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

/* ---- prompts ---- */

jt_status run_prompt_plain(const run_state *run, const char *text, size_t len,
                           run_prompt *out, jt_err *err)
{
    unsigned special = run->args.special ? JT_ENCODE_PARSE_SPECIAL : 0u;
    *out = (run_prompt){.text = malloc(len + 1), .len = len};
    if (!out->text)
        return jt_fail(err, JT_E_MEMORY, "out of memory for the prompt");
    memcpy(out->text, text, len);
    out->text[len] = '\0';
    return jt_encode(run->m.tokenizer, text, len, JT_ENCODE_ADD_SPECIAL | special,
                     &out->tokens, err);
}

/* A budget of nothing is the same wish as no thinking: templates can say it better than
 * a cut. */
static bool thinking_is_off(const run_state *run)
{
    return cli_think(run->args.template.think) == JT_THINK_OFF || run->args.budget == 0;
}

jt_status run_prompt_chat(const run_state *run, const json_t *messages, run_prompt *out,
                          jt_err *err)
{
    const jt_thinking *marks = jt_chat_thinking(run->template.chat);
    jt_think think =
        thinking_is_off(run) ? JT_THINK_OFF : cli_think(run->args.template.think);
    *out = (run_prompt){0};
    JT_TRY(cli_template_render(&run->template, messages, think, true, &out->text,
                               &out->len, err));
    out->in_thought = jt_thinking_opened(marks, out->text, out->len);
    return jt_chat_encode(run->template.chat, out->text, out->len, &out->tokens, err);
}

void run_prompt_free(run_prompt *prompt)
{
    free(prompt->text);
    free(prompt->tokens.ids);
    *prompt = (run_prompt){0};
}

/* ---- the reply ---- */

static jt_status gather(run_text *to, const char *text, size_t len, jt_err *err)
{
    if (to->len + len > to->capacity) {
        size_t capacity = 2 * (to->len + len);
        char *larger = realloc(to->data, capacity);
        if (!larger)
            return jt_fail(err, JT_E_MEMORY, "out of memory for the text");
        to->data = larger;
        to->capacity = capacity;
    }
    if (len)
        memcpy(to->data + to->len, text, len);
    to->len += len;
    return JT_OK;
}

static bool shows_thoughts(const run_state *run)
{
    int wish = run->args.show_thinking;
    return wish < 0 ? run->cli->terminal && !run->cli->quiet : wish;
}

/* Thoughts go to standard error, dimmed; the answer begins on a line of its own. */
static void show_thought(run_state *run, const char *text, size_t len)
{
    if (!run->in_thought && run->cli->color)
        fputs("\033[2m", stderr);
    run->in_thought = true;
    fwrite(text, 1, len, stderr);
}

static void end_thought(run_state *run)
{
    if (!run->in_thought)
        return;
    const char *last = run->thought.data + run->thought.len - 1;
    fputs(run->cli->color ? "\033[0m" : "", stderr);
    fputs(*last == '\n' ? "\n" : "\n\n", stderr);
    run->in_thought = false;
}

static int on_thought(void *user, const char *text, size_t len)
{
    run_state *run = user;
    cli_progress_clear(run->cli);
    if (shows_thoughts(run))
        show_thought(run, text, len);
    return gather(&run->thought, text, len, &run->output_err) != JT_OK ||
           cli_interrupted();
}

static int on_text(void *user, const char *text, size_t len)
{
    run_state *run = user;
    cli_progress_clear(run->cli);
    if (len)
        end_thought(run);
    jt_status status = gather(&run->answer, text, len, &run->output_err);
    if (status == JT_OK && len && !run->args.json)
        status = cli_write(text, len, &run->output_err);
    return status != JT_OK || cli_interrupted();
}

static jt_status generate(run_state *run, jt_sampler *sampler, const run_prompt *prompt,
                          jt_generate_result *result, jt_err *err)
{
    const struct run_args *args = &run->args;
    const jt_chat *chat = run->template.chat;
    jt_generate_options options = {
        .max_tokens = args->predict,
        .ignore_end = args->ignore_end,
        .stop = args->stop.items,
        .n_stop = args->stop.count,
        .on_text = on_text,
        .on_thought = on_thought,
        .user = run,
        .progress = cli_progress(run->cli),
        .whole = true,
        .thinking = chat ? jt_chat_thinking(chat) : NULL,
        .in_thought = prompt->in_thought,
        .thinking_budget = thinking_is_off(run) ? 0 : args->budget,
        .constraint = run->grammar.constraint,
        .speculation = run->speculator.on ? &run->speculator.speculation : NULL,
    };
    run->answer.len = run->thought.len = 0;
    run->output_err = (jt_err){0};
    jt_status status = jt_generate(run->session, sampler, prompt->tokens.ids,
                                   prompt->tokens.count, &options, result, err);
    cli_progress_clear(run->cli);
    end_thought(run);
    if (status == JT_OK && run->output_err.code != JT_OK) {
        *err = run->output_err;
        status = err->code;
    }
    return status;
}

jt_status run_reply(run_state *run, const run_prompt *prompt,
                    jt_generate_result *result, jt_err *err)
{
    /* Each reply of a chat draws anew, so that a second try is another one. */
    jt_sampling sampling = run->args.sampling;
    sampling.seed = run->seed + run->replies++;
    jt_sampler *sampler;
    JT_TRY(jt_sampler_new(&sampler, &sampling, (size_t)run->m.info.n_vocab, err));
    jt_status status = generate(run, sampler, prompt, result, err);
    jt_sampler_free(sampler);
    return status;
}
