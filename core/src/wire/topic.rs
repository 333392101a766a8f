//! Topics: where messages of a device travel.
//!
//! `hw/1/in/{shard 00..63}/{tenant}/{device}/{lane}`, `hw/1/ack/{tenant}/{device}` and
//! `hw/1/status/{tenant}/{device}`.

use crate::id::{DevicePath, NameError};

/// Ship lanes, the last level of an ingest topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Alarms, clock, gaps, hello, declarations.
    Control,
    /// Live telemetry and fixes.
    LiveTelemetry,
    /// Live media.
    LiveMedia,
    /// Backlog of telemetry.
    BacklogTelemetry,
    /// Backlog of media.
    BacklogMedia,
}

impl Lane {
    /// All lanes by digit.
    pub const ALL: [Lane; 5] =
        [Self::Control, Self::LiveTelemetry, Self::LiveMedia, Self::BacklogTelemetry, Self::BacklogMedia];

    /// The digit.
    #[must_use]
    pub fn digit(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::LiveTelemetry => 1,
            Self::LiveMedia => 2,
            Self::BacklogTelemetry => 3,
            Self::BacklogMedia => 4,
        }
    }
}

/// A topic of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// From a device.
    In {
        /// Whose.
        device: DevicePath,
        /// Lane.
        lane: Lane,
    },
    /// To a device.
    Ack(DevicePath),
    /// A device's retained state.
    Status(DevicePath),
}

/// A topic that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Another shape.
    #[error("topic is not one of headwater's")]
    Shape,
    /// A level that is no name.
    #[error("topic names no valid device")]
    Name(#[from] NameError),
    /// Not the device's shard.
    #[error("topic says shard {found}, the device belongs to {expected:02}")]
    Shard {
        /// Found.
        found: String,
        /// The device's.
        expected: u8,
    },
}

impl Topic {
    /// Reads a topic.
    ///
    /// # Errors
    /// [`TopicError`] if it is not one of ours.
    pub fn parse(topic: &str) -> Result<Self, TopicError> {
        let mut levels = topic.split('/');
        if (levels.next(), levels.next()) != (Some("hw"), Some("1")) {
            return Err(TopicError::Shape);
        }
        let rest: Vec<&str> = levels.take(6).collect();
        let device = |tenant: &str, device: &str| -> Result<DevicePath, TopicError> {
            Ok(DevicePath { tenant: tenant.parse()?, device: device.parse()? })
        };
        match rest.as_slice() {
            ["in", shard, tenant, name, lane] => {
                let device = device(tenant, name)?;
                let lane = Lane::ALL
                    .into_iter()
                    .find(|l| l.digit().to_string() == **lane)
                    .ok_or(TopicError::Shape)?;
                if format!("{:02}", device.shard()) != **shard {
                    let found = shard.chars().take(8).collect();
                    return Err(TopicError::Shard { found, expected: device.shard() });
                }
                Ok(Self::In { device, lane })
            }
            ["ack", tenant, name] => device(tenant, name).map(Self::Ack),
            ["status", tenant, name] => device(tenant, name).map(Self::Status),
            _ => Err(TopicError::Shape),
        }
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::In { device, lane } => write!(f, "hw/1/in/{:02}/{device}/{}", device.shard(), lane.digit()),
            Self::Ack(device) => write!(f, "hw/1/ack/{device}"),
            Self::Status(device) => write!(f, "hw/1/status/{device}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_read_back_and_wrong_shards_are_refused() {
        let device = DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() };
        for topic in [
            Topic::In { device: device.clone(), lane: Lane::LiveMedia },
            Topic::Ack(device.clone()),
            Topic::Status(device.clone()),
        ] {
            assert_eq!(Topic::parse(&topic.to_string()), Ok(topic));
        }
        let wrong = format!("hw/1/in/{:02}/acme/pi-1/0", (device.shard() + 1) % 64);
        assert!(matches!(Topic::parse(&wrong), Err(TopicError::Shard { .. })));
        for other in
            ["", "hw/2/ack/a/b", "hw/1/in/00/a/b", "hw/1/in/00/a/b/9", "hw/1/ack/a/b/c", "hw/1/ack/A/b"]
        {
            assert!(Topic::parse(other).is_err(), "{other}");
        }
    }
}
