/* Answers, in memory and in a file that grows. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "junto/trace.h"
#include "text/lines.h"
#include "watch/task.h"

enum { KEY = 48, DIGITS = 17, LIMIT = 1 << 30 };

static void key_of(char key[KEY], uint64_t hash, size_t line)
{
    snprintf(key, KEY, "%016" PRIx64 " %zu", hash, line);
}

/* ---- the file ---- */

static jt_status read_head(const jt_answers *a, const json_t *record, jt_err *err)
{
    static const char *const keys[] = {"model", "settings"};
    if (!json_is_string(json_object_get(record, "junto_answers")))
        return jt_fail(err, JT_E_FORMAT, "this is no file of answers");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *theirs = json_object_get(record, keys[i]);
        const json_t *ours = json_object_get(a->head, keys[i]);
        if (!json_equal(theirs, ours))
            return jt_fail(err, JT_E_ARG, "the answers are of %s '%.80s', not '%.80s'",
                           keys[i],
                           json_is_string(theirs) ? json_string_value(theirs) : "",
                           json_string_value(ours));
    }
    return JT_OK;
}

static jt_status read_record(jt_answers *a, json_t *record, jt_err *err)
{
    char key[KEY];
    const json_t *hash = json_object_get(record, "hash");
    const json_t *line = json_object_get(record, "line");
    if (!json_is_string(hash) || json_string_length(hash) != 16 ||
        !json_is_integer(line))
        return jt_fail(err, JT_E_FORMAT, "an answer has a \"hash\" and a \"line\"");
    key_of(key, strtoull(json_string_value(hash), NULL, 16),
           (size_t)json_integer_value(line));
    return json_object_set(a->by_question, key, record) == 0
               ? JT_OK
               : jt_fail_memory(err, "reading answers");
}

jt_status jt_answers_read(jt_answers *a, const char *text, size_t bytes, size_t *whole,
                          jt_err *err)
{
    jt_str rest = {text, bytes};
    *whole = 0;
    for (size_t number = 1; memchr(rest.data, '\n', rest.len); number++) {
        jt_str line = jt_take_line(&rest);
        json_error_t why;
        json_t *record = json_loadb(line.data, line.len, JSON_REJECT_DUPLICATES, &why);
        jt_status status;
        if (!record)
            status = jt_fail(err, JT_E_FORMAT, "bad JSON: %s", why.text);
        else if (number == 1)
            status = read_head(a, record, err);
        else
            status = read_record(a, record, err);
        json_decref(record);
        if (status != JT_OK)
            return jt_fail_within(err, status, "line %zu", number);
        *whole = bytes - rest.len;
    }
    /* Only a head that was cut may be taken for the beginning of an empty file. */
    static const char head[] = "{\"junto_answers\"";
    size_t known = bytes < sizeof head - 1 ? bytes : sizeof head - 1;
    if (*whole == 0 && known && memcmp(text, head, known) != 0)
        return jt_fail(err, JT_E_FORMAT, "this is no file of answers");
    return JT_OK;
}

static jt_status write_record(jt_answers *a, const json_t *record, jt_err *err)
{
    if (!a->on_disk)
        return JT_OK;
    char *text = json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS));
    size_t len = text ? strlen(text) : 0;
    if (!text)
        return jt_fail_memory(err, "writing an answer");
    text[len] = '\n'; /* one write, so that a line is there or cut */
    jt_status status = jt_append_write(&a->file, text, len + 1, err);
    free(text);
    return status;
}

/* Take what is there, or begin. */
static jt_status open_file(jt_answers *a, const char *path, jt_err *err)
{
    struct stat st;
    char *text = NULL;
    size_t bytes = 0, whole = 0;
    if (stat(path, &st) == 0)
        JT_TRY(jt_read_file(&text, &bytes, path, LIMIT, err));
    jt_status status = text ? jt_answers_read(a, text, bytes, &whole, err) : JT_OK;
    free(text);
    if (status != JT_OK)
        return jt_fail_within(err, status, "'%s'", path);
    JT_TRY(jt_append_continue(&a->file, path, whole, err));
    a->on_disk = true;
    return whole ? JT_OK : write_record(a, a->head, err);
}

jt_status jt_answers_open(jt_answers **out, const char *path, const jt_model *model,
                          const char *settings, jt_err *err)
{
    char id[DIGITS];
    snprintf(id, sizeof id, "%016" PRIx64, jt_model_fingerprint(model));
    jt_answers *a = jt_calloc(1, sizeof *a);
    if (!a)
        return jt_fail_memory(err, "opening answers");
    a->by_question = json_object();
    a->head = json_pack("{s:s, s:s, s:s}", "junto_answers", "1", "model", id,
                        "settings", settings);
    jt_status status =
        a->by_question && a->head ? JT_OK : jt_fail_memory(err, "opening answers");
    if (status == JT_OK && path)
        status = open_file(a, path, err);
    if (status != JT_OK) {
        jt_answers_close(a, NULL);
        return status;
    }
    *out = a;
    return JT_OK;
}

jt_status jt_answers_close(jt_answers *a, jt_err *err)
{
    if (!a)
        return JT_OK;
    jt_status status = a->on_disk ? jt_append_close(&a->file, err) : JT_OK;
    json_decref(a->by_question);
    json_decref(a->head);
    free(a);
    return status;
}

/* ---- by question ---- */

const json_t *jt_answers_find(const jt_answers *a, const jt_task *task,
                              const jt_question *q)
{
    char key[KEY];
    key_of(key, task->hash, q->line);
    return json_object_get(a->by_question, key);
}

size_t jt_answers_count(const jt_answers *a, const jt_task *task)
{
    jt_task_info info;
    size_t n = 0;
    jt_task_describe(task, &info);
    for (size_t i = 0; i < info.questions; i++)
        n += jt_answers_find(a, task, &task->questions[i]) != NULL;
    return n;
}

jt_status jt_answers_add(jt_answers *a, const jt_task *task, const jt_question *q,
                         json_t *record, jt_err *err)
{
    char key[KEY];
    key_of(key, task->hash, q->line);
    json_t *whole = json_pack("{s:s#, s:I, s:s}", "hash", key, 16, "line",
                              (json_int_t)q->line, "task", task->name);
    bool ok = whole && record && json_object_update(whole, record) == 0 &&
              json_object_set(a->by_question, key, whole) == 0;
    jt_status status =
        ok ? write_record(a, whole, err) : jt_fail_memory(err, "keeping an answer");
    json_decref(whole);
    json_decref(record);
    return status;
}
