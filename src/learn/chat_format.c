#include "learn/chat_format.h"

#include <string.h>

/* clang-format off */
static const jt_chat_format formats[] = {
    {.name = "chatml",
     .system_prefix = "<|im_start|>system\n", .system_suffix = "<|im_end|>\n",
     .user_prefix = "<|im_start|>user\n",
     .user_suffix = "<|im_end|>\n<|im_start|>assistant\n", .reply_suffix = "<|im_end|>\n"},
    {.name = "llama3",
     .system_prefix = "<|start_header_id|>system<|end_header_id|>\n\n",
     .system_suffix = "<|eot_id|>",
     .user_prefix = "<|start_header_id|>user<|end_header_id|>\n\n",
     .user_suffix = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     .reply_suffix = "<|eot_id|>"},
    {.name = "zephyr",
     .system_prefix = "<|system|>\n", .system_suffix = "\n",
     .user_prefix = "<|user|>\n", .user_suffix = "\n<|assistant|>\n",
     .reply_suffix = "\n"},
    {.name = "plain",
     .system_prefix = "", .system_suffix = "\n",
     .user_prefix = "", .user_suffix = "", .reply_suffix = "\n"},
};
/* clang-format on */

enum { FORMATS = sizeof formats / sizeof *formats };

const jt_chat_format *jt_chat_format_named(const char *name)
{
    for (size_t i = 0; i < FORMATS; i++) {
        if (strcmp(formats[i].name, name) == 0)
            return &formats[i];
    }
    return NULL;
}
