#include "base/join.h"

#include <stdio.h>
#include <string.h>

void jt_join_names(char *text, size_t room, const char *(*name)(size_t i))
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; name(i) && used + strlen(name(i)) + 3 <= room; i++)
        used +=
            (size_t)snprintf(text + used, room - used, "%s%s", i ? ", " : "", name(i));
}
