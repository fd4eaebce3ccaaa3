#include "learn/suite.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"
#include "junto/vocabulary.h"

enum {
    SYMBOLS = 16,
    ALPHABETS = 4,
    LETTERS = 26,
    MOST_LENGTH = 64,
    MOST_PATH = 4400,
    STREAM_KEY = 1 << 20
};

/* ---- tasks: out[i] of in[0 .. n), symbols counted from 0 ---- */

typedef struct question {
    const int *in;
    int n, symbols, key;
} question;

typedef void task_fn(const question *q, int *out);

static void task_copy(const question *q, int *out)
{
    memcpy(out, q->in, (size_t)q->n * sizeof *out);
}

static void task_reverse(const question *q, int *out)
{
    for (int i = 0; i < q->n; i++)
        out[i] = q->in[q->n - 1 - i];
}

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void task_sort(const question *q, int *out)
{
    task_copy(q, out);
    qsort(out, (size_t)q->n, sizeof *out, by_value);
}

static void task_rotate(const question *q, int *out)
{
    for (int i = 0; i < q->n; i++)
        out[i] = q->in[(i + 1) % q->n];
}

static void task_swap(const question *q, int *out)
{
    for (int i = 0; i < q->n; i++)
        out[i] = q->in[(i ^ 1) < q->n ? i ^ 1 : i];
}

static void task_fold(const question *q, int *out)
{
    for (int i = 0; i < q->n; i++)
        out[i] = q->in[i % 2 ? q->n - 1 - i / 2 : i / 2];
}

static void task_double(const question *q, int *out)
{
    for (int i = 0; i < q->n; i++)
        out[i] = q->in[i / 2];
}

static void task_shift(const question *q, int *out)
{
    for (int i = 0; i < q->n; i++)
        out[i] = (q->in[i] + q->key) % q->symbols;
}

static void task_cipher(const question *q, int *out)
{
    int other[SYMBOLS];
    jt_rng rng = {.seed = (uint64_t)q->key, .stream = STREAM_KEY};
    for (int i = 0; i < q->symbols; i++) { /* the inside-out shuffle */
        int j = (int)jt_rng_below(&rng, (uint32_t)i + 1);
        other[i] = i;
        other[i] = other[j];
        other[j] = i;
    }
    for (int i = 0; i < q->n; i++)
        out[i] = other[q->in[i]];
}

static void task_back(const question *q, int *out)
{
    task_cipher(q, out);
    for (int i = 0; i < q->n / 2; i++) {
        int first = out[i];
        out[i] = out[q->n - 1 - i];
        out[q->n - 1 - i] = first;
    }
}

static const struct {
    const char *name;
    bool key;
    task_fn *fn;
} tasks[] = {
    {"copy", false, task_copy},     {"reverse", false, task_reverse},
    {"sort", false, task_sort},     {"rotate", false, task_rotate},
    {"swap", false, task_swap},     {"fold", false, task_fold},
    {"double", false, task_double}, {"shift", true, task_shift},
    {"cipher", true, task_cipher},  {"back", true, task_back},
};

static task_fn *find(const char *name, int *key)
{
    size_t len = strcspn(name, "0123456789");
    *key = atoi(name + len);
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
        bool same = strlen(tasks[i].name) == len && !memcmp(tasks[i].name, name, len);
        if (same && tasks[i].key == (name[len] != '\0'))
            return tasks[i].fn;
    }
    return NULL;
}

jt_status jt_suite_check(const char *name, jt_err *err)
{
    int key;
    return find(name, &key) ? JT_OK
                            : jt_fail(err, JT_E_ARG, "there is no task '%.40s'", name);
}

char jt_suite_letter(size_t i)
{
    return (char)('A' + i);
}

/* ---- files ---- */

typedef struct writer {
    const jt_suite_options *o;
    jt_output out;
    jt_rng rng;
    jt_err *err;
} writer;

/* One question and its answer as two messages. */
static jt_status write_turn(writer *w, size_t task, bool last)
{
    int in[MOST_LENGTH], out[MOST_LENGTH], n = w->o->length;
    char asked[MOST_LENGTH + 1] = "", answer[MOST_LENGTH + 1] = "", line[512];
    int first = 'a' + (int)(task % ALPHABETS) * w->o->apart;
    question q = {.in = in, .n = n, .symbols = w->o->symbols};
    task_fn *fn = find(w->o->task[task], &q.key);
    for (int i = 0; i < n; i++)
        in[i] = (int)jt_rng_below(&w->rng, (uint32_t)q.symbols);
    fn(&q, out);
    for (int i = 0; i < n; i++) {
        asked[i] = (char)(first + in[i]);
        answer[i] = (char)(first + out[i]);
    }
    int len = snprintf(line, sizeof line,
                       "{\"role\":\"user\",\"content\":\"%c%s=\"},"
                       "{\"role\":\"assistant\",\"content\":\"%s\"}%s",
                       jt_suite_letter(task), asked, answer, last ? "" : ",");
    return jt_output_write(&w->out, line, (size_t)len, w->err);
}

static size_t index_of(const jt_suite_options *o, const char *task)
{
    size_t i = 0;
    while (i < o->n_tasks && strcmp(o->task[i], task) != 0)
        i++;
    return i;
}

/* The task of the next question of a mix, not that of the one before. */
static size_t draw_task(writer *w, const jt_suite_mix *mix, size_t *before)
{
    bool other = mix->n_tasks > 1 && *before < mix->n_tasks;
    size_t which = jt_rng_below(&w->rng, (uint32_t)(mix->n_tasks - other));
    which += other && which >= *before;
    *before = which;
    return index_of(w->o, mix->task[which]);
}

/* Of task `task` alone; from n_tasks on: of a mix. */
static jt_status write_document(writer *w, size_t task)
{
    static const char start[] = "{\"messages\":[", end[] = "]}\n";
    const jt_suite_options *o = w->o;
    const jt_suite_mix *mix = task < o->n_tasks ? NULL : &o->mix[task - o->n_tasks];
    int segments = mix && o->mixed_segments ? o->mixed_segments : o->segments;
    size_t before = mix ? mix->n_tasks : 0;
    JT_TRY(jt_output_write(&w->out, start, sizeof start - 1, w->err));
    for (int i = 0; i < segments; i++)
        JT_TRY(
            write_turn(w, mix ? draw_task(w, mix, &before) : task, i + 1 == segments));
    return jt_output_write(&w->out, end, sizeof end - 1, w->err);
}

static jt_status write_file(const char *dir, const jt_suite_options *o, size_t task,
                            jt_err *err)
{
    writer w = {.o = o, .rng = {.seed = o->seed, .stream = task}, .err = err};
    char path[MOST_PATH];
    snprintf(path, sizeof path, "%s/%s.jsonl", dir,
             task < o->n_tasks ? o->task[task] : o->mix[task - o->n_tasks].name);
    JT_TRY(jt_output_open(&w.out, path, err));
    jt_status status = JT_OK;
    for (int i = 0; i < o->documents && status == JT_OK; i++)
        status = write_document(&w, task);
    if (status == JT_OK)
        return jt_output_commit(&w.out, err);
    jt_output_abort(&w.out);
    return status;
}

/* Bytes and one special token: there is nothing to merge. */
static jt_status write_vocabulary(const char *dir, const jt_suite_options *o,
                                  jt_err *err)
{
    static const char *const special = "<|endoftext|>";
    char path[MOST_PATH], text[MOST_PATH];
    const char *texts = text;
    jt_vocabulary_options how = {.size = 257, .specials = &special, .n_specials = 1};
    snprintf(path, sizeof path, "%s/%s", dir, JT_SUITE_VOCABULARY);
    snprintf(text, sizeof text, "%s/%s.jsonl", dir, o->task[0]);
    return jt_vocabulary_train(&texts, 1, path, &how, NULL, err);
}

static jt_status check_mix(const jt_suite_options *o, const jt_suite_mix *mix,
                           jt_err *err)
{
    if (!mix->n_tasks || index_of(o, mix->name) < o->n_tasks)
        return jt_fail(err, JT_E_ARG, "'%.40s' is no mix of tasks", mix->name);
    for (size_t i = 0; i < mix->n_tasks; i++) {
        if (index_of(o, mix->task[i]) == o->n_tasks)
            return jt_fail(err, JT_E_ARG, "'%.40s' is none of the tasks", mix->task[i]);
    }
    return JT_OK;
}

jt_status jt_suite_write(const char *dir, const jt_suite_options *o, jt_err *err)
{
    if (o->n_tasks < 1 || o->n_tasks > 26 || o->length < 1 || o->length > MOST_LENGTH ||
        o->segments < 1 || o->documents < 1)
        return jt_fail(err, JT_E_ARG, "no suite of %zu tasks of length %d", o->n_tasks,
                       o->length);
    if (o->symbols < 2 || o->symbols > SYMBOLS || o->apart < 0 ||
        o->symbols + (ALPHABETS - 1) * o->apart > LETTERS)
        return jt_fail(err, JT_E_ARG, "no alphabets of %d symbols, %d apart",
                       o->symbols, o->apart);
    for (size_t i = 0; i < o->n_tasks; i++)
        JT_TRY(jt_suite_check(o->task[i], err));
    for (size_t i = 0; i < o->n_mixes; i++)
        JT_TRY(check_mix(o, &o->mix[i], err));
    for (size_t i = 0; i < o->n_tasks + o->n_mixes; i++)
        JT_TRY(write_file(dir, o, i, err));
    return write_vocabulary(dir, o, err);
}
