//! How the spool treats a stream: by what it holds, and by what the configuration says. Pure.

use crate::config::Retention;
use headwater_core::id::StreamName;
use headwater_core::ports::{SpoolLane, StreamPolicy};
use headwater_core::schema::Modality;

/// The policy of a stream: `retentions` are by the name of a source, whose streams have its name or lie below it.
#[must_use]
pub fn policy_of(
    name: &StreamName,
    modality: Modality,
    retentions: &[(StreamName, Retention)],
) -> StreamPolicy {
    let own = name.as_str().starts_with("hw/");
    let below = |source: &StreamName| {
        let rest = name.as_str().strip_prefix(source.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let found = retentions.iter().filter(|(source, _)| !own && below(source));
    let retention =
        found.max_by_key(|(source, _)| source.as_str().len()).map_or(Retention::default(), |(_, it)| *it);
    let by_modality = match modality {
        Modality::Image | Modality::Bytes => SpoolLane::Media,
        Modality::Scalars | Modality::Fix => SpoolLane::Telemetry,
    };
    let by_content = retention.lane.unwrap_or(by_modality);
    let lane = if own || retention.alarm { SpoolLane::Control } else { by_content };
    let usual = StreamPolicy::from(lane);
    StreamPolicy {
        class: retention.class.unwrap_or(usual.class),
        evict_first: retention.evict_first,
        keep_bytes_min: retention.keep_bytes_min,
        ..usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::ports::StreamClass;

    fn name(text: &str) -> StreamName {
        text.parse().unwrap()
    }

    #[test]
    fn modality_decides_and_the_nearest_source_has_the_last_word() {
        let thin = Retention { class: Some(StreamClass::Scrap), keep_bytes_min: 7, ..Retention::default() };
        let alarm = Retention { alarm: true, ..Retention::default() };
        let told = [(name("board"), thin), (name("board/door"), alarm), (name("boardwalk"), alarm)];
        let of = |stream: &str, modality| policy_of(&name(stream), modality, &told);
        assert_eq!(of("imu", Modality::Scalars), SpoolLane::Telemetry.into());
        assert_eq!(of("camera", Modality::Image), SpoolLane::Media.into());
        assert_eq!(of("hw/gaps", Modality::Scalars), SpoolLane::Control.into());
        assert_eq!(of("board/door", Modality::Scalars), SpoolLane::Control.into());
        let scrap = of("board/imu", Modality::Scalars);
        assert_eq!(
            (scrap.lane, scrap.class, scrap.keep_bytes_min),
            (SpoolLane::Telemetry, StreamClass::Scrap, 7)
        );
        assert_eq!(of("board", Modality::Fix).class, StreamClass::Scrap);
        let preview = Retention { lane: Some(SpoolLane::Telemetry), ..Retention::default() };
        let told = [(name("camera"), thin), (name("camera/preview"), preview)];
        let of = |stream: &str| policy_of(&name(stream), Modality::Image, &told);
        assert_eq!(of("camera").lane, SpoolLane::Media);
        assert_eq!(of("camera/preview"), SpoolLane::Telemetry.into());
    }
}
