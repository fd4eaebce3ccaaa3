/* What a hub says of a repository. The first line is the file that is wanted. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/hub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
    if (!end)
        return 0;
    size_t len = (size_t)(end - data);
    char *wanted = strndup((const char *)data, len);
    jt_hub_files files;
    if (!wanted)
        return 0;
    if (jt_hub_read(&files, (const char *)end + 1, size - len - 1, "http://hub", "o/m",
                    *wanted ? wanted : NULL, NULL) == JT_OK) {
        for (size_t i = 0; i < files.count; i++) {
            if (!jt_hub_safe(files.list[i].path))
                abort(); /* would be written outside the shelf */
        }
    }
    jt_hub_free(&files);
    free(wanted);
    return 0;
}
