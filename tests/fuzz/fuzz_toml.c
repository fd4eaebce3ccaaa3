/* Any bytes as TOML: as a document, as a configuration, as one value and as a setting.
 * Each is refused with a message, or read. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "learn/config.h"
#include "learn/toml.h"
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(jt_status status, const jt_err *err)
{
    WALK_CHECK(err->code == status && err->msg[0]);
    for (const char *p = err->msg; *p; p++)
        WALK_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
}

/* What can be read as a configuration comes back from its copy as it was. */
static void try_config(const char *json, const char *const *settings, size_t n)
{
    jt_err err = {0};
    jt_config config = {0}, again = {0};
    jt_status status = jt_config_parse(&config, json, settings, n, &err);
    if (status != JT_OK) {
        check_refusal(status, &err);
        return;
    }
    char *copy = jt_config_json(&config);
    WALK_CHECK(copy && jt_config_parse(&again, copy, NULL, 0, &err) == JT_OK);
    char *second = jt_config_json(&again);
    WALK_CHECK(second && strcmp(copy, second) == 0);
    free(copy);
    free(second);
    jt_config_free(&config);
    jt_config_free(&again);
}

static void try_document(const char *text, size_t size)
{
    jt_err err = {0};
    jt_toml toml = {0};
    jt_status status = jt_toml_parse(&toml, text, size, &err);
    if (status != JT_OK) {
        WALK_CHECK(!toml.root);
        check_refusal(status, &err);
        return;
    }
    const char *key;
    json_t *value;
    json_object_foreach(toml.root, key, value)
    {
        WALK_CHECK(jt_toml_line(&toml, key) > 0);
    }
    char *json = json_dumps(toml.root, JSON_REAL_PRECISION(17));
    WALK_CHECK(json);
    try_config(json, NULL, 0);
    free(json);
    jt_toml_free(&toml);
}

static void try_value(const char *text, size_t size)
{
    jt_err err = {0};
    json_t *value = NULL;
    jt_status status = jt_toml_parse_value(&value, text, size, &err);
    if (status != JT_OK)
        check_refusal(status, &err);
    WALK_CHECK((value != NULL) == (status == JT_OK));
    json_decref(value);
}

static void try_setting(const char *text, size_t size)
{
    static const char base[] = "{\"data\": {\"source\": [{\"path\": \"a.npy\"}]},"
                               " \"model\": {\"vocab\": 256}}";
    char *setting = malloc(size + 1);
    if (!setting)
        return;
    memcpy(setting, text, size);
    setting[size] = '\0';
    try_config(base, (const char *const[]){setting}, 1);
    free(setting);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    try_document(text, size);
    try_value(text, size);
    try_setting(text, size);
    return 0;
}
