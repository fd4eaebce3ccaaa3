#include "fetch/download.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "fetch/sha256.h"

/* ---- a connection ---- */

enum { TAG = 256 };

typedef struct transfer {
    const jt_download *what;
    CURL *curl;
    int fd;          /* of the part */
    uint64_t held;   /* bytes of it that are there */
    bool begun;      /* the answer has a body, which goes on after them */
    char tag[TAG];   /* by which the server knows this version; empty: none */
    char *tag_path;  /* where that is kept */
    jt_status wrong; /* what a callback met */
    jt_err *err;
} transfer;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static CURL *open_curl(const char *url, const char *token)
{
    enum { CONNECT = 30, STALL = 30, REDIRECTS = 10 };
    pthread_once(&once, start_curl);
    CURL *curl = curl_easy_init();
    if (!curl)
        return NULL;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR,
                     strncasecmp(url, "https:", 6) == 0 ? "https" : "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTS);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALL);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "junto/" JT_VERSION);
    if (token) {
        curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, token);
    }
    return curl;
}

static jt_status tell_failure(CURL *curl, CURLcode code, const char *url, jt_err *err)
{
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_HTTP_RETURNED_ERROR)
        return jt_fail(
            err, JT_E_IO, "'%s': the server answered %ld%s", url, status,
            status == 401 || status == 403 ? " (it may want a token: HF_TOKEN)" : "");
    return jt_fail(err, JT_E_IO, "'%s': %s", url, curl_easy_strerror(code));
}

/* ---- texts ---- */

typedef struct text_buffer {
    char *data;
    size_t bytes, capacity, limit;
    bool too_large;
} text_buffer;

static size_t take_text(char *data, size_t one, size_t n, void *user)
{
    text_buffer *b = user;
    (void)one;
    b->too_large = n > b->limit - b->bytes;
    if (b->too_large || !jt_grow((void **)&b->data, &b->capacity, b->bytes + n + 1, 1))
        return 0;
    memcpy(b->data + b->bytes, data, n);
    b->bytes += n;
    b->data[b->bytes] = '\0';
    return n;
}

jt_status jt_download_text(char **text, size_t *bytes, const char *url,
                           const char *token, size_t limit, jt_err *err)
{
    text_buffer b = {.limit = limit};
    CURL *curl = open_curl(url, token);
    if (!curl || !jt_grow((void **)&b.data, &b.capacity, 1, 1)) {
        curl_easy_cleanup(curl);
        return jt_fail_memory(err, "fetching a text");
    }
    b.data[0] = '\0';
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_text);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &b);
    CURLcode code = curl_easy_perform(curl);
    jt_status status = JT_OK;
    if (b.too_large)
        status = jt_fail(err, JT_E_LIMIT, "'%s' is larger than %zu bytes", url, limit);
    else if (code != CURLE_OK)
        status = tell_failure(curl, code, url, err);
    curl_easy_cleanup(curl);
    if (status != JT_OK) {
        free(b.data);
        return status;
    }
    *text = b.data;
    *bytes = b.bytes;
    return JT_OK;
}

/* ---- files: what the server says ---- */

/* The value of a header "Name: value\r\n"; false: another header. */
static bool header_value(const char *line, size_t len, const char *name, char *out,
                         size_t room)
{
    size_t at = strlen(name);
    if (len <= at || strncasecmp(line, name, at) != 0 || line[at] != ':')
        return false;
    for (at++; at < len && line[at] == ' ';)
        at++;
    while (len > at && (line[len - 1] == '\r' || line[len - 1] == '\n'))
        len--;
    if (len - at >= room)
        return false;
    memcpy(out, line + at, len - at);
    out[len - at] = '\0';
    return true;
}

static size_t take_header(char *line, size_t one, size_t n, void *user)
{
    transfer *t = user;
    char value[TAG];
    (void)one;
    if (n > 5 && strncmp(line, "HTTP/", 5) == 0)
        t->tag[0] = '\0'; /* the headers of another answer begin */
    else if (header_value(line, n, "ETag", value, sizeof value) && value[0] == '"')
        memcpy(t->tag, value, sizeof t->tag);
    return n;
}

static void keep_tag(const transfer *t)
{
    FILE *file = fopen(t->tag_path, "w");
    if (!file)
        return; /* then the part is not gone on with */
    fputs(t->tag, file);
    fclose(file);
}

/* The answer is the rest of the file, or all of it, as it is another one by now. */
static bool begin_body(transfer *t)
{
    long status = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    t->begun = true;
    if (status != 206) {
        t->held = 0;
        if (ftruncate(t->fd, 0) || lseek(t->fd, 0, SEEK_SET) < 0)
            return false;
    }
    keep_tag(t);
    return true;
}

static bool write_all(int fd, const char *data, size_t bytes)
{
    while (bytes) {
        ssize_t n = write(fd, data, bytes);
        if (n < 0 && errno != EINTR)
            return false;
        data += n < 0 ? 0 : n;
        bytes -= n < 0 ? 0 : (size_t)n;
    }
    return true;
}

static size_t take_file(char *data, size_t one, size_t n, void *user)
{
    transfer *t = user;
    (void)one;
    if ((!t->begun && !begin_body(t)) || !write_all(t->fd, data, n)) {
        t->wrong = jt_fail(t->err, JT_E_IO, "cannot write '%s': %s", t->what->path,
                           strerror(errno));
        return 0;
    }
    t->held += n;
    return n;
}

static int report(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total,
                  curl_off_t up)
{
    transfer *t = user;
    (void)up_total;
    (void)up;
    uint64_t all = t->what->bytes;
    if (!all && total > 0)
        all = t->held - (uint64_t)now + (uint64_t)total;
    t->wrong =
        jt_progress_report(t->what->progress, t->what->what, t->held, all, t->err);
    return t->wrong != JT_OK;
}

/* ---- files: trying ---- */

/* One connection. *again: it broke, and another may do better. */
static jt_status try_once(transfer *t, bool *again)
{
    char range[32];
    struct curl_slist *headers = NULL;
    CURL *curl = open_curl(t->what->url, t->what->token);
    *again = false;
    if (!curl)
        return jt_fail_memory(t->err, "fetching a file");
    t->curl = curl;
    t->begun = false;
    if (t->held) {
        char line[TAG + 16];
        snprintf(range, sizeof range, "%llu-", (unsigned long long)t->held);
        curl_easy_setopt(curl, CURLOPT_RANGE, range);
        snprintf(line, sizeof line, "If-Range: %s", t->tag);
        headers = t->tag[0] ? curl_slist_append(NULL, line) : NULL;
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    }
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_file);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, report);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
    CURLcode code = curl_easy_perform(curl);
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    jt_status result = t->wrong;
    if (result == JT_OK && code != CURLE_OK) {
        result = tell_failure(curl, code, t->what->url, t->err);
        *again = code != CURLE_HTTP_RETURNED_ERROR || status >= 500 || status == 429;
        if (status == 416) { /* there is no such rest: begin anew */
            *again = t->held > 0;
            t->held = 0;
            *again = *again && !ftruncate(t->fd, 0) && lseek(t->fd, 0, SEEK_SET) == 0;
        }
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return result;
}

static jt_status fetch_part(transfer *t)
{
    enum { TRIES = 5 };
    bool again = true;
    jt_status status = JT_OK;
    for (int left = TRIES; left > 0 && again; left--) {
        uint64_t before = t->held;
        if (t->what->bytes && t->held == t->what->bytes)
            return JT_OK;
        status = try_once(t, &again);
        if (status == JT_OK)
            return JT_OK;
        if (t->held > before)
            left = TRIES; /* it goes on, if slowly */
        struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
        if (again && left > 1)
            nanosleep(&pause, NULL);
    }
    return status;
}

/* ---- files: the end ---- */

static jt_status check_part(const transfer *t)
{
    enum { PIECE = 1 << 20 };
    const jt_download *d = t->what;
    char sum[JT_SHA256_TEXT];
    jt_sha256 s;
    if (d->bytes && t->held != d->bytes)
        return jt_fail(t->err, JT_E_IO, "'%s' has %llu bytes, expected %llu", d->url,
                       (unsigned long long)t->held, (unsigned long long)d->bytes);
    if (!d->sha256)
        return JT_OK;
    char *piece = jt_alloc(PIECE, 1);
    if (!piece)
        return jt_fail_memory(t->err, "checking a file");
    jt_status status = JT_OK;
    uint64_t done = 0;
    jt_sha256_start(&s);
    for (ssize_t n;
         status == JT_OK && (n = pread(t->fd, piece, PIECE, (off_t)done)) > 0;) {
        jt_sha256_add(&s, piece, (size_t)n);
        done += (uint64_t)n;
        status = jt_progress_report(d->progress, "checking", done, t->held, t->err);
    }
    free(piece);
    jt_sha256_end(&s, sum);
    if (status == JT_OK && strcasecmp(sum, d->sha256) != 0)
        return jt_fail(t->err, JT_E_IO, "'%s' has the SHA-256 sum %s, expected %s",
                       d->url, sum, d->sha256);
    return status;
}

static jt_status finish(const transfer *t, const char *part)
{
    jt_status status = check_part(t);
    if (status == JT_E_IO) { /* there is nothing to go on from */
        unlink(part);
        unlink(t->tag_path);
    }
    if (status != JT_OK)
        return status;
    if (fsync(t->fd) || rename(part, t->what->path))
        return jt_fail(t->err, JT_E_IO, "cannot write '%s': %s", t->what->path,
                       strerror(errno));
    unlink(t->tag_path);
    return JT_OK;
}

/* What an earlier call left; without a mark of its version only where a sum will tell
 * whether it went together. */
static void find_earlier(transfer *t)
{
    struct stat info;
    FILE *file = fopen(t->tag_path, "r");
    if (file) {
        if (!fgets(t->tag, sizeof t->tag, file))
            t->tag[0] = '\0';
        fclose(file);
    }
    if (fstat(t->fd, &info) == 0 && (t->tag[0] || t->what->sha256))
        t->held = (uint64_t)info.st_size;
    if (t->what->bytes && t->held > t->what->bytes)
        t->held = 0;
    if (ftruncate(t->fd, (off_t)t->held) || lseek(t->fd, 0, SEEK_END) < 0)
        t->held = 0;
}

jt_status jt_download_file(const jt_download *download, jt_err *err)
{
    jt_err own;
    transfer t = {.what = download, .err = err ? err : &own};
    char *part = NULL;
    if (asprintf(&part, "%s.part", download->path) < 0)
        return jt_fail_memory(err, "fetching a file");
    if (asprintf(&t.tag_path, "%s.tag", part) < 0) {
        free(part);
        return jt_fail_memory(err, "fetching a file");
    }
    jt_status status = JT_OK;
    t.fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (t.fd < 0)
        status =
            jt_fail(t.err, JT_E_IO, "cannot write '%s': %s", part, strerror(errno));
    else if (flock(t.fd, LOCK_EX | LOCK_NB))
        status = jt_fail(t.err, JT_E_IO, "'%s' is being fetched already", part);
    if (status == JT_OK) {
        find_earlier(&t);
        status = fetch_part(&t);
    }
    if (status == JT_OK)
        status = finish(&t, part);
    if (t.fd >= 0)
        close(t.fd);
    free(part);
    free(t.tag_path);
    return status;
}
