#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "scratch.h"

enum { EXT_FS = 0xef53 };

static void assert_content(const char *path, const char *wanted)
{
    char *text;
    size_t bytes;
    assert_int_equal(jt_read_file(&text, &bytes, path, 1 << 20, NULL), JT_OK);
    assert_int_equal(bytes, strlen(wanted));
    assert_string_equal(text, wanted);
    free(text);
}

static void maps(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_map map;
    const char *path = scratch_path(&scratch_dir, "map");
    scratch_write(path, "hello", 5);
    assert_int_equal(jt_map_open(&map, path, &err), JT_OK);
    assert_int_equal(map.bytes, 5);
    assert_memory_equal(map.data, "hello", 5);
    jt_map_close(&map);
    assert_null(map.data);
    jt_map_close(&map);

    scratch_write(path, "", 0);
    assert_int_equal(jt_map_open(&map, path, &err), JT_OK);
    assert_int_equal(map.bytes, 0);
    assert_null(map.data);
    jt_map_close(&map);

    assert_int_equal(jt_map_open(&map, scratch_path(&scratch_dir, "none"), &err),
                     JT_E_IO);
    assert_non_null(strstr(err.msg, "/none': No such file"));
    assert_int_equal(jt_map_open(&map, scratch_dir.dir, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "not a regular file"));
}

static void read_whole(void **state)
{
    (void)state;
    enum { BYTES = 200000 };
    jt_err err = {0};
    char *data = malloc(BYTES), *back;
    size_t bytes;
    for (size_t i = 0; i < BYTES; i++)
        data[i] = (char)(i * 31);
    const char *path = scratch_path(&scratch_dir, "whole");
    scratch_write(path, data, BYTES);
    assert_int_equal(jt_read_file(&back, &bytes, path, BYTES, &err), JT_OK);
    assert_int_equal(bytes, BYTES);
    assert_memory_equal(back, data, BYTES);
    assert_int_equal(back[BYTES], 0);
    free(back);
    assert_int_equal(jt_read_file(&back, &bytes, path, BYTES - 1, &err), JT_E_LIMIT);
    assert_non_null(strstr(err.msg, "larger than 199999 bytes"));
    assert_int_equal(jt_read_file(&back, &bytes, scratch_dir.dir, 10, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "Is a directory"));
    for (long n = 0; n < 3; n++) {
        jt_fault_after(n);
        assert_int_equal(jt_read_file(&back, &bytes, path, BYTES, &err), JT_E_MEMORY);
    }
    jt_fault_after(-1);
    free(data);
}

static void commit_replaces(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_output out;
    const char *path = scratch_path(&scratch_dir, "out");
    scratch_write(path, "old", 3);
    int before = scratch_entries(&scratch_dir, 0);
    assert_int_equal(jt_output_open(&out, path, &err), JT_OK);
    assert_int_equal(scratch_entries(&scratch_dir, 0), before + 1);
    assert_int_equal(jt_output_write(&out, "new and ", 8, &err), JT_OK);
    assert_content(path, "old");
    assert_int_equal(jt_output_write(&out, "longer", 6, &err), JT_OK);
    assert_int_equal(jt_output_write(&out, NULL, 0, &err), JT_OK);
    assert_int_equal(jt_output_commit(&out, &err), JT_OK);
    assert_content(path, "new and longer");
    assert_int_equal(scratch_entries(&scratch_dir, 0), before);

    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
}

static void abort_keeps_the_old(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_output out;
    const char *path = scratch_path(&scratch_dir, "kept");
    scratch_write(path, "old", 3);
    int before = scratch_entries(&scratch_dir, 0);
    assert_int_equal(jt_output_open(&out, path, &err), JT_OK);
    assert_int_equal(jt_output_write(&out, "new", 3, &err), JT_OK);
    jt_output_abort(&out);
    assert_content(path, "old");
    assert_int_equal(scratch_entries(&scratch_dir, 0), before);
    jt_output nothing = {0};
    jt_output_abort(&nothing);
    assert_null(nothing.stream);
}

static void output_failures(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_output out;
    int before = scratch_entries(&scratch_dir, 0);
    assert_int_equal(jt_output_open(&out, scratch_path(&scratch_dir, "no/such"), &err),
                     JT_E_IO);
    assert_non_null(strstr(err.msg, "no/such': No such file"));
    for (long n = 0; n < 2; n++) {
        jt_fault_after(n);
        assert_int_equal(jt_output_open(&out, scratch_path(&scratch_dir, "f"), &err),
                         JT_E_MEMORY);
    }
    jt_fault_after(-1);
    /* What is not a regular file is not replaced. */
    assert_int_equal(jt_output_open(&out, "/dev/null", &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "'/dev/null': not a regular file"));
    /* The final name becomes a folder meanwhile: the rename fails, the part is removed.
     */
    const char *folder = scratch_path(&scratch_dir, "folder");
    assert_int_equal(jt_output_open(&out, folder, &err), JT_OK);
    assert_int_equal(mkdir(folder, 0777), 0);
    assert_int_equal(jt_output_commit(&out, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "cannot rename to"));
    assert_int_equal(scratch_entries(&scratch_dir, 0), before + 1);
}

/* Of a long file only its last megabytes are in the page cache; not so on file systems
 * that are nothing but page cache. */
static void a_growing_file_is_not_cached(void **state)
{
    (void)state;
    enum { MB = 1 << 20, MOST = 24, EACH = 300000 };
    const char *path = scratch_path(&scratch_dir, "growing");
    static char block[EACH];
    static unsigned char resident[MOST * MB / 4096 + 1];
    jt_err err = {0};
    jt_append file;
    struct statfs fs;
    size_t bytes = 0, pages = 0;
    assert_int_equal(jt_append_open(&file, path, &err), JT_OK);
    assert_int_equal(fstatfs(file.fd, &fs), 0);
    for (int i = 0; bytes + EACH <= (size_t)MOST * MB; i++, bytes += EACH) {
        memset(block, i, sizeof block);
        assert_int_equal(jt_append_write(&file, block, EACH, &err), JT_OK);
    }
    int fd = open(path, O_RDONLY);
    unsigned char *data = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(data, MAP_FAILED);
    assert_int_equal(mincore(data, bytes, resident), 0);
    for (size_t at = 0; at < bytes; at += 4096)
        pages += resident[at / 4096] & 1;
    if (fs.f_type == EXT_FS)
        assert_in_range(pages, 0, 4 * MB / 4096);
    for (size_t at = 0; at < bytes; at += 1000)
        assert_int_equal(data[at], at / EACH % 256);
    munmap(data, bytes);
    close(fd);
    assert_int_equal(jt_append_close(&file, &err), JT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps),
        cmocka_unit_test(read_whole),
        cmocka_unit_test(commit_replaces),
        cmocka_unit_test(abort_keeps_the_old),
        cmocka_unit_test(output_failures),
        cmocka_unit_test(a_growing_file_is_not_cached),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
