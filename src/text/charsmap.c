#include "text/charsmap.h"

#include <string.h>

jt_status jt_charsmap_open(jt_charsmap *out, jt_str bytes, jt_err *err)
{
    uint32_t trie = 0;
    if (bytes.len >= 4)
        memcpy(&trie, bytes.data, 4);
    if (trie == 0 || trie % 4 != 0 || trie > bytes.len - 4)
        return jt_fail(err, JT_E_FORMAT,
                       "precompiled_charsmap of %zu bytes has a trie of %u", bytes.len,
                       (unsigned)trie);
    const char *texts = bytes.data + 4 + trie;
    size_t len = bytes.len - 4 - trie;
    if (len == 0 || texts[len - 1] != '\0')
        return jt_fail(err, JT_E_FORMAT,
                       "precompiled_charsmap does not end with a text");
    *out = (jt_charsmap){bytes, trie / 4, {texts, len}};
    return JT_OK;
}

/* A unit; one without children and label for places outside the table. */
static uint32_t unit_at(const jt_charsmap *map, size_t i)
{
    uint32_t unit = 1u << 31;
    if (i < map->units)
        memcpy(&unit, map->bytes.data + 4 + 4 * i, sizeof unit);
    return unit;
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

size_t jt_charsmap_find(const jt_charsmap *map, jt_str text, bool shortest,
                        jt_str *instead)
{
    size_t longest = 0, at = offset_of(unit_at(map, 0));
    for (size_t i = 0; i < text.len && map->units > 0; i++) {
        unsigned char c = (unsigned char)text.data[i];
        at ^= c;
        uint32_t unit = unit_at(map, at);
        if (c == 0 || (unit & (1u << 31 | 0xff)) != c)
            break;
        at ^= offset_of(unit);
        if (!(unit >> 8 & 1))
            continue;
        size_t place = unit_at(map, at) & ((1u << 31) - 1);
        if (place >= map->texts.len)
            break;
        const char *found = map->texts.data + place;
        *instead = (jt_str){found, strlen(found)};
        longest = i + 1;
        if (shortest)
            break;
    }
    return longest;
}
