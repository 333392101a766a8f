// Reads analog pin A0 100 times a second and sends it to a Headwater agent over the serial port.
// The agent needs no table of boards: the descriptor below says what the numbers mean.
//
// Agent's configuration: [[source]] with the port, `baud = 115200` and `format = "link"`.

#include <EEPROM.h>
#include <headwater_link.h>

static const hw_link_field FIELDS[] HW_LINK_ROM = {{HW_LINK_U16, 0, "level", "1"}};
static const hw_link_stream STREAMS[] HW_LINK_ROM = {{"analog", 10000, 1, FIELDS}};

static uint8_t rx[64], tx[192];
static hw_link_stream_state states[1];
static hw_link_config config;
static hw_link_device device;
static hw_link_clock clock_us;
static uint64_t next_us;
static uint32_t period_us = 10000;

// Differs from that of the boot before: a counter in EEPROM. Real boards may mix noise in.
static uint32_t boot_nonce() {
  uint32_t nonce;
  EEPROM.get(0, nonce);
  nonce++;
  EEPROM.put(0, nonce);
  return nonce;
}

static void obey(const hw_link_request &request, uint64_t now) {
  if (!request.is_command && request.code == HW_LINK_KEY_PERIOD_US) {
    if (request.value < 1000) {
      hw_link_reply_value(&device, HW_LINK_REPLY_BAD_VALUE, (int32_t)period_us, now);
      return;
    }
    period_us = (uint32_t)request.value;
    hw_link_reply_value(&device, HW_LINK_REPLY_OK, request.value, now);
    hw_link_set_period_us(&device, 0, period_us);
    return;
  }
  hw_link_reply(&device, HW_LINK_REPLY_UNKNOWN, NULL, 0, now);
}

void setup() {
  Serial.begin(115200);
  config.caps = HW_LINK_CAP_CONFIG;
  config.t2_point = HW_LINK_T2_DELIMITER;
  config.tick_ns = 4000;  // micros() of a 16 MHz board moves in steps of 4 us
  config.clock_ppm = 5000;  // a ceramic resonator
  config.uid = "sampler-1";
  config.firmware = "1.0.0";
  config.streams = STREAMS;
  config.states = states;
  config.n_streams = 1;
  config.rx = rx;
  config.rx_bytes = sizeof rx;
  config.tx = tx;
  config.tx_bytes = sizeof tx;
  while (hw_link_init(&device, &config, boot_nonce()) != 0) {
  }
}

void loop() {
  uint64_t now = hw_link_clock_now(&clock_us, micros());  // at least once in 71 minutes
  while (Serial.available() > 0) {
    hw_link_request request;
    now = hw_link_clock_now(&clock_us, micros());
    if (hw_link_receive(&device, (uint8_t)Serial.read(), now, &request)) obey(request, now);
  }
  hw_link_poll(&device, now);
  if (now >= next_us) {
    uint8_t row[2];
    next_us = now + period_us;
    hw_link_put_u16(row, (uint16_t)analogRead(A0));
    hw_link_sample(&device, 0, now, 0, 1, row, sizeof row);
  }
  while (Serial.availableForWrite() > 0) {
    int16_t byte = hw_link_next_byte(&device, hw_link_clock_now(&clock_us, micros()));
    if (byte < 0) break;
    Serial.write((uint8_t)byte);
  }
}
