/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C side of the tests: one command per line on stdin, answers on stdout, each answer ended by a
 * line with a dot. Bytes are hex, `-` for none. The Rust tests say the same to their own side and
 * compare line by line.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HW_LINK_NAME_BYTES 256
#define HW_LINK_UNIT_BYTES 256
#include "headwater_link.h"

#define SPECS_MAX 8
#define FIELDS_MAX 16
#define LINE_MAX_BYTES 65536

static char line[LINE_MAX_BYTES];
static uint8_t bytes[LINE_MAX_BYTES / 2];
static hw_link_field fields[SPECS_MAX][FIELDS_MAX];
static hw_link_stream specs[SPECS_MAX];
static unsigned n_specs;
static hw_link_stream_state states[SPECS_MAX];
static hw_link_config config;
static hw_link_device device;
static char uid[256], firmware[256];
static uint8_t rx[2048], tx[4096];
static hw_link_clock extender;
static hw_link_skew skew;
static hw_link_rx_ring ring;
static uint8_t ring_bytes[128];

static void fail(const char *why) {
    fprintf(stderr, "helper: %s\n", why);
    exit(2);
}

static const char *word(void) {
    const char *found = strtok(NULL, " \n");
    if (found == NULL) {
        fail("a word is missing");
    }
    return found;
}

static uint64_t number(void) {
    return strtoull(word(), NULL, 10);
}

static int64_t signed_number(void) {
    return strtoll(word(), NULL, 10);
}

static size_t hex(uint8_t *out) {
    const char *text = word();
    size_t n = 0;
    if (strcmp(text, "-") == 0) {
        return 0;
    }
    while (text[0] != 0 && text[1] != 0) {
        char pair[3] = {text[0], text[1], 0};
        out[n++] = (uint8_t)strtoul(pair, NULL, 16);
        text += 2;
    }
    return n;
}

static void text_of(char *out) {
    size_t n = hex(bytes);
    memcpy(out, bytes, n);
    out[n] = 0;
}

static void print_hex(const uint8_t *from, size_t n) {
    size_t i;
    if (n == 0) {
        printf("-");
    }
    for (i = 0; i < n; i++) {
        printf("%02x", from[i]);
    }
    printf("\n");
}

/* As the golden texts have it. */
static void print_hex_lines(const uint8_t *from, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) {
        printf("%s%02x%s", i % 32 == 0 ? "  " : " ", from[i], i % 32 == 31 || i + 1 == n ? "\n" : "");
    }
}

static void print_link_stats(const hw_link_decoder_stats *s) {
    printf("bytes: %" PRIu32 "\nhunted_bytes: %" PRIu32 "\nframe_bytes: %" PRIu32 "\n", s->bytes, s->hunted_bytes, s->frame_bytes);
    printf("rejected_bytes: %" PRIu32 "\nidle_bytes: %" PRIu32 "\npending_bytes: %" PRIu32 "\n", s->rejected_bytes, s->idle_bytes, s->pending_bytes);
    printf("frames: %" PRIu32 "\nunknown_frames: %" PRIu32 "\nstuffing_errors: %" PRIu32 "\n", s->frames, s->unknown_frames, s->stuffing_errors);
    printf("short_errors: %" PRIu32 "\noversize_errors: %" PRIu32 "\nchecksum_errors: %" PRIu32 "\n", s->short_errors, s->oversize_errors, s->checksum_errors);
}

static const char *error_name(int8_t heard) {
    switch (heard) {
        case HW_LINK_BAD_STUFFING: return "stuffing";
        case HW_LINK_BAD_SHORT: return "too short";
        case HW_LINK_BAD_OVERSIZE: return "oversize";
        case HW_LINK_BAD_CHECKSUM: return "checksum";
        default: return "new error";
    }
}

/* decode CAPACITY HEX: events of a stretch of line, then the counters. */
static void decode(void) {
    static uint8_t raw[2048];
    hw_link_decoder decoder;
    hw_link_frame frame;
    size_t capacity = (size_t)number(), n = hex(bytes), i;
    hw_link_decoder_init(&decoder, raw, capacity);
    for (i = 0; i < n; i++) {
        int8_t heard = hw_link_decoder_push(&decoder, bytes[i], &frame);
        if (heard == HW_LINK_FRAME) {
            printf("byte %zu: type 0x%02x seq %u with %zu payload bytes\n", i, frame.type, frame.seq, frame.payload_bytes);
        } else if (heard != HW_LINK_NOTHING) {
            printf("byte %zu: rejected, %s\n", i, error_name(heard));
        }
    }
    print_link_stats(&decoder.stats);
}

/* describe HEX: one frame, as far as a device understands frames. */
static void describe_frame(void) {
    static uint8_t raw[1024];
    hw_link_decoder decoder;
    hw_link_frame frame;
    size_t n = hex(bytes), i;
    int8_t heard = HW_LINK_NOTHING;
    hw_link_decoder_init(&decoder, raw, sizeof raw);
    hw_link_decoder_push(&decoder, 0, &frame);
    for (i = 0; i < n; i++) {
        heard = hw_link_decoder_push(&decoder, bytes[i], &frame);
    }
    if (heard != HW_LINK_FRAME) {
        printf("no frame\n");
        return;
    }
    printf("type: 0x%02x\nflags: 0x%02x\nseq: %u\nt_us: %" PRIu64 "\n", frame.type, frame.flags, frame.seq, frame.t_us);
    printf("crc: 0x%04x\npayload bytes: %zu\n", hw_link_crc16(raw, frame.payload_bytes + 12), frame.payload_bytes);
    print_hex_lines(frame.payload, frame.payload_bytes);
}

/* cobs HEX and uncobs HEX: bare stuffing. */
static void cobs(void) {
    static uint8_t out[LINE_MAX_BYTES];
    hw_link_writer w;
    size_t n = hex(bytes), i;
    hw_link_writer_ring(&w, out, sizeof out, 0, sizeof out);
    for (i = 0; i < n; i++) {
        hw_link_writer_stuff(&w, bytes[i]);
    }
    print_hex(out, hw_link_writer_close(&w));
}

static void uncobs(void) {
    static uint8_t raw[LINE_MAX_BYTES];
    hw_link_decoder decoder;
    hw_link_frame frame;
    size_t n = hex(bytes), i;
    hw_link_decoder_init(&decoder, raw, sizeof raw);
    hw_link_decoder_push(&decoder, 0, &frame);
    for (i = 0; i + 1 < n; i++) {
        hw_link_decoder_push(&decoder, bytes[i], &frame);
    }
    printf("raw bytes: %zu\n", decoder.raw_bytes);
    print_hex_lines(raw, decoder.raw_bytes);
}

/* frame ROOM TYPE FLAGS SEQ T_US HEX */
static void frame(void) {
    static uint8_t out[4096];
    size_t room = (size_t)number();
    uint8_t type = (uint8_t)number(), flags = (uint8_t)number();
    uint16_t seq = (uint16_t)number();
    uint64_t t_us = number();
    size_t n = hex(bytes);
    print_hex(out, hw_link_encode(out, room, type, flags, seq, t_us, bytes, n));
}

/* stream KIND PERIOD_US N {TYPE SCALE10 NAME UNIT}: appends a description. */
static void stream(void) {
    hw_link_stream *spec = &specs[n_specs];
    uint8_t i;
    text_of(spec->kind);
    spec->period_us = (uint32_t)number();
    spec->n_fields = (uint8_t)number();
    spec->fields = fields[n_specs];
    for (i = 0; i < spec->n_fields; i++) {
        hw_link_field *field = &fields[n_specs][i];
        field->type = (uint8_t)number();
        field->scale10 = (int8_t)signed_number();
        text_of(field->name);
        text_of(field->unit);
    }
    n_specs++;
}

/* device STREAMS NONCE CAPS T2 TICK PPM UID FIRMWARE RX TX: begins a new one with the first streams. */
static void begin(void) {
    uint32_t nonce;
    config.n_streams = (uint8_t)number();
    nonce = (uint32_t)number();
    config.caps = (uint8_t)number();
    config.t2_point = (uint8_t)number();
    config.tick_ns = (uint32_t)number();
    config.clock_ppm = (uint16_t)number();
    text_of(uid);
    text_of(firmware);
    config.uid = uid;
    config.firmware = firmware;
    config.streams = specs;
    config.states = states;
    config.rx = rx;
    config.rx_bytes = (size_t)number();
    config.tx = tx;
    config.tx_bytes = (size_t)number();
    printf("%d\n", hw_link_init(&device, &config, nonce));
}

/* in T_US HEX: bytes of the host, 1 us apart. */
static void in(void) {
    uint64_t t_us = number();
    size_t n = hex(bytes), i;
    for (i = 0; i < n; i++) {
        hw_link_request request;
        if (!hw_link_receive(&device, bytes[i], t_us + i, &request)) {
            continue;
        }
        if (request.is_command) {
            printf("command %u %u ", request.stream, request.code);
            print_hex(request.args, request.args_bytes);
        } else {
            printf("config %u %u %" PRId32 "\n", request.stream, request.code, request.value);
        }
    }
}

/* sample STREAM T_US DT_US COUNT HEX */
static void sample(void) {
    uint8_t number_of = (uint8_t)number();
    uint64_t t_us = number();
    uint16_t dt_us = (uint16_t)number();
    uint8_t count = (uint8_t)number();
    size_t n = hex(bytes);
    printf("%d\n", hw_link_sample(&device, number_of, t_us, dt_us, count, bytes, n));
}

static void log_line(void) {
    uint8_t level = (uint8_t)number();
    uint64_t t_us = number();
    size_t n = hex(bytes);
    printf("%d\n", hw_link_log(&device, level, (const char *)bytes, n, t_us));
}

/* out T_US N: byte by byte. chunk T_US N: one chunk, of which at most N bytes leave. */
static void out(void) {
    static uint8_t sent[LINE_MAX_BYTES];
    uint64_t t_us = number();
    size_t most = (size_t)number(), n = 0;
    while (n < most) {
        int16_t byte = hw_link_next_byte(&device, t_us);
        if (byte < 0) {
            break;
        }
        sent[n++] = (uint8_t)byte;
    }
    print_hex(sent, n);
}

static void chunk(void) {
    static uint8_t sent[4096];
    uint64_t t_us = number();
    size_t most = (size_t)number(), n;
    const uint8_t *at = hw_link_chunk(&device, t_us, &n);
    n = n < most ? n : most;
    memcpy(sent, at, n);
    hw_link_sent(&device, n);
    print_hex(sent, n);
}

static void reply(void) {
    uint8_t code = (uint8_t)number();
    uint64_t t_us = number();
    size_t n = hex(bytes);
    printf("%d\n", hw_link_reply(&device, code, bytes, n, t_us));
}

static void stats(void) {
    const hw_link_stats *s = &device.stats;
    uint8_t i;
    printf("dropped %u replaced %" PRIu32 " idle %u deadline %" PRIu64 "\n", device.tx.dropped, device.tx.pongs_replaced,
           hw_link_is_idle(&device), hw_link_deadline_us(&device));
    printf("samples %" PRIu32 " logs %" PRIu32 " limited %" PRIu32 "\n", s->samples_dropped, s->logs_dropped, s->logs_limited);
    printf("stale %" PRIu32 " ignored %" PRIu32 " repeated %" PRIu32 " refused %" PRIu32 "\n", s->requests_stale,
           s->requests_ignored, s->requests_repeated, s->frames_refused);
    for (i = 0; i < config.n_streams; i++) {
        printf("next_seq %" PRIu32 "\n", states[i].next_seq);
    }
    print_link_stats(&device.decoder.stats);
}

static void pop(void) {
    uint8_t stamped;
    uint32_t counter;
    int16_t byte = hw_link_rx_ring_pop(&ring, &stamped, &counter);
    if (byte < 0) {
        printf("none overruns %u\n", ring.overruns);
    } else if (stamped) {
        printf("%d at %" PRIu32 "\n", byte, counter);
    } else {
        printf("%d\n", byte);
    }
}

#include "vectors.h"

static void obey(const char *command) {
    if (strcmp(command, "decode") == 0) { decode(); }
    else if (strcmp(command, "describe") == 0) { describe_frame(); }
    else if (strcmp(command, "cobs") == 0) { cobs(); }
    else if (strcmp(command, "uncobs") == 0) { uncobs(); }
    else if (strcmp(command, "crc") == 0) { size_t n = hex(bytes); printf("%u\n", hw_link_crc16(bytes, n)); }
    else if (strcmp(command, "frame") == 0) { frame(); }
    else if (strcmp(command, "vector") == 0) { vector(word()); }
    else if (strcmp(command, "streams") == 0) { n_specs = 0; memset(specs, 0, sizeof specs); memset(fields, 0, sizeof fields); }
    else if (strcmp(command, "stream") == 0) { stream(); }
    else if (strcmp(command, "device") == 0) { begin(); }
    else if (strcmp(command, "in") == 0) { in(); }
    else if (strcmp(command, "poll") == 0) { hw_link_poll(&device, number()); }
    else if (strcmp(command, "sample") == 0) { sample(); }
    else if (strcmp(command, "log") == 0) { log_line(); }
    else if (strcmp(command, "out") == 0) { out(); }
    else if (strcmp(command, "chunk") == 0) { chunk(); }
    else if (strcmp(command, "reply") == 0) { reply(); }
    else if (strcmp(command, "period") == 0) { uint8_t s = (uint8_t)number(); printf("%d\n", hw_link_set_period_us(&device, s, (uint32_t)number())); }
    else if (strcmp(command, "redescribe") == 0) { uint8_t s = (uint8_t)number(); printf("%d\n", hw_link_describe(&device, s, &specs[number()])); }
    else if (strcmp(command, "reset") == 0) { hw_link_reset_counters(&device); }
    else if (strcmp(command, "stats") == 0) { stats(); }
    else if (strcmp(command, "clock") == 0) { memset(&extender, 0, sizeof extender); }
    else if (strcmp(command, "now") == 0) { printf("%" PRIu64 "\n", hw_link_clock_now(&extender, (uint32_t)number())); }
    else if (strcmp(command, "before") == 0) { printf("%" PRIu64 "\n", hw_link_clock_before(&extender, (uint32_t)number())); }
    else if (strcmp(command, "skew") == 0) { memset(&skew, 0, sizeof skew); }
    else if (strcmp(command, "ppm") == 0) { int32_t ppm = (int32_t)signed_number(); hw_link_skew_set(&skew, ppm, number()); }
    else if (strcmp(command, "shows") == 0) { printf("%" PRIu64 "\n", hw_link_skew_show(&skew, number())); }
    else if (strcmp(command, "ring") == 0) { hw_link_rx_ring_init(&ring, ring_bytes, (uint8_t)number()); }
    else if (strcmp(command, "push") == 0) { uint8_t byte = (uint8_t)number(); hw_link_rx_ring_push(&ring, byte, (uint32_t)number()); }
    else if (strcmp(command, "pop") == 0) { pop(); }
    else { fail(command); }
}

int main(void) {
    while (fgets(line, sizeof line, stdin) != NULL) {
        const char *command = strtok(line, " \n");
        if (command != NULL) {
            obey(command);
        }
        printf(".\n");
        fflush(stdout);
    }
    return 0;
}
