/* adapter_config.json of PEFT folders. */
#include "adapt/peft_config.h"

#include <stdio.h>
#include <string.h>

#include "adapt/pattern.h"

jt_status jt_peft_parse(json_t **out, const char *text, size_t bytes, jt_err *err)
{
    json_error_t where;
    *out = json_loadb(text, bytes, 0, &where);
    if (!json_is_object(*out))
        return jt_fail(err, JT_E_FORMAT, "adapter_config.json, line %d: %s", where.line,
                       *out ? "no object" : where.text);
    return JT_OK;
}

/* Forms of LoRA that change what the tensors mean. */
static jt_status check_config(const json_t *config, jt_err *err)
{
    static const char *const unknown[] = {"lora_bias",
                                          "layer_replication",
                                          "use_qalora",
                                          "use_bdlora",
                                          "kasa_config",
                                          "arrow_config",
                                          "fan_in_fan_out",
                                          "modules_to_save",
                                          "trainable_token_indices",
                                          "alora_invocation_tokens"};
    const char *bias = json_string_value(json_object_get(config, "bias"));
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        const json_t *value = json_object_get(config, unknown[i]);
        bool empty = json_is_null(value) || json_is_false(value) ||
                     (json_is_array(value) && !json_array_size(value));
        if (value && !empty)
            return jt_fail(err, JT_E_UNSUPPORTED,
                           "adapter_config.json: '%s' is not supported", unknown[i]);
    }
    if (bias && strcmp(bias, "none") != 0)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "adapter_config.json: biases ('%s') are not supported", bias);
    return JT_OK;
}

jt_status jt_peft_kind(const json_t *config, const jt_adapter_kind **out, jt_err *err)
{
    const char *type = json_string_value(json_object_get(config, "peft_type"));
    bool dora = json_is_true(json_object_get(config, "use_dora"));
    bool rooted = json_is_true(json_object_get(config, "use_rslora"));
    if (type && strcmp(type, "SHIRA") == 0)
        *out = &jt_adapter_shira;
    else if (type && strcmp(type, "POLY") == 0)
        *out = &jt_adapter_poly;
    else if (type && strcmp(type, "LORA") == 0)
        *out = dora ? &jt_adapter_dora : rooted ? &jt_adapter_rslora : &jt_adapter_lora;
    else if (type &&
             (strcmp(type, "PROMPT_TUNING") == 0 || strcmp(type, "P_TUNING") == 0))
        *out = &jt_adapter_soft_prompt;
    else if (type && strcmp(type, "PREFIX_TUNING") == 0)
        *out = &jt_adapter_prefix;
    else
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "adapter_config.json: peft_type '%s' is not supported (known: "
                       "LORA, SHIRA, POLY, PROMPT_TUNING, P_TUNING, PREFIX_TUNING)",
                       type ? type : "(none)");
    return check_config(config, err);
}

/* The number that `name` and its patterns ("alpha_pattern") give to a module. */
jt_status jt_peft_number(const json_t *config, const char *name, const char *patterns,
                         const char *path, double *out, jt_err *err)
{
    const json_t *value = json_object_get(config, name);
    const char *key;
    json_t *item, *list = json_object_get(config, patterns);
    json_object_foreach(list, key, item)
    {
        jt_pattern *pattern;
        JT_TRY(jt_pattern_new(&pattern, key, err));
        bool fits = jt_pattern_matches(pattern, path, true);
        jt_pattern_free(pattern);
        if (fits) {
            value = item;
            break;
        }
    }
    if (!json_is_number(value))
        return jt_fail(err, JT_E_FORMAT, "adapter_config.json: '%s' is no number",
                       name);
    *out = json_number_value(value);
    return JT_OK;
}

bool jt_peft_is_old(const json_t *config, bool turned)
{
    const char *version = json_string_value(json_object_get(config, "peft_version"));
    int number[3] = {0}; /* 0.19.1 */
    if (version)
        sscanf(version, "%d.%d.%d", &number[0], &number[1], &number[2]);
    int rank = number[0] * 1000000 + number[1] * 1000 + number[2];
    return rank < 19001 && (!turned || rank == 19000);
}
