//! What services are known to take, for those that do not say it in CONNACK.

use headwater_core::ports::SPAN_MAX;
use headwater_core::wire::MESSAGE_BYTES_SENT_MAX;

/// A kind of broker or link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// mosquitto, EMQX, HiveMQ, VerneMQ: they take what we send.
    #[default]
    Default,
    /// AWS IoT Core: 128 KB a message, 100 un-PUBACKed, ALPN on 443.
    Aws,
    /// Azure Event Grid: 64 KB under way in all.
    Azure,
    /// A link of a few KB/s: small messages, so that an alarm waits for one of them only.
    Slow,
}

/// The numbers of a profile. CONNACK lowers them, the configuration replaces them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileLimits {
    /// Largest message, bytes.
    pub message_bytes_max: usize,
    /// Most bytes un-PUBACKed.
    pub window_bytes_max: usize,
    /// Most messages un-PUBACKed.
    pub inflight_max: u16,
    /// Keepalive, s.
    pub keepalive_s: u16,
    /// Our state is a retained message.
    pub retain: bool,
    /// ALPN name on port 443.
    pub alpn_443: &'static str,
}

impl Profile {
    /// Its numbers.
    #[must_use]
    pub fn limits(self) -> ProfileLimits {
        let default = ProfileLimits {
            message_bytes_max: MESSAGE_BYTES_SENT_MAX,
            window_bytes_max: 4 << 20,
            inflight_max: u16::try_from(SPAN_MAX).unwrap_or(u16::MAX),
            keepalive_s: 60,
            retain: true,
            alpn_443: "mqtt",
        };
        match self {
            Self::Default => default,
            Self::Aws => ProfileLimits { alpn_443: "x-amzn-mqtt-ca", ..default },
            Self::Azure => ProfileLimits {
                message_bytes_max: 32 * 1024,
                window_bytes_max: 60 * 1024,
                inflight_max: 16,
                retain: false,
                ..default
            },
            Self::Slow => ProfileLimits {
                message_bytes_max: 32 * 1024,
                window_bytes_max: 512 * 1024,
                inflight_max: 16,
                keepalive_s: 120,
                ..default
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_stays_below_its_service() {
        let aws = Profile::Aws.limits();
        assert!(aws.message_bytes_max + 1024 <= 128_000 && aws.inflight_max <= 100);
        let azure = Profile::Azure.limits();
        assert!(azure.window_bytes_max <= 64_000 && azure.message_bytes_max <= azure.window_bytes_max);
    }
}
