/* What the files of the simulated world share: sim_world.c (clock, events, lanes), sim_disk.c, sim_net.c. */
#ifndef RAFT_SIM_SIM_INTERNAL_H
#define RAFT_SIM_SIM_INTERNAL_H

#include "sim/sim_world.h"

#pragma GCC visibility push(hidden)

enum sim_event_kind {
    SIM_CALL = 1, /* sim_world_after */
    SIM_ALARM,
    SIM_WAKE,
    SIM_NOTIFY,
    SIM_TURN,
    SIM_WORK, /* the head of a lane runs */
    SIM_DONE, /* and is told about */
    SIM_NET_SYN, /* a connection request arrives */
    SIM_NET_UP,  /* its answer arrives */
    SIM_NET_FRAME,
    SIM_NET_CLOSED,
};

struct sim_event {
    uint64_t at_us, order; /* order of creation breaks ties */
    uint64_t stamp;        /* of the node's life or alarm when it was created: an older one is void */
    uint8_t kind, node, aux, more; /* what aux and more mean is the kind's business */
    union {
        void (*call)(void *ctx);
        struct sim_pipe *pipe;
    };
    void *pointer;
};

/* Jobs of one lane: waiting (the first of them runs while `running`), then finished but not told yet. */
struct sim_lane {
    struct io_job *waiting, **waiting_end;
    struct io_job *finished, **finished_end;
    bool running, held; /* held: its time has come while the disk was stalled */
    uint64_t told_us;   /* when the last finished job is told: the next one not before */
};

/* The bytes of a file, however many names and open files it has. */
struct sim_inode {
    struct buf bytes;
    uint32_t refs;
    struct sim_put *puts; /* not synced yet, newest first */
    bool puts_failed;     /* a sync of them has: they will never be durable for sure */
};

struct sim_name {
    char *path;
    struct sim_inode *inode;
};

struct sim_names {
    struct sim_name *list;
    size_t count, capacity;
};

/* A create, rename or remove that no io_sync_dir has made durable yet. */
struct sim_change {
    char *from, *to; /* NULL: a create has no from, a remove has no to */
    struct sim_inode *inode;
};

struct io_file {
    struct sim_inode *inode;
    char *path;
    int flags;
    struct io_file *next;
};

struct io_lock {
    char *path;
    struct io_lock *next;
};

struct sim_disk {
    struct sim_names now, durable; /* names as a process sees them; names that a crash leaves for sure */
    struct sim_change *changes;    /* from durable to now, in order */
    size_t n_changes, changes_capacity;
    char **dirs;
    size_t n_dirs, dirs_capacity;
    struct io_file *files; /* open */
    struct io_lock *locks;
    bool stalled, full, dead;
    uint64_t ops, fail_at, die_at; /* 0 = off */
    int fail_code;
};

struct sim_node {
    struct io io; /* first: an io is its node */
    struct sim_world *world;
    uint8_t number;
    bool stopped, waking, notifying, turning;
    uint64_t life;
    uint64_t alarm; /* number of the newest alarm: older ones are void */
    uint64_t clock_us;
    int64_t wall_us; /* what this node's clocks are off the world's */
    void (*notify)(void *ctx);
    void *notify_ctx;
    struct sim_lane lanes[IO_LANES];
    struct sim_disk disk;
};

struct sim_world {
    struct prng prng;
    struct sim_faults faults;
    uint64_t now_us, order, hash;
    int touched;
    struct sim_event *heap;
    size_t n_events, heap_capacity;
    struct sim_node nodes[SIM_NODES_MAX]; /* node n at n - 1 */
    struct io_server *servers;
    struct sim_pipe *pipes;
    void (*sent)(void *ctx, int node, const struct buf *bytes);
    void *sent_ctx;
    bool cut[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1]; /* from, to */
};

/* The simulator's own memory. A failure that a spec has planted (mem_fail_at) is meant for the code under test and
 * passed over; a real lack of memory ends the process. */
void *sim_alloc(size_t size); /* zeroed */
char *sim_strdup(const char *text);
void sim_grow(void **items, size_t *capacity, size_t need, size_t size);
void sim_buf_append(struct buf *b, const void *data, size_t size);

static inline struct sim_node *sim_node_of(struct io *io) { return (struct sim_node *)io; }

void sim_fold(struct sim_world *w, uint64_t value); /* into the run's hash */
uint64_t sim_draw_us(struct sim_world *w, uint64_t min_us, uint64_t max_us); /* at least 1 */

/* Adds an event at at_us; fill in what its kind needs. Valid until the next one is added. */
struct sim_event *sim_event_add(struct sim_world *w, enum sim_event_kind kind, uint64_t at_us);
/* To be called after each event told to an engine: its turn() follows, now or a little later. */
void sim_turn(struct sim_node *node);

/* ---- sim_disk.c ---- */
void sim_disk_init(struct sim_disk *d);
void sim_disk_free(struct sim_disk *d);
/* The process is gone: open files and locks with it; changes of names are kept or lost. */
void sim_disk_crash(struct sim_world *w, struct sim_disk *d);

/* ---- sim_net.c ---- */
void sim_net_event(struct sim_world *w, const struct sim_event *event);
void sim_net_drop(struct sim_world *w, const struct sim_event *event); /* frees what an event that never runs holds */
void sim_net_crash(struct sim_world *w, int node); /* links break, addresses are free again */
bool sim_net_quiet(const struct sim_world *w, int node); /* neither links nor addresses */
void sim_net_free(struct sim_world *w);

/* The parts of struct io_ops; their contracts are in base/io.h. */
int sim_open(struct io *, const char *path, int flags, struct io_file **file, struct err *);
void sim_close(struct io *, struct io_file *);
int sim_size(struct io *, struct io_file *, uint64_t *size, struct err *);
int sim_read(struct io *, struct io_file *, uint64_t at, void *data, size_t size, size_t *got, struct err *);
int sim_write(struct io *, struct io_file *, uint64_t at, const void *data, size_t size, struct err *);
int sim_fill(struct io *, struct io_file *, uint64_t size, struct err *);
int sim_put(struct io *, struct io_file *, uint64_t at, const void *data, size_t size, struct err *);
int sim_sync(struct io *, struct io_file *, struct err *);
int sim_rename(struct io *, const char *from, const char *to, struct err *);
int sim_remove(struct io *, const char *path, struct err *);
int sim_list(struct io *, const char *dir, struct io_names *, struct err *);
int sim_make_dir(struct io *, const char *dir, struct err *);
int sim_sync_dir(struct io *, const char *dir, struct err *);
int sim_lock_dir(struct io *, const char *dir, struct io_lock **, struct err *);
void sim_unlock_dir(struct io *, struct io_lock *);
int sim_room(struct io *, const char *dir, uint64_t *bytes, struct err *);

/* sim_children.c */
int sim_fork(struct io *, const char *path, bool apart, io_body *body, void *ctx, struct io_child **, struct err *);
int sim_join(struct io *, struct io_child *, struct err *);
void sim_kill(struct io *, struct io_child *);
void sim_child_free(struct io *, struct io_child *);

int sim_listen(struct io *, const char *address, struct io_server **, struct err *);
void sim_unlisten(struct io *, struct io_server *);
int sim_connect(struct io *, const char *address, struct io_link **, struct err *);
int sim_send(struct io *, struct io_link *, struct buf *frame);
size_t sim_queued(struct io *, struct io_link *);
void sim_close_link(struct io *, struct io_link *);

#pragma GCC visibility pop

#endif
