//! Geohash: bits of longitude and latitude in turn, five to a letter (G. Niemeyer, 2008).

const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// The geohash of a fix (degrees, latitude within 90, longitude within 180) in `length` letters.
#[must_use]
pub fn geohash(lat: f64, lon: f64, length: u8) -> String {
    let (mut lat_range, mut lon_range) = ((-90.0, 90.0), (-180.0, 180.0));
    let mut text = String::with_capacity(length.into());
    let mut is_lon = true;
    for _ in 0..length {
        let mut letter = 0_usize;
        for _ in 0..5 {
            let bit = if is_lon { halve(&mut lon_range, lon) } else { halve(&mut lat_range, lat) };
            letter = letter << 1 | usize::from(bit);
            is_lon = !is_lon;
        }
        text.push(LETTERS.get(letter).map_or('0', |letter| char::from(*letter)));
    }
    text
}

/// True if the value lies in the upper half, which the range becomes.
fn halve(range: &mut (f64, f64), value: f64) -> bool {
    let middle = (range.0 + range.1) / 2.0;
    let is_upper = value >= middle;
    *range = if is_upper { (middle, range.1) } else { (range.0, middle) };
    is_upper
}
