/* A server before its model is there, and requests for which there is no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "junto/serve.h"
#include "serve/work.h"

/* The status that a request is answered with, and the answer. */
static int ask(const jt_server *server, const char *request, char *answer, size_t size)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)jt_server_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int s = socket(AF_INET, SOCK_STREAM, 0), status = 0;
    size_t used = 0;
    assert_int_equal(connect(s, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(write(s, request, strlen(request)), strlen(request));
    for (ssize_t got; (got = read(s, answer + used, size - used - 1)) > 0;)
        used += (size_t)got;
    close(s);
    answer[used] = '\0';
    assert_int_equal(sscanf(answer, "HTTP/1.1 %d", &status), 1);
    return status;
}

static void a_server_without_a_model_says_so(void **state)
{
    (void)state;
    char answer[4096];
    jt_server *server;
    jt_server_options options = {0};
    assert_int_equal(jt_server_new(&server, &options, NULL), JT_OK);
    assert_int_equal(ask(server,
                         "GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                         answer, sizeof answer),
                     503);
    assert_non_null(strstr(answer, "\"code\":\"loading\""));
    assert_non_null(strstr(answer, "Retry-After: 1\r\n"));
    assert_int_equal(ask(server,
                         "POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
                         "Content-Type: application/json\r\nContent-Length: 2\r\n"
                         "Connection: close\r\n\r\n{}",
                         answer, sizeof answer),
                     503);
    jt_server_drain(server);
    assert_false(jt_server_busy(server));
    jt_server_free(server);
}

static void options_have_their_ranges(void **state)
{
    (void)state;
    const jt_server_options wrong[] = {{.port = 65536},         {.slots = -1},
                                       {.queue = -1},           {.prefill = "none"},
                                       {.host = "example.org"}, {.api_key = ""}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        jt_server *server = NULL;
        jt_err err = {0};
        assert_int_equal(jt_server_new(&server, &wrong[i], &err), JT_E_ARG);
        assert_true(err.msg[0]);
        assert_null(server);
    }
}

/* The work of a request while the n-th allocation fails; NULL: it could not be made. */
static jt_work *make_work(const jt_replier *who, long n, jt_problem *problem)
{
    static const char body[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"text\": \"Hi\"}]}],"
        " \"n\": 2, \"junto\": {\"policy\": \"topk:k=1\"}}";
    jt_sampling usual = jt_sampling_default();
    jt_ask read;
    jt_fault_after(n);
    jt_work *work = NULL;
    if (jt_ask_read(&read, true, body, strlen(body), &usual, problem))
        work = jt_work_new(&read, who, problem);
    else
        jt_ask_free(&read);
    jt_fault_after(-1);
    return work;
}

static void work_is_made_whole_or_not_at_all(void **state)
{
    (void)state;
    char path[512];
    const char *data = getenv("JUNTO_TEST_DATA");
    jt_model *model;
    jt_chat *chat;
    snprintf(path, sizeof path, "%s/golden/mixtral.gguf", data ? data : "tests");
    assert_int_equal(jt_model_load(&model, path, NULL), JT_OK);
    assert_int_equal(jt_chat_new(&chat, jt_model_file(model), jt_model_tokenizer(model),
                                 NULL, 0, NULL),
                     JT_OK);
    jt_replier who = {.model = model, .chat = chat, .n_ctx = 64};
    jt_work *work = NULL;
    long n = 0;
    for (; !work && n < 1000; n++) {
        jt_problem problem = {0};
        work = make_work(&who, n, &problem);
        if (!work)
            assert_int_equal(problem.status, 500);
    }
    assert_non_null(work);
    assert_true(n > 5);
    assert_int_equal(work->n, 2);
    jt_work_free(work);
    jt_chat_free(chat);
    jt_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_without_a_model_says_so),
        cmocka_unit_test(options_have_their_ranges),
        cmocka_unit_test(work_is_made_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
