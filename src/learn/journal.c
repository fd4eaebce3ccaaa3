#include "learn/journal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/utf8.h"

enum { DIGITS = 9 };

struct jt_journal {
    FILE *stream;
    char *path; /* for errors */
};

static jt_status fail_errno(jt_err *err, const char *what, const char *path)
{
    return jt_fail(err, JT_E_IO, "cannot %s '%s': %s", what, path, strerror(errno));
}

/* ---- reading ---- */

/* The object of a line; NULL for what is none. */
static json_t *parse_line(const char *text, size_t len)
{
    json_t *line = json_loadb(text, len, 0, NULL);
    if (json_is_object(line))
        return line;
    json_decref(line);
    return NULL;
}

static jt_status read_lines(FILE *stream, jt_journal_fn *fn, void *user, jt_err *err)
{
    char *text = NULL;
    size_t room = 0;
    jt_status status = JT_OK;
    ssize_t len;
    while (status == JT_OK && (len = getline(&text, &room, stream)) > 0) {
        json_t *line = parse_line(text, (size_t)len);
        if (line)
            status = fn(user, line, err);
        json_decref(line);
    }
    free(text);
    return status;
}

jt_status jt_journal_read(const char *path, jt_journal_fn *fn, void *user, jt_err *err)
{
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return fail_errno(err, "open", path);
    jt_status status = read_lines(stream, fn, user, err);
    if (status == JT_OK && ferror(stream))
        status = fail_errno(err, "read", path);
    fclose(stream);
    return status;
}

/* ---- opening ---- */

static bool is_later(const char *text, size_t len, int64_t step)
{
    json_t *line = parse_line(text, len);
    bool later = json_integer_value(json_object_get(line, "step")) > step;
    json_decref(line);
    return later;
}

/* Where the lines up to `step` end. */
static off_t find_end(FILE *stream, int64_t step)
{
    char *text = NULL;
    size_t room = 0;
    off_t end = 0;
    ssize_t len;
    while ((len = getline(&text, &room, stream)) > 0 && text[len - 1] == '\n' &&
           !is_later(text, (size_t)len, step))
        end += len;
    free(text);
    return end;
}

/* Take off what comes after `step`, and stand at the end. */
static jt_status cut(const jt_journal *journal, int64_t step, jt_err *err)
{
    FILE *stream = journal->stream;
    rewind(stream);
    off_t end = find_end(stream, step);
    if (ferror(stream))
        return fail_errno(err, "read", journal->path);
    if (fseeko(stream, end, SEEK_SET) != 0 || ftruncate(fileno(stream), end) != 0)
        return fail_errno(err, "shorten", journal->path);
    return JT_OK;
}

jt_status jt_journal_open(jt_journal **out, const char *path, int64_t resume_step,
                          jt_err *err)
{
    jt_journal *journal = jt_calloc(1, sizeof *journal);
    if (journal)
        journal->path = jt_strndup(path, strlen(path));
    if (!journal || !journal->path) {
        jt_journal_close(journal);
        return jt_fail_memory(err, "opening the log");
    }
    /* "a" makes the file where there is none and leaves what there is. */
    journal->stream = fopen(path, resume_step < 0 ? "wbe" : "a+be");
    jt_status status = journal->stream ? JT_OK : fail_errno(err, "open", path);
    if (status == JT_OK && resume_step >= 0)
        status = cut(journal, resume_step, err);
    if (status == JT_OK)
        *out = journal;
    else
        jt_journal_close(journal);
    return status;
}

void jt_journal_close(jt_journal *journal)
{
    if (!journal)
        return;
    if (journal->stream)
        fclose(journal->stream);
    free(journal->path);
    free(journal);
}

/* ---- writing ---- */

json_t *jt_journal_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *step_line(const jt_train_event *e)
{
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"loss", e->loss},
                   {"lr", e->lr},
                   {"grad_norm", e->grad_norm},
                   {"balance_loss", e->balance_loss},
                   {"z_loss", e->z_loss},
                   {"max_violation", e->max_violation},
                   {"worst_violation", e->worst_violation},
                   {"experts_used", e->experts_used},
                   {"dropped", e->dropped},
                   {"tokens_per_second", e->tokens_per_second}};
    json_t *line = json_pack("{s:s, s:I, s:I}", "kind", "step", "step",
                             (json_int_t)e->step, "tokens", (json_int_t)e->tokens);
    bool good = line;
    for (size_t i = 0; good && i < sizeof numbers / sizeof *numbers; i++)
        good = json_object_set_new(line, numbers[i].name,
                                   jt_journal_number(numbers[i].value)) == 0;
    if (good)
        return line;
    json_decref(line);
    return NULL;
}

enum { LONGEST_NAME = 200 };

/* A domain as JSON can hold it: names of files may be any bytes. */
static void clean_name(char *out, const char *name)
{
    for (size_t used = 0; *name && used + 4 < LONGEST_NAME;) {
        size_t n = jt_utf8_char(name, strlen(name));
        memcpy(out + used, n ? name : "?", n ? n : 1);
        used += n ? n : 1;
        name += n ? n : 1;
        out[used] = '\0';
    }
}

/* {"books": 3.9, ...}; a name that comes again gets its number: "books (2)". */
static json_t *domains_json(const jt_train_event *e)
{
    json_t *domains = json_object();
    for (size_t i = 0; domains && i < e->n_domains; i++) {
        char clean[LONGEST_NAME] = "?", name[LONGEST_NAME + 20];
        clean_name(clean, e->domain[i]);
        snprintf(name, sizeof name, "%s", clean);
        for (int n = 2; json_object_get(domains, name); n++)
            snprintf(name, sizeof name, "%s (%d)", clean, n);
        json_object_set_new(domains, name, jt_journal_number(e->domain_loss[i]));
    }
    return domains;
}

static json_t *eval_line(const jt_train_event *e)
{
    return json_pack("{s:s, s:I, s:I, s:o, s:o}", "kind", "eval", "step",
                     (json_int_t)e->step, "tokens", (json_int_t)e->tokens, "loss",
                     jt_journal_number(e->loss), "domains", domains_json(e));
}

static jt_status put(jt_journal *journal, const json_t *line, jt_err *err)
{
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS));
    if (!text)
        return jt_fail_memory(err, "writing the log");
    fprintf(journal->stream, "%s\n", text);
    free(text);
    if (fflush(journal->stream) != 0 || ferror(journal->stream))
        return fail_errno(err, "write", journal->path);
    return JT_OK;
}

jt_status jt_journal_write(jt_journal *journal, const jt_train_event *event,
                           const json_t *more, jt_err *err)
{
    if (event->kind == JT_TRAIN_SAVE)
        return fsync(fileno(journal->stream)) == 0
                   ? JT_OK
                   : fail_errno(err, "write", journal->path);
    json_t *line = event->kind == JT_TRAIN_STEP ? step_line(event) : eval_line(event);
    jt_status status = JT_OK;
    if (!line || (more && json_object_update_missing(line, (json_t *)(uintptr_t)more)))
        status = jt_fail_memory(err, "writing the log");
    if (status == JT_OK)
        status = put(journal, line, err);
    json_decref(line);
    return status;
}
