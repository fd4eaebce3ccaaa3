/* Cutting a piece at the matches of an expression, as the tokenizers library does
 * (tokenizers/src/tokenizer/normalizer.rs, split). */
#include "base/utf8.h"
#include "text/pieces_impl.h"

/* A stretch of the piece: a match, or what lies between two. */
typedef struct segment {
    size_t start, end;
    bool match;
} segment;

/* One piece on its way through a cut. Segments are looked at in pairs: `held` waits for
 * the one that comes after it. */
typedef struct cutter {
    const jt_pieces_work *w;
    size_t step;
    jt_piece piece;
    segment held;
    bool any;      /* something is held */
    bool absorbed; /* held has taken in a match (JT_CUT_PREVIOUS) */
} cutter;

static jt_status pass(const cutter *c, segment s)
{
    if (s.end == s.start)
        return JT_OK;
    jt_piece part = {{c->piece.text.data + s.start, s.end - s.start},
                     c->piece.stretch && s.start == 0,
                     c->piece.start && s.start == 0};
    return jt_pieces_step(c->w, c->step + 1, part);
}

/* Whether `next` belongs to the segment that is held. */
static bool joins(const cutter *c, segment next, jt_cut cut)
{
    switch (cut) {
    case JT_CUT_PREVIOUS: /* one match, not a second one */
        return next.match && !c->held.match && !c->absorbed;
    case JT_CUT_NEXT:
        return !next.match && c->held.match;
    default:
        return next.match == c->held.match;
    }
}

static jt_status take(cutter *c, segment next)
{
    const jt_step *step = &c->w->pieces->steps->items[c->step];
    next.match ^= step->invert;
    if (step->cut == JT_CUT_ISOLATED)
        return pass(c, next);
    if (step->cut == JT_CUT_REMOVED)
        return next.match ? JT_OK : pass(c, next);
    if (next.end == next.start)
        return JT_OK;
    if (c->any && joins(c, next, step->cut)) {
        c->held.end = next.end;
        c->absorbed = true;
        if (step->cut == JT_CUT_NEXT)
            c->held.match = false;
        return JT_OK;
    }
    segment before = c->held;
    bool any = c->any;
    c->held = next;
    c->any = true;
    c->absorbed = false;
    return any ? pass(c, before) : JT_OK;
}

/* One character further. */
static size_t after_char(jt_str text, size_t at)
{
    size_t len = jt_utf8_char(text.data + at, text.len - at);
    return at + (len ? len : 1);
}

jt_status jt_pieces_cut(const jt_pieces_work *w, size_t i, jt_piece piece)
{
    cutter c = {.w = w, .step = i, .piece = piece};
    const jt_step *step = &w->pieces->steps->items[i];
    jt_str text = piece.text;
    for (size_t done = 0, from = 0; done < text.len;) {
        size_t start = text.len, end = text.len;
        bool found = false;
        if (from <= text.len)
            JT_TRY(jt_pieces_find(w, step, text, from, &found, &start, &end));
        if (start > done)
            JT_TRY(take(&c, (segment){done, start, false}));
        if (end > start)
            JT_TRY(take(&c, (segment){start, end, true}));
        done = end;
        /* An empty match only parts what lies around it. */
        from = found && end == start && end < text.len ? after_char(text, end) : end;
    }
    return c.any ? pass(&c, c.held) : JT_OK;
}
