/* The flags of `junto run` and `junto chat`, with the names that users of llama.cpp
 * know. */
#include "run.h"

#define FIELD(name) offsetof(struct run_args, name)

const cli_option run_operands[] = {CLI_MODEL_OPERAND(struct run_args), {0}};

static const cli_option prompt_options[] = {
    {.flags = "-p --prompt",
     .kind = CLI_STRING,
     .value = "TEXT",
     .offset = FIELD(prompt),
     .help = "the text to go on from; with -i the first turn"},
    {.flags = "-f --file",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = FIELD(file),
     .help = "read the prompt from a file; - is standard input"},
    {.flags = "-i --interactive --conversation -cnv",
     .kind = CLI_FLAG,
     .offset = FIELD(interactive),
     .help = "the same as junto chat"},
    {.flags = "--chat",
     .kind = CLI_FLAG,
     .offset = FIELD(chat),
     .help = "wrap the prompt as one turn of a chat"},
    {.flags = "-e --escape",
     .kind = CLI_FLAG,
     .offset = FIELD(escape),
     .help = "read \\n, \\t, \\r, \\\\, \\\", \\' and \\xHH in the prompt"},
    {.flags = "--special",
     .kind = CLI_SWITCH,
     .initial = "1",
     .offset = FIELD(special),
     .help = "names of special tokens in a prompt stand for those tokens (default), or "
             "are plain text; a chat always needs them"},
    {.flags = "--display-prompt",
     .kind = CLI_SWITCH,
     .initial = "0",
     .offset = FIELD(display_prompt),
     .help = "print the prompt before the generated text (default: only the generated "
             "text)"},
    {0}};

static const cli_option reply_options[] = {
    {.flags = "-n --predict --n-predict",
     .kind = CLI_INT,
     .value = "N",
     .initial = "-1",
     .offset = FIELD(predict),
     .min = -1,
     .max = 1 << 24,
     .help = "tokens to generate at most; -1: until the model ends or the context is "
             "full"},
    {.flags = "-r --stop --reverse-prompt",
     .kind = CLI_LIST,
     .value = "TEXT",
     .offset = FIELD(stop),
     .help = "stop before this text; may be given several times"},
    {.flags = "--ignore-eos",
     .kind = CLI_FLAG,
     .offset = FIELD(ignore_end),
     .help = "go on where the model would end"},
    {0}};

const cli_option run_sampling_options[] = {
    {.flags = "--temp --temperature",
     .kind = CLI_FLOAT,
     .value = "T",
     .unset = "as the file says, or 0.8",
     .offset = FIELD(sampling.temperature),
     .max = 100,
     .help = "temperature; 0 always takes the likeliest token"},
    {.flags = "--top-k",
     .kind = CLI_INT,
     .value = "K",
     .unset = "as the file says, or 40",
     .offset = FIELD(sampling.top_k),
     .min = 0,
     .max = 1 << 30,
     .help = "choose among the K likeliest tokens; 0: all"},
    {.flags = "--top-p",
     .kind = CLI_FLOAT,
     .value = "P",
     .unset = "as the file says, or 0.95",
     .offset = FIELD(sampling.top_p),
     .max = 1,
     .help = "choose among the likeliest tokens that together have probability P; 1: "
             "all"},
    {.flags = "--min-p",
     .kind = CLI_FLOAT,
     .value = "P",
     .unset = "as the file says, or 0.05",
     .offset = FIELD(sampling.min_p),
     .max = 1,
     .help = "leave out tokens below P times the likeliest; 0: none"},
    {.flags = "--typical --typical-p",
     .kind = CLI_FLOAT,
     .value = "P",
     .initial = "1",
     .offset = FIELD(sampling.typical_p),
     .max = 1,
     .help = "locally typical sampling; 1: off"},
    {.flags = "--repeat-penalty",
     .kind = CLI_FLOAT,
     .value = "X",
     .unset = "as the file says, or 1",
     .offset = FIELD(sampling.repeat_penalty),
     .min = 0.01,
     .max = 100,
     .help = "make tokens of the recent text less likely; 1: off"},
    {.flags = "--repeat-last-n",
     .kind = CLI_INT,
     .value = "N",
     .initial = "64",
     .offset = FIELD(sampling.repeat_last_n),
     .min = -1,
     .max = 1 << 30,
     .help = "tokens that the penalties look at; -1: the whole text"},
    {.flags = "--presence-penalty",
     .kind = CLI_FLOAT,
     .value = "X",
     .initial = "0",
     .offset = FIELD(sampling.presence_penalty),
     .min = -100,
     .max = 100,
     .help = "taken from the logit of every token that occurred"},
    {.flags = "--frequency-penalty",
     .kind = CLI_FLOAT,
     .value = "X",
     .initial = "0",
     .offset = FIELD(sampling.frequency_penalty),
     .min = -100,
     .max = 100,
     .help = "taken from the logit for each time that the token occurred"},
    {.flags = "-s --seed",
     .kind = CLI_SEED,
     .value = "N",
     .initial = "-1",
     .offset = FIELD(seed),
     .help = "seed of the choices: the same one gives the same text; -1 takes one from "
             "the system and prints it"},
    {0}};

static const cli_option thinking_options[] = {
    {.flags = "--system-prompt -sys --system",
     .kind = CLI_STRING,
     .value = "TEXT",
     .offset = FIELD(system),
     .help = "what the model is told before the chat; implies --chat"},
    {.flags = "--thinking-budget --reasoning-budget",
     .kind = CLI_INT,
     .value = "N",
     .initial = "-1",
     .offset = FIELD(budget),
     .min = -1,
     .max = 1 << 24,
     .help = "tokens of thought at most, then the answer begins; -1: no end, 0: no "
             "thought; implies --chat"},
    {.flags = "--show-thinking",
     .kind = CLI_SWITCH,
     .initial = "-1",
     .offset = FIELD(show_thinking),
     .help = "write thoughts to standard error (default: when it is a terminal)"},
    {0}};

static const cli_option experts_options[] = {
    {.flags = "--experts",
     .kind = CLI_SWITCH,
     .initial = "-1",
     .offset = FIELD(experts),
     .help = "at the end, draw on standard error which experts worked (default: for a "
             "mixture, on a terminal)"},
    {0}};

static const cli_option json_options[] = {
    {.flags = "--json",
     .kind = CLI_FLAG,
     .offset = FIELD(json),
     .help = "print one JSON object at the end instead of streaming the text"},
    {0}};

static const cli_option pin_options[] = {
    {.flags = "--cache-trace",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = FIELD(cache_trace),
     .help = "with --ram: keep the experts that this trace of the model uses most, the "
             "others take turns in the rest of the cache"},
    {0}};

static const cli_option file_options[] = {
    {.flags = "-p --prompt",
     .kind = CLI_STRING,
     .value = "TEXT",
     .offset = FIELD(prompt),
     .help = "the first turn"},
    {.flags = "-l --load",
     .kind = CLI_PATH,
     .value = "FILE",
     .offset = FIELD(load),
     .help = "go on with a chat that /save has written"},
    {0}};

#define MACHINE                                               \
    {"Machine", cli_context_options, FIELD(session)},         \
        {NULL, cli_threads_options, FIELD(session)},          \
        {NULL, cli_kernel_options, FIELD(session)},           \
        {NULL, cli_store_options, FIELD(session.store)},      \
        {NULL, cli_store_read_options, FIELD(session.store)}, \
    {                                                         \
        NULL, pin_options, 0                                  \
    }

const cli_group run_groups[] = {
    {"Text", prompt_options, 0},
    {NULL, reply_options, 0},
    {"Chat", cli_template_options, FIELD(template)},
    {NULL, thinking_options, 0},
    {"Sampling", run_sampling_options, 0},
    {NULL, cli_grammar_options, FIELD(grammar)},
    {"Routing", cli_policy_options, FIELD(policies)},
    MACHINE,
    {"Guessing ahead", cli_speculate_options, FIELD(speculate)},
    {"Output", experts_options, 0},
    {NULL, json_options, 0},
    {NULL, cli_adapter_options, FIELD(adapters)},
    {NULL, cli_adapter_type_options, FIELD(session)},
    {NULL, cli_trace_options, FIELD(trace)},
    {NULL, cli_residency_options, FIELD(trace)},
    {NULL, cli_common_options, 0},
    {0}};

const cli_group run_chat_groups[] = {
    {"Chat", file_options, 0},
    {NULL, reply_options, 0},
    {NULL, cli_template_options, FIELD(template)},
    {NULL, thinking_options, 0},
    {"Sampling", run_sampling_options, 0},
    {NULL, cli_grammar_options, FIELD(grammar)},
    {"Routing", cli_policy_options, FIELD(policies)},
    MACHINE,
    {"Guessing ahead", cli_speculate_options, FIELD(speculate)},
    {"Output", experts_options, 0},
    {NULL, cli_adapter_options, FIELD(adapters)},
    {NULL, cli_adapter_type_options, FIELD(session)},
    {NULL, cli_trace_options, FIELD(trace)},
    {NULL, cli_residency_options, FIELD(trace)},
    {NULL, cli_common_options, 0},
    {0}};
