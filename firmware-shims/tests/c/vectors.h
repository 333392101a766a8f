/* SPDX-License-Identifier: Apache-2.0 */
/* The golden vectors, made by the C side from typed values; tests/golden.rs makes the same in Rust. */

static void one_field(unsigned spec, unsigned at, uint8_t type, int scale10, const char *name, const char *unit) {
    hw_link_field *field = &fields[spec][at];
    field->type = type;
    field->scale10 = (int8_t)scale10;
    strcpy(field->name, name);
    strcpy(field->unit, unit);
}

/* Streams 0 (climate) and 1 (every type of field). */
static void vector_streams(void) {
    memset(specs, 0, sizeof specs);
    memset(fields, 0, sizeof fields);
    strcpy(specs[0].kind, "climate");
    specs[0].period_us = 10000;
    specs[0].n_fields = 2;
    specs[0].fields = fields[0];
    one_field(0, 0, HW_LINK_I16, -2, "temperature", "Cel");
    one_field(0, 1, HW_LINK_U16, -2, "humidity", "%");
    strcpy(specs[1].kind, "every");
    specs[1].n_fields = 10;
    specs[1].fields = fields[1];
    one_field(1, 0, HW_LINK_U8, 0, "u8", "1");
    one_field(1, 1, HW_LINK_I8, 0, "i8", "Cel");
    one_field(1, 2, HW_LINK_U16, -3, "u16", "V");
    one_field(1, 3, HW_LINK_I16, -2, "i16", "m/s2");
    one_field(1, 4, HW_LINK_U32, 0, "u32", "Pa");
    one_field(1, 5, HW_LINK_I32, -7, "i32", "deg");
    one_field(1, 6, HW_LINK_U64, 3, "u64", "J");
    one_field(1, 7, HW_LINK_I64, -128, "i64", "ns");
    one_field(1, 8, HW_LINK_F32, 127, "f32", "lx");
    one_field(1, 9, HW_LINK_F64, 0, "gr\xc3\xb6\xc3\x9f" "e", "m");
}

static uint8_t *put_climate(uint8_t *at, int16_t n) {
    at = hw_link_put_i16(at, (int16_t)(n - 150));
    return hw_link_put_u16(at, (uint16_t)(4500 + n));
}

static uint8_t *put_every(uint8_t *at, int low) {
    at = hw_link_put_u8(at, low ? 0 : UINT8_MAX);
    at = hw_link_put_i8(at, low ? INT8_MIN : INT8_MAX);
    at = hw_link_put_u16(at, low ? 0 : UINT16_MAX);
    at = hw_link_put_i16(at, low ? INT16_MIN : INT16_MAX);
    at = hw_link_put_u32(at, low ? 0 : UINT32_MAX);
    at = hw_link_put_i32(at, low ? INT32_MIN : INT32_MAX);
    at = hw_link_put_u64(at, low ? 0 : UINT64_MAX);
    at = hw_link_put_i64(at, low ? INT64_MIN : INT64_MAX);
    at = hw_link_put_f32(at, low ? -0.0f : 1.0f / 0.0f);
    return hw_link_put_f64(at, low ? -1.5 : 2.2250738585072014e-308);
}

static void print_frame(uint8_t type, uint8_t flags, uint16_t seq, uint64_t t_us, const uint8_t *payload, size_t n) {
    static uint8_t wire[2048];
    print_hex(wire, hw_link_encode(wire, sizeof wire, type, flags, seq, t_us, payload, n));
}

static void print_sample(uint8_t flags, uint16_t seq, uint64_t t_us, uint8_t stream_number, uint8_t count, uint16_t dt_us,
                         uint8_t *payload, const uint8_t *end) {
    payload[0] = stream_number;
    payload[1] = count;
    hw_link_put_u16(payload + 2, dt_us);
    print_frame(HW_LINK_SAMPLE, flags, seq, t_us, payload, (size_t)(end - payload));
}

/* A HELLO frame: the identity, or one stream under its number. */
static void print_hello(uint8_t flags, uint8_t index, uint64_t t_us, int spec, uint8_t stream_number, uint32_t next_seq) {
    static uint8_t wire[2048];
    static const uint32_t nonce = 0xDEADBEEFu;
    hw_link_writer crc, w;
    vector_streams();
    hw_link_writer_ring(&crc, NULL, 0, 0, 0);
    hw_link_writer_stream(&crc, 0, NULL, &specs[0], &specs[0].period_us);
    hw_link_writer_stream(&crc, 7, NULL, &specs[1], &specs[1].period_us);
    hw_link_writer_ring(&w, wire, sizeof wire, 0, sizeof wire);
    hw_link_writer_header(&w, HW_LINK_HELLO, flags, index, &t_us);
    hw_link_writer_u8(&w, index);
    hw_link_writer_u8(&w, 3);
    if (spec < 0) {
        hw_link_config c;
        memset(&c, 0, sizeof c);
        c.caps = HW_LINK_CAP_CONFIG | HW_LINK_CAP_COMMAND;
        c.t2_point = HW_LINK_T2_DELIMITER;
        c.rx_bytes = 64;
        c.tick_ns = 1000;
        c.clock_ppm = 50;
        c.uid = "mps2-an385-0001";
        c.firmware = "1.2.3";
        hw_link_writer_identity(&w, &c, &nonce, &crc.crc);
    } else {
        hw_link_writer_stream(&w, stream_number, &next_seq, &specs[spec], &specs[spec].period_us);
    }
    print_hex(wire, hw_link_writer_finish(&w, 0));
}

static void print_log(uint16_t seq, uint8_t level, const char *text) {
    uint8_t payload[65];
    size_t n = strlen(text);
    payload[0] = level;
    memcpy(payload + 1, text, n);
    print_frame(HW_LINK_LOG, 0, seq, 99, payload, n + 1);
}

static void print_request(uint8_t type, uint16_t seq, uint16_t token, uint8_t stream_number, uint8_t code, const uint8_t *rest,
                          size_t n) {
    uint8_t payload[24];
    uint8_t *at = hw_link_put_u16(hw_link_put_u32(payload, 0xDEADBEEFu), token);
    at = hw_link_put_u8(hw_link_put_u8(at, stream_number), code);
    hw_link_copy(at, rest, n);
    print_frame(type, 0, seq, 123456789, payload, n + 8);
}

static void print_reply(uint16_t seq, uint16_t token, uint8_t code, const uint8_t *data, size_t n) {
    uint8_t payload[19];
    hw_link_put_u8(hw_link_put_u16(payload, token), code);
    hw_link_copy(payload + 3, data, n);
    print_frame(HW_LINK_REPLY, 0, seq, 2000000, payload, n + 3);
}

static void vector(const char *name) {
    static uint8_t payload[1024];
    static const uint8_t odd[4] = {0, 1, 0, 255};
    static uint8_t sixteen[16];
    uint8_t *at;
    int16_t i;
    for (i = 0; i < 16; i++) {
        sixteen[i] = (uint8_t)(i * 17);
    }
    if (strcmp(name, "ping") == 0) {
        print_frame(HW_LINK_PING, 0, 0x0102, 0x0102030405060708u, payload, 0);
    } else if (strcmp(name, "ping_zero") == 0) {
        print_frame(HW_LINK_PING, 0, 0, 0, payload, 0);
    } else if (strcmp(name, "pong") == 0) {
        at = hw_link_put_u64(payload, 0x0102030405060708u);
        at = hw_link_put_u64(at, 1500000);
        at = hw_link_put_u32(at, 0xDEADBEEFu);
        at = hw_link_put_u16(hw_link_put_u16(at, 0x1234), 65535);
        print_frame(HW_LINK_PONG, 0, 0x0102, 1500321, payload, (size_t)(at - payload));
    } else if (strcmp(name, "hello_req") == 0) {
        print_frame(HW_LINK_HELLO_REQ, 0, 3, 77, payload, 0);
    } else if (strcmp(name, "hello_identity") == 0) {
        print_hello(HW_LINK_FIRST_SINCE_BOOT, 0, 1500, -1, 0, 0);
    } else if (strcmp(name, "hello_stream_climate") == 0) {
        print_hello(0, 1, 1600, 0, 0, 0);
    } else if (strcmp(name, "hello_stream_every") == 0) {
        print_hello(0, 2, 1700, 1, 7, 0x00010203u);
    } else if (strcmp(name, "sample_one") == 0) {
        print_sample(HW_LINK_FIRST_SINCE_BOOT, 0, 20000, 0, 1, 0, payload, put_climate(payload + 4, 0));
    } else if (strcmp(name, "sample_many") == 0) {
        for (at = payload + 4, i = 0; i < 20; i++) {
            at = put_climate(at, i);
        }
        print_sample(HW_LINK_DROPPED_BEFORE | HW_LINK_ENQUEUE_TIME, 65530, UINT64_MAX, 0, 20, 10000, payload, at);
    } else if (strcmp(name, "sample_every") == 0) {
        at = put_every(put_every(payload + 4, 1), 0);
        print_sample(0, 9, (uint64_t)1 << 32, 7, 2, 1, payload, at);
    } else if (strcmp(name, "log") == 0) {
        print_log(4, HW_LINK_WARN, "sensor answers late");
    } else if (strcmp(name, "log_empty") == 0) {
        print_log(5, HW_LINK_ERROR, "");
    } else if (strcmp(name, "log_longest") == 0) {
        char text[65] = {0};
        for (i = 0; i < 64; i += 2) {
            strcpy(text + i, "\xc3\xbc");
        }
        print_log(6, 9, text);
    } else if (strcmp(name, "unknown_type") == 0) {
        print_frame(0x42, 0xF8, 1, 2, odd, sizeof odd);
    } else if (strcmp(name, "largest") == 0) {
        memset(payload, 0x55, 1010);
        print_frame(0x42, 0, 1, 2, payload, 1010);
    } else if (strcmp(name, "config_period") == 0) {
        hw_link_put_i32(payload, 20000);
        print_request(HW_LINK_CONFIG, 11, 0x0A0B, 0, HW_LINK_KEY_PERIOD_US, payload, 4);
    } else if (strcmp(name, "config_own_key") == 0) {
        hw_link_put_i32(payload, INT32_MIN);
        print_request(HW_LINK_CONFIG, 12, 0, HW_LINK_STREAM_DEVICE, 128, payload, 4);
    } else if (strcmp(name, "command_reset") == 0) {
        print_request(HW_LINK_COMMAND, 13, 65535, HW_LINK_STREAM_DEVICE, HW_LINK_COMMAND_RESET, payload, 0);
    } else if (strcmp(name, "command_longest") == 0) {
        print_request(HW_LINK_COMMAND, 14, 1, 1, 200, sixteen, 16);
    } else if (strcmp(name, "reply_value") == 0) {
        hw_link_put_i32(payload, 20000);
        print_reply(7, 0x0A0B, HW_LINK_REPLY_OK, payload, 4);
    } else if (strcmp(name, "reply_unknown") == 0) {
        print_reply(8, 0, HW_LINK_REPLY_UNKNOWN, payload, 0);
    } else if (strcmp(name, "reply_longest") == 0) {
        print_reply(9, 1, 250, sixteen, 16);
    } else if (strcmp(name, "knob") == 0) {
        at = hw_link_put_u16(hw_link_put_i32(payload, -6000), 3);
        hw_link_put_u16(hw_link_put_u16(at, 500), 1500);
        print_frame(HW_LINK_KNOB_TYPE, 0, 15, 123456789, payload, 10);
    } else {
        printf("no such vector\n");
    }
}
