/* The inside of tasks: questions as they were read, and answers as they are kept. */
#ifndef JT_WATCH_TASK_H
#define JT_WATCH_TASK_H

#include <jansson.h>
#include <stdbool.h>

#include "base/file.h"
#include "junto/eval.h"
#include "junto/gguf.h"

typedef struct jt_question {
    size_t line;      /* of the file, from 1 */
    jt_str context;   /* the question, or the text */
    jt_str *options;  /* [n_options] choices, or the answers that are right */
    size_t n_options; /* at least 2 choices, at least 1 answer, no option of a text */
    size_t gold;      /* the choice that is right */
    size_t domain;    /* among those of the task, which has none: 0 */
} jt_question;

typedef struct jt_filter jt_filter; /* task_filter.c */

struct jt_task {
    char *name;
    jt_task_kind kind;
    char *delimiter;   /* between a question and what follows it */
    const char **stop; /* [n_stop] */
    size_t n_stop;
    int max_tokens;    /* of a reply */
    bool ignore_case;  /* of a reply */
    jt_filter *filter; /* of a reply; NULL: all of it */
    jt_question *questions;
    size_t count, capacity, limit;
    const char **domains;
    size_t n_domains, domain_capacity;
    json_t *records; /* whose strings the questions borrow */
    uint64_t hash;
};

/* ---- what a reply says (task_filter.c) ---- */

/* JT_E_FORMAT (the expression is none), JT_E_MEMORY. */
jt_status jt_filter_new(jt_filter **out, const char *expression, jt_err *err);
void jt_filter_free(jt_filter *filter);
/* Does the reply say one of the answers of the question? */
bool jt_reply_is_right(const jt_task *task, const jt_question *q, jt_str reply);

/* ---- answers (task_answers.c) ---- */

struct jt_answers {
    json_t *head, *by_question; /* records by "HASH LINE" */
    bool on_disk;
    jt_append file;
};

/* Take what a file of answers holds; *whole is how many of its bytes are whole lines.
 * JT_E_FORMAT, JT_E_ARG, JT_E_MEMORY. */
jt_status jt_answers_read(jt_answers *answers, const char *text, size_t bytes,
                          size_t *whole, jt_err *err);
const json_t *jt_answers_find(const jt_answers *answers, const jt_task *task,
                              const jt_question *q);
/* Keep an answer and write its line; takes `record`, NULL is JT_E_MEMORY. */
jt_status jt_answers_add(jt_answers *answers, const jt_task *task, const jt_question *q,
                         json_t *record, jt_err *err);

/* ---- running (task_run.c, task_reply.c) ---- */

/* A task that is being run. */
typedef struct jt_task_run_state {
    const jt_task *task;
    jt_session *const *sessions;
    size_t n_sessions;
    const jt_tokenizer *tokenizer;
    jt_answers *answers;
    const jt_progress *progress;
    size_t done; /* questions that are answered */
} jt_task_run_state;

/* An answer has come; takes `record`. */
jt_status jt_task_answered(jt_task_run_state *run, const jt_question *q, json_t *record,
                           jt_err *err);
/* All replies that are missing. */
jt_status jt_task_replies(jt_task_run_state *run, jt_err *err);

#endif
