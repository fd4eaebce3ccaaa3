#include "serve/calls.h"

#include <stdlib.h>
#include <string.h>

static const char key_mark[] = "<parameter=", end_mark[] = "</parameter>";
static const char last_mark[] = "</function>";

static bool add(jt_calls *c, const char *text, size_t len)
{
    return jt_buffer_add(&c->piece, text, len);
}

/* `json` is freed; of a string without its quotes if `bare`. */
static bool add_json(jt_calls *c, json_t *json, bool bare)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    size_t quote = bare ? 1 : 0;
    bool fits = text && add(c, text + quote, strlen(text) - 2 * quote);
    free(text);
    json_decref(json);
    return fits;
}

static bool add_string(jt_calls *c, const char *text, size_t len, bool bare)
{
    jt_buffer plain = {.data = (char *)text, .len = len};
    return add_json(c, jt_buffer_json(&plain), bare);
}

static bool add_key(jt_calls *c, const char *key, size_t len)
{
    return add(c, c->parameters++ ? "," : "{", 1) && add_string(c, key, len, false) &&
           add(c, ":", 1);
}

/* JSON where it is that, or else a string. */
static bool add_value(jt_calls *c, const char *text, size_t len)
{
    if (len && *text == '\n') {
        text++;
        len--;
    }
    len -= len && text[len - 1] == '\n';
    json_t *value = json_loadb(text, len, JSON_DECODE_ANY, NULL);
    return value ? add_json(c, value, false) : add_string(c, text, len, false);
}

static bool is_text(const jt_calls *c, const char *key, size_t len)
{
    const json_t *type =
        json_object_get(json_object_getn(c->properties, key, len), "type");
    return json_is_string(type) && strcmp(json_string_value(type), "string") == 0;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* A string goes on as it comes; its first and its last newline are not part of it. */
static bool read_string(jt_calls *c, size_t limit, bool last, bool *fits)
{
    jt_buffer *held = &c->held;
    if (c->fresh && limit) {
        c->fresh = false;
        size_t newline = held->data[0] == '\n';
        jt_buffer_drop(held, newline);
        limit -= newline;
    }
    const char *end =
        limit ? memmem(held->data, limit, end_mark, sizeof end_mark - 1) : NULL;
    size_t n = end ? (size_t)(end - held->data) : limit;
    bool over = end || last;
    if (!over)
        n = held->len - larger(jt_buffer_tail(held, end_mark),
                               jt_buffer_tail(held, "\n</parameter>"));
    n = n < limit ? n : limit;
    size_t newline = over && n && held->data[n - 1] == '\n';
    *fits = (n == newline || add_string(c, held->data, n - newline, true)) &&
            (!over || add(c, "\"", 1));
    jt_buffer_drop(held, n + (end ? sizeof end_mark - 1 : 0));
    c->quoted = !over;
    return over;
}

/* `key` is where a parameter begins. */
static bool read_parameter(jt_calls *c, const char *key, size_t limit, bool *fits)
{
    const char *stop = c->held.data + limit;
    key += sizeof key_mark - 1;
    const char *angle = memchr(key, '>', (size_t)(stop - key));
    if (!angle)
        return false;
    const char *value = angle + 1;
    size_t len = (size_t)(angle - key);
    if (is_text(c, key, len)) {
        *fits = add_key(c, key, len) && add(c, "\"", 1);
        c->quoted = c->fresh = true;
        jt_buffer_drop(&c->held, (size_t)(value - c->held.data));
        return true;
    }
    const char *end =
        memmem(value, (size_t)(stop - value), end_mark, sizeof end_mark - 1);
    if (!end)
        return false;
    *fits = add_key(c, key, len) && add_value(c, value, (size_t)(end - value));
    jt_buffer_drop(&c->held, (size_t)(end - c->held.data) + sizeof end_mark - 1);
    return true;
}

bool jt_calls_parameters(jt_calls *c, size_t limit, bool last, bool *fits)
{
    if (c->quoted)
        return read_string(c, limit, last, fits);
    const char *text = c->held.data;
    const char *key = limit ? memmem(text, limit, key_mark, sizeof key_mark - 1) : NULL;
    const char *end =
        limit ? memmem(text, limit, last_mark, sizeof last_mark - 1) : NULL;
    if (key && (!end || key < end) && read_parameter(c, key, limit, fits))
        return true;
    if (!last && (!end || (key && key < end)))
        return false;
    *fits = c->parameters ? add(c, "}", 1) : add(c, "{}", 2);
    c->at = JT_CALLS_REST;
    return true;
}
