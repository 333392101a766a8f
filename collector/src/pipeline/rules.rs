//! Files of gate rules while the collector runs: one that changes is read, checked, kept in the lake for merges, and judged by
//! from then on; rows that were held back are judged anew. What cannot be used leaves the rules as they are.

use super::PipelineError;
use super::hooks::checked_rules;
use crate::gate::guard::store_settings;
use crate::gate::{GateSettings, RuleSet};
use headwater_core::ports::Clock;
use headwater_lake::{Lake, RefPatterns};
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at, ms: a person who saves one waits no longer, and reading a few costs nothing.
const LOOK_MS: u64 = 10_000;

/// Looks after the files.
pub(super) struct RulesWatch<C> {
    /// The files.
    pub(super) files: Vec<PathBuf>,
    /// What the lake is told: the settings in force.
    pub(super) gate: GateSettings,
    /// What the configuration states of protection.
    pub(super) protected: Option<RefPatterns>,
    /// The lake.
    pub(super) lake: Lake,
    /// Told of other rules.
    pub(super) rules: watch::Sender<Vec<RuleSet>>,
    /// Tells time.
    pub(super) clock: C,
    /// Files that cannot be used, as they were when that was said.
    pub(super) refused: Option<Vec<String>>,
}

/// Reads files.
///
/// # Errors
/// The first file that cannot be read, and why.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<(&Path, String)>, (PathBuf, io::Error)> {
    let read = |file: &'_ PathBuf| match std::fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(error) => Err((file.clone(), error)),
    };
    files.iter().map(|file| Ok((file.as_path(), read(file)?))).collect()
}

impl<C: Clock> RulesWatch<C> {
    /// Looks until it is cancelled.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.clock.sleep_until(self.clock.boot().plus_ms(LOOK_MS)) => {}
            }
            if let Err(error) = self.look().await {
                metrics::counter!("headwater_gate_rules_refused_total").increment(1);
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, cause, "changed gate rules cannot be used, the ones before stay in force");
            }
        }
    }

    /// Takes over what changed; true if anything did. The same mistake is told once.
    ///
    /// # Errors
    /// [`PipelineError`] names the file, or says that the lake cannot be told.
    pub(super) async fn look(&mut self) -> Result<bool, PipelineError> {
        let found = match read(&self.files) {
            Ok(found) => found,
            // An editor may be at it: a file that stays away is told by the next start.
            Err((path, error)) => {
                tracing::debug!(path = %path.display(), %error, "gate rules cannot be read now");
                return Ok(false);
            }
        };
        let texts: Vec<String> = found.iter().map(|(_, text)| text.clone()).collect();
        let is_same = self.gate.rules.iter().map(|set| &set.text).eq(&texts);
        if is_same || self.refused.as_ref() == Some(&texts) {
            self.refused = self.refused.take().filter(|_| !is_same);
            return Ok(false);
        }
        let rules = match checked_rules(found, self.gate.mode) {
            Ok(rules) => rules,
            Err(error) => {
                self.refused = Some(texts);
                return Err(error);
            }
        };
        let gate = GateSettings { rules: rules.clone(), ..self.gate.clone() };
        let now_us = self.clock.read().real.micros();
        let wrong = |source| PipelineError::Lake {
            location: self.lake.location().to_owned(),
            source: Box::new(source),
        };
        // Merges first: what passes here afterwards would pass there, too.
        store_settings(&self.lake, self.protected.as_ref(), &gate, crate::SOFTWARE, now_us)
            .await
            .map_err(wrong)?;
        (self.gate, self.refused) = (gate, None);
        tracing::info!(sets = rules.len(), "gate rules changed: rows held back are judged anew");
        self.rules.send_replace(rules);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::GateMode;
    use crate::gate::guard::stored_settings;
    use crate::receive::clock::SystemClock;
    use headwater_lake::testing;

    fn file(name: &str, check: &str) -> String {
        format!("headwater_gate = 1\nname = \"{name}\"\n[[rule]]\nname = \"r\"\n{check}\n")
    }

    #[tokio::test]
    async fn a_changed_file_is_judged_by_and_one_with_a_mistake_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = ["a.toml", "b.toml"].iter().map(|name| dir.path().join(name)).collect();
        let write = |at: usize, text: &str| std::fs::write(&files[at], text).unwrap();
        write(0, &file("a", "check = \"time_order\""));
        write(1, &file("b", "check = \"duplicate\""));
        let rules = checked_rules(read(&files).unwrap(), GateMode::Inline).unwrap();
        let gate = GateSettings { rules, ..GateSettings::default() };
        let lake = testing::memory().await.unwrap();
        let (sender, told) = watch::channel(Vec::new());
        let (lake_of, clock) = (lake.clone(), SystemClock);
        let mut watch = RulesWatch {
            files: files.clone(),
            gate,
            protected: None,
            lake: lake_of,
            rules: sender,
            clock,
            refused: None,
        };
        assert!(!watch.look().await.unwrap(), "nothing changed");
        write(1, &file("b", "check = \"rows\"\nfail_below = 9"));
        assert!(watch.look().await.unwrap() && !watch.look().await.unwrap());
        let ids = |rules: &[RuleSet]| rules.iter().map(RuleSet::id).collect::<Vec<_>>();
        let now = ids(&told.borrow());
        let stored = stored_settings(&lake.protection().await.unwrap()).unwrap();
        assert_eq!((now.len(), &ids(&stored.rules)), (2, &now), "merges are judged by them, too");

        for (wrong, words) in [
            (file("b", "check = \"rowz\""), "b.toml"),
            (file("a", "check = \"rows\"\nfail_below = 9"), "\"a\""),
            (file("b", "check = \"image\"\nlooks = 1"), "gate.mode"),
        ] {
            write(1, &wrong);
            let error = watch.look().await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(!watch.look().await.unwrap(), "told once");
            assert_eq!(ids(&told.borrow()), now);
        }
        std::fs::remove_file(&files[1]).unwrap();
        assert!(!watch.look().await.unwrap(), "an editor may be at it");
        write(1, &file("b", "check = \"rows\"\nfail_below = 9"));
        assert!(!watch.look().await.unwrap(), "as it was before the mistake");
        write(1, &file("b", "check = \"rows\"\nfail_below = 8"));
        assert!(watch.look().await.unwrap());
    }
}
