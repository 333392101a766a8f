//! Progress for people: a bar on standard error, only if somebody looks at it.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `len` of something; hidden unless standard error is a terminal.
pub(super) fn bar(len: u64, what: &'static str, template: &str) -> ProgressBar {
    // indicatif draws on standard error, and draws nothing if that is no terminal.
    let bar = ProgressBar::new(len).with_message(what);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Things counted.
pub(super) const COUNTED: &str = "{msg} {bar:30} {pos}/{len} {eta}";
