//! A recipe in words: what a row holds, when it is final, what is left out, and how sure it is.

mod column;
mod spine;
#[cfg(test)]
mod tests;

pub(super) use spine::condition;

use super::diff::{listing, settings, value};
use super::duration::show;
use super::model::{Entity, LatePolicy, Mode, Recipe};
use super::outputs::Holds;
use crate::derive::canonical;
use std::fmt;

/// A recipe in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// In the order people ask.
    pub sections: Vec<Section>,
}

/// One of its sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it is about.
    pub title: String,
    /// One sentence each.
    pub lines: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, section) in self.sections.iter().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{}", section.title)?;
            section.lines.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        Ok(())
    }
}

impl Recipe {
    /// The recipe in words.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let mut sections = vec![self.row(), self.left_out()];
        sections.extend(self.columns.iter().map(|column| column::explain(column, self.mode)));
        sections.extend(self.derived_columns());
        sections.extend(self.episode_ids());
        sections.extend([self.finality(), self.certainty(), self.table()]);
        Explanation { sections }
    }

    fn row(&self) -> Section {
        let mut lines: Vec<String> = self.doc.iter().map(|doc| format!("\"{doc}\"")).collect();
        lines.extend(spine::explain(&self.spine.source));
        match &self.entity {
            Entity::Device => lines.push(
                "Rows are of one device each: streams of different devices never meet in one.".to_owned(),
            ),
            Entity::Site { sites } => {
                lines.push("Rows are of one site each; streams of its devices meet in them:".to_owned());
                for (site, devices) in sites {
                    let devices: Vec<&str> = devices.iter().map(|device| device.as_str()).collect();
                    lines.push(format!("- {site}: {}", devices.join(", ")));
                }
                lines.push(
                    "Times of one device are compared in its boot time, those of two in UTC.".to_owned(),
                );
            }
        }
        Section { title: format!("aligned.{}: {}", self.name, spine::title(&self.spine.source)), lines }
    }

    fn derived_columns(&self) -> Option<Section> {
        let title = "Derived from aligned rows".to_owned();
        let lines = self.derived.iter().map(|of| {
            let doc = of.doc.as_ref().map(|doc| format!(" ({doc})")).unwrap_or_default();
            format!("- {}{doc}: {}", of.name, listing(&settings(canonical::derived(of))))
        });
        let lines: Vec<String> = lines.collect();
        (!lines.is_empty()).then_some(Section { title, lines })
    }

    fn episode_ids(&self) -> Option<Section> {
        let of = self.episodes.as_ref()?;
        let names: Vec<&str> = of.outputs().collect();
        let mut lines = vec![format!("Rows are cut into episodes, told apart by {}.", names.join(", "))];
        let settings = settings(canonical::episodes(of));
        lines.extend(settings.iter().map(|(key, json)| {
            let last = key.rsplit('.').next().unwrap_or(key);
            format!("- {key}: {}", value(last, json))
        }));
        Some(Section { title: "Episodes".to_owned(), lines })
    }

    fn left_out(&self) -> Section {
        let grade = self.spine.min_grade.as_str();
        let mut lines = vec![match grade {
            "ordering_only" => {
                "- no row for its grade: even those whose time says only the order are kept".to_owned()
            }
            _ => format!("- rows whose time is of a lower grade than {grade}"),
        }];
        if let Some(max) = self.spine.max_err_ns {
            lines.push(format!("- rows whose time may be off by more than {} (ts_err_ns)", show(max)));
        }
        lines.extend(spine::left_out(&self.spine.source));
        for column in &self.columns {
            if column.fallback == super::model::Fallback::Drop {
                lines.push(format!("- rows for which {} finds nothing (fallback = \"drop\")", column.name));
            }
        }
        lines.push("All of them are counted; their captures stay in raw.*.".to_owned());
        Section { title: "What is left out".to_owned(), lines }
    }

    fn finality(&self) -> Section {
        let mark = &self.watermark;
        let mut lines = vec![
            "A row is final when nothing that could change it can still come: for each column the gateway has sent, or recorded as missing, every sample from".to_owned(),
        ];
        for column in &self.columns {
            let (before, after) = column.raw_reach();
            let mut span = format!("- {} of {}: {} before the row", column.name, column.stream, show(before));
            if after > 0 {
                span.push_str(&format!(" to {} after it", show(after)));
            }
            lines.push(span + ", and as far beyond as times are uncertain");
        }
        lines.push(format!("Samples may come up to {} out of order.", show(mark.max_out_of_order_ns)));
        lines.push(format!(
            "A stream that is silent without saying so is waited for {}; then the row is written with provisional = true, and its final form replaces it.",
            show(mark.idle_timeout_ns)
        ));
        let late = show(mark.allowed_lateness_ns);
        lines.push(match mark.late {
            LatePolicy::Recommit => format!("What comes later, up to {late}, or a better clock, changes only the rows it reaches, in a new commit; beyond that it is counted, and a backfill takes it in."),
            LatePolicy::SideStream => format!("What comes later, up to {late}, changes the rows it reaches, in a new commit; samples that come later still are listed in late.{}, each with its lateness, and a backfill takes them in.", self.name),
            LatePolicy::DropAndCount => "What comes later changes no row; it is counted, and a backfill takes it in.".to_owned(),
        });
        Section { title: "When a row is final".to_owned(), lines }
    }

    fn certainty(&self) -> Section {
        let mut lines = vec![match self.spine.max_err_ns {
            Some(max) => format!("Time of a row: true time lies in ts_ns ± ts_err_ns as far as its grade promises; ts_err_ns is at most {}.", show(max)),
            None => "Time of a row: true time lies in ts_ns ± ts_err_ns as far as its grade promises; this recipe sets no limit (spine.max_err does).".to_owned(),
        }];
        lines.push("Distance of a value (err_ns in <name>_src): within one boot both capture latencies plus 50 ppm of the distance, however bad the wall clock is; across boots, devices or to a grid both UTC errors.".to_owned());
        for column in &self.columns {
            lines.push(column::certainty(column));
        }
        lines.push(match self.mode {
            Mode::Point => "Mode point: estimates decide; where another sample could have been the match, flag 8 (ambiguous) says so.".to_owned(),
            Mode::Certain => "Mode certain: a value stands only where it is the match for every time within the bounds; else null.".to_owned(),
        });
        Section { title: "How sure it is".to_owned(), lines }
    }

    fn table(&self) -> Section {
        let outputs = self.outputs();
        let named: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        let mut lines = vec![format!("{} columns: {}", named.len(), named.join(", "))];
        if outputs.iter().any(|output| output.holds == Holds::Sources) {
            lines.push("<name>_src: stream, epoch, seq_lo, seq_hi, dt_ns, err_ns, n, flag. flag bits: 1 no sample, 2 beyond tolerance, 4 gap too wide, 8 ambiguous, 16 fallback, 32 extrapolated, 64 straddles an edge, 128 cross-boot, 256 low grade, 512 recorded gap, 1024 late, 2048 capped.".to_owned());
        }
        lines.push(format!("Partitioned by day(ts), sorted by {}.", self.output.sort.join(", ")));
        lines.push(format!("Recipe id {}; every commit of its rows names it.", self.id()));
        Section { title: "The table".to_owned(), lines }
    }
}
