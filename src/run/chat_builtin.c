/* Chat templates for models whose files carry none. */
#include <string.h>

#include "junto/chat.h"

/* clang-format off */
static const struct {
    const char *name, *source;
} builtin[] = {
    {"chatml",
     "{%- for m in messages -%}"
     "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
     "{%- endfor -%}"
     "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"},
    {"llama3",
     "{%- for m in messages -%}"
     "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content"
     "   + '<|eot_id|>' }}"
     "{%- endfor -%}"
     "{%- if add_generation_prompt -%}"
     "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
     "{%- endif -%}"},
    {"zephyr",
     "{%- for m in messages -%}"
     "{{ '<|' + m.role + '|>\n' + m.content }}"
     "{%- if m.role == 'assistant' -%}{{ eos_token }}{%- endif -%}{{ '\n' }}"
     "{%- endfor -%}"
     "{%- if add_generation_prompt -%}{{ '<|assistant|>\n' }}{%- endif -%}"},
    /* For models that know no chat: the turns follow each other like paragraphs. */
    {"plain",
     "{%- for m in messages -%}"
     "{{ m.content }}{%- if m.role != 'user' -%}{{ '\n' }}{%- endif -%}"
     "{%- endfor -%}"},
};
/* clang-format on */

const char *jt_chat_builtin(const char *name)
{
    for (size_t i = 0; i < sizeof builtin / sizeof *builtin; i++) {
        if (strcmp(builtin[i].name, name) == 0)
            return builtin[i].source;
    }
    return NULL;
}
