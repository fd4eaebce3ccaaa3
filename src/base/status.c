#include "junto/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *jt_status_text(jt_status status)
{
    switch (status) {
#define X(name, code, text) \
    case name:              \
        return text;
        JT_STATUS_LIST(X)
#undef X
    }
    return "unknown error";
}

/* Names from files may carry escape sequences; a terminal must not obey them. The
 * second range of control characters, U+0080 to U+009F, is two bytes in UTF-8. */
static void mask_controls(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
            p[0] = p[1] = '?';
        else if (*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
}

jt_status(jt_fail)(jt_err *err, jt_status status, const char *fmt, ...)
{
    if (!err)
        return status;
    err->code = status;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, args);
    va_end(args);
    mask_controls(err->msg);
    return status;
}

jt_status jt_fail_within(jt_err *err, jt_status status, const char *fmt, ...)
{
    if (!err)
        return status;
    char context[sizeof err->msg];
    va_list args;
    va_start(args, fmt);
    vsnprintf(context, sizeof context, fmt, args);
    va_end(args);
    mask_controls(context);
    size_t head = strlen(context);
    if (head > sizeof err->msg / 2)
        head = sizeof err->msg / 2;
    size_t room = sizeof err->msg - head - 3, tail = strlen(err->msg);
    if (tail > room)
        tail = room;
    memmove(err->msg + head + 2, err->msg, tail);
    memcpy(err->msg, context, head);
    memcpy(err->msg + head, ": ", 2);
    err->msg[head + 2 + tail] = '\0';
    err->code = status;
    return status;
}

void jt_log_line(const jt_log *log, jt_log_level level, const char *fmt, ...)
{
    if (!log || !log->fn)
        return;
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    mask_controls(line);
    log->fn(log->user, level, line);
}

jt_status jt_progress_report(const jt_progress *progress, const char *what,
                             unsigned long long done, unsigned long long total,
                             jt_err *err)
{
    if (progress && progress->fn && progress->fn(progress->user, what, done, total))
        return jt_fail(err, JT_E_INTERRUPTED, "%s: interrupted", what);
    return JT_OK;
}
