#include "serve/clients.h"

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

static const double MINUTE = 60.0;

struct jt_client {
    jt_client *next;
    jt_clients *all;
    jt_client *of; /* a user's client; NULL: it is one */
    char name[JT_CLIENT_NAME];
    uint64_t user; /* a number for its name */
    size_t holders;
    size_t replies, running;
    unsigned long long turn; /* the larger, the later */

    /* Of clients. */
    double tokens; /* that are left */
    double filled; /* clock: when that was so */
};

struct jt_clients {
    jt_client_limits limits;
    pthread_mutex_t lock; /* guards all clients */
    jt_client *first;
    unsigned long long turns; /* that of the last one; odd */
};

/* ---- with the lock held ---- */

static void fill(jt_client *c)
{
    double most = (double)c->all->limits.tokens, now = jt_seconds();
    c->tokens = fmin(most, c->tokens + (now - c->filled) * most / MINUTE);
    c->filled = now;
}

/* Nobody would notice if it were gone. */
static bool is_forgotten(jt_client *c)
{
    if (c->holders || c->replies)
        return false;
    fill(c);
    return c->of || c->tokens >= (double)c->all->limits.tokens;
}

static void forget(jt_clients *all)
{
    for (jt_client **at = &all->first; *at;) {
        jt_client *c = *at;
        if (is_forgotten(c)) {
            *at = c->next;
            free(c);
        } else {
            at = &c->next;
        }
    }
}

static jt_client *find(jt_clients *all, const char *name, const jt_client *of,
                       uint64_t user)
{
    jt_client *c = all->first;
    while (c && !(c->of == of && c->user == user && strcmp(c->name, name) == 0))
        c = c->next;
    return c;
}

/* Who comes is behind those who came before, and before whoever had the last turn. */
static jt_client *hold(jt_clients *all, const char *name, jt_client *of, uint64_t user)
{
    jt_client *c = find(all, name, of, user);
    if (!c) {
        c = jt_calloc(1, sizeof *c);
        if (!c)
            return NULL;
        *c = (jt_client){.next = all->first,
                         .all = all,
                         .of = of,
                         .user = user,
                         .turn = all->turns - 1,
                         .tokens = (double)all->limits.tokens,
                         .filled = jt_seconds()};
        snprintf(c->name, sizeof c->name, "%s", name);
        all->first = c;
    }
    c->holders++;
    return c;
}

static jt_client *owner(jt_client *c)
{
    return c->of ? c->of : c;
}

/* ---- coming and going ---- */

jt_status jt_clients_new(jt_clients **out, const jt_client_limits *limits, jt_err *err)
{
    jt_clients *all = jt_calloc(1, sizeof *all);
    if (!all)
        return jt_fail_memory(err, "counting clients");
    all->limits = *limits;
    all->turns = 1;
    pthread_mutex_init(&all->lock, NULL);
    *out = all;
    return JT_OK;
}

void jt_clients_free(jt_clients *all)
{
    if (!all)
        return;
    for (jt_client *c = all->first, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    pthread_mutex_destroy(&all->lock);
    free(all);
}

/* Names of users can be long (FNV-1a; who finds two with the same number shares a
 * turn with himself). */
static uint64_t number_of(const char *user)
{
    uint64_t number = 0xcbf29ce484222325u;
    for (const char *c = user; *c; c++)
        number = (number ^ (unsigned char)*c) * 0x100000001b3u;
    return number;
}

jt_client *jt_client_enter(jt_clients *all, const char *name, const char *user)
{
    pthread_mutex_lock(&all->lock);
    forget(all);
    jt_client *c = hold(all, name, NULL, 0);
    jt_client *own = c && user ? hold(all, name, c, number_of(user)) : NULL;
    if (c && user && !own)
        c->holders--;
    pthread_mutex_unlock(&all->lock);
    return user ? own : c;
}

void jt_client_leave(jt_client *c)
{
    if (!c)
        return;
    jt_clients *all = c->all;
    pthread_mutex_lock(&all->lock);
    c->holders--;
    if (c->of)
        c->of->holders--;
    pthread_mutex_unlock(&all->lock);
}

/* ---- limits ---- */

static bool refuse_replies(const jt_clients *all, jt_problem *p)
{
    return jt_refuse(p, 429, NULL, "rate_limit_exceeded",
                     "at most %zu replies of one client can be asked for at once",
                     all->limits.replies);
}

/* In the words of the reference. */
static bool refuse_tokens(const jt_client *c, size_t tokens, jt_problem *p)
{
    size_t most = c->all->limits.tokens;
    double used = (double)most - c->tokens, lacking = (double)tokens - c->tokens;
    double wait = ceil(lacking * MINUTE / (double)most);
    if (tokens > most)
        jt_refuse(p, 429, NULL, "rate_limit_exceeded",
                  "Request too large for the tokens per minute (TPM): Limit %zu, "
                  "Requested %zu.",
                  most, tokens);
    else
        jt_refuse(
            p, 429, NULL, "rate_limit_exceeded",
            "Rate limit reached on tokens per minute (TPM): Limit %zu, Used %.0f, "
            "Requested %zu. Please try again in %.0fs.",
            most, ceil(used), tokens, wait);
    p->type = "tokens";
    p->retry = tokens > most ? 0 : (unsigned)fmax(wait, 1.0);
    return false;
}

bool jt_client_admit(jt_client *c, size_t replies, size_t tokens, jt_problem *p)
{
    jt_clients *all = c->all;
    jt_client *of = owner(c);
    bool fine = true;
    pthread_mutex_lock(&all->lock);
    fill(of);
    if (all->limits.replies && of->replies + replies > all->limits.replies)
        fine = refuse_replies(all, p);
    else if (all->limits.tokens && (double)tokens > of->tokens)
        fine = refuse_tokens(of, tokens, p);
    if (fine) {
        of->tokens -= (double)tokens;
        of->replies += replies;
        c->replies += c != of ? replies : 0;
    }
    pthread_mutex_unlock(&all->lock);
    return fine;
}

/* ---- turns ---- */

void jt_client_begin(jt_client *c)
{
    jt_clients *all = c->all;
    pthread_mutex_lock(&all->lock);
    all->turns += 2;
    for (jt_client *at = c; at; at = at->of) {
        at->running++;
        at->turn = all->turns;
    }
    pthread_mutex_unlock(&all->lock);
}

void jt_client_end(jt_client *c, long long unused)
{
    jt_clients *all = c->all;
    pthread_mutex_lock(&all->lock);
    for (jt_client *at = c; at; at = at->of) {
        at->replies--;
        at->running--;
    }
    fill(owner(c));
    owner(c)->tokens += (double)unused;
    pthread_mutex_unlock(&all->lock);
}

bool jt_client_goes_before(const jt_client *a, const jt_client *b)
{
    jt_clients *all = a->all;
    pthread_mutex_lock(&all->lock);
    const jt_client *of_a = a->of ? a->of : a, *of_b = b->of ? b->of : b;
    if (of_a == of_b) {
        of_a = a;
        of_b = b;
    }
    bool before = of_a->running != of_b->running ? of_a->running < of_b->running
                                                 : of_a->turn < of_b->turn;
    pthread_mutex_unlock(&all->lock);
    return before;
}

jt_allowance jt_client_allowance(jt_client *c)
{
    jt_clients *all = c->all;
    jt_allowance a = {.limit = all->limits.tokens};
    if (!a.limit)
        return a;
    pthread_mutex_lock(&all->lock);
    fill(owner(c));
    double left = owner(c)->tokens;
    pthread_mutex_unlock(&all->lock);
    a.left = left > 0 ? (size_t)left : 0;
    a.reset = ((double)a.limit - left) * MINUTE / (double)a.limit;
    return a;
}
