//! A gateway's clock as a picture: how far its wall clock was off, with the bound as a band, and the bound itself on a
//! logarithmic scale. Text stays text, colours follow the reader's light or dark page, and nothing is fetched.

use super::history::{Point, Wall};
use super::text::Look;
use super::words::{duration, float, ppm, time_of_day, utc};
use headwater_core::time::{Grade, NS_PER_MS, NS_PER_S, UtcNanos};
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 940.0;
/// Upper panel: the wall clock's offset.
const OFFSET: (f64, f64) = (74.0, 254.0);
/// Lower panel: the bound.
const BOUND: (f64, f64) = (306.0, 486.0);
const HEIGHT: f64 = 540.0;
/// Offsets below it are drawn on a linear scale, beyond it on a logarithmic one.
const LINEAR_NS: f64 = 1e6;
/// Events labelled; more would cover each other.
const EVENTS: usize = 12;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1c2430}.t{font-size:16px;font-weight:600}.s{fill:#5a6675}\
.g{stroke:#d5dae0;stroke-width:1}.f{fill:none;stroke:#8a95a3;stroke-width:1}.band{fill:#1f77b4;fill-opacity:.22}\
.line{fill:none;stroke:#1f77b4;stroke-width:1.6}.b2{stroke:#1e824c}.b1{stroke:#c87800}.b0{stroke:#be2828}\
.k2{fill:#1e824c}.k1{fill:#c87800}.k0{fill:#be2828}.bound{fill:none;stroke-width:2}\
.e{stroke:#6e3c96;stroke-width:1;stroke-dasharray:4 3}.el{fill:#6e3c96}.bg{fill:#fff}\
@media(prefers-color-scheme:dark){text{fill:#e4e8ee}.s{fill:#9aa6b5}.g{stroke:#323a45}.f{stroke:#66717f}\
.band{fill:#5aa9e6}.line{stroke:#5aa9e6}.b2{stroke:#57c785}.b1{stroke:#f0b04a}.b0{stroke:#ff7b7b}\
.k2{fill:#57c785}.k1{fill:#f0b04a}.k0{fill:#ff7b7b}.e{stroke:#b48be0}.el{fill:#b48be0}.bg{fill:#14181e}}";

/// The picture of a boot.
pub(super) fn draw(look: &Look<'_>) -> String {
    let mut out = String::new();
    picture(&mut out, look).expect("writing to a string cannot fail");
    out
}

fn picture(out: &mut String, look: &Look<'_>) -> std::fmt::Result {
    let device = escape(look.history.device.as_str());
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         role=\"img\" aria-label=\"Clock of {device}\"><style>{STYLE}</style><rect class=\"bg\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\"/>"
    )?;
    let boot = look.boot.0;
    writeln!(out, "<text class=\"t\" x=\"{LEFT}\" y=\"26\">Clock of {device}, boot {boot}</text>")?;
    writeln!(out, "<text class=\"s\" x=\"{LEFT}\" y=\"46\">{}</text>", escape(&subtitle(look)))?;
    let time = Time::of(&look.points);
    offsets(out, look, &time)?;
    bounds(out, &look.points, &time)?;
    events(out, look, &time)?;
    legend(out)?;
    writeln!(out, "</svg>")
}

fn subtitle(look: &Look<'_>) -> String {
    let Some(last) = look.points.last() else { return "nothing is known of it".to_owned() };
    let drift =
        look.history.drift_ppb(look.boot).map_or(String::new(), |(ppb, _)| format!(", drift {}", ppm(ppb)));
    format!("{} UTC: {} within ±{}{drift}", utc(last.ts), last.grade.as_str(), duration(last.err_ns))
}

/// The horizontal axis: UTC.
struct Time {
    from: UtcNanos,
    span: f64,
}

impl Time {
    fn of(points: &[Point]) -> Self {
        let from = points.first().map_or(UtcNanos(0), |point| point.ts);
        let until = points.last().map_or(from, |point| point.ts);
        Self { from, span: float(until.since(from).max(1)) }
    }

    fn x(&self, at: UtcNanos) -> f64 {
        LEFT + (RIGHT - LEFT) * (float(at.since(self.from)) / self.span).clamp(0.0, 1.0)
    }

    fn ticks(&self, out: &mut String, panel: (f64, f64)) -> std::fmt::Result {
        for n in 0..=6_i32 {
            let part = f64::from(n) / 6.0;
            let x = LEFT + (RIGHT - LEFT) * part;
            #[expect(clippy::cast_possible_truncation, reason = "a part of a span that is an i64")]
            let at = self.from.plus_ns((self.span * part) as i64);
            writeln!(
                out,
                "<line class=\"g\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\"/>",
                panel.0, panel.1
            )?;
            let (y, label) = (panel.1 + 16.0, time_of_day(at));
            let anchor = if n == 6 { "end" } else { "middle" };
            writeln!(
                out,
                "<text class=\"s\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{label}</text>"
            )?;
        }
        Ok(())
    }
}

/// A vertical axis: values, already on their scale, to a panel.
struct Axis {
    low: f64,
    high: f64,
    panel: (f64, f64),
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, panel: (f64, f64)) -> Self {
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let pad = ((high - low) * 0.06).max(0.05);
        if low <= high {
            Self { low: low - pad, high: high + pad, panel }
        } else {
            Self { low: 0.0, high: 1.0, panel }
        }
    }

    fn y(&self, value: f64) -> f64 {
        let part = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.panel.1 - (self.panel.1 - self.panel.0) * part
    }

    /// Lines and words at these values, leaving out what would touch its neighbour, or the line at `beside`.
    fn ticks(
        &self,
        out: &mut String,
        beside: Option<f64>,
        ticks: impl Iterator<Item = (f64, String)>,
    ) -> std::fmt::Result {
        let mut last = beside.map(|value| self.y(value));
        for (value, label) in ticks.filter(|(value, _)| (self.low..=self.high).contains(value)) {
            let y = self.y(value);
            if last.is_some_and(|last| (last - y).abs() < 15.0) {
                continue;
            }
            last = Some(y);
            writeln!(out, "<line class=\"g\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")?;
            let (x, below) = (LEFT - 8.0, y + 4.0);
            writeln!(
                out,
                "<text class=\"s\" x=\"{x}\" y=\"{below:.1}\" text-anchor=\"end\">{}</text>",
                escape(&label)
            )?;
        }
        Ok(())
    }

    fn frame(&self, out: &mut String, title: &str) -> std::fmt::Result {
        let (top, height, width) = (self.panel.0, self.panel.1 - self.panel.0, RIGHT - LEFT);
        writeln!(out, "<rect class=\"f\" x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>")?;
        writeln!(out, "<text x=\"{LEFT}\" y=\"{}\">{title}</text>", top - 8.0)
    }
}

/// Linear within a millisecond, logarithmic beyond, either way: offsets go from microseconds to decades.
fn symmetric(ns: f64) -> f64 {
    ns.signum() * (1.0 + ns.abs() / LINEAR_NS).log10()
}

/// Values worth a line: round ones of every unit, with their words.
fn round_values() -> impl Iterator<Item = i64> {
    let decades = (3..=10_u32).map(|exp| 10_i64.saturating_pow(exp));
    let day = 86_400 * NS_PER_S;
    let minutes = [100 * NS_PER_S, 1_200 * NS_PER_S, 4 * 3_600 * NS_PER_S];
    decades.chain(minutes).chain([2 * day, 30 * day, 365 * day, 3_650 * day, 100 * 365 * day])
}

/// A round duration without its empty decimals.
fn label(ns: i64) -> String {
    match ns {
        0 => "0".to_owned(),
        ns => duration(ns).replace(".00 ", " ").replace(".0 ", " "),
    }
}

fn offsets(out: &mut String, look: &Look<'_>, time: &Time) -> std::fmt::Result {
    let value = |ns: i64| symmetric(float(ns));
    let edges = |wall: &Wall| {
        [wall.offset_ns.saturating_sub(wall.err_ns), wall.offset_ns.saturating_add(wall.err_ns)]
    };
    let drawn = look.wall.iter().flat_map(edges).map(value).chain([0.0]);
    let axis = Axis::of(drawn, OFFSET);
    time.ticks(out, OFFSET)?;
    let mut ticks: Vec<i64> =
        round_values().filter(|ns| *ns >= NS_PER_MS).flat_map(|ns| [ns, -ns]).chain([0]).collect();
    // Zero first, then outwards: what would touch a nearer line is left out.
    ticks.sort_by_key(|ns| (ns.saturating_abs(), *ns));
    axis.ticks(out, None, ticks.iter().filter(|ns| **ns >= 0).map(|ns| (value(*ns), label(*ns))))?;
    axis.ticks(out, Some(0.0), ticks.iter().filter(|ns| **ns < 0).map(|ns| (value(*ns), label(*ns))))?;
    if look.wall.is_empty() {
        let (x, y) = (LEFT + 16.0, (OFFSET.0 + OFFSET.1) / 2.0);
        writeln!(out, "<text class=\"s\" x=\"{x}\" y=\"{y}\">no reading of its own wall clock</text>")?;
    }
    for run in runs(look) {
        let upper = run
            .iter()
            .map(|wall| (time.x(wall.ts), axis.y(value(wall.offset_ns.saturating_add(wall.err_ns)))));
        let lower = run
            .iter()
            .map(|wall| (time.x(wall.ts), axis.y(value(wall.offset_ns.saturating_sub(wall.err_ns)))));
        let band: Vec<(f64, f64)> = upper.chain(lower.rev()).collect();
        writeln!(out, "<polygon class=\"band\" points=\"{}\"/>", path(&band))?;
        let line: Vec<(f64, f64)> =
            run.iter().map(|wall| (time.x(wall.ts), axis.y(value(wall.offset_ns)))).collect();
        writeln!(out, "<polyline class=\"line\" points=\"{}\"/>", path(&line))?;
        for (x, y) in line {
            writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.6\" fill=\"none\" class=\"line\"/>")?;
        }
    }
    axis.frame(out, "its wall clock minus UTC, with the bound as a band")
}

/// Readings of the wall clock, parted where it stepped: no line is drawn over a jump.
fn runs<'a>(look: &'a Look<'_>) -> Vec<Vec<&'a Wall>> {
    let mut runs: Vec<Vec<&Wall>> = Vec::new();
    for wall in &look.wall {
        let stepped = |last: &&Wall| {
            let told = look
                .known
                .events
                .iter()
                .any(|event| event.step_ns.is_some() && last.at < event.at && event.at <= wall.at);
            // A step nobody told of: more than both bounds can explain.
            told || wall.offset_ns.saturating_sub(last.offset_ns).saturating_abs()
                > wall.err_ns.saturating_add(last.err_ns)
        };
        match runs.last_mut() {
            Some(run) if !run.last().is_some_and(stepped) => run.push(wall),
            _ => runs.push(vec![wall]),
        }
    }
    runs
}

fn bounds(out: &mut String, points: &[Point], time: &Time) -> std::fmt::Result {
    let value = |ns: i64| float(ns.max(1)).log10();
    let axis = Axis::of(points.iter().map(|point| value(point.err_ns)), BOUND);
    time.ticks(out, BOUND)?;
    let within = |ns: &i64| (axis.low..=axis.high).contains(&value(*ns));
    let mut ticks: Vec<i64> = round_values().filter(within).collect();
    if ticks.len() < 2 {
        // Too narrow a range for round values: its ends say what it is.
        let errs = || points.iter().map(|point| point.err_ns);
        ticks = errs().min().into_iter().chain(errs().max()).collect();
    }
    ticks.sort_unstable();
    axis.ticks(out, None, ticks.into_iter().map(|ns| (value(ns), label(ns))))?;
    let mut from = 0;
    while let Some(first) = points.get(from) {
        let rest = points.get(from..).unwrap_or_default();
        let n = rest.iter().take_while(|point| point.grade == first.grade).count();
        // One point of the next grade, so that the line has no hole.
        let part = rest.get(..(n + 1).min(rest.len())).unwrap_or(rest);
        let line: Vec<(f64, f64)> =
            part.iter().map(|point| (time.x(point.ts), axis.y(value(point.err_ns)))).collect();
        writeln!(out, "<polyline class=\"bound b{}\" points=\"{}\"/>", first.grade.code(), path(&line))?;
        from += n.max(1);
    }
    axis.frame(out, "bound: the truth is within ± this (logarithmic)")
}

fn events(out: &mut String, look: &Look<'_>, time: &Time) -> std::fmt::Result {
    let utc_of = |at| {
        let before = look.points.iter().rev().find(|point| point.at <= at).or(look.points.first());
        before.map(|point| point.ts.plus_ns(at.since(point.at)))
    };
    let mut label_y = OFFSET.0 + 14.0;
    for event in look.known.events.iter().take(EVENTS) {
        let Some(at) = utc_of(event.at) else { continue };
        let x = time.x(at);
        for (top, bottom) in [OFFSET, BOUND] {
            writeln!(out, "<line class=\"e\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>")?;
        }
        let moved = event.step_ns.map(|step| format!(" {}", duration(step))).unwrap_or_default();
        let (anchor, label_x) = if x > RIGHT - 160.0 { ("end", x - 4.0) } else { ("start", x + 4.0) };
        let words = escape(&format!("{}{moved}", event.what));
        writeln!(
            out,
            "<text class=\"el\" x=\"{label_x:.1}\" y=\"{label_y}\" text-anchor=\"{anchor}\">{words}</text>"
        )?;
        label_y = if label_y > OFFSET.0 + 56.0 { OFFSET.0 + 14.0 } else { label_y + 14.0 };
    }
    Ok(())
}

fn legend(out: &mut String) -> std::fmt::Result {
    let mut x = LEFT;
    for grade in [Grade::Guaranteed, Grade::Estimated, Grade::OrderingOnly] {
        writeln!(out, "<rect class=\"k{}\" x=\"{x}\" y=\"514\" width=\"22\" height=\"4\"/>", grade.code())?;
        writeln!(out, "<text class=\"s\" x=\"{}\" y=\"520\">{}</text>", x + 28.0, grade.as_str())?;
        x += 140.0;
    }
    Ok(())
}

fn path(points: &[(f64, f64)]) -> String {
    let texts: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    texts.join(" ")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_keep_their_sign_and_order_on_the_scale() {
        let values = [-1.8e18, -1e9, -1e6, -1e3, 0.0, 1e3, 1e6, 1e9, 1.8e18].map(symmetric);
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "{values:?}");
        assert!(symmetric(1e6) < 0.31 && symmetric(0.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_a_name_holds_becomes_markup() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
