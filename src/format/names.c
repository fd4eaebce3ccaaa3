#include "format/names.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* FNV-1a, with the high half folded in because slots are chosen by the low bits. */
static size_t hash(jt_str name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (unsigned char)name.data[i]) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32);
}

/* The slot that holds `name`, or the free one where it belongs. */
static jt_names_slot *find_slot(const jt_names *names, jt_str name)
{
    size_t mask = names->capacity - 1;
    for (size_t i = hash(name) & mask;; i = (i + 1) & mask) {
        jt_names_slot *slot = &names->slots[i];
        if (!slot->name.data || (slot->name.len == name.len &&
                                 memcmp(slot->name.data, name.data, name.len) == 0))
            return slot;
    }
}

size_t jt_names_find(const jt_names *names, jt_str name)
{
    if (!names->used)
        return JT_NAMES_NONE;
    const jt_names_slot *slot = find_slot(names, name);
    return slot->name.data ? slot->index : JT_NAMES_NONE;
}

static bool enlarge(jt_names *names)
{
    jt_names larger = {.capacity = names->capacity ? 2 * names->capacity : 64,
                       .used = names->used};
    larger.slots = jt_calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < names->capacity; i++) {
        if (names->slots[i].name.data)
            *find_slot(&larger, names->slots[i].name) = names->slots[i];
    }
    free(names->slots);
    *names = larger;
    return true;
}

bool jt_names_add(jt_names *names, jt_str name, size_t index)
{
    if (names->used >= names->capacity / 2 && !enlarge(names))
        return false;
    *find_slot(names, name) = (jt_names_slot){name, index};
    names->used++;
    return true;
}

void jt_names_free(jt_names *names)
{
    free(names->slots);
    *names = (jt_names){0};
}
