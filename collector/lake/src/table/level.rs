//! How often the rows of a file were compacted, which its name says: a planner then needs nothing but the list of files.

use std::fmt;

/// Steps of compaction, each some times larger than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Level {
    /// As a commit wrote it, or a foreign client.
    #[default]
    Commit,
    /// A minute or so of commits.
    Minutes,
    /// Some ten minutes.
    Tens,
    /// About an hour.
    Hour,
    /// A closed day.
    Day,
}

impl Level {
    /// All, from young to old.
    pub(crate) const ALL: [Level; 5] = [Level::Commit, Level::Minutes, Level::Tens, Level::Hour, Level::Day];

    /// The next one; a day's is itself.
    pub(crate) fn next(self) -> Level {
        match self {
            Level::Commit => Level::Minutes,
            Level::Minutes => Level::Tens,
            Level::Tens => Level::Hour,
            Level::Hour | Level::Day => Level::Day,
        }
    }

    /// What a file's name says, and [`Level::Commit`] if it says nothing.
    pub(crate) fn of_path(path: &str) -> Level {
        let name = path.rsplit('/').next().unwrap_or(path);
        let word = name.strip_suffix(".parquet").and_then(|stem| stem.rsplit_once('-'));
        let level = word.and_then(|(_, word)| Level::ALL.into_iter().find(|level| level.to_string() == word));
        level.unwrap_or_default()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Commit => "commit",
            Level::Minutes => "minutes",
            Level::Tens => "tens",
            Level::Hour => "hour",
            Level::Day => "day",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_level() {
        for level in Level::ALL {
            assert_eq!(
                Level::of_path(&format!("s3://b/t/data/ts_day=2026-11-23/ab-12-{level}.parquet")),
                level
            );
        }
        for foreign in ["part-00000.parquet", "s3://b/t/data/ts_day=2026-11-23/01-day-x.parquet", ""] {
            assert_eq!(Level::of_path(foreign), Level::Commit, "{foreign}");
        }
    }
}
