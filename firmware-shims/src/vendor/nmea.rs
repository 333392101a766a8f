//! Proprietary NMEA 0183 sentences: what vendors put beside the standard ones.
//!
//! ```text
//! $P vendor ... , field , field * xor \r\n
//! ```
//!
//! Framing and standard sentences are the host's: [`Proprietary::parse`] takes a body, that is what lies
//! between `$` and `*`, once its checksum was checked. A field a receiver leaves empty is missing.
//!
//! Sources: u-blox 8 / M8 Receiver Description, UBX-13003221, chapter "NMEA protocol", sections "PUBX";
//! Garmin Proprietary NMEA 0183 Sentences, Technical Specifications 190-00684-00; GlobalTop PMTK command
//! packet, Rev. A11; NovAtel OEM7 Commands and Logs, "PASHR"; True North Technologies, Revolution compass
//! manual, "PTNTHTM" (as in gpsd's `driver_nmea0183.c`); SkyTraq AN0028, "PSTI,030".

use super::view::{Text, message, messages};

/// m/s of a knot and of a km/h.
const KNOT: f64 = 1_852.0 / 3_600.0;
const KM_H: f64 = 1.0 / 3.6;
const FOOT_M: f64 = 0.3048;

/// Fields of a sentence.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    /// Field number `at`, that behind the address being 1; empty if there is none.
    fn text(self, at: usize) -> &'a str {
        self.0.split(',').nth(at).unwrap_or_default()
    }

    /// Digits, one point and a sign only: `nan`, `inf` and `1e9` are not what receivers send.
    fn number(self, at: usize) -> Option<f64> {
        let text = self.text(at);
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let plain = digits.len() <= 20 && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if plain { text.parse().ok() } else { None }
    }

    fn whole<T: core::str::FromStr>(self, at: usize) -> Option<T> {
        self.text(at).parse().ok()
    }

    /// `ddmm.mmm` and the hemisphere behind it, in degrees.
    fn angle(self, at: usize, degrees_max: f64) -> Option<f64> {
        let sign = match self.text(at.saturating_add(1)) {
            "N" | "E" => 1.0,
            "S" | "W" => -1.0,
            _ => return None,
        };
        let text = self.text(at);
        let whole = text.split('.').next()?.len();
        let (degrees, minutes) = text.split_at_checked(whole.checked_sub(2)?)?;
        let (degrees, minutes) = (Fields(degrees).whole::<u16>(0)?, Fields(minutes).number(0)?);
        let angle = f64::from(degrees) + minutes / 60.0;
        (minutes < 60.0 && angle <= degrees_max).then_some(sign * angle)
    }

    /// `hhmmss[.fff…]` as seconds since midnight.
    fn time_of_day_s(self, at: usize) -> Option<f64> {
        let text = self.text(at);
        let two = |from: usize| Fields(text.get(from..from.saturating_add(2))?).whole::<u8>(0);
        let (hours, minutes) = (two(0)?, two(2)?);
        let seconds = Fields(text.get(4..)?).number(0)?;
        let fits = hours <= 23 && minutes <= 59 && seconds < 61.0 && !text.get(4..)?.starts_with(['-', '+']);
        fits.then(|| f64::from(hours) * 3_600.0 + f64::from(minutes) * 60.0 + seconds)
    }
}

messages! {
    /// A proprietary sentence.
    Proprietary {
        PubxPosition, PubxTime, GarminError, GarminAltitude, GarminStatus, MtkAck, AshtechAttitude, AshtechPosition,
        TrueNorthAttitude, SkytraqPosition,
    }
}

impl Proprietary {
    /// Reads the body of a sentence (`PUBX,00,…`, without `$`, `*` and checksum); `None` for those not known here.
    pub fn parse(body: &str) -> Option<Self> {
        let fields = Fields(body);
        Some(match (fields.text(0), fields.text(1)) {
            ("PUBX", "00") => Self::PubxPosition(PubxPosition::read(fields)),
            ("PUBX", "04") => Self::PubxTime(PubxTime::read(fields)),
            ("PGRME", _) => Self::GarminError(GarminError::read(fields)),
            ("PGRMZ", _) => Self::GarminAltitude(GarminAltitude::read(fields)),
            ("PGRMT", _) => Self::GarminStatus(GarminStatus::read(fields)),
            ("PMTK001", _) => Self::MtkAck(MtkAck::read(fields)),
            ("PASHR", "POS") => Self::AshtechPosition(AshtechPosition::read(fields)),
            // Only attitude has the time of day there.
            ("PASHR", time) if time.starts_with(|digit: char| digit.is_ascii_digit()) => {
                Self::AshtechAttitude(AshtechAttitude::read(fields))
            }
            ("PTNTHTM", _) => Self::TrueNorthAttitude(TrueNorthAttitude::read(fields)),
            ("PSTI", "030") => Self::SkytraqPosition(SkytraqPosition::read(fields)),
            _ => return None,
        })
    }
}

message! {
    /// PUBX,00: position of u-blox receivers.
    PubxPosition = "nmea_pubx_00" {
        time_of_day_s: Option<f64>, "s", "UTC time of day.";
        lat_deg: Option<f64>, "deg", "Latitude.";
        lon_deg: Option<f64>, "deg", "Longitude.";
        height_m: Option<f64>, "m", "Altitude above the ellipsoid.";
        status: Text<2>, "1", "NF none, DR dead reckoning, G2, G3, D2, D3 2D or 3D plain or differential, RK, TT.";
        horizontal_accuracy_m: Option<f64>, "m", "Horizontal accuracy, estimated.";
        vertical_accuracy_m: Option<f64>, "m", "Vertical accuracy, estimated.";
        ground_speed_m_s: Option<f64>, "m/s", "Speed over ground.";
        course_deg: Option<f64>, "deg", "Course over ground.";
        velocity_down_m_s: Option<f64>, "m/s", "Velocity downwards.";
        correction_age_s: Option<f64>, "s", "Age of the differential corrections.";
        hdop: Option<f64>, "1", "Horizontal dilution of precision.";
        vdop: Option<f64>, "1", "Vertical dilution of precision.";
        tdop: Option<f64>, "1", "Time dilution of precision.";
        satellites: Option<u8>, "1", "Satellites used.";
    }
}

impl PubxPosition {
    fn read(f: Fields<'_>) -> Self {
        Self {
            time_of_day_s: f.time_of_day_s(2),
            lat_deg: f.angle(3, 90.0),
            lon_deg: f.angle(5, 180.0),
            height_m: f.number(7),
            status: Text::new(f.text(8).as_bytes()),
            horizontal_accuracy_m: f.number(9),
            vertical_accuracy_m: f.number(10),
            ground_speed_m_s: f.number(11).map(|speed| speed * KM_H),
            course_deg: f.number(12),
            velocity_down_m_s: f.number(13),
            correction_age_s: f.number(14),
            hdop: f.number(15),
            vdop: f.number(16),
            tdop: f.number(17),
            satellites: f.whole(18),
        }
    }
}

message! {
    /// PUBX,04: time and clock of u-blox receivers.
    PubxTime = "nmea_pubx_04" {
        time_of_day_s: Option<f64>, "s", "UTC time of day.";
        tow_s: Option<f64>, "s", "UTC time of week.";
        week: Option<u16>, "1", "UTC week.";
        leap_s: Option<u8>, "s", "Leap seconds.";
        leap_is_default: bool, "1", "They are the firmware's, not yet from a satellite.";
        clock_bias_ns: Option<i64>, "ns", "Clock bias.";
        clock_drift_ns_s: Option<f64>, "ns/s", "Clock drift.";
    }
}

impl PubxTime {
    fn read(f: Fields<'_>) -> Self {
        let leap = f.text(6);
        Self {
            time_of_day_s: f.time_of_day_s(2),
            tow_s: f.number(4),
            week: f.whole(5),
            leap_s: leap.trim_end_matches('D').parse().ok(),
            leap_is_default: leap.ends_with('D'),
            clock_bias_ns: f.whole(7),
            clock_drift_ns_s: f.number(8),
        }
    }
}

message! {
    /// PGRME: estimated errors of Garmin receivers.
    GarminError = "nmea_pgrme" {
        horizontal_error_m: Option<f64>, "m", "Horizontal, estimated.";
        vertical_error_m: Option<f64>, "m", "Vertical, estimated.";
        position_error_m: Option<f64>, "m", "In space, estimated.";
    }
}

impl GarminError {
    fn read(f: Fields<'_>) -> Self {
        let metres = |at: usize| f.number(at).filter(|_| f.text(at.saturating_add(1)) == "M");
        Self { horizontal_error_m: metres(1), vertical_error_m: metres(3), position_error_m: metres(5) }
    }
}

message! {
    /// PGRMZ: altitude of Garmin receivers.
    GarminAltitude = "nmea_pgrmz" {
        altitude_m: Option<f64>, "m", "Altitude, sent in feet.";
        fix_dimension: Option<u8>, "1", "1 none, 2 altitude set by the user, 3 from satellites or a barometer.";
    }
}

impl GarminAltitude {
    fn read(f: Fields<'_>) -> Self {
        let unit = match f.text(2) {
            "f" | "F" => Some(FOOT_M),
            "m" | "M" => Some(1.0),
            _ => None,
        };
        let altitude_m = f.number(1).zip(unit).map(|(altitude, unit)| altitude * unit);
        Self { altitude_m, fix_dimension: f.whole(3) }
    }
}

message! {
    /// PGRMT: state of Garmin receivers, once a minute.
    GarminStatus = "nmea_pgrmt" {
        product: Text<32>, "1", "Product, model and software version.";
        rom_ok: Option<bool>, "1", "ROM checksum.";
        receiver_ok: Option<bool>, "1", "No failure of the receiver.";
        stored_data_kept: Option<bool>, "1", "Stored data was retained.";
        clock_kept: Option<bool>, "1", "The real-time clock was retained.";
        oscillator_ok: Option<bool>, "1", "No excessive drift of the oscillator.";
        board_cel: Option<f64>, "Cel", "Temperature of the board.";
    }
}

impl GarminStatus {
    fn read(f: Fields<'_>) -> Self {
        let good = |at: usize| match f.text(at) {
            "P" | "R" => Some(true),
            "F" | "L" | "D" => Some(false),
            _ => None,
        };
        Self {
            product: Text::new(f.text(1).as_bytes()),
            rom_ok: good(2),
            receiver_ok: good(3),
            stored_data_kept: good(4),
            clock_kept: good(5),
            oscillator_ok: good(6),
            board_cel: f.number(8),
        }
    }
}

message! {
    /// PMTK001: a MediaTek receiver's answer to a command.
    MtkAck = "nmea_pmtk_ack" {
        command: Option<u16>, "1", "The command.";
        flag: Option<u8>, "1", "0 invalid, 1 unsupported, 2 failed, 3 done.";
    }
}

impl MtkAck {
    fn read(f: Fields<'_>) -> Self {
        Self { command: f.whole(1), flag: f.whole(2) }
    }
}

message! {
    /// PASHR: attitude, as many inertial systems send it.
    AshtechAttitude = "nmea_pashr" {
        time_of_day_s: Option<f64>, "s", "UTC time of day.";
        heading_deg: Option<f64>, "deg", "Heading.";
        heading_true: bool, "1", "It is against true north.";
        roll_deg: Option<f64>, "deg", "Roll.";
        pitch_deg: Option<f64>, "deg", "Pitch.";
        heave_m: Option<f64>, "m", "Heave.";
        roll_accuracy_deg: Option<f64>, "deg", "Standard deviation of the roll.";
        pitch_accuracy_deg: Option<f64>, "deg", "Standard deviation of the pitch.";
        heading_accuracy_deg: Option<f64>, "deg", "Standard deviation of the heading.";
        quality: Option<u8>, "1", "0 no position, 1 and more by vendor: position, RTK.";
    }
}

impl AshtechAttitude {
    fn read(f: Fields<'_>) -> Self {
        Self {
            time_of_day_s: f.time_of_day_s(1),
            heading_deg: f.number(2),
            heading_true: f.text(3) == "T",
            roll_deg: f.number(4),
            pitch_deg: f.number(5),
            heave_m: f.number(6),
            roll_accuracy_deg: f.number(7),
            pitch_accuracy_deg: f.number(8),
            heading_accuracy_deg: f.number(9),
            quality: f.whole(10),
        }
    }
}

message! {
    /// PASHR,POS: position of Ashtech receivers.
    AshtechPosition = "nmea_pashr_pos" {
        mode: Option<u8>, "1", "0 autonomous, 1 differential by code, 2 float, 3 fixed.";
        satellites: Option<u8>, "1", "Satellites used.";
        time_of_day_s: Option<f64>, "s", "UTC time of day.";
        lat_deg: Option<f64>, "deg", "Latitude.";
        lon_deg: Option<f64>, "deg", "Longitude.";
        altitude_m: Option<f64>, "m", "Altitude, above what the receiver is set to.";
        course_deg: Option<f64>, "deg", "Course over ground.";
        ground_speed_m_s: Option<f64>, "m/s", "Speed over ground.";
        velocity_up_m_s: Option<f64>, "m/s", "Velocity upwards.";
        pdop: Option<f64>, "1", "Position dilution of precision.";
        hdop: Option<f64>, "1", "Horizontal dilution of precision.";
        vdop: Option<f64>, "1", "Vertical dilution of precision.";
        tdop: Option<f64>, "1", "Time dilution of precision.";
    }
}

impl AshtechPosition {
    fn read(f: Fields<'_>) -> Self {
        Self {
            mode: f.whole(2),
            satellites: f.whole(3),
            time_of_day_s: f.time_of_day_s(4),
            lat_deg: f.angle(5, 90.0),
            lon_deg: f.angle(7, 180.0),
            altitude_m: f.number(9),
            course_deg: f.number(11),
            ground_speed_m_s: f.number(12).map(|knots| knots * KNOT),
            velocity_up_m_s: f.number(13),
            pdop: f.number(14),
            hdop: f.number(15),
            vdop: f.number(16),
            tdop: f.number(17),
        }
    }
}

message! {
    /// PTNTHTM: heading and tilt of True North compasses.
    TrueNorthAttitude = "nmea_ptnthtm" {
        heading_deg: Option<f64>, "deg", "Magnetic heading.";
        heading_status: Text<1>, "1", "N normal, C, L, M, O, P, H: see the manual.";
        pitch_deg: Option<f64>, "deg", "Pitch.";
        pitch_status: Text<1>, "1", "As that of the heading.";
        roll_deg: Option<f64>, "deg", "Roll.";
        roll_status: Text<1>, "1", "As that of the heading.";
        dip_deg: Option<f64>, "deg", "Dip angle of the magnetic field.";
        horizontal_field: Option<f64>, "1", "Horizontal magnetic field, in the compass' own unit.";
    }
}

impl TrueNorthAttitude {
    fn read(f: Fields<'_>) -> Self {
        Self {
            heading_deg: f.number(1),
            heading_status: Text::new(f.text(2).as_bytes()),
            pitch_deg: f.number(3),
            pitch_status: Text::new(f.text(4).as_bytes()),
            roll_deg: f.number(5),
            roll_status: Text::new(f.text(6).as_bytes()),
            dip_deg: f.number(7),
            horizontal_field: f.number(8),
        }
    }
}

message! {
    /// PSTI,030: recommended minimum of SkyTraq receivers with three-dimensional velocity.
    SkytraqPosition = "nmea_psti_030" {
        time_of_day_s: Option<f64>, "s", "UTC time of day.";
        valid: bool, "1", "Status A.";
        lat_deg: Option<f64>, "deg", "Latitude.";
        lon_deg: Option<f64>, "deg", "Longitude.";
        altitude_msl_m: Option<f64>, "m", "Altitude above mean sea level.";
        velocity_east_m_s: Option<f64>, "m/s", "Velocity to the east.";
        velocity_north_m_s: Option<f64>, "m/s", "Velocity to the north.";
        velocity_up_m_s: Option<f64>, "m/s", "Velocity upwards.";
        mode: Text<1>, "1", "N none, A autonomous, D differential, F float, R fixed RTK.";
        rtk_age_s: Option<f64>, "s", "Age of the RTK corrections.";
        rtk_ratio: Option<f64>, "1", "Ratio of the ambiguity test.";
    }
}

impl SkytraqPosition {
    fn read(f: Fields<'_>) -> Self {
        Self {
            time_of_day_s: f.time_of_day_s(2),
            valid: f.text(3) == "A",
            lat_deg: f.angle(4, 90.0),
            lon_deg: f.angle(6, 180.0),
            altitude_msl_m: f.number(8),
            velocity_east_m_s: f.number(9),
            velocity_north_m_s: f.number(10),
            velocity_up_m_s: f.number(11),
            mode: Text::new(f.text(13).as_bytes()),
            rtk_age_s: f.number(14),
            rtk_ratio: f.number(15),
        }
    }
}
