/* The models of tests/golden that are mixtures, by name. */
#ifndef TEST_FAMILIES_H
#define TEST_FAMILIES_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline const char *golden_dir(void)
{
    static char dir[512];
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(dir, sizeof dir, "%s/golden", data ? data : "tests");
    return dir;
}

/* Call fn(path) for every model there. */
static inline int each_model(void (*fn)(const char *path))
{
    DIR *dir = opendir(golden_dir());
    int count = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t len = strlen(e->d_name);
        char path[1024];
        if (len < 6 || strcmp(e->d_name + len - 5, ".gguf") != 0 ||
            strstr(e->d_name, ".ref.gguf"))
            continue;
        snprintf(path, sizeof path, "%s/%s", golden_dir(), e->d_name);
        fn(path);
        count++;
    }
    if (dir)
        closedir(dir);
    return count;
}

#endif
