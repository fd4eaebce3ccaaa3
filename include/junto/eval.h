/* Tests of what a model can do: questions in JSON lines, answers that survive a crash.
 *
 *     jt_task *task;
 *     jt_answers *answers;
 *     jt_task_result result;
 *     JT_TRY(jt_task_open(&task, "tasks/continue.jsonl", err));
 *     JT_TRY(jt_answers_open(&answers, "answers.jsonl", model, "", err));
 *     JT_TRY(jt_task_run(task, &session, 1, answers, progress, err)); // what is
 * missing JT_TRY(jt_task_score_answers(task, answers, &result, err));
 *     ... result.all.accuracy, result.domains[0].name ...
 *     JT_TRY(jt_answers_close(answers, err));
 *
 * docs/eval.md has the file and the formulas. */
#ifndef JUNTO_EVAL_H
#define JUNTO_EVAL_H

#include <stddef.h>
#include <stdint.h>

#include "junto/model.h"
#include "junto/session.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- tasks ---- */

typedef enum jt_task_kind {
    JT_TASK_CHOICE, /* which of the choices is the likeliest after the question? */
    JT_TASK_REPLY,  /* is what the model writes, greedily, the answer? */
    JT_TASK_TEXT    /* how well are texts foreseen? */
} jt_task_kind;
JT_API const char *jt_task_kind_name(jt_task_kind kind); /* "choice" */

typedef struct jt_task jt_task;

/* Read a task; all questions are of one kind. JT_E_IO, JT_E_FORMAT (names the line),
 * JT_E_LIMIT (over 1 GiB), JT_E_MEMORY. */
JT_API jt_status jt_task_open(jt_task **out, const char *path, jt_err *err);
/* The same from memory; `name` is what the task is called if it does not say. */
JT_API jt_status jt_task_parse(jt_task **out, const char *name, const char *text,
                               size_t bytes, jt_err *err);
JT_API void jt_task_free(jt_task *task); /* NULL is fine */
/* Ask the first `n` questions only; 0: all of them. */
JT_API void jt_task_limit(jt_task *task, size_t n);

typedef struct jt_task_info {
    const char *name;
    jt_task_kind kind;
    size_t questions; /* that are asked */
    uint64_t hash;    /* of the bytes of the file */
} jt_task_info;
JT_API void jt_task_describe(const jt_task *task, jt_task_info *info);

/* ---- answers ---- */

/* What one model said, under settings that `settings` puts into words (policies, type
 * of the cache, context): a line for each question, written when it is answered. */
typedef struct jt_answers jt_answers;

/* Begin the file, or go on with it: a last line that was cut is dropped. NULL for
 * `path`: answers are kept in memory only. JT_E_ARG (the file is of another model or
 * of other settings), JT_E_FORMAT (it is no file of answers; it stays as it is),
 * JT_E_IO, JT_E_MEMORY. */
JT_API jt_status jt_answers_open(jt_answers **out, const char *path,
                                 const jt_model *model, const char *settings,
                                 jt_err *err);
/* Flush to disk and free, also after a failure; NULL is fine. JT_E_IO. */
JT_API jt_status jt_answers_close(jt_answers *answers, jt_err *err);
/* How many of the task's questions have an answer. */
JT_API size_t jt_answers_count(const jt_answers *answers, const jt_task *task);

/* ---- running ---- */

/* Answer the questions that have no answer yet. Choices and texts take the first of the
 * sessions; replies are written in all `n` at once, a pass of the model for a token of
 * each (jt_session_eval_together). The answers do not depend on n, nor on which were
 * there before. Sessions are emptied. Progress counts questions. Errors: JT_E_ARG
 * (no session), JT_E_LIMIT (a choice, or a reply, is longer than the context: names the
 * line), JT_E_UNSUPPORTED (no tokenizer), those of jt_session_eval. */
JT_API jt_status jt_task_run(const jt_task *task, jt_session *const *sessions, size_t n,
                             jt_answers *answers, jt_progress progress, jt_err *err);

/* Of all questions, or those of a domain. What a task of this kind does not have is
 * NaN, and so is the error of a single question. */
typedef struct jt_task_score {
    const char *name; /* of the domain; NULL: all */
    size_t questions;
    size_t cut; /* whose beginning was left out, since it is longer than the context */
    double accuracy, error;           /* share that is right, and its standard error */
    double accuracy_norm, error_norm; /* choices: by likelihood per character */
    double chance;                    /* choices: what guessing gives */
    size_t tokens, bytes;             /* texts: scored tokens, bytes of the texts */
    double nll, perplexity, perplexity_error, bits_per_byte; /* texts */
} jt_task_score;

typedef struct jt_task_result {
    jt_task_score all;
    size_t n_domains;
    jt_task_score *domains; /* in the order in which they appear */
} jt_task_result;

/* Score the questions that have an answer; names are borrowed from the task. Call
 * jt_task_result_free after success. JT_E_FORMAT (an answer that is none), JT_E_ARG
 * (there is no answer yet), JT_E_MEMORY. */
JT_API jt_status jt_task_score_answers(const jt_task *task, const jt_answers *answers,
                                       jt_task_result *result, jt_err *err);
JT_API void jt_task_result_free(jt_task_result *result); /* {0} is fine */

#ifdef __cplusplus
}
#endif
#endif
