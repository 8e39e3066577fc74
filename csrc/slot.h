/* Writing into a slot of the scoreboard: the worker's side of scoreboard.h.
 *
 * One thread writes. What the master may read meanwhile is stored with atomic operations that cost no more than plain
 * ones; nothing here makes a system call. */
#ifndef PYFPM_SLOT_H
#define PYFPM_SLOT_H

#include <stddef.h>
#include <string.h>

#include "scoreboard.h"

/* Begin and end a change of what describes the current request; a reader in between looks again. */
static inline void fpm_slot_change(struct fpm_slot *slot)
{
    uint32_t seq = atomic_load_explicit(&slot->seq, memory_order_relaxed);
    atomic_store_explicit(&slot->seq, seq + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static inline void fpm_slot_changed(struct fpm_slot *slot)
{
    uint32_t seq = atomic_load_explicit(&slot->seq, memory_order_relaxed);
    atomic_store_explicit(&slot->seq, seq + 1, memory_order_release);
}

/* Copy a text, cut to the room there is for it. */
static inline void fpm_slot_text(char *to, uint16_t *to_length, size_t room, const void *text, size_t length)
{
    if (length > room)
        length = room;
    *to_length = (uint16_t)length;
    memcpy(to, text, length);
}

/* Add to a counter; not a locked operation, since nobody else writes. */
static inline void fpm_slot_add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount, memory_order_relaxed);
}

static inline void fpm_slot_set(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* The worker has another stage now. */
static inline void fpm_slot_stage(struct fpm_slot *slot, enum fpm_stage stage)
{
    if (slot->stage != stage) {
        fpm_slot_change(slot);
        slot->stage = stage;
        fpm_slot_changed(slot);
    }
}

static inline void fpm_slot_ended(struct fpm_slot *slot, enum fpm_stage stage, uint64_t duration_us, uint64_t cpu_us,
                                  unsigned status_class, uint64_t bytes_out)
{
    fpm_slot_change(slot);
    slot->stage = stage;
    slot->duration_us = duration_us;
    slot->cpu_us = cpu_us;
    fpm_slot_changed(slot);
    fpm_slot_add(&slot->requests, 1);
    fpm_slot_add(&slot->bytes_out, bytes_out);
    fpm_slot_add(&slot->status[status_class < FPM_STATUS_CLASSES ? status_class : 0], 1);
    fpm_slot_add(&slot->service_sum_us, duration_us);
    fpm_slot_add(&slot->service[fpm_bucket(duration_us)], 1);
}

static inline void fpm_slot_waited(struct fpm_slot *slot, uint64_t wait_us)
{
    fpm_slot_add(&slot->wait_sum_us, wait_us);
    fpm_slot_add(&slot->wait[fpm_bucket(wait_us)], 1);
}

#endif
