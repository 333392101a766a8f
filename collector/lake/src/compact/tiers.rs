//! Which files to merge, decided from nothing but the list of them.
//!
//! Files of one table and day climb four steps, each some times larger than the one before, so that a row is written again
//! four times at most while today stays few files: commit, minutes, tens of minutes, hour, day. A step is taken when there
//! are enough files for it, never by the clock: late rows of an old day climb as today's do. Only that a day is over is told
//! from outside.

use crate::names::TableName;
use crate::table::Level;

/// When files are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactPolicy {
    /// So many files of one step become one of the next. Fewer files make reads faster and rows are written more often.
    pub fan_in: usize,
    /// So many files of about ten minutes become one of an hour.
    pub tens_per_hour: usize,
    /// Files of a table and day that are smaller than this together skip steps: they are merged into one each time.
    pub quiet_bytes: u64,
    /// A file of this size is left as it is; none is made larger than twice this.
    pub full_bytes: u64,
    /// How long after midnight UTC a day counts as over, µs.
    pub close_after_us: i64,
    /// Files merged into one at once: of each, one row group is in memory.
    pub inputs_max: usize,
    /// Bytes read in one round; what is due beyond waits for the next. A single group may be larger.
    pub round_bytes_max: u64,
}

impl Default for CompactPolicy {
    /// The design's steps: 8 commits, 8 of those, 6 of those, a day.
    fn default() -> CompactPolicy {
        CompactPolicy {
            fan_in: 8,
            tens_per_hour: 6,
            quiet_bytes: 256 << 10,
            full_bytes: 128 << 20,
            close_after_us: 3_600_000_000,
            inputs_max: 32,
            round_bytes_max: 1 << 30,
        }
    }
}

impl CompactPolicy {
    fn fan_in_of(&self, level: Level) -> usize {
        match level {
            Level::Tens => self.tens_per_hour.max(2),
            _ => self.fan_in.max(2),
        }
    }

    /// Size at which a merge of `bytes` begins its next file: equal parts between a full file's size and twice that. A
    /// little more than the part, since sizes are estimates and a crumb at the end would be a file too.
    pub(crate) fn file_bytes(&self, bytes: u64) -> u64 {
        let parts = bytes.div_ceil(self.full_bytes.saturating_mul(2).max(1)).max(1);
        let part = bytes.div_ceil(parts).max(self.full_bytes);
        part.saturating_add(part / 16)
    }

    /// True if the day, counted from 1970, is over at `now_us`.
    pub(crate) fn is_closed(&self, day: i32, now_us: i64) -> bool {
        let end = (i64::from(day) + 1).saturating_mul(crate::table::DAY_US);
        now_us >= end.saturating_add(self.close_after_us)
    }
}

/// A data file as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub(crate) path: String,
    pub(crate) level: Level,
    pub(crate) bytes: u64,
    /// Order of coming: the data sequence number.
    pub(crate) number: i64,
    /// A delete file takes rows of it away.
    pub(crate) has_deletes: bool,
}

/// Files that shall become one, or few where one would be too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) table: TableName,
    pub(crate) day: i32,
    /// Paths, lowest step and oldest first.
    pub(crate) inputs: Vec<String>,
    pub(crate) bytes: u64,
    pub(crate) level: Level,
}

/// What is due of one table and day.
pub(crate) fn due(
    table: &TableName,
    day: i32,
    files: &[FileFacts],
    closed: bool,
    policy: &CompactPolicy,
) -> Vec<Group> {
    let group = |inputs: &[&FileFacts], level: Level| Group {
        table: table.clone(),
        day,
        inputs: inputs.iter().map(|file| file.path.clone()).collect(),
        bytes: inputs.iter().map(|file| file.bytes).sum(),
        level,
    };
    let inputs_max = policy.inputs_max.max(2);
    // Rows somebody deleted are read over and over until their files are written anew.
    let dirty: Vec<&FileFacts> = files.iter().filter(|file| file.has_deletes).collect();
    if !dirty.is_empty() {
        let level = |part: &[&FileFacts]| part.iter().map(|file| file.level).max().unwrap_or_default();
        return dirty.chunks(inputs_max).map(|part| group(part, level(part))).collect();
    }
    let mut small: Vec<&FileFacts> = files.iter().filter(|file| file.bytes < policy.full_bytes).collect();
    small.sort_by_key(|file| (file.level, file.number));
    if closed && is_worth_closing(&small) {
        if small.len() <= inputs_max {
            return vec![group(&small, Level::Day)];
        }
        // More than can be merged at once: first into fewer, the rest of it next time.
        let parts = small.chunks(inputs_max).filter(|part| part.len() > 1);
        return parts.map(|part| group(part, Level::Hour)).collect();
    }
    let hot: Vec<&FileFacts> = small.into_iter().filter(|file| file.level < Level::Day).collect();
    let fresh = hot.iter().filter(|file| file.level == Level::Commit).count();
    let hot_bytes: u64 = hot.iter().map(|file| file.bytes).sum();
    if fresh >= policy.fan_in && hot_bytes < policy.quiet_bytes && hot.len() <= inputs_max {
        let highest = hot.iter().map(|file| file.level).max().unwrap_or_default();
        return vec![group(&hot, highest.max(Level::Minutes))];
    }
    climbing(&hot, inputs_max, policy).map(|(inputs, level)| group(&inputs, level)).collect()
}

/// A day that is over becomes one file, or few full ones. What comes late joins once it is worth writing the day's last
/// file again: half of its size; until then it climbs like any other.
fn is_worth_closing(small: &[&FileFacts]) -> bool {
    let bytes = |is_day: bool| -> u64 {
        small.iter().filter(|file| (file.level == Level::Day) == is_day).map(|file| file.bytes).sum()
    };
    let hot = small.iter().any(|file| file.level < Level::Day);
    small.len() > 1 && hot && bytes(true) <= 2 * bytes(false)
}

/// Steps that have enough files. One that would complete the next takes that one's files along, so that its own result
/// need not be written first.
fn climbing<'a>(
    hot: &[&'a FileFacts],
    inputs_max: usize,
    policy: &CompactPolicy,
) -> std::vec::IntoIter<(Vec<&'a FileFacts>, Level)> {
    let of = |level: Level| hot.iter().copied().filter(move |file| file.level == level);
    let mut groups = Vec::new();
    let mut level = Level::Commit;
    while level < Level::Day {
        let files: Vec<&FileFacts> = of(level).collect();
        let fan_in = policy.fan_in_of(level);
        if files.len() < fan_in {
            level = level.next();
            continue;
        }
        if files.len() > inputs_max {
            // A backlog: as many as go at once, each into a file of the next step.
            let parts = files.chunks(inputs_max).filter(|part| part.len() >= fan_in);
            groups.extend(parts.map(|part| (part.to_vec(), level.next())));
            break;
        }
        let mut inputs = files;
        level = level.next();
        while level < Level::Day {
            let above: Vec<&FileFacts> = of(level).collect();
            if above.len() + 1 < policy.fan_in_of(level) || inputs.len() + above.len() > inputs_max {
                break;
            }
            inputs.extend(above);
            level = level.next();
        }
        groups.push((inputs, level));
        break;
    }
    groups.into_iter()
}

/// What one round takes of all that is due: small groups first, since they are today's, up to the round's bytes.
pub(crate) fn round(mut due: Vec<Group>, policy: &CompactPolicy) -> (Vec<Group>, Vec<Group>) {
    due.sort_by(|a, b| (a.bytes, &a.table, a.day).cmp(&(b.bytes, &b.table, b.day)));
    let mut bytes = 0;
    let mut taken = 0;
    for group in &due {
        if taken > 0 && bytes + group.bytes > policy.round_bytes_max {
            break;
        }
        bytes += group.bytes;
        taken += 1;
    }
    let later = due.split_off(taken);
    (due, later)
}

#[cfg(test)]
#[path = "tiers_tests.rs"]
mod tests;
