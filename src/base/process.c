#include "base/process.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "junto/store.h"

uint64_t jt_process_memory(void)
{
    unsigned long long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    int found = fscanf(f, "%llu %llu", &total, &resident);
    fclose(f);
    return found == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* The number in a file; UINT64_MAX where there is none ("max"). */
static uint64_t read_limit(const char *path)
{
    unsigned long long value;
    FILE *f = fopen(path, "re");
    if (!f)
        return UINT64_MAX;
    int found = fscanf(f, "%llu", &value);
    fclose(f);
    return found == 1 ? value : UINT64_MAX;
}

/* The limit of the control group that a line of /proc/self/cgroup names:
 * "0::/path" (version 2) or "4:memory:/path" (version 1). */
static uint64_t limit_of(const char *line)
{
    char file[4200];
    const char *path = strchr(line, '/');
    int len = path ? (int)strcspn(path, "\n") : 0;
    if (path && !strncmp(line, "0::", 3))
        snprintf(file, sizeof file, "/sys/fs/cgroup%.*s/memory.max", len, path);
    else if (path && strstr(line, ":memory:"))
        snprintf(file, sizeof file, "/sys/fs/cgroup/memory%.*s/memory.limit_in_bytes",
                 len, path);
    else
        return UINT64_MAX;
    return read_limit(file);
}

uint64_t jt_machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t most = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    char line[4096];
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        uint64_t limit = limit_of(line);
        most = limit < most ? limit : most;
    }
    if (f)
        fclose(f);
    return most;
}

uint64_t jt_machine_available(void)
{
    unsigned long long kib = 0;
    char line[256];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    uint64_t bytes = (uint64_t)kib << 10, most = jt_machine_memory();
    uint64_t taken = jt_process_memory(), left = most > taken ? most - taken : 0;
    return bytes < left ? bytes : left;
}
