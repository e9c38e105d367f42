/* What the user of this node wants of the leader: on its way, then waiting until this node has come so far. */
#include "base/mem.h"
#include "server/host_state.h"

int host_ask(struct host *h, const struct ask_what *what, uint64_t *number)
{
    if (!h->started || h->closing || h->halted) return h->halted ? ERR_FAULT : ERR_CLOSED;
    if (h->n_asks >= CHANNEL_ASKS) return ERR_BUSY;
    struct ask *ask = mem_zero(1, sizeof *ask);
    if (ask == NULL) return ERR_NOMEM;
    ask->what = *what;
    ask->number = *number = HOST_FIRST_ASK + ++h->asked;
    h->n_asks++;
    channel_request(h->channel, (struct ring_item){.kind = REQUEST_ASK, .pointer = ask});
    return OK;
}

static void end(struct host *h, struct ask *ask, int code)
{
    struct answer answer = ask->answer;
    mem_free(ask);
    h->machine.done(h->ctx, answer.number, code, answer.index, answer.id);
}

/* Who is removed never hears of it by the log. */
static bool removes(const struct ask *ask, raft_id id)
{
    bool found = false;
    for (uint8_t i = 0; i < ask->what.n; i++) {
        found |= ask->what.changes[i].op == RAFT_REMOVE && ask->what.changes[i].id == id;
    }
    return found;
}

void host_on_answered(struct host *h, struct ask *ask)
{
    struct ask **at = &h->answered;
    h->n_asks--;
    if (ask->answer.code != OK || ask->answer.index <= h->applied || removes(ask, h->node)) {
        end(h, ask, ask->answer.code);
        return;
    }
    while (*at != NULL) at = &(*at)->next;
    *at = ask;
    ask->next = NULL;
}

void host_asks_applied(struct host *h)
{
    for (struct ask **at = &h->answered; *at != NULL;) {
        struct ask *ask = *at;
        if (ask->answer.index > h->applied) {
            at = &ask->next;
            continue;
        }
        *at = ask->next;
        end(h, ask, OK);
        at = &h->answered; /* done() may have asked anew */
    }
}

void host_asks_cancel(struct host *h, uint64_t number)
{
    struct ask **at = &h->answered;
    while (*at != NULL && (*at)->number != number) at = &(*at)->next;
    if (*at == NULL) {
        if (!h->closed) channel_request(h->channel, (struct ring_item){.kind = REQUEST_UNASK, .value = number});
        return;
    }
    struct ask *ask = *at;
    *at = ask->next;
    end(h, ask, ERR_TIMEOUT);
}

void host_asks_end(struct host *h)
{
    while (h->answered != NULL) {
        struct ask *ask = h->answered;
        h->answered = ask->next;
        end(h, ask, ERR_CLOSED);
    }
}

void host_asks_free(struct host *h)
{
    while (h->answered != NULL) {
        struct ask *ask = h->answered;
        h->answered = ask->next;
        mem_free(ask);
    }
}
