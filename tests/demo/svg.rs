//! The report's charts, drawn by plotters as SVG text.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// A mark on the timeline: seconds since the start, lane, width in seconds, what to call it.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// Start, s.
    pub(crate) from_s: f64,
    /// End, s.
    pub(crate) to_s: f64,
    /// Lane from the top.
    pub(crate) lane: usize,
}

/// The fixes as a track, longitude right and latitude up, degrees.
pub(crate) fn track(points: &[(f64, f64)]) -> Result<String> {
    let (Some(x), Some(y)) = (span(points.iter().map(|p| p.0)), span(points.iter().map(|p| p.1))) else {
        return Ok("<p>no fixes</p>".to_owned());
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (640, 360)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(70)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)
            .map_err(|e| anyhow!("track: {e}"))?;
        chart
            .configure_mesh()
            .x_desc("longitude, deg")
            .y_desc("latitude, deg")
            .x_labels(5)
            .y_labels(5)
            .x_label_formatter(&|v| format!("{v:.4}"))
            .y_label_formatter(&|v| format!("{v:.4}"))
            .draw()
            .map_err(|e| anyhow!("track: {e}"))?;
        let line = LineSeries::new(points.iter().copied(), RGBColor(0, 92, 153).stroke_width(2));
        chart.draw_series(line).map_err(|e| anyhow!("track: {e}"))?;
        let dots = points.iter().map(|p| Circle::new(*p, 2, RGBColor(0, 92, 153).filled()));
        chart.draw_series(dots).map_err(|e| anyhow!("track: {e}"))?;
        area.present().map_err(|e| anyhow!("track: {e}"))?;
    }
    Ok(svg)
}

/// Lanes of marks over time.
pub(crate) fn timeline(lanes: &[&str], marks: &[Mark], seconds: f64) -> Result<String> {
    let mut svg = String::new();
    {
        let height = 60 + 34 * u32::try_from(lanes.len())?;
        let area = SVGBackend::with_string(&mut svg, (960, height)).into_drawing_area();
        let n = lanes.len() as f64;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(150)
            .build_cartesian_2d(0.0..seconds.max(1.0), 0.0..n)
            .map_err(|e| anyhow!("timeline: {e}"))?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .x_desc("seconds since the first sample")
            .y_labels(lanes.len() * 2 + 1)
            .y_label_formatter(&|v| {
                let from_top = n - v;
                let lane = from_top.floor();
                if (from_top - lane - 0.5).abs() > 0.01 {
                    return String::new();
                }
                // Lanes are few and never negative here, so the cast is exact.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "0 <= lane < lanes.len()"
                )]
                let lane = lane as usize;
                lanes.get(lane).copied().unwrap_or_default().to_owned()
            })
            .draw()
            .map_err(|e| anyhow!("timeline: {e}"))?;
        for mark in marks {
            let color = [
                RGBColor(0, 92, 153),
                RGBColor(30, 130, 76),
                RGBColor(200, 120, 0),
                RGBColor(190, 40, 40),
                RGBColor(110, 60, 150),
            ][mark.lane % 5];
            let top = n - mark.lane as f64;
            let least = seconds.max(1.0) / 300.0;
            let corners = [(mark.from_s, top - 0.85), (mark.to_s.max(mark.from_s + least), top - 0.15)];
            chart
                .draw_series(std::iter::once(Rectangle::new(corners, color.mix(0.7).filled())))
                .map_err(|e| anyhow!("timeline: {e}"))?;
        }
        area.present().map_err(|e| anyhow!("timeline: {e}"))?;
    }
    Ok(svg)
}

fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let pad = ((high - low) * 0.05).max(1e-5);
    (low <= high).then_some((low - pad, high + pad))
}
