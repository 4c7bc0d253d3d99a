//! A progress bar on a terminal; nothing elsewhere.

use std::fmt;
use std::io::IsTerminal;

use drystone::repack::Phase;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

pub struct Bar(ProgressBar);

impl Bar {
    /// Of bytes. It is drawn on standard error, out of the way of what is printed, and only where that is a terminal.
    pub fn new() -> Self {
        Self::with_template("{msg:9} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    /// Of files.
    pub fn of_files() -> Self {
        Self::with_template("{msg:9} {wide_bar} {human_pos}/{human_len} files, {whole_per_sec}")
    }

    /// Of chunks.
    pub fn of_chunks() -> Self {
        Self::with_template("{msg:28} {wide_bar} {human_pos}/{human_len} chunks, {whole_per_sec}")
    }

    fn with_template(template: &str) -> Self {
        let bar = ProgressBar::new(0);
        let shown = std::io::stderr().is_terminal();
        bar.set_draw_target(if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        if let Ok(style) = ProgressStyle::with_template(template) {
            // Its own has four digits after the point.
            bar.set_style(style.with_key("whole_per_sec", |state: &ProgressState, line: &mut dyn fmt::Write| {
                // Nothing can be done where there is no room.
                let _ = write!(line, "{}/s", HumanCount(state.per_sec().round() as u64));
            }));
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
