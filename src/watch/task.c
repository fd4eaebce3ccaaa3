/* Reading a task. */
#include "watch/task.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "text/lines.h"

enum { MOST_OPTIONS = 1024, MOST_REPLY = 1 << 20 };

const char *jt_task_kind_name(jt_task_kind kind)
{
    static const char *const names[] = {"choice", "reply", "text"};
    return names[kind];
}

static jt_str str_of(const json_t *value)
{
    return (jt_str){json_string_value(value), json_string_length(value)};
}

/* ---- the head: {"task": {..}} ---- */

static char *copy_of(const json_t *value)
{
    return jt_strndup(json_string_value(value), json_string_length(value));
}

static jt_status replace(char **field, const char *key, const json_t *value,
                         jt_err *err)
{
    if (!json_is_string(value))
        return jt_fail(err, JT_E_FORMAT, "\"%s\" is not a string", key);
    char *copy = copy_of(value);
    if (!copy)
        return jt_fail_memory(err, "reading a task");
    free(*field);
    *field = copy;
    return JT_OK;
}

static jt_status read_stops(jt_task *task, const json_t *list, jt_err *err)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > MOST_OPTIONS)
        return jt_fail(err, JT_E_FORMAT, "\"stop\" is not a list of strings");
    task->stop = jt_calloc(n, sizeof *task->stop);
    if (!task->stop)
        return jt_fail_memory(err, "reading a task");
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        if (!json_is_string(item) || json_string_length(item) == 0)
            return jt_fail(err, JT_E_FORMAT, "\"stop\" is not a list of strings");
        task->stop[i] = copy_of(item);
        if (!task->stop[i])
            return jt_fail_memory(err, "reading a task");
        task->n_stop++;
    }
    return JT_OK;
}

static jt_status read_setting(jt_task *task, const char *key, const json_t *value,
                              jt_err *err)
{
    if (!strcmp(key, "name"))
        return replace(&task->name, key, value, err);
    if (!strcmp(key, "delimiter"))
        return replace(&task->delimiter, key, value, err);
    if (!strcmp(key, "stop"))
        return read_stops(task, value, err);
    if (!strcmp(key, "text") || !strcmp(key, "licence"))
        return JT_OK; /* for people */
    if (!strcmp(key, "filter")) {
        if (!json_is_string(value))
            return jt_fail(err, JT_E_FORMAT, "\"filter\" is not a string");
        return jt_filter_new(&task->filter, json_string_value(value), err);
    }
    if (!strcmp(key, "ignore_case")) {
        if (!json_is_boolean(value))
            return jt_fail(err, JT_E_FORMAT, "\"ignore_case\" is not true or false");
        task->ignore_case = json_is_true(value);
        return JT_OK;
    }
    if (!strcmp(key, "max_tokens")) {
        json_int_t n = json_integer_value(value);
        if (n < 1 || n > MOST_REPLY)
            return jt_fail(err, JT_E_FORMAT, "\"max_tokens\" is not in 1 to %d",
                           MOST_REPLY);
        task->max_tokens = (int)n;
        return JT_OK;
    }
    return jt_fail(err, JT_E_FORMAT, "a task has no setting \"%.40s\"", key);
}

static jt_status read_head(jt_task *task, json_t *head, jt_err *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(head))
        return jt_fail(err, JT_E_FORMAT, "\"task\" is not an object");
    json_object_foreach(head, key, value) JT_TRY(read_setting(task, key, value, err));
    return JT_OK;
}

/* ---- questions ---- */

/* The first of these names that the record has; *key is NULL when there is none. */
static const json_t *find(const json_t *record, const char *const *names,
                          const char **key)
{
    for (*key = NULL; *names; names++) {
        if (json_object_get(record, *names))
            return json_object_get(record, *key = *names);
    }
    return NULL;
}

static jt_status read_options(jt_question *q, const char *key, const json_t *value,
                              size_t least, jt_err *err)
{
    size_t n = json_is_string(value) ? 1 : json_array_size(value);
    if (n < least || n > MOST_OPTIONS)
        return jt_fail(err, JT_E_FORMAT, "\"%s\" is not a list of %zu to %d strings",
                       key, least, MOST_OPTIONS);
    q->options = jt_calloc(n, sizeof *q->options);
    if (!q->options)
        return jt_fail_memory(err, "reading a task");
    q->n_options = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_string(value) ? value : json_array_get(value, i);
        if (!json_is_string(item) || json_string_length(item) == 0)
            return jt_fail(err, JT_E_FORMAT, "item %zu of \"%s\" is no text", i + 1,
                           key);
        q->options[i] = str_of(item);
    }
    return JT_OK;
}

/* What kind of question a record is, and all of it but the domain. */
static jt_status read_kind(jt_question *q, const json_t *record, jt_task_kind *kind,
                           jt_err *err)
{
    static const char *const questions[] = {"question", "context", "query", NULL};
    static const char *const choices[] = {"choices", "endings", NULL};
    static const char *const golds[] = {"gold", "label", NULL};
    static const char *const answers[] = {"answers", "answer", NULL};
    const char *key, *which;
    const json_t *text = json_object_get(record, "text");
    const json_t *context = find(record, questions, &key);
    if (!text == !context || !json_is_string(text ? text : context))
        return jt_fail(err, JT_E_FORMAT,
                       "a record has a string \"text\", or a string \"question\" "
                       "(\"context\", \"query\")");
    q->context = str_of(text ? text : context);
    const json_t *list = find(record, choices, &key);
    const json_t *gold = find(record, golds, &which);
    *kind = text ? JT_TASK_TEXT : list ? JT_TASK_CHOICE : JT_TASK_REPLY;
    if (*kind == JT_TASK_TEXT)
        return JT_OK;
    if (*kind == JT_TASK_REPLY) {
        list = find(record, answers, &key);
        if (!list)
            return jt_fail(err, JT_E_FORMAT,
                           "a question has neither \"choices\" nor \"answer\"");
        return read_options(q, key, list, 1, err);
    }
    JT_TRY(read_options(q, key, list, 2, err));
    json_int_t n = json_integer_value(gold);
    if (!json_is_integer(gold) || n < 0 || (size_t)n >= q->n_options)
        return jt_fail(err, JT_E_FORMAT, "\"gold\" is not a number in 0 to %zu",
                       q->n_options - 1);
    q->gold = (size_t)n;
    return JT_OK;
}

static jt_status read_domain(jt_task *task, jt_question *q, const json_t *record,
                             jt_err *err)
{
    const json_t *value = json_object_get(record, "domain");
    if (value && !json_is_string(value))
        return jt_fail(err, JT_E_FORMAT, "\"domain\" is not a string");
    const char *name = value ? json_string_value(value) : "";
    while (q->domain < task->n_domains && strcmp(task->domains[q->domain], name) != 0)
        q->domain++;
    if (q->domain < task->n_domains)
        return JT_OK;
    if (q->domain >= MOST_OPTIONS)
        return jt_fail(err, JT_E_FORMAT, "more than %d domains", MOST_OPTIONS);
    if (!jt_grow((void **)&task->domains, &task->domain_capacity, q->domain + 1,
                 sizeof *task->domains))
        return jt_fail_memory(err, "reading a task");
    task->domains[task->n_domains++] = name;
    return JT_OK;
}

/* Its strings live as long as `record`, which the task keeps. */
static jt_status read_question(jt_task *task, size_t line, json_t *record, jt_err *err)
{
    jt_task_kind kind = JT_TASK_TEXT;
    if (!jt_grow((void **)&task->questions, &task->capacity, task->count + 1,
                 sizeof *task->questions) ||
        json_array_append(task->records, record) != 0)
        return jt_fail_memory(err, "reading a task");
    jt_question *q = &task->questions[task->count++];
    *q = (jt_question){.line = line};
    JT_TRY(read_kind(q, record, &kind, err));
    if (task->count > 1 && kind != task->kind)
        return jt_fail(err, JT_E_FORMAT, "a question of kind %s among those of kind %s",
                       jt_task_kind_name(kind), jt_task_kind_name(task->kind));
    task->kind = kind;
    return read_domain(task, q, record, err);
}

/* ---- the file ---- */

static jt_status read_line(jt_task *task, size_t number, bool *begun, jt_str line,
                           jt_err *err)
{
    json_error_t why;
    json_t *record = json_loadb(line.data, line.len, JSON_REJECT_DUPLICATES, &why);
    if (!record && json_error_code(&why) == json_error_out_of_memory)
        return jt_fail_memory(err, "parsing JSON");
    if (!record)
        return jt_fail(err, JT_E_FORMAT, "bad JSON: %s", why.text);
    json_t *head = *begun ? NULL : json_object_get(record, "task");
    jt_status status = JT_OK;
    if (!json_is_object(record))
        status = jt_fail(err, JT_E_FORMAT, "no JSON object");
    else
        status = json_is_object(head) ? read_head(task, head, err)
                                      : read_question(task, number, record, err);
    *begun = true;
    json_decref(record);
    return status;
}

static jt_status read_lines(jt_task *task, jt_str rest, jt_err *err)
{
    bool begun = false;
    for (size_t number = 1; rest.len > 0; number++) {
        jt_str line = jt_take_line(&rest);
        if (jt_is_blank(line))
            continue;
        jt_status status = read_line(task, number, &begun, line, err);
        if (status != JT_OK)
            return jt_fail_within(err, status, "line %zu", number);
    }
    return task->count ? JT_OK : jt_fail(err, JT_E_FORMAT, "no question");
}

jt_status jt_task_parse(jt_task **out, const char *name, const char *text, size_t bytes,
                        jt_err *err)
{
    jt_task *task = jt_calloc(1, sizeof *task);
    jt_status status = JT_OK;
    if (task)
        *task = (jt_task){.name = jt_strndup(name, strlen(name)),
                          .delimiter = jt_strndup("", 0),
                          .max_tokens = 64,
                          .records = json_array(),
                          .hash = jt_hash(JT_HASH_START, text, bytes)};
    if (!task || !task->name || !task->delimiter || !task->records)
        status = jt_fail_memory(err, "reading a task");
    else
        status = read_lines(task, jt_skip_mark((jt_str){text, bytes}), err);
    if (status != JT_OK) {
        jt_task_free(task);
        return jt_fail_within(err, status, "task '%s'", name);
    }
    *out = task;
    return JT_OK;
}

jt_status jt_task_open(jt_task **out, const char *path, jt_err *err)
{
    enum { LIMIT = 1 << 30 };
    char *text;
    size_t bytes;
    JT_TRY(jt_read_file(&text, &bytes, path, LIMIT, err));
    jt_status status = jt_task_parse(out, path, text, bytes, err);
    free(text);
    return status;
}

void jt_task_free(jt_task *task)
{
    if (!task)
        return;
    for (size_t i = 0; i < task->count; i++)
        free(task->questions[i].options);
    for (size_t i = 0; i < task->n_stop; i++)
        free((char *)task->stop[i]);
    free(task->questions);
    free(task->stop);
    free(task->domains);
    free(task->name);
    free(task->delimiter);
    jt_filter_free(task->filter);
    json_decref(task->records);
    free(task);
}

void jt_task_limit(jt_task *task, size_t n)
{
    task->limit = n;
}

void jt_task_describe(const jt_task *task, jt_task_info *info)
{
    bool all = !task->limit || task->limit > task->count;
    *info = (jt_task_info){.name = task->name,
                           .kind = task->kind,
                           .questions = all ? task->count : task->limit,
                           .hash = task->hash};
}
