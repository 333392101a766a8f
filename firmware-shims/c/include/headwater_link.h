/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headwater's serial link: a device's end of it, in one header for C99 and C++11.
 *
 * Nothing here waits, allocates or calls a library: bytes of the host and times go in, bytes for
 * the host come out of a bounded queue. What does not fit is dropped, counted and owned up to.
 * All times are microseconds since boot, 64 bits: see hw_link_clock.
 *
 *   hw_link_init      once, with a boot nonce that differs from that of the boot before
 *   hw_link_receive   each byte of the host; answer what it gives out by hw_link_reply
 *   hw_link_poll      in the main loop: says HELLO when it is due
 *   hw_link_sample    rows of a stream; hw_link_log: a line for people
 *   hw_link_next_byte when the UART has room for a byte (or hw_link_chunk and hw_link_sent)
 *
 * The bytes are drawn in FORMAT.md of the Rust side, which does the same, byte for byte.
 * Call all functions on one device from one context; interrupts use hw_link_rx_ring.
 */
#ifndef HEADWATER_LINK_H
#define HEADWATER_LINK_H

#include <stddef.h>
#include <stdint.h>

/* Descriptors stay in flash. On AVR, constants would lie in RAM and must be read byte by byte. */
#ifndef HW_LINK_ROM
#ifdef __AVR__
#include <avr/pgmspace.h>
#define HW_LINK_ROM PROGMEM
#define HW_LINK_ROM_BYTE(at) pgm_read_byte(at)
#else
#define HW_LINK_ROM
#define HW_LINK_ROM_BYTE(at) (*(at))
#endif
#endif

/* Flash is short on AVR: functions stay whole there instead of being melted into their callers. */
#ifndef HW_LINK_FN
#ifdef __AVR__
#define HW_LINK_FN static __attribute__((__noinline__, __noclone__, __unused__))
#else
#define HW_LINK_FN static inline
#endif
#endif

/* Room for texts of descriptors, final NUL included. */
#ifndef HW_LINK_NAME_BYTES
#define HW_LINK_NAME_BYTES 24
#endif
#ifndef HW_LINK_UNIT_BYTES
#define HW_LINK_UNIT_BYTES 12
#endif

#define HW_LINK_VERSION 1u
#define HW_LINK_STREAM_DEVICE 255u
#define HW_LINK_HEADER_BYTES 12u
#define HW_LINK_CRC_BYTES 2u
#define HW_LINK_RAW_BYTES_MAX 1024u
#define HW_LINK_PAYLOAD_BYTES_MAX (HW_LINK_RAW_BYTES_MAX - HW_LINK_HEADER_BYTES - HW_LINK_CRC_BYTES)
#define HW_LINK_MAX_RX_MIN 40u
#define HW_LINK_LOG_TEXT_BYTES_MAX 64u
#define HW_LINK_DATA_BYTES_MAX 16u

/* The most bytes a payload of so many bytes takes on the wire. */
#define HW_LINK_WIRE_BYTES(payload) \
    ((payload) + HW_LINK_HEADER_BYTES + HW_LINK_CRC_BYTES + \
     ((payload) + HW_LINK_HEADER_BYTES + HW_LINK_CRC_BYTES) / 254u + 2u)

#define HW_LINK_PONG_WIRE_BYTES HW_LINK_WIRE_BYTES(24u)
#define HW_LINK_REPLY_WIRE_BYTES HW_LINK_WIRE_BYTES(3u + HW_LINK_DATA_BYTES_MAX)

/* Between two unasked HELLOs until the first PING, and between two that were asked for. */
#define HW_LINK_HELLO_EVERY_US 2000000u
#define HW_LINK_HELLO_GAP_US 100000u
/* Log lines at once, and one more each. */
#define HW_LINK_LOG_BURST 8u
#define HW_LINK_LOG_EVERY_US 1000000u

enum hw_link_type {
    HW_LINK_SAMPLE = 0x01,
    HW_LINK_LOG = 0x02,
    HW_LINK_HELLO = 0x03,
    HW_LINK_PING = 0x10,
    HW_LINK_PONG = 0x11,
    HW_LINK_HELLO_REQ = 0x12,
    HW_LINK_CONFIG = 0x13,
    HW_LINK_COMMAND = 0x14,
    HW_LINK_REPLY = 0x15,
    HW_LINK_KNOB_TYPE = 0x7E
};

enum hw_link_flags {
    HW_LINK_FIRST_SINCE_BOOT = 1,
    HW_LINK_DROPPED_BEFORE = 2,
    HW_LINK_ENQUEUE_TIME = 4
};

/* How a value is stored: class in the high nibble, bytes in the low one. */
enum hw_link_field_type {
    HW_LINK_U8 = 0x11,
    HW_LINK_U16 = 0x12,
    HW_LINK_U32 = 0x14,
    HW_LINK_U64 = 0x18,
    HW_LINK_I8 = 0x21,
    HW_LINK_I16 = 0x22,
    HW_LINK_I32 = 0x24,
    HW_LINK_I64 = 0x28,
    HW_LINK_F32 = 0x34,
    HW_LINK_F64 = 0x38
};

enum hw_link_caps { HW_LINK_CAP_CONFIG = 1, HW_LINK_CAP_COMMAND = 2 };

/* Which byte of a PING the device's t2 belongs to. */
enum hw_link_t2_point { HW_LINK_T2_FIRST_BYTE = 0, HW_LINK_T2_DELIMITER = 1 };

enum hw_link_log_level {
    HW_LINK_ERROR = 1,
    HW_LINK_WARN = 2,
    HW_LINK_INFO = 3,
    HW_LINK_DEBUG = 4,
    HW_LINK_TRACE = 5
};

/* Keys of CONFIG and codes of COMMAND; from 128 on they are the sensor's own. */
enum hw_link_key {
    HW_LINK_KEY_ENABLED = 1,
    HW_LINK_KEY_PERIOD_US = 2,
    HW_LINK_KEY_RANGE = 3,
    HW_LINK_KEY_AVERAGING = 4
};
enum hw_link_command {
    HW_LINK_COMMAND_RESET = 1,
    HW_LINK_COMMAND_IDENTIFY = 2,
    HW_LINK_COMMAND_SELF_TEST = 3,
    HW_LINK_COMMAND_SAMPLE_ONCE = 4,
    HW_LINK_COMMAND_RESET_COUNTERS = 5
};

enum hw_link_reply_code {
    HW_LINK_REPLY_OK = 0,
    HW_LINK_REPLY_UNKNOWN = 1,
    HW_LINK_REPLY_REFUSED = 2,
    HW_LINK_REPLY_BUSY = 3,
    HW_LINK_REPLY_BAD_VALUE = 4
};

/* What functions return; all below 0 are mistakes of the firmware, and change nothing. */
enum hw_link_result {
    HW_LINK_QUEUED = 0,
    HW_LINK_DROPPED = 1,
    HW_LINK_ERR_NO_ROOM = -1,         /* no frame, or never this queue, can hold it */
    HW_LINK_ERR_NO_ROWS = -2,
    HW_LINK_ERR_ROW_BYTES = -3,       /* not `count` rows of the stream's fields */
    HW_LINK_ERR_UNKNOWN_STREAM = -4,
    HW_LINK_ERR_DATA_TOO_LONG = -5,
    HW_LINK_ERR_NO_REQUEST = -6,      /* no request waits for an answer */
    HW_LINK_ERR_QUEUE_TOO_SMALL = -7, /* for the longest HELLO frame */
    HW_LINK_ERR_MAX_RX = -8,          /* rx_bytes below HW_LINK_MAX_RX_MIN */
    HW_LINK_ERR_TOO_MANY_STREAMS = -9
};

/* What is wrong with bytes between two delimiters. */
enum hw_link_heard {
    HW_LINK_NOTHING = 0,
    HW_LINK_FRAME = 1,
    HW_LINK_BAD_STUFFING = -1,
    HW_LINK_BAD_SHORT = -2,
    HW_LINK_BAD_OVERSIZE = -3,
    HW_LINK_BAD_CHECKSUM = -4
};

/* One field of a stream: a stored v means v * 10^scale10 of the UCUM unit. Lies in HW_LINK_ROM. */
typedef struct {
    uint8_t type;
    int8_t scale10;
    char name[HW_LINK_NAME_BYTES];
    char unit[HW_LINK_UNIT_BYTES];
} hw_link_field;

/* One stream; its number is its place. Lies in HW_LINK_ROM, as its fields do. */
typedef struct {
    char kind[HW_LINK_NAME_BYTES];
    uint32_t period_us; /* 0: irregular */
    uint8_t n_fields;
    const hw_link_field *fields;
} hw_link_stream;

/* What the device remembers of one stream. */
typedef struct {
    const hw_link_stream *spec;
    uint32_t period_us;
    uint32_t next_seq;
    uint8_t begun;
} hw_link_stream_state;

/* What a device is, and the memory it may use; must outlive the device. */
typedef struct {
    uint8_t caps;
    uint8_t t2_point;
    uint32_t tick_ns;
    uint16_t clock_ppm;
    const char *uid;
    const char *firmware;
    const hw_link_stream *streams; /* in HW_LINK_ROM */
    hw_link_stream_state *states;  /* n_streams of them */
    uint8_t n_streams;
    uint8_t *rx; /* at least HW_LINK_MAX_RX_MIN bytes; 64 are plenty */
    size_t rx_bytes;
    uint8_t *tx; /* holds the longest HELLO frame; more bridges a slow line */
    size_t tx_bytes;
} hw_link_config;

/* Counters wrap; small chips have small ones. */
#ifdef __AVR__
typedef uint16_t hw_link_counter;
#else
typedef uint32_t hw_link_counter;
#endif

HW_LINK_FN void hw_link_count(hw_link_counter *counter, hw_link_counter by) { *counter = (hw_link_counter)(*counter + by); }

HW_LINK_FN void hw_link_clear(void *at, size_t n) {
    uint8_t *to = (uint8_t *)at;
    while (n != 0) {
        n--;
        *to++ = 0;
    }
}

/* Times go by address inside: eight registers each are too many for small chips. */
HW_LINK_FN uint8_t hw_link_due(const uint64_t *at, const uint64_t *now) {
#ifdef __AVR__
    const uint8_t *a = (const uint8_t *)at + sizeof *at, *n = (const uint8_t *)now + sizeof *now;
    uint8_t left = sizeof *at;
    while (left != 0) {
        left--;
        a--;
        n--;
        if (*a != *n) {
            return (uint8_t)(*a < *n);
        }
    }
    return 1;
#else
    return (uint8_t)(*at <= *now);
#endif
}

HW_LINK_FN void hw_link_after(uint64_t *at, const uint64_t *now, uint32_t by) {
#ifdef __AVR__
    uint8_t *a = (uint8_t *)at;
    const uint8_t *n = (const uint8_t *)now;
    uint16_t sum = 0;
    uint8_t left = sizeof *at;
    while (left != 0) {
        left--;
        sum = (uint16_t)(sum + *n++ + (uint8_t)by);
        *a++ = (uint8_t)sum;
        sum >>= 8;
        by >>= 8;
    }
#else
    *at = *now + by;
#endif
}

/* As HW_LINK_WIRE_BYTES, without a division. */
HW_LINK_FN size_t hw_link_wire_bytes(size_t payload) {
    size_t raw = payload + HW_LINK_HEADER_BYTES + HW_LINK_CRC_BYTES, wire = raw + 2u;
    while (raw >= 254u) {
        raw -= 254u;
        wire++;
    }
    return wire;
}

/* ---- checksum: CRC-16/CCITT-FALSE, check value 0x29B1 ---------------------------------------- */

HW_LINK_FN uint16_t hw_link_crc16_push(uint16_t crc, uint8_t byte) {
    /* The eight steps of x^16 + x^12 + x^5 + 1 at once. */
    uint8_t mix = (uint8_t)((uint8_t)(crc >> 8) ^ byte);
    mix = (uint8_t)(mix ^ (uint8_t)(mix >> 4));
    return (uint16_t)((uint16_t)(crc << 8) ^ (uint16_t)((uint16_t)mix << 12) ^ (uint16_t)((uint16_t)mix << 5) ^ mix);
}

static inline uint16_t hw_link_crc16(const uint8_t *bytes, size_t n) {
    uint16_t crc = 0xFFFFu;
    size_t i;
    for (i = 0; i < n; i++) {
        crc = hw_link_crc16_push(crc, bytes[i]);
    }
    return crc;
}

/* ---- little-endian values: rows are packed with these, each returns where the next one goes --- */

HW_LINK_FN void hw_link_copy(void *to, const void *from, size_t n) {
    uint8_t *t = (uint8_t *)to;
    const uint8_t *f = (const uint8_t *)from;
    while (n != 0) {
        n--;
        *t++ = *f++;
    }
}

/* Between memory and the wire: bytes as they are, or turned around. Shifts would cost small chips dearly. */
static inline void hw_link_le(void *to, const void *from, size_t n) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    uint8_t *t = (uint8_t *)to;
    const uint8_t *f = (const uint8_t *)from + n;
    while (n != 0) {
        n--;
        *t++ = *--f;
    }
#else
    hw_link_copy(to, from, n);
#endif
}

static inline uint8_t *hw_link_put_u8(uint8_t *at, uint8_t value) {
    *at = value;
    return at + 1;
}

static inline uint8_t *hw_link_put_u16(uint8_t *at, uint16_t value) {
    hw_link_le(at, &value, sizeof value);
    return at + sizeof value;
}

static inline uint8_t *hw_link_put_u32(uint8_t *at, uint32_t value) {
    hw_link_le(at, &value, sizeof value);
    return at + sizeof value;
}

static inline uint8_t *hw_link_put_u64(uint8_t *at, uint64_t value) {
    hw_link_le(at, &value, sizeof value);
    return at + sizeof value;
}

static inline uint8_t *hw_link_put_i8(uint8_t *at, int8_t value) { return hw_link_put_u8(at, (uint8_t)value); }
static inline uint8_t *hw_link_put_i16(uint8_t *at, int16_t value) { return hw_link_put_u16(at, (uint16_t)value); }
static inline uint8_t *hw_link_put_i32(uint8_t *at, int32_t value) { return hw_link_put_u32(at, (uint32_t)value); }
static inline uint8_t *hw_link_put_i64(uint8_t *at, int64_t value) { return hw_link_put_u64(at, (uint64_t)value); }

static inline uint8_t *hw_link_put_f32(uint8_t *at, float value) {
    hw_link_le(at, &value, sizeof value);
    return at + sizeof value;
}

/* Not where double is as small as float, as on AVR. */
#if defined(__SIZEOF_DOUBLE__) && __SIZEOF_DOUBLE__ == 8
static inline uint8_t *hw_link_put_f64(uint8_t *at, double value) {
    hw_link_le(at, &value, sizeof value);
    return at + sizeof value;
}
#endif

HW_LINK_FN uint16_t hw_link_get_u16(const uint8_t *at) {
    uint16_t value;
    hw_link_le(&value, at, sizeof value);
    return value;
}

static inline uint32_t hw_link_get_u32(const uint8_t *at) {
    uint32_t value;
    hw_link_le(&value, at, sizeof value);
    return value;
}

static inline uint64_t hw_link_get_u64(const uint8_t *at) {
    uint64_t value;
    hw_link_le(&value, at, sizeof value);
    return value;
}

/* ---- writing frames, piece by piece, into a ring or a plain buffer ----------------------------- */

typedef struct {
    uint8_t *ring; /* none: only sums up bytes and checksum */
    size_t ring_bytes;
    size_t start; /* where in the ring the frame begins */
    size_t free;  /* bytes it may take */
    size_t raw;   /* bytes taken in */
    size_t end;
    size_t code_at;
    uint16_t crc;
    uint8_t code; /* of the open block; 0xFF: it is closed and none is open */
    uint8_t overflow;
} hw_link_writer;

HW_LINK_FN void hw_link_writer_ring(hw_link_writer *w, uint8_t *ring, size_t ring_bytes, size_t start, size_t free) {
    w->ring = ring;
    w->ring_bytes = ring_bytes;
    w->start = start;
    w->free = free;
    w->raw = 0;
    w->end = 1;
    w->code_at = 0;
    w->crc = 0xFFFFu;
    w->code = 1;
    w->overflow = 0;
}

HW_LINK_FN void hw_link_writer_slot(hw_link_writer *w, size_t at, uint8_t byte) {
    size_t place;
    if (at >= w->free) {
        w->overflow = 1;
        return;
    }
    place = w->start + at;
    w->ring[place >= w->ring_bytes ? place - w->ring_bytes : place] = byte;
}

static inline void hw_link_writer_open(hw_link_writer *w) {
    w->code_at = w->end;
    w->end++;
    w->code = 1;
}

/* COBS. A full block is followed by a new one only when there is something to put into it. */
HW_LINK_FN void hw_link_writer_stuff(hw_link_writer *w, uint8_t byte) {
    if (w->code == 0xFFu) {
        hw_link_writer_open(w);
    }
    if (byte == 0) {
        hw_link_writer_slot(w, w->code_at, w->code);
        hw_link_writer_open(w);
        return;
    }
    hw_link_writer_slot(w, w->end, byte);
    w->end++;
    w->code++;
    if (w->code == 0xFFu) {
        hw_link_writer_slot(w, w->code_at, 0xFFu);
    }
}

HW_LINK_FN void hw_link_writer_u8(hw_link_writer *w, uint8_t byte) {
    w->crc = hw_link_crc16_push(w->crc, byte);
    w->raw++;
    if (w->ring != NULL) {
        hw_link_writer_stuff(w, byte);
    }
}

HW_LINK_FN void hw_link_writer_bytes(hw_link_writer *w, const uint8_t *bytes, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) {
        hw_link_writer_u8(w, bytes[i]);
    }
}

HW_LINK_FN void hw_link_writer_le(hw_link_writer *w, const void *value, size_t n) {
    uint8_t bytes[8];
    hw_link_le(bytes, value, n);
    hw_link_writer_bytes(w, bytes, n);
}


HW_LINK_FN void hw_link_writer_header(hw_link_writer *w, uint8_t type, uint8_t flags, uint16_t seq, const uint64_t *t_us) {
    hw_link_writer_u8(w, type);
    hw_link_writer_u8(w, flags);
    hw_link_writer_le(w, &seq, sizeof seq);
    hw_link_writer_le(w, t_us, sizeof *t_us);
}

/* Ends what was stuffed; returns its bytes with the delimiter, 0 if they did not fit. */
static inline size_t hw_link_writer_close(hw_link_writer *w) {
    if (w->code != 0xFFu) {
        hw_link_writer_slot(w, w->code_at, w->code);
    }
    hw_link_writer_slot(w, w->end, 0);
    return w->overflow ? 0 : w->end + 1;
}

/* Ends a frame; `damage` is 0 but in a test build that lies. */
HW_LINK_FN size_t hw_link_writer_finish(hw_link_writer *w, uint16_t damage) {
    uint16_t crc = (uint16_t)(w->crc ^ damage);
    hw_link_writer_stuff(w, (uint8_t)(crc & 0xFFu));
    hw_link_writer_stuff(w, (uint8_t)(crc >> 8));
    return hw_link_writer_close(w);
}

/* Writes one frame to a plain buffer; returns its bytes, 0 if it does not fit it or the link. */
static inline size_t hw_link_encode(uint8_t *out, size_t out_bytes, uint8_t type, uint8_t flags, uint16_t seq,
                                    uint64_t t_us, const uint8_t *payload, size_t n) {
    hw_link_writer w;
    if (n > HW_LINK_PAYLOAD_BYTES_MAX || out_bytes == 0) {
        return 0;
    }
    hw_link_writer_ring(&w, out, out_bytes, 0, out_bytes);
    hw_link_writer_header(&w, type, flags, seq, &t_us);
    hw_link_writer_bytes(&w, payload, n);
    return hw_link_writer_finish(&w, 0);
}

/* ---- reading frames ------------------------------------------------------------------------------ */

/* What became of every byte. All wrap. */
typedef struct {
    hw_link_counter bytes;
    hw_link_counter hunted_bytes;
    hw_link_counter frame_bytes;
    hw_link_counter rejected_bytes;
    hw_link_counter idle_bytes;
    hw_link_counter pending_bytes;
    hw_link_counter frames;
    hw_link_counter unknown_frames;
    hw_link_counter stuffing_errors;
    hw_link_counter short_errors;
    hw_link_counter oversize_errors;
    hw_link_counter checksum_errors;
} hw_link_decoder_stats;

enum hw_link_decoder_state { HW_LINK_HUNTING = 0, HW_LINK_COLLECTING = 1, HW_LINK_SKIPPING = 2 };

typedef struct {
    uint8_t *raw;
    size_t capacity;
    size_t raw_bytes;
    uint8_t left;      /* bytes the open block still promises */
    uint8_t owes_zero; /* the next block begins with the zero the last one stood for */
    uint8_t state;
    hw_link_decoder_stats stats;
} hw_link_decoder;

/* One whole frame whose checksum was right; `payload` is good until the next byte is pushed. */
typedef struct {
    uint8_t type;
    uint8_t flags;
    uint16_t seq;
    uint64_t t_us;
    const uint8_t *payload;
    size_t payload_bytes;
} hw_link_frame;

static inline void hw_link_decoder_begin(hw_link_decoder *d) {
    d->raw_bytes = 0;
    d->left = 0;
    d->owes_zero = 0;
}

/* Starts hunting for the first delimiter, with a buffer for the raw bytes of one frame. */
static inline void hw_link_decoder_init(hw_link_decoder *d, uint8_t *raw, size_t capacity) {
    hw_link_clear(d, sizeof *d);
    d->raw = raw;
    d->capacity = capacity;
}

/* Forgets the open frame and hunts again; counters stay. */
static inline void hw_link_decoder_hunt(hw_link_decoder *d) {
    hw_link_count(&d->stats.hunted_bytes, d->stats.pending_bytes);
    d->stats.pending_bytes = 0;
    d->state = HW_LINK_HUNTING;
    hw_link_decoder_begin(d);
}

HW_LINK_FN uint8_t hw_link_is_known(uint8_t type) {
    return (uint8_t)((type >= HW_LINK_SAMPLE && type <= HW_LINK_HELLO) ||
                     (type >= HW_LINK_PING && type <= HW_LINK_REPLY) || type == HW_LINK_KNOB_TYPE);
}

HW_LINK_FN int8_t hw_link_decoder_close(hw_link_decoder *d, hw_link_frame *frame) {
    size_t n = d->raw_bytes;
    hw_link_counter wire = (hw_link_counter)(d->stats.pending_bytes + 1u);
    hw_link_counter *error = NULL;
    int8_t heard = HW_LINK_FRAME;
    if (wire == 1u) {
        hw_link_count(&d->stats.idle_bytes, 1);
        return HW_LINK_NOTHING;
    }
    if (d->left != 0) {
        error = &d->stats.stuffing_errors;
        heard = HW_LINK_BAD_STUFFING;
    } else if (n < HW_LINK_HEADER_BYTES + HW_LINK_CRC_BYTES) {
        error = &d->stats.short_errors;
        heard = HW_LINK_BAD_SHORT;
    } else if (hw_link_crc16(d->raw, n - HW_LINK_CRC_BYTES) != hw_link_get_u16(d->raw + n - HW_LINK_CRC_BYTES)) {
        error = &d->stats.checksum_errors;
        heard = HW_LINK_BAD_CHECKSUM;
    }
    d->stats.pending_bytes = 0;
    hw_link_decoder_begin(d);
    if (error != NULL) {
        hw_link_count(error, 1);
        hw_link_count(&d->stats.rejected_bytes, wire);
        return heard;
    }
    frame->type = d->raw[0];
    frame->flags = d->raw[1];
    hw_link_le(&frame->seq, d->raw + 2, sizeof frame->seq);
    hw_link_le(&frame->t_us, d->raw + 4, sizeof frame->t_us);
    frame->payload = d->raw + HW_LINK_HEADER_BYTES;
    frame->payload_bytes = n - HW_LINK_HEADER_BYTES - HW_LINK_CRC_BYTES;
    hw_link_count(&d->stats.frames, 1);
    hw_link_count(&d->stats.frame_bytes, wire);
    if (!hw_link_is_known(frame->type)) {
        hw_link_count(&d->stats.unknown_frames, 1);
    }
    return heard;
}

/* Takes in one byte; fills `frame` and returns HW_LINK_FRAME, or says what is wrong (hw_link_heard). */
HW_LINK_FN int8_t hw_link_decoder_push(hw_link_decoder *d, uint8_t byte, hw_link_frame *frame) {
    uint8_t raw = byte;
    hw_link_count(&d->stats.bytes, 1);
    if (d->state != HW_LINK_COLLECTING) {
        if (d->state == HW_LINK_HUNTING) {
            hw_link_count(&d->stats.hunted_bytes, 1);
        } else {
            hw_link_count(&d->stats.rejected_bytes, 1);
        }
        if (byte == 0) {
            d->state = HW_LINK_COLLECTING;
        }
        return HW_LINK_NOTHING;
    }
    if (byte == 0) {
        return hw_link_decoder_close(d, frame);
    }
    hw_link_count(&d->stats.pending_bytes, 1);
    if (d->left == 0) {
        uint8_t zero = d->owes_zero;
        d->left = (uint8_t)(byte - 1u);
        d->owes_zero = (uint8_t)(byte != 0xFFu);
        if (!zero) {
            return HW_LINK_NOTHING;
        }
        raw = 0;
    } else {
        d->left--;
    }
    if (d->raw_bytes < d->capacity) {
        d->raw[d->raw_bytes] = raw;
        d->raw_bytes++;
        return HW_LINK_NOTHING;
    }
    d->state = HW_LINK_SKIPPING;
    hw_link_count(&d->stats.oversize_errors, 1);
    hw_link_count(&d->stats.rejected_bytes, d->stats.pending_bytes);
    d->stats.pending_bytes = 0;
    hw_link_decoder_begin(d);
    return HW_LINK_BAD_OVERSIZE;
}

/* ---- clock ------------------------------------------------------------------------------------------ */

/* Widens a 32-bit counter, which wraps each 71.6 minutes at 1 MHz. Starts as all zeros. */
typedef struct {
    uint64_t total;
    uint32_t last;
} hw_link_clock;

/* The time of the counter, read just now; call it at least once per wrap, e.g. from the tick interrupt. */
HW_LINK_FN uint64_t hw_link_clock_now(hw_link_clock *c, uint32_t counter) {
    c->total += (uint32_t)(counter - c->last);
    c->last = counter;
    return c->total;
}

/* The time of a value read before the latest hw_link_clock_now, by less than one wrap. */
static inline uint64_t hw_link_clock_before(const hw_link_clock *c, uint32_t counter) {
    return c->total - (uint32_t)(c->last - counter);
}

/* A clock that runs too fast by a known amount, for tests on hosts and Cortex-M: it divides 64 bits. */
typedef struct {
    int32_t ppm;
    uint64_t base_in_us;
    uint64_t base_out_us;
} hw_link_skew;

#define HW_LINK_SKEW_PPM_MAX 100000

/* What the wrong clock shows at the true time `t_us`. */
static inline uint64_t hw_link_skew_show(const hw_link_skew *s, uint64_t t_us) {
    uint64_t elapsed;
    int64_t off;
    if (t_us < s->base_in_us) { /* read before the rate changed */
        return s->base_out_us - (s->base_in_us - t_us);
    }
    elapsed = t_us - s->base_in_us;
    off = (int64_t)(elapsed / 1000000u) * s->ppm + (int64_t)(elapsed % 1000000u) * s->ppm / 1000000;
    return s->base_out_us + elapsed + (uint64_t)off;
}

/* Runs `ppm` too fast from the true time `now_us` on. */
static inline void hw_link_skew_set(hw_link_skew *s, int32_t ppm, uint64_t now_us) {
    s->base_out_us = hw_link_skew_show(s, now_us);
    s->base_in_us = now_us;
    s->ppm = ppm > HW_LINK_SKEW_PPM_MAX ? HW_LINK_SKEW_PPM_MAX : ppm < -HW_LINK_SKEW_PPM_MAX ? -HW_LINK_SKEW_PPM_MAX : ppm;
}

/* ---- from interrupt to main loop ------------------------------------------------------------------ */

#ifndef HW_LINK_RX_STAMPS
#define HW_LINK_RX_STAMPS 4u
#endif

/*
 * One interrupt pushes, one main loop pops; no lock is needed on one core: indices are one byte.
 * Only the first byte after a delimiter is stamped: a time for each would cost more than the bytes.
 */
typedef struct {
    volatile uint8_t *bytes;
    uint8_t capacity; /* a power of two, at most 128 */
    volatile uint8_t in, out;
    volatile uint32_t stamps[HW_LINK_RX_STAMPS];
    volatile uint8_t stamp_in, stamp_out;
    uint8_t in_between, out_between;
    volatile uint16_t overruns; /* bytes that were lost; read it with interrupts off on 8 bits */
} hw_link_rx_ring;

static inline void hw_link_rx_ring_init(hw_link_rx_ring *r, uint8_t *bytes, uint8_t capacity) {
    r->bytes = bytes;
    r->capacity = capacity;
    r->in = r->out = 0;
    r->stamp_in = r->stamp_out = 0;
    r->in_between = r->out_between = 1;
    r->overruns = 0;
}

/* From the interrupt: a byte that came when the counter stood at `counter`. */
static inline void hw_link_rx_ring_push(hw_link_rx_ring *r, uint8_t byte, uint32_t counter) {
    uint8_t begins = (uint8_t)(r->in_between && byte != 0);
    uint8_t in = r->in, stamp_in = r->stamp_in;
    uint8_t used = (uint8_t)(in - r->out), stamps = (uint8_t)(stamp_in - r->stamp_out);
    if (used >= r->capacity || (begins && stamps >= HW_LINK_RX_STAMPS)) {
        r->overruns = (uint16_t)(r->overruns + 1u);
        return;
    }
    r->in_between = (uint8_t)(byte == 0);
    if (begins) {
        r->stamps[stamp_in % HW_LINK_RX_STAMPS] = counter;
        r->stamp_in = (uint8_t)(stamp_in + 1u);
    }
    r->bytes[in & (uint8_t)(r->capacity - 1u)] = byte;
    r->in = (uint8_t)(in + 1u);
}

/* From the main loop: the oldest byte, or -1. `*stamped` says whether `*counter` was set: it begins a frame. */
static inline int16_t hw_link_rx_ring_pop(hw_link_rx_ring *r, uint8_t *stamped, uint32_t *counter) {
    uint8_t out = r->out, stamp_out = r->stamp_out, byte;
    *stamped = 0;
    if (out == r->in) {
        return -1;
    }
    byte = r->bytes[out & (uint8_t)(r->capacity - 1u)];
    r->out = (uint8_t)(out + 1u);
    if (r->out_between && byte != 0) {
        *counter = r->stamps[stamp_out % HW_LINK_RX_STAMPS];
        r->stamp_out = (uint8_t)(stamp_out + 1u);
        *stamped = 1;
    }
    r->out_between = (uint8_t)(byte == 0);
    return byte;
}

/* ---- device ------------------------------------------------------------------------------------------ */

/* Where the bytes come from that leave now. */
enum hw_link_lane { HW_LINK_LANE_IDLE = 0, HW_LINK_LANE_RING = 1, HW_LINK_LANE_PONG = 2, HW_LINK_LANE_REPLY = 3 };

typedef struct {
    size_t head;
    size_t used;
    size_t picked_bytes;
    size_t reply_behind; /* bytes of the ring that leave before the REPLY */
    uint64_t pong_t1_us;
    uint64_t pong_t2_us;
    hw_link_counter pongs_replaced;
    uint16_t pong_seq;
    uint16_t pong_schema_crc;
    uint16_t dropped;
    uint8_t begun; /* the delimiter that ends noise from before has left */
    uint8_t inside;
    uint8_t picked;
    uint8_t slot_at;
    uint8_t pong_waits;
    uint8_t reply_waits;
    uint8_t reply_len;
    uint8_t pong_wire[HW_LINK_PONG_WIRE_BYTES];
    uint8_t reply_wire[HW_LINK_REPLY_WIRE_BYTES]; /* stays after it was sent, to be sent again */
} hw_link_tx;

/* What a device counts about itself, since boot or hw_link_reset_counters. All wrap. */
typedef struct {
    hw_link_counter samples_dropped;
    hw_link_counter logs_dropped;
    hw_link_counter logs_limited;
    hw_link_counter requests_stale;
    hw_link_counter requests_ignored;
    hw_link_counter requests_repeated;
    hw_link_counter frames_refused;
} hw_link_stats;

/* Something the host asks for; answer it by hw_link_reply or hw_link_reply_value. */
typedef struct {
    uint8_t is_command; /* else a CONFIG */
    uint8_t stream;     /* one of the device's, or HW_LINK_STREAM_DEVICE */
    uint8_t code;       /* hw_link_key or hw_link_command, or the sensor's own */
    int32_t value;      /* of a CONFIG */
    uint8_t args_bytes; /* of a COMMAND */
    uint8_t args[HW_LINK_DATA_BYTES_MAX];
} hw_link_request;

typedef struct { /* the small and busy first: AVR reaches 64 bytes with short instructions */
    const hw_link_config *config;
    uint32_t boot_nonce;
    size_t hello_waits_for; /* bytes it needs in the queue */
    uint16_t schema_crc;
    uint16_t sent; /* own count of HELLO, LOG and REPLY frames */
    uint16_t token;
    uint8_t begun; /* the first of those was queued */
    uint8_t between_frames;
    uint8_t dropped_before;
    uint8_t hello_next; /* index of the next HELLO frame, while one is under way */
    uint8_t hello_under_way;
    uint8_t hello_is_asked;
    uint8_t hello_is_unasked;
    uint8_t pinged;
    uint8_t has_token;
    uint8_t request_open;
    uint8_t logs_left;
    uint64_t now_us; /* of the call that is being served, as the device's clock shows it */
    uint64_t first_byte_us;
    uint64_t hello_asked_us;
    uint64_t hello_unasked_us;
    uint64_t hello_not_before_us;
    uint64_t log_counted_us;
    hw_link_tx tx;
    hw_link_decoder decoder;
    hw_link_stats stats;
#ifdef HW_LINK_KNOB
    hw_link_skew skew;
    uint64_t stalled_until_us;
    uint16_t drop_every, drop_count, corrupt_every, corrupt_count;
#endif
} hw_link_device;

/* ---- faults that a host can order from a test build (HW_LINK_KNOB defined) ------------------------ */

static inline uint64_t hw_link_time(const hw_link_device *d, uint64_t t_us) {
#ifdef HW_LINK_KNOB
    return hw_link_skew_show(&d->skew, t_us);
#else
    (void)d;
    return t_us;
#endif
}

/* Sets the time of the call that is being served. */
HW_LINK_FN void hw_link_at(hw_link_device *d, uint64_t t_us) { d->now_us = hw_link_time(d, t_us); }

static inline uint8_t hw_link_every(uint16_t *count, uint16_t every) {
    if (every == 0) {
        return 0;
    }
    *count = (uint16_t)(*count + 1u);
    if (*count < every) {
        return 0;
    }
    *count = 0;
    return 1;
}

static inline uint8_t hw_link_stalls(const hw_link_device *d) {
#ifdef HW_LINK_KNOB
    return (uint8_t)(d->now_us < d->stalled_until_us);
#else
    (void)d;
    return 0;
#endif
}

static inline uint8_t hw_link_drops(hw_link_device *d) {
#ifdef HW_LINK_KNOB
    return hw_link_every(&d->drop_count, d->drop_every);
#else
    (void)d;
    return 0;
#endif
}

static inline uint16_t hw_link_damage(hw_link_device *d) {
#ifdef HW_LINK_KNOB
    return hw_link_every(&d->corrupt_count, d->corrupt_every);
#else
    (void)d;
    return 0;
#endif
}

/* ---- queue ----------------------------------------------------------------------------------------------- */

HW_LINK_FN void hw_link_drop_one(hw_link_device *d) {
    d->dropped_before = 1;
    d->tx.dropped = (uint16_t)(d->tx.dropped + 1u);
}

/* Whether a frame fits and leaves `spare` bytes free. */
HW_LINK_FN uint8_t hw_link_has_room(const hw_link_device *d, size_t payload_bytes, size_t spare) {
    return (uint8_t)(hw_link_wire_bytes(payload_bytes) + spare <= d->config->tx_bytes - d->tx.used);
}

static inline size_t hw_link_wrap(const hw_link_device *d, size_t at) {
    return at >= d->config->tx_bytes ? at - d->config->tx_bytes : at;
}

/* Begins a frame for which there is room, end it by hw_link_commit; returns flags for its header. */
HW_LINK_FN uint8_t hw_link_open(hw_link_device *d, hw_link_writer *w) {
    uint8_t flags = d->dropped_before ? HW_LINK_DROPPED_BEFORE : 0;
    d->dropped_before = 0;
    hw_link_writer_ring(w, d->config->tx, d->config->tx_bytes, hw_link_wrap(d, d->tx.head + d->tx.used), d->config->tx_bytes - d->tx.used);
    return flags;
}

static inline int8_t hw_link_commit(hw_link_device *d, hw_link_writer *w) {
    size_t written = hw_link_writer_finish(w, hw_link_damage(d));
    if (written == 0) { /* room was made sure of before; were it not, this is the truth */
        hw_link_drop_one(d);
        return HW_LINK_DROPPED;
    }
    d->tx.used += written;
    return HW_LINK_QUEUED;
}

/* The header of a frame that is numbered by the device's own count. */
HW_LINK_FN void hw_link_own_header(hw_link_device *d, hw_link_writer *w, uint8_t type, uint8_t flags) {
    if (!d->begun) {
        flags = (uint8_t)(flags | HW_LINK_FIRST_SINCE_BOOT);
    }
    d->begun = 1;
    hw_link_writer_header(w, type, flags, d->sent, &d->now_us);
    d->sent++;
}

/* Chooses what leaves next. A PONG goes first; its t3, `dropped` and checksum are written now. */
HW_LINK_FN void hw_link_pick(hw_link_device *d) {
    hw_link_tx *tx = &d->tx;
    if (tx->inside != HW_LINK_LANE_IDLE) {
        tx->picked = tx->inside;
        return;
    }
    if (tx->begun && tx->pong_waits) {
        hw_link_writer w;
        hw_link_writer_ring(&w, tx->pong_wire, sizeof tx->pong_wire, 0, sizeof tx->pong_wire);
        hw_link_writer_header(&w, HW_LINK_PONG, 0, tx->pong_seq, &d->now_us);
        hw_link_writer_le(&w, &tx->pong_t1_us, sizeof tx->pong_t1_us);
        hw_link_writer_le(&w, &tx->pong_t2_us, sizeof tx->pong_t2_us);
        hw_link_writer_le(&w, &d->boot_nonce, sizeof d->boot_nonce);
        hw_link_writer_le(&w, &tx->pong_schema_crc, sizeof tx->pong_schema_crc);
        hw_link_writer_le(&w, &tx->dropped, sizeof tx->dropped);
        hw_link_writer_finish(&w, 0);
        tx->picked = HW_LINK_LANE_PONG;
    } else if (tx->reply_waits && tx->reply_behind == 0) {
        tx->picked = HW_LINK_LANE_REPLY;
    } else {
        tx->picked = tx->used == 0 ? HW_LINK_LANE_IDLE : HW_LINK_LANE_RING;
    }
}

/* What has not left of the frame that was picked, up to the ring's end and maybe with frames after it. */
static inline const uint8_t *hw_link_rest(const hw_link_device *d, size_t *n) {
    const hw_link_tx *tx = &d->tx;
    size_t to_end = d->config->tx_bytes - tx->head;
    switch (tx->picked) {
        case HW_LINK_LANE_RING:
            *n = tx->used < to_end ? tx->used : to_end;
            return d->config->tx + tx->head;
        case HW_LINK_LANE_PONG:
            *n = (size_t)(HW_LINK_PONG_WIRE_BYTES - tx->slot_at);
            return tx->pong_wire + tx->slot_at;
        case HW_LINK_LANE_REPLY:
            *n = (size_t)(tx->reply_len - tx->slot_at);
            return tx->reply_wire + tx->slot_at;
        default:
            *n = 0;
            return tx->pong_wire;
    }
}

/* Says that the first `n` bytes of the last hw_link_chunk have left. */
HW_LINK_FN void hw_link_sent(hw_link_device *d, size_t n) {
    hw_link_tx *tx = &d->tx;
    if (n > tx->picked_bytes) {
        n = tx->picked_bytes;
    }
    if (n == 0) {
        return;
    }
    tx->picked_bytes -= n;
    if (tx->picked == HW_LINK_LANE_RING) {
        uint8_t ended = (uint8_t)(d->config->tx[tx->head + n - 1u] == 0);
        tx->head = hw_link_wrap(d, tx->head + n);
        tx->used -= n;
        tx->reply_behind = tx->reply_behind > n ? tx->reply_behind - n : 0;
        tx->begun = (uint8_t)(tx->begun | ended);
        tx->inside = ended ? HW_LINK_LANE_IDLE : HW_LINK_LANE_RING;
    } else if (tx->picked != HW_LINK_LANE_IDLE) {
        size_t len = tx->picked == HW_LINK_LANE_PONG ? HW_LINK_PONG_WIRE_BYTES : tx->reply_len;
        if (tx->picked == HW_LINK_LANE_PONG && tx->inside == HW_LINK_LANE_IDLE) {
            tx->pong_waits = 0;
        }
        tx->inside = tx->picked;
        tx->slot_at = (uint8_t)(tx->slot_at + n);
        if (tx->slot_at >= len) {
            tx->slot_at = 0;
            tx->inside = HW_LINK_LANE_IDLE;
            if (tx->picked == HW_LINK_LANE_REPLY) {
                tx->reply_waits = 0;
            }
        }
    }
    tx->picked = tx->inside;
}

/*
 * Bytes to send next, all of one frame; the rest of it may follow in another call. Until the first
 * byte of a PONG has left, each call writes `now_us` into it: call this only when the line can take bytes.
 */
HW_LINK_FN const uint8_t *hw_link_chunk(hw_link_device *d, uint64_t now_us, size_t *n) {
    const uint8_t *rest;
    hw_link_at(d, now_us);
    d->tx.picked_bytes = 0;
    if (hw_link_stalls(d)) {
        *n = 0;
        return d->tx.pong_wire;
    }
    hw_link_pick(d);
    rest = hw_link_rest(d, n);
    if (d->tx.picked == HW_LINK_LANE_RING) { /* only a delimiter is a zero */
        size_t i;
        for (i = 0; i < *n; i++) {
            if (rest[i] == 0) {
                *n = i + 1;
            }
        }
    }
    d->tx.picked_bytes = *n;
    return rest;
}

/* Takes the next byte to send, for a UART that has room for one; -1 if there is none. */
HW_LINK_FN int16_t hw_link_next_byte(hw_link_device *d, uint64_t now_us) {
    const uint8_t *rest;
    size_t n;
    int16_t byte;
    hw_link_at(d, now_us);
    if (hw_link_stalls(d)) {
        return -1;
    }
    hw_link_pick(d);
    rest = hw_link_rest(d, &n);
    if (n == 0) {
        return -1;
    }
    byte = rest[0];
    d->tx.picked_bytes = 1;
    hw_link_sent(d, 1);
    return byte;
}

/* Nothing waits to be sent: a good moment to restart or to sleep. */
static inline uint8_t hw_link_is_idle(const hw_link_device *d) {
    return (uint8_t)(d->tx.used == 0 && !d->tx.pong_waits && !d->tx.reply_waits &&
                     d->tx.inside == HW_LINK_LANE_IDLE && !d->hello_under_way);
}

/* ---- HELLO ------------------------------------------------------------------------------------------------- */

HW_LINK_FN void hw_link_rom_copy(void *to, const void *from, size_t n) {
    uint8_t *t = (uint8_t *)to;
    const uint8_t *f = (const uint8_t *)from;
    size_t i;
    for (i = 0; i < n; i++) {
        t[i] = HW_LINK_ROM_BYTE(f + i);
    }
}

/* A text as its length and its bytes. One that has no NUL within `most` bytes ends there. */
HW_LINK_FN void hw_link_writer_text(hw_link_writer *w, const char *text, size_t most) {
    size_t n = 0;
    while (n < most && text[n] != 0) {
        n++;
    }
    hw_link_writer_u8(w, (uint8_t)n);
    hw_link_writer_bytes(w, (const uint8_t *)text, n);
}

/* A descriptor; without `next_seq` it is what the schema checksum covers. */
HW_LINK_FN void hw_link_writer_stream(hw_link_writer *w, uint8_t number, const uint32_t *next_seq,
                                         const hw_link_stream *spec, const uint32_t *period_us) {
    hw_link_stream stream;
    uint8_t i;
    hw_link_rom_copy(&stream, spec, sizeof stream);
    hw_link_writer_u8(w, number);
    if (next_seq != NULL) {
        hw_link_writer_le(w, next_seq, sizeof *next_seq);
    }
    hw_link_writer_text(w, stream.kind, sizeof stream.kind);
    hw_link_writer_le(w, period_us, sizeof *period_us);
    hw_link_writer_u8(w, stream.n_fields);
    for (i = 0; i < stream.n_fields; i++) {
        hw_link_field field;
        hw_link_rom_copy(&field, stream.fields + i, sizeof field);
        hw_link_writer_u8(w, field.type);
        hw_link_writer_u8(w, (uint8_t)field.scale10);
        hw_link_writer_text(w, field.name, sizeof field.name);
        hw_link_writer_text(w, field.unit, sizeof field.unit);
    }
}

HW_LINK_FN void hw_link_writer_identity(hw_link_writer *w, const hw_link_config *c, const uint32_t *boot_nonce,
                                           const uint16_t *schema_crc) {
    uint16_t max_rx = c->rx_bytes > 0xFFFFu ? 0xFFFFu : (uint16_t)c->rx_bytes;
    hw_link_writer_u8(w, HW_LINK_VERSION);
    hw_link_writer_u8(w, c->caps);
    hw_link_writer_u8(w, c->t2_point);
    hw_link_writer_le(w, boot_nonce, sizeof *boot_nonce);
    hw_link_writer_le(w, &max_rx, sizeof max_rx);
    hw_link_writer_le(w, &c->tick_ns, sizeof c->tick_ns);
    hw_link_writer_le(w, &c->clock_ppm, sizeof c->clock_ppm);
    hw_link_writer_le(w, schema_crc, sizeof *schema_crc);
    hw_link_writer_text(w, c->uid, 255);
    hw_link_writer_text(w, c->firmware, 255);
}

/* The payload of the HELLO frame of this index, as of now. */
HW_LINK_FN void hw_link_writer_hello(hw_link_writer *w, const hw_link_device *d, uint8_t index) {
    hw_link_writer_u8(w, index);
    hw_link_writer_u8(w, (uint8_t)(d->config->n_streams + 1u));
    if (index == 0) {
        hw_link_writer_identity(w, d->config, &d->boot_nonce, &d->schema_crc);
    } else {
        uint8_t stream = (uint8_t)(index - 1u);
        const hw_link_stream_state *s = &d->config->states[stream];
        hw_link_writer_stream(w, stream, &s->next_seq, s->spec, &s->period_us);
    }
}

HW_LINK_FN size_t hw_link_hello_bytes(const hw_link_device *d, uint8_t index) {
    hw_link_writer w;
    hw_link_writer_ring(&w, NULL, 0, 0, 0);
    hw_link_writer_hello(&w, d, index);
    return w.raw;
}

static inline void hw_link_sum_schema(hw_link_device *d) {
    hw_link_writer w;
    uint8_t i;
    hw_link_writer_ring(&w, NULL, 0, 0, 0);
    for (i = 0; i < d->config->n_streams; i++) {
        const hw_link_stream_state *s = &d->config->states[i];
        hw_link_writer_stream(&w, i, NULL, s->spec, &s->period_us);
    }
    d->schema_crc = w.crc;
}

/* Makes sure that every HELLO frame can be queued, and sums the schema up. */
static inline int8_t hw_link_check_hello(hw_link_device *d) {
    uint8_t i;
    for (i = 0; i <= d->config->n_streams; i++) {
        if (hw_link_wire_bytes(hw_link_hello_bytes(d, i)) > d->config->tx_bytes) {
            return HW_LINK_ERR_QUEUE_TOO_SMALL;
        }
    }
    hw_link_sum_schema(d);
    return HW_LINK_QUEUED;
}

/* Somebody asks for HELLO: it is due at `now_us` (none: at once), but not too soon after the last. */
HW_LINK_FN void hw_link_ask_hello(hw_link_device *d, const uint64_t *now_us) {
    if (!d->hello_is_asked) {
        d->hello_is_asked = 1;
        if (now_us == NULL || hw_link_due(now_us, &d->hello_not_before_us)) {
            now_us = &d->hello_not_before_us;
        }
        hw_link_copy(&d->hello_asked_us, now_us, sizeof *now_us);
    }
}

/* When hw_link_poll has something to do; all ones if only a byte of the host changes that. */
static inline uint64_t hw_link_deadline_us(const hw_link_device *d) {
    uint64_t at = ~(uint64_t)0;
    if (d->hello_under_way) {
        return 0;
    }
    if (d->hello_is_asked) {
        at = d->hello_asked_us;
    }
    if (d->hello_is_unasked && d->hello_unasked_us < at) {
        at = d->hello_unasked_us;
    }
    return at;
}

/* Does what is due: HELLO. Call it in the main loop, at least once between samples. */
HW_LINK_FN void hw_link_poll(hw_link_device *d, uint64_t now_us) {
    hw_link_at(d, now_us);
    if (!d->hello_under_way && ((d->hello_is_asked && hw_link_due(&d->hello_asked_us, &d->now_us)) ||
                                (d->hello_is_unasked && hw_link_due(&d->hello_unasked_us, &d->now_us)))) {
        d->hello_under_way = 1;
        d->hello_next = 0;
        d->hello_is_asked = 0;
        d->hello_is_unasked = (uint8_t)!d->pinged;
        hw_link_after(&d->hello_unasked_us, &d->now_us, HW_LINK_HELLO_EVERY_US);
        hw_link_after(&d->hello_not_before_us, &d->now_us, HW_LINK_HELLO_GAP_US);
    }
    while (d->hello_under_way) {
        hw_link_writer w;
        size_t n = hw_link_hello_bytes(d, d->hello_next);
        if (!hw_link_has_room(d, n, 0)) {
            d->hello_waits_for = hw_link_wire_bytes(n);
            return;
        }
        hw_link_own_header(d, &w, HW_LINK_HELLO, hw_link_open(d, &w));
        hw_link_writer_hello(&w, d, d->hello_next);
        hw_link_commit(d, &w);
        d->hello_waits_for = 0;
        d->hello_under_way = (uint8_t)(d->hello_next < d->config->n_streams);
        d->hello_next++;
    }
}

/* ---- what the firmware calls ------------------------------------------------------------------------------ */

/*
 * A device that was just switched on. `boot_nonce` must differ from that of the boot before.
 * Returns 0, or what is wrong with `config`, and then the device must not be used.
 */
HW_LINK_FN int8_t hw_link_init(hw_link_device *d, const hw_link_config *config, uint32_t boot_nonce) {
    uint8_t i;
    hw_link_clear(d, sizeof *d);
    d->config = config;
    d->boot_nonce = boot_nonce;
    d->between_frames = 1;
    d->hello_is_asked = 1;
    d->logs_left = HW_LINK_LOG_BURST;
    if (config->rx_bytes < HW_LINK_MAX_RX_MIN) {
        return HW_LINK_ERR_MAX_RX;
    }
    if (config->n_streams == 255u) {
        return HW_LINK_ERR_TOO_MANY_STREAMS;
    }
    if (config->tx_bytes == 0) {
        return HW_LINK_ERR_QUEUE_TOO_SMALL;
    }
    hw_link_decoder_init(&d->decoder, config->rx, config->rx_bytes);
    config->tx[0] = 0; /* ends whatever noise came before */
    d->tx.used = 1;
    for (i = 0; i < config->n_streams; i++) {
        hw_link_stream stream;
        hw_link_rom_copy(&stream, config->streams + i, sizeof stream);
        config->states[i].spec = config->streams + i;
        config->states[i].period_us = stream.period_us;
        config->states[i].next_seq = 0;
        config->states[i].begun = 0;
    }
    return hw_link_check_hello(d);
}

/* Bytes of one row of a stream. */
static inline size_t hw_link_row_bytes(const hw_link_device *d, uint8_t stream) {
    hw_link_stream s;
    size_t sum = 0;
    uint8_t i;
    hw_link_rom_copy(&s, d->config->states[stream].spec, sizeof s);
    for (i = 0; i < s.n_fields; i++) {
        const uint8_t *type = &s.fields[i].type;
        sum += (size_t)(HW_LINK_ROM_BYTE(type) & 0x0Fu);
    }
    return sum;
}

/*
 * Offers `count` rows of `stream`, packed by hw_link_put_*, the first captured at `t_us`, `dt_us` apart.
 * Returns HW_LINK_QUEUED or HW_LINK_DROPPED: dropped rows use up their numbers, and the next frame says
 * that something was dropped. Below 0 nothing was numbered or counted.
 */
HW_LINK_FN int8_t hw_link_sample(hw_link_device *d, uint8_t stream, uint64_t t_us, uint16_t dt_us, uint8_t count,
                                    const uint8_t *rows, size_t n) {
    hw_link_writer w;
    hw_link_stream_state *s;
    uint32_t seq;
    uint8_t flags;
    if (stream >= d->config->n_streams) {
        return HW_LINK_ERR_UNKNOWN_STREAM;
    }
    if (hw_link_row_bytes(d, stream) * count != n) {
        return HW_LINK_ERR_ROW_BYTES;
    }
    if (count == 0) {
        return HW_LINK_ERR_NO_ROWS;
    }
    if (n + 4u > HW_LINK_PAYLOAD_BYTES_MAX || hw_link_wire_bytes(n + 4u) > d->config->tx_bytes) {
        return HW_LINK_ERR_NO_ROOM;
    }
    hw_link_at(d, t_us);
    s = &d->config->states[stream];
    seq = s->next_seq;
    s->next_seq = seq + count;
    /* A HELLO under way keeps its room: else samples of a full line would starve it. */
    if (!hw_link_has_room(d, n + 4u, d->hello_waits_for) || hw_link_drops(d)) {
        hw_link_count(&d->stats.samples_dropped, 1);
        hw_link_drop_one(d);
        return HW_LINK_DROPPED;
    }
    /* Beyond the first turn of the numbers a host could not tell how many are missing before it. */
    flags = !s->begun && seq <= 0xFFFFu ? HW_LINK_FIRST_SINCE_BOOT : 0;
    s->begun = 1;
    flags = (uint8_t)(flags | hw_link_open(d, &w));
    hw_link_writer_header(&w, HW_LINK_SAMPLE, flags, (uint16_t)(seq & 0xFFFFu), &d->now_us);
    hw_link_writer_u8(&w, stream);
    hw_link_writer_u8(&w, count);
    hw_link_writer_le(&w, &dt_us, sizeof dt_us);
    hw_link_writer_bytes(&w, rows, n);
    return hw_link_commit(d, &w);
}

static inline uint8_t hw_link_log_allowed(hw_link_device *d) {
    /* At most HW_LINK_LOG_BURST turns, and no division, which costs kilobytes on small machines. */
    while (d->logs_left < HW_LINK_LOG_BURST) {
        uint64_t next_us;
        hw_link_after(&next_us, &d->log_counted_us, HW_LINK_LOG_EVERY_US);
        if (!hw_link_due(&next_us, &d->now_us)) {
            break;
        }
        hw_link_copy(&d->log_counted_us, &next_us, sizeof next_us);
        d->logs_left++;
    }
    if (d->logs_left == HW_LINK_LOG_BURST) {
        hw_link_copy(&d->log_counted_us, &d->now_us, sizeof d->now_us);
    }
    if (d->logs_left == 0) {
        return 0;
    }
    d->logs_left--;
    return 1;
}

/* Offers a line of UTF-8 text, cut to what fits. Beyond the rate it is counted instead. */
HW_LINK_FN int8_t hw_link_log(hw_link_device *d, uint8_t level, const char *text, size_t n, uint64_t now_us) {
    hw_link_writer w;
    hw_link_at(d, now_us);
    if (!hw_link_log_allowed(d)) {
        hw_link_count(&d->stats.logs_limited, 1);
        return HW_LINK_DROPPED;
    }
    if (n > HW_LINK_LOG_TEXT_BYTES_MAX) { /* never inside a character */
        n = HW_LINK_LOG_TEXT_BYTES_MAX;
        while (n > 0 && ((uint8_t)text[n] & 0xC0u) == 0x80u) {
            n--;
        }
    }
    if (!hw_link_has_room(d, n + 1u, d->hello_waits_for)) {
        hw_link_count(&d->stats.logs_dropped, 1);
        hw_link_drop_one(d);
        return HW_LINK_DROPPED;
    }
    hw_link_own_header(d, &w, HW_LINK_LOG, hw_link_open(d, &w));
    hw_link_writer_u8(&w, level);
    hw_link_writer_bytes(&w, (const uint8_t *)text, n);
    return hw_link_commit(d, &w);
}

/* Samples of `stream` come every `period_us` from now on; a HELLO says so. Answer the CONFIG first. */
HW_LINK_FN int8_t hw_link_set_period_us(hw_link_device *d, uint8_t stream, uint32_t period_us) {
    if (stream >= d->config->n_streams) {
        return HW_LINK_ERR_UNKNOWN_STREAM;
    }
    d->config->states[stream].period_us = period_us;
    hw_link_sum_schema(d);
    hw_link_ask_hello(d, NULL);
    return HW_LINK_QUEUED;
}

/* Rows of `stream` are what `spec` (in HW_LINK_ROM) says from now on, e.g. after its range changed. */
HW_LINK_FN int8_t hw_link_describe(hw_link_device *d, uint8_t stream, const hw_link_stream *spec) {
    hw_link_stream_state *s, before;
    hw_link_stream copy;
    int8_t checked;
    if (stream >= d->config->n_streams) {
        return HW_LINK_ERR_UNKNOWN_STREAM;
    }
    s = &d->config->states[stream];
    before = *s;
    hw_link_rom_copy(&copy, spec, sizeof copy);
    s->spec = spec;
    s->period_us = copy.period_us;
    checked = hw_link_check_hello(d);
    if (checked != HW_LINK_QUEUED) {
        *s = before;
        return checked;
    }
    hw_link_ask_hello(d, NULL);
    return HW_LINK_QUEUED;
}

HW_LINK_FN int8_t hw_link_answer(hw_link_device *d, uint8_t code, const uint8_t *data, size_t n) {
    hw_link_writer w;
    if (n > HW_LINK_DATA_BYTES_MAX) {
        return HW_LINK_ERR_DATA_TOO_LONG;
    }
    if (!d->request_open) {
        return HW_LINK_ERR_NO_REQUEST;
    }
    hw_link_writer_ring(&w, d->tx.reply_wire, sizeof d->tx.reply_wire, 0, sizeof d->tx.reply_wire);
    hw_link_own_header(d, &w, HW_LINK_REPLY, 0);
    hw_link_writer_le(&w, &d->token, sizeof d->token);
    hw_link_writer_u8(&w, code);
    hw_link_writer_bytes(&w, data, n);
    d->tx.reply_len = (uint8_t)hw_link_writer_finish(&w, 0);
    d->tx.reply_waits = 1;
    d->tx.reply_behind = d->tx.used;
    d->request_open = 0;
    return HW_LINK_QUEUED;
}

/*
 * Answers the open request; `t_us` is when it took effect. The REPLY cannot be dropped and leaves
 * after all that was offered before.
 */
HW_LINK_FN int8_t hw_link_reply(hw_link_device *d, uint8_t code, const uint8_t *data, size_t n, uint64_t t_us) {
    hw_link_at(d, t_us);
    return hw_link_answer(d, code, data, n);
}

/* Answers the open CONFIG with the value that is in force now. */
static inline int8_t hw_link_reply_value(hw_link_device *d, uint8_t code, int32_t in_force, uint64_t t_us) {
    uint8_t data[4];
    hw_link_put_i32(data, in_force);
    return hw_link_reply(d, code, data, sizeof data, t_us);
}

/* Whether a request is to be done: of this boot, with a new token, and nothing else under way. */
HW_LINK_FN uint8_t hw_link_accept(hw_link_device *d, const uint8_t *payload, hw_link_request *request) {
    uint32_t boot_nonce = hw_link_get_u32(payload);
    uint16_t token = hw_link_get_u16(payload + 4);
    if (boot_nonce != d->boot_nonce) {
        hw_link_count(&d->stats.requests_stale, 1);
        return 0;
    }
    if (d->has_token && d->token == token) {
        hw_link_count(&d->stats.requests_repeated, 1);
        if (!d->request_open && !d->tx.reply_waits) {
            d->tx.reply_waits = 1;
            d->tx.reply_behind = d->tx.used;
        }
        return 0;
    }
    if (d->request_open || d->tx.reply_waits) {
        /* The slot holds one REPLY. The host repeats what it got no answer to. */
        hw_link_count(&d->stats.requests_ignored, 1);
        return 0;
    }
    d->has_token = 1;
    d->token = token;
    d->request_open = 1;
    request->stream = payload[6];
    request->code = payload[7];
    if (request->stream == HW_LINK_STREAM_DEVICE || request->stream < d->config->n_streams) {
        return 1;
    }
    hw_link_answer(d, HW_LINK_REPLY_UNKNOWN, payload, 0);
    return 0;
}

/*
 * Takes in one byte of the host that came at `t_us`. Returns 1 when it filled `request`: do what it
 * asks and answer by hw_link_reply, now or later.
 */
HW_LINK_FN uint8_t hw_link_receive(hw_link_device *d, uint8_t byte, uint64_t t_us, hw_link_request *request) {
    hw_link_frame frame;
    hw_link_at(d, t_us);
    if (d->between_frames) {
        hw_link_copy(&d->first_byte_us, &d->now_us, sizeof d->now_us);
    }
    d->between_frames = (uint8_t)(byte == 0);
    if (hw_link_decoder_push(&d->decoder, byte, &frame) != HW_LINK_FRAME) {
        return 0;
    }
    switch (frame.type) {
        case HW_LINK_PING:
            if (frame.payload_bytes != 0) {
                break;
            }
            d->pinged = 1;
            d->hello_is_unasked = 0;
            if (d->tx.pong_waits) {
                hw_link_count(&d->tx.pongs_replaced, 1);
            }
            d->tx.pong_waits = 1;
            d->tx.pong_seq = frame.seq;
            hw_link_copy(&d->tx.pong_t1_us, &frame.t_us, sizeof frame.t_us);
            hw_link_copy(&d->tx.pong_t2_us, d->config->t2_point == HW_LINK_T2_DELIMITER ? &d->now_us : &d->first_byte_us,
                         sizeof d->now_us);
            d->tx.pong_schema_crc = d->schema_crc;
            return 0;
        case HW_LINK_HELLO_REQ:
            if (frame.payload_bytes != 0) {
                break;
            }
            hw_link_ask_hello(d, &d->now_us);
            return 0;
        case HW_LINK_CONFIG:
            if (frame.payload_bytes != 12u) {
                break;
            }
            request->is_command = 0;
            request->value = (int32_t)hw_link_get_u32(frame.payload + 8);
            request->args_bytes = 0;
            return hw_link_accept(d, frame.payload, request);
        case HW_LINK_COMMAND:
            if (frame.payload_bytes < 8u || frame.payload_bytes > 8u + HW_LINK_DATA_BYTES_MAX) {
                break;
            }
            request->is_command = 1;
            request->value = 0;
            request->args_bytes = (uint8_t)(frame.payload_bytes - 8u);
            hw_link_copy(request->args, frame.payload + 8, request->args_bytes);
            return hw_link_accept(d, frame.payload, request);
#ifdef HW_LINK_KNOB
        case HW_LINK_KNOB_TYPE:
            if (frame.payload_bytes != 10u) {
                break;
            }
            hw_link_skew_set(&d->skew, (int32_t)hw_link_get_u32(frame.payload), t_us);
            d->drop_every = hw_link_get_u16(frame.payload + 4);
            d->corrupt_every = hw_link_get_u16(frame.payload + 6);
            d->drop_count = d->corrupt_count = 0;
            d->stalled_until_us = hw_link_time(d, t_us) + (uint64_t)hw_link_get_u16(frame.payload + 8) * 1000u;
            return 0;
#endif
        default:
            if (!hw_link_is_known(frame.type)) { /* the decoder counts those */
                return 0;
            }
            break;
    }
    hw_link_count(&d->stats.frames_refused, 1);
    return 0;
}

/* Sets d->stats to 0. Sample numbers and `dropped` go on: the host counts by them. */
static inline void hw_link_reset_counters(hw_link_device *d) { hw_link_clear(&d->stats, sizeof d->stats); }

#endif /* HEADWATER_LINK_H */
