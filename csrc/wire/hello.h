/* The first frame of a link, in both directions: who is speaking, and whom it expects. The dialling side counts the
 * link as up when the answer is a hello too; a refusal instead says why not, in words for people. */
#ifndef RAFT_WIRE_HELLO_H
#define RAFT_WIRE_HELLO_H

#include "wire/frame.h"

#pragma GCC visibility push(hidden)

#define HELLO_PROTOCOL 1u       /* newest protocol spoken here */
#define HELLO_PROTOCOL_MIN 1u   /* oldest */
#define HELLO_NAME_MAX 64u      /* bytes of a cluster's name */
#define HELLO_LIST_MAX 2048u    /* bytes of the list of first members, as text */
#define HELLO_ADDRESS_MAX 255u
#define HELLO_LIVES 16u         /* earlier lives of its directory that a node tells of */

enum hello_channel { HELLO_CONTROL = 1, HELLO_BULK = 2 };

struct hello {
    uint16_t protocol_min, protocol; /* range spoken; the link uses the newest that both speak */
    uint8_t cluster[16];             /* id of the cluster: hash of name and first list */
    char name[HELLO_NAME_MAX + 1];   /* the cluster's name */
    char list[HELLO_LIST_MAX + 1];   /* first members, "1=host:port 2=host:port"; printed when clusters differ */
    uint64_t from, to;               /* member ids: the speaker's, and whom it takes the other for */
    uint64_t incarnation;            /* of the speaker's directory: drawn when it was created, never 0 */
    uint64_t epoch;                  /* which life of that directory this is, never 0 */
    uint64_t before[HELLO_LIVES];    /* and which were before it, newest first; 0 = there was none. A directory that was
                                        replaced by an older copy does not know of its last life */
    uint64_t named;                  /* index of the newest configuration in the speaker's log, if that names this
                                        directory as a voter's; else 0 */
    bool rejoining;                  /* the directory replaces one that was lost: it must not be counted on */
    uint8_t channel;                 /* enum hello_channel */
    char address[HELLO_ADDRESS_MAX + 1]; /* where the speaker can be dialled */
};

struct refusal {
    int code; /* ERR_REFUSED, ERR_VERSION, ERR_FOREIGN, ERR_BUSY, ERR_REPLACED, ERR_ROLLED_BACK */
    char text[ERR_TEXT_MAX];
};

/* Precondition: from, to, incarnation and epoch are not 0; the texts are printable. false: no memory. */
bool hello_write(struct buf *out, uint32_t group, const struct hello *h);
/* ERR_CORRUPT: not a FRAME_HELLO, or malformed; ERR_VERSION: no protocol that both speak. */
int hello_read(const struct frame *f, struct hello *out, struct err *e);
/* ERR_CORRUPT: not a FRAME_REFUSAL, or cut off. text is made printable; an unknown code reads as ERR_REFUSED. */
int refusal_read(const struct frame *f, struct refusal *out, struct err *e);
bool refusal_write(struct buf *out, uint32_t group, int code, const char *text); /* false: no memory */

#pragma GCC visibility pop

#endif
