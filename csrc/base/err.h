/* Errors are values: a code for programs, a text for people (what failed, on what, what to do). */
#ifndef RAFT_BASE_ERR_H
#define RAFT_BASE_ERR_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

/* Codes of every room. 0 is success; the names in quotes are what Lua sees as the third value. */
#define ERR_MAP(X)                                                                                                     \
    X(ERR_NOMEM, -1, "memory")         /* an allocation failed; nothing was changed */                                 \
    X(ERR_INVALID, -2, "invalid")      /* an argument or a peer's bytes make no sense */                               \
    X(ERR_NOT_LEADER, -3, "no_leader") /* only a leader can do this */                                                 \
    X(ERR_BUSY, -4, "busy")            /* a bound is reached; the same call may succeed later */                       \
    X(ERR_TOO_LARGE, -5, "too_large")  /* larger than the limit for one command */                                     \
    X(ERR_FULL, -6, "full")            /* the disk has no room for new entries; resumes by itself */                   \
    X(ERR_REFUSED, -7, "refused")      /* a peer will not have us: other cluster, other list, forgotten directory */   \
    X(ERR_CLOSED, -8, "closed")        /* the node is closed or closing */                                             \
    X(ERR_FAULT, -9, "fault")          /* the node stopped itself: see the text */                                     \
    X(ERR_TIMEOUT, -10, "timeout")     /* waited long enough; the entry may still commit */                            \
    X(ERR_UNKNOWN, -11, "unknown")     /* a copy may have entered a log; it is not known whether it commits */         \
    X(ERR_CORRUPT, -12, "corrupt")     /* bytes or states that contradict each other; sticky in the core */            \
    X(ERR_IO, -13, "io")               /* the operating system failed a file or network operation */                   \
    X(ERR_NOENT, -14, "io")            /* no such file or directory */                                                 \
    X(ERR_EXIST, -15, "io")            /* it exists already */                                                         \
    X(ERR_LOCKED, -16, "locked")       /* another process holds the directory */                                       \
    X(ERR_ADDRESS, -17, "address")     /* an address cannot be parsed, resolved, bound or reached */                   \
    X(ERR_FOREIGN, -18, "foreign")     /* the directory belongs to another node or cluster */                          \
    X(ERR_VERSION, -19, "version")     /* written by a newer version than this one can read */                        \
    X(ERR_CHANGING, -20, "conflict")   /* another change of members is not finished yet */                             \
    X(ERR_NOT_READY, -21, "busy")      /* the leader has not committed an entry of its own term yet */                 \
    X(ERR_TRANSFERRING, -22, "busy")   /* the leader is handing over to another member */                              \
    X(ERR_LAGGING, -23, "busy")        /* the member has not caught up, or is away */                                  \
    X(ERR_NO_MEMBER, -24, "conflict")  /* no such member, or not one of that kind */                                   \
    X(ERR_ALREADY, -25, "conflict")    /* it is so already */                                                          \
    X(ERR_NO_VOTERS, -26, "conflict")  /* nobody would be left to vote */                                              \
    X(ERR_TOO_MANY, -27, "conflict")   /* more members than a cluster can have */                                      \
    X(ERR_REMOVED, -28, "removed")     /* this node is no member any more */                                           \
    X(ERR_NO_RESULT, -29, "no_result") /* it was applied, but a snapshot has overtaken its result */                   \
    X(ERR_EXPIRED, -30, "expired")     /* the session is gone: an earlier try may have been applied */                 \
    X(ERR_REPLACED, -31, "refused")    /* a peer counts on another directory than this one */                          \
    X(ERR_ROLLED_BACK, -32, "refused") /* a peer knows a later life of this directory than it knows itself */

enum {
    OK = 0,
#define X(name, value, text) name = value,
    ERR_MAP(X)
#undef X
};

#define ERR_TEXT_MAX 400

struct err {
    int code;                /* one of the codes above */
    char text[ERR_TEXT_MAX]; /* for people; always terminated */
};

/* Sets code and formatted text (cut to fit) and returns code. e may be NULL: then only code is returned. */
int err_set(struct err *e, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts formatted text and ": " before the text that e has, as an error rises; returns e->code.
 * Precondition: e is not NULL and set. */
int err_wrap(struct err *e, const char *format, ...) PRINTF_LIKE(2, 3);

/* The name Lua sees for a code ("busy", "io", ...); "ok" for OK. Static memory. */
const char *err_name(int code);

#pragma GCC visibility pop

#endif
