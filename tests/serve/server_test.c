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

#include "../store/own_expert.h"
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

/* The answer to a text of two tokens, after which one more comes. */
static int complete(const jt_server *server, const int32_t *text, char *answer,
                    size_t size)
{
    char body[128], request[512];
    int len = snprintf(body, sizeof body,
                       "{\"prompt\": [%d, %d], \"max_tokens\": 1, \"temperature\": 0}",
                       text[0], text[1]);
    snprintf(request, sizeof request,
             "POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
             "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
             len, body);
    return ask(server, request, answer, size);
}

/* Somebody else, who asks again and again. */
typedef struct neighbour {
    const jt_server *server;
    const int32_t *text;
    int failures;
} neighbour;

static void *ask_often(void *arg)
{
    neighbour *n = arg;
    char answer[4096];
    for (int i = 0; i < 20; i++)
        n->failures += complete(n->server, n->text, answer, sizeof answer) != 200;
    return NULL;
}

/* A place of the disk that cannot be read fails the requests that need it, by name. */
static void a_bad_place_fails_whom_it_concerns(void **state)
{
    (void)state;
    static const int32_t text[2][2] = {{5, 9}, {30, 12}};
    char path[512], answer[4096], said[64];
    const char *data = getenv("JUNTO_TEST_DATA");
    jt_model *model;
    jt_chat *chat;
    jt_server *server;
    jt_read_fault fault;
    int layer = -1, expert = -1;
    snprintf(path, sizeof path, "%s/golden/mixtral.gguf", data ? data : "tests");
    assert_int_equal(jt_model_load_apart(&model, path, NULL), JT_OK);
    assert_int_equal(jt_chat_new(&chat, jt_model_file(model), jt_model_tokenizer(model),
                                 NULL, 0, NULL),
                     JT_OK);
    find_own(&layer, &expert, &fault, model, text[0], text[1], 2);
    snprintf(said, sizeof said, "cannot read expert %d of layer %d ", expert, layer);
    jt_server_options options = {.session = {.threads = 1,
                                             .n_ctx = 64,
                                             .store = {.slots = fewest_slots(model),
                                                       .io = "direct",
                                                       .prefetch = "off"}}};
    jt_read_fault_set(fault);
    assert_int_equal(jt_server_new(&server, &options, NULL), JT_OK);
    assert_int_equal(jt_server_open(server, model, chat, NULL), JT_OK);
    neighbour other = {server, text[1], 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ask_often, &other), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(complete(server, text[0], answer, sizeof answer), 500);
        assert_non_null(strstr(answer, said));
        assert_non_null(strstr(answer, "\"type\":\"server_error\""));
    }
    pthread_join(thread, NULL);
    assert_int_equal(other.failures, 0);
    jt_server_free(server);
    jt_read_fault_set((jt_read_fault){.after = -1});
    jt_chat_free(chat);
    jt_model_free(model);
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
        cmocka_unit_test(a_bad_place_fails_whom_it_concerns),
        cmocka_unit_test(work_is_made_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
