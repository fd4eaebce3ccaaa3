/* Text files: documents divided by separator lines. */
#include <stdint.h>
#include <string.h>

#include "learn/data_impl.h"
#include "text/lines.h"
#include "text/pieces.h"
#include "base/utf8.h"

/* Text longer than this is encoded in pieces of about as much: memory is bounded, and
 * one can see how far it is. Where two pieces meet, the tokens may differ from those of
 * the text in one piece. */
enum { PIECE = 1 << 20 };

/* Bytes seen, and those of them that are not UTF-8. */
typedef struct survey {
    size_t seen, invalid;
} survey;

/* Files have a broken character here and there; one in a hundred is no text. The start
 * alone says little. */
static jt_status judge(const survey *s, bool end, jt_err *err)
{
    enum { ENOUGH = 1 << 16 };
    if ((end || s->seen >= ENOUGH) && s->invalid > s->seen / 100)
        return jt_fail(err, JT_E_FORMAT, "not UTF-8 text: %zu of %zu bytes are invalid",
                       s->invalid, s->seen);
    return JT_OK;
}

static jt_status survey_piece(survey *s, const jt_reader *r, jt_str text, jt_err *err)
{
    const char *nul = memchr(text.data, '\0', text.len);
    if (nul)
        return jt_fail(err, JT_E_FORMAT, "a binary file: byte %zu is NUL",
                       (size_t)(nul - (const char *)r->docs->map.data));
    s->seen += text.len;
    for (size_t at = 0; at < text.len;) {
        at += jt_utf8_valid(text.data + at, text.len - at);
        size_t invalid = jt_utf8_invalid(text.data + at, text.len - at);
        s->invalid += invalid;
        at += invalid;
    }
    return judge(s, false, err);
}

static jt_status read_document(jt_reader *r, survey *s, jt_str text, jt_err *err)
{
    JT_TRY(jt_reader_begin(r, err));
    while (text.len > 0) {
        jt_str piece = {text.data, jt_pieces_chunk(text, PIECE)};
        JT_TRY(survey_piece(s, r, piece, err));
        JT_TRY(jt_reader_text(r, piece, 0, err));
        text = (jt_str){text.data + piece.len, text.len - piece.len};
        size_t done = (size_t)(text.data - (const char *)r->docs->map.data);
        JT_TRY(jt_reader_report(r, done, err));
    }
    return jt_reader_end(r, true, err);
}

/* Without the line end, "\n" or "\r\n". */
static jt_str trim_line(jt_str line)
{
    if (line.len > 0 && line.data[line.len - 1] == '\n')
        line.len--;
    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    return line;
}

/* Take a document and the separator after it off `text`. */
static jt_str take_document(jt_str *text, const char *separator)
{
    jt_str document = {text->data, 0};
    if (!separator) {
        document = *text;
        *text = (jt_str){text->data + text->len, 0};
    }
    while (text->len > 0) {
        jt_str line = jt_take_line(text), bare = trim_line(line);
        if (bare.len == strlen(separator) && !memcmp(bare.data, separator, bare.len))
            break;
        document.len += line.len;
    }
    return trim_line(document);
}

jt_status jt_data_read_text(jt_reader *r, jt_err *err)
{
    survey seen = {0};
    jt_str text = {(const char *)r->docs->map.data, r->docs->map.bytes};
    text = jt_skip_mark(text);
    while (text.len > 0) {
        jt_str document = take_document(&text, r->source->separator);
        if (!jt_is_blank(document)) /* two separators, or one at the end of the file */
            JT_TRY(read_document(r, &seen, document, err));
    }
    return judge(&seen, true, err);
}
