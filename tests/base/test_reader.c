/* Reads of pieces of files: every engine, through the page cache and past it, whole,
 * short and failing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/clock.h"
#include "base/reader.h"
#include "scratch.h"

enum { FILE_BYTES = 5 * (1 << 20) + 777, MOST = 64 };

static char path[512];
static unsigned char *content;

static int write_file(void **state)
{
    (void)state;
    scratch_dir = scratch_new();
    snprintf(path, sizeof path, "%s", scratch_path(&scratch_dir, "file"));
    content = malloc(FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++)
        content[i] = (unsigned char)(i * 2654435761u >> 13);
    scratch_write(path, content, FILE_BYTES);
    return 0;
}

static int remove_file(void **state)
{
    free(content);
    return scratch_teardown(state);
}

/* Each way to read: an engine that the system allows, through the page cache or not. */
typedef struct way {
    jt_source source;
    jt_reader *reader;
} way;

static bool open_way(way *w, int i)
{
    static const char *const engine[] = {"uring", "pread"};
    jt_reader_options options = {.engine = engine[i / 2], .direct = i % 2, .depth = 6};
    jt_err err;
    if (jt_reader_new(&w->reader, &options, &err) != JT_OK) {
        assert_int_equal(err.code, JT_E_UNSUPPORTED); /* of io_uring only */
        assert_int_equal(i / 2, 0);
        return false;
    }
    assert_string_equal(jt_reader_engine(w->reader), engine[i / 2]);
    assert_int_equal(jt_source_open(&w->source, path, &err), JT_OK);
    return true;
}

static void close_way(way *w)
{
    jt_reader_free(w->reader);
    jt_source_close(&w->source);
}

/* A request with a buffer of its own. */
static void ask(jt_read *read, const way *w, uint64_t offset, size_t bytes)
{
    size_t lead = (size_t)offset % JT_READ_ALIGN;
    size_t room =
        (lead + bytes + 2 * JT_READ_ALIGN - 1) / JT_READ_ALIGN * JT_READ_ALIGN;
    char *buffer = aligned_alloc(JT_READ_ALIGN, room);
    *read = (jt_read){.source = &w->source,
                      .offset = offset,
                      .bytes = bytes,
                      .to = buffer + lead,
                      .user = buffer};
}

static void check(const jt_read *read)
{
    assert_int_equal(read->error, 0);
    assert_memory_equal(read->to, content + read->offset, read->bytes);
}

static void every_way_gives_the_bytes(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        way w;
        jt_read reads[MOST], *done;
        int ended = 0;
        uint64_t wanted = 0;
        if (!open_way(&w, i))
            continue;
        for (unsigned r = 0; r < MOST; r++) {
            size_t bytes = 1 + r * 48611 % (r % 8 ? 70000 : 3000000);
            uint64_t offset = r * 7368787u % (FILE_BYTES - bytes);
            if (r == 5) /* to the very end, which is inside a block */
                offset = FILE_BYTES - bytes;
            wanted += bytes;
            ask(&reads[r], &w, offset, bytes);
            jt_reader_add(w.reader, &reads[r], r % 3);
            if (r % 7 == 0)
                jt_reader_hurry(w.reader, &reads[r]);
        }
        while ((done = jt_reader_next(w.reader, true))) {
            check(done);
            free(done->user);
            ended++;
        }
        assert_int_equal(ended, MOST);
        assert_true(jt_reader_bytes(w.reader) >= wanted);
        close_way(&w);
    }
}

static int one(way *w, uint64_t offset, size_t bytes, jt_read_fault fault)
{
    jt_read read;
    ask(&read, w, offset, bytes);
    jt_read_fault_set(fault);
    jt_reader_add(w->reader, &read, true);
    assert_ptr_equal(jt_reader_next(w->reader, true), &read);
    jt_read_fault_set((jt_read_fault){.after = -1});
    if (read.error == 0)
        check(&read);
    free(read.user);
    return read.error;
}

static void failures_belong_to_their_read(void **state)
{
    (void)state;
    enum { BYTES = 3 << 20 };
    for (int i = 0; i < 4; i++) {
        way w;
        if (!open_way(&w, i))
            continue;
        for (long piece = 0; piece < 3; piece++) {
            jt_read_fault bad = {.after = piece, .error = EIO};
            jt_read_fault cut = {.after = piece, .keep = 8192 + 17};
            jt_read_fault end = {.after = piece};
            assert_int_equal(one(&w, 1000, BYTES, bad), EIO);
            assert_int_equal(one(&w, 1000, BYTES, cut), 0); /* the rest is fetched */
            assert_int_equal(one(&w, 1000, BYTES, end), JT_READ_SHORT);
        }
        jt_read_fault interrupted = {.after = 0, .error = EINTR};
        assert_int_equal(one(&w, 1000, BYTES, interrupted), 0);
        jt_read_fault slow = {.after = -1, .pause_us = 2000};
        assert_int_equal(one(&w, 1000, BYTES, slow), 0);
        close_way(&w);
    }
}

/* What comes late is not there before, and keeps nobody from freeing the reader. */
static void a_slow_disk_comes_late(void **state)
{
    (void)state;
    enum { NEVER = 1000000000 };
    const jt_read_fault none = {.after = -1};
    for (int i = 0; i < 4; i++) {
        way w;
        jt_read read;
        if (!open_way(&w, i))
            continue;
        jt_read_slow_set("another file", NEVER);
        assert_int_equal(one(&w, 1000, 1 << 20, none), 0);
        jt_read_slow_set(w.source.path, 2000);
        double before = jt_seconds();
        assert_int_equal(one(&w, 1000, 1 << 20, none), 0);
        assert_true(jt_seconds() - before >= 2e-3);
        assert_true(jt_reader_busy(w.reader) >= 2e-3);
        jt_read_slow_set(w.source.path, NEVER);
        ask(&read, &w, 5000, 1 << 20);
        jt_reader_add(w.reader, &read, true);
        for (int j = 0; j < 10; j++)
            assert_null(jt_reader_next(w.reader, false));
        if (i % 2) {
            jt_read_slow_set(NULL, 0);
            assert_ptr_equal(jt_reader_next(w.reader, true), &read);
            check(&read);
        }
        close_way(&w);
        jt_read_slow_set(NULL, 0);
        free(read.user);
    }
}

static void what_is_not_wanted_any_more_is_given_up(void **state)
{
    (void)state;
    way w;
    jt_read reads[3], *done;
    assert_true(open_way(&w, 2));
    for (int i = 0; i < 3; i++) {
        ask(&reads[i], &w, (uint64_t)i << 20, 4 << 20 >> (i > 0));
        jt_reader_add(w.reader, &reads[i], false);
    }
    /* The first fills what may be under way ahead of need. */
    assert_true(jt_reader_give_up(w.reader, &reads[2]));
    assert_false(jt_reader_give_up(w.reader, &reads[2]));
    assert_false(jt_reader_give_up(w.reader, &reads[0])); /* when that has ended */
    jt_reader_hurry(w.reader, &reads[1]);
    uint64_t before = jt_reader_bytes(w.reader);
    int ended = 0;
    for (; (done = jt_reader_next(w.reader, true)); ended++) {
        if (done == &reads[0])
            assert_int_equal(done->error, JT_READ_GIVEN_UP);
        else
            check(done);
    }
    assert_int_equal(ended, 2);
    assert_true(jt_reader_bytes(w.reader) - before < 6 << 20);
    for (int i = 0; i < 3; i++)
        free(reads[i].user);
    close_way(&w);
}

static void a_changed_file_is_noticed(void **state)
{
    (void)state;
    const char *copy = scratch_path(&scratch_dir, "copy");
    jt_source source;
    jt_err err;
    scratch_write(copy, content, 100000);
    assert_int_equal(jt_source_open(&source, copy, &err), JT_OK);
    assert_int_equal(jt_source_check(&source, &err), JT_OK);
    assert_int_equal(truncate(copy, 50000), 0);
    assert_int_equal(jt_source_check(&source, &err), JT_E_IO);
    assert_non_null(strstr(err.msg, "had 100000 bytes, now it has 50000"));
    assert_int_equal(truncate(copy, 100000), 0); /* the size is back, the bytes not */
    assert_int_equal(jt_source_check(&source, &err), JT_E_IO);
    jt_source_close(&source);
    unlink(copy);
    assert_int_equal(jt_source_open(&source, copy, &err), JT_E_IO);
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    jt_reader *reader;
    jt_err err;
    jt_reader_options options = {.engine = "magic"};
    assert_int_equal(jt_reader_new(&reader, &options, &err), JT_E_ARG);
    assert_non_null(strstr(err.msg, "magic"));
    options.engine = "pread";
    for (long n = 0;; n++) {
        jt_fault_after(n);
        jt_status status = jt_reader_new(&reader, &options, &err);
        jt_fault_after(-1);
        if (status == JT_OK)
            break;
        assert_int_equal(status, JT_E_MEMORY);
    }
    assert_null(jt_reader_next(reader, true)); /* nothing was asked */
    jt_reader_free(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_gives_the_bytes),
        cmocka_unit_test(failures_belong_to_their_read),
        cmocka_unit_test(a_slow_disk_comes_late),
        cmocka_unit_test(what_is_not_wanted_any_more_is_given_up),
        cmocka_unit_test(a_changed_file_is_noticed),
        cmocka_unit_test(wrong_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, write_file, remove_file);
}
