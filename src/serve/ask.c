#include "serve/ask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers and switches, by a table ---- */

typedef enum field_kind { BOOLEAN, INTEGER, REAL, SEED } field_kind;

typedef struct field {
    const char *name;
    field_kind kind;
    size_t offset;
    double least, most;
} field;

#define AT(member)       offsetof(jt_ask, member)
#define SAMPLING(member) offsetof(jt_ask, sampling.member)
#define ANY_COUNT        (1 << 30)

/* A later name for the same field wins. */
static const field fields[] = {
    {"stream", BOOLEAN, AT(stream), 0, 0},
    {"ignore_eos", BOOLEAN, AT(ignore_end), 0, 0},
    {"parallel_tool_calls", BOOLEAN, AT(parallel), 0, 0},
    {"n", INTEGER, AT(n), 1, JT_ASK_CHOICES},
    {"max_tokens", INTEGER, AT(max_tokens), -1, ANY_COUNT},
    {"max_completion_tokens", INTEGER, AT(max_tokens), -1, ANY_COUNT},
    {"thinking_budget_tokens", INTEGER, AT(thinking_budget), -1, ANY_COUNT},
    {"seed", SEED, AT(seed), 0, 0},
    {"temperature", REAL, SAMPLING(temperature), 0, 100},
    {"top_k", INTEGER, SAMPLING(top_k), 0, ANY_COUNT},
    {"top_p", REAL, SAMPLING(top_p), 0, 1},
    {"min_p", REAL, SAMPLING(min_p), 0, 1},
    {"typical_p", REAL, SAMPLING(typical_p), 0, 1},
    {"repeat_penalty", REAL, SAMPLING(repeat_penalty), 0.01, 100},
    {"repeat_last_n", INTEGER, SAMPLING(repeat_last_n), -1, ANY_COUNT},
    {"presence_penalty", REAL, SAMPLING(presence_penalty), -100, 100},
    {"frequency_penalty", REAL, SAMPLING(frequency_penalty), -100, 100},
};

/* null says the same as silence. */
static const json_t *given(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

static bool read_field(jt_ask *ask, const field *f, const json_t *value, jt_problem *p)
{
    static const char *const kinds[] = {"true or false", "a whole number", "a number",
                                        "a whole number"};
    void *to = (char *)ask + f->offset;
    bool fits = f->kind == BOOLEAN ? json_is_boolean(value)
                : f->kind == REAL  ? json_is_number(value)
                                   : json_is_integer(value);
    if (!fits)
        return jt_refuse(p, 400, f->name, "invalid_type", "'%s' must be %s", f->name,
                         kinds[f->kind]);
    double number = json_number_value(value);
    if ((f->kind == INTEGER || f->kind == REAL) &&
        !(number >= f->least && number <= f->most))
        return jt_refuse(p, 400, f->name, "invalid_value",
                         "'%s' must be between %g and %g", f->name, f->least, f->most);
    if (f->kind == BOOLEAN)
        *(bool *)to = json_is_true(value);
    else if (f->kind == REAL)
        *(float *)to = (float)number;
    else if (f->kind == INTEGER)
        *(int *)to = (int)number;
    else
        *(long long *)to = json_integer_value(value);
    return true;
}

static bool read_fields(jt_ask *ask, jt_problem *p)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const json_t *value = given(ask->root, fields[i].name);
        if (value && !read_field(ask, &fields[i], value, p))
            return false;
    }
    return true;
}

/* ---- what would change the answer, and is not done ---- */

static bool is_set(const json_t *value)
{
    if (json_is_array(value))
        return json_array_size(value) > 0;
    if (json_is_object(value))
        return json_object_size(value) > 0;
    if (json_is_string(value))
        return json_string_length(value) > 0;
    return json_is_true(value) || (json_is_number(value) && json_number_value(value));
}

static bool refuse_unknown_wishes(const jt_ask *ask, jt_problem *p)
{
    static const char *const names[] = {"echo",         "suffix", "best_of",
                                        "functions",    "audio",  "prediction",
                                        "function_call"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (is_set(given(ask->root, names[i])))
            return jt_refuse(p, 400, names[i], "unsupported_parameter",
                             "'%s' is not supported", names[i]);
    }
    return true;
}

/* ---- the form of the reply ---- */

/* Keep what has been made of a request with it; NULL: no memory. */
static const json_t *keep(jt_ask *ask, const char *name, json_t *made)
{
    return json_object_set_new_nocheck(ask->root, name, made) ? NULL : made;
}

/* {"type": "json_schema", "json_schema": {"schema": {..}}}, and its kin. */
static bool read_format(jt_ask *ask, jt_problem *p)
{
    const json_t *format = given(ask->root, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!format || (type && strcmp(type, "text") == 0))
        return true;
    if (type && strcmp(type, "json_object") == 0) {
        const json_t *schema = given(format, "schema");
        ask->schema = schema
                          ? schema
                          : keep(ask, "\1schema", json_pack("{ss}", "type", "object"));
        return ask->schema || jt_refuse(p, 500, NULL, NULL, "out of memory");
    }
    if (!type || strcmp(type, "json_schema") != 0)
        return jt_refuse(p, 400, "response_format.type", "invalid_value",
                         "'response_format.type' must be \"text\", \"json_object\" or "
                         "\"json_schema\"");
    ask->schema = given(given(format, "json_schema"), "schema");
    return json_is_object(ask->schema) ||
           jt_refuse(p, 400, "response_format.json_schema", "invalid_type",
                     "'response_format.json_schema.schema' must be an object");
}

static bool read_form(jt_ask *ask, jt_problem *p)
{
    const json_t *schema = given(ask->root, "json_schema");
    ask->grammar = given(ask->root, "grammar");
    if (ask->grammar && !json_is_string(ask->grammar))
        return jt_refuse(p, 400, "grammar", "invalid_type",
                         "'grammar' must be a string");
    if (!read_format(ask, p))
        return false;
    if ((schema && ask->schema) || (ask->grammar && (schema || ask->schema)))
        return jt_refuse(p, 400, ask->grammar ? "grammar" : "json_schema",
                         "invalid_value", "a reply can have one form only");
    if (schema)
        ask->schema = schema;
    return true;
}

/* ---- lists of texts ---- */

static bool read_texts(const json_t *value, const char *name, const char **out,
                       size_t *count, size_t most, jt_problem *p)
{
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (!value)
        return true;
    if (n > most)
        return jt_refuse(p, 400, name, "array_above_max_length",
                         "'%s' has %zu entries, %zu can be", name, n, most);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_string(item))
            return jt_refuse(p, 400, name, "invalid_type",
                             "'%s' must be a string or a list of strings", name);
        if (json_string_length(item) > 0)
            out[(*count)++] = json_string_value(item);
    }
    return true;
}

/* ---- prompts ---- */

static bool read_object(const jt_ask *ask, const char *name, const json_t **out,
                        jt_problem *p)
{
    *out = given(ask->root, name);
    return !*out || json_is_object(*out) ||
           jt_refuse(p, 400, name, "invalid_type", "'%s' must be an object", name);
}

/* The list of one tool, by its name. */
static bool find_tool(jt_ask *ask, const json_t *tools, const json_t *choice,
                      jt_problem *p)
{
    const json_t *name = json_object_get(json_object_get(choice, "function"), "name");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        json_t *tool = json_array_get(tools, i);
        if (!json_equal(json_object_get(json_object_get(tool, "function"), "name"),
                        name))
            continue;
        ask->must_call = keep(ask, "\1tools", json_pack("[O]", tool));
        ask->parallel = false;
        return ask->must_call || jt_refuse(p, 500, NULL, NULL, "out of memory");
    }
    return jt_refuse(p, 400, "tool_choice", "invalid_value",
                     "'tool_choice' names no function of 'tools'");
}

static bool read_choice(jt_ask *ask, const json_t *tools, bool *none, jt_problem *p)
{
    const json_t *choice = given(ask->root, "tool_choice");
    const char *word = json_is_string(choice) ? json_string_value(choice) : "";
    *none = strcmp(word, "none") == 0;
    if (!choice || *none || strcmp(word, "auto") == 0)
        return true;
    if (json_array_size(tools) == 0)
        return jt_refuse(p, 400, "tool_choice", "invalid_value",
                         "'tool_choice' needs 'tools'");
    if (json_is_object(choice))
        return find_tool(ask, tools, choice, p);
    ask->must_call = tools;
    return strcmp(word, "required") == 0 ||
           jt_refuse(p, 400, "tool_choice", "invalid_value",
                     "'tool_choice' must be \"none\", \"auto\", \"required\" or name a "
                     "function");
}

static bool read_tools(jt_ask *ask, jt_problem *p)
{
    const json_t *tools = given(ask->root, "tools");
    bool none;
    if (tools && !json_is_array(tools))
        return jt_refuse(p, 400, "tools", "invalid_type", "'tools' must be a list");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *function = json_object_get(json_array_get(tools, i), "function");
        if (!json_is_string(json_object_get(function, "name")))
            return jt_refuse(p, 400, "tools", "invalid_type",
                             "tool %zu has no \"function\" with a \"name\"", i);
    }
    if (!read_choice(ask, tools, &none, p))
        return false;
    ask->tools = none || json_array_size(tools) == 0 ? NULL : tools;
    if (!ask->must_call || !(ask->schema || ask->grammar))
        return true;
    return jt_refuse(p, 400, "tool_choice", "invalid_value",
                     "a reply can have one form only");
}

static bool read_messages(jt_ask *ask, jt_problem *p)
{
    ask->messages = given(ask->root, "messages");
    size_t count = json_array_size(ask->messages);
    if (count == 0)
        return jt_refuse(p, 400, "messages", "invalid_type",
                         "'messages' must be a list that is not empty");
    for (size_t i = 0; i < count; i++) {
        const json_t *message = json_array_get(ask->messages, i);
        if (!json_is_string(json_object_get(message, "role")))
            return jt_refuse(p, 400, "messages", "invalid_type",
                             "message %zu has no \"role\" that is a string", i);
    }
    return read_tools(ask, p) &&
           read_object(ask, "chat_template_kwargs", &ask->variables, p);
}

/* A text, or tokens. */
static bool is_prompt(const json_t *prompt)
{
    bool tokens = json_array_size(prompt) > 0;
    for (size_t i = 0; i < json_array_size(prompt); i++)
        tokens &= json_is_integer(json_array_get(prompt, i));
    return tokens || json_is_string(prompt);
}

static bool read_prompts(jt_ask *ask, jt_problem *p)
{
    json_t *prompt = json_object_get(ask->root, "prompt");
    size_t n = json_array_size(prompt);
    bool several = n > 0 && !is_prompt(prompt), fine = several || is_prompt(prompt);
    for (size_t i = 0; i < n && several; i++)
        fine &= is_prompt(json_array_get(prompt, i));
    if (!fine)
        return jt_refuse(p, 400, "prompt", "invalid_type",
                         "a prompt must be a text, a list of tokens, or a list of "
                         "those");
    if (several && n > JT_ASK_PROMPTS)
        return jt_refuse(p, 400, "prompt", "array_above_max_length",
                         "'prompt' has more than %d texts", JT_ASK_PROMPTS);
    if (several && n > 1 && ask->trace)
        return jt_refuse(p, 400, "junto.trace", "invalid_value",
                         "'junto.trace' is for one prompt");
    ask->prompts = several ? prompt : keep(ask, "\1prompts", json_pack("[O]", prompt));
    return ask->prompts || jt_refuse(p, 500, NULL, NULL, "out of memory");
}

/* ---- single tokens ---- */

/* {"id": -100..100} */
static bool read_biases(jt_ask *ask, jt_problem *p)
{
    const json_t *biases;
    const char *name;
    json_t *value;
    if (!read_object(ask, "logit_bias", &biases, p))
        return false;
    if (json_object_size(biases) > JT_ASK_BIASES)
        return jt_refuse(p, 400, "logit_bias", "object_above_max_properties",
                         "'logit_bias' has more than %d entries", JT_ASK_BIASES);
    json_object_foreach((json_t *)biases, name, value)
    {
        char *end;
        long id = strtol(name, &end, 10);
        double bias = json_number_value(value);
        if (end == name || *end || id < 0 || id > INT32_MAX || !json_is_number(value) ||
            !(fabs(bias) <= 100))
            return jt_refuse(
                p, 400, "logit_bias", "invalid_value",
                "'logit_bias' must have ids of tokens and numbers from -100 "
                "to 100");
        ask->bias[ask->n_bias++] = (jt_logit_bias){(int32_t)id, (float)bias};
    }
    return true;
}

static bool read_count(const json_t *value, const char *name, int most, int *out,
                       jt_problem *p)
{
    json_int_t count = json_integer_value(value);
    if (value && (!json_is_integer(value) || count < 0 || count > most))
        return jt_refuse(p, 400, name, "invalid_value",
                         "'%s' must be a whole number from 0 to %d", name, most);
    *out = (int)count;
    return true;
}

/* Of a chat a switch and a number, of a text a number. */
static bool read_logprobs(jt_ask *ask, jt_problem *p)
{
    enum { MOST_OF_A_TEXT = 5 };
    const json_t *wish = given(ask->root, "logprobs");
    const json_t *top = given(ask->root, "top_logprobs");
    ask->logprobs = wish && !json_is_false(wish);
    if (!ask->chat)
        return read_count(wish, "logprobs", MOST_OF_A_TEXT, &ask->n_top, p);
    if (wish && !json_is_boolean(wish))
        return jt_refuse(p, 400, "logprobs", "invalid_type",
                         "'logprobs' must be true or false");
    if (top && !ask->logprobs)
        return jt_refuse(p, 400, "top_logprobs", "invalid_value",
                         "'top_logprobs' needs 'logprobs'");
    return read_count(top, "top_logprobs", JT_TOP_TOKENS, &ask->n_top, p);
}

/* ---- the whole ---- */

bool jt_ask_json(json_t **root, const char *text, size_t len, jt_problem *p)
{
    json_error_t why;
    *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (json_is_object(*root))
        return true;
    if (!*root && json_error_code(&why) == json_error_out_of_memory)
        return jt_refuse(p, 500, NULL, NULL, "out of memory");
    return jt_refuse(p, 400, NULL, "invalid_json",
                     *root ? "the body is JSON, but no object" : "bad JSON: %s",
                     why.text);
}

static bool add_adapter(jt_ask *ask, const char *name, const json_t *weight,
                        jt_problem *p)
{
    enum { MOST_WEIGHT = 100 };
    double number = weight ? json_number_value(weight) : 1.0;
    if (ask->n_adapters == JT_ASK_ADAPTERS)
        return jt_refuse(p, 400, "adapters", "object_above_max_properties",
                         "a request can have %d adapters at most", JT_ASK_ADAPTERS);
    if ((weight && !json_is_number(weight)) || !(fabs(number) <= MOST_WEIGHT))
        return jt_refuse(p, 400, "adapters", "invalid_value",
                         "weights of 'adapters' must be numbers from %d to %d",
                         -MOST_WEIGHT, MOST_WEIGHT);
    ask->adapter[ask->n_adapters].name = name;
    ask->adapter[ask->n_adapters++].weight = (float)number;
    return true;
}

/* "adapter": "name", or "adapters": {"name": weight}. */
static bool read_adapters(jt_ask *ask, const json_t *object, jt_problem *p)
{
    const json_t *one = given(object, "adapter"), *many = given(object, "adapters");
    const char *name;
    json_t *weight;
    if (one && !json_is_string(one))
        return jt_refuse(p, 400, "adapter", "invalid_type",
                         "'adapter' must be a string");
    if (many && !json_is_object(many))
        return jt_refuse(p, 400, "adapters", "invalid_type",
                         "'adapters' must be an object");
    if (one && !add_adapter(ask, json_string_value(one), NULL, p))
        return false;
    json_object_foreach((json_t *)many, name, weight)
    {
        if (!add_adapter(ask, name, weight, p))
            return false;
    }
    return true;
}

static bool read_own_wishes(jt_ask *ask, jt_problem *p)
{
    const json_t *own, *options;
    if (!read_object(ask, "junto", &own, p) ||
        !read_object(ask, "stream_options", &options, p))
        return false;
    ask->include_usage = json_is_true(json_object_get(options, "include_usage"));
    const json_t *trace = given(own, "trace");
    if (trace && !json_is_boolean(trace))
        return jt_refuse(p, 400, "junto.trace", "invalid_type",
                         "'junto.trace' must be true or false");
    ask->trace = json_is_true(trace);
    ask->model = json_string_value(given(ask->root, "model"));
    ask->user = json_string_value(given(ask->root, "user"));
    if (!ask->user) /* its later name */
        ask->user = json_string_value(given(ask->root, "safety_identifier"));
    if (!read_adapters(ask, ask->root, p) || !read_adapters(ask, own, p))
        return false;
    return read_texts(given(own, "policy"), "junto.policy", ask->policy,
                      &ask->n_policies, JT_ASK_POLICIES, p);
}

bool jt_ask_take(jt_ask *ask, bool chat, json_t *root, const jt_sampling *usual,
                 jt_problem *p)
{
    *ask = (jt_ask){.root = root,
                    .chat = chat,
                    .n = 1,
                    .max_tokens = -1,
                    .thinking_budget = -1,
                    .parallel = true,
                    .sampling = *usual,
                    .seed = -1};
    return read_fields(ask, p) && refuse_unknown_wishes(ask, p) &&
           read_own_wishes(ask, p) && read_form(ask, p) && read_biases(ask, p) &&
           read_logprobs(ask, p) &&
           read_texts(given(ask->root, "stop"), "stop", ask->stop, &ask->n_stop,
                      JT_ASK_STOPS, p) &&
           (chat ? read_messages(ask, p) : read_prompts(ask, p));
}

bool jt_ask_read(jt_ask *ask, bool chat, const char *text, size_t len,
                 const jt_sampling *usual, jt_problem *p)
{
    json_t *root;
    *ask = (jt_ask){0};
    if (jt_ask_json(&root, text, len, p))
        return jt_ask_take(ask, chat, root, usual, p);
    json_decref(root);
    return false;
}

void jt_ask_free(jt_ask *ask)
{
    json_decref(ask->root);
    *ask = (jt_ask){0};
}
