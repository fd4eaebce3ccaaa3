/* A fresh folder for the files of a test. */
#ifndef TEST_SCRATCH_H
#define TEST_SCRATCH_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct scratch {
    char dir[200];
} scratch;

static inline scratch scratch_new(void)
{
    scratch s;
    const char *base = getenv("TMPDIR");
    snprintf(s.dir, sizeof s.dir, "%s/junto-test-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(s.dir)) {
        perror(s.dir);
        exit(1);
    }
    return s;
}

/* "DIR/name" in one of a few static buffers. */
static inline const char *scratch_path(const scratch *s, const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", s->dir, name);
    return path;
}

static inline void scratch_write(const char *path, const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

/* Entries of the folder; they are deleted when `remove_them`. */
static inline int scratch_entries(const scratch *s, int remove_them)
{
    DIR *dir = opendir(s->dir);
    int count = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        count++;
        if (remove_them)
            remove(scratch_path(s, e->d_name));
    }
    if (dir)
        closedir(dir);
    return count;
}

static inline void scratch_free(const scratch *s)
{
    scratch_entries(s, 1);
    rmdir(s->dir);
}

/* The folder of a test program: fixtures of its group. */
static scratch scratch_dir;

static inline int scratch_setup(void **state)
{
    (void)state;
    scratch_dir = scratch_new();
    return 0;
}

static inline int scratch_teardown(void **state)
{
    (void)state;
    scratch_free(&scratch_dir);
    return 0;
}

#endif
