/* Any bytes as a task and, after the first NUL, as a file of answers to it: each is
 * refused with a message, or read and scored. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "walk.h"
#include "watch/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(jt_status status, const jt_err *err)
{
    WALK_CHECK(err->code == status && err->msg[0]);
    for (const char *p = err->msg; *p; p++)
        WALK_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void score(const jt_task *task, const char *text, size_t size)
{
    jt_err err = {0};
    jt_task_result result;
    size_t whole = 0;
    jt_answers answers = {.head = json_pack("{s:s, s:s}", "model", "0", "settings", ""),
                          .by_question = json_object()};
    jt_status status = jt_answers_read(&answers, text, size, &whole, &err);
    WALK_CHECK(whole <= size);
    if (status == JT_OK)
        status = jt_task_score_answers(task, &answers, &result, &err);
    if (status != JT_OK) {
        check_refusal(status, &err);
    } else {
        WALK_CHECK(result.all.questions > 0 && result.all.questions <= task->count);
        WALK_CHECK(isnan(result.all.accuracy) || result.all.accuracy <= 1.0);
        jt_task_result_free(&result);
    }
    json_decref(answers.head);
    json_decref(answers.by_question);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *end = size ? memchr(text, 0, size) : NULL;
    size_t len = end ? (size_t)(end - text) : size;
    jt_task *task = NULL;
    jt_err err = {0};
    jt_status status = jt_task_parse(&task, "made", text, len, &err);
    WALK_CHECK((status == JT_OK) == (task != NULL));
    if (status != JT_OK) {
        check_refusal(status, &err);
        return 0;
    }
    task->hash = 0; /* a fuzzer would not guess it */
    score(task, end ? end + 1 : text + len, end ? size - len - 1 : 0);
    jt_task_free(task);
    return 0;
}
