//! Fixes of u-blox receivers as rows of kind `gps_fix`, so that a receiver is the same to maps and recipes in either of
//! its languages.

use super::super::framing::Decoded;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::builtin;
use headwater_core::time::{BootNanos, ClockDomain, Latency, StampKind};
use headwater_shims::vendor::ubx::{NavPvt, UbxFrame, UbxMessage};

/// The stream of a receiver's fixes: that of the source itself.
#[derive(Debug)]
pub(super) struct Fixes {
    stream: StreamName,
    declared: bool,
}

impl Fixes {
    pub(super) fn new(stream: StreamName) -> Self {
        Self { stream, declared: false }
    }

    /// Makes a row of a frame that is a UBX-NAV-PVT.
    pub(super) fn frame(&mut self, frame: &[u8], (at, latency): (BootNanos, Latency), out: &mut Decoded) {
        let Some(UbxMessage::NavPvt(pvt)) = UbxFrame::new(frame).and_then(UbxFrame::message) else { return };
        if !std::mem::replace(&mut self.declared, true) {
            let (name, schema) = (self.stream.clone(), builtin::gps_fix());
            out.events.push_back(SourceEvent::Stream { name, schema });
        }
        let (kind, domain, values) = (StampKind::Arrival, ClockDomain::BOOT, values(&pvt));
        out.reading(self.stream.clone(), Reading { t: at, latency, kind, domain, values, blob: None });
    }
}

fn values(pvt: &NavPvt) -> Vec<Value> {
    let quality = quality(pvt);
    let position = |value: f64| if quality > 0 { Value::F64(value) } else { Value::Null };
    let altitude =
        |value: f64| if quality > 0 && pvt.fix_type != 2 { Value::F64(value) } else { Value::Null };
    vec![
        position(pvt.lat_deg),
        position(pvt.lon_deg),
        altitude(pvt.height_msl_m),
        altitude(pvt.height_m - pvt.height_msl_m),
        position(pvt.ground_speed_m_s),
        position(pvt.heading_deg),
        // The message holds the dilution in space only.
        Value::Null,
        Value::I64(pvt.satellites.into()),
        Value::I64(quality),
        pvt.utc_ns.map_or(Value::Null, Value::I64),
    ]
}

/// GGA's word for it: 0 none, 1 plain, 2 differential, 4 and 5 RTK fixed and float, 6 dead reckoning.
fn quality(pvt: &NavPvt) -> i64 {
    match (pvt.fix_type, pvt.carrier_solution) {
        _ if !pvt.fix_ok => 0,
        (1, _) => 6,
        (2..=4, 2) => 4,
        (2..=4, 1) => 5,
        (2..=4, _) => 1 + i64::from(pvt.differential),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::arrival::{Arrivals, Declared, ReadAt};
    use super::super::{VendorDecoding, VendorProtocol};
    use super::*;

    /// UBX-NAV-PVT as pyubx2 makes it; see `firmware-shims/tests/vendor/vectors.py`.
    fn pvt(vector: &str) -> Vec<u8> {
        let line = vector.lines().find(|line| line.starts_with("ubx_nav_pvt|")).unwrap();
        let digits = line.split('|').nth(1).unwrap();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_receiver_gives_fixes_beside_its_messages() {
        let arrivals = Arrivals::of_program(Declared::default(), 1_000_000_000);
        let mut decoding = VendorDecoding::new("gps".parse().unwrap(), arrivals, VendorProtocol::Ubx);
        let mut out = Decoded::default();
        let frame = pvt(include_str!("../../../../firmware-shims/tests/vendor/vectors.txt"));
        decoding.push(&frame, ReadAt::prompt(BootNanos(1)), &mut out);
        let schema = builtin::gps_fix();
        let rows: Vec<_> = out
            .events
            .iter()
            .filter_map(|event| match event {
                SourceEvent::Reading { stream, reading } if stream.as_str() == "gps" => Some(&reading.values),
                _ => None,
            })
            .collect();
        let [values] = rows[..] else { panic!("{:?}", out.events) };
        assert!(values.iter().zip(&schema.fields).all(|(value, field)| value.fits(field)));
        assert_eq!(values.len(), schema.fields.len());
        assert_eq!(values[0], Value::F64(44.068_816_9));
        assert_eq!((&values[7], &values[8]), (&Value::I64(17), &Value::I64(4)));
        assert_eq!(values[9], Value::I64(1_709_251_197_999_876_544));
        let streams = out.events.iter().filter(|event| matches!(event, SourceEvent::Stream { .. })).count();
        assert_eq!(streams, 2);
    }
}
