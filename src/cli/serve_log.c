#include "serve_log.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* "KEY=VALUE": a value reaches to the next word with a =, or to the end. */
static const char *value_end(const char *value)
{
    const char *end = value + strcspn(value, " ");
    while (*end) {
        size_t word = strcspn(end + 1, " =");
        if (end[1 + word] == '=')
            return end;
        end += 1 + strcspn(end + 1, " ");
    }
    return end;
}

static json_t *line_json(const char *stamp, const char *level, const char *line)
{
    size_t event = strcspn(line, " ");
    json_t *json = json_pack("{ss ss so}", "time", stamp, "level", level, "event",
                             cli_json_text(line, event));
    for (const char *at = line + event; *at == ' ';) {
        size_t key = strcspn(++at, "=");
        if (!at[key])
            break;
        char *name = strndup(at, key);
        const char *value = at + key + 1, *end = value_end(value);
        if (name)
            json_object_set_new(json, name,
                                cli_json_text(value, (size_t)(end - value)));
        free(name);
        at = end;
    }
    return json;
}

static void print_json(json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    if (text)
        fprintf(stderr, "%s\n", text);
    free(text);
    json_decref(json);
}

static void print_line(void *user, jt_log_level level, const char *line)
{
    static const char *const names[] = {"debug", "info", "warn"};
    const serve_log *log = user;
    char stamp[32];
    time_t now = time(NULL);
    struct tm utc;
    if (log->quiet && level != JT_LOG_WARN)
        return;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    if (log->json)
        print_json(line_json(stamp, names[level], line));
    else
        fprintf(stderr, "%s %s %s\n", stamp, names[level], line);
}

jt_log serve_log_open(serve_log *log)
{
    return (jt_log){print_line, log};
}
