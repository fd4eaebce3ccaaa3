/* Which files of a repository are the model that is meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "fetch/hub.h"

#define FILE_(path) "{\"type\": \"file\", \"path\": \"" path "\", \"size\": 5}"

/* The paths that are chosen, with spaces between them; "!" and the message of a
 * failure. */
static void choose(char *out, size_t room, const char *listing, const char *wanted)
{
    jt_hub_files files;
    jt_err err = {0};
    size_t at = 0;
    jt_status status = jt_hub_read(&files, listing, strlen(listing), "http://hub",
                                   "o/m", wanted, &err);
    out[0] = '\0';
    for (size_t i = 0; i < files.count && status == JT_OK; i++)
        at += (size_t)snprintf(out + at, room - at, "%s%s", i ? " " : "",
                               files.list[i].path);
    if (status != JT_OK)
        snprintf(out, room, "!%s", err.msg);
    jt_hub_free(&files);
}

static void expect(const char *listing, const char *wanted, const char *files)
{
    char out[1024];
    choose(out, sizeof out, listing, wanted);
    if (files[0] == '!')
        assert_non_null(strstr(out, files + 1));
    else
        assert_string_equal(out, files);
}

static const char many[] = "[" FILE_("README.md") "," FILE_("m-q4_k_m.gguf") "," FILE_(
    "m-q8_0.gguf") "," FILE_("big-00001-of-00002.gguf") "," FILE_("big-00002-of-"
                                                                  "00002.gguf") "]";

static void one_model_is_found(void **state)
{
    (void)state;
    expect("[" FILE_("a.gguf") "," FILE_("config.json") "]", NULL, "a.gguf");
    expect("[" FILE_("config.json") "," FILE_("model.safetensors") "," FILE_(
               "x.py") "," FILE_("sub/config.json") "]",
           NULL, "config.json model.safetensors");
    expect(many, "Q4_K_M", "m-q4_k_m.gguf");
    expect(many, "m-q8_0.gguf", "m-q8_0.gguf");
    expect(many, "big", "big-00001-of-00002.gguf big-00002-of-00002.gguf");
    expect(many, NULL, "!choose one with :FILE: m-q4_k_m.gguf, m-q8_0.gguf, big");
    expect(many, "q", "!several models");
    expect(many, "q5", "!no model called q5");
    expect("[]", NULL, "!no model");
    expect("{}", NULL, "!no JSON list");
    expect("[5, {\"path\": 5}", NULL, "!no JSON list");
    expect("[5, {\"path\": 5}]", NULL, "!no model");
}

static void names_that_leave_the_folder_are_passed_over(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "../a.gguf", "/a.gguf", "a/../b.gguf", ".a.gguf", "a//b.gguf",
        "a/",        "a\n",     "a\\b.gguf",   "",        "a/.b/c.gguf"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(jt_hub_safe(bad[i]));
    assert_true(jt_hub_safe("a-b_c/D.1 (2)+3.gguf"));
    expect("[" FILE_("../a.gguf") "]", NULL, "!no model");
}

static void sums_and_addresses(void **state)
{
    (void)state;
    static const char listing[] =
        "[{\"type\": \"file\", \"path\": \"a b.gguf\", \"size\": 7, \"lfs\": {\"oid\": "
        "\"0123456789012345678901234567890123456789012345678901234567890123\"}}]";
    jt_hub_files files;
    assert_int_equal(
        jt_hub_read(&files, listing, strlen(listing), "http://hub", "o/m", NULL, NULL),
        JT_OK);
    assert_string_equal(files.list[0].url, "http://hub/o/m/resolve/main/a%20b.gguf");
    assert_int_equal(files.list[0].bytes, 7);
    assert_int_equal(strlen(files.list[0].sha256), 64);
    jt_hub_free(&files);
}

static void memory_may_end(void **state)
{
    (void)state;
    jt_status status = JT_E_MEMORY;
    for (long n = 0; status == JT_E_MEMORY; n++) {
        jt_hub_files files;
        jt_fault_after(n);
        status =
            jt_hub_read(&files, many, strlen(many), "http://hub", "o/m", "q8", NULL);
        jt_fault_after(-1);
        jt_hub_free(&files);
    }
    assert_int_equal(status, JT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_model_is_found),
        cmocka_unit_test(names_that_leave_the_folder_are_passed_over),
        cmocka_unit_test(sums_and_addresses),
        cmocka_unit_test(memory_may_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
