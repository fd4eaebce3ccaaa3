#include "format/names.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

/* The high half is folded in because slots are chosen by the low bits. */
static uint32_t hash_of(jt_str name)
{
    uint64_t h = jt_hash(JT_HASH_START, name.data, name.len);
    return (uint32_t)(h ^ h >> 32);
}

/* The slot that holds `name`, or the free one where it belongs. */
static jt_names_slot *find_slot(const jt_names *names, jt_str name, uint32_t hash)
{
    size_t mask = names->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        jt_names_slot *slot = &names->slots[i];
        if (!slot->name.data || (slot->hash == hash && slot->name.len == name.len &&
                                 memcmp(slot->name.data, name.data, name.len) == 0))
            return slot;
    }
}

size_t jt_names_find(const jt_names *names, jt_str name)
{
    if (!names->used)
        return JT_NAMES_NONE;
    const jt_names_slot *slot = find_slot(names, name, hash_of(name));
    return slot->name.data ? slot->index : JT_NAMES_NONE;
}

/* Into a larger table, where it is not yet: no name need be looked at. */
static void move_slot(jt_names *to, const jt_names_slot *slot)
{
    size_t mask = to->capacity - 1, i = slot->hash & mask;
    while (to->slots[i].name.data)
        i = (i + 1) & mask;
    to->slots[i] = *slot;
}

static bool resize(jt_names *names, size_t capacity)
{
    jt_names larger = {.capacity = capacity, .used = names->used};
    larger.slots = jt_calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < names->capacity; i++) {
        if (names->slots[i].name.data)
            move_slot(&larger, &names->slots[i]);
    }
    free(names->slots);
    *names = larger;
    return true;
}

bool jt_names_reserve(jt_names *names, size_t count)
{
    size_t capacity = names->capacity ? names->capacity : 64;
    while (capacity / 2 < count) {
        if (capacity > SIZE_MAX / 2)
            return false;
        capacity *= 2;
    }
    return capacity == names->capacity || resize(names, capacity);
}

bool jt_names_claim(jt_names *names, jt_str name, size_t *index)
{
    if (*index >= UINT32_MAX || !jt_names_reserve(names, names->used + 1))
        return false;
    uint32_t hash = hash_of(name);
    jt_names_slot *slot = find_slot(names, name, hash);
    if (slot->name.data) {
        *index = slot->index;
        return true;
    }
    *slot = (jt_names_slot){name, (uint32_t)*index, hash};
    names->used++;
    return true;
}

bool jt_names_add(jt_names *names, jt_str name, size_t index)
{
    return jt_names_claim(names, name, &index);
}

void jt_names_free(jt_names *names)
{
    free(names->slots);
    *names = (jt_names){0};
}
