#include "chat.h"

#include <string.h>

static bool has_role(const json_t *messages, size_t i, const char *role)
{
    const json_t *name = json_object_get(json_array_get(messages, i), "role");
    return name && !strcmp(json_string_value(name), role);
}

jt_status chat_add(json_t *messages, json_t *message, jt_err *err)
{
    if (json_array_append_new(messages, message) == 0)
        return JT_OK;
    return jt_fail(err, JT_E_MEMORY, "out of memory for the chat");
}

jt_status chat_set_system(json_t *messages, const char *text, jt_err *err)
{
    json_t *message = text ? cli_message("system", text, strlen(text)) : NULL;
    if (text && !message)
        return jt_fail(err, JT_E_MEMORY, "out of memory for the chat");
    if (has_role(messages, 0, "system"))
        json_array_remove(messages, 0);
    if (message && json_array_insert_new(messages, 0, message))
        return jt_fail(err, JT_E_MEMORY, "out of memory for the chat");
    return JT_OK;
}

/* One more than the place of the last user's turn; 0: there is none. */
static size_t after_last_turn(const json_t *messages)
{
    size_t i = json_array_size(messages);
    while (i && !has_role(messages, i - 1, "user"))
        i--;
    return i;
}

static void cut(json_t *messages, size_t size)
{
    while (json_array_size(messages) > size)
        json_array_remove(messages, json_array_size(messages) - 1);
}

bool chat_drop_reply(json_t *messages)
{
    size_t turn = after_last_turn(messages);
    if (turn)
        cut(messages, turn);
    return turn > 0;
}

json_t *chat_drop_turn(json_t *messages)
{
    size_t turn = after_last_turn(messages);
    if (!turn)
        return NULL;
    json_t *message = json_incref(json_array_get(messages, turn - 1));
    cut(messages, turn - 1);
    return message;
}
