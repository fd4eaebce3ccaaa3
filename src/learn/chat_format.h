/* Chats of training data as fixed texts around each turn.
 *
 * A chat at run time is rendered by the model's own template (junto/chat.h). Training
 * must know besides where each reply begins and ends, because only replies are learnt;
 * a template gives one text and does not tell. These formats are the built-in templates
 * of junto/chat.h, cut into the parts around the turns. */
#ifndef JT_LEARN_CHAT_FORMAT_H
#define JT_LEARN_CHAT_FORMAT_H

/* A reply is asked for by: user_prefix + text + user_suffix. */
typedef struct jt_chat_format {
    const char *name; /* "chatml", "llama3", "zephyr", "plain" */
    const char *system_prefix, *system_suffix;
    const char *user_prefix, *user_suffix; /* the suffix opens the reply */
    const char *reply_suffix;              /* closes a reply before the next turn */
} jt_chat_format;

/* NULL for an unknown name. */
const jt_chat_format *jt_chat_format_named(const char *name);

#endif
