/* junto serve: a model for many users, over HTTP. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "serve_adapters.h"
#include "serve_log.h"
#include "serve_models.h"
#include "verbs.h"

struct args {
    cli_common common;
    cli_list models;
    const char *config, *host, *key_file, *name, *prefill, *log;
    int port, slots, queue, per_client, client_tokens, connections, predict, idle,
        reply, grace, keep, loaded;
    uint64_t body, kept, adapter_memory;
    cli_list adapters;
    const char *adapter_folder;
    cli_template_args template;
    jt_session_options session;
    cli_trace_flags trace;
};

#define FIELD(name) offsetof(struct args, name)

static const cli_option operands[] = {
    {.flags = "MODEL",
     .kind = CLI_LIST,
     .offset = FIELD(models),
     .help = "GGUF file, Hugging Face folder, name of 'junto list', or ALIAS=any of "
             "these. Several are loaded when requests name them; without any, those of "
             "the shelf are"},
    {0}};

static const cli_option listen_options[] = {
    {.flags = "--host",
     .kind = CLI_STRING,
     .value = "ADDRESS",
     .initial = "127.0.0.1",
     .offset = FIELD(host),
     .help = "numeric address to listen on; 0.0.0.0 or ::, and the whole network can "
             "ask"},
    {.flags = "--port",
     .kind = CLI_INT,
     .value = "N",
     .initial = "8080",
     .offset = FIELD(port),
     .max = 65535,
     .help = "port to listen on; 0: one that is free"},
    {.flags = "--api-key-file",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = FIELD(key_file),
     .help = "file of keys, one a line, of which every request must show one (default: "
             "$JUNTO_API_KEY, otherwise none is needed)"},
    {.flags = "--config",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = FIELD(config),
     .has_flags = true,
     .help = "read flags from a file: lines NAME = VALUE, and MODEL = VALUE"},
    {.flags = "-a --alias",
     .kind = CLI_STRING,
     .value = "NAME",
     .offset = FIELD(name),
     .help = "name of the model in answers (default: general.name of its file)"},
    {0}};

static const cli_option log_options[] = {
    {.flags = "--log",
     .kind = CLI_CHOICE,
     .value = "text|json",
     .initial = "text",
     .offset = FIELD(log),
     .help = "form of the log: a line of key=value pairs, or a JSON object, per event"},
    {0}};

static const cli_option reply_options[] = {
    {.flags = "-np --parallel",
     .kind = CLI_INT,
     .value = "N",
     .initial = "4",
     .offset = FIELD(slots),
     .min = 1,
     .max = 1024,
     .help = "replies that run at once, each with a context of its own"},
    {.flags = "--prefill",
     .kind = CLI_CHOICE,
     .value = "chunked|layered|whole",
     .initial = "chunked",
     .offset = FIELD(prefill),
     .help =
         "while other replies go on, run prompts a chunk at a time, or layer by layer, "
         "which reads less; or each as a whole, while others wait"},
    {.flags = "--prefix-cache",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .initial = "256M",
     .offset = FIELD(kept),
     .help = "memory for contexts that slots no longer hold, so that a prompt which "
             "begins like an earlier one starts from there; those used least recently "
             "make room; 0: none is kept"},
    {.flags = "-n --predict --n-predict",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = FIELD(predict),
     .max = 1 << 24,
     .help =
         "tokens of a reply at most, whatever it asks for; 0: as far as its context "
         "goes"},
    {.flags = "--chat-template --chat-format --chat-template-file",
     .kind = CLI_PATH,
     .value = "NAME|FILE",
     .offset = FIELD(template.given),
     .help = "chatml, llama3, zephyr, plain, a file with a Jinja template, or its text "
             "(default: what the model's file carries, otherwise plain)"},
    {0}};

static const cli_option keep_options[] = {
    {.flags = "--keep-alive",
     .kind = CLI_INT,
     .value = "SECONDS",
     .initial = "300",
     .offset = FIELD(keep),
     .min = -1,
     .max = 1 << 30,
     .help =
         "of several models, those that nobody used for that long leave the memory; "
         "-1: never"},
    {.flags = "--max-loaded",
     .kind = CLI_INT,
     .value = "N",
     .initial = "0",
     .offset = FIELD(loaded),
     .max = 1 << 20,
     .help = "models in memory at once: one that was not used for longest makes room; "
             "0: any number"},
    {0}};

static const cli_option adapter_options[] = {
    {.flags = "--adapter --lora",
     .kind = CLI_LIST,
     .value = "NAME=FILE[@TASK][:SCALE]",
     .offset = FIELD(adapters),
     .help = "an adapter that requests can name (default NAME: that of the file), as "
             "'run --adapter' takes it; may be given several times"},
    {.flags = "--adapter-dir",
     .kind = CLI_PATH,
     .value = "DIR",
     .offset = FIELD(adapter_folder),
     .help = "folder whose adapters can be offered while the server runs (POST "
             "/v1/junto/adapters)"},
    {.flags = "--adapter-memory",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .offset = FIELD(adapter_memory),
     .min = 1,
     .help = "memory for adapters: those that were not used for longest leave it, and "
             "are read again when a request names them (default: no bound)"},
    {0}};

static const cli_option limit_options[] = {
    {.flags = "--queue",
     .kind = CLI_INT,
     .value = "N",
     .initial = "64",
     .offset = FIELD(queue),
     .min = 1,
     .max = 1 << 20,
     .help = "replies that may wait for a place; further requests are refused (429)"},
    {.flags = "--per-client",
     .kind = CLI_INT,
     .value = "N",
     .offset = FIELD(per_client),
     .max = 1 << 20,
     .help = "replies of one client (a key; without keys, an address), running or "
             "waiting; further requests are refused (429; default: no bound)"},
    {.flags = "--per-client-tokens",
     .kind = CLI_INT,
     .value = "N",
     .offset = FIELD(client_tokens),
     .max = 1 << 30,
     .help = "tokens of one client in a minute, of prompts and replies; further "
             "requests are refused, with the time to wait (429; default: no bound)"},
    {.flags = "--connections",
     .kind = CLI_INT,
     .value = "N",
     .initial = "128",
     .offset = FIELD(connections),
     .min = 1,
     .max = 1 << 16,
     .help = "connections at once, each with a thread"},
    {.flags = "--timeout",
     .kind = CLI_INT,
     .value = "SECONDS",
     .initial = "60",
     .offset = FIELD(idle),
     .min = 1,
     .max = 1 << 20,
     .help = "close a connection on which the client is silent, or does not read, for "
             "that long"},
    {.flags = "--reply-timeout",
     .kind = CLI_INT,
     .value = "SECONDS",
     .initial = "3600",
     .offset = FIELD(reply),
     .min = 1,
     .max = 1 << 30,
     .help = "end a reply that takes longer"},
    {.flags = "--max-body",
     .kind = CLI_SIZE,
     .value = "SIZE",
     .initial = "8M",
     .offset = FIELD(body),
     .min = 1,
     .help = "refuse larger requests (413)"},
    {.flags = "--grace",
     .kind = CLI_INT,
     .value = "SECONDS",
     .initial = "10",
     .offset = FIELD(grace),
     .max = 1 << 20,
     .help = "on Ctrl-C or SIGTERM, let what runs go on for that long before it is "
             "cancelled; a second signal cancels at once"},
    {0}};

static const cli_group groups[] = {
    {"Address", listen_options, 0},
    {"Replies", reply_options, 0},
    {"Adapters", adapter_options, 0},
    {NULL, cli_adapter_type_options, FIELD(session)},
    {"Several models", keep_options, 0},
    {"Limits", limit_options, 0},
    {"Log", log_options, 0},
    {"Larger than memory", cli_store_options, FIELD(session.store)},
    {NULL, cli_store_read_options, FIELD(session.store)},
    {"Machine", cli_context_options, FIELD(session)},
    {NULL, cli_threads_options, FIELD(session)},
    {NULL, cli_kernel_options, FIELD(session)},
    {NULL, cli_trace_options, FIELD(trace)},
    {NULL, cli_common_options, 0},
    {0}};

/* ---- serving ---- */

typedef struct serving {
    serve_log form;
    jt_log log;
    jt_server *server;
    serve_models models;
    serve_adapters adapters;
    jt_model *model; /* the only one; NULL: there are several */
    jt_chat *chat;
    jt_trace_writer *trace; /* or NULL */
    char *key;
    sigset_t signals;
} serving;

static jt_status listen_first(serving *s, const struct args *args, jt_err *err)
{
    jt_server_options options = {.host = args->host,
                                 .port = args->port,
                                 .api_key = s->key,
                                 .name = args->name,
                                 .slots = args->slots,
                                 .queue = args->queue,
                                 .per_client = args->per_client,
                                 .per_client_tokens = args->client_tokens,
                                 .connections = args->connections,
                                 .idle_seconds = args->idle,
                                 .reply_seconds = args->reply,
                                 .max_tokens = args->predict,
                                 .body_bytes = (size_t)args->body,
                                 .kept_bytes = (size_t)args->kept,
                                 .prefill = args->prefill,
                                 .adapters = s->adapters.offers,
                                 .n_adapters = s->adapters.count,
                                 .adapter_folder = args->adapter_folder,
                                 .adapter_bytes = args->adapter_memory,
                                 .session = args->session,
                                 .log = s->log};
    JT_TRY(jt_server_new(&s->server, &options, err));
    bool v6 = strchr(args->host, ':') != NULL;
    if (!s->key && strncmp(args->host, "127.", 4) != 0 &&
        strcmp(args->host, "::1") != 0)
        jt_log_line(&s->log, JT_LOG_WARN, "open host=%s: whoever reaches it can ask",
                    args->host);
    jt_log_line(&s->log, JT_LOG_INFO, "listening url=http://%s%s%s:%d", v6 ? "[" : "",
                args->host, v6 ? "]" : "", jt_server_port(s->server));
    return JT_OK;
}

static jt_status watch(serving *s, const struct args *args, jt_err *err)
{
    const cli_model model = {.model = s->model};
    JT_TRY(cli_trace_open(&s->trace, &args->trace, &model, NULL, err));
    if (!s->trace)
        return JT_OK;
    jt_watcher watcher = jt_trace_watcher(s->trace);
    jt_server_watch(s->server, &watcher);
    return JT_OK;
}

static jt_status open_only(serving *s, const struct args *args, jt_err *err)
{
    const jt_server_offer *only = s->models.offers;
    double start = cli_seconds();
    pthread_sigmask(SIG_UNBLOCK, &s->signals, NULL);
    JT_TRY(only->load(only->user, &s->model, &s->chat, err));
    pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
    JT_TRY(watch(s, args, err));
    JT_TRY(jt_server_open(s->server, s->model, s->chat, err));
    jt_log_line(&s->log, JT_LOG_INFO, "ready model=%s slots=%d load_seconds=%.2f",
                only->name, args->slots, cli_seconds() - start);
    return JT_OK;
}

static jt_status open_several(serving *s, const struct args *args, jt_err *err)
{
    jt_server_keep keep = {.seconds = args->keep, .most = args->loaded};
    if (args->name)
        return jt_fail(err, JT_E_ARG, "--alias is for one model: write ALIAS=MODEL");
    if (args->trace.path)
        return jt_fail(err, JT_E_ARG, "--trace is for one model");
    JT_TRY(
        jt_server_offer_all(s->server, s->models.offers, s->models.count, &keep, err));
    jt_log_line(&s->log, JT_LOG_INFO, "ready models=%zu slots=%d", s->models.count,
                args->slots);
    return JT_OK;
}

/* Signals are for the main thread alone, which waits for them; while the only model
 * loads, they end the process. */
static jt_status open_serving(serving *s, const struct args *args, jt_err *err)
{
    sigemptyset(&s->signals);
    sigaddset(&s->signals, SIGINT);
    sigaddset(&s->signals, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    JT_TRY(cli_trace_check(&args->trace, err));
    JT_TRY(cli_read_keys(&s->key, args->key_file, err));
    JT_TRY(serve_models_open(&s->models, &args->models, &args->template,
                             &args->session.store, err));
    JT_TRY(serve_adapters_open(&s->adapters, &args->adapters, err));
    pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
    JT_TRY(listen_first(s, args, err));
    return s->models.count == 1 ? open_only(s, args, err) : open_several(s, args, err);
}

/* Contexts and samplers come and go for weeks. What is large goes back to the system
 * when it is freed, and the threads of connections share few heaps; otherwise both
 * would leave more and more holes. */
static void keep_memory_flat(void)
{
#ifdef __GLIBC__
    enum { LARGE = 256 << 10, HEAPS = 2 };
    mallopt(M_MMAP_THRESHOLD, LARGE);
    mallopt(M_ARENA_MAX, HEAPS);
#endif
}

/* Holes that are there nevertheless go back, too: what is kept for long lies between
 * what is not, so that heaps grow while less and less of them is in use. */
static void give_holes_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static void wait_for_the_end(const serving *s, int grace)
{
    enum { PER_SECOND = 20 };
    const struct timespec tick = {.tv_nsec = 1000000000 / PER_SECOND};
    const struct timespec now_and_then = {.tv_sec = 2};
    while (sigtimedwait(&s->signals, NULL, &now_and_then) < 0)
        give_holes_back();
    jt_log_line(&s->log, JT_LOG_INFO, "stopping grace_seconds=%d", grace);
    jt_server_drain(s->server);
    for (long i = 0; i < (long)grace * PER_SECOND && jt_server_busy(s->server); i++) {
        if (sigtimedwait(&s->signals, NULL, &tick) > 0)
            break;
    }
}

static int run(cli_context *cli, const void *raw)
{
    const struct args *args = raw;
    keep_memory_flat();
    serving s = {.form = {.quiet = cli->quiet, .json = strcmp(args->log, "json") == 0}};
    s.log = serve_log_open(&s.form);
    jt_err err = {0};
    int code = CLI_DONE;
    if (open_serving(&s, args, &err) == JT_OK)
        wait_for_the_end(&s, args->grace);
    else
        code = cli_fail(cli, &err);
    jt_server_free(s.server);
    code = cli_trace_end(cli, s.trace, code);
    if (code == CLI_DONE)
        jt_log_line(&s.log, JT_LOG_INFO, "stopped");
    if (s.model)
        s.models.offers->unload(s.models.offers->user, s.model, s.chat);
    serve_models_close(&s.models);
    serve_adapters_close(&s.adapters);
    free(s.key);
    return code;
}

static const char *const examples[] = {
    "junto serve model.gguf",
    "answer OpenAI's clients at http://127.0.0.1:8080/v1",
    "junto serve model.gguf --host 0.0.0.0 --api-key-file key.txt",
    "let the network ask, with a key",
    "junto serve model.gguf -np 8 -c 2048 --prefill whole",
    "eight replies at once, prompts as fast as can be",
    "junto serve small=a.gguf big=b.gguf --keep-alive 60",
    "two models, each in memory while it is used",
    "junto serve model.gguf --ram 8G -np 8",
    "a model larger than memory, eight replies at once within 8 GB",
    "junto serve model.gguf --adapter poet=poet.safetensors --adapter law=law/:0.8",
    "adapters that requests name: {\"adapter\": \"poet\"}",
    NULL};

const cli_verb cli_verb_serve = {
    .name = "serve",
    .section = "Run",
    .summary = "answer many users over HTTP, with one model or several",
    .details = "Speaks the protocol of OpenAI: /v1/chat/completions, /v1/completions, "
               "/v1/responses, /v1/embeddings, /v1/models; and /tokenize, /detokenize, "
               "/health, /metrics. Requests may name adapters: \"adapter\", or "
               "\"adapters\" with "
               "weights. Only this machine can ask, unless --host says otherwise. No "
               "request opens a file. The log goes "
               "to standard error.",
    .operands = operands,
    .groups = groups,
    .examples = examples,
    .args_size = sizeof(struct args),
    .run = run,
};
