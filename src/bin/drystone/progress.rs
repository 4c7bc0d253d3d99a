//! A progress bar on a terminal; nothing elsewhere.

use std::io::IsTerminal;

use drystone::repack::Phase;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub struct Bar(ProgressBar);

impl Bar {
    /// Of bytes. It is drawn on standard error, out of the way of what is printed, and only where that is a terminal.
    pub fn new() -> Self {
        Self::with_template("{msg:9} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    /// Of chunks.
    pub fn of_chunks() -> Self {
        Self::with_template("{msg:28} {wide_bar} {pos}/{len} chunks, {per_sec}")
    }

    fn with_template(template: &str) -> Self {
        let bar = ProgressBar::new(0);
        let shown = std::io::stderr().is_terminal();
        bar.set_draw_target(if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub fn phase(&self, phase: Phase, done: u64, total: u64) {
        let message = match phase {
            Phase::Writing => "writing",
            Phase::Checking => "checking",
        };
        self.show(message, done, total);
    }

    /// Starts again, with another text.
    pub fn start(&self, message: &'static str, total: u64) {
        self.0.reset();
        self.show(message, 0, total);
    }

    pub fn add(&self, done: u64) {
        self.0.inc(done);
    }

    pub fn show(&self, message: &'static str, done: u64, total: u64) {
        if self.0.message() != message {
            self.0.set_message(message);
        }
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
