/*
 * KVM memory slots: where they are cut, and which a change leaves alone
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/interval-tree.h"
#include "slot-layout.h"

typedef struct SlotNode {
    IntervalTreeNode interval;
    SlotRange range;
    unsigned int slot;
    bool changing;              /* a section taken away overlaps it */
    bool keep;                  /* while it is changing: it stays all the same */
    bool waiting;               /* KVM doesn't have it yet */
} SlotNode;

typedef struct GoneRange {
    SlotRange range;
    int64_t when;
} GoneRange;

struct SlotLayout {
    IntervalTreeRoot slots;
    GPtrArray *nodes;           /* SlotNode by slot number, used or not */
    GArray *unused;             /* numbers of the slots that are free */
    GArray *cuts;               /* addresses, ascending */
    unsigned int max_slots;
    uint64_t max_size;
    GPtrArray *waiting;         /* SlotNode */
    GoneRange gone[8];          /* the last that may wait, in any order */
    unsigned int next_gone;
    int64_t now;

    /* The change that is being made.  Emptied by it, but never freed. */
    GArray *dels, *adds;        /* SlotRange, by address; dels: gpa and size */
    GPtrArray *changing;        /* SlotNode, by address */
    GArray *rests;              /* SlotRange: of the changing slots, what no
                                   section took away */
    GArray *runs;               /* SlotRange: adds and rests, joined */
    GArray *ops;                /* SlotOp */
};

static uint64_t range_end(const SlotRange *r)
{
    return r->gpa + r->size;    /* 0 at the very end of the address space */
}

static uint64_t range_last(const SlotRange *r)
{
    return r->gpa + r->size - 1;
}

static SlotRange *range_at(GArray *array, unsigned int i)
{
    return &g_array_index(array, SlotRange, i);
}

static SlotNode *node_at(GPtrArray *array, unsigned int i)
{
    return g_ptr_array_index(array, i);
}

static SlotNode *to_node(IntervalTreeNode *interval)
{
    return interval ? container_of(interval, SlotNode, interval) : NULL;
}

/* @r from @gpa up to, and with, @last; both lie in it */
static SlotRange range_part(const SlotRange *r, uint64_t gpa, uint64_t last)
{
    SlotRange part = *r;

    part.gpa = gpa;
    part.size = last - gpa + 1;
    part.hva += gpa - r->gpa;
    return part;
}

/* Can one slot hold both? */
static bool same_backing(const SlotRange *a, const SlotRange *b)
{
    return a->owner == b->owner && a->readonly == b->readonly &&
           a->hva - a->gpa == b->hva - b->gpa && !a->plain && !b->plain;
}

static void note_gone(SlotLayout *layout, const SlotRange *range)
{
    if (range->may_wait) {
        layout->gone[layout->next_gone] = (GoneRange) {
            .range = *range, .when = layout->now,
        };
        layout->next_gone = (layout->next_gone + 1) % ARRAY_SIZE(layout->gone);
    }
}

static bool must_wait(const SlotLayout *layout, const SlotRange *range)
{
    for (int i = 0; range->may_wait && i < ARRAY_SIZE(layout->gone); i++) {
        const GoneRange *gone = &layout->gone[i];

        if (gone->range.size == range->size && gone->range.gpa == range->gpa &&
            same_backing(&gone->range, range) &&
            layout->now - gone->when < SLOT_LAYOUT_SETTLE_NS) {
            return true;
        }
    }
    return false;
}

SlotLayout *slot_layout_new(unsigned int max_slots, uint64_t max_size)
{
    SlotLayout *layout = g_new0(SlotLayout, 1);

    layout->max_slots = max_slots;
    layout->max_size = max_size;
    layout->nodes = g_ptr_array_new_with_free_func(g_free);
    layout->unused = g_array_new(false, false, sizeof(unsigned int));
    layout->cuts = g_array_new(false, false, sizeof(uint64_t));
    layout->waiting = g_ptr_array_new();
    layout->dels = g_array_new(false, false, sizeof(SlotRange));
    layout->adds = g_array_new(false, false, sizeof(SlotRange));
    layout->changing = g_ptr_array_new();
    layout->rests = g_array_new(false, false, sizeof(SlotRange));
    layout->runs = g_array_new(false, false, sizeof(SlotRange));
    layout->ops = g_array_new(false, false, sizeof(SlotOp));
    return layout;
}

void slot_layout_free(SlotLayout *layout)
{
    g_ptr_array_unref(layout->nodes);
    g_array_unref(layout->unused);
    g_array_unref(layout->cuts);
    g_ptr_array_unref(layout->waiting);
    g_array_unref(layout->dels);
    g_array_unref(layout->adds);
    g_ptr_array_unref(layout->changing);
    g_array_unref(layout->rests);
    g_array_unref(layout->runs);
    g_array_unref(layout->ops);
    g_free(layout);
}

/* How many cuts are at or below @gpa */
static unsigned int cuts_below(const SlotLayout *layout, uint64_t gpa)
{
    unsigned int i;

    for (i = 0; i < layout->cuts->len; i++) {
        if (g_array_index(layout->cuts, uint64_t, i) > gpa) {
            break;
        }
    }
    return i;
}

void slot_layout_cut(SlotLayout *layout, uint64_t gpa)
{
    unsigned int i = cuts_below(layout, gpa);

    if (i == 0 || g_array_index(layout->cuts, uint64_t, i - 1) != gpa) {
        g_array_insert_val(layout->cuts, i, gpa);
    }
}

void slot_layout_del(SlotLayout *layout, uint64_t gpa, uint64_t size)
{
    const SlotRange section = { .gpa = gpa, .size = size };

    g_array_append_val(layout->dels, section);
}

void slot_layout_add(SlotLayout *layout, const SlotRange *section)
{
    g_array_append_vals(layout->adds, section, 1);
}

/* Returns how many of the sections taken away had a slot */
static unsigned int find_changing(SlotLayout *layout)
{
    unsigned int sections = 0;

    for (unsigned int i = 0; i < layout->dels->len; i++) {
        const SlotRange *del = range_at(layout->dels, i);
        uint64_t last = range_last(del);
        IntervalTreeNode *n = interval_tree_iter_first(&layout->slots,
                                                       del->gpa, last);

        sections += !!n;
        for (; n; n = interval_tree_iter_next(n, del->gpa, last)) {
            SlotNode *node = to_node(n);

            /* The section before may have overlapped it as well. */
            if (!node->changing) {
                node->changing = true;
                g_ptr_array_add(layout->changing, node);
            }
        }
    }
    return sections;
}

/* A slot that holds several sections may lose only some of them. */
static void find_rests(SlotLayout *layout)
{
    unsigned int d = 0;

    for (unsigned int i = 0; i < layout->changing->len; i++) {
        const SlotRange *slot = &node_at(layout->changing, i)->range;
        uint64_t last = range_last(slot), pos = slot->gpa;
        bool all = false;       /* the slot's end is reached */

        while (range_last(range_at(layout->dels, d)) < slot->gpa) {
            d++;
        }
        for (unsigned int j = d; j < layout->dels->len && !all; j++) {
            const SlotRange *del = range_at(layout->dels, j);

            if (del->gpa > last) {
                break;
            }
            if (del->gpa > pos) {
                SlotRange rest = range_part(slot, pos, del->gpa - 1);

                g_array_append_val(layout->rests, rest);
            }
            all = range_last(del) >= last;
            pos = range_end(del);
        }
        if (!all) {
            SlotRange rest = range_part(slot, pos, last);

            g_array_append_val(layout->rests, rest);
        }
    }
}

/* What there is to be where slots change, in as few pieces as possible */
static void join_runs(SlotLayout *layout)
{
    unsigned int a = 0, r = 0;

    while (a < layout->adds->len || r < layout->rests->len) {
        SlotRange *run = layout->runs->len ?
            range_at(layout->runs, layout->runs->len - 1) : NULL;
        SlotRange *next;

        if (r == layout->rests->len ||
            (a < layout->adds->len &&
             range_at(layout->adds, a)->gpa < range_at(layout->rests, r)->gpa)) {
            next = range_at(layout->adds, a++);
        } else {
            next = range_at(layout->rests, r++);
        }
        if (run && range_end(run) == next->gpa && same_backing(run, next) &&
            !run->apart && !next->apart) {
            run->size += next->size;
        } else {
            g_array_append_vals(layout->runs, next, 1);
        }
    }
}

/* Too many pieces in one stretch: delete them, so that one takes their place */
static void limit_pieces(SlotLayout *layout, unsigned int first,
                         unsigned int end, unsigned int pieces)
{
    if (pieces > SLOT_LAYOUT_MAX_PIECES) {
        for (unsigned int i = first; i < end; i++) {
            node_at(layout->changing, i)->keep = false;
        }
    }
}

static void choose_kept(SlotLayout *layout)
{
    /* The slots since @first are in the same run, between the same cuts. */
    unsigned int first = 0, pieces = 0, run_of_first = 0, cuts_of_first = 0;
    unsigned int r = 0, i;

    for (i = 0; i < layout->changing->len; i++) {
        SlotNode *node = node_at(layout->changing, i);
        unsigned int cuts = cuts_below(layout, node->range.gpa);
        const SlotRange *run;

        while (r < layout->runs->len &&
               range_last(range_at(layout->runs, r)) < node->range.gpa) {
            r++;
        }
        if (r != run_of_first || cuts != cuts_of_first) {
            limit_pieces(layout, first, i, pieces);
            first = i;
            pieces = 0;
            run_of_first = r;
            cuts_of_first = cuts;
        }
        if (r < layout->runs->len) {
            run = range_at(layout->runs, r);
            node->keep = run->gpa <= node->range.gpa &&
                         range_last(run) >= range_last(&node->range) &&
                         same_backing(run, &node->range);
            pieces += node->keep;
        }
    }
    limit_pieces(layout, first, i, pieces);
}

static void add_op(SlotLayout *layout, SlotOpType type, unsigned int slot,
                   bool waiting, const SlotRange *range)
{
    const SlotOp op = {
        .type = type, .slot = slot, .waiting = waiting, .range = *range,
    };

    g_array_append_val(layout->ops, op);
}

/* Create @run from @gpa up to, and with, @last */
static void add_creates(SlotLayout *layout, const SlotRange *run,
                        uint64_t gpa, uint64_t last, bool cut)
{
    unsigned int c = cuts_below(layout, gpa);
    uint64_t slot_last;

    do {
        SlotRange range;

        slot_last = last;
        if (cut && !run->plain && c < layout->cuts->len) {
            slot_last = MIN(last, g_array_index(layout->cuts, uint64_t, c) - 1);
        }
        if (slot_last - gpa >= layout->max_size) {
            slot_last = gpa + layout->max_size - 1;
        } else {
            c++;
        }
        range = range_part(run, gpa, slot_last);
        add_op(layout, SLOT_OP_CREATE, 0, must_wait(layout, &range), &range);
        gpa = slot_last + 1;
    } while (slot_last != last);
}

static void find_creates(SlotLayout *layout, bool cut)
{
    unsigned int i = 0;

    for (unsigned int r = 0; r < layout->runs->len; r++) {
        const SlotRange *run = range_at(layout->runs, r);
        uint64_t last = range_last(run), pos = run->gpa;
        bool all = false;       /* the run's end is reached */

        for (; i < layout->changing->len; i++) {
            const SlotNode *node = node_at(layout->changing, i);

            if (node->range.gpa > last) {
                break;
            }
            if (!node->keep) {
                continue;
            }
            if (node->range.gpa > pos) {
                add_creates(layout, run, pos, node->range.gpa - 1, cut);
            }
            all = range_last(&node->range) == last;
            pos = range_end(&node->range);
        }
        if (!all) {
            add_creates(layout, run, pos, last, cut);
        }
    }
}

static void find_ops(SlotLayout *layout, bool cut)
{
    g_array_set_size(layout->ops, 0);
    for (unsigned int i = 0; i < layout->changing->len; i++) {
        SlotNode *node = node_at(layout->changing, i);

        if (!node->keep) {
            add_op(layout, SLOT_OP_DELETE, node->slot, node->waiting,
                   &node->range);
        }
    }
    for (unsigned int i = 0; i < layout->changing->len; i++) {
        SlotNode *node = node_at(layout->changing, i);

        if (node->keep) {
            add_op(layout, SLOT_OP_KEEP, node->slot, node->waiting,
                   &node->range);
        }
    }
    find_creates(layout, cut);
}

static bool too_many_slots(const SlotLayout *layout)
{
    unsigned int used = layout->nodes->len - layout->unused->len;

    for (unsigned int i = 0; i < layout->ops->len; i++) {
        const SlotOp *op = &g_array_index(layout->ops, SlotOp, i);

        used -= op->type == SLOT_OP_DELETE;
        used += op->type == SLOT_OP_CREATE;
    }
    return used > layout->max_slots;
}

/* Deletes are before creates, and both by address. */
static bool find_overlap(const SlotChange *change)
{
    const SlotOp *end = change->ops + change->nr_ops;
    const SlotOp *d = change->ops, *c = d;

    while (c < end && c->type != SLOT_OP_CREATE) {
        c++;
    }
    while (c < end && d->type == SLOT_OP_DELETE) {
        if (d->waiting || range_last(&d->range) < c->range.gpa) {
            d++;
        } else if (c->waiting || range_last(&c->range) < d->range.gpa) {
            c++;
        } else {
            return true;
        }
    }
    return false;
}

static void describe(const SlotLayout *layout, SlotChange *change)
{
    *change = (SlotChange) {
        .ops = (SlotOp *)layout->ops->data, .nr_ops = layout->ops->len,
    };
    for (unsigned int i = 0; i < change->nr_ops; i++) {
        const SlotOp *op = &change->ops[i];

        if (op->type == SLOT_OP_CREATE) {
            change->nr_creates += !op->waiting;
            change->nr_waiting += op->waiting;
        } else if (op->type == SLOT_OP_DELETE) {
            change->nr_deletes += !op->waiting;
        }
    }
    change->overlap = find_overlap(change);
}

static SlotNode *take_slot(SlotLayout *layout)
{
    SlotNode *node;

    if (layout->unused->len) {
        unsigned int last = layout->unused->len - 1;
        unsigned int slot = g_array_index(layout->unused, unsigned int, last);

        g_array_set_size(layout->unused, last);
        return node_at(layout->nodes, slot);
    }

    node = g_new0(SlotNode, 1);
    node->slot = layout->nodes->len;
    g_ptr_array_add(layout->nodes, node);
    return node;
}

static void apply_ops(SlotLayout *layout)
{
    for (unsigned int i = 0; i < layout->ops->len; i++) {
        SlotOp *op = &g_array_index(layout->ops, SlotOp, i);
        SlotNode *node;

        switch (op->type) {
        case SLOT_OP_DELETE:
            node = node_at(layout->nodes, op->slot);
            note_gone(layout, &op->range);
            if (node->waiting) {
                node->waiting = false;
                g_ptr_array_remove_fast(layout->waiting, node);
            }
            interval_tree_remove(&node->interval, &layout->slots);
            g_array_append_val(layout->unused, op->slot);
            break;
        case SLOT_OP_CREATE:
            node = take_slot(layout);
            op->slot = node->slot;
            node->range = op->range;
            node->interval.start = op->range.gpa;
            node->interval.last = range_last(&op->range);
            interval_tree_insert(&node->interval, &layout->slots);
            if (op->waiting) {
                node->waiting = true;
                g_ptr_array_add(layout->waiting, node);
            }
            break;
        case SLOT_OP_KEEP:
            break;
        }
    }
}

void slot_layout_commit(SlotLayout *layout, int64_t now, SlotChange *change)
{
    unsigned int sections;

    layout->now = now;
    g_ptr_array_set_size(layout->changing, 0);
    g_array_set_size(layout->rests, 0);
    g_array_set_size(layout->runs, 0);

    sections = find_changing(layout) + layout->adds->len;
    find_rests(layout);
    join_runs(layout);
    choose_kept(layout);
    find_ops(layout, true);
    if (too_many_slots(layout)) {
        for (unsigned int i = 0; i < layout->changing->len; i++) {
            node_at(layout->changing, i)->keep = false;
        }
        find_ops(layout, false);
    }

    apply_ops(layout);
    describe(layout, change);
    change->nr_plain = sections;
    for (unsigned int i = 0; i < layout->changing->len; i++) {
        SlotNode *node = node_at(layout->changing, i);

        node->changing = node->keep = false;
    }
    g_array_set_size(layout->dels, 0);
    g_array_set_size(layout->adds, 0);
}

static gint by_address(gconstpointer a, gconstpointer b)
{
    const SlotNode *const *x = a, *const *y = b;

    return (*x)->range.gpa < (*y)->range.gpa ? -1 : 1;
}

void slot_layout_settle(SlotLayout *layout, SlotChange *change)
{
    g_array_set_size(layout->ops, 0);
    g_ptr_array_sort(layout->waiting, by_address);
    for (unsigned int i = 0; i < layout->waiting->len; i++) {
        SlotNode *node = node_at(layout->waiting, i);

        node->waiting = false;
        add_op(layout, SLOT_OP_CREATE, node->slot, false, &node->range);
    }
    g_ptr_array_set_size(layout->waiting, 0);
    describe(layout, change);
}

int slot_layout_find(SlotLayout *layout, uint64_t gpa, SlotRange *range,
                     bool *waiting)
{
    SlotNode *node = to_node(interval_tree_iter_first(&layout->slots,
                                                      gpa, gpa));

    if (!node) {
        return -1;
    }
    *range = node->range;
    *waiting = node->waiting;
    return node->slot;
}
