#include "text/specials.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    const jt_str x = ((const jt_special *)a)->text, y = ((const jt_special *)b)->text;
    int order = memcmp(x.data, y.data, x.len < y.len ? x.len : y.len);
    return order ? order : (x.len > y.len) - (x.len < y.len);
}

void jt_specials_index(jt_specials *specials)
{
    if (specials->count)
        qsort(specials->list, specials->count, sizeof *specials->list, compare);
    size_t at = 0;
    for (int b = 0; b <= 256; b++) {
        while (at < specials->count &&
               (unsigned char)specials->list[at].text.data[0] < b)
            at++;
        specials->first[b] = at;
    }
}

/* Byte `depth` of list[i], -1 when it is shorter. */
static int byte_at(const jt_specials *specials, size_t i, size_t depth)
{
    const jt_str text = specials->list[i].text;
    return depth < text.len ? (unsigned char)text.data[depth] : -1;
}

/* The first of list[low .. high), which agree up to `depth`, whose byte there is not
 * below `byte`. */
static size_t lower_bound(const jt_specials *specials, size_t low, size_t high,
                          size_t depth, int byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (byte_at(specials, middle, depth) < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const jt_special *jt_specials_match(const jt_specials *specials, jt_str text,
                                    bool control)
{
    if (!text.len)
        return NULL;
    const unsigned char *p = (const unsigned char *)text.data;
    size_t low = specials->first[*p], high = specials->first[*p + 1];
    const jt_special *longest = NULL;
    /* list[low .. high) start with the first `depth` bytes of the text; one that ends
     * there comes before those that go on. */
    for (size_t depth = 1; low < high; depth++) {
        const jt_special *here = &specials->list[low];
        if (here->text.len == depth && (control || !here->control))
            longest = here;
        if (depth == text.len)
            break;
        low = lower_bound(specials, low, high, depth, p[depth]);
        high = lower_bound(specials, low, high, depth, p[depth] + 1);
    }
    return longest;
}
