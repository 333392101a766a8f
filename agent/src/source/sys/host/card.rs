//! Wear of the card or disk: what eMMC says of its own life, and how much was written since boot.
//!
//! `life_time` is two numbers (memory of type A and B), each a tenth of the life used: 0x01 is 0 to 10 %, 0x0a 90 to 100 %,
//! 0x0b more; `pre_eol_info` tells of spare blocks: 1 normal, 2 four fifths used, 3 nine tenths (JEDEC JESD84-B51, EXT_CSD 267 to
//! 269). SD cards tell neither. `stat` counts sectors of 512 bytes whatever the disk's are (Linux `Documentation/block/stat.rst`).

use super::super::tree::SysTree;
use headwater_core::schema::Logical;

/// Kinds of disk whose wear matters, in the order in which they are looked for.
const DISKS: [&str; 4] = ["mmcblk", "nvme", "sd", "vd"];
const SECTOR_BYTES: u64 = 512;

/// What the card says of its life; what it does not say is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Life {
    /// At most so much is used, %.
    pub(super) a: Option<f64>,
    /// The same of the other type of memory.
    pub(super) b: Option<f64>,
    /// Place in [`spare_logical`].
    pub(super) spare: Option<i64>,
}

/// How its spare blocks are.
pub(super) fn spare_logical() -> Logical {
    Logical::Enum(["normal", "warning", "urgent"].map(str::to_owned).to_vec())
}

/// The disk whose wear is told: the first card, else the first disk.
pub(super) fn disk(tree: &SysTree) -> Option<String> {
    let disks = tree.names("/sys/block");
    let whole = |name: &str| !name.contains("boot") && !name.contains("rpmb");
    DISKS.iter().find_map(|kind| disks.iter().find(|name| name.starts_with(kind) && whole(name))).cloned()
}

/// What the first card that says so says of its life.
pub(super) fn life(tree: &SysTree) -> Life {
    let place = "/sys/class/mmc_host";
    for host in tree.names(place) {
        for card in tree
            .names(format!("{place}/{host}"))
            .into_iter()
            .filter(|name| name.starts_with("mmc") || name == "device")
        {
            let dir = format!("{place}/{host}/{card}");
            let Some(text) = tree.text(format!("{dir}/life_time")) else { continue };
            let (a, b) = life_used(&text);
            let spare = tree.text(format!("{dir}/pre_eol_info")).and_then(|text| spare(&text));
            return Life { a, b, spare };
        }
    }
    Life::default()
}

fn hex(word: &str) -> Option<u8> {
    u8::from_str_radix(word.trim_start_matches("0x"), 16).ok()
}

fn life_used(text: &str) -> (Option<f64>, Option<f64>) {
    let mut words = text.split_ascii_whitespace();
    // 0 is "not told".
    let mut next =
        || words.next().and_then(hex).filter(|tenths| (1..=11).contains(tenths)).map(|n| f64::from(n) * 10.0);
    (next(), next())
}

fn spare(text: &str) -> Option<i64> {
    hex(text).filter(|level| (1..=3).contains(level)).map(|level| i64::from(level) - 1)
}

/// Bytes written since boot, from `/sys/block/<disk>/stat`.
pub(super) fn written_bytes(stat: &str) -> Option<u64> {
    let sectors: u64 = stat.split_ascii_whitespace().nth(6)?.parse().ok()?;
    sectors.checked_mul(SECTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tenths_of_a_life_and_spare_blocks() {
        assert_eq!(life_used("0x01 0x0b"), (Some(10.0), Some(110.0)));
        assert_eq!(life_used("0x00 0x02"), (None, Some(20.0)));
        assert_eq!(life_used("0x0c"), (None, None));
        assert_eq!((spare("0x01"), spare("0x03"), spare("0x00"), spare("x")), (Some(0), Some(2), None, None));
    }

    #[test]
    fn sectors_are_512_bytes() {
        let stat = "   14829     6015   911934    29371     5312     8710   402616    93221        0    51200   122593";
        assert_eq!(written_bytes(stat), Some(402_616 * 512));
        assert_eq!((written_bytes(""), written_bytes("1 2 3 4 5 6 18446744073709551615")), (None, None));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,60}") {
            life_used(&text);
            spare(&text);
            written_bytes(&text);
        }
    }
}
