/* Errors as values, and the log.
 *
 * Every function that can fail returns a jt_status and, when the caller passes a
 * jt_err, fills in a message that names the culprit (file, tensor, key, flag) and,
 * where the user can act, says what to do. Unless a function says otherwise, a failed
 * call changes nothing. The library never prints, exits or aborts.
 *
 *     jt_err err = {0};
 *     if (jt_model_load(&model, "m.gguf", NULL, &err) != JT_OK)
 *         fprintf(stderr, "%s\n", err.msg);
 */
#ifndef JUNTO_STATUS_H
#define JUNTO_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define JT_API              __attribute__((visibility("default")))
#define JT_PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))
#else
#define JT_API
#define JT_PRINTF(fmt, arg)
#endif

/* X(name, code, text). Codes are stable; new ones go at the end. */
#define JT_STATUS_LIST(X)                   \
    X(JT_OK, 0, "ok")                       \
    X(JT_E_ARG, 1, "invalid argument")      \
    X(JT_E_MEMORY, 2, "out of memory")      \
    X(JT_E_IO, 3, "input/output error")     \
    X(JT_E_FORMAT, 4, "malformed file")     \
    X(JT_E_UNSUPPORTED, 5, "not supported") \
    X(JT_E_LIMIT, 6, "limit exceeded")      \
    X(JT_E_INTERRUPTED, 7, "interrupted")

typedef enum jt_status {
#define X(name, code, text) name = code,
    JT_STATUS_LIST(X)
#undef X
} jt_status;

/* Caller-owned error. `msg` is one line: lower case, no full stop, printable. */
typedef struct jt_err {
    jt_status code;
    char msg[508];
} jt_err;

/* Fixed text of a status, for example "out of memory". Never NULL. */
JT_API const char *jt_status_text(jt_status status);

/* Fill `err` (may be NULL) and return `status`. Control characters that come from
 * files are masked with '?'. */
JT_API jt_status jt_fail(jt_err *err, jt_status status, const char *fmt, ...)
    JT_PRINTF(3, 4);
#ifdef __clang_analyzer__ /* it cannot know that the status comes back */
#define jt_fail(err, status, ...) ((jt_fail)(err, status, __VA_ARGS__), (status))
#endif

/* Put "context: " before the message of an error that is being passed on, and return
 * its status. */
JT_API jt_status jt_fail_within(jt_err *err, jt_status status, const char *fmt, ...)
    JT_PRINTF(3, 4);

/* Pass a failure on to the caller. */
#define JT_TRY(call)                      \
    do {                                  \
        jt_status jt_try_status = (call); \
        if (jt_try_status != JT_OK)       \
            return jt_try_status;         \
    } while (0)

typedef enum jt_log_level { JT_LOG_DEBUG, JT_LOG_INFO, JT_LOG_WARN } jt_log_level;

/* Where log lines go. `fn` may be NULL: nothing is logged. It is called from the thread
 * that called the library; `line` has no line end and is valid only during the call. */
typedef struct jt_log {
    void (*fn)(void *user, jt_log_level level, const char *line);
    void *user;
} jt_log;

JT_API void jt_log_line(const jt_log *log, jt_log_level level, const char *fmt, ...)
    JT_PRINTF(3, 4);

/* How far a long job is. `fn` may be NULL. Called at least at the start (done = 0) and
 * at the end (done = total); `total` is 0 where it is not known. Returning non-zero
 * asks the job to stop: it ends with JT_E_INTERRUPTED and leaves no half-written file.
 */
typedef struct jt_progress {
    int (*fn)(void *user, const char *what, unsigned long long done,
              unsigned long long total);
    void *user;
} jt_progress;

/* Report to `progress` (may be NULL); JT_E_INTERRUPTED when it asks to stop. */
JT_API jt_status jt_progress_report(const jt_progress *progress, const char *what,
                                    unsigned long long done, unsigned long long total,
                                    jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
